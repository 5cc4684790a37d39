"""``invoke audit``: the whole history over all hosts, and whether it is as it was written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from longshore.tasks.command import done, task

if TYPE_CHECKING:
    from collections.abc import Mapping

    from longshore.errors import LongshoreError
    from longshore.tasks.fleet import Fleet


@task(help={"verify": "only say whether each host's log is whole; exit code 1 when one isn't"})
def audit(
    context: Any, env: str = "", app: str = "", limit: str = "", verify: bool = False, json: bool = False
) -> None:
    """Show everything that was ever done to an app, oldest first, over all hosts; check the log's chain."""
    from longshore.agent import wire
    from longshore.tasks.fleet import open_fleet, raise_all

    with open_fleet(env=env, app=app, limit=limit, json=json) as fleet:
        whole = True
        failed: dict[str, LongshoreError] = {}
        for name in fleet.chosen:
            values, errors = fleet.ask(name, wire.AUDIT)
            if not verify:
                _list(fleet, name, values)
            whole &= _verdict(fleet, name, values)
            fleet.output.result({"app": name, "hosts": values})
            failed |= {f"{name} on {host}": error for host, error in errors.items()}
        raise_all(failed)
        done(0 if whole else 1)


def _list(fleet: Fleet, app: str, values: Mapping[str, Any]) -> None:
    """The lines of all hosts, by the hosts' clocks."""
    from longshore.console import seconds_text, when_text

    lines = [(host, line) for host, value in values.items() for line in value["lines"]]
    lines.sort(key=lambda pair: float(pair[1].get("at") or 0))
    rows = [
        (
            when_text(float(line.get("at") or 0)),
            host,
            str(line["line"]),
            str(line.get("release") or ""),
            str(line.get("outcome", "")),
            seconds_text(float(line["seconds"])) if line.get("seconds") else "",
            str(line.get("git", "")),
            str(line.get("by", "")),
            str(line.get("run", "")),
            str(line.get("why", "")),
        )
        for host, line in lines
    ]
    columns = ("when", "host", "line", "release", "outcome", "took", "commit", "by", "run", "why")
    if rows:
        fleet.output.table(columns, rows, title=app)


def _verdict(fleet: Fleet, app: str, values: Mapping[str, Any]) -> bool:
    """Say of each host whether its log is whole. Returns whether all are."""
    from longshore.errors import HostError

    for host, value in values.items():
        for note in value["notes"]:
            fleet.output.say(f"note: {host}: {_place(app, note)}: {note['message']}")
        for problem in value["problems"]:
            fleet.output.error(
                HostError(
                    f"the history of {_place(app, problem)}: {problem['message']}",
                    where=host,
                    hint="Ask who was on this host; a copy of the log is in its backups.",
                )
            )
        if not value["problems"]:
            count = len(value["lines"])
            what = (
                f"{count} {'line' if count == 1 else 'lines'}, all as written" if count else "no history yet"
            )
            fleet.output.say(f"{host}: {app}: {what}")
    return not any(value["problems"] for value in values.values())


def _place(app: str, found: Mapping[str, Any]) -> str:
    return f"{app}, line {found['line']}" if found["line"] else app
