"""Waiting for connections to end, on real sockets of this machine."""

from __future__ import annotations

import socket

from longshore.agent.draining import drained


def test_a_connection_is_waited_for_until_it_has_ended_or_the_time_is_over() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = server.getsockname()
        with socket.create_connection(place), server.accept()[0]:
            assert not drained([place], 0.3)
        assert drained([place], 5)


def test_a_connection_to_another_port_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        host, port = server.getsockname()
        assert drained([(host, port + 1 if port < 65535 else port - 1)], 0)
