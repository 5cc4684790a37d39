"""The machine's side of a lab's network: a bridge, NAT to the outside, one port per host.

Everything has a name made from the lab's number, so it is found and removed also when whoever made it
was killed halfway.
"""

from __future__ import annotations

import ipaddress
import json
import shutil
from collections.abc import Collection
from pathlib import Path

from longshore.lab.commands import LabError, run
from longshore.lab.place import Network


def free_number(wanted: int, taken: Collection[int | None] = ()) -> int:
    """The first network from ``wanted`` on that no lab has ``taken`` and nothing on this machine uses.

    Raises ``LabError`` when there is none left.
    """
    listed = run(["ip", "-j", "-4", "address"]).stdout if shutil.which("ip") else "[]"
    used: list[ipaddress.IPv4Network] = [
        ipaddress.IPv4Interface(f"{address['local']}/{address['prefixlen']}").network
        for link in json.loads(listed)
        for address in link.get("addr_info", [])
    ]
    numbers: list[int] = [*range(wanted, 256), *range(wanted)]
    for number in numbers:
        network = Network(number)
        if number in taken:
            continue
        if not any(network.subnet.overlaps(other) for other in used) and not exists(network.bridge):
            return number
    raise LabError("No network of 10.78.0.0/16 is free on this machine.")


def exists(link: str) -> bool:
    """Whether the machine has a network interface of that name."""
    return Path("/sys/class/net", link).exists()


def up(network: Network) -> None:
    """Make the bridge and let its hosts out; what is there already stays as it is."""
    if not exists(network.bridge):
        run(["ip", "link", "add", network.bridge, "type", "bridge"])
    run(["ip", "address", "replace", f"{network.gateway}/24", "dev", network.bridge])
    run(["ip", "link", "set", network.bridge, "up"])
    for table, rule in _rules(network):
        if run(["iptables", "-w", "-t", table, "-C", *rule], check=False).returncode != 0:
            run(["iptables", "-w", "-t", table, "-I", *rule])


def down(network: Network) -> None:
    """Remove the bridge, its ports and its rules."""
    # A new machine may not have it yet: then there are none.
    for table, rule in _rules(network) if shutil.which("iptables") else ():
        while run(["iptables", "-w", "-t", table, "-D", *rule], check=False).returncode == 0:
            pass
    for port in Path("/sys/class/net").glob(f"{network.port(1)[:-1]}*"):
        run(["ip", "link", "delete", port.name], check=False)
    if exists(network.bridge):
        run(["ip", "link", "delete", network.bridge])


def _rules(network: Network) -> list[tuple[str, list[str]]]:
    subnet = str(network.subnet)
    # Forwarding is allowed by name, since a machine with a Docker engine drops what it doesn't know.
    return [
        ("nat", ["POSTROUTING", "-s", subnet, "!", "-d", subnet, "-j", "MASQUERADE"]),
        ("filter", ["FORWARD", "-i", network.bridge, "-j", "ACCEPT"]),
        ("filter", ["FORWARD", "-o", network.bridge, "-j", "ACCEPT"]),
    ]


def plug_in(network: Network, index: int, pid: int) -> None:
    """Give the network namespace of process ``pid`` its ``eth0``, at the bridge."""
    port = network.port(index)
    if exists(port):
        run(["ip", "link", "delete", port])
    peer = ["peer", "name", "eth0", "address", network.mac(index), "netns", str(pid)]
    run(["ip", "link", "add", port, "type", "veth", *peer])
    heal(network, index)


def unplug(network: Network, index: int) -> None:
    """Remove a host's port; it goes by itself with the host, some time after."""
    forget = ["ip", "neigh", "del", network.address(index), "dev", network.bridge]
    if exists(network.bridge):
        run(forget, check=False)
    if exists(network.port(index)):
        run(["ip", "link", "delete", network.port(index)], check=False)


def cut(network: Network, index: int) -> None:
    """Lose everything to and from a host, silently.

    Its port leaves the bridge. A fixed neighbour entry keeps packets to it going nowhere: without one the
    machine would say "no route to host" after some seconds, which a broken line doesn't.
    """
    run(["ip", "link", "set", network.port(index), "nomaster"])
    nowhere = ["lladdr", network.mac(index), "dev", network.bridge, "nud", "permanent"]
    run(["ip", "neigh", "replace", network.address(index), *nowhere])


def heal(network: Network, index: int) -> None:
    """Put a host's port back to the bridge."""
    run(["ip", "link", "set", network.port(index), "master", network.bridge, "up"])
    run(["ip", "neigh", "del", network.address(index), "dev", network.bridge], check=False)


def is_cut(network: Network, index: int) -> bool:
    """Whether the host's port is there but not at the bridge."""
    port = Path("/sys/class/net", network.port(index))
    return port.exists() and not (port / "master").exists()
