"""A hook on the host: run once from a file that is gone afterwards, bounded in time, with its group."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from longshore.agent.fail import Refusal
from longshore.agent.hooks import run_hook
from longshore.agent.masks import Masks
from longshore.agent.store import AppStore


def _run(
    tmp_path: Path, script: str, *, timeout: float = 5, gone: bool = False, **env: str
) -> tuple[list[str], Any]:
    told: list[str] = []
    store = AppStore(str(tmp_path), "shop")
    args = {"hook": "hooks/host/before_switch", "env": env, "timeout": timeout}
    try:
        value = run_hook(
            store, args, script.encode(), lambda kind, **facts: told.append(facts["line"]), lambda: gone
        )
    finally:
        assert [name for name in os.listdir(store.root) if name.startswith(".hook-")] == []
    return told, value


def test_it_gets_the_runs_facts_nothing_else_of_ours_and_a_file_that_only_it_can_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTS_OWN", "x")
    script = (
        '#!/bin/sh\necho "$LONGSHORE_APP ${AGENTS_OWN:-none} ${PASSWORD:-none}"\npwd\nstat -c %a "$0"\ncat\n'
    )
    told, value = _run(tmp_path, script, LONGSHORE_APP="shop", PASSWORD="p")
    assert told == ["shop none none", str(tmp_path / "shop"), "700"]
    assert 0 <= value["seconds"] < 5


def test_a_hook_that_fails_is_refused_with_its_last_lines(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"hooks/host/before_switch exited with code 3") as caught:
        _run(tmp_path, "#!/bin/sh\nfor n in $(seq 40); do echo line $n; done\necho no quorum >&2\nexit 3\n")
    assert caught.value.code == "hook-failed"
    assert caught.value.detail["log"][-1] == "no quorum"
    assert len(caught.value.detail["log"]) == 20


def test_out_of_time_the_whole_group_is_killed(tmp_path: Path) -> None:
    script = f"#!/bin/sh\nsleep 60 &\necho $! >{tmp_path}/child\necho waiting\nwait\n"
    began = time.monotonic()
    with pytest.raises(Refusal, match=r"took longer than 0\.5 s and was killed") as caught:
        _run(tmp_path, script, timeout=0.5)
    assert time.monotonic() - began < 3
    assert caught.value.detail["log"] == ["waiting"]
    child = int((tmp_path / "child").read_text())
    for _ in range(50):
        if not _runs(child):
            break
        time.sleep(0.02)
    assert not _runs(child)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_controller_that_has_gone_is_not_waited_for(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(Refusal, match="the controller has gone"):
        _run(tmp_path, "#!/bin/sh\nsleep 60\n", timeout=60, gone=True)
    assert time.monotonic() - began < 3


def test_what_it_leaves_running_does_not_hold_the_deploy_up(tmp_path: Path) -> None:
    began = time.monotonic()
    told, _ = _run(tmp_path, "#!/bin/sh\nsleep 5 &\necho started\n", timeout=30)
    assert told == ["started"]
    assert time.monotonic() - began < 3


def test_an_interpreter_that_the_host_has_not_is_named(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"its interpreter is not on this host \(/usr/bin/fish\)"):
        _run(tmp_path, "#!/usr/bin/fish\n")


def test_a_line_without_end_is_shown_and_one_without_bound_is_cut(tmp_path: Path) -> None:
    told, _ = _run(tmp_path, "#!/bin/sh\nhead -c 9000 /dev/zero | tr '\\0' x\nprintf done")
    assert all(len(line) <= 4000 for line in told)
    assert told[-1].endswith("done")


def test_what_a_power_cut_left_is_swept(tmp_path: Path) -> None:
    left = tmp_path / "shop" / ".hook-old"
    left.mkdir(parents=True)
    (left / "before_switch").write_text("secret")
    _run(tmp_path, "#!/bin/sh\n")
    assert not left.exists()


def test_a_secret_is_masked_where_a_long_line_is_cut(tmp_path: Path) -> None:
    secret = "hunter22-" + "ü0123456789" * 3
    for length in range(3950, 4000, 7):
        for ends in ("", "echo"):
            script = f"#!/bin/sh\nprintf %s {'x' * length}{secret}{'y' * 30}\n{ends}\n"
            told, _ = _run(tmp_path, script)
            masked = [Masks([secret]).text(line) for line in told]
            assert all(len(line) <= 4000 for line in masked)
            assert not any("hunter" in line or "456789" in line for line in masked)
