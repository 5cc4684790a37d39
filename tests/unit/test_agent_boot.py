"""A host recovers by itself when it comes up: what is put in its place for that, and what is done then."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from longshore.agent import boot as boot_module
from longshore.agent import recovery, wire
from longshore.agent.boot import CRON, CRONTAB, DISABLED, SYSTEMD, Boot
from longshore.agent.fail import Refusal
from longshore.agent.journal import Journal
from longshore.agent.lock import Lock
from longshore.agent.store import AppStore, write
from longshore.bootstrap.host import boot as host_boot
from longshore.bootstrap.host.say import Changes

OLD, NEW = "0" * 12, "1" * 12
HASH = "0123456789abcdef"
STATE = "/var/lib/longshore"


def host(root: Path, *, systemd: bool = False) -> Path:
    """A host's ``/``: cron everywhere, systemd where it is asked for."""
    (root / "etc/cron.d").mkdir(parents=True)
    if systemd:
        (root / "run/systemd/system").mkdir(parents=True)
        (root / "etc/systemd/system").mkdir(parents=True)
    return root


@pytest.fixture(autouse=True)
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(boot_module, "_is_there", lambda program: True)


def bring(
    state_dir: str, root: Path, *, user: str = "", check: bool = False, wanted: bool = True
) -> list[str]:
    """What bootstrap does or would do."""
    changes = Changes(check=check)
    host_boot.bring(changes, Path(state_dir), user, wanted=wanted, root=str(root))
    return changes.made


def test_systemd_starts_it_after_docker_and_only_while_there_is_something_to_start(tmp_path: Path) -> None:
    boot = Boot(STATE, root=str(host(tmp_path, systemd=True)))
    assert boot.found().by == ""
    boot.install(write)
    assert boot.found().by == SYSTEMD
    text = Path(boot.unit).read_text()
    assert "After=docker.service" in text
    assert f"ConditionPathExists={STATE}/agent/recover\n" in text
    assert f"ExecStart={sys.executable} -I -S {STATE}/agent/recover\n" in text
    assert "User=" not in text
    assert Path(boot.wanted).resolve() == Path(boot.unit)
    assert not Path(boot.cron).exists()
    assert not boot.due()


def test_cron_starts_it_where_there_is_no_systemd(tmp_path: Path) -> None:
    boot = Boot(STATE, root=str(host(tmp_path)))
    boot.install(write, "deployer")
    assert boot.found().by == CRON
    line = Path(boot.cron).read_text().splitlines()[-1]
    program = f"{STATE}/agent/recover"
    assert line == f"@reboot deployer test ! -e {program} || exec {sys.executable} -I -S {program}"
    assert Path(boot.cron).stat().st_mode & 0o777 == 0o644


def test_a_host_that_gets_systemd_later_is_not_told_twice(tmp_path: Path) -> None:
    boot = Boot(STATE, root=str(host(tmp_path)))
    boot.install(write)
    host(tmp_path / "more", systemd=True)
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    boot.install(write)
    assert boot.found().by == SYSTEMD
    assert not Path(boot.cron).exists()


def test_what_a_person_has_switched_off_stays_off(tmp_path: Path) -> None:
    boot = Boot(STATE, root=str(host(tmp_path, systemd=True)))
    boot.install(write)
    Path(boot.wanted).unlink()  # systemctl disable
    boot.install(write)
    assert boot.found().by == DISABLED
    assert not Path(boot.wanted).exists()
    Path(boot.unit).unlink()
    Path(boot.unit).symlink_to("/dev/null")  # systemctl mask
    boot.install(write)
    assert boot.found().by == DISABLED
    assert Path(boot.unit).is_symlink()
    assert bring(STATE, tmp_path) == []


@pytest.mark.parametrize(
    "state_dir",
    ["/srv/a$(reboot)", "/srv/50%n", "/srv/a;b", "/srv/a'b", '/srv/a"b', "/srv/a\\b", "/srv/a\nb", "x"],
)
def test_a_path_that_means_more_than_a_path_gets_nowhere(tmp_path: Path, state_dir: str) -> None:
    for systemd in (False, True):
        root = host(tmp_path / str(systemd), systemd=systemd)
        boot = Boot(state_dir, root=str(root))
        boot.install(write)
        assert not boot.found().by
        assert "characters" in boot.found().why
        assert not list(root.rglob("*recover*"))


def test_a_name_that_is_no_users_gets_nowhere(tmp_path: Path) -> None:
    boot = Boot(STATE, root=str(host(tmp_path)))
    boot.install(write, "root\n* * * * * root reboot")
    assert not Path(boot.cron).exists()


def test_an_interpreter_with_an_odd_path_is_not_named() -> None:
    assert boot_module.interpreter("/opt/my python/bin/python3") == "/usr/bin/python3"
    assert boot_module.interpreter("/opt/python3.12/bin/python3") == "/opt/python3.12/bin/python3"


def test_two_state_folders_of_one_host_have_a_unit_each(tmp_path: Path) -> None:
    root = host(tmp_path, systemd=True)
    for state_dir in (STATE, "/srv/longshore"):
        Boot(state_dir, root=str(root)).install(write)
    assert len(list((root / "etc/systemd/system").glob("*.service"))) == 2


def test_bootstrap_sets_it_up_for_who_deploys_and_the_next_one_finds_nothing_to_do(tmp_path: Path) -> None:
    root = host(tmp_path, systemd=True)
    assert len(bring(STATE, root, user="deployer", check=True)) == 1
    assert not Boot(STATE, root=str(root)).found().by
    assert len(bring(STATE, root, user="deployer")) == 1
    assert "User=deployer\n" in Path(Boot(STATE, root=str(root)).unit).read_text()
    assert bring(STATE, root, user="deployer") == []
    assert len(bring(STATE, root, wanted=False)) == 1
    assert bring(STATE, root, wanted=False) == []
    assert not list((root / "etc/systemd/system").rglob("*recover*"))


def test_bootstrap_says_where_it_can_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bring(STATE, tmp_path) == []
    assert "neither systemd nor cron" in capsys.readouterr().out


# The agent's own part


def settle(boot: Boot, *, wanted: bool = True) -> None:
    Path(boot.program).parent.mkdir(parents=True, exist_ok=True)
    recovery._settle(boot, HASH, wanted)


def test_the_first_switch_puts_all_of_it_in_place_and_the_next_one_touches_nothing(tmp_path: Path) -> None:
    boot = Boot(str(tmp_path / "state"), root=str(host(tmp_path, systemd=True)))
    settle(boot)
    assert boot.found().by == SYSTEMD
    before = {path: path.stat().st_mtime_ns for path in (Path(boot.program), Path(boot.unit))}
    settle(boot)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    recovery._settle(boot, "f" * 16, True)  # a newer agent
    assert recovery._is_of(boot.program, "f" * 16)
    assert Path(boot.program).stat().st_mode & 0o077 == 0
    settle(boot, wanted=False)
    assert not boot.found().by
    assert not Path(boot.program).exists()


def test_what_can_not_be_put_in_place_does_not_stop_a_deploy(tmp_path: Path) -> None:
    (tmp_path / "agent").write_text("no folder")
    recovery.settle(str(tmp_path), HASH, True)


def test_who_is_not_root_gets_a_line_in_their_own_crontab(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    table = ["# mine", "0 3 * * * backup"]
    runs: list[tuple[str, ...]] = []

    def crontab(words: list[str], stdin: str, user: str) -> tuple[int, str, str]:
        runs.append(tuple(words))
        if words == ["-"]:
            table[:] = stdin.splitlines()
        return 0, "".join(f"{line}\n" for line in table), ""

    monkeypatch.setattr(boot_module, "_run_crontab", crontab)
    boot = Boot(str(tmp_path / "state"), root=str(host(tmp_path, systemd=True)))
    settle(boot)
    assert table[:2] == ["# mine", "0 3 * * * backup"]
    assert table[2].startswith("@reboot test ! -e ")
    assert len(table) == 3
    assert boot.found().by == CRONTAB
    runs.clear()
    settle(boot)
    assert not runs  # a process for each deploy would be too much
    recovery._settle(boot, "f" * 16, True)
    assert len(table) == 3
    settle(boot, wanted=False)
    assert table == ["# mine", "0 3 * * * backup"]


def _crontab_program(folder: Path, listing: str) -> Path:
    """A ``crontab`` whose table is the file ``table`` beside it; ``listing`` is what it does for ``-l``."""
    folder.mkdir(exist_ok=True)
    program = folder / "crontab"
    program.write_text(f'#!/bin/sh\ncd {folder}\nif [ "$1" = - ]; then cat >table; else {listing}; fi\n')
    program.chmod(0o755)
    return folder / "table"


@pytest.mark.parametrize(
    ("listing", "after"),
    [
        ("echo 'no crontab for ann' >&2; exit 1", True),
        ("echo \"crontab: can't open 'ann': No such file or directory\" >&2; exit 1", True),
        ("echo 'You (ann) are not allowed to use this program (crontab)' >&2; exit 1", False),
        ("echo 'PAM failure' >&2; exit 1", False),
    ],
)
def test_lines_that_can_not_be_read_are_not_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listing: str, after: bool
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    table = _crontab_program(tmp_path / "bin", listing)
    monkeypatch.setenv("PATH", f"{table.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(boot_module, "_is_there", lambda program: True)
    assert Boot(str(tmp_path / "state")).into_crontab() is after
    assert table.exists() is after


def test_a_persons_lines_stay_what_they_are_in_any_encoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    table = _crontab_program(tmp_path / "bin", "cat table")
    monkeypatch.setenv("PATH", f"{table.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(boot_module, "_is_there", lambda program: True)
    mine = b"# gr\xfc\xdfe, in Latin-1\n0 3 * * * printf 'a\x0cb\x85'\n"
    table.write_bytes(mine)
    boot = Boot(str(tmp_path / "state"))
    assert boot.into_crontab() and boot.found().by == CRONTAB
    assert table.read_bytes().startswith(mine + b"@reboot ")
    assert boot.out_of_crontab()
    assert table.read_bytes() == mine


def test_what_was_put_in_place_runs_without_the_agents_folder(tmp_path: Path) -> None:
    boot = Boot(str(tmp_path), root=str(host(tmp_path / "root")))
    settle(boot)
    done = subprocess.run(
        [sys.executable, "-I", "-S", boot.program],
        capture_output=True,
        text=True,
        cwd="/",
        check=False,
        timeout=30,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# At boot


class _Engine:
    def wait(self, seconds: float) -> None:
        """It answers."""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A host that lost its power while it switched from OLD to NEW; what is done there when it comes up."""
    done: list[str] = []

    class Switch:
        healthy = True

        def __init__(self, engine: Any, store: AppStore, emit: Any, run: str) -> None:
            self.store, self.run, self.engine, self.emit = store, run, engine, emit

        def finish(self) -> None:
            done.append("finish")

        def keep(self, release: str, facts: dict[str, Any], why: str) -> None:
            done.append(f"keep {release} for {facts['by']}")
            if not self.healthy:
                raise Refusal(wire.UNHEALTHY, "web is not healthy")
            Journal(self.store.root).end("commit", release, self.run)

        def revert(self, facts: dict[str, Any], *, unwell_is_back: bool) -> dict[str, Any]:
            done.append(f"revert of {self.run}")
            Journal(self.store.root).end("reverted", OLD, self.run)
            return {"release": OLD, "reverted": True}

    monkeypatch.setattr(recovery, "Switch", Switch)
    monkeypatch.setattr(recovery, "Engine", _Engine)
    monkeypatch.setattr(os, "chdir", lambda path: None)
    store = AppStore(str(tmp_path), "shop")
    store.make()
    done.clear()
    return done


def begin(state: Path, **keep: Any) -> Journal:
    journal = Journal(str(state / "shop"))
    journal.begin(OLD, NEW, "run7", keep=keep)
    return journal


def test_what_was_begun_is_taken_back_when_the_host_comes_up(
    calls: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = begin(tmp_path)
    assert recovery.main(str(tmp_path)) == 0
    assert calls == ["finish", "revert of run7"]
    assert journal.unfinished() is None
    assert f"went back from {NEW} to {OLD}" in capsys.readouterr().out
    assert Lock(str(tmp_path / "shop")).holder() is None


def test_what_is_said_at_boot_holds_no_secret_of_a_release(
    calls: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(store: AppStore, begun: dict[str, Any]) -> str:
        raise Refusal(wire.UNHEALTHY, "web: no such user: hunter22-planted, key f1le-planted")

    bundle = tmp_path / "shop/releases" / OLD / "bundle"
    bundle.mkdir(parents=True)
    (bundle / ".env").write_text('PASSWORD="hunter22-planted"\n')
    (tmp_path / "shop/content/aa").mkdir(parents=True)
    (tmp_path / "shop/content/aa/key").write_text("f1le-planted\n")
    files = {"aa/key": {"kind": "content", "secret": True}}
    (bundle.parent / "manifest.json").write_text(json.dumps({"secrets": ["PASSWORD"], "files": files}))
    monkeypatch.setattr(recovery, "_in_order", fails)
    begin(tmp_path)
    assert recovery.main(str(tmp_path)) == 1
    said = capsys.readouterr()
    assert said.out == "longshore: shop: web: no such user: ***, key ***\n" and not said.err


def test_a_host_on_which_all_was_finished_asks_nobody(calls: list[str], tmp_path: Path) -> None:
    begin(tmp_path).end("commit", NEW, "run7")
    (tmp_path / "agent").mkdir()
    (tmp_path / "engine.pending").write_text("")
    assert recovery.main(str(tmp_path)) == 0
    assert recovery.main(str(tmp_path / "nowhere")) == 0
    assert calls == []


def test_a_release_that_is_to_be_kept_is_kept_when_all_of_it_had_been_started(
    calls: list[str], tmp_path: Path
) -> None:
    begin(tmp_path, keep=True, by="ann", git="abc").switched(NEW, "run7")
    assert recovery.main(str(tmp_path)) == 0
    assert calls == [f"keep {NEW} for ann"]


def test_a_release_that_is_to_be_kept_goes_back_when_half_of_it_was_started(
    calls: list[str], tmp_path: Path
) -> None:
    begin(tmp_path, keep=True, by="ann", git="abc")
    assert recovery.main(str(tmp_path)) == 0
    assert calls == ["finish", "revert of run7"]


def test_a_release_that_is_to_be_kept_goes_back_when_it_is_not_good(
    calls: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery.Switch, "healthy", False)
    begin(tmp_path, keep=True, by="ann", git="abc").switched(NEW, "run7")
    assert recovery.main(str(tmp_path)) == 0
    assert calls == [f"keep {NEW} for ann", "finish", "revert of run7"]


def test_a_host_that_was_told_to_commit_does_what_the_others_have_done(
    calls: list[str], tmp_path: Path
) -> None:
    begin(tmp_path)
    _write_committed(tmp_path, run="run7", at=time.time() - 3600)  # the clock was set back meanwhile
    assert recovery.main(str(tmp_path)) == 0
    assert calls == [f"keep {NEW} for "]


@pytest.mark.parametrize("ago", [3600.0, -3600.0])
def test_what_another_run_has_committed_is_no_word_for_this_one_whatever_the_clock_says(
    calls: list[str], tmp_path: Path, ago: float
) -> None:
    begin(tmp_path)
    _write_committed(tmp_path, run="run3", at=time.time() - ago)
    assert recovery.main(str(tmp_path)) == 0
    assert calls == ["finish", "revert of run7"]


def _write_committed(state: Path, *, run: str, at: float) -> None:
    store = AppStore(str(state), "shop")
    Path(store.release_dir(NEW)).mkdir(parents=True)
    store.write_committed(NEW, {"at": at, "run": run})


def test_a_line_of_an_earlier_switch_does_not_speak_for_the_next_one(
    calls: list[str], tmp_path: Path
) -> None:
    begin(tmp_path, keep=True, by="ann").switched(NEW, "run7")
    begin(tmp_path, keep=True, by="ann")
    assert recovery.main(str(tmp_path)) == 0
    assert calls == ["finish", "revert of run7"]


def test_one_who_has_the_lock_is_left_to_do_it(
    calls: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(recovery, "_FOR_OTHERS", 0.0)
    journal = begin(tmp_path)
    other = Lock(str(tmp_path / "shop"))
    other.take({"by": "ann", "run": "run8", "why": ""})
    assert recovery.main(str(tmp_path)) == 1
    assert "ann has the lock" in capsys.readouterr().out
    assert (calls, journal.unfinished() is None) == ([], False)
    other.release()


def test_an_engine_that_does_not_come_up_leaves_all_as_it_is(
    calls: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(self: _Engine, seconds: float) -> None:
        raise Refusal(wire.NO_ENGINE, "no Docker engine answers")

    monkeypatch.setattr(_Engine, "wait", silent)
    journal = begin(tmp_path)
    assert recovery.main(str(tmp_path)) == 1
    assert (calls, journal.unfinished() is None) == ([], False)


def test_an_app_that_waits_for_a_person_is_stopped_again_and_stays_closed(
    calls: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(recovery.closing, "stop", lambda *_: calls.append("stop"))
    begin(tmp_path).end("reverted", OLD, "run7")
    note = {"deploy": {"release": NEW, "keep": ["db"], "own": True, "sealed": NEW}}
    (tmp_path / "shop/maintenance.json").write_text(json.dumps(note))
    assert recovery.main(str(tmp_path)) == 0
    assert calls[-1] == "stop"
    assert "stays closed" in capsys.readouterr().out


def test_an_app_that_breaks_the_program_keeps_no_other_from_being_recovered(
    calls: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    in_order = recovery._in_order

    def breaks(store: AppStore, begun: dict[str, Any]) -> str:
        if store.app == "blog":
            raise KeyError("services")
        return in_order(store, begun)

    monkeypatch.setattr(recovery, "_in_order", breaks)
    AppStore(str(tmp_path), "blog").make()
    Journal(str(tmp_path / "blog")).begin(OLD, NEW, "run1")
    journal = begin(tmp_path)
    assert recovery.main(str(tmp_path)) == 1
    assert journal.unfinished() is None
    assert "longshore: blog: KeyError('services')" in capsys.readouterr().out


def test_half_a_line_in_the_journal_counts_as_nothing(calls: list[str], tmp_path: Path) -> None:
    begin(tmp_path)
    with (tmp_path / "shop/journal.jsonl").open("a") as file:
        file.write(json.dumps({"step": "commit"})[:-3])
    assert recovery.main(str(tmp_path)) == 0
    assert calls == ["finish", "revert of run7"]
