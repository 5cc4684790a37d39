"""OpenPGP public keys in ASCII armour, told apart by their fingerprints (RFC 4880)."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator

_BEGIN, _END = "-----BEGIN PGP PUBLIC KEY BLOCK-----", "-----END PGP PUBLIC KEY BLOCK-----"
_PUBLIC_KEY = 6


def keys(armored: bytes) -> dict[str, bytes]:
    """Each key by its fingerprint, with all that belongs to it (names, signatures, subkeys), as packets.

    A file may hold several keys, and whoever trusts the file trusts them all: so they are taken apart here.
    Raises ``ValueError`` for what holds none.
    """
    found: dict[str, bytearray] = {}
    for data in _blocks(armored.decode("ascii", "replace")):
        of = bytearray()  # what comes before the first key belongs to none
        for tag, packet, body in _packets(data):
            if tag == _PUBLIC_KEY:
                of = found.setdefault(_fingerprint(body), bytearray()) if body[:1] == b"\x04" else bytearray()
            of += packet
    if not found:
        raise ValueError("it holds no key of version 4")
    return {fingerprint: bytes(packets) for fingerprint, packets in found.items()}


def _fingerprint(body: bytes) -> str:
    """Of a version 4 key (12.2)."""
    return hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body).hexdigest().upper()  # noqa: S324


def _blocks(text: str) -> Iterator[bytes]:
    """The content of each block of armour (6.2): headers, an empty line, base64, a checksum."""
    lines = [line.strip() for line in text.splitlines()]
    if _BEGIN not in lines:
        raise ValueError("it has no PGP PUBLIC KEY BLOCK")
    while _BEGIN in lines:
        lines = lines[lines.index(_BEGIN) + 1 :]
        end = lines.index(_END) if _END in lines else len(lines)
        block, lines = lines[:end], lines[end:]
        if "" not in block:
            raise ValueError("its armour has no content")
        content = block[block.index("") + 1 :]
        yield base64.b64decode("".join(line for line in content if not line.startswith("=")), validate=True)


def _packets(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Tag, whole packet and body of each packet (4.2)."""
    while data:
        tag, start, length = _header(data)
        if len(data) < start + length:
            raise ValueError("its last packet is cut off")
        yield tag, data[: start + length], data[start : start + length]
        data = data[start + length :]


def _header(data: bytes) -> tuple[int, int, int]:
    """A packet's tag, and where its body starts and how long it is."""
    first = data[0]
    if not first & 0x80:
        raise ValueError("its content is no OpenPGP packet")
    if not first & 0x40:  # the old format: the size of the length is in the tag
        size = 1 << (first & 3)
        if size == 8 or len(data) <= size:
            raise ValueError("it has a packet without a length")
        return (first >> 2) & 0x0F, 1 + size, int.from_bytes(data[1 : 1 + size], "big")
    size = data[1] if len(data) > 1 else 255
    if size < 192:
        return first & 0x3F, 2, size
    if size < 224 and len(data) > 2:
        return first & 0x3F, 3, ((size - 192) << 8) + data[2] + 192
    if size == 255 and len(data) > 5:
        return first & 0x3F, 6, int.from_bytes(data[2:6], "big")
    raise ValueError("it has a packet without a length")
