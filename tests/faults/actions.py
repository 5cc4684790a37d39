"""What is done to a run, a host or the fleet when a case has come to its place.

An action gets the ground, the run and the host that it is done to (``HOST``, unless a case says another).
It leaves healing to the end of the case: hosts are switched on, connected and freed there.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from tests.faults import app, disk
from tests.faults.ground import APP, Ground, Run

from longshore.lab import LabError
from longshore.lab.commands import Process

Action = Callable[[Ground, Run, str], None]
SHORT = 1.5
"""Seconds: a break that is over before the lease is."""


def nothing(ground: Ground, run: Run, host: str) -> None:
    """The release itself is what goes wrong."""


def kill_controller(ground: Ground, run: Run, host: str) -> None:
    """SIGKILL to the controller."""
    run.signal(signal.SIGKILL)
    run.wait()


def terminate_controller(ground: Ground, run: Run, host: str) -> None:
    """SIGTERM to the controller."""
    run.signal(signal.SIGTERM)


def ctrl_c(ground: Ground, run: Run, host: str) -> None:
    """Ctrl-C, once."""
    run.signal(signal.SIGINT)
    time.sleep(0.3)


def ctrl_c_twice(ground: Ground, run: Run, host: str) -> None:
    """Ctrl-C, and again."""
    run.signal(signal.SIGINT)
    time.sleep(0.5)
    run.signal(signal.SIGINT)
    time.sleep(0.3)


def suspend_controller(ground: Ground, run: Run, host: str) -> None:
    """The controller's machine sleeps for longer than the lease, and wakes up."""
    run.signal(signal.SIGSTOP)
    for one in ground.hosts:
        ground.let_go(one)
    gone = ground.calm()
    time.sleep(0.5)
    run.signal(signal.SIGCONT)
    if not gone:
        raise LabError("The agents are still there long after the lease.")


def suspend_briefly(ground: Ground, run: Run, host: str) -> None:
    """The controller's machine sleeps for less than the lease."""
    run.signal(signal.SIGSTOP)
    time.sleep(SHORT)
    run.signal(signal.SIGCONT)


def cut(ground: Ground, run: Run, host: str) -> None:
    """The host's line is cut, and stays so until the lease is over."""
    ground.lab.cut(host)


def cut_all(ground: Ground, run: Run, host: str) -> None:
    """The controller's own line is cut: no host hears it any more."""
    for one in ground.hosts:
        ground.lab.cut(one)


def cut_briefly(ground: Ground, run: Run, host: str) -> None:
    """The host's line is cut, and heals before the lease is over."""
    ground.lab.cut(host)
    time.sleep(SHORT)
    ground.lab.heal(host)


def power_off(ground: Ground, run: Run, host: str) -> None:
    """The host loses its power; it is switched on when the run is over."""
    ground.lab.stop(host)


def power_off_all(ground: Ground, run: Run, host: str) -> None:
    """Every host loses its power."""
    for one in ground.hosts:
        ground.lab.stop(one)


def restart_engine(ground: Ground, run: Run, host: str) -> None:
    """``service docker restart`` on the host."""
    ground.lab.ssh(host, ["service", "docker", "restart"])


def kill_engine(ground: Ground, run: Run, host: str) -> None:
    """SIGKILL to dockerd; the host's init starts it again."""
    ground.inside(host, ["sh", "-c", "kill -9 $(cat /run/longshore-lab/docker.pid)"])
    time.sleep(0.2)


def kill_agent(ground: Ground, run: Run, host: str) -> None:
    """SIGKILL to the host's agent."""
    found = ground.agents(host)
    _kill(host, [pid for pid in found if ground.parent(pid) in found] or found)


def kill_agent_and_guardian(ground: Ground, run: Run, host: str) -> None:
    """SIGKILL to the host's agent and to the process that stands behind it."""
    found = ground.agents(host)
    _kill(host, sorted(found, key=lambda pid: ground.parent(pid) in found))  # the guardian first


def _kill(host: str, pids: list[int]) -> None:
    processes = [process for process in map(Process.of, pids) if process is not None]
    if not processes:
        raise LabError("There is no agent to kill.", where=host)
    for process in processes:
        process.kill()


def stop_container(ground: Ground, run: Run, host: str) -> None:
    """A person types ``docker stop``."""
    ground.inside(host, ["sh", "-c", f"docker stop $({_CONTAINERS})"])


def remove_container(ground: Ground, run: Run, host: str) -> None:
    """A person types ``docker rm -f``."""
    ground.inside(host, ["sh", "-c", f"docker rm -f $({_CONTAINERS})"])


_CONTAINERS = f"docker ps -q --filter label=com.docker.compose.project={APP}"


def fill_disk(ground: Ground, run: Run, host: str) -> None:
    """The host's disk fills up to the last byte."""
    disk.fill(ground, host)


def stop_registry(ground: Ground, run: Run, host: str) -> None:
    """The registry goes down."""
    registry = ground.lab.state.registry
    if registry is not None:
        registry.kill()


def clock_back(ground: Ground, run: Run, host: str) -> None:
    """The host's clock, as its agents read it, is set back an hour."""
    ground.set_clock(host, -3600)


def clock_back_everywhere(ground: Ground, run: Run, host: str) -> None:
    """The clocks of all hosts, as agents read them, are set back an hour."""
    for one in ground.hosts:
        ground.set_clock(one, -3600)


def second_deploy(ground: Ground, run: Run, host: str) -> None:
    """Another deploy is typed meanwhile."""
    ground.start(["deploy"], version=ground.next_version()).wait()


def second_deploy_waits(ground: Ground, run: Run, host: str) -> None:
    """Another deploy is typed meanwhile, with ``--wait 60s``."""
    ground.start(["deploy", "--wait", "60s"], version=ground.next_version())
    time.sleep(3)


def deploy_at_once(ground: Ground, run: Run, host: str) -> None:
    """Another deploy is typed in the same second."""
    ground.start(["deploy"], version=ground.next_version())


def second_rollback(ground: Ground, run: Run, host: str) -> None:
    """A rollback is typed meanwhile."""
    ground.start(["rollback"]).wait()


def rollback_at_once(ground: Ground, run: Run, host: str) -> None:
    """A rollback is typed in the same second."""
    ground.start(["rollback"])


def kill_and_deploy(ground: Ground, run: Run, host: str) -> None:
    """SIGKILL to the controller, and at once another deploy, before the hosts have gone back."""
    kill_controller(ground, run, host)
    for one in ground.hosts:
        ground.let_go(one)
    ground.start(["deploy", "--wait", "60s"], version=ground.next_version()).wait()


def have_images(ground: Ground) -> None:
    """``faults:new`` (a layer of some bytes) and ``faults:big`` (200 MB) in the registry, on no host."""
    host = ground.hosts[-1]
    for tag, command in (("new", "echo new >/new"), ("big", "head -c 200000000 /dev/urandom >/big")):
        name = image(ground, tag)
        content = ground.lab.place.home / "registry/content"
        if not list(content.glob(f"**/faults/_manifests/tags/{tag}")):
            dockerfile = f"FROM {app.PYTHON}\nRUN {command}\n"
            ground.lab.ssh(host, ["docker", "build", "-q", "-t", name, "-"], stdin=dockerfile)
            ground.lab.ssh(host, ["docker", "push", "-q", name])
        for one in ground.hosts:
            ground.inside(
                one, ["sh", "-c", f"docker image rm -f {name}; docker builder prune -af"], check=False
            )


def image(ground: Ground, tag: str) -> str:
    """The name of one of our own images."""
    return f"{ground.lab.registry}/faults:{tag}"


def pinned(ground: Ground) -> str:
    """The image that every host has, by its digest."""
    format_ = "{{index .RepoDigests 0}}"
    for host in ground.hosts:
        ground.inside(host, ["docker", "pull", "-q", app.PYTHON])
    return ground.inside(
        ground.hosts[0], ["docker", "image", "inspect", "--format", format_, app.PYTHON]
    ).strip()
