"""What comes up beside what serves waits for it, and is one as all others afterwards."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from longshore.agent import gently

V1 = "3:cpuset:/docker/c1\n1:cpu,cpuacct:/docker/c1\n0::/\n"
V2 = "0::/system.slice/docker-c1.scope\n"


class FakeEngine:
    def __init__(self, **host: Any) -> None:
        self.found: Any = {"State": {"Pid": 7}, "HostConfig": host}

    def container(self, ident: str) -> Any:
        return self.found if ident == "c1" else None


@pytest.fixture(params=["v1", "v2"])
def weight(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file with the usual weight of the container ``c1``."""
    (tmp_path / "proc/7").mkdir(parents=True)
    (tmp_path / "proc/7/cgroup").write_text(V1 if request.param == "v1" else V2)
    group = "cpu,cpuacct/docker/c1" if request.param == "v1" else "system.slice/docker-c1.scope"
    (tmp_path / "groups" / group).mkdir(parents=True)
    file = tmp_path / "groups" / group / ("cpu.shares" if request.param == "v1" else "cpu.weight")
    file.write_text("1024\n" if request.param == "v1" else "100\n")
    monkeypatch.setattr(gently, "_PROC", str(tmp_path / "proc"))
    monkeypatch.setattr(gently, "_GROUPS", str(tmp_path / "groups"))
    return file


@pytest.fixture
def idle(weight: Path) -> Path:
    """As the kernel has it since 5.15."""
    file = weight.with_name("cpu.idle")
    file.write_text("0\n")
    return file


def test_it_has_a_quarter_of_the_weight_until_the_end_with_an_older_kernel(weight: Path) -> None:
    engine: Any = FakeEngine(CpuShares=0)
    usual = int(weight.read_text())
    gently.begin(engine, "c1")
    assert int(weight.read_text()) == usual // 4
    gently.end(engine, "c1")
    assert int(weight.read_text()) == usual


def test_it_gets_what_nobody_else_wants_until_the_end(weight: Path, idle: Path) -> None:
    engine: Any = FakeEngine(CpuShares=0)
    usual = weight.read_text()
    gently.begin(engine, "c1")
    assert (idle.read_text().strip(), weight.read_text()) == ("1", usual)
    gently.end(engine, "c1")
    assert (idle.read_text().strip(), weight.read_text()) == ("0", usual)
    assert not gently._waiting


def test_after_some_seconds_it_insists_on_a_quarter(
    weight: Path, idle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gently, "_POLITE", 0.05)
    engine: Any = FakeEngine(CpuShares=0)
    usual = int(weight.read_text())
    gently.begin(engine, "c1")
    until = time.monotonic() + 10
    while gently._waiting and time.monotonic() < until:
        time.sleep(0.01)
    with gently._alone:
        assert (idle.read_text().strip(), int(weight.read_text())) == ("0", usual // 4)
    gently.end(engine, "c1")
    assert (idle.read_text().strip(), int(weight.read_text())) == ("0", usual)


def test_what_an_agent_that_was_killed_has_left_is_one_as_all_others_again(weight: Path, idle: Path) -> None:
    idle.write_text("1\n")
    gently.end(FakeEngine(CpuShares=0), "c1")  # type: ignore[arg-type]
    assert idle.read_text().strip() == "0"


def test_a_share_that_was_asked_for_or_set_by_somebody_else_stays(weight: Path) -> None:
    usual = weight.read_text()
    gently.begin(FakeEngine(CpuShares=512), "c1")  # type: ignore[arg-type]
    gently.end(FakeEngine(CpuShares=0), "c1")  # type: ignore[arg-type]
    assert weight.read_text() == usual
    weight.write_text("77\n")
    gently.begin(FakeEngine(CpuShares=0), "c1")  # type: ignore[arg-type]
    assert weight.read_text() == "77\n"


def test_a_container_that_is_gone_or_a_group_that_cannot_be_written_stops_nothing(weight: Path) -> None:
    engine: Any = FakeEngine(CpuShares=0)
    gently.begin(engine, "c2")
    weight.unlink()
    gently.begin(engine, "c1")
    engine.found["State"]["Pid"] = 0
    gently.end(engine, "c1")
