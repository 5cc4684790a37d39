"""TCP to a host's sshd, and how many handshakes it sees from us at once.

Apart from :mod:`longshore.remote.transport`, because this comes before Paramiko: while that is imported
(a tenth of a second), sshd gets ready for who has connected already.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time

from longshore.records import dataclass


@dataclass(frozen=True)
class Place:
    """Where an sshd listens. Times are seconds; ``family`` is ``any``, ``inet`` or ``inet6``."""

    hostname: str
    port: int
    timeout: float
    keepalive: float
    family: str


class Handshakes:
    """Bounds the handshakes that one sshd sees from us: its default ``MaxStartups`` begins to drop them at
    ten. Safe to use from several threads."""

    def __init__(self, at_once: int = 8) -> None:
        self._at_once = at_once
        self._lock = threading.Lock()
        self._slots: dict[tuple[str, int], threading.BoundedSemaphore] = {}

    def slot(self, hostname: str, port: int) -> threading.BoundedSemaphore:
        """What is held during a handshake with this sshd."""
        with self._lock:
            return self._slots.setdefault((hostname, port), threading.BoundedSemaphore(self._at_once))


class Early:
    """A connection that waits for its handshake, or the error that came instead; a slot is held for it."""

    def __init__(self, place: Place, slot: threading.BoundedSemaphore) -> None:
        self.place = place
        self._slot: threading.BoundedSemaphore | None = slot
        self._sock: socket.socket | None = None
        self._error: OSError | None = None
        try:
            self._sock = open_socket(place)
        except OSError as error:
            self._error = error

    @classmethod
    def to(cls, place: Place, handshakes: Handshakes) -> Early | None:
        """Connect there, unless that sshd has as many handshakes as it may."""
        slot = handshakes.slot(place.hostname, place.port)
        return cls(place, slot) if slot.acquire(blocking=False) else None

    def take(self) -> socket.socket:
        """The socket, which is the caller's from now on. Raises the ``OSError`` that came instead."""
        if self._error is not None:
            raise self._error
        sock, self._sock = self._sock, None
        assert sock is not None
        return sock

    def close(self) -> None:
        """The handshake is over, or there will be none."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None
        if self._slot is not None:
            self._slot.release()
            self._slot = None


def open_socket(place: Place) -> socket.socket:
    """A connected socket, to the first of the name's addresses that answers.

    Raises ``socket.gaierror``, ``TimeoutError``, or the last address's ``OSError``.
    """
    families = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}
    family = families.get(place.family, socket.AF_UNSPEC)
    addresses = socket.getaddrinfo(place.hostname, place.port, family, socket.SOCK_STREAM)
    end = time.monotonic() + place.timeout
    last: OSError = OSError(f"{place.hostname} has no address")
    for number, (kind, _, protocol, _, address) in enumerate(addresses):
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        sock = socket.socket(kind, socket.SOCK_STREAM, protocol)
        try:
            # A name with a dead IPv6 address must leave time for its IPv4 one.
            sock.settimeout(left / (len(addresses) - number))
            sock.connect(address)
        except OSError as error:
            last = error
            sock.close()
            continue
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _notice_dead_peers(sock, place.keepalive)
        return sock
    raise last


def _notice_dead_peers(sock: socket.socket, keepalive: float) -> None:
    """Paramiko sends keepalives but doesn't miss the answers; the kernel does, after three."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_USER_TIMEOUT", int(keepalive * 3000)),
        ("TCP_KEEPIDLE", int(keepalive)),
        ("TCP_KEEPINTVL", int(keepalive)),
        ("TCP_KEEPCNT", 3),
    ):
        option = getattr(socket, name, None)
        if option is not None:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
