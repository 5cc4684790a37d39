"""Hosts that are connected to while something else is prepared."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from longshore.errors import HostError, LongshoreError
from longshore.remote.fleet import Links

NAMES = ("web1", "web2", "web3")


class SlowLink:
    """A link that takes its time, and can be refused."""

    def __init__(self, host: Any, log: list[str], gate: threading.Event, refuse: str) -> None:
        self.host, self.log, self.gate, self.refuse = host.name, log, gate, refuse

    def session(self) -> Any:
        self.log.append(f"session {self.host}")
        self.gate.wait(5)
        if self.host == self.refuse:
            raise HostError("no python3 on the host.", where=self.host)
        return self

    def close(self) -> None:
        self.log.append(f"close {self.host}")


class World:
    """Three hosts whose sessions open when ``gate`` is set."""

    def __init__(self, refuse: str = "") -> None:
        self.log: list[str] = []
        self.gate = threading.Event()
        hosts = {name: SimpleNamespace(name=name) for name in NAMES}
        environment: Any = SimpleNamespace(hosts=hosts, parallel=2)
        connector: Any = lambda host: SlowLink(host, self.log, self.gate, refuse)  # noqa: E731
        self.links = Links(environment, connector)

    def until(self, entry: str) -> None:
        deadline = time.monotonic() + 5
        while entry not in self.log:
            assert time.monotonic() < deadline, self.log
            time.sleep(0.005)


def test_opening_ahead_does_not_wait_and_each_host_is_connected_to_once() -> None:
    world = World()
    with world.links as links:
        links.open_ahead([*NAMES, *NAMES])
        world.until("session web1")
        world.gate.set()
        assert [links.link(name).host for name in NAMES] == list(NAMES)
        assert links.link("web1") is links.link("web1")
    assert sorted(world.log) == sorted(f"{what} {name}" for what in ("session", "close") for name in NAMES)


def test_no_more_hosts_than_allowed_are_opened_ahead_at_once() -> None:
    world = World()
    with world.links as links:
        links.open_ahead(NAMES)
        world.until("session web2")
        time.sleep(0.05)
        assert "session web3" not in world.log
        world.gate.set()
        assert links.link("web3").host == "web3"


def test_what_went_wrong_ahead_is_told_when_the_host_is_asked_for_and_its_link_is_closed() -> None:
    world = World(refuse="web2")
    world.gate.set()
    with world.links as links:
        links.open_ahead(NAMES)
        assert links.link("web1").host == "web1"
        with pytest.raises(HostError, match="no python3"):
            links.link("web2")
        assert "close web2" in world.log


def test_a_run_that_ends_early_closes_what_comes_late_and_begins_no_more() -> None:
    world = World()
    with world.links as links:
        links.open_ahead(NAMES)
        world.until("session web2")
    world.gate.set()
    world.until("close web1")
    world.until("close web2")
    assert "session web3" not in world.log
    with pytest.raises(LongshoreError, match="the run is over"):
        world.links.link("web3")
