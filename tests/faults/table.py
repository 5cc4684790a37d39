"""The table in docs/reliability.md: written from what was seen, read by the test that compares it."""

from __future__ import annotations

import fcntl
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tests.faults.cases import CASES
from tests.faults.observe import Seen
from tests.faults.run import Outcome

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN = "<!-- the table begins: written by bin/test faults -->"
END = "<!-- the table ends -->"
HEAD = (
    "| case | what was done | it ended | h1, h2 afterwards | h1, h2 after the next deploy | s | promises |",
    "|---|---|---|---|---|---|---|",
)


def row(outcome: Outcome) -> str:
    """A case's line of the table."""
    wrong = "; ".join(outcome.wrong)
    cells = (
        outcome.case.name,
        outcome.case.what,
        ended(outcome.code),
        hosts(outcome.after, outcome),
        hosts(outcome.following, outcome),
        f"{outcome.seconds:.0f}",
        f"**broken:** {wrong}" if wrong else "kept",
    )
    return "| " + " | ".join(cell.replace("|", "/").replace("\n", " ") for cell in cells) + " |"


def ended(code: int | None) -> str:
    """How a command ended, in a word or two."""
    if code is None:
        return "hung"
    return f"exit {code}" if code >= 0 else f"signal {-code}"


def hosts(seen: Mapping[str, Seen], outcome: Outcome) -> str:
    """``old, new``, by host."""
    names = {outcome.old: "old", outcome.new: "new", outcome.last: "next"}

    def one(at: Seen) -> str:
        if at.version is None:
            return "nothing" if set(at.answers) == {"-"} else "several"
        return names.get(at.version, "another good one")

    return ", ".join(one(seen[host]) for host in sorted(seen))


def line(outcome: Outcome) -> str:
    """A case in one line, for the terminal."""
    words = (
        f"{outcome.case.name}: {ended(outcome.code)}; {hosts(outcome.after, outcome)};"
        f" then {hosts(outcome.following, outcome)}; {outcome.seconds:.0f} s"
    )
    return words + ("".join(f"\n    WRONG: {text}" for text in outcome.wrong))


def read(text: str) -> dict[str, str]:
    """The table's rows by the name of their case."""
    body = re.search(re.escape(BEGIN) + r"\n(.*?)" + re.escape(END), text, re.DOTALL)
    if body is None:
        raise ValueError("docs/reliability.md has no place for the table")
    rows = [line for line in body[1].splitlines() if line.startswith("| ")][1:]
    return {line.split(" | ")[0].removeprefix("| "): line for line in rows}


def written(text: str, outcomes: Iterable[Outcome]) -> str:
    """The page with these cases' rows put in, in the cases' order; those of the others stay."""
    rows = read(text) | {outcome.case.name: row(outcome) for outcome in outcomes}
    known: Sequence[str] = [case.name for case in CASES if case.name in rows]
    body = "\n".join((*HEAD, *(rows[name] for name in known)))
    start, finish = text.index(BEGIN) + len(BEGIN), text.index(END)
    return f"{text[:start]}\n{body}\n{text[finish:]}"


def write(outcomes: Iterable[Outcome]) -> None:
    """Put these cases' rows into the page. Two runs may do so at once."""
    with PAGE.open("r+") as page:
        fcntl.flock(page, fcntl.LOCK_EX)
        text = written(page.read(), outcomes)
        page.seek(0)
        page.truncate()
        page.write(text)
