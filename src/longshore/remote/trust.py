"""Learning host keys: what each host shows, and recording the ones that a person has accepted."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import field, replace
from pathlib import Path

from paramiko.ssh_exception import SSHException

from longshore.errors import HostError
from longshore.records import dataclass
from longshore.remote import transport as transports
from longshore.remote.connection import Opener
from longshore.remote.hostcheck import judge
from longshore.remote.hostkeys import Verdict, fingerprint
from longshore.remote.route import Route

TIMEOUT = 20.0


@dataclass(frozen=True)
class ShownKey:
    """The key that a server shows, and what known_hosts files say about it."""

    host: str
    name: str
    """As known_hosts has it: ``host`` or ``[host]:port``."""
    kind: str
    blob: bytes = field(repr=False)
    verdict: Verdict
    where: str
    """The file and line that the verdict comes from; empty for an unknown key."""
    file: Path | None
    """Where it would be recorded."""
    hashed: bool

    @property
    def fingerprint(self) -> str:
        """``SHA256:…`` as ``ssh-keygen -lf`` prints it."""
        return fingerprint(self.blob)


def servers(route: Route) -> Iterator[Route]:
    """Every server on the way to a host, the first hop first, the host itself last."""
    for number, hop in enumerate(route.jumps):
        yield replace(hop, jumps=route.jumps[:number])
    yield route


def look(opener: Opener, route: Route) -> ShownKey:
    """Ask a server for its key, as far as the handshake goes: nobody logs in.

    The hops before it must be trusted already. Raises ``HostError`` when it can't be reached.
    """
    known = opener.known(route)
    sock = opener.socket(route)
    client = transports.factory(known)(sock)
    try:
        client.banner_timeout = TIMEOUT
        client.start_client(timeout=TIMEOUT)
        key = client.get_remote_server_key()
    except (SSHException, OSError, EOFError) as error:
        said = client.disconnect_reason or str(error) or "it closed the connection"
        raise HostError(
            f"{route.hostname} port {route.port} shows no host key: {said}.", where=route.name
        ) from error
    finally:
        with contextlib.suppress(Exception):
            client.close()
    kind, blob = key.get_name(), key.asbytes()
    verdict, entry, _ = judge(route, known, key)
    return ShownKey(
        host=route.name,
        name=route.key_name,
        kind=kind,
        blob=blob,
        verdict=verdict,
        where=str(entry.where) if entry else "",
        file=route.known_hosts[0] if route.known_hosts else None,
        hashed=route.hash_known_hosts,
    )


def record(opener: Opener, shown: ShownKey) -> None:
    """Append an unknown key to the person's known_hosts file. Never changes a line that is there."""
    if shown.verdict != "unknown":
        raise ValueError(f"{shown.name} is {shown.verdict}")
    if shown.file is None:
        raise HostError(
            "UserKnownHostsFile is `none`: there is no file to record the key in.", where=shown.host
        )
    try:
        opener.known_hosts.add(shown.file, shown.name, shown.kind, shown.blob, hashed=shown.hashed)
    except OSError as error:
        raise HostError(f"{shown.file} can't be written: {error.strerror}.", where=shown.host) from error
