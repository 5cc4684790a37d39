"""Which Compose a host has: asked once for each program, by running it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from longshore.agent import compose
from longshore.agent.engine import Engine
from longshore.agent.fail import Refusal
from longshore.agent.lock import Lock


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Compose that counts how often it is started, beside itself."""
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / ".docker/cli-plugins/docker-compose"
    path.parent.mkdir(parents=True)
    install(path, "2.32.4")
    return path


def install(path: Path, version: str) -> None:
    fresh = path.with_name("fresh")
    fresh.write_text(f'#!/bin/sh\necho x >>"$0.runs"\necho {version}\n')
    fresh.chmod(0o755)
    os.replace(fresh, path)


def runs(path: Path) -> int:
    return len(Path(f"{path}.runs").read_text().split())


def test_the_version_is_asked_once_and_again_for_another_program(installed: Path, tmp_path: Path) -> None:
    note = str(tmp_path / "compose.json")
    assert compose.version(note) == (2, 32, 4)
    assert compose.version(note) == (2, 32, 4)
    assert runs(installed) == 1
    install(installed, "2.40.0")
    assert compose.version(note) == (2, 40, 0)
    assert runs(installed) == 2


def test_one_that_is_too_old_is_refused_every_time(installed: Path, tmp_path: Path) -> None:
    install(installed, "2.3.1")
    for _ in range(2):
        with pytest.raises(Refusal, match=r"2\.3\.1 is too old"):
            compose.version(str(tmp_path / "compose.json"))


@pytest.mark.parametrize("note", ["", "{", '{"program": []}', "[1]"])
def test_a_note_that_says_nothing_is_asked_past(installed: Path, tmp_path: Path, note: str) -> None:
    (tmp_path / "compose.json").write_text(note)
    assert compose.version(str(tmp_path / "compose.json")) == (2, 32, 4)


def test_where_nothing_can_be_kept_it_is_asked_each_time(installed: Path, tmp_path: Path) -> None:
    note = str(tmp_path / "gone" / "compose.json")
    assert compose.version(note) == compose.version(note) == (2, 32, 4)
    assert runs(installed) == 2


MIGRATES = """
import os, sys
from longshore.agent.compose import Compose
from longshore.agent.lock import Lock
Lock(sys.argv[1]).take({"by": "ann"})
files = {"project": "shop", "project_directory": ".", "compose_files": [], "profiles": []}
killed = lambda line: os.kill(os.getpid(), 9)
Compose(files, sys.argv[1]).one_off("web", ["migrate"], "shop-1", killed, 60.0, to_its_end=True)
"""


def _until(true: object, seconds: float = 10.0) -> bool:
    assert callable(true)
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.02)
    return bool(true())


def test_a_migration_whose_agent_is_killed_goes_on_to_its_end_and_nobody_gets_the_lock_before(
    installed: Path, tmp_path: Path
) -> None:
    installed.write_text(
        '#!/bin/sh\nfor step in 1 2 3 4 5; do echo $step; sleep 0.2; done\n: >"$0.migrated"\n'
    )
    done = subprocess.run([sys.executable, "-c", MIGRATES, str(tmp_path)], check=False, timeout=30)
    assert done.returncode == -9
    lock = Lock(str(tmp_path))
    assert (lock.holder() or {}).get("by") == "ann"
    assert _until(Path(f"{installed}.migrated").exists)
    assert _until(lambda: lock.holder() is None)


@pytest.fixture
def shop(installed: Path, tmp_path: Path) -> compose.Compose:
    files = {"project": "shop", "project_directory": ".", "compose_files": [], "profiles": []}
    return compose.Compose(files, str(tmp_path))


def test_no_command_takes_a_sibling_stack_away_whatever_the_env_file_says(
    shop: compose.Compose, installed: Path
) -> None:
    installed.write_text('#!/bin/sh\necho "$@" >>"$0.asked"\n')
    shop.up(lambda line: None)
    shop.create_beside(lambda line: None, "web", 2)
    shop.down(lambda line: None)
    asked = Path(f"{installed}.asked").read_text().splitlines()
    assert ["--remove-orphans=false" in line.split() for line in asked] == [True] * 3


def test_a_migration_that_takes_too_long_is_stopped(
    shop: compose.Compose, installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text('#!/bin/sh\necho "$@" >"$0.asked"\n')
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{docker.parent}:{os.environ['PATH']}")
    installed.write_text("#!/bin/sh\nexec sleep 60\n")
    with pytest.raises(Refusal, match=r"took longer than 0\.3 s and was stopped"):
        shop.one_off("web", ["migrate"], "shop-1", lambda line: None, 0.3, to_its_end=True)
    assert Path(f"{docker}.asked").read_text() == "rm --force shop-1\n"


@pytest.mark.parametrize("docker", ["exec sleep 60", ""])
def test_an_engine_that_does_not_even_remove_it_keeps_nobody_waiting(
    shop: compose.Compose, installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, docker: str
) -> None:
    monkeypatch.setattr(compose, "_FOR_REMOVING", 0.2)
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("docker", docker), ("sleep", "exec /bin/sleep 60")):
        if text:
            (folder / name).write_text(f"#!/bin/sh\n{text}\n")
            (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    installed.write_text("#!/bin/sh\nexec sleep 60\n")
    with pytest.raises(Refusal, match="took longer than"):
        shop.one_off("web", ["migrate"], "shop-1", lambda line: None, 0.2, to_its_end=True)


def test_one_that_writes_without_an_end_is_stopped_in_time_and_keeps_little_of_it(
    shop: compose.Compose, installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compose, "remove_container", lambda name: None)
    monkeypatch.setattr(compose, "_MOST", 1 << 20)
    monkeypatch.setattr(compose, "_KEPT", 1 << 20)
    installed.write_text("#!/bin/sh\nexec yes a-line-that-is-told\n")
    memory, handles = compose._memory, []
    told: set[str] = set()

    def watched() -> Any:
        file = memory()
        handles.append(os.dup(file.fileno()))
        return file

    monkeypatch.setattr(compose, "_memory", watched)
    began = time.monotonic()
    with pytest.raises(Refusal, match="took longer than 1 s"):
        shop.one_off("web", ["migrate"], "shop-1", told.add, 1.0, to_its_end=True)
    assert time.monotonic() - began < 10
    assert os.fstat(handles[0]).st_blocks * 512 < 4 << 20
    os.close(handles[0])
    assert "(more was written than can be told, and is left out)" in told


def test_what_a_migration_says_comes_as_a_whole_however_much_it_is(
    shop: compose.Compose, installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compose, "_KEPT", 100_000)
    installed.write_text("#!/bin/sh\nseq 1 200000\nprintf the-end\nexit 3\n")
    lines: list[str] = []
    assert shop.one_off("web", ["migrate"], "shop-1", lines.append, 60.0, to_its_end=True) == 3
    assert lines == [*map(str, range(1, 200_001)), "the-end"]


@pytest.mark.parametrize(
    ("said", "engine"),
    [
        ("", "unix:///var/run/docker.sock"),
        ("unix:///run/user/1000/docker.sock", "unix:///run/user/1000/docker.sock"),
        ("tcp://elsewhere:2375", "unix:///var/run/docker.sock"),
    ],
)
def test_compose_works_with_the_engine_that_is_looked_at_whatever_the_users_context_is(
    monkeypatch: pytest.MonkeyPatch, said: str, engine: str
) -> None:
    monkeypatch.setenv("DOCKER_HOST", said)
    monkeypatch.setenv("DOCKER_CONTEXT", "elsewhere")
    environment = compose.clean_environment()
    assert environment["DOCKER_HOST"] == engine == f"unix://{Engine().path}"
    assert "DOCKER_CONTEXT" not in environment
