"""The network in which the proxy reaches containers: each has an address there that stays its own."""

import ipaddress
import os
from typing import Any, ContextManager, Dict, Iterable, Optional, Set

from longshore.agent import lock, wire
from longshore.agent.engine import Engine, EngineError
from longshore.agent.fail import Refusal
from longshore.agent.store import write

NETWORK = "longshore"
LABEL = "longshore.proxy"


def alone(root: str) -> ContextManager[None]:
    """Apps of one host may be deployed at once, and there is one proxy. ``root``: its folder."""
    return lock.alone(os.path.join(root, "lock"))


def existing(path: str) -> Optional[bytes]:
    """What is in a file; ``None`` where there is none."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def _address(container: Dict[str, Any]) -> str:
    """Of a container in full, or of the list; empty for one that is not in our network."""
    entry = ((container.get("NetworkSettings") or {}).get("Networks") or {}).get(NETWORK) or {}
    return str((entry.get("IPAMConfig") or {}).get("IPv4Address") or entry.get("IPAddress") or "")


class Network:
    """Addresses of containers. ``root``: the proxy's folder, which is there."""

    def __init__(self, engine: Engine, root: str) -> None:
        self.engine = engine
        self.root = root

    def connect(self, containers: Iterable[str]) -> Dict[str, str]:
        """Give each of these containers (ids) its address in our network, for good. Returns id to address."""
        with alone(self.root):
            return self._connect(containers)

    def _connect(self, containers: Iterable[str]) -> Dict[str, str]:
        idents = list(containers)
        found = self.addresses(idents)
        missing = [ident for ident in idents if ident not in found]
        if missing:
            subnet, used = self._network(), set(self.addresses().values())
            for ident in missing:
                address = self._free(subnet, used)
                body = {"Container": ident, "EndpointConfig": {"IPAMConfig": {"IPv4Address": address}}}
                self.engine.request("POST", f"/networks/{NETWORK}/connect", None, body)
                used.add(address)
                found[ident] = address
        return found

    def _network(self) -> ipaddress.IPv4Network:
        """Our network's subnet; it is made where it isn't there.

        The engine only gives a container an address for good in a network whose subnet was said, and only
        the engine knows which subnet is free: so one is made, asked for its subnet, and made again.
        """
        try:
            made = self.engine.request("GET", f"/networks/{NETWORK}")
        except EngineError as error:
            if error.status != 404:
                raise
            self._remove(f"{NETWORK}-subnet")  # left by one who was killed in between
            first = self.engine.request("POST", "/networks/create", None, {"Name": f"{NETWORK}-subnet"})
            try:
                config = self.engine.request("GET", f"/networks/{first['Id']}")["IPAM"]["Config"]
            finally:
                self._remove(first["Id"])
            body = {
                "Name": NETWORK,
                "Labels": {LABEL: "network"},
                "IPAM": {"Config": [{"Subnet": config[0]["Subnet"]}]},
                # Apps of one host must not meet here; the host, where the proxy is, reaches them all.
                "Options": {"com.docker.network.bridge.enable_icc": "false"},
            }
            self.engine.request("POST", "/networks/create", None, body)
            made = self.engine.request("GET", f"/networks/{NETWORK}")
        return ipaddress.IPv4Network(made["IPAM"]["Config"][0]["Subnet"])

    def _remove(self, network: str) -> None:
        try:
            self.engine.request("DELETE", f"/networks/{network}")
        except EngineError as error:
            if error.status != 404:
                raise

    def addresses(self, of: Optional[Iterable[str]] = None) -> Dict[str, str]:
        """Container id to its address here; also of stopped ones, whose address is still theirs. ``of``: only
        these; each is asked for by itself, for ``Engine.containers`` is slow."""
        if of is None:
            there = self.engine.containers(network=NETWORK)
        else:
            there = [full for full in map(self.engine.container, of) if full is not None]
        found = {one["Id"]: _address(one) for one in there}
        return {ident: address for ident, address in found.items() if address}

    def _free(self, subnet: ipaddress.IPv4Network, used: Set[str]) -> str:
        """The next address after the one given last: one that was just left may have a connection yet."""
        path = os.path.join(self.root, "last-address")
        data = existing(path)
        first = int(subnet.network_address) + 2  # after the gateway
        count = subnet.num_addresses - 3
        last = int(ipaddress.IPv4Address(data.decode())) if data else first - 1
        for step in range(1, count + 1):
            address = str(ipaddress.IPv4Address(first + (last - first + step) % count))
            if address not in used:
                write(path, address.encode())
                return address
        raise Refusal(wire.INTERNAL, f"the network {NETWORK} has no free address")
