"""``python child.py FOLDER``: one call of a project's own Python, in a process of its own.

A process can be killed when its time is over, which a function can't. ``FOLDER`` (0700) has ``call.json``:
the role's ``file`` and ``role``, ``kind`` (``hooks`` or ``checks``), ``name``, ``facts``, and ``path``, where
modules are looked for (in the environment, the hook's own programs would inherit that). ``answer.json`` gets
``value``, or ``failed``: a sentence's end.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any


def main(folder: Path) -> None:
    """Make the call, and end: what it leaves running in threads is no reason to wait."""
    asked = json.loads((folder / "call.json").read_text())
    sys.path[:] = asked["path"]
    answer: dict[str, Any]
    try:
        answer = {"value": _call(asked)}
    except BaseException as error:  # the project's own code: whatever it raises is its failure
        answer = {"failed": f"failed: {type(error).__name__}: {error}"}
    sys.stdout.flush()
    sys.stderr.flush()
    (folder / "answer.json").write_text(json.dumps(answer, default=str))
    os._exit(0)


def _call(asked: dict[str, Any]) -> Any:
    from longshore.roles.load import load_file

    role = load_file(Path(asked["file"]), asked["role"])
    functions: Any = role.hooks if asked["kind"] == "hooks" else role.checks
    return functions[asked["name"]](asked["facts"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
