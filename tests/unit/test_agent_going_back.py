"""A host ends in one good release, whatever is in the way: a full disk, a restarting engine, a killed one."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import longshore.agent.switch as switch_module
from longshore.agent import wire
from longshore.agent.fail import Refusal
from longshore.agent.inspect import stack
from longshore.agent.journal import Lines
from longshore.agent.lock import Hold, Lock
from longshore.agent.recovery import recover
from longshore.agent.store import AppStore
from longshore.agent.switch import Switch

OLD, NEW, NEWER = "0" * 12, "1" * 12, "2" * 12


class _Engine:
    """One whose containers nobody asks for."""

    def wait(self, seconds: float) -> None:
        """It answers."""

    def containers(self, project: str) -> list[dict[str, Any]]:
        """There are none."""
        return []


class _Host(Switch):
    """A switch of a host without an engine: which releases it was told to run is in ``ups``."""

    def __init__(self, store: AppStore) -> None:
        self.notes: list[str] = []
        super().__init__(_Engine(), store, lambda kind, **facts: self.notes.append(kind), "run1")  # type: ignore[arg-type]
        self.ups: list[str] = []
        self.trouble: list[Exception] = []

    def _up(self, release: str, *, forward: bool = False, canary: Any = None) -> None:
        self.ups.append(release)
        if self.trouble:
            raise self.trouble.pop(0)

    def verify(self, release: str, given_up: Callable[[], bool] | None = None) -> dict[str, Any]:
        return {"containers": []}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Host:
    """A host on which OLD is current and NEW is staged."""
    monkeypatch.setattr(switch_module, "still_running", lambda *_: [])
    monkeypatch.setattr(switch_module.drift, "record", lambda *_: [])
    store = AppStore(str(tmp_path), "shop")
    store.make()
    made = _Host(store)
    _stage(store, OLD)
    made.switch(OLD)
    made.commit(OLD, {})
    made.ups.clear()
    _stage(store, NEW)
    return made


def _stage(store: AppStore, release: str) -> None:
    folder = Path(store.release_dir(release))
    folder.mkdir(parents=True)
    manifest = {"id": release, "project": "shop", "services": {}, "settings": {}, "files": {}}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "here")


def _outcomes(host: _Host) -> list[tuple[str, str]]:
    return [(line["release"], line["outcome"]) for line in host.history.read()]


def test_a_line_for_which_there_is_no_room_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = Lines(str(tmp_path / "journal"))
    lines.append({"step": "one"})
    before = (tmp_path / "journal").read_bytes()
    really = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: really(handle, data[:5]))
    with pytest.raises(OSError, match="No space"):
        lines.append({"step": "two"})
    assert (tmp_path / "journal").read_bytes() == before


def test_nothing_begins_where_there_is_no_room_to_go_back(
    host: _Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "posix_fallocate", _full)
    with pytest.raises(OSError, match="No space"):
        host.switch(NEW)
    assert host.ups == []
    assert host.journal.unfinished() is None


def test_a_commit_takes_the_room_that_was_set_aside(host: _Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.switch(NEW)
    reserve = Path(host.store.root, "reserve")
    assert reserve.stat().st_size == 4 << 20
    really = host.store.write_committed

    def write(release: str, record: dict[str, Any]) -> None:
        if reserve.exists():
            _full()
        really(release, record)

    monkeypatch.setattr(host.store, "write_committed", write)
    host.commit(NEW, {})
    assert host.store.current() == NEW
    assert host.journal.unfinished() is None


def test_a_commit_for_which_there_is_no_room_at_all_can_be_taken_back(
    host: _Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.switch(NEW)
    with monkeypatch.context() as patch:
        patch.setattr(host.store, "set_current", _full)
        with pytest.raises(OSError, match="No space"):
            host.commit(NEW, {})
    assert host.revert({})["release"] == OLD
    assert host.ups == [NEW, OLD]
    assert host.store.current() == OLD
    assert host.store.kept() == [OLD]  # the other never was good
    assert _outcomes(host)[-1] == (NEW, "reverted")


def test_after_the_commit_nothing_that_fails_looks_like_a_refusal(
    host: _Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.switch(NEW)
    with monkeypatch.context() as patch:
        for what, name in ((host.journal, "append"), (host.history, "append"), (host.store, "collect")):
            patch.setattr(what, name, _full)
        host.commit(NEW, {})
    assert host.store.current() == NEW
    assert host.journal.unfinished() is not None  # its line had no room
    assert recover(host, "ann")["reverted"] is False
    assert host.store.current() == NEW
    assert host.ups == [NEW]
    assert host.journal.unfinished() is None


def test_a_full_disk_does_not_stop_the_way_back(host: _Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.switch(NEW)
    with monkeypatch.context() as patch:
        patch.setattr(host.journal, "append", _full)
        patch.setattr(host.history, "append", _full)
        assert host.revert({})["reverted"]
    assert host.ups == [NEW, OLD]
    assert recover(host, "ann")["reverted"]  # once more, as it could not be written down
    assert host.store.current() == OLD
    assert host.journal.unfinished() is None


def test_what_fails_at_once_on_the_way_back_is_tried_again(host: _Host) -> None:
    host.switch(NEW)
    host.trouble.append(Refusal(wire.NO_ENGINE, "no engine answers"))
    assert host.revert({})["reverted"]
    assert host.ups == [NEW, OLD, OLD]


def test_a_way_back_that_fails_says_what_is_recorded_and_stays_open(host: _Host) -> None:
    host.switch(NEW)
    host.trouble += [Refusal(wire.UNHEALTHY, "web has stopped", "", {"log": ["x"]})] * 2
    with pytest.raises(Refusal, match=f"could not be taken back to {OLD}: web has stopped") as caught:
        host.revert({})
    assert caught.value.code == wire.NOT_TAKEN_BACK
    assert caught.value.detail["log"] == ["x"]
    assert caught.value.detail["state"]["current"] == OLD
    assert host.journal.unfinished() is not None


def test_a_release_that_is_back_and_unwell_does_not_keep_the_next_run_out(host: _Host) -> None:
    host.switch(NEW)
    host.trouble += [Refusal(wire.UNHEALTHY, "web has stopped")] * 2
    assert recover(host, "ann")["trouble"] == "web has stopped"
    assert host.journal.unfinished() is None


def test_an_engine_that_is_down_keeps_the_next_run_out(host: _Host) -> None:
    host.switch(NEW)
    host.trouble += [Refusal(wire.NO_ENGINE, "no engine answers")] * 2
    with pytest.raises(Refusal, match="no engine answers"):
        recover(host, "ann")
    assert host.journal.unfinished() is not None


def test_a_release_beside_the_old_is_not_waited_for_without_a_controller_and_the_old_one_is(
    host: _Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[bool] = []

    class BlueGreen:
        def __init__(self, *args: Any, given_up: Callable[[], bool] | None = None) -> None:
            self.given_up = given_up

        def bring(self, astray: set[str], *, forward: bool) -> None:
            waits.append(not (self.given_up and self.given_up()))

    monkeypatch.setattr(switch_module, "BlueGreen", BlueGreen)
    monkeypatch.setattr(switch_module.bluegreen, "needed", lambda manifest: True)
    monkeypatch.setattr(switch_module.Switch, "_astray", lambda *_: ())
    monkeypatch.setattr(switch_module.Switch, "_remove_strangers", lambda *_: None)
    host.given_up = lambda: True
    Switch._up(host, NEW, forward=True)
    Switch._up(host, OLD)
    assert waits == [False, True]


def test_a_run_whose_end_could_not_be_written_down_does_not_speak_for_the_next_one(
    host: _Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.switch(NEW)
    with monkeypatch.context() as full:
        full.setattr(Lines, "append", _full)
        host.revert({})
    later = _Host(host.store)
    later.run = "run2"
    _stage(host.store, NEWER)
    later.switch(NEWER)
    with monkeypatch.context() as killed:
        killed.setattr(later, "_end", lambda *_: None)  # it dies when the release is current
        later.commit(NEWER, {})
    recover(_Host(host.store), "ann")
    assert host.store.current() == NEWER
    assert host.journal.unfinished() is None


def test_a_committed_release_that_another_host_refused_is_left_for_the_one_before(host: _Host) -> None:
    host.switch(NEW)
    host.commit(NEW, {})
    assert host.leave({"release": NEW, "to": OLD, "why": "h2: no space"}) == {"release": OLD}
    assert host.store.current() == OLD
    assert _outcomes(host)[-2:] == [(NEW, "reverted"), (OLD, "committed")]
    assert [step["release"] for step in stack(host.history.read(), host.store.kept())] == [OLD]
    assert host.journal.unfinished() is None


def test_a_release_is_kept_without_the_controller_only_when_it_is_good(host: _Host) -> None:
    host.switch(NEW)
    host.keep(NEW, {"by": "ann"})
    assert host.store.current() == NEW
    assert _outcomes(host)[-1] == (NEW, "kept")


def test_the_newest_release_is_the_one_that_was_committed_last_whatever_the_clock_says(
    host: _Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 3600)
    host.switch(NEW)
    host.commit(NEW, {})
    assert host.store.kept() == [OLD, NEW]


# The lock, the hold, the guardian


def test_a_holder_is_told_with_its_age_and_what_is_left_of_its_lease(tmp_path: Path) -> None:
    lock = Lock(str(tmp_path))
    lock.take({"by": "ann", "run": "r", "why": "price list", "lease": 30.0})
    holder = Lock(str(tmp_path)).holder()
    assert holder is not None
    assert holder["by"] == "ann"
    assert 29 < holder["left"] <= 30
    with pytest.raises(Refusal, match=r"ann has the lock since \d s \(price list\)"):
        Lock(str(tmp_path)).take({"by": "bob"})
    lock.release()
    assert Lock(str(tmp_path)).holder() is None


def test_nobody_waits_for_a_lock_after_the_one_who_wanted_it_has_gone(tmp_path: Path) -> None:
    lock = Lock(str(tmp_path))
    lock.take({"by": "ann"})
    started = time.monotonic()
    with pytest.raises(Refusal):
        Lock(str(tmp_path)).take({"by": "bob"}, 60, lambda: True)
    assert time.monotonic() - started < 5
    lock.release()


def test_a_hold_says_who_and_why_until_its_time_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold = Hold(str(tmp_path))
    hold.check("shop")
    hold.put("ann@laptop", "moving the database", 7200)
    with pytest.raises(
        Refusal, match="ann@laptop holds shop since 0 s for another 120 min: moving the data"
    ) as r:
        hold.check("shop")
    assert r.value.code == wire.HELD
    later = time.time() + 7201
    monkeypatch.setattr(time, "time", lambda: later)
    hold.check("shop")
    assert hold.take_away() is None


def test_an_agent_that_is_killed_or_breaks_is_mourned_and_one_that_ends_is_not(tmp_path: Path) -> None:
    program = (
        "import os, sys\n"
        "from longshore.agent.guardian import Notes, guarded\n"
        "notes = Notes()\n"
        "out = open(sys.argv[1], 'a')\n"
        "if guarded(notes, lambda app, run: print(app, run, file=out)):\n"
        "    notes.took('shop', 'run1')\n"
        "    os.kill(os.getpid(), 9) if sys.argv[2] == 'kill' else sys.exit(sys.argv[2] == 'break')\n"
        "out.close()\n"
    )
    for how, code, said in (("kill", 0, "shop run1\n"), ("break", 0, "shop run1\n"), ("end", 0, "")):
        out = tmp_path / how
        command = [sys.executable, "-c", program, str(out), how]
        done = subprocess.run(command, capture_output=True, timeout=30, check=False)
        assert (done.returncode, out.read_text()) == (code, said), done.stderr
