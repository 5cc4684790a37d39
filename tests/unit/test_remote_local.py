"""This machine as a host: the real agent in a child process."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from longshore.errors import AgentError, HostError, Where
from longshore.inventory.model import Host, SshSettings
from longshore.remote import Connections, Link, connect


@pytest.fixture
def link(tmp_path: Path) -> Link:
    return connect(host(), state_dir=str(tmp_path / "state"))


def host(python: str = sys.executable) -> Host:
    ssh = SshSettings(address="localhost", connection="local", python=python)
    return Host(name="here", ssh=ssh, groups=(), vars={}, where=Where("test"))


def test_the_agent_answers(link: Link) -> None:
    with pytest.raises(AgentError) as caught:
        link.session().call("no-such-op")
    assert (caught.value.code, caught.value.where) == ("bad-request", "here")
    link.close()


def test_commands_have_input_output_and_exit_code(link: Link) -> None:
    parts: list[bytes] = []
    code = link.run(
        ["sh", "-c", 'cat; echo "$1" >&2; exit 5', "x", "a b'c"], stdin=b"in\n", on_output=parts.append
    )
    assert (code, b"".join(parts)) == (5, b"in\na b'c\n")


def test_a_command_over_its_time_is_stopped(link: Link) -> None:
    started = time.monotonic()
    with pytest.raises(HostError, match=r"longer than 0\.3 s"):
        link.run(["sleep", "30"], timeout=0.3)
    assert time.monotonic() - started < 5


def test_a_command_that_is_not_there_is_a_sentence(link: Link) -> None:
    with pytest.raises(HostError, match="no-such-command"):
        link.run(["no-such-command"])


def test_no_python_is_a_sentence(tmp_path: Path) -> None:
    with Connections(state_dir=str(tmp_path)) as connections, pytest.raises(HostError, match="python9"):
        connections(host("python9")).session()


def test_importing_the_package_imports_neither_paramiko_nor_fabric() -> None:
    import subprocess

    heavy = "{'paramiko', 'fabric', 'docker', 'cryptography'}"
    code = f"import sys, longshore.remote; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
