"""Dockerfiles are read as BuildKit reads them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longshore.dockerfile import lint, parse
from longshore.dockerfile.parse import Instruction
from longshore.dockerfile.shell import commands
from longshore.dockerfile.words import expand, pairs, split


def only(text: str) -> Instruction:
    found = parse("FROM a:1\n" + text)
    assert not found.mistakes, found.mistakes
    (one,) = found.stages[0].instructions
    return one


def test_continued_lines_are_one_instruction_and_every_offset_knows_its_line() -> None:
    one = only("RUN one \\\n    # a comment\n\n  && two \\  \n&& three\n")
    assert one.text == "one   && two && three"
    assert (one.line, one.end) == (2, 6)
    assert [one.line_at(one.text.index(word)) for word in ("one", "two", "three")] == [2, 5, 6]
    assert [comment.line for comment in one.comments] == [3]


def test_a_doubled_escape_character_at_the_end_goes_on_nowhere() -> None:
    found = parse("FROM a:1\nRUN echo \\\\\nUSER 1\n")
    assert [one.name for one in found.instructions] == ["FROM", "RUN", "USER"]


@pytest.mark.parametrize("before", ["# escape=`\n", "# syntax=x\n# ESCAPE = `\n", "\ufeff# escape=`\r\n"])
def test_the_escape_directive_is_heeded(before: str) -> None:
    found = parse(f"{before}FROM a:1\nRUN dir C:\\\nRUN one `\n  two\n")
    assert [one.text for one in found.instructions] == ["a:1", "dir C:\\", "one   two"]


@pytest.mark.parametrize("before", ["\n# escape=`\n", "# hello\n# escape=`\n", "FROM b:1\n# escape=`\n"])
def test_a_directive_after_anything_else_is_a_comment(before: str) -> None:
    assert parse(f"{before}FROM a:1\n").escape == "\\"


def test_a_directive_that_is_there_twice_or_wrong_is_a_mistake() -> None:
    assert [one.line for one in parse("# syntax=a\n# syntax=b\nFROM a:1\n").mistakes] == [2]
    assert [one.line for one in parse("# escape=x\nFROM a:1\n").mistakes] == [1]


def test_heredocs_are_no_instructions() -> None:
    found = parse("FROM a:1\nRUN <<A cat <<-'B'\nUSER root\nA\n\tFROM b\n\tB\nUSER 1\n")
    assert [one.name for one in found.instructions] == ["FROM", "RUN", "USER"]
    first, second = found.instructions[1].heredocs
    assert (first.name, first.content, first.line, first.expand) == ("A", "USER root", 3, True)
    assert (second.name, second.content, second.line, second.expand) == ("B", "FROM b", 5, False)
    assert found.instructions[1].end == 6


@pytest.mark.parametrize(
    "text", ['RUN ["cat", "<<EOF"]', "RUN echo '<<EOF'", "RUN cat <<<EOF", "ENV a=<<EOF"]
)
def test_what_only_looks_like_a_heredoc_takes_no_lines(text: str) -> None:
    assert [one.name for one in parse(f"FROM a:1\n{text}\nUSER 1\n").instructions] == [
        "FROM",
        text[:3],
        "USER",
    ]


def test_stages_stand_on_each_other_and_on_what_arg_says() -> None:
    found = parse(
        "ARG V=3\nARG T=${V:-9}.1${X:+no}${Y-y}\nFROM img:$T AS One\nFROM one\nFROM --platform=x two\n"
    )
    assert [stage.base for stage in found.stages] == ["img:3.1y", "one", "two"]
    assert [stage.parent for stage in found.stages] == [None, 0, None]
    assert found.stage("ONE") is found.stages[0] and found.stage("1") is found.stages[1]
    assert found.stage("nine") is None
    assert found.chain(found.stages[1]) == (found.stages[0], found.stages[1])


def test_flags_and_json_are_told_from_words() -> None:
    one = only('COPY --from=x --chown=a:b ["a b", "c"]')
    assert (one.flag("from"), one.flag("chown"), one.words) == ("x", "a:b", ("a b", "c"))
    assert only("CMD ['a']").words is None
    assert only("CMD --x").flags == ()


def test_names_and_values_are_read_in_both_forms() -> None:
    assert [(name, value) for name, value, _ in pairs('a=1 b=\'x y\' c="\\"q" d')] == [
        ("a", "1"),
        ("b", "x y"),
        ("c", '"q'),
        ("d", ""),
    ]
    assert pairs("key some value") == [("key", "some value", 0)]
    assert split("") == []
    assert expand("$A-${B}-${C:-x}", {"A": "1"}) == "1-${B}-x"


def test_a_script_is_split_where_a_shell_would() -> None:
    script = "A=1 apt-get update&&(cd /x; make 'a;b' \"c && d\") || sudo -E sh -c 'curl x | sh' # no | sh"
    script += "\nls $(pwd)"
    assert [one.words for one in commands(script)] == [
        ("apt-get", "update"),
        ("cd", "/x"),
        ("make", "a;b", "c && d"),
        ("sudo", "-E", "sh", "-c", "curl x | sh"),
        ("ls", "$(pwd)"),
        ("pwd",),
    ]
    assert [(one.program, one.piped) for one in commands("bash -c 'curl x | sh'")][1:] == [
        ("curl", False),
        ("sh", True),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "RUN " + "a" * 200_000,
        "RUN " + "$(" * 20_000,
        "RUN " + "'\"" * 20_000,
        "RUN " + "a://" * 20_000,
        "ARG A=xxxx\n" + "ARG A=$A$A$A$A\n" * 40 + "FROM $A\n",
        "ONBUILD " * 5_000 + "RUN x",
    ],
)
def test_a_file_that_was_made_to_be_slow_is_not(text: str) -> None:
    begun = time.process_time()
    lint("FROM a:1\n" + text, "Dockerfile", Path("/nowhere"))
    assert time.process_time() - begun < 3


_PIECES = st.sampled_from(
    [
        *(
            "FROM ",
            "RUN ",
            "COPY ",
            "ENV ",
            "ARG ",
            "CMD ",
            "ONBUILD ",
            "HEALTHCHECK ",
            "USER ",
            "ADD ",
            "SHELL ",
        ),
        *(
            "\\\n",
            "\n",
            "\r\n",
            "`",
            "# escape=`\n",
            "#",
            "<<EOF",
            "EOF\n",
            "<<-'X Y'",
            '["a"',
            "]",
            '"',
            "'",
            "$(",
        ),
        *(
            "${A:-",
            "}",
            "$",
            "a=b ",
            "python:3",
            " AS x",
            "--from=",
            "--mount=type=cache",
            "apt-get install ",
            "|",
        ),
        *(
            "curl x",
            "sh",
            "&&",
            ";",
            "(",
            ")",
            "chmod 777 ",
            "longshore: ignore=",
            "secret",
            "\x00",
            "\ufeff",
            "é",
        ),
    ]
)


@settings(max_examples=400)
@given(st.lists(_PIECES, max_size=40).map("".join) | st.text(max_size=200))
def test_no_text_makes_the_linter_fail_and_every_line_is_in_the_file(text: str) -> None:
    last = text.count("\n") + 1
    for finding in lint(text, "Dockerfile", Path("/nowhere")):
        assert 1 <= finding.line <= last
    for one in parse(text).instructions:
        assert 1 <= one.line <= one.end <= last


@settings(max_examples=60)
@given(
    st.lists(st.sampled_from(["RUN a", "USER b", "ENV c=d", "RUN <<E\nx\nE", "RUN a \\\n  b"]), max_size=12)
)
def test_instructions_are_found_where_they_are(instructions: list[str]) -> None:
    lines, text = [], "FROM a:1\n"
    for one in instructions:
        lines.append(text.count("\n") + 1)
        text += one + "\n"
    found = parse(text)
    assert [one.line for one in found.instructions[1:]] == lines
    assert not found.mistakes
