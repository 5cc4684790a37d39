"""``proxy.status``, ``proxy.logs`` and ``proxy.restart``: the proxy of each host, one for all its apps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from longshore.tasks.command import done, task

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from longshore.tasks.fleet import Fleet


@task()
def status(context: Any, env: str = "", limit: str = "", json: bool = False) -> None:
    """Show each host's proxy, what it answers, and from which containers; exit code 1 when it can't.

    It can't where a route has no container that is up, or a certificate that was ordered isn't there.
    """
    from longshore.tasks.balancing import balancers
    from longshore.tasks.fleet import open_fleet, raise_all

    with open_fleet(env=env, json=json) as fleet:
        standing = balancers(fleet.environment, "")
        values, errors = _ask(fleet, {"do": "status"}, hosts=_proxies(fleet, limit))
        for host, value in values.items():
            show_proxy(fleet, host, value, by="hosts" if host in standing else "containers")
        fleet.output.result({"hosts": values})
        raise_all(errors)
        well = all(is_well(route) for value in values.values() for route in value["routes"])
        done(0 if well else 1)


@task(help={"tail": "at most so many lines of each proxy"})
def logs(context: Any, env: str = "", limit: str = "", tail: str = "100", json: bool = False) -> None:
    """Show what the proxies have written: troubles, and with longshore.proxy.access_log each request."""
    from longshore.tasks.fleet import open_fleet, raise_all
    from longshore.tasks.words import whole

    with open_fleet(env=env, json=json) as fleet:
        lines = whole(tail, "--tail", least=1)
        values, errors = _ask(fleet, {"do": "logs", "lines": lines}, hosts=_proxies(fleet, limit))
        fleet.output.expect_logs((host, "proxy") for host in values)
        for host, value in values.items():
            for line in value["lines"]:
                fleet.output.log(host, "proxy", line)
            if not value["lines"]:
                fleet.output.say(f"{host}: {'nothing written' if value['proxy'] else 'no proxy runs here'}")
        raise_all(errors)


@task()
def restart(context: Any, env: str = "", limit: str = "", json: bool = False) -> None:
    """Start each proxy anew, one host after the other: the new one beside the old, which then goes."""
    from longshore.tasks.fleet import open_fleet, raise_all

    with open_fleet(env=env, json=json) as fleet:
        hosts = _proxies(fleet, limit)
        for host in hosts:
            values, errors = _ask(fleet, {"do": "restart"}, hosts=(host,))
            raise_all(errors)
            made = values[host]["proxy"]
            fleet.output.step(host, "restarted", f"{made['container']} ({made['version']})")
            _problems(fleet, host, values[host])
        fleet.output.result({"hosts": list(hosts)})


def _proxies(fleet: Fleet, limit: str) -> tuple[str, ...]:
    """The hosts with a Traefik of ours that ``limit`` stands for; the balancer's, too."""
    from longshore.tasks.balancing import with_balancers

    return with_balancers(fleet, limit)


def _ask(
    fleet: Fleet, args: Mapping[str, Any], *, hosts: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    from longshore.agent import wire
    from longshore.tasks.balancing import balancers, named

    standing = balancers(fleet.environment, "")

    def on(host: str) -> Any:
        value = fleet.session(host).call(wire.PROXY, args)
        return named(fleet, value) if host in standing and "routes" in value else value

    values, errors = fleet.each(hosts, on)
    return values, dict(errors)


def show_proxy(fleet: Fleet, host: str, value: Mapping[str, Any], *, by: str = "containers") -> None:
    """Show one host's proxy. ``by``: what its routes go to."""
    from longshore.console.words import when_text

    one = value["proxy"]
    if one is None:
        fleet.output.say(f"{host}: no proxy runs here")
        return
    restarts = f", restarted {one['restarts']} times" if one["restarts"] else ""
    image = one["image"].partition("@")[0]
    title = f"{host}: {image} {one['version']}, since {when_text(one['started'])}{restarts}"
    rows = [
        (f"{route['app']}:{route['service']}", rule, _scheme(route), _servers(route))
        for route in value["routes"]
        for rule in route["rules"]
    ]
    fleet.output.table(("service", "answers", "by", by), rows, title=title)
    _problems(fleet, host, value)
    for app, sentence in (
        *value["maintenance"].items(),
        *value["paused"].items(),
        *value["out"].items(),
    ):
        fleet.output.say(f"{host}: {app}: {sentence}")


def _problems(fleet: Fleet, host: str, value: Mapping[str, Any]) -> None:
    for route in value["routes"]:
        if route["problem"]:
            fleet.output.say(f"{host}: {route['app']}:{route['service']}: {route['problem']}")


def _scheme(route: Mapping[str, Any]) -> str:
    from longshore.console.words import when_text

    ends = [one["until"] for one in route["certificates"] if one["until"]]
    until = f" until {when_text(min(ends)).partition(' ')[0]}" if ends else ""
    return ("https" if route["secure"] else "http") + until


def _servers(route: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{one['container'] or one['url']}{'' if one['up'] else ' DOWN'}{_part(one)}"
        for one in route["servers"]
    )


def _part(server: Mapping[str, Any]) -> str:
    part = server.get("canary")
    if part is None:
        return ""
    return f" ({part['share']} %)" if part["share"] else f" (copies of {part['mirror']} %)"


def is_well(route: Mapping[str, Any]) -> bool:
    """Whether what a route answers goes somewhere."""
    return not route["problem"] and any(one["up"] for one in route["servers"])
