"""The agent as it travels: a tar, the same bytes on every controller, and the command that starts it."""

from __future__ import annotations

import ast
import functools
import hashlib
import io
import json
import tarfile
import threading
import zlib
from dataclasses import field
from pathlib import Path

import longshore.agent
from longshore.records import dataclass

HASH_DIGITS = 16


@dataclass(frozen=True)
class Program:
    """A packed agent. ``hash`` is the first 16 hex digits of the tar's SHA-256, and its folder on hosts."""

    hash: str
    tar: bytes = field(repr=False)

    @functools.cached_property
    def compressed(self) -> bytes:
        """The tar as it is sent. Not what is hashed: zlib's bytes differ from one version to the next."""
        return zlib.compress(self.tar, 9)


def pack(folder: Path) -> Program:
    """Pack the modules in ``folder`` as the package ``longshore.agent``.

    The bytes depend on the modules' names and text only: no times, no owners, no order of a file system.
    """
    files = {"longshore/__init__.py": b""}
    for path in folder.glob("*.py"):
        files[f"longshore/agent/{path.name}"] = path.read_bytes()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in sorted(files):
            member = tarfile.TarInfo(name)
            member.size = len(files[name])
            member.mode = 0o600
            archive.addfile(member, io.BytesIO(files[name]))
    data = buffer.getvalue()
    return Program(hash=hashlib.sha256(data).hexdigest()[:HASH_DIGITS], tar=data)


_once = threading.Lock()
"""``functools.cache`` alone lets every thread that comes before the first has ended do the work again."""


def agent() -> Program:
    """Longshore's own agent, packed once per run."""
    with _once:
        return _agent()


@functools.cache
def _agent() -> Program:
    assert longshore.agent.__file__
    return pack(Path(longshore.agent.__file__).parent)


def starter() -> str:
    """The text that starts the agent on the host, as one line of Python without comments.

    One line, because not every login shell keeps a newline in a quoted argument.
    """
    with _once:
        return _starter()


@functools.cache
def _starter() -> str:
    tree = ast.parse((Path(__file__).parent / "starter.py").read_text())
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and isinstance(node, (ast.Module, ast.FunctionDef))
            and ast.get_docstring(node)
        ):
            del body[0]
    return f"exec({json.dumps(ast.unparse(tree))})"


def command(program: Program, *, state_dir: str, python: str = "python3") -> list[str]:
    """The argument list that starts ``program`` on a host whose state is in ``state_dir``.

    ``-I`` and ``-S``: nothing of the user's environment or site-packages takes part, and it starts faster.
    """
    return [python, "-I", "-S", "-c", starter(), state_dir, program.hash]
