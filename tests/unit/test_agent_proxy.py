"""An app's routes at the host's proxy, and the network to its containers, when others are at work as well."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from longshore.agent import proxy as proxy_module
from longshore.agent.engine import EngineError
from longshore.agent.fail import Refusal
from longshore.agent.network import NETWORK, Network
from longshore.agent.proxy import API, Proxy

CONFIG: dict[str, Any] = {"http": {"services": {}, "routers": {}}}


class _Engine:
    path = "/nowhere"

    def logs(self, ident: str, lines: int) -> str:
        return ""


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

    def __init__(self, *names: str) -> None:
        self.names = list(names)

    def request(self, method: str, path: str, query: Any = None, body: Any = None) -> Any:
        name = path.rpartition("/")[2]
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

    def containers(self) -> list[dict[str, Any]]:
        return []


@pytest.mark.parametrize("left", [(), (f"{NETWORK}-subnet",)])
def test_the_network_is_made_whatever_one_that_was_killed_has_left(
    tmp_path: Path, left: tuple[str, ...]
) -> None:
    engine: Any = _Networks(*left)
    assert Network(engine, str(tmp_path)).connect([]) == {}
    assert engine.names == [NETWORK]
