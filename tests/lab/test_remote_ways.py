"""Ways to a real sshd: hops, ProxyCommand, and what does not answer."""

from __future__ import annotations

import contextlib
import re
import shlex
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from reach import Make, output_of

from longshore.agent import wire
from longshore.errors import HostError
from longshore.remote import Connections

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120), pytest.mark.usefixtures("quiet")]


def config_for(lab: Any, path: Path, text: str) -> str:
    path.write_text(
        f"{text}\nHost *\n  User root\n  IdentityFile {lab.key}\n  UserKnownHostsFile {lab.known_hosts}\n"
    )
    return f"-F {path} -o UserKnownHostsFile={lab.known_hosts}"


def test_proxy_jump_goes_over_several_hops_and_shares_them(
    addresses: list[str], lab: Any, make: Make, connect: Connections, tmp_path: Path
) -> None:
    first, second = addresses[:2]
    text = f"Host hop1\n  HostName {first}\n  HostKeyAlias {first}\nHost {first}\n  ProxyJump hop1,{second}\n"
    args = config_for(lab, tmp_path / "config", text)
    opened = []
    for name in ("a", "b"):
        link = connect(make(first, args=args, name=name))
        code, said = output_of(link, "sh", "-c", "echo $SSH_CONNECTION")
        assert (code, said.split()[0]) == (0, second)
        opened.append(link)
    assert connect._opener is not None
    assert len(connect._opener._hops) == 2


def test_a_hop_with_an_unknown_key_is_refused(
    addresses: list[str], lab: Any, make: Make, connect: Connections, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text(
        f"Host *\n  User root\n  IdentityFile {lab.key}\n  UserKnownHostsFile {tmp_path}/none\n"
    )
    args = f"-F {tmp_path}/config -J {addresses[1]} -o UserKnownHostsFile={lab.known_hosts}"
    with pytest.raises(HostError, match="not known") as caught:
        connect(make(args=args))
    assert addresses[1] in str(caught.value.where)


def test_a_hop_that_cannot_reach_the_host_is_a_sentence(
    addresses: list[str], lab: Any, make: Make, connect: Connections, tmp_path: Path
) -> None:
    args = config_for(lab, tmp_path / "config", "") + f" -J {addresses[0]}"
    with pytest.raises(HostError, match=re.escape(f"{addresses[0]} can't reach 127.0.0.1 port 9")):
        connect(make("127.0.0.1", port=9, args=args))


def test_a_proxy_command_carries_the_connection(make: Make, connect: Connections, tmp_path: Path) -> None:
    program = tmp_path / "pipe.py"
    program.write_text(
        "import os, select, socket, sys\n"
        "s = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
        "while True:\n"
        "    for f in select.select([0, s], [], [])[0]:\n"
        "        d = os.read(0, 65536) if f == 0 else s.recv(65536)\n"
        "        if not d: sys.exit()\n"
        "        s.sendall(d) if f == 0 else os.write(1, d)\n"
    )
    command = f"{sys.executable} {program} %h %p"
    link = connect(make(args=f"-o {shlex.quote('ProxyCommand=' + command)}"))
    assert link.session().call(wire.FACTS)["python"]
    with pytest.raises(HostError, match="ProxyCommand"):
        connect(make(args="-o 'ProxyCommand=exit 3'"))


def test_what_does_not_answer_is_a_sentence_each(
    make: Make, connect: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(HostError, match="can't be resolved"):
        connect(make("no-such-host.invalid"))
    with pytest.raises(HostError, match="refuses the connection"):
        connect(make(port=9))
    monkeypatch.setattr("longshore.remote.connection.BANNER_TIMEOUT", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(HostError, match="no SSH greeting"):
        connect(make("127.0.0.1", port=silent.getsockname()[1]))


def test_a_host_that_swallows_packets_is_a_sentence_in_time(make: Make) -> None:
    # Linux drops the SYN for a listener whose queue is full.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as waiting:
        for _ in range(4):
            sock = waiting.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())
        started = time.monotonic()
        with Connections(connect_timeout=1) as connect, pytest.raises(HostError, match="answer within 1 s"):
            connect(make("127.0.0.1", port=full.getsockname()[1]))
        assert time.monotonic() - started < 5
