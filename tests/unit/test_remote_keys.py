"""Private keys: the formats that OpenSSH's own ssh takes, and sentences for what can't be used."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from longshore.errors import HostError
from longshore.remote.keys import KeyRing

KEYS = {
    "ed25519": ed25519.Ed25519PrivateKey.generate(),
    "ecdsa": ec.generate_private_key(ec.SECP256R1()),
    "rsa": rsa.generate_private_key(65537, 2048),
}


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("form", [PrivateFormat.OpenSSH, PrivateFormat.PKCS8])
@pytest.mark.parametrize("passphrase", [b"", b"sesame"])
def test_a_key_is_read_in_every_format(
    tmp_path: Path, kind: str, form: PrivateFormat, passphrase: bytes
) -> None:
    path = tmp_path / "key"
    lock = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    path.write_bytes(KEYS[kind].private_bytes(Encoding.PEM, form, lock))
    asked: list[str] = []
    ring = KeyRing(lambda prompt: asked.append(prompt) or passphrase.decode())
    loaded = ring.load(path)
    assert kind in loaded.get_name().replace("ssh-", "")
    assert len(asked) == bool(passphrase)


def test_a_certificate_that_is_none_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(KEYS["rsa"].private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    (tmp_path / "key-cert.pub").write_text("nothing\n")
    with pytest.raises(HostError, match=r"key-cert\.pub can't be used"):
        KeyRing().load(path)
