"""Waiting for connections to end, before those whom they go to are stopped."""

import ipaddress
import sys
import time
from typing import Iterable, Set, Tuple


def drained(addresses: Iterable[Tuple[str, int]], seconds: float) -> bool:
    """Wait until no connection from this host to these addresses is left, up to ``seconds``. The proxy ends
    the idle ones itself (``idleConnTimeout``). Returns whether all have ended."""
    wanted = {_in_table(address, port) for address, port in addresses}
    until = time.monotonic() + seconds
    while _established() & wanted:
        if time.monotonic() >= until:
            return False
        time.sleep(0.1)
    return True


def _established() -> Set[str]:
    """The far ends of established connections, as ``/proc/net/tcp`` writes them (proc(5))."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table, encoding="ascii") as file:
                for line in list(file)[1:]:
                    words = line.split()
                    if words[3] == "01":
                        far, _, port = words[2].rpartition(":")
                        found.add(f"{far[-8:]}:{port}")  # an IPv4 address in the IPv6 table ends with it
        except FileNotFoundError:
            continue
    return found


def _in_table(address: str, port: int) -> str:
    packed = ipaddress.IPv4Address(address).packed
    number = int.from_bytes(packed, "little" if sys.byteorder == "little" else "big")
    return f"{number:08X}:{port:04X}"
