"""A fleet of hosts in memory with one app, and rollouts of it."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import replace

from longshore.console import make_output
from longshore.errors import LongshoreError
from longshore.remote.fake import FakeFleet, FakeSession
from longshore.remote.session import Session
from longshore.render.bundle import Bundle, BundleFile, ServiceFacts
from longshore.rollout import Facts, Move, Report
from longshore.rollout.moves import Story
from longshore.rollout.rollout import Rollout

HOSTS = ("h1", "h2", "h3")


def bundle(host: str, version: str, services: Iterable[str] = ("api",)) -> Bundle:
    files = (BundleFile("compose.yml", version.encode()),)
    known = {name: ServiceFacts(name, f"{name}:{version}", 1, False, True) for name in services}
    return Bundle("shop", host, "shop", files, ("compose.yml",), ".", (), known)


def release(version: str) -> str:
    """The id of a version; the same on every host."""
    return bundle("h1", version).id


def story(fleet: FakeFleet, version: str, **more: object) -> Story:
    """Every host goes to ``version``, or those of ``only``."""
    only = more.pop("only", tuple(fleet.hosts))
    moves = tuple(
        Move(
            host=name,
            release=bundle(name, version).id,
            expect=host.app("shop").current,
            services=frozenset({"api"}),
            bundle=bundle(name, version),
        )
        for name, host in fleet.hosts.items()
        if name in only  # type: ignore[operator]
    )
    return replace(Story("shop", moves, Facts("run1", "ann@laptop")), **more)  # type: ignore[arg-type]


def run(
    fleet: FakeFleet,
    wanted: Story,
    *,
    sessions: dict[str, Session] | None = None,
    reopen: Callable[[str], Session] | None = None,
    ask: Callable[[str], bool] | None = None,
) -> tuple[Report, str]:
    """Roll out; the report, and what a person reads."""
    said = io.StringIO()
    links: dict[str, Session] = {name: FakeSession(host) for name, host in fleet.hosts.items()}
    links |= sessions or {}
    report = Rollout(wanted, links, make_output(stream=said), reopen=reopen, ask=ask).run()
    for session in links.values():
        session.close()
    return report, said.getvalue()


def deployed(version: str = "1", *names: str) -> FakeFleet:
    """Hosts on which that version was deployed, their requests forgotten."""
    fleet = FakeFleet(*(names or HOSTS))
    assert run(fleet, story(fleet, version))[0].ok
    for host in fleet.hosts.values():
        host.calls.clear()
    return fleet


def running(fleet: FakeFleet) -> dict[str, str | None]:
    """Host to the release that runs and is current there."""
    for host in fleet.hosts.values():
        assert host.app("shop").running == host.app("shop").current
    return {name: host.app("shop").running for name, host in fleet.hosts.items()}


def states(report: Report) -> dict[str, str]:
    """Host to how it came out."""
    return {one.host: one.state for one in report.hosts}


def problems(report: Report) -> str:
    """Everything that the report says is wrong."""
    errors: list[LongshoreError] = [*report.problems, *(one.error for one in report.hosts if one.error)]
    return "\n".join(map(str, errors))
