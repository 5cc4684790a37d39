"""Looking before anything is touched: can this host take the release?"""

import errno
import os
import socket
import sys
from typing import Any, Dict, List, Set, Tuple

from longshore.agent import wire
from longshore.agent.engine import PROJECT, Engine
from longshore.agent.fail import Refusal

LEAST_FREE = 200 * 1000 * 1000
"""Bytes that must stay free for a release to be staged at all."""

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def architecture(machine: str = "") -> str:
    """A machine's architecture, the host's own or as the engine names it, in the images' words."""
    machine = machine or os.uname().machine
    return _ARCHITECTURES.get(machine, machine)


def facts(engine: Engine, state_dir: str) -> Dict[str, Any]:
    """What this host is. Asks the engine once; sizes in bytes. ``at_boot``: whether it recovers by
    itself when it comes up (``boot.Found``)."""
    from longshore.agent.boot import Boot  # late: a look at an app needs none of it

    version = engine.version()
    return {
        "hostname": socket.gethostname(),
        "architecture": version.get("Arch") or architecture(),
        "engine": version.get("Version", ""),
        "api": version.get("ApiVersion", ""),
        "kernel": os.uname().release,
        "python": ".".join(map(str, sys.version_info[:3])),
        "cpus": os.cpu_count() or 1,
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "free": free_bytes(state_dir),
        "at_boot": Boot(state_dir).found()._asdict(),
    }


def free_bytes(folder: str) -> int:
    """What is free for us on a folder's disk."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def check_space(*folders: str) -> None:
    """Raises ``Refusal`` when a folder's disk has less than ``LEAST_FREE`` left."""
    for folder in folders:
        if not os.path.isdir(folder):
            continue
        free = free_bytes(folder)
        if free < LEAST_FREE:
            raise Refusal(
                wire.NO_SPACE,
                f"only {free // 1000000} MB are free on the disk of {folder}; at least"
                f" {LEAST_FREE // 1000000} MB are needed",
                "Free some, for example with `invoke cleanup`.",
                {"folder": folder, "free": free},
            )


def check_ports(engine: Engine, project: str, services: Dict[str, Dict[str, Any]]) -> None:
    """Raises ``Refusal`` when a port that the release publishes is used by something else."""
    ours: Set[Tuple[int, str]] = set()
    theirs: Dict[Tuple[int, str], List[Tuple[str, str]]] = {}
    for raw in engine.containers():
        for port in raw.get("Ports") or []:
            if not port.get("PublicPort"):
                continue
            key = (port["PublicPort"], port["Type"])
            if (raw.get("Labels") or {}).get(PROJECT) == project:
                ours.add(key)
            else:
                name = (raw.get("Names") or ["/?"])[0].lstrip("/")
                theirs.setdefault(key, []).append((port.get("IP", ""), name))
    for service, described in sorted(services.items()):
        for text in described["ports"]:
            address, number, protocol = _parse(text)
            for other, name in theirs.get((number, protocol), []):
                if _overlap(address, other):
                    raise _taken(service, text, f"by the container {name}")
            if (number, protocol) not in ours and _in_use(address, number, protocol):
                raise _taken(service, text, "by a process on the host")


def _parse(text: str) -> Tuple[str, int, str]:
    rest, _, protocol = text.partition("/")
    address, _, number = rest.rpartition(":")
    return address.strip("[]"), int(number), protocol or "tcp"


def _overlap(one: str, other: str) -> bool:
    every = ("", "0.0.0.0", "::")  # noqa: S104 - what Docker calls "all addresses"
    return one in every or other in every or one == other


def _taken(service: str, port: str, by: str) -> Refusal:
    return Refusal(
        wire.PORT_TAKEN,
        f"port {port.lstrip(':')}, which {service} publishes, is taken {by}",
        "Stop that, or publish another port.",
        {"service": service, "port": port},
    )


def _in_use(address: str, number: int, protocol: str) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    with socket.socket(family, kind) as probe:
        if kind == socket.SOCK_STREAM:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address or "0.0.0.0", number))  # noqa: S104
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise Refusal(
                    wire.PORT_TAKEN,
                    f"the host has no address {address}, on which port {number} is to be published",
                    "Correct the address in `ports`.",
                ) from error
            return error.errno == errno.EADDRINUSE
    return False


def check_architecture(image: Dict[str, Any], ref: str, service: str, wanted: str, asked: bool) -> None:
    """Raises ``Refusal`` for an image of another architecture, unless the service asks for it."""
    have = image.get("Architecture", "")
    if have and not asked and have != wanted:
        raise Refusal(
            wire.WRONG_ARCHITECTURE,
            f"{ref} ({service}) is built for {have}, this host is {wanted}",
            f"Build it for linux/{wanted}, or say `platform: linux/{have}` to run it emulated.",
            {"image": ref, "have": have, "want": wanted},
        )
