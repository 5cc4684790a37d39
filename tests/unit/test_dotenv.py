"""The env format: what is written is what Compose reads, and what Compose reads is what we read."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longshore import dotenv
from longshore.errors import InventoryError

VALUES = st.text(alphabet=st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)))
TRICKY = st.text(alphabet=st.sampled_from(list("ab$\\{}'\"#= \t\n\r\v\f\x85\xa0é€\ufeff")))
KEYS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)


def values(text: str) -> dict[str, str]:
    return {entry.key: entry.value for entry in dotenv.read(text, ".env")}


@given(st.dictionaries(KEYS, VALUES | TRICKY, max_size=5))
@settings(max_examples=300)
def test_every_value_that_is_written_is_read_back_exactly(env: dict[str, str]) -> None:
    assert values(dotenv.render(env)) == env


@given(st.text(alphabet=st.sampled_from(list("AB=: \n\"'#${}-+?\\n\texport")), max_size=40))
@settings(max_examples=300)
def test_any_text_is_read_or_refused_with_a_place(text: str) -> None:
    try:
        dotenv.read(text, ".env")
    except InventoryError as error:
        assert str(error).startswith(".env:")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        # As `docker compose config` (2.26.1) showed them.
        ("pa$word", "pa"),
        ('"pa$word"', "pa"),
        ("$2y$10$abcdef", "$2y$10"),
        ("pa$$word", "pa$word"),
        ("'pa${word}x'", "pa${word}x"),
        ('"pa\\$word"', "pa$word"),
        ("  spaced  # comment", "spaced"),
        ("a#b", "a#b"),
        ('"a # b"', "a # b"),
        ("'it\\'s'", "it's"),
        ('"two\\nlines"', "two\nlines"),
        ("'two\\nlines'", "two\\nlines"),
        ('"two\nlines"', "two\nlines"),
        ("${MISSING:-d}e", "de"),
        ("${MISSING:-${KNOWN}}", "k"),
        ("${KNOWN:+yes}${MISSING:+no}", "yes"),
        ("${KNOWN-x}${EMPTY-x}${EMPTY:-y}", "ky"),
        ('"\\0101"', "A"),
        ('"\\q\\c"', "\\q\\c"),
        ("'$$'", "$$"),
        ("", ""),
        ("pa$", "pa$"),
        ("a\\", "a\\"),
    ],
)
def test_a_value_is_read_as_compose_reads_it(written: str, read: str) -> None:
    assert values(f"KNOWN=k\nEMPTY=\nX={written}\n")["X"] == read


def test_keys_come_in_all_the_forms_that_compose_knows() -> None:
    text = "\ufeffA=1\nexport B=2\n  C = 3\nD: 4\nE.f-g=5\n# F=6\nINHERITED\nA=7\n"
    entries = dotenv.read(text, ".env")
    assert [(entry.key, entry.value, entry.line, entry.column) for entry in entries] == [
        ("A", "1", 1, 1),
        ("B", "2", 2, 8),
        ("C", "3", 3, 3),
        ("D", "4", 4, 1),
        ("E.f-g", "5", 5, 1),
        ("A", "7", 8, 1),
    ]


def test_a_bare_key_takes_its_value_from_outside() -> None:
    entries = dotenv.read("HOME_TOWN\nOTHER\n", ".env", lookup={"HOME_TOWN": "x"}.get)
    assert [(entry.key, entry.value) for entry in entries] == [("HOME_TOWN", "x")]


def test_crlf_lines_end_where_they_should() -> None:
    assert values('A=1\r\nB="2"\r\nC=3\r\n') == {"A": "1", "B": "2", "C": "3"}


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        ("A=1\nB C=2\n", ".env:2:1", "space"),
        ("A=1\n\nB!=2\n", ".env:3:2", "'!'"),
        ('A=1\nB="open\nC=3\n', ".env:2:1", "never closed"),
        ("A=${B\n", ".env:1:1", "${"),
        ("A=1\nB=${C:?give it}\n", ".env:2:1", "C is required and not set: give it"),
        ("=x\n", ".env:1:1", "without a name"),
    ],
)
def test_a_broken_line_is_named(text: str, place: str, says: str) -> None:
    with pytest.raises(InventoryError) as caught:
        dotenv.read(text, ".env")
    assert str(caught.value.where) == place
    assert says in str(caught.value)


def test_an_error_never_shows_the_value() -> None:
    with pytest.raises(InventoryError) as caught:
        dotenv.read("PASSWORD=hunter2${\n", ".env")
    assert "hunter2" not in str(caught.value)


def test_a_nul_is_refused_with_the_name_and_without_the_value() -> None:
    with pytest.raises(InventoryError) as caught:
        dotenv.render({"TOKEN": "hunter2\0"})
    assert "TOKEN" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_value_that_is_no_unicode_is_refused() -> None:
    with pytest.raises(InventoryError, match="The value of TOKEN is not valid Unicode"):
        dotenv.render({"TOKEN": "a\udcff"})


@pytest.mark.parametrize("key", ["", "A B", "A=B", "A\n", "A$", "#A"])
def test_a_name_that_compose_cannot_read_is_refused(key: str) -> None:
    with pytest.raises(InventoryError):
        dotenv.render({key: "x"})


def test_variables_keep_their_order() -> None:
    assert dotenv.render({"B": "1", "A": "2"}) == 'B="1"\nA="2"\n'


def test_an_entry_does_not_show_its_value() -> None:
    assert "hunter2" not in repr(dotenv.read("PASSWORD=hunter2", ".env"))


def test_a_large_value_is_read_in_no_time() -> None:
    value = "$" * 30_000 + '"' * 30_000
    assert values(dotenv.render({"BIG": value})) == {"BIG": value}


def test_every_broken_line_of_a_file_is_found_in_one_run() -> None:
    text = 'A=1\nB C=2\nD!=3\nE=4\nF=${G\n=5\nH="open\nMIIE/+=\nI=6\n'
    parsed = dotenv.parse(text, ".env")
    assert [str(problem.where) for problem in parsed.problems] == [
        ".env:2:1",
        ".env:3:2",
        ".env:5:1",
        ".env:6:1",
        ".env:7:1",
    ]
    assert [entry.key for entry in parsed.entries] == ["A", "E", "I"]


def test_an_entry_knows_what_was_written_and_where_it_ends() -> None:
    one, two, three = dotenv.read("A='x' \nB=\"y\nz\"\nC=1 # n\n", ".env")
    assert (one.raw, one.line, one.last_line) == ("'x'", 1, 1)
    assert (two.raw, two.line, two.last_line) == ('"y\nz"', 2, 3)
    assert (three.raw, three.value) == ("1 # n", "1")


def test_what_is_wrong_in_a_default_that_is_not_used_is_refused_as_compose_does() -> None:
    with pytest.raises(dotenv.SubstitutionError):
        dotenv.substitute("${A:-${B}", {"A": "x"}.get)
    with pytest.raises(dotenv.SubstitutionError, match="B is required"):
        dotenv.substitute("${A:-${B:?}}", {"A": "x"}.get)


def test_a_variable_missing_in_a_default_that_is_not_used_is_nothing_to_tell() -> None:
    unset: list[str] = []
    assert dotenv.substitute("${A:-${B}}${C:-$D}", {"A": "x"}.get, on_unset=unset.append) == "x"
    assert unset == ["D"]


def test_many_variables_and_deep_ones_end_in_a_value_or_a_sentence() -> None:
    assert dotenv.substitute("${A}x" * 5000, {"A": "1"}.get) == "1x" * 5000
    with pytest.raises(dotenv.SubstitutionError, match="nested too deeply"):
        dotenv.substitute("${A:-" * 3000 + "}" * 3000, lambda _: None)
