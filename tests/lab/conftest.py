"""Practice hosts for the tests: one lab for the whole run, and a clean host for each test.

Where practice hosts can't be made the tests fail with the reason; ``LONGSHORE_NO_LAB=1`` skips them.
"""

from __future__ import annotations

import fcntl
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from reach import addresses, agent, connect, make, quiet, state  # noqa: F401 - fixtures
from tests.lab import ready
from tests.lab.planted import Processes

from longshore.lab import Lab, LabError

HOSTS = ("h1", "h2", "h3")
# OpenSSH 9.8 and later bans an address after some failed logins; these tests fail them on purpose.
PATIENT = "echo 'PerSourcePenalties no' >/etc/ssh/sshd_config.d/50-tests.conf && service ssh reload"
CLEAN = """
rm -f /run/longshore-lab/*.stopped
for name in $(docker ps -aq); do docker rm -f -v "$name"; done
for name in $(docker volume ls -q); do docker volume rm -f "$name"; done
for name in $(docker network ls -q --filter type=custom); do docker network rm "$name"; done
rm -rf /var/lib/longshore /srv/*
"""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """After ``LONGSHORE_TESTS_UNTIL`` (s since the epoch) no test is begun: so ``bin/test`` ends in time on a
    slow machine, too. ``tests.lab`` says how many that were."""
    until = os.environ.get("LONGSHORE_TESTS_UNTIL")
    if until and time.time() > float(until):
        pytest.skip("out of time")


def pytest_configure() -> None:
    """A run that is told to end takes its practice hosts down, as after Ctrl-C."""
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    # On a new machine a fixture may have to build what later runs find, or wait for who builds it.
    is_new = os.geteuid() == 0 and any(map(ready.wanted, ("amd64", "arm64")))
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.lab)
            if is_new:
                item.add_marker(pytest.mark.timeout(3600))


def say(text: str) -> None:
    print(text, flush=True)


@pytest.fixture(scope="session", autouse=True)
def lab_wanted() -> None:
    """Skips every test in this folder when the person asked for that."""
    if os.environ.get("LONGSHORE_NO_LAB") == "1":
        pytest.skip("LONGSHORE_NO_LAB=1: no practice hosts were asked for.")


@pytest.fixture(scope="session")
def lab(lab_wanted: None) -> Iterator[Lab]:
    """Three hosts with engines, and a registry; all of it is gone after the last test."""
    with free_name() as name:
        made = Lab(name, say=say)
        try:
            try:
                made.down()
                made.up(len(HOSTS))
                made.registry_up()
                for name in HOSTS:
                    made.ssh(name, ["sh", "-c", PATIENT])
                    _answers(made, name)
            except LabError as problem:
                pytest.fail(f"{problem} (LONGSHORE_NO_LAB=1 runs the other tests.)", pytrace=False)
            yield made
        finally:
            made.down()


def _answers(made: Lab, name: str) -> None:
    """A host's sshd that was told to read its settings anew doesn't listen for a moment."""
    for attempt in range(50):
        try:
            time.sleep(0.1)
            made.ssh(name, ["true"])
            return
        except LabError:
            if attempt == 49:
                raise


@contextmanager
def free_name() -> Iterator[str]:
    """A name that no other run of the tests uses now; one left by a killed run is taken again."""
    for number in range(1, 20):
        name = f"test{number}"
        mark = Path(tempfile.gettempdir(), f"longshore-{name}.lock").open("w")  # noqa: SIM115 - held for the whole run
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            mark.close()
            continue
        with mark:
            yield name
        return
    pytest.fail("Nineteen other runs of these tests are at work on this machine.", pytrace=False)


@pytest.fixture(scope="session")
def stand_ins(lab: Lab) -> Callable[..., None]:
    """``stand_ins("postgres:15", "redis:7")`` has these images in the registry; built once, then cached."""

    def have(*images: str, platforms: tuple[str, ...] = ("amd64",)) -> None:
        try:
            lab.stand_in(images, platforms=platforms)
        except LabError as problem:
            pytest.fail(str(problem), pytrace=False)

    return have


def clean(lab: Lab, *names: str) -> None:
    """Hosts as they came: switched on, connected, no container, volume, network or release. About 1 s."""
    by_name = {host.name: host for host in lab.status()}

    def one(name: str) -> None:
        if not by_name[name].on:
            lab.start(name)
        if by_name[name].cut:
            lab.heal(name)
        lab.ssh(name, ["bash", "-c", CLEAN])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, names or HOSTS))


@pytest.fixture
def clean_hosts(lab: Lab) -> None:
    """The lab's hosts as they came."""
    clean(lab)


@pytest.fixture
def hosts(clean_hosts: None) -> list[str]:
    """The names of the lab's hosts, each of them clean."""
    return list(HOSTS)


@pytest.fixture
def processes() -> Iterator[Processes]:
    looking = Processes()
    looking.start()
    yield looking
    looking.over.set()


@pytest.fixture
def inventory_file(lab: Lab, tmp_path: Path) -> Path:
    """An Ansible inventory of the lab's hosts."""
    path = tmp_path / "hosts.yml"
    path.write_text(lab.inventory())
    return path
