"""What comes up beside what serves waits for it, and is one as all others afterwards."""

from __future__ import annotations

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


def test_it_has_a_quarter_of_the_weight_until_the_end(weight: Path) -> None:
    engine: Any = FakeEngine(CpuShares=0)
    usual = int(weight.read_text())
    gently.begin(engine, "c1")
    assert int(weight.read_text()) == usual // 4
    gently.end(engine, "c1")
    assert int(weight.read_text()) == usual


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
