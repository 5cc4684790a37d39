"""What a connection asks of a host's sshd, before anything is sent."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
from paramiko.ssh_exception import SSHException

from longshore.errors import ConnectionLostError
from longshore.remote.conversation import AgentSession
from longshore.remote.ssh import _ChannelStream
from longshore.remote.transport import (
    AUTHENTICATED,
    CHEAP_FIRST,
    KEEPALIVES,
    Transport,
    _Packetizer,
    _ReadAhead,
)


def test_what_costs_this_machine_least_is_asked_for_first() -> None:
    here, there = socket.socketpair()
    with here, there:
        transport = Transport(here)
        # With any other cipher, Paramiko compares each packet's MAC byte by byte in Python.
        assert transport._preferred_ciphers[:2] == AUTHENTICATED
        assert len(transport._preferred_ciphers) > 2  # for an sshd that has neither
        assert transport._preferred_kex[0] == CHEAP_FIRST[0]


def test_what_has_come_is_read_at_once_and_given_out_as_it_is_asked_for() -> None:
    here, there = socket.socketpair()
    with here, there:
        there.sendall(b"abcdef")
        source = _ReadAhead(here)
        assert source.recv(4) == b"abcd"
        here.setblocking(False)  # the rest is here already
        assert (source.recv(1), source.recv(9)) == (b"e", b"f")
        here.setblocking(True)
        there.close()
        assert source.recv(1) == b""


def test_a_handshake_is_given_up_after_its_time_without_a_thread_that_watches_it() -> None:
    here, there = socket.socketpair()
    with here, there:
        packets = _Packetizer(here)
        threads = threading.active_count()
        packets.start_handshake(60)
        assert threading.active_count() == threads
        assert not packets.handshake_timed_out()
        packets.complete_handshake()
        packets.start_handshake(-1)
        assert packets.handshake_timed_out()
        packets.complete_handshake()
        assert not packets.handshake_timed_out()


def test_a_server_is_asked_for_a_sign_of_life_only_when_nothing_has_come_and_is_given_up_at_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here, there = socket.socketpair()
    with here, there:
        transport = Transport(here)
        sent: list[object] = []
        asks: list[Callable[[], None]] = []
        monkeypatch.setattr(transport, "_send_user_message", sent.append)
        monkeypatch.setattr(transport.packetizer, "set_keepalive", lambda interval, ask: asks.append(ask))
        transport.set_keepalive(15)
        (ask,) = asks
        ask()
        assert sent == []
        transport.packetizer.source.heard -= 20
        for _ in range(KEEPALIVES):
            ask()
        assert len(sent) == KEEPALIVES
        with pytest.raises(SSHException, match="silent for 60 s"):
            ask()
        transport.packetizer.source.heard += 20
        ask()
        assert len(sent) == KEEPALIVES


def test_a_connection_that_breaks_while_something_is_sent_or_closed_is_a_sentence_and_no_traceback() -> None:
    class Broken:
        def settimeout(self, timeout: float | None) -> None:
            """No matter."""

        def sendall(self, data: memoryview) -> None:
            raise EOFError

        def close(self) -> None:
            raise EOFError

        def recv(self, size: int) -> bytes:
            return b""

        def recv_stderr_ready(self) -> bool:
            return False

        def exit_status_ready(self) -> bool:
            return True

        def recv_exit_status(self) -> int:
            return -1

    channel: Any = Broken()
    session = AgentSession("h1", _ChannelStream(channel))
    with pytest.raises(ConnectionLostError, match="the connection broke while the agent worked on `inspect`"):
        session.call("inspect")
    session.close()
