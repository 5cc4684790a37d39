"""``ps``, ``stats``, ``limits`` and ``health``: what runs, what it takes, and how it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from longshore.tasks.command import done, task

if TYPE_CHECKING:
    from longshore.errors import LongshoreError
    from longshore.tasks.fleet import Fleet

Row = tuple[str, ...]


@task()
def ps(
    context: Any, env: str = "", app: str = "", limit: str = "", service: str = "", json: bool = False
) -> None:
    """List the containers of the release that runs, on every host."""
    from longshore.agent import wire
    from longshore.tasks.fleet import open_fleet

    def rows(host: str, value: Any) -> list[Row]:
        return [
            (host, one["service"], one["status"], ", ".join(_ports(one["ports"])), one["name"])
            for one in value["containers"]
        ]

    with open_fleet(env=env, app=app, limit=limit, json=json) as fleet:
        columns = ("host", "service", "state", "ports", "container")
        _show(fleet, wire.PS, service, columns, rows)


@task(help={"watch": "show it again every two seconds, until Ctrl-C"})
def stats(
    context: Any,
    env: str = "",
    app: str = "",
    limit: str = "",
    service: str = "",
    watch: bool = False,
    json: bool = False,
) -> None:
    """Show what containers use: CPU in cores over a second, memory, processes; and of how much."""
    import sys
    import time

    from longshore.agent import wire
    from longshore.tasks.fleet import open_fleet

    columns = ("host", "service", "cpus", "memory", "of", "", "processes", "of", "container")
    with open_fleet(env=env, app=app, limit=limit, json=json) as fleet:
        try:
            while True:
                if watch and not json and sys.stdout.isatty():
                    sys.stdout.write("\033[H\033[2J")
                _show(fleet, wire.STATS, service, columns, _stats_rows)
                if not watch:
                    break
                time.sleep(1.0)  # the figures themselves take a second
        except KeyboardInterrupt:
            if not watch:
                raise


def _stats_rows(host: str, value: Any) -> list[Row]:
    from longshore.console import bytes_text

    rows: list[Row] = []
    for one in value:
        limit = one["memory_limit"]
        rows.append(
            (
                host,
                one["service"],
                f"{one['cpus']:.2f}",
                bytes_text(one["memory"]),
                bytes_text(limit) if limit else "-",
                f"{one['memory'] / limit:.0%}" if limit else "",
                str(one["pids"]),
                str(one["pids_limit"] or "-"),
                one["container"],
            )
        )
    return rows


@task()
def limits(
    context: Any, env: str = "", app: str = "", limit: str = "", service: str = "", json: bool = False
) -> None:
    """Show what the engine itself holds containers to: CPU, memory, processes, restart, log, mounts."""
    import re

    from longshore.agent import wire
    from longshore.tasks.fleet import open_fleet
    from longshore.values import format_cpus, format_size

    def rows(host: str, value: Any) -> list[Row]:
        return [
            (
                host,
                one["service"],
                format_cpus(one["cpus"]) if one["cpus"] else "none",
                format_size(one["memory"]) if one["memory"] else "none",
                str(one["pids"] or "none"),
                one["restart"],
                _logging(one["logging"]),
                one["user"] or "root",
                ", ".join(re.sub(r"^([0-9a-f]{12})[0-9a-f]{52}:", r"\1…:", mount) for mount in one["mounts"]),
            )
            for one in value
        ]

    columns = ("host", "service", "cpus", "memory", "processes", "restart", "log", "user", "mounts")
    with open_fleet(env=env, app=app, limit=limit, json=json) as fleet:
        _show(fleet, wire.LIMITS, service, columns, rows)


@task()
def health(
    context: Any, env: str = "", app: str = "", limit: str = "", service: str = "", json: bool = False
) -> None:
    """Show each container's state, its check's last words, and whether the smoke checks' URLs answer.

    Exit code 1 when anything is not well.
    """
    from longshore.agent import wire
    from longshore.tasks.fleet import open_fleet

    def rows(host: str, value: Any) -> list[Row]:
        return [
            (
                host,
                one["service"],
                "ok" if one["ok"] else "NOT OK",
                one["why"] or one["health"] or one["state"],
                str(one["restarts"] or ""),
                " ".join(one["output"].split())[-80:],
            )
            for one in value
        ]

    columns = ("host", "service", "", "state", "restarts", "its check said")
    with open_fleet(env=env, app=app, limit=limit, json=json) as fleet:
        answers = _show(fleet, wire.HEALTH, service, columns, rows)
        well = all(one["ok"] for value in answers for one in value)
        if not service:
            well = _urls(fleet) and well
        done(0 if well else 1)


def _urls(fleet: Fleet) -> bool:
    """One try of each of the apps' smoke checks. Returns whether all is well."""
    from dataclasses import replace

    from longshore.console import seconds_text
    from longshore.tasks.services import smoke_checks
    from longshore.verify import run_checks

    well = True
    for app in fleet.chosen:
        checks = [replace(check, retries=0) for check in smoke_checks(fleet, app)]
        results = run_checks(checks)
        rows = [
            (result.name, "ok" if result.ok else "NOT OK", seconds_text(result.seconds), result.why)
            for result in results
        ]
        if rows:
            fleet.output.table(("check", "", "took", "why"), rows, title=f"{app}, from here")
        fleet.output.result(
            {"app": app, "checks": [{"name": r.name, "ok": r.ok, "why": r.why} for r in results]}
        )
        well = well and all(result.ok for result in results)
    return well


def _show(
    fleet: Fleet,
    op: str,
    service: str,
    columns: Sequence[str],
    rows: Callable[[str, Any], list[Row]],
) -> list[Any]:
    """Ask the hosts, show a table for each app, and return the answers. Raises the hosts' errors after."""
    from longshore.tasks.fleet import raise_all
    from longshore.tasks.services import ask, choose

    answers: list[Any] = []
    errors: dict[str, LongshoreError] = {}
    for app, hosts in choose(fleet, service).items():
        values, failed = ask(fleet, app, op, hosts=hosts, service=service)
        cells = [row for host, value in values.items() for row in rows(host, value)]
        if cells:
            fleet.output.table(columns, cells, title=app)
        elif values:
            fleet.output.say(f"{app}: no containers on {', '.join(values)}")
        fleet.output.result({"app": app, "hosts": values})
        answers += values.values()
        errors |= {f"{app} on {host}": error for host, error in failed.items()}
    raise_all(errors)
    return answers


def _ports(ports: Sequence[str]) -> list[str]:
    """Published ports once: the engine lists those of all addresses twice, for IPv4 and IPv6."""
    return list(dict.fromkeys(port.removeprefix("0.0.0.0:").removeprefix(":::") for port in ports))


def _logging(options: Any) -> str:
    rest = {name: value for name, value in options.items() if name != "driver"}
    size, files = rest.pop("max-size", ""), rest.pop("max-file", "")
    compressed = ", compressed" if rest.pop("compress", "") == "true" else ""
    rotation = f" {files or 1} files of {size}{compressed}" if size else ""
    more = "".join(f", {name}={value}" for name, value in sorted(rest.items()))
    return f"{options['driver']}{rotation}{more}"
