"""Where Compose, python-dotenv and the docker command line read a value differently, line by line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from longshore import dotenv
from longshore.dotenv import Entry, Found, Parsed
from longshore.envcheck.finding import Finding
from longshore.errors import Where
from longshore.inventory.hidden import is_telling, looks_secret
from longshore.records import dataclass

COMPOSE, PYTHON, DOCKER = "Compose", "python-dotenv", "docker run, Swarm"
_LONGEST_SHOWN = 60


@dataclass(frozen=True)
class _Reading:
    """What one reader has for an entry: a value, or a sentence on why it has none."""

    value: str | None
    problem: str = ""


def differences(text: str, parsed: Parsed, file: str) -> Iterator[Finding]:
    """Everything that isn't read alike, and what Compose loses. ``parsed`` is its reading of ``text``."""
    lines = text.removeprefix("\ufeff").split("\n")
    docker, python = _by_line(dotenv.read_docker(text)), _by_line(dotenv.read_python(text))
    for entry in parsed.entries:
        if entry.bare:
            continue
        span = range(entry.line, entry.last_line + 1)
        readings = {
            COMPOSE: _Reading(entry.value),
            PYTHON: _reading(entry, _in(python, span), refused="leaves it out"),
            DOCKER: _reading(entry, _in(docker, span), refused="refuse the file"),
        }
        if entry.unset or len(set(readings.values())) > 1:
            yield _finding(entry, readings, lines[entry.line - 1], file)


def _by_line(found: Iterable[Found]) -> dict[int, list[Found]]:
    result: dict[int, list[Found]] = {}
    for one in found:
        result.setdefault(one.line, []).append(one)
    return result


def _in(found: Mapping[int, list[Found]], span: range) -> list[Found]:
    return [one for line in span for one in found.get(line, ())]


def _reading(entry: Entry, found: Sequence[Found], *, refused: str) -> _Reading:
    """What a reader found in an entry's lines, as a reading of that entry."""
    first = found[0] if found else None
    if first is None:
        return _Reading(None, "no variable at all")
    wrong = next((one for one in found if one.problem), None)
    if wrong is not None and (wrong is first or refused != "leaves it out"):
        return _Reading(None, f"{refused}: {wrong.problem}" if "left out" not in wrong.problem else refused)
    if first.key != entry.key:
        return _Reading(None, f"a variable of another name, {_quoted(first.key)}")
    if len(found) > 1:
        return _Reading(None, f"only the first line, and {len(found) - 1} more as variables of their own")
    return _Reading(first.value, "" if first.value is not None else "a name without a value")


def _finding(entry: Entry, readings: Mapping[str, _Reading], line: str, file: str) -> Finding:
    values = (entry.value, readings[PYTHON].value or "", _body(entry))
    secret = looks_secret(entry.key, entry.raw) or any(is_telling(entry.key, value) for value in values)
    shown = {reader: _shown(one, entry, secret=secret) for reader, one in readings.items()}
    if secret:
        shown = _told_apart(shown, readings)
    causes = ", ".join(_causes(entry, line))
    said = "; ".join(f"{reader}: {text}" for reader, text in shown.items())
    where = Where(file, entry.line, entry.column)
    if entry.unset:
        return Finding(
            "error",
            "lost",
            f"{entry.key} loses a part of its value: after a $ Compose sees the name of a variable that "
            f"isn't set, and puts nothing there. {said}.",
            where,
            _advice(entry.key, _body(entry)),
            entry.key,
            shown,
        )
    return Finding(
        "warning",
        "differs",
        f"{entry.key} is read differently{f' ({causes})' if causes else ''}. {said}.",
        where,
        _advice(entry.key, entry.value),
        entry.key,
        shown,
    )


def _body(entry: Entry) -> str:
    """The value as its author probably meant it: what is written, without quotes or comment."""
    raw = entry.raw.rstrip()
    if raw[:1] in ("'", '"') and raw[-1:] == raw[:1] and len(raw) > 1:
        return raw[1:-1]
    return raw.partition(" #")[0].rstrip()


def _advice(key: str, value: str) -> str:
    """How to write ``value``, as found out by asking the readers."""
    forms = {
        "as it is, without quotes, blanks around it, or a comment": value,
        "in single quotes": "'" + value.replace("'", "\\'") + "'",
        'in double quotes, with a \\ before each \\, " and $': _safe_encode(value),
    }
    agreed = {name: _agree(key, form, value) for name, form in forms.items()}
    for name, readers in agreed.items():
        if readers == {COMPOSE, PYTHON, DOCKER}:
            return f"Written {name}, all read the same."
    for name, readers in agreed.items():
        if readers >= {COMPOSE, PYTHON}:
            return (
                f"Written {name}, Compose and python-dotenv read it as meant; the docker command line can't."
            )
    for name, readers in agreed.items():
        if COMPOSE in readers:
            return f"Written {name}, Compose reads it as meant; no way of writing it suits all."
    return "No way of writing it suits all."


def _safe_encode(value: str) -> str:
    return dotenv.encode(value.replace("\0", ""))


def _agree(key: str, form: str, value: str) -> set[str]:
    """Who reads ``value`` from ``key=form``."""
    text = f"{key}={form}\n"
    parsed = dotenv.parse(text, "")
    found = {
        COMPOSE: [(one.key, one.value) for one in parsed.entries] if not parsed.problems else [],
        PYTHON: [(one.key, one.value) for one in dotenv.read_python(text)],
        DOCKER: [(one.key, one.value) for one in dotenv.read_docker(text)],
    }
    return {reader for reader, pairs in found.items() if pairs == [(key, value)]}


_DOLLAR = re.compile(r"\$(?:[A-Za-z_{$])")


def _causes(entry: Entry, line: str) -> Iterator[str]:
    raw = entry.raw.rstrip("\r")
    quote = raw[:1] if raw[:1] in ("'", '"') else ""
    before = line[: line.find(entry.key)] if entry.key in line else ""
    after = line[len(before) + len(entry.key) :]
    if before.strip():
        yield "export"
    if after.lstrip().startswith(":"):
        yield "a colon instead of ="
    elif re.match(r"[ \t]+=|=[ \t]+", after):
        yield "blanks around the ="
    if entry.last_line > entry.line:
        yield "several lines"
    if quote:
        yield "quotes"
    if (quote != "'" and _DOLLAR.search(raw)) or (quote == "'" and "${" in raw):
        yield "a $"
    if "\\" in raw:
        yield "a backslash"
    if not quote and re.search(r"\s#", raw):
        yield "a # after a blank"
    if not quote and raw != raw.rstrip() and "#" not in raw:
        yield "blanks at the end"
    if "\r" in raw:
        yield "a carriage return"


def _shown(reading: _Reading, entry: Entry, *, secret: bool) -> str:
    if reading.value is None:
        return reading.problem
    return _shape(reading.value, entry) if secret else _quoted(reading.value)


def _quoted(value: str) -> str:
    if len(value) > _LONGEST_SHOWN:
        return f"{value[: _LONGEST_SHOWN - 20]!r}… ({len(value)} characters)"
    return repr(value)


def _shape(value: str, entry: Entry) -> str:
    """What a reader makes of a secret, told by how it compares with what is written."""
    raw = entry.raw.rstrip("\r")
    body = _body(entry)
    quoted = body != raw.rstrip()
    if not value:
        return "nothing"
    if value == body:
        return (
            f"what is between the quotes, {_count(value)}" if quoted and raw[:1] in "'\"" else _count(value)
        )
    if value == raw:
        return (
            f"all that is written, {'quotes and all, ' if raw[:1] in ('', *_QUOTES) else ''}{_count(value)}"
        )
    if body.startswith(value):
        return f"only the first {len(value)} of {_count(body)}"
    return _count(value)


_QUOTES = ("'", '"')


def _count(value: str) -> str:
    return f"{len(value)} character{'' if len(value) == 1 else 's'}"


def _told_apart(shown: Mapping[str, str], readings: Mapping[str, _Reading]) -> dict[str, str]:
    """Two texts of the same length are different texts all the same, and it says so."""
    result: dict[str, str] = {}
    for reader, text in shown.items():
        same = [other for other in result if result[other] == text]
        other = any(readings[one].value != readings[reader].value for one in same)
        result[reader] = f"another text of {text}" if other else text
    return result
