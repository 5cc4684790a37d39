"""Hosts of the lab as the code sees them, for the tests that reach them without a project."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from longshore.errors import HostError, Where
from longshore.inventory.model import Host, SshSettings
from longshore.remote import Connections

Make = Callable[..., Host]


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No key, agent, password or ssh_config of the person who runs the tests."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.delenv("LONGSHORE_BECOME_PASSWORD", raising=False)


@pytest.fixture
def addresses(lab: Any) -> list[str]:
    """The practice hosts' addresses."""
    return list(lab.addresses.values())


@pytest.fixture
def make(lab: Any, addresses: list[str], quiet: None) -> Make:
    """Makes hosts: ``make(address=…, user=…, args=…)``."""

    def host(address: str = addresses[0], *, args: str = "", name: str = "h1", **ssh: Any) -> Host:
        ssh.setdefault("user", "root")
        ssh.setdefault("identity_file", str(lab.key))
        if "UserKnownHostsFile" not in args:
            args += f" -o UserKnownHostsFile={lab.known_hosts}"
        settings = SshSettings(address=address, common_args=args, **ssh)
        return Host(name=name, ssh=settings, groups=(), vars={}, where=Where("test"))

    return host


@pytest.fixture
def state(make: Make) -> Iterator[str]:
    """A state folder that the first host doesn't have yet."""
    path = f"/var/lib/longshore-test-{os.getpid()}-{time.monotonic_ns()}"
    yield path
    # Some tests leave sshd busy or angry for a moment; clearing up isn't what they are about.
    for left in range(20, -1, -1):
        try:
            with Connections() as connect:
                connect(make()).run(["rm", "-rf", path])
            return
        except HostError:
            if not left:
                raise
            time.sleep(1)


@pytest.fixture
def connect(state: str) -> Iterator[Connections]:
    with Connections(state_dir=state) as connections:
        yield connections


def output_of(link: Any, *argv: str, **options: Any) -> tuple[int, str]:
    parts: list[bytes] = []
    code = link.run(list(argv), on_output=parts.append, **options)
    return code, b"".join(parts).decode()


def make_key(path: Path, passphrase: str = "") -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", path], check=True)
    return path


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[str]:
    """An ssh-agent's socket."""
    path = tmp_path / "agent.sock"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    while not path.exists():
        time.sleep(0.01)
    yield str(path)
    process.terminate()
    process.wait()


def add(agent: str, *keys: Path) -> None:
    """Give keys to the agent."""
    subprocess.run(
        ["ssh-add", "-q", *keys],
        check=True,
        env={**os.environ, "SSH_AUTH_SOCK": agent},
        stderr=subprocess.DEVNULL,
    )
