"""``invoke status`` and ``invoke history``: what runs where, and how it came to that."""

from __future__ import annotations

from typing import Any

from longshore.tasks.command import done, task


@task()
def status(context: Any, env: str = "", app: str = "", limit: str = "", json: bool = False) -> None:
    """Show each host's release, containers and health; exit code 1 when something is not as committed."""
    from longshore.agent import wire
    from longshore.plan import unfinished
    from longshore.tasks.fleet import open_fleet, raise_all
    from longshore.tasks.lock import held_words, running_words

    with open_fleet(env=env, app=app, limit=limit, json=json) as fleet:
        good = True
        if fleet.environment.balancer is not None:
            from longshore.tasks.balancer import show

            good = show(fleet, limit)
        for name, hosts in fleet.chosen.items():
            project = fleet.target(name, hosts[0]).app.project
            values, errors = fleet.ask(name, wire.INSPECT, {"project": project})
            rows = []
            for host, seen in values.items():
                good = good and (seen["good"] or seen["current"] is None)
                for one in seen["containers"]:
                    rows.append((host, seen["current"] or "-", one["service"], one["status"], one["name"]))
                if not seen["containers"]:
                    rows.append((host, seen["current"] or "-", "-", "no containers", ""))
            if rows:
                fleet.output.table(("host", "release", "service", "state", "container"), rows, title=name)
            for host, seen in values.items():
                for sentence in (*seen["drift"], *(f"note: {text}" for text in seen["notes"])):
                    fleet.output.say(f"{host}: {sentence}")
                if seen["hold"]:
                    fleet.output.say(f"{host}: {held_words(seen['hold'])}")
                if seen["unfinished"]:
                    later = "" if seen["lock"] else "; the next run that takes the lock undoes it first"
                    fleet.output.say(f"{host}: {unfinished(seen)}{later}")
                elif seen["lock"]:
                    fleet.output.say(f"{host}: {running_words(seen['lock'])}")
            fleet.output.result({"app": name, "hosts": values})
            raise_all(errors)
        done(0 if good else 1)


@task(help={"count": "how many lines a host"})
def history(
    context: Any, env: str = "", app: str = "", limit: str = "", count: str = "20", json: bool = False
) -> None:
    """Show the releases of an app on each host: when, by whom, how it ended, and why."""
    from longshore.agent import wire
    from longshore.console import seconds_text, when_text
    from longshore.tasks.fleet import open_fleet, raise_all
    from longshore.tasks.words import whole

    with open_fleet(env=env, app=app, limit=limit, json=json) as fleet:
        lines_wanted = whole(count, "--count", least=1)
        for name in fleet.chosen:
            values, errors = fleet.ask(name, wire.HISTORY, {"limit": lines_wanted})
            rows = [
                (
                    host,
                    when_text(line["at"]),
                    line["release"],
                    line["outcome"],
                    seconds_text(line["seconds"]) if line["seconds"] else "",
                    line["git"],
                    line["by"],
                    line["why"],
                )
                for host, lines in values.items()
                for line in lines
            ]
            columns = ("host", "when", "release", "outcome", "took", "commit", "by", "why")
            if rows:
                fleet.output.table(columns, rows, title=name)
            elif values:
                fleet.output.say(f"{name}: no releases yet on {', '.join(values)}")
            fleet.output.result({"app": name, "hosts": values})
            raise_all(errors)
