"""An app's routes at the host's proxy, and the network to its containers, when others are at work as well."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from longshore.agent import proxy as proxy_module
from longshore.agent.engine import EngineError
from longshore.agent.fail import Refusal
from longshore.agent.network import LABEL, NETWORK, Network
from longshore.agent.proxy import API, Proxy

CONFIG: dict[str, Any] = {"http": {"services": {}, "routers": {}}}


class _Engine:
    path = "/nowhere"

    def logs(self, ident: str, lines: int) -> str:
        return ""

    def container(self, ident: str) -> None:
        return None


class _Two(Proxy):
    """The proxy on port 1 is taken over from by that on port 2, which alone takes new routes."""

    def __init__(self, state: Path, *, takes: bool) -> None:
        super().__init__(_Engine(), str(state), lambda kind, **facts: None)  # type: ignore[arg-type]
        self.takes = takes
        self.looked = 0

    def current(self) -> dict[str, Any]:
        self.looked += 1
        return {"Id": "c", "Names": ["/proxy"], "Labels": {API: str(min(self.looked, 2))}}

    def _get(self, port: int, path: str) -> bytes | None:
        if port == 1 or (not self.takes and "services" in path):
            return None
        return b"{}"


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy_module, "_PATIENCE", 0.3)


def test_routes_hold_at_the_proxy_that_takes_over_meanwhile(tmp_path: Path) -> None:
    _Two(tmp_path, takes=True).put("shop", CONFIG)
    assert os.listdir(tmp_path / "_proxy" / "dynamic") == ["shop.yml"]


@pytest.mark.parametrize("before", [None, b'{"http": {}}'])
def test_routes_that_do_not_take_effect_are_as_they_were(tmp_path: Path, before: bytes | None) -> None:
    path = tmp_path / "_proxy" / "dynamic" / "shop.yml"
    path.parent.mkdir(parents=True)
    if before is not None:
        path.write_bytes(before)
    with pytest.raises(Refusal, match="doesn't take its new routes"):
        _Two(tmp_path, takes=False).put("shop", CONFIG)
    assert (path.read_bytes() if path.exists() else None) == before


class _Networks:
    """An engine's networks, by name; none has another one's name."""

    def __init__(self, *names: str, **connected: str) -> None:
        self.names = list(names)
        self.connected = connected
        self.listed = 0

    def request(self, method: str, path: str, query: Any = None, body: Any = None) -> Any:
        name = path.rpartition("/")[2]
        if name == "connect":
            assert path == f"/networks/{NETWORK}/connect"
            assert NETWORK in self.names
            address = body["EndpointConfig"]["IPAMConfig"]["IPv4Address"]
            assert address not in self.connected.values()
            self.connected[body["Container"]] = address
            return None
        if method == "POST":
            if body["Name"] in self.names:
                raise EngineError(409, f"network with name {body['Name']} already exists")
            self.names.append(body["Name"])
            return {"Id": body["Name"]}
        if name not in self.names:
            raise EngineError(404, "no such network")
        if method == "DELETE":
            self.names.remove(name)
        return {"IPAM": {"Config": [{"Subnet": "172.30.0.0/16"}]}}

    def containers(self, network: str) -> list[dict[str, Any]]:
        assert network == NETWORK
        self.listed += 1
        return [self.full(ident) for ident in self.connected]

    def container(self, ident: str) -> dict[str, Any]:
        return self.full(ident) if ident in self.connected else {"Id": ident, "NetworkSettings": {}}

    def full(self, ident: str) -> dict[str, Any]:
        address = {"IPAMConfig": {"IPv4Address": self.connected[ident]}, "IPAddress": ""}
        return {"Id": ident, "NetworkSettings": {"Networks": {NETWORK: address}}}


@pytest.mark.parametrize("left", [(), (f"{NETWORK}-subnet",)])
def test_the_network_is_made_whatever_one_that_was_killed_has_left(
    tmp_path: Path, left: tuple[str, ...]
) -> None:
    engine: Any = _Networks(*left)
    assert Network(engine, str(tmp_path)).connect(["a"]) == {"a": "172.30.0.2"}
    assert engine.names == [NETWORK]


def test_a_container_gets_an_address_that_is_nobody_elses_and_keeps_it(tmp_path: Path) -> None:
    engine: Any = _Networks(NETWORK, other="172.30.0.2")
    network = Network(engine, str(tmp_path))
    assert network.connect(["a", "b"]) == {"a": "172.30.0.3", "b": "172.30.0.4"}
    assert network.addresses() == {"other": "172.30.0.2", "a": "172.30.0.3", "b": "172.30.0.4"}
    assert network.addresses(["b", "not in it"]) == {"b": "172.30.0.4"}


def test_nothing_is_listed_or_asked_of_the_network_for_those_who_have_an_address(tmp_path: Path) -> None:
    engine: Any = _Networks(a="172.30.0.3", b="172.30.0.4")
    assert Network(engine, str(tmp_path)).connect(["b", "a"]) == {"b": "172.30.0.4", "a": "172.30.0.3"}
    assert engine.listed == 0
    assert engine.names == []


class _TwoFolders(Proxy):
    """A host on which two state folders have a proxy each; nothing is started or stopped."""

    def __init__(self, state: Path, *others: Path) -> None:
        self.stopped: list[str] = []
        self.started = 0
        super().__init__(_Engine(), str(state), lambda kind, **facts: None)  # type: ignore[arg-type]
        self.others = [
            {
                "Id": str(number), "Names": [f"/{other.name}"], "State": "running", "Created": 1,
                "Labels": {LABEL: "k", API: "8790"},
                "Mounts": [
                    {"Source": f"{other}/_proxy/longshore-proxy-k-8790", "Destination": "/etc/traefik/own"},
                    {"Source": f"{other}/_proxy/dynamic", "Destination": "/etc/traefik/dynamic"},
                ],
            }
            for number, other in enumerate(others)
        ]  # fmt: skip

    def _all(self) -> list[dict[str, Any]]:
        return self.others

    def _key(self, wanted: dict[str, Any]) -> str:
        return "new"

    def _start(self, key: str, wanted: dict[str, Any], *, taken: set[str]) -> dict[str, Any]:
        assert taken == {"8790"}
        self.started += 1
        return {"Id": "new", "Names": ["/new"], "Labels": {API: "8791"}}

    def _get(self, port: int, path: str) -> bytes | None:
        return b"{}"

    def _retire(self, old: list[dict[str, Any]], new: dict[str, Any], wanted: dict[str, Any]) -> None:
        self.stopped += [one["Names"][0] for one in old]


def _wanted(port: int) -> dict[str, Any]:
    return {"image": "traefik:v3", "static": {"entryPoints": {"web": {"address": f":{port}"}}}, "grace": 0}


def test_a_proxy_of_another_state_folder_is_left_alone_and_one_of_this_is_replaced(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mine, other = tmp_path / "mine", tmp_path / "mine-too"
    proxy = _TwoFolders(mine, other)
    assert proxy.current() is None
    proxy.ensure(_wanted(port))
    assert (proxy.started, proxy.stopped) == (1, [])
    proxy = _TwoFolders(mine, other, mine)
    proxy.ensure(_wanted(port))
    assert (proxy.started, proxy.stopped) == (1, ["/mine"])


def test_two_proxies_of_different_state_folders_do_not_share_a_port(tmp_path: Path) -> None:
    with socket.socket() as theirs:
        theirs.bind(("127.0.0.1", 0))
        theirs.listen()
        port = theirs.getsockname()[1]
        proxy = _TwoFolders(tmp_path / "mine", tmp_path / "other")
        with pytest.raises(Refusal, match=f"port {port} is taken, and the proxy of another state folder"):
            proxy.ensure(_wanted(port))
        assert proxy.started == 0
