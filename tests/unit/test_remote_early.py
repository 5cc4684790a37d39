"""A connection that is there before Paramiko is, and what may come of it."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from longshore.errors import HostError
from longshore.inventory.model import SshSettings
from longshore.remote.connection import Opener
from longshore.remote.route import Routes
from longshore.remote.sockets import Early, Handshakes, Place

DEBIANS = """
Include /etc/ssh/ssh_config.d/*.conf
Host *
    SendEnv LANG LC_* COLORTERM NO_COLOR
    HashKnownHosts yes
    GSSAPIAuthentication yes
#   Port 22
"""


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def place(server: socket.socket) -> Place:
    return Place("127.0.0.1", server.getsockname()[1], timeout=3.0, keepalive=15.0, family="any")


def host(**said: Any) -> Any:
    return SimpleNamespace(name="web1", ssh=SshSettings(address="10.0.0.7", **said))


def routes(tmp_path: Path, config: str) -> Routes:
    file = tmp_path / "config"
    file.write_text(config)
    return Routes(connect_timeout=4.0, config=file)


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"port": 2222, "user": "deploy"},
        {"common_args": "-o ConnectTimeout=7 -o ServerAliveInterval=3 -4"},
        {"common_args": "-o HostName=10.0.0.8 -p 2200"},
    ],
)
def test_where_a_host_is_is_the_same_without_paramiko(tmp_path: Path, said: dict[str, Any]) -> None:
    found = routes(tmp_path, DEBIANS).place(host(**said))
    assert found is not None
    assert found == routes(tmp_path, DEBIANS).to(host(**said)).place


@pytest.mark.parametrize(
    ("config", "args"),
    [
        (DEBIANS + "  port=2222\n", ""),
        ("Host web*\n\tHostName 10.0.0.9\n", ""),
        ("Match exec true\n  ProxyJump bastion\n", ""),
        ("Host *\n ProxyCommand nc %h %p\n", ""),
        ("Host *\n ConnectTimeout 1\n", ""),
        (DEBIANS, "-J bastion"),
        (DEBIANS, "-o ProxyCommand='nc %h %p'"),
        (DEBIANS, "-o Nonsense=1"),
        (DEBIANS, "-o Port=many"),
        (DEBIANS, "-F /nowhere/config"),
    ],
)
def test_where_ssh_config_or_another_way_counts_nothing_is_opened_early(
    tmp_path: Path, config: str, args: str
) -> None:
    assert routes(tmp_path, config).place(host(common_args=args)) is None


def test_finding_a_place_imports_no_paramiko() -> None:
    script = (
        "import sys; from types import SimpleNamespace as S;"
        " from longshore.inventory.model import SshSettings;"
        " from longshore.remote.connections import Connections;"
        " found = Connections()._routes.place(S(name='h', ssh=SshSettings(address='10.0.0.7')));"
        " print('paramiko' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_slot_is_held_until_the_handshake_is_over(server: socket.socket) -> None:
    handshakes = Handshakes(at_once=2)
    first, second = Early.to(place(server), handshakes), Early.to(place(server), handshakes)
    assert first is not None
    assert second is not None
    assert Early.to(place(server), handshakes) is None
    with first.take() as sock:
        assert sock.getpeername() == server.getsockname()
        first.close()
        assert sock.fileno() >= 0
    first.close()  # twice is once
    third = Early.to(place(server), handshakes)
    assert third is not None
    assert Early.to(place(server), handshakes) is None
    for one in (second, third):
        one.close()


def test_what_nobody_has_taken_is_closed(server: socket.socket) -> None:
    early = Early.to(place(server), Handshakes())
    assert early is not None
    accepted, _ = server.accept()
    with accepted:
        early.close()
        accepted.settimeout(5)
        assert accepted.recv(1) == b""


def test_a_host_that_refuses_is_tried_once_and_told_as_ever(server: socket.socket, tmp_path: Path) -> None:
    where = place(server)
    server.close()
    handshakes = Handshakes(at_once=1)
    early = Early.to(where, handshakes)
    assert early is not None
    said = SshSettings(address=where.hostname, port=where.port)
    route = routes(tmp_path, "").find("web1", said)
    early.place = route.place
    with pytest.raises(HostError, match="refuses the connection"):
        Opener(handshakes=handshakes).open(route, early)
    assert handshakes.slot(where.hostname, where.port).acquire(blocking=False)


def test_one_that_went_elsewhere_is_not_used(server: socket.socket, tmp_path: Path) -> None:
    early = Early.to(place(server), Handshakes())
    assert early is not None
    with socket.create_server(("127.0.0.1", 0)) as other:
        said = SshSettings(address="127.0.0.1", port=other.getsockname()[1])
        with Opener().socket(routes(tmp_path, "").find("web1", said), early) as sock:
            assert sock.getpeername() == other.getsockname()
    early.close()
