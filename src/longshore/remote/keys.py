"""The person's keys: files, passphrases (asked once a file and run), ssh-agent, the order to try them."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from paramiko import ECDSAKey, Ed25519Key, PKey, RSAKey
from paramiko.agent import AgentKey, AgentSSH
from paramiko.ssh_exception import AuthenticationException, BadAuthenticationType, SSHException

from longshore.errors import HostError
from longshore.records import dataclass
from longshore.remote import hostkeys
from longshore.remote.become import ask_person
from longshore.remote.route import Route


class KeyRing:
    """Private keys read from files, each once per run. Safe to use from several threads."""

    def __init__(self, ask: Callable[[str], str] = ask_person) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._keys: dict[Path, PKey | HostError] = {}
        self._public: dict[Path, bytes] = {}

    def public(self, path: Path) -> bytes:
        """The public key beside a private one; b"" when there is none."""
        with self._lock:
            if path not in self._public:
                self._public[path] = _public_blob(path)
            return self._public[path]

    def encrypted(self, path: Path) -> bool:
        """Whether reading ``path`` would ask for a passphrase (and hasn't yet)."""
        with self._lock:
            return path not in self._keys and _read(path, None) is None

    def load(self, path: Path) -> PKey:
        """The key in ``path``. Raises ``HostError`` when it can't be used, the same for every host."""
        with self._lock:
            if path not in self._keys:
                try:
                    self._keys[path] = self._load(path)
                except HostError as error:
                    self._keys[path] = error
            found = self._keys[path]
        if isinstance(found, HostError):
            raise HostError(found.message, hint=found.hint)
        return found

    def _load(self, path: Path) -> PKey:
        key = _read(path, None)
        if key is None:
            try:
                passphrase = self._ask(f"passphrase of {path}: ")
            except HostError as error:
                raise HostError(
                    f"the key {path} has a passphrase, and there is no terminal to ask on.",
                    hint="Add it to ssh-agent with `ssh-add`.",
                ) from error
            key = _read(path, passphrase)
        if key is None:
            raise HostError(f"the passphrase of the key {path} is wrong.")
        certificate = path.with_name(path.name + "-cert.pub")
        if certificate.is_file():
            try:
                key.load_certificate(str(certificate))
            except (OSError, SSHException, ValueError) as error:
                raise HostError(
                    f"the certificate {certificate} can't be used: {error}", hint="Renew or remove it."
                ) from None
        return key


def _read(path: Path, passphrase: str | None) -> PKey | None:
    """The key in ``path``, or None when it is encrypted with another passphrase."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    try:
        data = path.read_bytes()
    except OSError as error:
        raise HostError(f"the key {path} can't be read: {error.strerror}.") from None
    read: Callable[..., object] = (
        serialization.load_ssh_private_key
        if b"BEGIN OPENSSH PRIVATE KEY" in data
        else serialization.load_pem_private_key
    )
    secret = passphrase.encode() if passphrase else None
    try:
        private = read(data, password=secret)
    except TypeError:  # cryptography's way to say that a password is missing
        return None
    except ValueError as error:
        # A wrong passphrase is a ValueError, too, and so is a file that is no key.
        if secret is not None:
            return None
        raise HostError(f"{path} is no private key that can be used: {error}") from None
    except Exception as error:
        raise HostError(f"the key {path} can't be used: {error}") from None
    kinds: dict[type, type[PKey]] = {
        RSAPrivateKey: RSAKey,
        EllipticCurvePrivateKey: ECDSAKey,
        Ed25519PrivateKey: Ed25519Key,
    }
    for kind, paramiko_kind in kinds.items():
        if isinstance(private, kind):
            # Paramiko reads OpenSSH's format of every kind, and PEM's of some.
            plain = private.private_bytes(  # type: ignore[attr-defined]
                serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
            )
            return paramiko_kind.from_private_key(io.StringIO(plain.decode()))
    raise HostError(f"the key {path} is of a kind that Paramiko can't use; ed25519, ecdsa or rsa it can.")


@dataclass(frozen=True)
class Tried:
    """A key that was offered, and what came of it."""

    what: str
    outcome: str


class AuthRefusedError(AuthenticationException):
    """The server accepted none of the keys."""

    def __init__(self, tried: tuple[Tried, ...], allowed: tuple[str, ...] = ()) -> None:
        super().__init__("no key was accepted")
        self.tried = tried
        self.allowed = allowed


class KeyAuth:
    """Paramiko's auth strategy for one connection: one attempt per key, no probing in between.

    A named key file comes before the agent's other keys, unlike with OpenSSH: six keys in an agent are
    enough for "too many authentication failures".
    """

    def __init__(self, route: Route, ring: KeyRing) -> None:
        self._route = route
        self._ring = ring

    def authenticate(self, transport: Any) -> list[str]:
        """Log in. Raises ``AuthRefusedError`` with every key that was tried."""
        tried: list[Tried] = []
        allowed: tuple[str, ...] = ()
        with contextlib.closing(_Agent(self._route)) as agent:
            for what, get in self._candidates(agent):
                try:
                    key = get()
                except HostError as error:
                    tried.append(Tried(what, error.message))
                    continue
                try:
                    further = transport.auth_publickey(self._route.user, key)
                except BadAuthenticationType as error:
                    raise AuthRefusedError(
                        (*tried, Tried(what, "refused")), tuple(error.allowed_types)
                    ) from error
                except AuthenticationException as error:
                    if not transport.is_active():
                        raise
                    tried.append(Tried(what, "refused" if "failed" in str(error) else str(error)))
                    continue
                if not further:
                    return [what]
                allowed = tuple(further)
                tried.append(Tried(what, f"accepted, but the host then wants {' or '.join(further)}"))
        raise AuthRefusedError(tuple(tried), allowed)

    def _candidates(self, agent: _Agent) -> Iterator[tuple[str, Callable[[], PKey]]]:
        files = [path for path in self._route.identities if path.is_file()]
        offered: set[bytes] = set()
        held = agent.keys()
        for path in files:
            public = self._ring.public(path)
            for key in held:
                if key.asbytes() == public:
                    offered.add(key.asbytes())
                    yield f"{path} (ssh-agent)", lambda key=key: key  # type: ignore[misc]
        later: list[Path] = []
        for path in files:
            public = self._ring.public(path)
            if public in offered:
                continue
            try:
                locked = self._ring.encrypted(path)
            except HostError as error:
                message = error.message
                yield str(path), lambda message=message: _fail(message)  # type: ignore[misc]
                continue
            if locked:
                later.append(path)
            else:
                yield str(path), lambda path=path: self._ring.load(path)  # type: ignore[misc]
        if not self._route.identities_only:
            for key in held:
                if key.asbytes() not in offered:
                    name = f"{key.get_name()} {hostkeys.fingerprint(key.asbytes())} (ssh-agent)"
                    yield name, lambda key=key: key  # type: ignore[misc]
        for path in later:
            yield str(path), lambda path=path: self._ring.load(path)  # type: ignore[misc]


class _Agent:
    """A connection to ssh-agent. Paramiko's isn't thread-safe, so every SSH connection has its own."""

    def __init__(self, route: Route) -> None:
        self._agent: Any = None
        name = route.identity_agent or "SSH_AUTH_SOCK"
        path = os.environ.get("SSH_AUTH_SOCK", "") if name == "SSH_AUTH_SOCK" else name
        if path.startswith("$"):
            path = os.environ.get(path[1:].strip("{}"), "")
        if not path or path == "none":
            return
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(10)
            connection.connect(str(Path(path).expanduser()))
            connection.settimeout(60)  # an agent may ask its owner to confirm
            self._agent = AgentSSH()
            self._agent._connect(connection)
        except (OSError, SSHException):
            self._agent = None
            connection.close()

    def keys(self) -> tuple[AgentKey, ...]:
        return tuple(self._agent.get_keys()) if self._agent is not None else ()

    def close(self) -> None:
        if self._agent is not None:
            self._agent._close()


def _public_blob(path: Path) -> bytes:
    import base64

    try:
        words = path.with_name(path.name + ".pub").read_text().split()
        return base64.b64decode(words[1])
    except (OSError, IndexError, ValueError):
        return b""


def _fail(message: str) -> PKey:
    raise HostError(message)
