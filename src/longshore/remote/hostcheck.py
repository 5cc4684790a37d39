"""Whether the key that a server shows is good enough, and the sentence when it isn't."""

from __future__ import annotations

import time
from collections.abc import Callable

from paramiko.pkey import PKey

from longshore.errors import HostError
from longshore.remote import hostcerts
from longshore.remote.hostkeys import Entry, KnownHosts, KnownKeys, Verdict, fingerprint
from longshore.remote.route import Route


class HostKeyRefusedError(Exception):
    """The server's host key isn't good enough. ``error`` is the sentence."""

    def __init__(self, error: HostError) -> None:
        super().__init__(str(error))
        self.error = error


def judge(route: Route, known: KnownKeys, key: PKey) -> tuple[Verdict, Entry | None, str]:
    """What a server that shows this key is, the line that says so, and why its certificate doesn't count.

    A certificate that isn't good leaves the key in it, which is then judged by itself, as OpenSSH does.
    """
    certificate = hostcerts.read(key.public_blob.key_blob) if key.public_blob else None
    authority, refusal = b"", ""
    if certificate is not None:
        name = route.key_name if route.key_alias else route.hostname
        authority = certificate.authority
        if not any(entry.blob == authority for entry in (*known.authorities, *known.revoked)):
            refusal = f"its authority {fingerprint(authority)} is another one"
        else:
            refusal = certificate.refusal(name, now=time.time())
        if refusal and not any(entry.blob == authority for entry in known.revoked):
            authority = b""
    verdict, entry = known.judge(key.get_name(), key.asbytes(), authority)
    return verdict, entry, refusal


def check_host_key(
    route: Route, known: KnownKeys, key: PKey, store: KnownHosts, *, tell: Callable[[str], None]
) -> None:
    """Accept a server's key, or raise ``HostKeyRefusedError``. A new one is recorded if asked for."""
    kind, blob = key.get_name(), key.asbytes()
    verdict, entry, refusal = judge(route, known, key)
    shown = f"{kind.removeprefix('ssh-').upper()} key {fingerprint(blob)}"
    if verdict == "known":
        return
    if verdict == "revoked":
        raise HostKeyRefusedError(
            HostError(
                f"the host shows the {shown}, which {entry.where if entry else 'known_hosts'} calls revoked.",
                where=route.name,
                hint="Someone may be in between. Find out before you go on.",
            )
        )
    if verdict == "changed":
        assert entry is not None
        raise HostKeyRefusedError(
            HostError(
                f"the host key has changed: it shows the {shown}, "
                f"and {entry.where} has {fingerprint(entry.blob)}.",
                where=route.name,
                hint="Someone may be in between, or the host was set up anew. If it was, remove the old key "
                f"with `ssh-keygen -R '{route.key_name}' -f {entry.where.file}`, then run `invoke trust`.",
            )
        )
    if route.accept_new:
        for file in route.known_hosts[:1]:
            try:
                store.add(file, route.key_name, kind, blob, hashed=route.hash_known_hosts)
                tell(f"{route.name}: the {shown} is new, and recorded in {file}.")
            except OSError as error:
                tell(f"{route.name}: the {shown} is new, and {file} can't be written: {error.strerror}.")
        return
    why = ""
    if known.authorities:
        why = " An authority is known for it, " + (
            f"but its certificate doesn't count: {refusal}." if refusal else "but it shows no certificate."
        )
    raise HostKeyRefusedError(
        HostError(
            f"the host key is not known: it shows the {shown}.{why}",
            where=route.name,
            hint="Compare it with `ssh-keygen -lf` on the host, then run `invoke trust --env E`.",
        )
    )
