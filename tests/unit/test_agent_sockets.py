"""The host's TCP sockets, by netlink and by the table: on real sockets of this machine."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from longshore.agent import sockets as agent_sockets
from longshore.agent.sockets import ESTABLISHED, LISTENING, Row, sockets

Ends = tuple[socket.socket, socket.socket]


@pytest.fixture(params=["127.0.0.1", "::1"])
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    """A listener, and a connection to it."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with ExitStack() as stack:
        try:
            server = stack.enter_context(socket.create_server((request.param, 0), family=family))
        except OSError:
            pytest.skip("no IPv6 here")
        client = stack.enter_context(socket.create_connection(server.getsockname()[:2]))
        stack.enter_context(server.accept()[0])
        yield server, client


@pytest.fixture(params=["netlink", "table"])
def asked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> Iterator[Row]:
        raise PermissionError

    if request.param == "table":
        monkeypatch.setattr(agent_sockets, "_asked", refused)
    else:
        monkeypatch.setattr(agent_sockets, "_read", refused)


@pytest.mark.usefixtures("asked")
def test_a_connection_and_its_listener_are_found_by_their_state(ends: Ends) -> None:
    server, client = ends
    address, port = server.getsockname()[:2]
    packed = socket.inet_pton(server.family, address)
    near = client.getsockname()[1]
    established = list(sockets(ESTABLISHED))
    inode = str(os.fstat(client.fileno()).st_ino)
    assert Row(near, packed, port, inode) in established
    assert [row.far_port for row in established if row.port == port and row.far == packed] == [near]
    listening = [row for row in sockets(LISTENING) if row.port == port]
    assert [(row.far_port, any(row.far)) for row in listening] == [(0, False)]
    assert near not in {row.port for row in sockets(LISTENING)}


@pytest.mark.usefixtures("asked")
def test_a_connection_that_was_closed_is_not_among_the_established(ends: Ends) -> None:
    server, client = ends
    near, port = client.getsockname()[1], server.getsockname()[1]
    client.close()
    assert (near, port) not in {(row.port, row.far_port) for row in sockets(ESTABLISHED)}


def test_an_answer_of_many_pieces_is_read_to_its_end() -> None:
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=600))
        place = server.getsockname()
        clients = [stack.enter_context(socket.create_connection(place)) for _ in range(400)]
        wanted = {client.getsockname()[1] for client in clients}
        assert wanted <= {row.port for row in sockets(ESTABLISHED) if row.far_port == place[1]}
