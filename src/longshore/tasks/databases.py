"""``psql``, ``db-shell``, ``db-check`` and ``migrate``: the databases that an app has, and its schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from longshore.tasks.command import done, task

if TYPE_CHECKING:
    from collections.abc import Mapping

    from longshore.inventory.model import Database, Migrate
    from longshore.tasks.fleet import Fleet

_DECLARE = "Declare it in the inventory, under the app: databases: {main: {kind: postgres, service: db}}."

_DATABASE = {"database": "its name under databases: in the inventory, when there are several"}


@task(help={**_DATABASE, "host": "on this host (default: the first that runs it)"})
def psql(
    context: Any, env: str = "", app: str = "", limit: str = "", database: str = "", host: str = ""
) -> None:
    """Open psql in an app's PostgreSQL. With a part after --, psql gets it: invoke psql -- -c 'SELECT 1'."""
    _client(env=env, app=app, limit=limit, database=database, host=host, kind="postgres")


@task(help={**_DATABASE, "host": "on this host (default: the first that runs it)"})
def db_shell(
    context: Any, env: str = "", app: str = "", limit: str = "", database: str = "", host: str = ""
) -> None:
    """Open the client of an app's database: psql, mysql or redis-cli. What follows -- is the client's."""
    _client(env=env, app=app, limit=limit, database=database, host=host, kind="")


def _client(*, env: str, app: str, limit: str, database: str, host: str, kind: str) -> None:
    from longshore.console.passthrough import Passthrough
    from longshore.daily.databases import client_command
    from longshore.daily.execute import execute
    from longshore.tasks.fleet import open_fleet
    from longshore.tasks.services import choose_one, place
    from longshore.tasks.terminal import interactive
    from longshore.tasks.words import after_dashes

    with open_fleet(env=env, app=app, limit=limit) as fleet:
        name, wanted = pick(databases_of(fleet), database=database, kind=kind)
        _, hosts = choose_one(fleet, wanted.service, host=host, app=name)
        where = place(fleet, name, hosts[0], wanted.service)
        words = after_dashes()
        command = client_command(wanted, *words)
        if not words:
            task = "psql" if kind else "db-shell"
            done(interactive(where, command, instead=f"invoke {task} --env {env} -- COMMAND"))
            return
        with Passthrough(fleet.output.masks.text) as output:
            code = execute(where.link, where.container, command, on_output=output.write)
        done(code)


def databases_of(fleet: Fleet) -> dict[str, Mapping[str, Database]]:
    """The databases of every chosen app that has any."""
    found = {app: fleet.target(app, hosts[0]).app.databases for app, hosts in fleet.chosen.items()}
    return {app: databases for app, databases in found.items() if databases}


def pick(
    found: Mapping[str, Mapping[str, Database]], *, database: str = "", kind: str = ""
) -> tuple[str, Database]:
    """The one database that is meant, and its app. Raises ``LongshoreError`` with those that there are."""
    from longshore.errors import LongshoreError

    all_of = [(app, one) for app, databases in found.items() for one in databases.values()]
    fit = [
        (app, one)
        for app, one in all_of
        if (not kind or one.kind == kind) and (not database or one.name == database)
    ]
    if len(fit) == 1:
        return fit[0]
    known = ", ".join(f"{one.name} ({one.kind}, of {app})" for app, one in fit or all_of)
    if fit:
        raise LongshoreError("there are several databases", hint=f"Say --database or --app: {known}.")
    what = f"{kind or ''} database".strip() + (f" named {database!r}" if database else "")
    raise LongshoreError(
        f"there is no {what}",
        hint=f"There are: {known}." if known else _DECLARE,
    )


@task()
def db_check(context: Any, env: str = "", app: str = "", limit: str = "", json: bool = False) -> None:
    """Connect to every database of the app and run a query. Exit code 1 when one fails."""
    from longshore.console import seconds_text
    from longshore.errors import LongshoreError
    from longshore.tasks.fleet import open_fleet

    with open_fleet(env=env, app=app, limit=limit, json=json) as fleet:
        found = databases_of(fleet)
        if not found:
            raise LongshoreError(
                f"{' and '.join(fleet.chosen)} has no databases in the inventory",
                hint=_DECLARE,
            )
        well = True
        for name, databases in found.items():
            checked = _check(fleet, name, databases)
            rows = [
                (
                    one["host"],
                    one["database"],
                    one["kind"],
                    "ok" if one["ok"] else "FAILED",
                    seconds_text(one["seconds"]),
                    one["why"],
                )
                for one in checked
            ]
            fleet.output.table(("host", "database", "kind", "", "took", "why"), rows, title=name)
            fleet.output.result({"app": name, "databases": checked})
            well = well and all(one["ok"] for one in checked)
        done(0 if well else 1)


def _check(fleet: Fleet, app: str, databases: Mapping[str, Database]) -> list[dict[str, Any]]:
    """Check every database on every host that should run it; a host's failure is its row's ``why``."""
    from longshore.daily.databases import check
    from longshore.tasks.services import place, services_of

    placed = services_of(fleet, app)

    def on(host: str, one: Database) -> dict[str, Any]:
        where = place(fleet, app, host, one.service)
        result = check(where.link, where.container, one)
        return {"ok": result.ok, "why": result.why, "seconds": round(result.seconds, 3)}

    rows = []
    for name, one in databases.items():
        about = {"database": name, "kind": one.kind, "service": one.service}
        hosts = [host for host in fleet.chosen[app] if one.service in (placed[host] or {one.service})]
        values, errors = fleet.each(hosts, lambda host, one=one: on(host, one))  # type: ignore[misc]
        for host in hosts:
            failed = {"ok": False, "why": errors[host].message, "seconds": 0.0} if host in errors else {}
            rows.append({"host": host, **about, **(failed or values[host])})
        if not hosts:
            why = f"no chosen host runs the service {one.service}"
            rows.append({"host": "-", **about, "ok": False, "why": why, "seconds": 0.0})
    return rows


@task(help={"history": "show the schema's history instead (the inventory's migrate.history)"})
def migrate(
    context: Any,
    env: str = "",
    app: str = "",
    limit: str = "",
    history: bool = False,
    why: str = "",
    json: bool = False,
) -> None:
    """Run the app's migration once, in a new container of the release that runs. Deploy does it by itself."""
    from longshore.errors import LongshoreError
    from longshore.tasks.fleet import open_fleet

    with open_fleet(env=env, app=app, limit=limit, json=json, why=why) as fleet:
        found = {name: fleet.target(name, hosts[0]).app.migrate for name, hosts in fleet.chosen.items()}
        wanted = {name: one for name, one in found.items() if one}
        if not wanted:
            raise LongshoreError(
                f"{' and '.join(found)} has no migration in the inventory",
                hint="Declare it under the app: migrate: {service: api, command: [alembic, upgrade, head]}.",
            )
        for name, one in wanted.items():
            code = _migrate(fleet, name, one, history=history)
            if code:
                done(code)


def _migrate(fleet: Fleet, app: str, migrate: Migrate, *, history: bool) -> int:
    """Run it on the first host that has the service; returns the command's exit code."""
    from longshore.agent import wire
    from longshore.errors import LongshoreError
    from longshore.tasks.acting import locked
    from longshore.tasks.services import choose

    if history and not migrate.history:
        raise LongshoreError(
            f"{app} does not say how to show its schema's history",
            hint="Declare it under the app: migrate: {history: [alembic, history]}.",
        )
    host = choose(fleet, migrate.service, app=app)[app][0]
    command = migrate.history if history else migrate.command
    args = {
        "app": app,
        "service": migrate.service,
        "command": list(command),
        "run": fleet.facts.run,
        "timeout": migrate.timeout,
        "finish": not history,
    }

    def tell(event: Mapping[str, Any]) -> None:
        if event["kind"] == "output":
            fleet.output.log(host, migrate.service, event["line"])

    if history:
        value = fleet.session(host).call(wire.RUN, args, on_event=tell)
    else:
        value = locked(fleet, app, host, wire.RUN, args, on_event=tell)
    code = int(value["code"])
    fleet.output.result({"app": app, "host": host, "command": list(command), "code": code})
    if code:
        fleet.output.say(f"{app}: `{' '.join(command)}` ended with code {code} on {host}")
    elif not history:
        fleet.output.say(f"{app}: migrated on {host}")
    return code
