"""The table in docs/reliability.md has every case of the fault matrix, each from a real run."""

from __future__ import annotations

from tests.faults import table
from tests.faults.cases import CASES, SAMPLE, STEP

ROWS = table.read(table.PAGE.read_text())


def test_there_are_sixty_cases_at_least_and_no_two_have_the_same_name() -> None:
    names = [case.name for case in CASES]
    assert len(names) == len(set(names)) >= 60


def test_every_case_is_in_the_table_and_the_table_has_no_other() -> None:
    assert list(ROWS) == [case.name for case in CASES]


def test_each_row_says_what_was_seen_and_whether_the_promises_were_kept() -> None:
    for name, line in ROWS.items():
        cells = line.strip("|").split(" | ")
        assert len(cells) == len(table.HEAD[0].strip("|").split(" | ")), name
        assert all(cell.strip() for cell in cells), name
        promises = cells[-1].strip()
        assert promises == "kept" or promises.startswith("**broken:** "), name


def test_what_is_broken_is_said_above_the_table_too() -> None:
    text = table.PAGE.read_text().split(table.BEGIN)[0]
    broken = [name for name, line in ROWS.items() if "**broken:**" in line]
    assert [name for name in broken if name not in text] == []


def test_the_cases_name_steps_that_there_are() -> None:
    assert all(case.at in STEP for case in CASES if case.at)
    assert set(SAMPLE) <= {case.name for case in CASES}
