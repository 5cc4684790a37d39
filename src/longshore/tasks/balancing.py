"""The balancer's part of ``deploy``, ``plan`` and ``status``: an environment without one pays nothing for it.

Before anything of the apps is touched it answers what is new; when an app is deployed, just what the
inventory says. It is left alone where ``--limit`` doesn't name its hosts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from longshore.agent import wire
from longshore.errors import DeployError, LongshoreError, Problems
from longshore.inventory import patterns, select
from longshore.inventory.balancer import Balancer
from longshore.inventory.model import Environment
from longshore.records import dataclass
from longshore.tasks.fleet import Fleet


def balancers(environment: Environment, limit: str) -> tuple[str, ...]:
    """The balancer's hosts that ``--limit`` stands for; none without a balancer."""
    if environment.balancer is None:
        return ()
    hosts = environment.balancer.hosts
    if not limit:
        return hosts
    chosen = patterns.match(limit, hosts=environment.hosts, groups=environment.groups, where="--limit")
    return tuple(host for host in hosts if host in chosen)


def with_balancers(fleet: Fleet, limit: str) -> tuple[str, ...]:
    """Every host with a Traefik of ours that ``limit`` stands for, in the inventory's order. ``fleet`` is of
    all hosts. Raises ``InventoryError`` when there is none."""
    environment = fleet.environment
    known = {*fleet.hosts, *balancers(environment, "")}
    hosts = tuple(environment.hosts)
    if limit:
        hosts = patterns.match(limit, hosts=hosts, groups=environment.groups, where="--limit")
    found = tuple(host for host in hosts if host in known)
    if not found:
        select(environment, limit)  # says what runs where
    return found


@dataclass(eq=False)
class Before:
    """The balancer of a run: its hosts, and what each of them is to do."""

    fleet: Fleet
    balancer: Balancer
    hosts: tuple[str, ...]
    files: Mapping[str, Mapping[str, Any]]
    auth: Mapping[str, Any]

    def ask(
        self, step: str, apps: Sequence[str]
    ) -> tuple[dict[str, dict[str, Any]], dict[str, LongshoreError]]:
        """What each of its hosts answers to a step (``agent.balancing``), and what went wrong."""
        fleet = self.fleet
        args = {
            "do": "balance",
            "step": step,
            "environment": fleet.environment.name,
            "apps": list(apps),
            "whole": len(fleet.chosen) == len(fleet.environment.apps),
            "hosts": sorted({host for app in apps for host in fleet.chosen[app]}),
            "auth": self.auth,
        }

        def on(host: str) -> Any:
            def tell(event: Mapping[str, Any]) -> None:
                if event["kind"] == "note":
                    fleet.output.say(f"note: {event['message']} ({host})")
                elif event["kind"] == "compose":
                    fleet.output.step(host, "balancer", str(event["line"]))

            file = self.files[host]
            silence = 120 + 2 * file["host"]["grace"]  # while an old Traefik finishes what it has
            session = fleet.session(host)
            return session.call(wire.PROXY, {**args, "file": file}, on_event=tell, timeout=silence)

        return fleet.each(self.hosts, on)

    def plan(self) -> list[str]:
        """What a deploy would change at the balancer, in sentences. Raises ``Problems``."""
        values, errors = self.ask("plan", list(self.fleet.chosen))
        if errors:
            raise Problems(errors.values())
        return _grouped(values)

    def widen(self) -> None:
        """Have it answer what is new. Raises ``Problems``; then no app has been touched."""
        values, errors = self.ask("widen", list(self.fleet.chosen))
        for text in _grouped(values):
            self.fleet.output.say(text)
        if errors:
            every = self.fleet.limit or "all"
            leave = f"--limit '{every}:!{':!'.join(errors)}'"
            nothing = DeployError(
                "nothing was changed on any host of an app: the balancer can't be brought up to date",
                hint=f"Mend that, or leave the balancer as it is with {leave}.",
            )
            raise Problems([*errors.values(), nothing])

    def settle(self, app: str) -> bool:
        """Have it answer just what the inventory says of an app that is deployed; say which hosts get no
        requests. Returns whether all is good."""
        if app not in self.balancer.apps:
            return True
        values, errors = self.ask("settle", [app])
        for error in errors.values():
            self.fleet.output.error(error)
        if errors:
            words = f"{app} is deployed, and the balancer on {', '.join(errors)} isn't up to date"
            self.fleet.output.say(f"{words}: deploy again")
        good = not errors
        for balancer, value in values.items():
            for name, hosts in value["up"].items():
                good = self._told(balancer, name.partition(":")[2], app, hosts) and good
        return good

    def _told(self, balancer: str, service: str, app: str, hosts: Mapping[str, bool]) -> bool:
        down = [host for host, up in hosts.items() if not up]
        if not down:
            return True
        policy = next(one.policy for one in self.balancer.fronts if (one.app, one.service) == (app, service))
        asked = policy.health or "its health path"
        if len(down) < len(hosts):
            words = f"{' and '.join(down)} {'get' if len(down) > 1 else 'gets'} no requests of {service}"
            self.fleet.output.say(f"note: {balancer}: {words}: {asked} isn't answered well there")
            return True
        self.fleet.output.error(
            DeployError(
                f"no host of {service} of {app} gets requests: none answers {asked} well",
                where=balancer,
                hint="It is asked by the balancer, at the hosts' proxies. Do they see it come from another "
                "address? balancer_address says which.",
            )
        )
        return False


def before(fleet: Fleet) -> Before | None:
    """The balancer's part of a run; ``None`` where there is none, or ``--limit`` leaves it alone."""
    environment = fleet.environment
    hosts = balancers(environment, fleet.limit)
    balancer = environment.balancer
    if balancer is None or not set(fleet.chosen) & set(balancer.apps):
        return None
    if not hosts:
        fleet.output.say(f"note: the balancer on {', '.join(balancer.hosts)} is left as it is (--limit)")
        return None
    from longshore.images.login import logins
    from longshore.images.reference import parse
    from longshore.images.resolve import resolve
    from longshore.render.balancer import balancer_file

    fleet.links.open_ahead(hosts)
    images = {host: balancer.proxies[host].image for host in hosts}
    digests = resolve(images.values(), environment.registries).digests
    files = {
        host: balancer_file(balancer, host, environment.root, digests.get(image, image))
        for host, image in images.items()
    }
    registries = {parse(image).registry for image in images.values()}
    known = logins(registries, environment.registries)
    auth = {name: login.engine(name) for name, login in known.items()}
    return Before(fleet, balancer, hosts, files, auth)


def _grouped(values: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Each change once, with the balancer's hosts that it is made on."""
    found: dict[str, list[str]] = {}
    for host, value in values.items():
        for text in value["changes"]:
            found.setdefault(text, []).append(host)
    return [f"balancer {', '.join(hosts)}: {text}" for text, hosts in found.items()]


def named(fleet: Fleet, value: dict[str, Any]) -> dict[str, Any]:
    """What a balancer's Traefik says of its routes, with the hosts' names in the place of containers."""
    assert fleet.environment.balancer is not None
    names = {one.url: one.host for front in fleet.environment.balancer.fronts for one in front.backends}
    for route in value["routes"]:
        for server in route["servers"]:
            server["container"] = names.get(server["url"], server["url"].partition("//")[2])
    return value
