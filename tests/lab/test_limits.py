"""The limits that docs/performance.md promises and that can be counted. Seconds are tests/bench's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.lab.many import many
from tests.lab.project import PYTHON, Done, Project
from tests.lab.relay import Relay

from longshore.lab import Lab

pytestmark = pytest.mark.lab


@pytest.fixture
def project(tmp_path: Path, lab: Lab, stand_ins: Callable[..., None], clean_hosts: None) -> Project:
    stand_ins(PYTHON)
    made = Project(tmp_path, lab)
    made.server()
    made.inventory("h1")
    return made


def _deploy_through(relay: Relay, project: Project, **variables: str) -> Done:
    """A deploy whose one connection goes through the relay."""
    alias = f"{project.lab.ssh_options()} -o HostKeyAlias={project.lab.addresses['h1']}"
    words = {"ansible_host": "127.0.0.1", "ansible_port": relay.port, "ansible_ssh_common_args": alias}
    sets = [word for name, value in words.items() for word in ("--set", f"{name}={value}")]
    done = project.deploy(*sets, **variables)
    assert done.code == 0, done.all
    assert relay.connections == 1
    return done


def _round_trips(relay: Relay) -> int:
    """The TCP handshake, which the relay answers itself, is one more than it sees."""
    return relay.turns + 1


def test_a_first_deploy_and_a_new_version_take_at_most_twenty_round_trips(project: Project) -> None:
    address = project.lab.addresses["h1"]
    with Relay(address) as relay:
        _deploy_through(relay, project, VERSION="1")
        assert _round_trips(relay) <= 20
    with Relay(address) as relay:
        assert "1 deployed" in _deploy_through(relay, project, VERSION="2").out
        assert _round_trips(relay) <= 20
    assert project.page("h1") == "2 hello"


def test_a_deploy_with_nothing_to_do_takes_at_most_nine_round_trips(project: Project) -> None:
    assert project.deploy(VERSION="1").code == 0
    with Relay(project.lab.addresses["h1"]) as relay:
        assert "1 nothing to do" in _deploy_through(relay, project, VERSION="1").out
        assert _round_trips(relay) <= 9


def test_sixty_hosts_are_deployed_to_in_one_run_and_no_sshd_refuses_a_handshake(
    tmp_path: Path, lab: Lab, stand_ins: Callable[..., None], clean_hosts: None
) -> None:
    stand_ins(PYTHON)
    with many(lab, "h1", 60) as hosts:
        project = hosts.project(tmp_path, 60)
        project.write("env/try.env", "").chmod(0o600)
        first = project.run("deploy", "--env", "try", timeout=580)
        assert first.code == 0, first.all
        assert "60 deployed" in first.out
        again = project.run("deploy", "--env", "try")
        assert again.code == 0, again.all
        assert "60 nothing to do" in again.out
        running = ["docker", "ps", "-q", "--filter", "label=longshore.app=shop", "--filter", "health=healthy"]
        assert len(lab.ssh("h1", running).stdout.split()) == 60
        assert hosts.accepted() == 120  # one connection for each host and run
        assert hosts.refused() == []
