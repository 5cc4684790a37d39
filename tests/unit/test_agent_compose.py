"""Which Compose a host has: asked once for each program, by running it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from longshore.agent import compose
from longshore.agent.fail import Refusal


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
