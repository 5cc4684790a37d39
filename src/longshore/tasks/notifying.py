"""After a run: the webhooks of the app hear how it ended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from longshore.errors import LongshoreError, Problems

if TYPE_CHECKING:
    from longshore.rollout import Report
    from longshore.tasks.fleet import Fleet


def tell_webhooks(fleet: Fleet, report: Report, *, rollback: bool = False) -> None:
    """Tell the app's webhooks how the run ended; nobody hears of one that had nothing to do."""
    if all(one.state == "nothing to do" for one in report.hosts) and not report.problems:
        return
    target = fleet.target(report.app, fleet.chosen[report.app][0])
    if not target.app.notify:
        return
    from longshore.rollout.notify import notify, outcome_of

    name = fleet.environment.name
    url = target.app.url or ""
    outcome = outcome_of(report, environment=name, facts=fleet.facts, rollback=rollback, url=url)
    for sentence in notify(target.app.notify, outcome, fleet.output.masks):
        fleet.output.say(f"warning: {sentence}")


@contextmanager
def failures_told(fleet: Fleet, app: str) -> Iterator[None]:
    """A run that ends before it touches a host has failed, too: that is told, and raised again."""
    try:
        yield
    except LongshoreError as error:
        from longshore.rollout import Report

        problem = error.problems[0] if isinstance(error, Problems) and error.problems else error
        tell_webhooks(fleet, Report(app, (), 0.0, problems=(problem,)))
        raise
