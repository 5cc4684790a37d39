"""Opening an SSH connection to a host: sockets, hops, host keys, retries, and a sentence for every failure.

The connection is Fabric's; what Fabric leaves open or decides too freely (host keys, jumps, timeouts) is
decided here.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import random
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, ClassVar, NoReturn

import fabric
from paramiko.client import MissingHostKeyPolicy
from paramiko.config import SSHConfig, SSHConfigDict
from paramiko.ssh_exception import (
    AuthenticationException,
    ChannelException,
    IncompatiblePeer,
    SSHException,
)

from longshore.errors import HostError
from longshore.remote import transport as transports
from longshore.remote.become import ask_person
from longshore.remote.hostcheck import HostKeyRefusedError, check_host_key
from longshore.remote.hostkeys import KnownHosts, KnownKeys
from longshore.remote.keys import AuthRefusedError, KeyAuth, KeyRing
from longshore.remote.proxy_command import ProxySocket
from longshore.remote.route import Route
from longshore.remote.sockets import Early, Handshakes, open_socket

RETRIES = 8
"""Times that a connection is tried again which sshd dropped before its greeting (``MaxStartups``)."""
BANNER_TIMEOUT = 15.0
AUTH_TIMEOUT = 30.0


class _DroppedError(Exception):
    """sshd closed the connection before saying anything: too many at once, as a rule."""


def tell_person(text: str) -> None:
    """A line on standard error, where OpenSSH says such things, too."""
    print(text, file=sys.stderr, flush=True)


class Opener:
    """Opens the connections of one run. Safe to use from several threads.

    ``handshakes`` bounds how many one sshd sees from us at once. ``tell`` says what was done that the person
    should know.
    """

    def __init__(
        self,
        *,
        handshakes: Handshakes | None = None,
        ask: Callable[[str], str] = ask_person,
        known_hosts: KnownHosts | None = None,
        tell: Callable[[str], None] = tell_person,
    ) -> None:
        self.known_hosts = known_hosts or KnownHosts()
        self.tell = tell
        self._ring = KeyRing(ask)
        self._handshakes = handshakes or Handshakes()
        self._lock = threading.Lock()
        self._hops: dict[tuple[Route, ...], fabric.Connection] = {}
        self._hop_locks: dict[tuple[Route, ...], threading.Lock] = {}

    def open(self, route: Route, early: Early | None = None) -> fabric.Connection:
        """A connected, authenticated connection; over ``early``, where that is there already. Raises
        ``HostError`` with a sentence."""
        for attempt in range(RETRIES + 1):
            try:
                if early is not None and attempt == 0:
                    with contextlib.closing(early):
                        return self._open_once(route, early)
                with self._handshakes.slot(route.hostname, route.port):
                    return self._open_once(route)
            except _DroppedError as error:
                if attempt == RETRIES:
                    raise HostError(
                        f"sshd on {route.hostname} drops every new connection unheard ({error}).",
                        where=route.name,
                        hint="It has too many at once (MaxStartups), or bans this address for a while.",
                    ) from error
                time.sleep(random.uniform(0.1, 0.4) * (attempt + 1))  # noqa: S311
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Close the hops, which hosts behind the same bastion share."""
        with self._lock:
            hops = list(self._hops.values())
            self._hops.clear()
        for hop in reversed(hops):
            with contextlib.suppress(Exception):
                hop.close()

    def _open_once(self, route: Route, early: Early | None = None) -> fabric.Connection:
        sock = self.socket(route, early)
        started = time.monotonic()
        known = self.known(route)
        connection = _Connection(
            route.hostname,
            user=route.user,
            port=route.port,
            config=_fabric_config(),
            forward_agent=False,
            connect_kwargs={
                "sock": sock,
                "transport_factory": transports.factory(known),
                "auth_strategy": KeyAuth(route, self._ring),
                "banner_timeout": BANNER_TIMEOUT,
                "auth_timeout": AUTH_TIMEOUT,
            },
        )
        # Fabric sets AutoAddPolicy. Ours gets every key, since Paramiko's own lists stay empty.
        connection.client.set_missing_host_key_policy(_Policy(self, route, known))
        try:
            connection.open()
        except BaseException as error:
            transport = connection.client.get_transport()
            with contextlib.suppress(Exception):
                connection.client.close()
            with contextlib.suppress(Exception):
                sock.close()
            if not isinstance(error, Exception):
                raise
            _explain(route, error, transport, time.monotonic() - started)
        connection.transport.set_keepalive(int(route.keepalive))
        return connection

    def known(self, route: Route) -> KnownKeys:
        """What the known_hosts files say about the host."""
        return self.known_hosts.lookup(
            (*route.known_hosts, *route.global_known_hosts),
            route.key_name,
            without_port=route.hostname if not route.key_alias and route.port != 22 else "",
        )

    def socket(self, route: Route, early: Early | None = None) -> Any:
        """A way to the host's sshd: TCP, a channel through its hops, or its ProxyCommand."""
        if route.jumps:
            return self._through(route)
        if route.proxy_command:
            return ProxySocket.start(route.proxy_command)
        try:
            return early.take() if early and early.place == route.place else open_socket(route.place)
        except OSError as error:
            raise socket_error(route, error) from error

    def _through(self, route: Route) -> Any:
        hop = self._hop(route.jumps)
        try:
            return hop.transport.open_channel(
                "direct-tcpip", (route.hostname, route.port), ("", 0), timeout=route.connect_timeout
            )
        except ChannelException as error:
            raise HostError(
                f"{route.jumps[-1].hostname} can't reach {route.hostname} port {route.port} ({error.text}).",
                where=route.name,
                hint="Check ProxyJump in ssh_config, and AllowTcpForwarding on the hop.",
            ) from error
        except (SSHException, OSError, EOFError) as error:
            raise HostError(
                f"the hop {route.jumps[-1].hostname} doesn't open a way to {route.hostname}: {error}",
                where=route.name,
            ) from error

    def _hop(self, jumps: tuple[Route, ...]) -> fabric.Connection:
        # The names in them are those of the host on whose behalf; the bastion is the same.
        key = tuple(replace(hop, name="") for hop in jumps)
        with self._lock:
            lock = self._hop_locks.setdefault(key, threading.Lock())
        with lock:
            connection = self._hops.get(key)
            if connection is None or not connection.is_connected:
                connection = self.open(replace(jumps[-1], jumps=jumps[:-1]))
                self._hops[key] = connection
            return connection


class _Settings(fabric.Config):  # type: ignore[misc, unused-ignore]
    """A Fabric configuration that reads no files: :mod:`longshore.remote.route` has read them.

    What a connection asks of it is on the class: Invoke looks a setting up in half a dozen merged levels, and
    for many hosts that costs more than their signatures.
    """

    gateway = None
    timeouts = SimpleNamespace(connect=None)
    connect_kwargs: ClassVar[dict[str, Any]] = {}
    authentication = SimpleNamespace(strategy_class=None)
    base_ssh_config = SimpleNamespace(lookup=lambda host: SSHConfigDict())


class _Connection(fabric.Connection):  # type: ignore[misc, unused-ignore]
    """Fabric's, for a configuration that many threads share.

    Setting an attribute is to Invoke a change of the configuration, unless it finds the name on the class; it
    merges all of it anew then, while others read it. Here it is setting an attribute.
    """

    inline_ssh_env = False
    authentication = _Settings.authentication
    _agent_handler = None
    __setattr__ = object.__setattr__


class _Policy(MissingHostKeyPolicy):  # type: ignore[misc, unused-ignore]
    """Decides about the key that a server has shown and proved to hold."""

    def __init__(self, opener: Opener, route: Route, known: KnownKeys) -> None:
        self._opener = opener
        self._route = route
        self._known = known

    def missing_host_key(self, client: Any, hostname: str, key: Any) -> None:
        check_host_key(self._route, self._known, key, self._opener.known_hosts, tell=self._opener.tell)


def socket_error(route: Route, error: OSError) -> HostError:
    """The sentence for a TCP connection that didn't come about."""
    place = f"{route.hostname} port {route.port}"
    if isinstance(error, socket.gaierror):
        return HostError(
            f"the name {route.hostname} can't be resolved ({error.strerror or error}).",
            where=route.name,
            hint="Set `ansible_host`, or HostName in ~/.ssh/config.",
        )
    if isinstance(error, TimeoutError) or error.errno == errno.ETIMEDOUT:
        return HostError(
            f"{place} doesn't answer within {route.connect_timeout:g} s.",
            where=route.name,
            hint="Is the host up, and does a firewall let you in?",
        )
    if error.errno == errno.ECONNREFUSED:
        return HostError(f"{place} refuses the connection.", where=route.name, hint="Is sshd running there?")
    if error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
        return HostError(
            f"there is no route to {place}.", where=route.name, hint="Is the host up, and the network or VPN?"
        )
    return HostError(f"{place} can't be reached: {error.strerror or error}.", where=route.name)


def _explain(route: Route, error: Exception, transport: Any, seconds: float) -> NoReturn:
    """Raise the sentence for a connection that failed after TCP, or ``_DroppedError`` to try again."""
    place = f"{route.hostname} port {route.port}"
    reason = getattr(transport, "disconnect_reason", "")
    if isinstance(error, HostKeyRefusedError):
        raise error.error
    if isinstance(error, HostError):
        raise error
    if isinstance(error, AuthRefusedError):
        raise _refused(route, error) from error
    if "Too many authentication failures" in reason:
        raise HostError(
            f"{place} gave up after too many keys.",
            where=route.name,
            hint="Name the right one: `ansible_ssh_private_key_file`, or IdentityFile and IdentitiesOnly.",
        ) from error
    if isinstance(error, IncompatiblePeer):
        raise HostError(
            f"{place} speaks only SSH algorithms that are too old: {error}", where=route.name
        ) from error
    if isinstance(error, AuthenticationException):
        raise HostError(
            f"{place} broke off the login as {route.user}: {reason or error}", where=route.name
        ) from error
    text = str(error)
    silent = seconds >= BANNER_TIMEOUT - 0.5
    if "protocol banner" in text and silent:
        raise HostError(
            f"{place} accepts connections, but sends no SSH greeting.",
            where=route.name,
            hint="Is something else listening there, or is the host too busy?",
        ) from error
    if "Invalid SSH version" in text or "Indecipherable" in text or "Incompatible version" in text:
        raise HostError(
            f"{place} is no SSH server.", where=route.name, hint="Check `ansible_port`."
        ) from error
    if silent and isinstance(error, SSHException):
        raise HostError(f"{place} stopped answering during the handshake.", where=route.name) from error
    if route.proxy_command:
        raise HostError(
            f"the ProxyCommand `{route.proxy_command}` brings no connection.",
            where=route.name,
            hint="Try it in a shell: it must print the greeting of sshd.",
        ) from error
    if transport is None or not getattr(transport, "initial_kex_done", False):
        raise _DroppedError(reason or text.removeprefix("Error reading SSH protocol banner") or "end of file")
    raise HostError(f"{place} broke off the connection: {reason or error}", where=route.name) from error


def _refused(route: Route, error: AuthRefusedError) -> HostError:
    if not error.tried:
        looked = ", ".join(str(path) for path in route.identities)
        return HostError(
            f"there is no key to log in as {route.user} with: ssh-agent has none, {looked} don't exist.",
            where=route.name,
            hint="Set `ansible_ssh_private_key_file`, or add a key to ssh-agent.",
        )
    lines = "; ".join(f"{tried.what}: {tried.outcome}" for tried in error.tried)
    wants = f" The host allows {', '.join(error.allowed)} instead." if error.allowed else ""
    return HostError(
        f"{route.hostname} doesn't let {route.user} in. Tried {lines}.{wants}",
        where=route.name,
        hint=f"Is the public key in ~{route.user}/.ssh/authorized_keys there, and the user right?",
    )


@functools.cache
def _fabric_config() -> fabric.Config:
    """One for all connections, which only read it: making one takes 2 ms."""
    return _Settings(
        overrides={"load_ssh_configs": False},
        ssh_config=SSHConfig(),
        lazy=True,
        system_prefix="/nonexistent/",
    )
