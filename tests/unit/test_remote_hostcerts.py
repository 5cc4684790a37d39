"""Host certificates, made by ssh-keygen, judged as OpenSSH judges them."""

from __future__ import annotations

import base64
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from longshore.remote.hostcerts import Certificate, read


def make(tmp_path: Path, *words: str, kind: str = "ed25519", authority: str = "ed25519") -> bytes:
    ca, key = tmp_path / "ca", tmp_path / "key"
    for path, one in ((ca, authority), (key, kind)):
        bits = ["-b", "2048"] if one == "rsa" else []
        subprocess.run(["ssh-keygen", "-q", "-t", one, *bits, "-N", "", "-f", path], check=True)
    subprocess.run(["ssh-keygen", "-q", "-s", ca, "-I", "id", *words, f"{key}.pub"], check=True)
    return base64.b64decode((tmp_path / "key-cert.pub").read_text().split()[1])


def certificate(
    tmp_path: Path, *words: str, kind: str = "ed25519", authority: str = "ed25519"
) -> Certificate:
    found = read(make(tmp_path, *words, kind=kind, authority=authority))
    assert found is not None
    return found


@pytest.mark.parametrize(("kind", "authority"), [("ed25519", "ecdsa"), ("ecdsa", "rsa"), ("rsa", "ed25519")])
def test_a_good_one_vouches_for_its_hosts_alone(tmp_path: Path, kind: str, authority: str) -> None:
    found = certificate(tmp_path, "-h", "-n", "Web1.example.org,*.lan", kind=kind, authority=authority)
    now = time.time()
    assert found.refusal("web1.example.org", now=now) == ""
    assert found.refusal("a.LAN", now=now) == ""
    assert found.refusal("web2.example.org", now=now) == "it is for Web1.example.org, *.lan"


def test_one_without_names_is_for_any_host_and_one_for_people_for_none(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    assert certificate(tmp_path / "a", "-h").refusal("web1", now=time.time()) == ""
    assert "a person's" in certificate(tmp_path, "-n", "web1").refusal("web1", now=time.time())


def test_it_counts_only_while_it_is_valid(tmp_path: Path) -> None:
    found = certificate(tmp_path, "-h", "-V", "20200101000000Z:20200201000000Z")
    assert found.refusal("web1", now=found.begins) == ""
    for now in (found.begins - 1, found.ends):
        assert found.refusal("web1", now=now) == "it is valid from 2020-01-01 00:00 to 2020-02-01 00:00"


def test_what_was_changed_after_it_was_signed_is_noticed(tmp_path: Path) -> None:
    blob = make(tmp_path, "-h", "-n", "web1")
    forged = read(blob.replace(b"web1", b"web2", 1))
    assert forged is not None and forged.names == ("web2",)
    assert forged.refusal("web2", now=time.time()) == "its signature is wrong"
    good = read(blob)
    assert good is not None
    assert "critical option" in replace(good, critical=b"x").refusal("web1", now=time.time())
    # SHA-1, which nobody's authority signs with any more.
    old = replace(good, signature=b"\0\0\0\x07ssh-rsa" + good.signature[15:])
    assert old.refusal("web1", now=time.time()) == "its signature is wrong"


def test_what_is_none_is_none(tmp_path: Path) -> None:
    blob = make(tmp_path, "-h")
    plain = base64.b64decode((tmp_path / "key.pub").read_text().split()[1])
    assert read(plain) is None
    assert read(b"") is None
    assert read(blob + b"x") is None
    for end in range(0, len(blob), 7):
        assert read(blob[:end]) is None
