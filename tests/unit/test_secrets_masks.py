"""Masks: every form in which programs print a secret, and nothing that isn't one."""

from __future__ import annotations

import base64
import html
import json
import logging
import re
import shlex
import time
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longshore import dotenv
from longshore.agent.hidden import read_env
from longshore.agent.masks import COMMON
from longshore.agent.shorten import first, last
from longshore.console import Masks, make_output
from longshore.console.masks import MaskedRecords, masked_traceback

SECRETS = [
    "hunter22",
    'it\'s "quoted"',
    "$do$llar${x}",
    "back\\slash\\n",
    "ünï→☃-secret",
    "a/b+c=d&e?f g",
    "<tag> & more",
    "x" * 3000 + "!",
]


def go_json(text: str) -> str:
    """What Go's ``json.Marshal`` makes of it, with what it escapes beyond Python's."""
    made = json.dumps(text, ensure_ascii=False)
    return made.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def shown(secret: str) -> list[str]:
    return [
        secret,
        json.dumps(secret),
        json.dumps(secret, ensure_ascii=False),
        json.dumps(json.dumps(secret)),
        repr(secret),
        repr(secret.encode()),
        repr({"key": secret}),
        quote(secret),
        quote(secret, safe="").lower()
        if "%" in quote(secret) and secret.islower()
        else quote(secret, safe=""),
        quote_plus(secret),
        html.escape(secret),
        base64.b64encode(secret.encode()).decode(),
        base64.urlsafe_b64encode(secret.encode()).decode(),
        base64.b64encode(b"u:" + secret.encode() + b":x").decode(),
        base64.b64encode(b"us:" + secret.encode() + b":x").decode(),
        base64.b64encode(b"use:" + secret.encode() + b":x").decode(),
        secret.encode().hex(),
        secret.encode().hex().upper(),
        go_json(secret),
        quote(secret, safe="!'()*"),  # JavaScript's encodeURIComponent
        html.escape(secret).replace("&#x27;", "&#39;").replace("&quot;", "&#34;"),  # Go, MarkupSafe
        "'" + secret.replace("'", "''") + "'",  # YAML, SQL
        " ".join(secret.split()),
        secret.replace("$", "$$"),
        dotenv.encode(secret),
        shlex.quote(secret),
        "'" + secret.replace("'", "'\\''") + "'",
    ]


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_is_masked_in_every_form_that_programs_print(secret: str) -> None:
    masks = Masks([secret])
    for text in shown(secret):
        masked = masks.text(f"before {text} after")
        assert "***" in masked, text
        assert secret not in masked
        assert masked.startswith("before ")
        assert masked.endswith(" after")
        assert len(masked) < 40, masked


@given(
    st.text(min_size=8, max_size=60).filter(
        lambda text: (
            len(text.strip()) >= 8 and not text.strip().isdigit() and text.strip().lower() not in COMMON
        )
    )
)
@settings(max_examples=60)
def test_any_value_is_masked_and_the_text_around_it_stays(secret: str) -> None:
    masked = Masks([secret]).text(f"\x02{secret}\x03")
    if "\x02" not in secret and "\x03" not in secret:
        assert masked == "\x02***\x03" or secret.strip() not in masked


@pytest.mark.parametrize("secret", ["s3cret-that-is-cut", 'üñ→☃ it\'s "quoted" <x> & $y', "k3y" * 1000])
@pytest.mark.parametrize("form", [str, lambda text: go_json(text)[1:-1]])
def test_what_is_left_of_a_secret_that_was_cut_is_masked(secret: str, form: Callable[[str], str]) -> None:
    masks, whole = Masks([secret]), form(secret)
    for at in range(6, len(whole) - 6, max(1, len(whole) // 40)):
        begin, end = whole[:at], whole[at:]
        assert masks.text(f"said {begin}…") == "said ***…"
        assert masks.text(f"said {begin}... (truncated)") == "said ***... (truncated)"
        assert masks.text(f"…{end} was said") == "…*** was said"
        assert masks.text(f"…{whole[3:-3]}…") == "…***…"
        assert masks.text(f"x: '…{end} {begin}…' y") == "x: '…*** ***…' y"


def test_a_secret_that_was_cut_in_the_middle_of_a_character_is_masked() -> None:
    told = "it says ünïcödé-s3cret→☃".encode()
    for at in range(len("it says ünïcöd".encode()), len(told)):
        text = told[:at].decode("utf-8", "replace") + "..."
        assert re.fullmatch("it says \\*\\*\\*\ufffd*\\.\\.\\.", Masks(["ünïcödé-s3cret→☃"]).text(text)), text


def test_a_cut_hides_nothing_that_is_no_piece_of_a_secret() -> None:
    masks = Masks(["s3cret-that-is-cut", "https://hooks.example.org/T0/B0"])
    for text in (
        "pulling... done",
        "…",
        "......",
        "a … b ... c",
        "secret…",
        "step 3/5 RUN pip install …",
        "s3cre…",
    ):
        assert masks.text(text) == text


def test_shortening_leaves_a_mark_at_which_a_secret_is_still_found() -> None:
    text = "the key is s3cret-that-is-cut, and more"
    masks = Masks(["s3cret-that-is-cut"])
    assert masks.text(first(text, 20)) == "the key is ***…"
    assert masks.text(last(text, 20)) == "…***, and more"
    assert first(text, 100) == last(text, 100) == text


def test_a_key_of_several_lines_is_masked_line_by_line() -> None:
    masks = Masks(["-----BEGIN KEY-----\nMIIEvQIBADANBg\ns8d7f6g5h4j3\n-----END KEY-----\n"])
    assert masks.text("web | MIIEvQIBADANBg") == "web | ***"
    assert masks.text("web |   s8d7f6g5h4j3  ") == "web |   ***  "
    assert masks.text("-----BEGIN KEY-----") == "-----BEGIN KEY-----"


def test_short_and_common_values_do_not_blank_out_the_text() -> None:
    masks = Masks(["1", "true", "12345", "postgres", "abc", "info", "", "   ", "shop"])
    text = "1 true 12345 postgres abc info shopping workshop   x"
    assert masks.text(text) == text
    assert masks.text("user shop, shop:x") == "user ***, ***:x"


def test_a_thousand_lines_take_no_time_with_a_hundred_secrets() -> None:
    masks = Masks(f"secret-{at}-{at * 7919}" for at in range(100))
    line = "2026-01-01 12:00:00 INFO request GET /health 200 in 12 ms from 10.0.0.1 secret se sec" * 2
    begin = time.perf_counter()
    for _ in range(1000):
        masks.text(line)
    assert time.perf_counter() - begin < 1.0


def test_more_masks_keep_the_ones_before() -> None:
    masks = Masks(["planted-one"]).plus(["planted-two"])
    assert masks.text("planted-one planted-two") == "*** ***"
    assert masks.plus(["planted-two"]) is masks


def test_a_traceback_and_a_log_record_are_masked_with_what_the_run_knows() -> None:
    make_output().masks = Masks(["planted-value"])
    try:
        raise ValueError("no: planted-value")
    except ValueError as error:
        told = masked_traceback(error)
        record = logging.LogRecord("x", logging.DEBUG, "f", 1, "said %s", ("planted-value",), None)
        record.exc_info = (type(error), error, error.__traceback__)
    assert "ValueError: no: ***" in told
    assert "planted-value" not in told
    assert MaskedRecords().filter(record)
    assert "planted-value" not in logging.Formatter().format(record)
    make_output().masks = Masks()


@given(
    st.dictionaries(
        st.from_regex(r"[A-Z][A-Z0-9_]{0,8}", fullmatch=True), st.text().filter(lambda text: "\0" not in text)
    )
)
@settings(max_examples=60)
def test_the_agent_reads_back_every_env_that_is_rendered(env: dict[str, str]) -> None:
    assert read_env(dotenv.render(env)) == env
