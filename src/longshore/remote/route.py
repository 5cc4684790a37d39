"""Where a host is and how to get there: the inventory's values, ``ansible_ssh_common_args`` and ssh_config
put together into one frozen value, before anything is connected.

Stronger first: ``ansible_*`` of the inventory, ``ansible_ssh_common_args``, ``~/.ssh/config``,
``/etc/ssh/ssh_config``, OpenSSH's defaults.
"""

from __future__ import annotations

import functools
import os
import shlex
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from longshore.errors import HostError
from longshore.inventory.model import Host, SshSettings
from longshore.records import dataclass
from longshore.remote import ssh_config
from longshore.remote.hostkeys import entry_name
from longshore.remote.sockets import Place
from longshore.remote.whoami import login_name

DEFAULT_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")
MAX_JUMPS = 8

_KNOWN = frozenset(
    """
    addressfamily connecttimeout globalknownhostsfile hashknownhosts hostkeyalias hostname identitiesonly
    identityagent identityfile port proxycommand proxyjump serveraliveinterval stricthostkeychecking user
    userknownhostsfile
    """.split()  # noqa: SIM905
)
# Options that change nothing here: there is one connection, which forwards nothing and never asks ssh to ask.
_WITHOUT_MEANING = frozenset(
    """
    batchmode compression connectionattempts controlmaster controlpath controlpersist escapechar
    forwardagent forwardx11 gssapiauthentication gssapidelegatecredentials kbdinteractiveauthentication
    loglevel numberofpasswordprompts passwordauthentication preferredauthentications
    pubkeyauthentication requesttty sendenv serveralivecountmax setenv tcpkeepalive updatehostkeys
    visualhostkey
    """.split()  # noqa: SIM905
)
_FLAGS_WITHOUT_VALUE = "46ACaGgKkMNnqTtVvXxYys"
_FLAGS_IGNORED = "CqTtvAa"


@dataclass(frozen=True)
class Route:
    """How to reach one host. Times are seconds."""

    name: str
    """What sentences call it: the inventory's name, or the hop as it was written."""
    hostname: str
    port: int
    user: str
    identities: tuple[Path, ...]
    identities_only: bool
    identity_agent: str | None
    """A socket to use instead of ``SSH_AUTH_SOCK``; "none" for no agent."""
    key_name: str
    """The host's name in known_hosts files."""
    key_alias: bool
    known_hosts: tuple[Path, ...]
    """The person's own files; new keys go to the first."""
    global_known_hosts: tuple[Path, ...]
    accept_new: bool
    hash_known_hosts: bool
    jumps: tuple[Route, ...]
    """The hops before this host, the first one to connect to first."""
    proxy_command: str | None
    connect_timeout: float
    keepalive: float
    family: str
    """``any``, ``inet`` or ``inet6``."""

    @property
    def place(self) -> Place:
        """Where its sshd listens, whatever the way there."""
        return Place(self.hostname, self.port, self.connect_timeout, self.keepalive, self.family)


class Routes:
    """Finds routes, with the ssh_config files read once. Safe to use from several threads."""

    def __init__(
        self, *, connect_timeout: float = 10.0, accept_new: bool = False, config: Path | None = None
    ) -> None:
        self._connect_timeout = connect_timeout
        self._accept_new = accept_new
        self._config = config
        self._lock = threading.Lock()
        self._configs: dict[Path | None, ssh_config.Config] = {}

    def to(self, host: Host) -> Route:
        """The route to a host of the inventory. Raises ``HostError`` with a sentence."""
        return self.find(host.name, host.ssh)

    def find(self, name: str, ssh: SshSettings) -> Route:
        """The route for these settings."""
        try:
            options, config_file = _options(ssh)
        except HostError as error:
            raise HostError(error.message, where=name, hint=error.hint) from None
        return self._find(name, ssh.address, options, config_file, depth=0)

    def place(self, host: Host) -> Place | None:
        """Where the host is, when that can be told without Paramiko: no ssh_config has a say in it, and
        there is no way but TCP. ``None`` also for what :meth:`to` refuses."""
        try:
            options, config_file = _options(host.ssh)
            if self._config_of(config_file).says_where or {"proxyjump", "proxycommand"} & options.keys():
                return None
            return _place(host.name, host.ssh.address, options, self._connect_timeout)
        except HostError:
            return None

    def _find(
        self, name: str, address: str, options: Mapping[str, Any], config_file: Path | None, *, depth: int
    ) -> Route:
        if depth > MAX_JUMPS:
            raise HostError(
                f"more than {MAX_JUMPS} ProxyJump hops one after the other.",
                where=name,
                hint="Look for a hop in ssh_config that jumps through itself.",
            )
        found = self._lookup(name, address, config_file, options)
        user = str(found.get("user") or login_name())
        if not user:
            raise HostError(
                f"nobody says as whom to log in: user {os.geteuid()} has no name on this machine.",
                where=name,
                hint="Set ansible_user in the inventory.",
            )
        place = _place(name, address, found, self._connect_timeout)
        hostname, port = place.hostname, place.port
        alias = found.get("hostkeyalias")
        jumps: tuple[Route, ...] = ()
        jump = found.get("proxyjump")
        if jump and str(jump).lower() != "none":
            jumps = self._jumps(name, str(jump), config_file, depth)
        proxy = found.get("proxycommand")
        if jumps or str(proxy).lower() == "none":
            proxy = None
        strict = str(found.get("stricthostkeychecking", "ask")).lower()
        tokens = {"%h": hostname, "%p": str(port), "%r": user, "%n": address}
        identities = [ssh_config.path(str(item), tokens) for item in found.get("identityfile", [])]
        return Route(
            name=name,
            hostname=hostname,
            port=port,
            user=user,
            identities=tuple(dict.fromkeys(identities))
            or tuple(Path.home() / ".ssh" / key for key in DEFAULT_KEYS),
            identities_only=_yes(found.get("identitiesonly")),
            identity_agent=str(found["identityagent"]) if found.get("identityagent") else None,
            key_name=str(alias) if alias else entry_name(hostname, port),
            key_alias=bool(alias),
            known_hosts=ssh_config.paths(
                found.get("userknownhostsfile", "~/.ssh/known_hosts ~/.ssh/known_hosts2"), tokens
            ),
            global_known_hosts=ssh_config.paths(
                found.get("globalknownhostsfile", "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2"),
                tokens,
            ),
            # "no" and "off" mean to OpenSSH: add new keys, and go on when one has changed. The first we do.
            accept_new=self._accept_new or strict in ("accept-new", "no", "off"),
            hash_known_hosts=_yes(found.get("hashknownhosts")),
            jumps=jumps,
            proxy_command=ssh_config.expand(str(proxy), tokens) if proxy else None,
            connect_timeout=place.timeout,
            keepalive=place.keepalive,
            family=place.family,
        )

    def _jumps(self, name: str, text: str, config_file: Path | None, depth: int) -> tuple[Route, ...]:
        routes: list[Route] = []
        for number, hop in enumerate(text.split(",")):
            hop = hop.strip().removeprefix("ssh://")
            user, _, rest = hop.rpartition("@")
            address, port = _host_and_port(rest)
            options: dict[str, Any] = {"user": user} if user else {}
            if port:
                options["port"] = port
            if number:
                # Only the first hop's own ProxyJump counts, as with `ssh -J a,b`.
                options["proxyjump"] = "none"
            route = self._find(f"{name} (through {hop})", address, options, config_file, depth=depth + 1)
            routes.extend(
                [*route.jumps, replace(route, jumps=())] if not number else [replace(route, jumps=())]
            )
        return tuple(routes)

    def _config_of(self, config_file: Path | None) -> ssh_config.Config:
        with self._lock:
            if config_file not in self._configs:
                self._configs[config_file] = ssh_config.load(config_file or self._config)
            return self._configs[config_file]

    def _lookup(
        self, name: str, address: str, config_file: Path | None, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        config = self._config_of(config_file)
        with self._lock:
            try:
                found = config.lookup(address, options)
            except Exception as error:  # paramiko's parser raises ValueError, KeyError and its own
                # Paramiko asks for the login name where ssh_config does (Match, %u).
                nameless = f"it asks for your name, and user {os.geteuid()} has none on this machine"
                why = error if login_name() else nameless
                raise HostError(f"ssh_config can't be used for this host: {why}", where=name) from error
        found.update({key: value for key, value in options.items() if key != "identityfile"})
        if options.get("identityfile"):
            found["identityfile"] = [*options["identityfile"], *found.get("identityfile", [])]
        return found


def _place(name: str, address: str, found: Mapping[str, Any], timeout: float) -> Place:
    """Where these options say that a host is; ``timeout`` when they say none."""
    return Place(
        hostname=str(found.get("hostname") or address),
        port=_number(name, "Port", found.get("port"), 22),
        timeout=float(_number(name, "ConnectTimeout", found.get("connecttimeout"), 0) or timeout),
        keepalive=float(_number(name, "ServerAliveInterval", found.get("serveraliveinterval"), 0) or 15),
        family=str(found.get("addressfamily", "any")).lower(),
    )


def _options(ssh: SshSettings) -> tuple[dict[str, Any], Path | None]:
    """What the inventory says, as options of ssh_config, and the file given with ``-F``."""
    parsed, config_file = _parsed(ssh.common_args)
    options = dict(parsed)
    if ssh.user:
        options["user"] = ssh.user
    if ssh.port:
        options["port"] = str(ssh.port)
    if ssh.identity_file:
        options["identityfile"] = [ssh.identity_file, *options.get("identityfile", [])]
    return options, config_file


@functools.lru_cache(maxsize=64)
def _parsed(text: str) -> tuple[Mapping[str, Any], Path | None]:
    return parse_arguments(text)


def parse_arguments(text: str) -> tuple[dict[str, Any], Path | None]:
    """``ansible_ssh_common_args`` as options (lower-case, as in ssh_config) and the file given with ``-F``.

    Raises ``HostError`` for what we don't know: an option that is silently dropped would mislead.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise HostError(f"ansible_ssh_common_args can't be read: {error}.") from None
    options: dict[str, Any] = {}
    config: Path | None = None
    while words:
        word = words.pop(0)
        flag, value = word[:2], word[2:]
        if not word.startswith("-") or len(word) < 2:
            raise HostError(f"ansible_ssh_common_args has `{word}`, which is no option.")
        if flag[1] in _FLAGS_WITHOUT_VALUE:
            for letter in word[1:]:
                if letter in "46":
                    options["addressfamily"] = "inet6" if letter == "6" else "inet"
                elif letter not in _FLAGS_IGNORED:
                    raise _unknown(f"-{letter}")
            continue
        if not value:
            if not words:
                raise HostError(f"ansible_ssh_common_args ends after `{flag}`.")
            value = words.pop(0)
        if flag == "-o":
            key, _, setting = value.replace("=", " ", 1).partition(" ")
            _set_option(options, key.strip(), setting.strip().strip('"'))
        elif flag == "-F":
            config = Path(value).expanduser()
        elif flag in ("-J", "-i", "-p", "-l"):
            _set_option(
                options, {"J": "ProxyJump", "i": "IdentityFile", "p": "Port", "l": "User"}[flag[1]], value
            )
        else:
            raise _unknown(flag)
    return options, config


def _set_option(options: dict[str, Any], key: str, value: str) -> None:
    name = key.lower()
    if name in _WITHOUT_MEANING:
        return
    if name not in _KNOWN:
        raise _unknown(f"-o {key}")
    if not value:
        raise HostError(f"ansible_ssh_common_args has `-o {key}` without a value.")
    if name == "identityfile":
        options.setdefault(name, []).append(value)
    else:
        options.setdefault(name, value)


def _unknown(what: str) -> HostError:
    return HostError(
        f"ansible_ssh_common_args has `{what}`, which Longshore doesn't know.",
        hint="docs/ssh.md lists what it knows; put the rest into ~/.ssh/config, where it is ignored.",
    )


def _yes(value: object) -> bool:
    return str(value).lower() in ("yes", "true")


def _number(name: str, key: str, value: object, default: int) -> int:
    if value is None or str(value).lower() == "none":
        return default
    try:
        return int(str(value))
    except ValueError:
        raise HostError(f"ssh_config says `{key} {value}`, which is no number.", where=name) from None


def _host_and_port(text: str) -> tuple[str, str]:
    if text.startswith("["):
        address, _, rest = text[1:].partition("]")
        return address, rest.lstrip(":")
    if text.count(":") == 1:
        address, _, port = text.partition(":")
        return address, port
    return text, ""
