"""What Python compiles of Longshore is kept, by either command, and nothing of the project."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import longshore

OURS = ["-c", "from longshore.tasks import main; main()"]
INVOKES = ["-m", "invoke"]
PACKAGE = Path(longshore.__file__).parent


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    for path, text in {
        "tasks.py": "from longshore.tasks import ns\n\nimport beside\n",
        "beside.py": "",
        "roles/own.py": "from longshore.roles import Role\n\nrole = Role(name='own', summary='…')\n",
        "compose.yml": "services: {web: {image: 'web:1'}}\n",
        "inventory/try.yml": "all: {hosts: {h1: }, vars: {longshore: {roles: [own], apps: {shop: {compose:"
        " compose.yml}}}}}\n",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


def compiled(project: Path, argv: list[str], **more: str) -> list[Path]:
    """What a run has left compiled, by the file that it was compiled from."""
    cache = project.parent / "cache"
    settings = {**os.environ, "PYTHONPYCACHEPREFIX": str(cache), **more}
    if not more:
        settings.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, *argv, "render", "--env", "try"]
    done = subprocess.run(command, cwd=project, env=settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    return [Path("/") / file.relative_to(cache) for file in cache.rglob("*.pyc")]


@pytest.mark.parametrize("argv", [OURS, INVOKES], ids=["longshore", "invoke"])
def test_what_a_command_imports_of_ours_is_kept_and_nothing_of_the_project(
    project: Path, argv: list[str]
) -> None:
    found = compiled(project, argv)
    ours = {file.parent.name for file in found if file.is_relative_to(PACKAGE)}
    assert {"tasks", "inventory", "render"} <= ours
    assert [file for file in found if file.is_relative_to(project)] == []


def test_who_forbids_it_is_heard(project: Path) -> None:
    assert compiled(project, OURS, PYTHONDONTWRITEBYTECODE="1") == []
