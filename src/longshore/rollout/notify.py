"""Telling people how a run ended, by webhook. A webhook that fails is a warning, and changes nothing."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from longshore.agent.shorten import first
from longshore.console import Masks, seconds_text
from longshore.inventory.model import Webhook
from longshore.records import dataclass
from longshore.rollout.moves import Facts, Report

_TIMEOUT = 10.0
_LONGEST = 1000
"""Characters of an error that are sent."""
_MARKS = {"deployed": "✅", "rolled back": "↩️", "taken back": "⚠️", "failed": "❌"}


@dataclass(frozen=True)
class Outcome:
    """How a run of one app ended. ``hosts`` by state; ``error`` is the first sentence of what went wrong,
    ``host`` where (empty: nowhere in particular). ``seconds`` it took."""

    app: str
    environment: str
    outcome: str
    releases: tuple[str, ...]
    facts: Facts
    seconds: float
    hosts: Mapping[str, str]
    host: str = ""
    error: str = ""
    url: str = ""


def outcome_of(report: Report, *, environment: str, facts: Facts, rollback: bool, url: str = "") -> Outcome:
    """What a report comes to: ``deployed``, ``rolled back``, ``taken back`` or ``failed``."""
    failed = next((one for one in report.hosts if one.error is not None), None)
    problem = str(failed.error) if failed else next((str(one) for one in report.problems), "")
    deployed = [one for one in report.hosts if one.state in ("deployed", "rolled back")]
    if report.ok:
        how = "rolled back" if rollback else "deployed"
    else:
        how = "taken back" if report.taken_back and not deployed else "failed"
    return Outcome(
        app=report.app,
        environment=environment,
        outcome=how,
        releases=tuple(sorted({one.release for one in deployed or report.hosts if one.release})),
        facts=facts,
        seconds=report.seconds,
        hosts={one.host: one.state for one in report.hosts},
        host=failed.host if failed else "",
        error=problem,
        url=url,
    )


def text_of(outcome: Outcome) -> str:
    """A sentence or two for people."""
    releases = ", ".join(outcome.releases)
    verb = {
        "deployed": f"{releases} deployed",
        "rolled back": f"rolled back to {releases}",
        "taken back": f"a new release was taken back; {releases or 'nothing'} runs",
        "failed": "the run failed",
    }[outcome.outcome]
    lines = [f"{_MARKS[outcome.outcome]} {outcome.app} ({outcome.environment}): {verb}"]
    counts: dict[str, int] = {}
    for state in outcome.hosts.values():
        counts[state] = counts.get(state, 0) + 1
    hosts = ", ".join(f"{count} {state}" for state, count in counts.items())
    facts = outcome.facts
    lines.append(
        " · ".join(
            part
            for part in (
                f"by {facts.by}",
                f"commit {facts.git}" if facts.git else "",
                f"hosts: {hosts}" if hosts else "",
                seconds_text(outcome.seconds) if outcome.seconds else "",
                outcome.url if outcome.outcome in ("deployed", "rolled back") else "",
            )
            if part
        )
    )
    if facts.why:
        lines.append(f"why: {facts.why}")
    if outcome.error:
        lines.append(first(outcome.error, _LONGEST))
    return "\n".join(lines)


def payload_of(webhook: Webhook, outcome: Outcome) -> dict[str, Any]:
    """What is posted, as JSON. For Slack a text, in which its three special characters are escaped
    (api.slack.com: formatting text for app surfaces)."""
    text = text_of(outcome)
    if webhook.format == "slack":
        return {"text": text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")}
    facts = outcome.facts
    return {
        "app": outcome.app,
        "environment": outcome.environment,
        "outcome": outcome.outcome,
        "releases": list(outcome.releases),
        "run": facts.run,
        "by": facts.by,
        "git": facts.git,
        "why": facts.why,
        "seconds": round(outcome.seconds, 3),
        "hosts": dict(outcome.hosts),
        "host": outcome.host,
        "error": first(outcome.error, _LONGEST),
        "url": outcome.url,
        "text": text,
    }


def notify(
    webhooks: Iterable[Webhook], outcome: Outcome, masks: Masks, *, timeout: float = _TIMEOUT
) -> tuple[str, ...]:
    """Post to those who want to hear of this outcome, all at once; secrets are masked in what is sent.

    Returns a sentence for each webhook that could not be told, without its URL. ``timeout`` in seconds.
    """
    wanted = [webhook for webhook in webhooks if outcome.outcome in webhook.outcomes]
    if not wanted:
        return ()
    # Before it is shortened, or written in Slack's way.
    outcome = replace(outcome, error=masks.text(outcome.error))
    with ThreadPoolExecutor(max_workers=min(8, len(wanted))) as pool:
        found = pool.map(lambda one: _post(one, masks.value(payload_of(one, outcome)), timeout), wanted)
        return tuple(
            f"a webhook at {urlsplit(webhook.url).hostname} was not told: {why}"
            for webhook, why in zip(wanted, found, strict=True)
            if why
        )


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A POST that is sent elsewhere would become a GET, and its headers would go along."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def _post(webhook: Webhook, payload: Any, timeout: float) -> str:
    """Empty when it was taken, else why not."""
    from http.client import HTTPException

    headers = {"Content-Type": "application/json", "User-Agent": "longshore", **webhook.headers}
    opener = urllib.request.build_opener(_NoRedirect)
    try:
        request = urllib.request.Request(  # noqa: S310 - the inventory takes http and https only
            webhook.url, data=json.dumps(payload).encode(), headers=headers, method="POST"
        )
        with opener.open(request, timeout=timeout):
            return ""
    except urllib.error.HTTPError as error:
        with error:
            return f"it answered {error.code}"
    except TimeoutError:
        return f"no answer within {timeout:g} s"
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            return f"no answer within {timeout:g} s"
        # Not the error's own words where they could hold the URL.
        return getattr(reason, "strerror", None) or type(reason).__name__
