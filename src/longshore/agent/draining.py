"""Waiting for connections to end, before those whom they go to are stopped."""

import socket
import time
from typing import Callable, Iterable, Optional, Set, Tuple

from longshore.agent.sockets import ESTABLISHED, sockets


def drained(
    addresses: Iterable[Tuple[str, int]], seconds: float, given_up: Optional[Callable[[], bool]] = None
) -> bool:
    """Wait until no connection from this host to these addresses (IPv4) is left, up to ``seconds``, or until
    ``given_up``. The proxy ends the idle ones itself (``idleConnTimeout``). Returns whether all have
    ended."""
    wanted = {(socket.inet_aton(address), port) for address, port in addresses}
    until = time.monotonic() + seconds
    while _established() & wanted:
        if time.monotonic() >= until or (given_up and given_up()):
            return False
        time.sleep(0.1)
    return True


def _established() -> Set[Tuple[bytes, int]]:
    """The far ends of established connections. An IPv4 address in an IPv6 socket ends with it."""
    return {(row.far[-4:], row.far_port) for row in sockets(ESTABLISHED)}
