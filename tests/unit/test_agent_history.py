"""The history is a chain: whatever was changed, removed, put in between or cut off is found, by its line."""

from __future__ import annotations

import json
from pathlib import Path

from longshore.agent.history import History
from longshore.agent.journal import Lines


def _history(root: Path, count: int = 4, start: int = 0) -> History:
    history = History(str(root))
    for number in range(start, start + count):
        history.append({"release": f"{number:012x}", "outcome": "committed", "by": "ann@laptop", "why": "é"})
    return history


def _raw(history: History) -> list[bytes]:
    return Path(history.path).read_bytes().splitlines(keepends=True)


def _problems(history: History) -> list[tuple[int, str]]:
    return [(one["line"], one["message"]) for one in history.audit()["problems"]]


def test_a_history_that_nobody_touched_is_whole(tmp_path: Path) -> None:
    history = _history(tmp_path)
    found = history.audit(expected=True)
    assert (found["problems"], found["notes"]) == ([], [])
    assert [line["release"] for line in found["lines"]] == [f"{number:012x}" for number in range(4)]
    assert [line["release"] for line in history.read()] == [line["release"] for line in found["lines"]]


def test_a_changed_line_is_named(tmp_path: Path) -> None:
    history = _history(tmp_path)
    lines = _raw(history)
    lines[2] = lines[2].replace(b"ann@laptop", b"bob@laptop")
    Path(history.path).write_bytes(b"".join(lines))
    assert _problems(history) == [(3, "was changed, or the line before it was put there by hand")]


def test_a_removed_line_is_noticed_at_the_next_one(tmp_path: Path) -> None:
    history = _history(tmp_path)
    lines = _raw(history)
    Path(history.path).write_bytes(b"".join(lines[:2] + lines[3:]))
    assert _problems(history) == [(3, "1 line before this one was removed")]


def test_a_line_that_was_put_in_between_is_named(tmp_path: Path) -> None:
    history = _history(tmp_path)
    lines = _raw(history)
    stranger = json.dumps({"release": "f" * 12, "outcome": "committed"}).encode() + b"\n"
    Path(history.path).write_bytes(b"".join([*lines[:3], stranger, *lines[3:]]))
    assert [line for line, _ in _problems(history)] == [4]
    Path(history.path).write_bytes(b"".join([*lines[:3], lines[2], *lines[3:]]))
    assert _problems(history) == [(4, "was put in between, or is there twice")]


def test_an_end_that_was_cut_off_is_noticed_also_by_what_is_written_after_it(tmp_path: Path) -> None:
    history = _history(tmp_path)
    Path(history.path).write_bytes(b"".join(_raw(history)[:-2]))
    assert _problems(history) == [(3, "2 lines after this one were removed")]
    _history(tmp_path, 1)
    assert _problems(history) == [(4, "2 lines before this one were removed")]


def test_a_history_that_is_gone_is_noticed(tmp_path: Path) -> None:
    history = _history(tmp_path)
    Path(history.path).unlink()
    assert _problems(history) == [(0, "5 lines after this one were removed")]
    Path(history.head_path).unlink()
    assert _problems(history) == []
    assert [one["message"] for one in history.audit(expected=True)["problems"]] == [
        "the history is gone, though the host has releases"
    ]


def test_a_head_that_is_gone_or_lies_is_noticed(tmp_path: Path) -> None:
    history = _history(tmp_path)
    head = Path(history.head_path)
    kept = head.read_text()
    head.unlink()
    assert "is gone" in _problems(history)[0][1]
    head.write_text(json.dumps({"lines": 5, "chain": "0" * 64}))
    assert "knows as the last one" in _problems(history)[0][1]
    head.write_text(kept)
    assert _problems(history) == []


def test_lines_of_before_the_chain_are_taken_and_held_by_it(tmp_path: Path) -> None:
    old = Lines(str(tmp_path / "history.jsonl"))
    old.append({"release": "a" * 12, "outcome": "committed"})
    old.append({"release": "b" * 12, "outcome": "committed"})
    assert [one["message"] for one in History(str(tmp_path)).audit(expected=True)["notes"]] == [
        "these lines are older than the chain: the next run begins it"
    ]
    history = _history(tmp_path, 2)
    found = history.audit()
    assert found["problems"] == []
    assert [one["message"] for one in found["notes"]] == [
        "2 lines are older than the chain, and held by its first line"
    ]
    assert len(found["lines"]) == len(history.read()) == 4
    lines = _raw(history)
    Path(history.path).write_bytes(b"".join([lines[0].replace(b"aaaa", b"aaab"), *lines[1:]]))
    assert _problems(history) == [(2, "the lines before the chain began were changed")]
    Path(history.path).write_bytes(b"".join(lines[1:]))
    assert "there were 2 lines, and there are 1" in _problems(history)[0][1]


def test_half_a_line_of_a_power_cut_is_no_tampering_and_what_was_lost_of_the_head_neither(
    tmp_path: Path,
) -> None:
    history = _history(tmp_path, 2)
    with Path(history.path).open("ab") as file:
        file.write(b'{"at": 17')
    assert _problems(history) == []
    _history(tmp_path, 1, start=2)
    found = history.audit()
    assert found["problems"] == []
    assert ["half a line" in one["message"] for one in found["notes"]] == [True]
    head = Path(history.head_path).read_bytes()
    _history(tmp_path, 1, start=3)
    Path(history.head_path).write_bytes(head)  # the line was written, the head not any more
    found = history.audit()
    assert found["problems"] == []
    assert "added after history.head" in found["notes"][-1]["message"]
    _history(tmp_path, 1, start=4)
    assert _problems(history) == []


def test_a_line_that_was_made_unreadable_is_no_power_cut(tmp_path: Path) -> None:
    history = _history(tmp_path)
    lines = _raw(history)
    lines[2] = b'{"at": 17\n'
    Path(history.path).write_bytes(b"".join(lines))
    assert [line for line, _ in _problems(history)] == [3, 4]


def test_no_single_change_of_a_byte_goes_unnoticed(tmp_path: Path) -> None:
    history = _history(tmp_path, 2)
    whole = Path(history.path).read_bytes()
    for at in range(0, len(whole) - 1, 3):
        for byte in {0x0A, whole[at] ^ 1} - {whole[at]}:
            Path(history.path).write_bytes(whole[:at] + bytes([byte]) + whole[at + 1 :])
            assert history.audit()["problems"], (at, byte)
