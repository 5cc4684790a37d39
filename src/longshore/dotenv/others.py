"""What others than Compose read in an env file: the docker command line, and python-dotenv itself.

``docker run --env-file`` and Swarm (``env_file`` of ``docker stack deploy``) share docker/cli's
``opts/file.go``: no quotes, no escapes, no substitution, no comments after a value. python-dotenv is asked
through the library, so that its reading is the one that an application gets.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import field

from longshore.dotenv.reader import WHITESPACE
from longshore.records import dataclass

_LONGEST = 64 * 1024
"""Bytes of a line that Go's ``bufio.Scanner`` takes, its end included."""


@dataclass(frozen=True)
class Found:
    """What one of them makes of a line: a variable, a bare key (``value`` is ``None``), or a refusal."""

    key: str
    value: str | None = field(repr=False)
    line: int
    problem: str = ""
    """Why it refuses the line (docker: the whole file) or leaves it out (python-dotenv); else empty."""


def read_docker(text: str) -> tuple[Found, ...]:
    """Read as ``docker run --env-file`` does, line by line, and go on after what it refuses."""
    found: list[Found] = []
    for number, written in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        if len(written.encode("utf-8", "surrogatepass")) >= _LONGEST:
            found.append(Found("", None, number, "a line can't be longer than 64 KB"))
            continue
        # bufio.ScanLines takes one \r off; then all of Unicode's whitespace goes from the left.
        line = written.removesuffix("\r").lstrip(WHITESPACE)
        if not line or line.startswith("#"):
            continue
        key, equals, value = line.partition("=")
        if not key:
            found.append(Found("", None, number, "there is no name before the ="))
        elif " " in key or "\t" in key:
            found.append(Found("", None, number, "a name can't hold a blank"))
        else:
            found.append(Found(key, value if equals else None, number))
    return tuple(found)


def read_python(text: str) -> tuple[Found, ...]:
    """Read as python-dotenv does, with no variable set outside; what it can't read it leaves out."""
    from dotenv.parser import parse_stream
    from dotenv.variables import parse_variables

    # As open() does it in text mode: a lone \r ends a line, too.
    stream = io.TextIOWrapper(io.BytesIO(text.encode("utf-8", "surrogatepass")), "utf-8", "surrogatepass")
    found: list[Found] = []
    seen: dict[str, str | None] = {}
    for binding in parse_stream(stream):
        line = binding.original.line + _leading_lines(binding.original.string)
        if binding.error:
            found.append(Found("", None, line, "it can't be read, and is left out"))
        elif binding.key is not None:
            value = binding.value
            if value is not None:
                known: Mapping[str, str | None] = seen
                value = "".join(atom.resolve(known) for atom in parse_variables(value))
            seen[binding.key] = value
            found.append(Found(binding.key, value, line))
    return tuple(found)


def _leading_lines(text: str) -> int:
    return text.count("\n", 0, len(text) - len(text.lstrip()))
