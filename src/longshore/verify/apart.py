"""Calling a role's hook or check: in a process of its own, which is killed when its time is over."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from longshore.roles import Role, child
from longshore.roles.calling import CallFailed, call
from longshore.roles.load import file_of
from longshore.verify.program import how_it_ended, run_program


def call_role(
    role: Role,
    kind: Literal["hooks", "checks"],
    name: str,
    facts: Mapping[str, Any],
    *,
    timeout: float,
    tell: Callable[[str], None] | None = None,
) -> Any:
    """Call ``role.hooks[name]`` or ``role.checks[name]`` with the facts, and return what it returns.

    ``tell`` gets each line that it prints. Raises ``CallFailed`` when it raises, ends its process, or isn't
    done after ``timeout`` seconds; then everything in its process group is killed. A role that is in no file
    (made by a program of its own) is called here, in a thread.
    """
    file = file_of(role)
    if file is None:
        functions: Any = role.hooks if kind == "hooks" else role.checks
        return call(functions[name], facts, timeout=timeout, tell=tell)
    asked = {"file": str(file), "role": role.name, "kind": kind, "name": name, "facts": dict(facts)}
    with tempfile.TemporaryDirectory(prefix="longshore-call-") as made:
        folder = Path(made)
        (folder / "call.json").write_text(json.dumps({**asked, "path": sys.path}, default=str))
        argv = [sys.executable, "-u", str(child.__file__), made]
        try:
            ended = run_program(argv, cwd=Path.cwd(), timeout=timeout, on_line=tell)
        except OSError as error:
            raise CallFailed(f"can't be run: {error.strerror or error}") from None
        if ended.code is None:
            raise CallFailed(f"was not done after {timeout:g} s, and was killed")
        try:
            answer = json.loads((folder / "answer.json").read_text())
        except (OSError, ValueError):
            raise CallFailed(how_it_ended(ended, timeout) or "ended its process") from None
    if "failed" in answer:
        raise CallFailed(str(answer["failed"]))
    return answer["value"]
