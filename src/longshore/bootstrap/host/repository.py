"""Docker's own apt repository: its key, checked by its fingerprint, and its entry in apt's sources."""

from __future__ import annotations

import base64
import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path

from longshore.bootstrap.host.apt import Apt
from longshore.bootstrap.host.say import Changes, Refusal
from longshore.bootstrap.host.system import run, write

KEYRING = Path("/etc/apt/keyrings/longshore-docker.asc")
SOURCES = Path("/etc/apt/sources.list.d/longshore-docker.sources")
HELPER = "/usr/lib/apt/apt-helper"


def add(changes: Changes, apt: Apt, fields: Mapping[str, str], url: str, key: str) -> None:
    """Make apt know Docker's repository for this system. Raises ``Refusal``.

    ``fields`` are of os-release(5), ``url`` is ``https://download.docker.com`` or a mirror of it, and ``key``
    the fingerprint of its signing key.
    """
    base = f"{url.rstrip('/')}/linux/{fields['ID']}"
    suite = fields.get("VERSION_CODENAME", "")
    if not suite:
        raise Refusal("no_package", "this system has no codename, so Docker has no packages for it")
    changes.make(
        f"add Docker's apt repository {base} ({suite}), signed by {key[-16:]}",
        lambda: _write(apt, base, suite, key),
    )


def remove() -> None:
    """Take the repository out again: it had nothing for this system."""
    for path in (SOURCES, KEYRING):
        path.unlink(missing_ok=True)


def _write(apt: Apt, base: str, suite: str, key: str) -> None:
    if base.startswith("https:") and not Path("/etc/ssl/certs/ca-certificates.crt").exists():
        apt.install(["ca-certificates"])
    _, architecture = run(["dpkg", "--print-architecture"])
    write(KEYRING, _download(f"{base}/gpg", key))
    write(SOURCES, sources(base, suite, architecture.strip()).encode())
    apt.update()


def sources(base: str, suite: str, architecture: str) -> str:
    """The entry in apt's deb822 format, bound to its own key."""
    return (
        f"# Written by `invoke bootstrap`.\nTypes: deb\nURIs: {base}\nSuites: {suite}\nComponents: stable\n"
        f"Architectures: {architecture}\nSigned-By: {KEYRING}\n"
    )


def _download(url: str, fingerprint: str) -> bytes:
    """Fetch the key as apt fetches packages: by the same proxy, trusting the same certificates."""
    with tempfile.TemporaryDirectory(prefix="longshore-") as folder:
        target = Path(folder, "key.asc")
        argv = [HELPER, "-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=2"]
        argv += ["-o", "Acquire::http::Timeout=20", "-o", "Acquire::https::Timeout=20"]
        code, output = run([*argv, "download-file", url, str(target)], timeout=120)
        if code != 0 or not target.exists():
            lines = [line[2:].strip() for line in output.splitlines() if line.startswith("E:")]
            raise Refusal(
                "no_network",
                f"Docker's signing key can't be fetched: {(lines or [f'no answer from {url}'])[0]}",
                "Check the host's network and proxy, or name a mirror of download.docker.com.",
                output.splitlines()[-8:],
            )
        text = target.read_bytes()
    try:
        found = key_fingerprint(text)
    except ValueError as error:
        raise Refusal("key", f"what {url} answers is not a signing key: {error}") from None
    if found != fingerprint.upper().replace(" ", ""):
        raise Refusal(
            "key",
            f"the key at {url} has the fingerprint {found}, and {fingerprint} was expected",
            "Someone may be answering in the repository's place; nothing was installed.",
        )
    return text


def key_fingerprint(armored: bytes) -> str:
    """The fingerprint of the first key in an ASCII-armoured OpenPGP block (RFC 4880, 6.2, 4.2 and 12.2).

    Raises ``ValueError`` for anything else.
    """
    lines = [line.strip() for line in armored.decode("ascii", "replace").splitlines()]
    if "-----BEGIN PGP PUBLIC KEY BLOCK-----" not in lines or "" not in lines:
        raise ValueError("it has no PGP PUBLIC KEY BLOCK")
    body = lines[lines.index("", lines.index("-----BEGIN PGP PUBLIC KEY BLOCK-----")) + 1 :]
    text = "".join(line for line in body[: _end(body)] if not line.startswith("="))
    data = base64.b64decode(text, validate=True)
    if len(data) < 6 or not data[0] & 0x80:
        raise ValueError("its content is no OpenPGP packet")
    start, length = _packet(data)
    packet = data[start : start + length]
    if len(packet) != length or packet[0] != 4:
        raise ValueError("its first packet is no version 4 key")
    return hashlib.sha1(b"\x99" + length.to_bytes(2, "big") + packet).hexdigest().upper()  # noqa: S324


def _end(body: list[str]) -> int:
    return next((at for at, line in enumerate(body) if line.startswith("-----END")), len(body))


def _packet(data: bytes) -> tuple[int, int]:
    """Where the first packet's body starts, and how long it is. Raises ``ValueError`` if it is no key."""
    if data[0] & 0x40:
        tag, first = data[0] & 0x3F, data[1]
        if first < 192:
            start, length = 2, first
        elif first < 224:
            start, length = 3, ((first - 192) << 8) + data[2] + 192
        else:
            start, length = 6, int.from_bytes(data[2:6], "big")
    else:
        tag, size = (data[0] >> 2) & 0x0F, 1 << (data[0] & 3)
        start, length = 1 + size, int.from_bytes(data[1 : 1 + size], "big")
    if tag != 6:
        raise ValueError("its first packet is no public key")
    return start, length
