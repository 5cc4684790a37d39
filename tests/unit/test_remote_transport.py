"""What a connection asks of a host's sshd, before anything is sent."""

from __future__ import annotations

import socket

from longshore.remote.transport import AUTHENTICATED, CHEAP_FIRST, Transport


def test_what_costs_this_machine_least_is_asked_for_first() -> None:
    here, there = socket.socketpair()
    with here, there:
        transport = Transport(here)
        # With any other cipher, Paramiko compares each packet's MAC byte by byte in Python.
        assert transport._preferred_ciphers[:2] == AUTHENTICATED
        assert len(transport._preferred_ciphers) > 2  # for an sshd that has neither
        assert transport._preferred_kex[0] == CHEAP_FIRST[0]
