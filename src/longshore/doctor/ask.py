"""Asking a host: one program over standard input, two lines back."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import longshore
from longshore.doctor.finding import Seen, Wanted
from longshore.errors import HostError
from longshore.remote.session import Link

TIMEOUT = 180.0
PACKAGES = ("agent", "bootstrap/host", "doctor/host")
"""Whose modules travel: those that run on hosts anyway, and what looks."""

# Any Python 3 must get as far as saying that it is too old.
STARTER = "import json,sys;sent=json.loads(sys.stdin.buffer.readline());exec(sent['start'])"
_START = """\
import importlib.abc
import importlib.util


class Sent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name in sent["modules"]:
            package = sent["modules"][name] is None
            return importlib.util.spec_from_loader(name, self, is_package=package)
        return None

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        text = sent["modules"][module.__name__]
        if text is not None:
            exec(compile(text, module.__name__, "exec"), module.__dict__)


sys.meta_path.insert(0, Sent())
importlib.import_module("longshore.doctor.host.main").main(sent["wish"])
"""


@functools.cache
def modules() -> dict[str, str | None]:
    """Module to its text; ``None`` for packages, whose own modules hold nothing but a word about them."""
    root = Path(longshore.__file__).parent
    found: dict[str, str | None] = {"longshore": None}
    for package in PACKAGES:
        parts = package.split("/")
        for count in range(1, len(parts) + 1):
            found[".".join(["longshore", *parts[:count]])] = None
        for path in sorted((root / package).glob("*.py")):
            if path.stem != "__init__":
                found[".".join(["longshore", *parts, path.stem])] = path.read_text(encoding="utf-8")
    return found


def payload(wanted: Wanted) -> bytes:
    """What goes to the program's standard input: itself, and what is asked."""
    sent = {"start": _START, "modules": modules(), "wish": wanted.wish()}
    return json.dumps(sent).encode() + b"\n"


def examine(link: Link, wanted: Wanted, *, python: str) -> Seen:
    """What a host says of itself.

    Raises ``HostError`` when it can't be reached, or has no Python that will do.
    """
    heard: list[tuple[float, bytes]] = []
    started = time.time()
    code = link.run(
        [python, "-I", "-S", "-c", STARTER],
        stdin=payload(wanted),
        on_output=lambda data: heard.append((time.time(), data)),
        timeout=TIMEOUT,
    )
    output = b"".join(data for _, data in heard).decode(errors="replace")
    said = [_parse(line) for line in output.splitlines()]
    facts = next((one["facts"] for one in said if "facts" in one), None)
    if not isinstance(facts, dict):
        raise _silent(wanted.host, code, output)
    clock = next((float(one["clock"]) for one in said if "clock" in one), started)
    first = next((at for at, data in heard if b'"clock"' in data), time.time())
    # It was somewhere between the two that the host looked at its clock.
    middle, slack = (started + first) / 2, (first - started) / 2
    return Seen(facts, ahead=clock - middle, slack=slack)


def _parse(line: str) -> Mapping[str, Any]:
    try:
        value = json.loads(line) if line.startswith("{") else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _silent(host: str, code: int, output: str) -> HostError:
    lines = output.strip().splitlines()
    said = lines[-1] if lines else "it said nothing"
    if code == 127:
        return HostError(
            f"there is no python3 to look with: {said}",
            where=host,
            hint="`invoke bootstrap` installs it; or correct `ansible_python_interpreter`.",
        )
    if any(word in output for word in ("SyntaxError", "ImportError", "ModuleNotFound")):
        hint = "python3 3.9 or newer is needed; name one with `ansible_python_interpreter`."
        return HostError(f"the host's python is too old, or not whole: {said}", where=host, hint=hint)
    return HostError(f"looking at it ended early (exit code {code}): {said}", where=host)
