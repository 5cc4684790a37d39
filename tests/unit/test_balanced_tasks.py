"""Commands behind a load balancer: who is told to leave it, and who isn't, for nobody would be left."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from tests.unit.inventory_project import loaded

from longshore.agent import wire
from longshore.console import make_output
from longshore.errors import HostError, LongshoreError
from longshore.remote import Links
from longshore.remote.fake import FakeFleet, FakeHost
from longshore.rollout import Facts
from longshore.tasks.balanced import balancing_of, for_rollback, out_args
from longshore.tasks.draining import _to_drain
from longshore.tasks.fleet import Fleet


def _fleet(root: Path, *chosen: str, balanced: str = "{wait: 2s}") -> tuple[Fleet, dict[str, FakeHost]]:
    """Two hosts behind a balancer, where web is deployed; ``chosen`` of them, or both."""
    inventory = f"""
        all:
          hosts: {{h1: , h2: }}
          vars:
            longshore:
              apps:
                shop:
                  balanced: {balanced}
                  compose: compose.yml
                  services: {{web: {{proxy: {{port: 8000, health: /health}}}}, db: {{memory: 64M}}}}
        """
    environment = loaded(root, {"inventory/prod.yml": inventory})
    fakes = FakeFleet("h1", "h2")
    for host in fakes.hosts.values():
        host.app("shop").running = "r1"
    fleet = Fleet(
        environment,
        {"shop": chosen or ("h1", "h2")},
        make_output(stream=io.StringIO()),
        Links(environment, fakes),
        Facts("run1", "ann@laptop"),
    )
    return fleet, fakes.hosts


def test_hosts_that_are_restarted_one_after_the_other_leave_and_those_that_all_stop_do_not(
    tmp_path: Path,
) -> None:
    fleet, _ = _fleet(tmp_path)
    told = out_args(fleet, "shop", ("h1", "h2"), together=False)
    assert {host: one["asked"] for host, one in told.items()} == {
        "h1": {"web": "/health"},
        "h2": {"web": "/health"},
    }
    assert (told["h1"]["wait"], told["h1"]["always"]) == (2.0, False)
    assert out_args(fleet, "shop", ("h1", "h2"), together=True) == {}
    assert list(out_args(fleet, "shop", ("h2",), together=True)) == ["h2"]


def test_a_host_stays_when_the_other_one_is_out_or_does_not_answer(tmp_path: Path) -> None:
    fleet, hosts = _fleet(tmp_path)
    hosts["h2"].app("shop").out = True
    assert list(out_args(fleet, "shop", ("h1", "h2"), together=False)) == ["h2"]
    hosts["h2"].app("shop").out = False
    hosts["h2"].fail(wire.OUT, HostError("no answer", where="h2"))
    assert out_args(fleet, "shop", ("h1",), together=False) == {}


def test_without_a_balancer_nobody_is_asked_anything(tmp_path: Path) -> None:
    fleet, hosts = _fleet(tmp_path, balanced="{when: never}")
    assert out_args(fleet, "shop", ("h1", "h2"), together=False) == {}
    assert for_rollback(fleet, "shop", ("h1",), {}) is None
    assert not any(host.calls for host in hosts.values())
    assert balancing_of(fleet, "shop") is not None  # by hand it can leave all the same


def test_draining_the_last_host_is_refused(tmp_path: Path) -> None:
    fleet, hosts = _fleet(tmp_path, "h1")
    assert list(_to_drain(fleet)) == ["shop"]
    hosts["h2"].app("shop").out = True
    with pytest.raises(LongshoreError, match="nobody would be left in the load balancer for web of shop"):
        _to_drain(fleet)
    fleet, _ = _fleet(tmp_path)
    with pytest.raises(LongshoreError, match="nobody would be left"):
        _to_drain(fleet)
