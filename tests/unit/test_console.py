"""Secrets are masked in whatever form they are shown; programs get JSON and nothing else."""

from __future__ import annotations

import base64
import io
import json

import pytest

from longshore.console import Masks, bytes_text, make_output, seconds_text
from longshore.errors import AgentError, HookError, LongshoreError, Problems, Where

SECRET = 'p$ss"w\\rd\n second line of it'


@pytest.mark.parametrize(
    "shown",
    [
        SECRET,
        json.dumps({"a": SECRET}),
        repr(SECRET),
        base64.b64encode(SECRET.encode()).decode(),
        SECRET.replace("$", "$$"),
        "https://user:" + __import__("urllib.parse").parse.quote(SECRET, safe="") + "@host",
        SECRET.splitlines()[1],
    ],
)
def test_a_secret_is_masked_in_every_form_it_is_printed(shown: str) -> None:
    masked = Masks([SECRET]).text(f"before {shown} after")
    assert "***" in masked
    assert "second line" not in masked
    assert "p$ss" not in masked
    assert masked.startswith("before")


def test_a_secret_that_contains_another_is_masked_as_a_whole() -> None:
    assert Masks(["hunter2", "hunter2-more"]).text("hunter2-more hunter2") == "*** ***"


def test_a_very_short_value_does_not_blank_out_the_text() -> None:
    assert Masks(["1", "yes"]).text("11 yes men") == "11 yes men"


def test_json_output_is_json_lines_with_masked_values() -> None:
    stream = io.StringIO()
    output = make_output(as_json=True, stream=stream)
    output.masks = Masks(['qu"oted'])
    output.say("for people")
    output.step("h1", "pulling", 'x qu"oted')
    output.error(LongshoreError("it broke", where=Where("a.yml", 3), hint="Mend it."))
    output.result({"ok": False})
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["step", "error", "result"]
    assert lines[0]["detail"] == "x ***"
    assert (lines[1]["where"], lines[1]["hint"]) == ("a.yml:3", "Mend it.")


def test_an_error_is_a_sentence_with_the_containers_last_lines(capsys: pytest.CaptureFixture[str]) -> None:
    output = make_output(stream=io.StringIO())
    output.masks = Masks(["s3cret"])
    error = AgentError(
        "api has stopped",
        code="unhealthy",
        where="h1",
        detail={"container": "x-api-1", "log": ["boom s3cret"]},
    )
    output.error(Problems([error, LongshoreError("another")]))
    shown = capsys.readouterr().err
    assert "error: h1: api has stopped.\n" in shown
    assert "  | boom ***\n" in shown
    assert "error: another." in shown


def test_where_says_only_what_is_known() -> None:
    assert str(Where("a.yml")) == "a.yml"
    assert str(Where("a.yml", 2)) == "a.yml:2"
    assert str(Where("a.yml", 2, 5)) == "a.yml:2:5"


def test_sizes_and_times_as_people_read_them() -> None:
    assert [bytes_text(n) for n in (999, 1234, 1_500_000, 2_000_000_000)] == [
        "999 B",
        "1 kB",
        "1.5 MB",
        "2.0 GB",
    ]
    assert [seconds_text(n) for n in (0.44, 12.2, 184, 7500, 300_000)] == [
        "0.4 s", "12 s", "3 min 4 s", "2 h 5 min", "3 days",
    ]  # fmt: skip


def test_a_hook_that_failed_is_shown_with_its_last_lines_and_as_json_with_its_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = HookError("the hook hooks/x exited with code 3", where="h1", log=("no quorum",), hook="hooks/x")
    make_output(stream=io.StringIO()).error(error)
    assert capsys.readouterr().err.splitlines() == [
        "error: h1: the hook hooks/x exited with code 3.",
        "  the last lines of hooks/x:",
        "  | no quorum",
    ]
    said = io.StringIO()
    make_output(as_json=True, stream=said).error(error)
    value = json.loads(said.getvalue())
    assert (value["code"], value["detail"]) == ("hook-failed", {"hook": "hooks/x", "log": ["no quorum"]})
