"""Webhooks hear how a run ended; one that fails is a sentence without its URL, and no secret is sent."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.inventory_project import SHOP, loaded

from longshore.console import Masks
from longshore.errors import DeployError, HostError, LongshoreError
from longshore.inventory.explaining import mask
from longshore.inventory.hidden import masked_values
from longshore.inventory.model import Webhook
from longshore.rollout import Facts, HostReport, Report
from longshore.rollout.notify import Outcome, notify, outcome_of, payload_of, text_of

FACTS = Facts("run1", "ann@laptop", "abc123", "a new front page")


def _outcome(report: Report, *, rollback: bool = False) -> Outcome:
    return outcome_of(report, environment="prod", facts=FACTS, rollback=rollback, url="https://shop.example")


def _host(name: str, state: Any, error: LongshoreError | None = None) -> HostReport:
    return HostReport(name, state, "a" * 12, error)


GOOD = Report("shop", (_host("h1", "deployed"), _host("h2", "nothing to do")), 6.2)


@pytest.mark.parametrize(
    ("report", "rollback", "outcome"),
    [
        (GOOD, False, "deployed"),
        (GOOD, True, "rolled back"),
        (
            Report("shop", (_host("h1", "taken back"), _host("h2", "failed")), 3, taken_back=("h1", "h2")),
            False,
            "taken back",
        ),
        (Report("shop", (_host("h1", "failed"),), 3, taken_back=("h1",)), False, "taken back"),
        (Report("shop", (_host("h1", "failed"), _host("h2", "unchanged")), 3), False, "failed"),
        # Mixed is worse than taken back, whatever went back.
        (
            Report("shop", (_host("h1", "deployed"), _host("h2", "failed")), 3, taken_back=("h2",)),
            False,
            "failed",
        ),
        (Report("shop", (), 0, problems=(DeployError("nothing was changed"),)), False, "failed"),
    ],
)
def test_what_a_report_comes_to(report: Report, rollback: bool, outcome: str) -> None:
    assert _outcome(report, rollback=rollback).outcome == outcome


def test_the_text_says_what_where_who_how_long_and_why() -> None:
    error = HostError("api has stopped: it exited with code 3", where="h2")
    report = Report(
        "shop", (_host("h1", "taken back"), _host("h2", "failed", error)), 6.2, taken_back=("h1", "h2")
    )
    assert text_of(_outcome(report)) == (
        "⚠️ shop (prod): a new release was taken back; aaaaaaaaaaaa runs\n"
        "by ann@laptop · commit abc123 · hosts: 1 taken back, 1 failed · 6.2 s\n"
        "why: a new front page\n"
        "h2: api has stopped: it exited with code 3."
    )
    assert "https://shop.example" in text_of(_outcome(GOOD))


def test_slack_gets_a_text_with_its_characters_escaped_and_json_everything() -> None:
    outcome = replace(_outcome(GOOD), error="a <b> & c", outcome="failed", host="h1")
    slack = payload_of(Webhook("https://x.example"), outcome)
    assert set(slack) == {"text"}
    assert slack["text"].endswith("a &lt;b&gt; &amp; c")
    everything = payload_of(Webhook("https://x.example", format="json"), outcome)
    assert (everything["host"], everything["error"], everything["git"]) == ("h1", "a <b> & c", "abc123")
    assert everything["hosts"] == {"h1": "deployed", "h2": "nothing to do"}


class _Receiver(http.server.BaseHTTPRequestHandler):
    got: list[tuple[str, dict[str, str], Any]]
    status = 200

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.got.append((self.path, dict(self.headers), json.loads(body)))
        self.send_response(self.status)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def _receiver(status: int = 200) -> Iterator[tuple[str, list[tuple[str, dict[str, str], Any]]]]:
    handler = type("Receiver", (_Receiver,), {"got": [], "status": status})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", handler.got  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()


def test_it_is_posted_with_its_headers_and_secrets_are_masked() -> None:
    outcome = replace(_outcome(GOOD), error="login with hunter22 failed")
    with _receiver() as (url, got):
        webhook = Webhook(f"{url}/services/T0", format="json", headers={"Authorization": "Bearer t"})
        assert notify([webhook], outcome, Masks(["hunter22"])) == ()
    [(path, headers, body)] = got
    assert (path, headers["Authorization"], headers["Content-Type"]) == (
        "/services/T0",
        "Bearer t",
        "application/json",
    )
    assert body["error"] == "login with *** failed"


def test_a_secret_is_masked_also_where_the_text_is_cut_and_in_slacks_writing() -> None:
    secret = "<hunter22&more>"
    for before in (984, 990, 997):
        outcome = replace(_outcome(GOOD), error="x" * before + secret)
        for kind in ("json", "slack"):
            with _receiver() as (url, got):
                notify([Webhook(url, format=kind)], outcome, Masks([secret]))
            [(_, _, body)] = got
            assert "hunter" not in body["text"] and "hunter" not in body.get("error", "")


def test_only_who_asked_for_this_outcome_is_told() -> None:
    with _receiver() as (url, got):
        webhooks = [Webhook(f"{url}/bad", outcomes=("failed", "taken back")), Webhook(f"{url}/all")]
        notify(webhooks, _outcome(GOOD), Masks())
    assert [path for path, _, _ in got] == ["/all"]


def test_one_that_fails_is_a_sentence_without_its_url_and_a_redirect_is_not_followed() -> None:
    with _receiver(status=307) as (url, got):
        sentences = notify([Webhook(f"{url}/services/secret")], _outcome(GOOD), Masks())
    assert sentences == ("a webhook at 127.0.0.1 was not told: it answered 307",)
    assert len(got) == 1
    assert notify([Webhook(f"{url}/services/secret")], _outcome(GOOD), Masks()) == (
        "a webhook at 127.0.0.1 was not told: Connection refused",
    )


def test_one_that_never_answers_is_given_up() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        webhook = Webhook(f"http://127.0.0.1:{silent.getsockname()[1]}/secret")
        assert notify([webhook], _outcome(GOOD), Masks(), timeout=0.2) == (
            "a webhook at 127.0.0.1 was not told: no answer within 0.2 s",
        )


def test_the_url_and_the_headers_of_the_inventory_are_secrets(tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("HOOK_URL", "https://hooks.example.org/services/T0/B0/xyzzy")
    settings = """
    longshore:
      apps:
        shop:
          notify:
            - webhook: "{{ lookup('env', 'HOOK_URL') }}"
              outcomes: failed
              headers: {X-Key: plugh-plugh}
    """
    files = {
        "inventory/prod.yml": SHOP,
        "inventory/prod/group_vars/all.yml": settings,
    }
    environment = loaded(tmp_path, files)
    [webhook] = environment.targets["shop", "h1"].app.notify
    assert webhook.outcomes == ("failed",)
    assert "xyzzy" not in repr(webhook)
    masks = Masks(masked_values(environment))
    assert "xyzzy" not in masks.text(f"POST {webhook.url} failed: /services/T0/B0/xyzzy")
    assert "plugh" not in masks.text("X-Key: plugh-plugh")


def test_explaining_the_settings_shows_neither_the_url_nor_the_headers() -> None:
    hook = {"webhook": "https://hooks.example.org/T0/xyzzy", "headers": {"X-Tok": "plugh"}, "format": "json"}
    check = {"url": "/", "headers": {"Authorization": "Bearer plugh", "Accept": "text/html"}}
    assert mask("notify", [hook]) == [{"webhook": "***", "headers": {"X-Tok": "***"}, "format": "json"}]
    assert mask("smoke", [check])[0]["headers"] == {"Authorization": "***", "Accept": "text/html"}
