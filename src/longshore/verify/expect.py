"""What an answer must be: status, headers, text, JSON, and how long it took. Talks to nobody."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from email.message import Message
from typing import Any

from longshore.agent.shorten import first
from longshore.inventory.model import SmokeCheck
from longshore.records import dataclass


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; ``seconds`` from the request to the body's end."""

    status: int
    headers: Message
    body: bytes
    seconds: float


class Wrong(Exception):
    """The answer isn't what the check wants; the message says how."""


def expect_answer(check: SmokeCheck, answer: Answer) -> None:
    """Raise ``Wrong`` with the first thing that is not as the check wants it."""
    text = answer.body.decode("utf-8", "replace")
    if answer.status != check.status:
        raise Wrong(f"answered {answer.status}, not {check.status}: {_short(text)}")
    for name, wanted in check.answer_headers.items():
        values = answer.headers.get_all(name)
        if values is None:
            raise Wrong(f"the answer has no header {name}")
        if not any(wanted.lower() in value.lower() for value in values):
            raise Wrong(f"the header {name} is {', '.join(values)!r}, without {wanted!r}")
    expect_text(check, text)
    if check.latency is not None and answer.seconds > check.latency:
        raise Wrong(f"answered in {answer.seconds * 1000:.0f} ms, not in {check.latency * 1000:g} ms")


def expect_text(check: SmokeCheck, text: str) -> None:
    """Raise ``Wrong`` when a body, or a command's output, doesn't hold what it should."""
    if check.contains is not None and check.contains not in text:
        raise Wrong(f"the answer has no {check.contains!r}: {_short(text)}")
    if check.matches is not None and not re.search(check.matches, text, re.MULTILINE):
        raise Wrong(f"the answer doesn't match {check.matches!r}: {_short(text)}")
    if check.json:
        try:
            value = json.loads(text)
        except ValueError:
            raise Wrong(f"the answer is not JSON: {_short(text)}") from None
        for path, expected in check.json.items():
            have = at_path(value, path)
            # In JSON true is not 1, though Python says so.
            if have != expected or isinstance(have, bool) != isinstance(expected, bool):
                raise Wrong(f"{path} is {have!r}, not {expected!r}")


def at_path(value: Any, path: str) -> Any:
    """What a dotted path points to (``checks.db``, ``items.0.id``), ``None`` when it is not there."""
    for part in path.split("."):
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


def _short(text: str) -> str:
    text = " ".join(text.split())
    return repr(first(text, 120))
