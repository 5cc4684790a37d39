"""Host certificates: whether one that a server shows is vouched for by a known authority.

Paramiko proves that the server holds the key in it, and checks nothing else; so this does, as OpenSSH's
client does. Format: PROTOCOL.certkeys of OpenSSH; rules: ``sshkey_cert_check_host`` there.
"""

from __future__ import annotations

import fnmatch
from dataclasses import field
from datetime import datetime, timezone

from paramiko.message import Message
from paramiko.pkey import PKey
from paramiko.ssh_exception import SSHException

from longshore.records import dataclass

SUFFIX = "-cert-v01@openssh.com"
_HOST = 2
# The parts of a public key, between nonce and serial number.
_PARTS = {
    "ssh-ed25519": 1,
    "ssh-rsa": 2,
    "ecdsa-sha2-nistp256": 2,
    "ecdsa-sha2-nistp384": 2,
    "ecdsa-sha2-nistp521": 2,
}
# As OpenSSH's CASignatureAlgorithms: no SHA-1.
_SIGNATURES = frozenset({"rsa-sha2-256", "rsa-sha2-512", *_PARTS} - {"ssh-rsa"})


@dataclass(frozen=True)
class Certificate:
    """A host's or a person's certificate. Times are seconds since 1970."""

    kind: str
    """The type of the key in it: ``ssh-ed25519``."""
    key_id: str
    for_hosts: bool
    names: tuple[str, ...]
    """The hosts that it is for, maybe with wildcards; none: any."""
    begins: int
    ends: int
    critical: bytes = field(repr=False)
    authority: bytes = field(repr=False)
    """The public key of who signed it."""
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    def refusal(self, hostname: str, *, now: float) -> str:
        """Why it doesn't vouch for a host; empty when it does, if its authority may."""
        if not self.for_hosts:
            return "it is a person's, not a host's"
        if self.critical:
            return "it has a critical option, and OpenSSH knows none for hosts"
        if not self.begins <= now < self.ends:
            return f"it is valid from {_moment(self.begins)} to {_moment(self.ends)}"
        if self.names and not any(fnmatch.fnmatchcase(hostname.lower(), _pattern(one)) for one in self.names):
            return f"it is for {', '.join(self.names)}"
        if not self._signature_holds():
            return "its signature is wrong"
        return ""

    def _signature_holds(self) -> bool:
        try:
            if Message(self.signature).get_text() not in _SIGNATURES:
                return False
            kind = Message(self.authority).get_text()
            if kind not in _PARTS:
                return False
            key = PKey.from_type_string(kind, self.authority)
            return bool(key.verify_ssh_sig(self.signed, Message(self.signature)))
        except (SSHException, ValueError, IndexError):  # not what an authority makes
            return False


def read(blob: bytes) -> Certificate | None:
    """The certificate in ``blob``; None for a plain key, and for what can't be read as one."""
    try:
        return _read(blob)
    except (SSHException, ValueError, IndexError, UnicodeDecodeError):
        return None


def _read(blob: bytes) -> Certificate | None:
    message = Message(blob)
    kind = message.get_text()
    plain = kind.removesuffix(SUFFIX)
    if plain == kind or plain not in _PARTS:
        return None
    message.get_string()  # the nonce
    for _ in range(_PARTS[plain]):
        message.get_string()
    message.get_int64()  # the serial number
    purpose = message.get_int()
    key_id = message.get_text()
    listed = Message(message.get_string())
    names = []
    while listed.get_remainder():
        names.append(listed.get_text())
    begins, ends = message.get_int64(), message.get_int64()
    critical = message.get_string()
    message.get_string()  # extensions: nothing that concerns hosts
    message.get_string()  # reserved
    authority = message.get_string()
    signed = blob[: len(blob) - len(message.get_remainder())]
    signature = message.get_string()
    # Paramiko fills up with zeros what is cut off.
    if not signature or blob != signed + len(signature).to_bytes(4, "big") + signature:
        return None
    return Certificate(
        kind=plain,
        key_id=key_id,
        for_hosts=purpose == _HOST,
        names=tuple(names),
        begins=begins,
        ends=ends,
        critical=critical,
        authority=authority,
        signed=signed,
        signature=signature,
    )


def _pattern(name: str) -> str:
    """OpenSSH's wildcards are ``*`` and ``?``; fnmatch has brackets, too."""
    return name.lower().replace("[", "[[]")


def _moment(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, timezone.utc).isoformat(" ", "minutes")[:16]
    except (OverflowError, ValueError, OSError):
        return "ever"  # ssh-keygen's "always" and "forever" are the ends of 64 bits
