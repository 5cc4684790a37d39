"""What Compose, the docker command line and python-dotenv were seen to read is what we say they read."""

from __future__ import annotations

import io

import pytest
from dotenv import dotenv_values
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.dotenv_corpus import CASES, recorded, short

from longshore import dotenv
from longshore.errors import InventoryError

RECORDED = recorded()
# Compose reads these and nobody can use them: a variable without a name, a NUL, bytes that are no text.
REFUSED_BY_US = {"key-missing", "key-bare-end", "nul", "latin1", "latin1-comment"}


def test_every_file_of_the_collection_was_asked() -> None:
    assert set(RECORDED) == set(CASES)


@pytest.mark.parametrize("case", sorted(CASES))
def test_a_file_is_read_as_compose_read_it(case: str) -> None:
    try:
        ours = {entry.key: short(entry.value) for entry in dotenv.read(CASES[case].decode(), case)}
    except (InventoryError, UnicodeDecodeError):
        assert RECORDED[case]["compose"] is None or case in REFUSED_BY_US
        return
    assert case not in REFUSED_BY_US
    assert ours == RECORDED[case]["compose"]


@pytest.mark.parametrize("case", sorted(set(CASES) - {"latin1", "latin1-comment", "utf16"}))
def test_a_file_is_read_as_docker_read_it(case: str) -> None:
    found = dotenv.read_docker(CASES[case].decode())
    if any(one.problem for one in found):
        assert RECORDED[case]["docker"] is None
        return
    ours = [[one.key, short(one.value)] for one in found if one.value is not None]
    assert ours == RECORDED[case]["docker"]


@pytest.mark.parametrize("case", sorted(set(CASES) - {"latin1", "latin1-comment", "utf16"}))
def test_a_file_is_read_as_python_dotenv_reads_it(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "ABCDEFGHKMN":
        monkeypatch.delenv(name, raising=False)
    text = CASES[case].decode()
    lines = io.TextIOWrapper(io.BytesIO(text.encode()), "utf-8")
    theirs = dict(dotenv_values(stream=lines))
    assert {one.key: one.value for one in dotenv.read_python(text) if not one.problem} == theirs


@given(st.text(alphabet=st.sampled_from(list("AB=: \n\r\"'#${}-\\\x85x")), max_size=40))
@settings(max_examples=200)
def test_any_text_is_read_by_all_of_them(text: str) -> None:
    for one in (*dotenv.read_docker(text), *dotenv.read_python(text)):
        assert one.line >= 1
    parsed = dotenv.parse(text, ".env")
    for problem in parsed.problems:
        assert str(problem).startswith(".env:")
