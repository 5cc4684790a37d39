"""Projects for the inventory's tests, made of texts."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from longshore.errors import LongshoreError, Problems
from longshore.inventory import Environment, load

SHOP = """
all:
  hosts: {h1: , h2: }
  vars:
    longshore:
      apps:
        shop: {compose: compose.yml}
"""


def make(root: Path, files: dict[str, str]) -> Path:
    """Write a project; a compose file is there unless it is given."""
    for name, text in {"compose.yml": "services: {}\n", **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))
        path.chmod(0o600)
    return root


def loaded(root: Path, files: dict[str, str], *overrides: str) -> Environment:
    """The environment ``prod`` of such a project."""
    return load(make(root, files), "prod", overrides=overrides)


def problems(root: Path, files: dict[str, str], *overrides: str) -> list[str]:
    """The sentences that loading such a project ends in."""
    with pytest.raises(LongshoreError) as raised:
        loaded(root, files, *overrides)
    error = raised.value
    return [str(problem) for problem in error.problems] if isinstance(error, Problems) else [str(error)]
