"""``logs``, ``exec``, ``shell``, ``run`` and ``pip-list``: talking to what runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from longshore.tasks.command import done, task

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from longshore.daily.logs import Follower, LogLine, Wanted
    from longshore.errors import LongshoreError
    from longshore.remote import Link
    from longshore.tasks.fleet import Fleet

_TAIL = 100
"""Lines of each container that ``logs`` shows when nothing else was said."""

_PACKAGES = (
    "import importlib.metadata as m, json;"
    "print(json.dumps(sorted({(d.metadata['Name'], d.version) for d in m.distributions()}, "
    "key=lambda one: one[0].lower())))"
)
"""What `pip list` prints, asked of Python itself: an image of one stage has pip, a slim one often hasn't."""


@task(
    help={
        "follow": "go on with new lines until Ctrl-C, also through a restart or a deploy",
        "f": "the same as --follow",
        "since": "only lines since then: 10m, 2h, or 2026-01-31T08:00 (your own time zone)",
        "tail": f"at most so many lines of each container, or all (default: {_TAIL}; all with --since)",
    }
)
def logs(
    context: Any,
    env: str = "",
    app: str = "",
    limit: str = "",
    service: str = "",
    follow: bool = False,
    f: bool = False,
    since: str = "",
    tail: str = "",
    json: bool = False,
) -> None:
    """Show what containers have written, of all hosts in one, in the order of its time."""
    from longshore.tasks.fleet import open_fleet

    with open_fleet(env=env, app=app, limit=limit, json=json) as fleet:
        try:
            from_when, most = _since(since), _tail(tail, bool(since))
            failed = _logs(fleet, service, follow=follow or f, since=from_when, tail=most)
        except KeyboardInterrupt:
            if not (follow or f):
                raise
            failed = False
    done(1 if failed else 0)


def _logs(fleet: Fleet, service: str, *, follow: bool, since: float | None, tail: int | None) -> bool:
    """Show the logs of every app; with ``follow`` go on. Returns whether a host could not be read."""
    from longshore.agent import wire
    from longshore.daily import logs as reading
    from longshore.tasks.services import ask, choose, mask_also

    failed: list[LongshoreError] = []
    jobs: list[tuple[Link, Wanted]] = []
    seen: list[list[LogLine]] = []
    for app, hosts in choose(fleet, service).items():
        found, errors = ask(fleet, app, wire.PS, {"secrets": True}, hosts=hosts, service=service)
        mask_also(fleet, found)
        services = (service,) if service else ()
        wanted = {
            host: reading.Wanted(value["project"], services, since, tail) for host, value in found.items()
        }
        values, more = fleet.each(wanted, _reader(fleet, wanted))
        failed += [*errors.values(), *more.values()]
        fleet.output.expect_logs((host, name) for host in values for name in found[host]["services"])
        jobs += [(fleet.links.link(host), wanted[host]) for host in values]
        seen += values.values()
    for error in failed:
        fleet.output.error(error)
    before = list(reading.merge(seen))
    for line in before:
        fleet.output.log(line.host, line.service, line.text, container=line.container, at=line.at)
    if follow and jobs and not fleet.output.deserted:
        failed += _follow(fleet, reading.Follower(jobs, before))
    return bool(failed)


def _reader(fleet: Fleet, wanted: Mapping[str, Wanted]) -> Callable[[str], list[LogLine]]:
    from longshore.daily.logs import read

    return lambda host: read(fleet.links.link(host), wanted[host])


def _follow(fleet: Fleet, follower: Follower) -> list[LongshoreError]:
    """Show lines as they come, until no host is left. Returns what went wrong on the way."""
    from longshore.errors import LongshoreError

    failed: list[LongshoreError] = []
    try:
        for item in follower.lines():
            if isinstance(item, LongshoreError):
                failed.append(item)
                fleet.output.error(item)
            else:
                fleet.output.log(item.host, item.service, item.text, container=item.container, at=item.at)
            if fleet.output.deserted:
                break
    finally:
        follower.stop()
    return failed


def _since(text: str) -> float | None:
    """``10m`` or a date as seconds since the epoch. Raises ``LongshoreError``."""
    import time
    from datetime import datetime

    from longshore.errors import LongshoreError
    from longshore.values import parse_duration

    if not text:
        return None
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        pass
    try:
        return time.time() - parse_duration(text)
    except ValueError as error:
        raise LongshoreError(str(error), where="--since", hint="Or give a date: 2026-01-31T08:00.") from None


def _tail(text: str, has_since: bool) -> int | None:
    from longshore.errors import LongshoreError

    if text == "all" or (not text and has_since):
        return None
    if text and not (text.isascii() and text.isdigit()):
        raise LongshoreError(f"{text!r} is not a number of lines", where="--tail", hint="Or write all.")
    return int(text or _TAIL)


@task(
    name="exec",
    help={
        "service": "the service in whose container the command runs",
        "host": "on this host (default: the first that runs the service)",
        "all": "on every host, one container each",
        "user": "as this user of the container: name or uid",
    },
)
def exec_(
    context: Any,
    service: str,
    env: str = "",
    app: str = "",
    limit: str = "",
    host: str = "",
    all: bool = False,
    user: str = "",
    json: bool = False,
) -> None:
    """Run a command in a running container: invoke exec api --env E -- ls -l. Its exit code is ours."""
    from longshore.tasks.fleet import open_fleet, raise_all
    from longshore.tasks.services import choose_one
    from longshore.tasks.words import command_words

    with open_fleet(env=env, app=app, limit=limit, json=json) as fleet:
        command = command_words(f"invoke exec {service} --env {env or 'E'} -- ls -l")
        name, hosts = choose_one(fleet, service, host=host)
        chosen = hosts if all else hosts[:1]
        results, errors = _execute(fleet, name, service, chosen, command, user=user, apart=all or json)
        fleet.output.result({"app": name, "service": service, "hosts": results})
        raise_all(errors)
        done(next((one["code"] for one in results.values() if one["code"]), 0))


def _execute(
    fleet: Fleet,
    app: str,
    service: str,
    hosts: tuple[str, ...],
    command: tuple[str, ...],
    *,
    user: str,
    apart: bool,
) -> tuple[dict[str, dict[str, Any]], dict[str, LongshoreError]]:
    """Run the command on each host. ``apart``: lines with the host's name, not the bare output."""
    from functools import partial

    from longshore.console.passthrough import Passthrough
    from longshore.daily.execute import execute
    from longshore.daily.logs import Lines
    from longshore.tasks.services import place

    bare = Passthrough(lambda text: fleet.output.masks.text(text))  # more are known once a host is asked

    def on(host: str) -> dict[str, Any]:
        where = place(fleet, app, host, service)
        lines = {
            is_error: Lines(partial(fleet.output.log, host, service, stream=stream))
            for is_error, stream in ((False, "stdout"), (True, "stderr"))
        }
        code = execute(
            where.link,
            where.container,
            command,
            user=user,
            on_output=(lambda data, is_error: lines[is_error].write(data)) if apart else bare.write,
        )
        for one in lines.values():
            one.close()
        return {"container": where.container, "code": code}

    with bare:
        return fleet.each(hosts, on)


@task(
    help={
        "service": "the service in whose container the shell runs",
        "host": "on this host (default: the first that runs the service)",
        "user": "as this user of the container: name or uid",
    }
)
def shell(
    context: Any,
    service: str,
    env: str = "",
    app: str = "",
    limit: str = "",
    host: str = "",
    user: str = "",
) -> None:
    """Open a shell in a running container: bash where it has one, else sh."""
    from longshore.tasks.fleet import open_fleet
    from longshore.tasks.services import choose_one, place
    from longshore.tasks.terminal import interactive

    with open_fleet(env=env, app=app, limit=limit) as fleet:
        name, hosts = choose_one(fleet, service, host=host)
        where = place(fleet, name, hosts[0], service)
        best = "if command -v bash >/dev/null 2>&1; then exec bash; else exec sh; fi"
        done(interactive(where, ["sh", "-c", best], user=user))


@task(
    help={
        "service": "the service whose image, environment and volumes the container gets",
        "host": "on this host (default: the first that runs the service)",
        "timeout": "end it after so long (default: a day)",
    }
)
def run(
    context: Any,
    service: str,
    env: str = "",
    app: str = "",
    limit: str = "",
    host: str = "",
    timeout: str = "24h",
    json: bool = False,
) -> None:
    """Run a command in a new container of the same release and env, removed after: invoke run api -- CMD.

    Its exit code is ours. Ctrl-C removes the container.
    """
    from longshore.agent import wire
    from longshore.tasks.fleet import open_fleet
    from longshore.tasks.services import choose_one
    from longshore.tasks.words import command_words, duration

    with open_fleet(env=env, app=app, limit=limit, json=json) as fleet:
        command = command_words(f"invoke run {service} --env {env or 'E'} -- python -m this")
        seconds = duration(timeout, "--timeout")
        name, hosts = choose_one(fleet, service, host=host)
        args = {
            "app": name,
            "service": service,
            "command": list(command),
            "run": fleet.facts.run,
            "timeout": seconds,
        }

        def tell(event: Mapping[str, Any]) -> None:
            if event["kind"] == "output" and json:
                fleet.output.log(hosts[0], service, event["line"])
            elif event["kind"] == "output":
                fleet.output.say(event["line"])

        value = fleet.session(hosts[0]).call(wire.RUN, args, on_event=tell)
        fleet.output.result({"app": name, "service": service, "host": hosts[0], **value})
        done(int(value["code"]))


@task(help={"service": "a service that runs Python"})
def pip_list(
    context: Any, service: str, env: str = "", app: str = "", limit: str = "", json: bool = False
) -> None:
    """List the Python packages in a service's container, and where hosts differ."""
    from longshore.tasks.fleet import open_fleet, raise_all
    from longshore.tasks.services import choose_one

    with open_fleet(env=env, app=app, limit=limit, json=json) as fleet:
        name, hosts = choose_one(fleet, service)
        values, errors = fleet.each(hosts, lambda host: _packages(fleet, name, host, service))
        versions: dict[tuple[str, str], list[str]] = {}
        for host, packages in values.items():
            for package, version in packages.items():
                versions.setdefault((package, version), []).append(host)
        rows = [
            (package, version, "all" if len(on) == len(values) else ", ".join(on))
            for (package, version), on in sorted(versions.items(), key=lambda item: item[0][0].lower())
        ]
        if rows:
            fleet.output.table(("package", "version", "hosts"), rows, title=f"{service} of {name}")
        fleet.output.result({"app": name, "service": service, "hosts": values})
        raise_all(errors)


def _packages(fleet: Fleet, app: str, host: str, service: str) -> dict[str, str]:
    """Package to version, in a container of the service. Raises ``LongshoreError``."""
    import json

    from longshore.daily.execute import output_of
    from longshore.errors import HostError
    from longshore.tasks.services import place

    where = place(fleet, app, host, service)
    said = ""
    for python in ("python", "python3"):
        code, out, err = output_of(where.link, where.container, [python, "-c", _PACKAGES])
        if code == 0:
            return dict(json.loads(out))
        said = (err or out).strip().splitlines()[-1] if (err or out).strip() else f"exit code {code}"
    raise HostError(f"no Python answers in {where.container}: {said}", where=host)
