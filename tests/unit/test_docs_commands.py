"""docs/commands.md says what the tasks really take."""

from __future__ import annotations

import re
from pathlib import Path

from longshore.tasks import ns

DOC = Path(__file__).parents[2] / "docs" / "commands.md"
SHARED = {"env", "app", "limit", "json"}
EVERYWHERE = {"accept_new"}
"""Said once, in «What they have in common»."""


def _sections() -> dict[str, str]:
    parts = re.split(r"^#{2,3} (.+)\n", DOC.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_task_has_a_section_with_every_option_and_no_other() -> None:
    sections = _sections()
    for name in (name for name in ns.task_names if not name.startswith("lab.")):
        task = ns[name]
        assert name in sections, f"docs/commands.md has no section {name}"
        taken = {str(one.attr_name or one.name) for one in task.get_arguments()} - set(task.positional)
        said = set(re.findall(r"^\| `--?(?:no-)?([a-z-]+)", sections[name], flags=re.MULTILINE))
        assert said == {option.rstrip("_").replace("_", "-") for option in taken - SHARED - EVERYWHERE}, name
        for option in taken & SHARED:
            assert f"`--{option}`" in sections[name], f"{name} --{option}"
