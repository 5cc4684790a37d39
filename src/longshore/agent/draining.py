"""Waiting for connections to end, before those whom they go to are stopped."""

import ipaddress
import sys
import time
from typing import Callable, Iterable, Optional, Set, Tuple

from longshore.agent.sockets import ESTABLISHED, sockets


def drained(
    addresses: Iterable[Tuple[str, int]], seconds: float, given_up: Optional[Callable[[], bool]] = None
) -> bool:
    """Wait until no connection from this host to these addresses is left, up to ``seconds``, or until
    ``given_up``. The proxy ends the idle ones itself (``idleConnTimeout``). Returns whether all have
    ended."""
    wanted = {_in_table(address, port) for address, port in addresses}
    until = time.monotonic() + seconds
    while _established() & wanted:
        if time.monotonic() >= until or (given_up and given_up()):
            return False
        time.sleep(0.1)
    return True


def _established() -> Set[str]:
    """The far ends of established connections."""
    found = set()
    for row in sockets():
        if row.state == ESTABLISHED:
            far, _, port = row.far.rpartition(":")
            found.add(f"{far[-8:]}:{port}")  # an IPv4 address in the IPv6 table ends with it
    return found


def _in_table(address: str, port: int) -> str:
    packed = ipaddress.IPv4Address(address).packed
    number = int.from_bytes(packed, sys.byteorder)
    return f"{number:08X}:{port:04X}"
