"""Paramiko's transport with what it lacks for many hosts at once: fewer round trips, fewer wake-ups,
and reasons that reach the person. Only this module and :mod:`longshore.remote.keys` know its insides.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from paramiko.auth_handler import AuthOnlyHandler
from paramiko.channel import Channel
from paramiko.common import (
    cMSG_CHANNEL_OPEN,
    cMSG_GLOBAL_REQUEST,
    cMSG_SERVICE_REQUEST,
    cMSG_USERAUTH_REQUEST,
)
from paramiko.message import Message
from paramiko.packet import Packetizer
from paramiko.ssh_exception import SSHException
from paramiko.transport import ServiceRequestingTransport

from longshore.remote import hostcerts
from longshore.remote.hostkeys import KnownKeys

# Without a handler, Python prints paramiko's errors, tracebacks included, to standard error.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

# CPU of one key exchange, measured: curve25519 3-5 ms, group14 27, group16 92, gex 2,500.
CHEAP_FIRST = (
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256",
    "mlkem768x25519-sha256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
    "diffie-hellman-group14-sha256",
    "diffie-hellman-group16-sha512",
)
AUTHENTICATED = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
"""Ciphers without a separate MAC, which Paramiko compares byte by byte in Python."""
KEEPALIVES = 3
"""Keepalives that may go unanswered, as OpenSSH's ``ServerAliveCountMax``."""
_HOST_KEY_ALGORITHMS = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}


# The published types leave out what is overridden here.
_Base: Any = ServiceRequestingTransport
_BaseAuthHandler: Any = AuthOnlyHandler
_BasePacketizer: Any = Packetizer
_PIECE = 32768
"""Bytes that are read ahead at once."""


class _ReadAhead:
    """A socket that is asked once for what is there. Paramiko asks twice for each message, for its length and
    for the rest, and with many threads each time may be a wait for Python's lock."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._there = b""
        self.heard = time.monotonic()
        """When something came last (monotonic, s)."""

    def recv(self, size: int) -> bytes:
        if not self._there:
            self._there = self._sock.recv(_PIECE)
            self.heard = time.monotonic()
        piece, self._there = self._there[:size], self._there[size:]
        return piece

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class _Packetizer(_BasePacketizer):  # type: ignore[misc]
    """Paramiko's, which has a thread for each handshake that wakes it when that takes too long, and looks
    after every message whether that thread is to be told that it doesn't."""

    def __init__(self, sock: Any) -> None:
        self.source = _ReadAhead(sock)
        super().__init__(self.source)
        self._shake_until = 0.0

    def start_handshake(self, timeout: float) -> None:
        self._shake_until = self._shake_until or time.monotonic() + timeout

    def handshake_timed_out(self) -> bool:
        return 0.0 < self._shake_until < time.monotonic()

    def complete_handshake(self) -> None:
        self._shake_until = 0.0


class _AuthHandler(_BaseAuthHandler):  # type: ignore[misc]
    """Paramiko's makes the event it waits for after sending, and misses an answer that is quicker."""

    def send_auth_request(self, username: str, method: str, finish_message: Any = None) -> Any:
        self.auth_method = method
        self.username = username
        message = Message()
        message.add_byte(cMSG_USERAUTH_REQUEST)
        message.add_string(username)
        message.add_string("ssh-connection")
        message.add_string(method)
        if finish_message is not None:
            finish_message(message)
        self.auth_event = event = threading.Event()
        with self.transport.lock:
            self.transport._send_message(message)
        return self.wait_for_response(event)


class Transport(_Base):  # type: ignore[misc]
    """A transport for one host."""

    # Paramiko wakes every connection's thread ten times a second to see whether it was closed. We wake it
    # by shutting the socket down, so this only bounds how late a keepalive goes out.
    _active_check_timeout = 5.0

    _logged = True
    auth_handler: Any
    _preferred_keys: tuple[str, ...]
    _preferred_ciphers: tuple[str, ...]

    def __init__(
        self, sock: Any, known_kinds: tuple[str, ...] = (), *, certificates: bool = False, **options: Any
    ) -> None:
        super().__init__(sock, packetizer_class=_Packetizer, **options)
        self._logged = self.logger.isEnabledFor(logging.DEBUG)
        self.disconnect_reason = ""
        self._certificates = certificates
        self._unanswered = 0
        available = self._kex_info
        self._preferred_kex = tuple(name for name in CHEAP_FIRST if name in available)
        ciphers: tuple[str, ...] = self._preferred_ciphers
        cheap = tuple(name for name in AUTHENTICATED if name in ciphers)
        self._preferred_ciphers = (*cheap, *(name for name in ciphers if name not in cheap))
        usable: tuple[str, ...] = self._preferred_keys
        wanted = [name for kind in known_kinds for name in _HOST_KEY_ALGORITHMS.get(kind, (kind,))]
        known = [name for name in wanted if name in usable]
        self._preferred_keys = (*known, *(name for name in usable if name not in known))

    def _filter_algorithm(self, type_: str) -> tuple[str, ...]:
        """Paramiko's looks at each, a dozen times in a handshake, whether it is disabled."""
        if self.disabled_algorithms:
            return tuple(super()._filter_algorithm(type_))
        return tuple(getattr(self, f"_preferred_{type_}"))

    @property
    def preferred_keys(self) -> tuple[str, ...]:
        """Certificates only where an authority is known for the host, and then first, as OpenSSH does."""
        plain = tuple(self._preferred_keys)
        return (*(name + hostcerts.SUFFIX for name in plain), *plain) if self._certificates else plain

    def set_keepalive(self, interval: int) -> None:
        """Ask for a sign of life when nothing has come for ``interval`` seconds; a server that leaves three
        out is gone.

        Paramiko's own want no answer, and a connection through a hop or a ProxyCommand has no TCP of its own
        that would notice. Any answer will do: OpenSSH refuses the request, and that is one.
        """

        def ask() -> None:
            if time.monotonic() - self.packetizer.source.heard < interval:
                self._unanswered = 0
                return
            if self._unanswered >= KEEPALIVES:
                raise SSHException(f"it has been silent for {(self._unanswered + 1) * interval} s")
            self._unanswered += 1
            message = Message()
            message.add_byte(cMSG_GLOBAL_REQUEST)
            message.add_string("keepalive@openssh.com")
            message.add_boolean(True)
            self._send_user_message(message)

        self.sock.settimeout(min(self._active_check_timeout, interval))
        self.packetizer.set_keepalive(interval, ask)

    def _parse_request_success(self, message: Any) -> None:
        self._unanswered = 0
        super()._parse_request_success(message)

    def _parse_request_failure(self, message: Any) -> None:
        self._unanswered = 0
        super()._parse_request_failure(message)

    def ensure_session(self) -> None:
        """Ask for authentication, and don't wait for the yes: sshd reads the next request after this one.

        Saves a round trip a host; and Paramiko's own wait never ends when the connection breaks.
        """
        if not self.active or not self.initial_kex_done:
            raise SSHException("No existing session")
        if isinstance(self.auth_handler, _AuthHandler):
            return
        self.auth_handler = _AuthHandler(self)
        message = Message()
        message.add_byte(cMSG_SERVICE_REQUEST)
        message.add_string("ssh-userauth")
        self._send_message(message)

    def _parse_debug(self, message: Any) -> None:
        """sshd tells so which options of authorized_keys hold: some 0.4 ms of CPU to make it readable."""

    def _log(self, level: Any, message: Any, *args: Any) -> None:
        if self._logged or level > logging.DEBUG:
            super()._log(level, message, *args)

    def _parse_disconnect(self, message: Any) -> None:
        message.get_int()
        self.disconnect_reason = message.get_text()

    def stop_thread(self) -> None:
        """End the thread at once, by waking it."""
        self.active = False
        with contextlib.suppress(Exception):
            self.sock.shutdown(socket.SHUT_RDWR)
        super().stop_thread()

    def open_unix_socket(self, path: str, *, timeout: float) -> Channel:
        """A channel to a Unix socket on the host: ``direct-streamlocal@openssh.com`` (OpenSSH, PROTOCOL 2.4).

        Raises ``SSHException`` when the server refuses. Paramiko's ``open_channel`` can't add this kind's
        fields, so this is that method with them.
        """
        with self.lock:
            number = self._next_channel()
            message = Message()
            message.add_byte(cMSG_CHANNEL_OPEN)
            message.add_string("direct-streamlocal@openssh.com")
            message.add_int(number)
            message.add_int(self.default_window_size)
            message.add_int(self.default_max_packet_size)
            message.add_string(path)
            message.add_string("")
            message.add_int(0)
            channel: Any = Channel(number)
            self._channels.put(number, channel)
            self.channel_events[number] = event = threading.Event()
            self.channels_seen[number] = True
            channel._set_transport(self)
            channel._set_window(self.default_window_size, self.default_max_packet_size)
        self._send_user_message(message)
        end = time.monotonic() + timeout
        while not event.wait(0.1):
            if not self.active:
                raise self.get_exception() or SSHException("the connection is closed")
            if time.monotonic() > end:
                raise SSHException("Timeout opening channel.")
        if self._channels.get(number) is None:
            raise self.get_exception() or SSHException("the channel was refused")
        return channel  # type: ignore[no-any-return]


def factory(known: KnownKeys) -> Callable[..., Transport]:
    """What ``SSHClient.connect`` wants: makes transports that ask for the key types we know first."""

    def make(sock: Any, disabled_algorithms: Any = None) -> Transport:
        return Transport(
            sock,
            known.kinds,
            certificates=bool(known.authorities),
            disabled_algorithms=disabled_algorithms,
        )

    return make
