"""The proxy's certificate for names that it has none for: made once for a host, by OpenSSL."""

from __future__ import annotations

import json
import ssl
import subprocess
from pathlib import Path

import pytest

from longshore.agent import fallback

INSIDE = "/etc/traefik/own"


def prepare(root: Path) -> tuple[Path, Path]:
    """For a proxy that is to be started: its own folder and what it watches."""
    number = len(list(root.glob("proxy-*")))
    home = root / f"proxy-{number}"
    watched = home / "this-proxy"
    watched.mkdir(parents=True)
    fallback.prepare(str(root), str(home), INSIDE, str(watched))
    return home, watched


def test_a_proxy_gets_a_pair_that_tls_takes_and_nobody_else_reads(tmp_path: Path) -> None:
    home, watched = prepare(tmp_path)
    pem = home / "fallback.pem"
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(pem)
    assert pem.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "fallback.pem").stat().st_mode & 0o777 == 0o600
    said = json.loads((watched / "fallback.yml").read_text())
    pair = said["tls"]["stores"]["default"]["defaultCertificate"]
    assert pair == {"certFile": f"{INSIDE}/fallback.pem", "keyFile": f"{INSIDE}/fallback.pem"}


def test_the_next_proxy_of_the_host_gets_the_same(tmp_path: Path) -> None:
    first, second = (prepare(tmp_path)[0] for _ in range(2))
    assert (first / "fallback.pem").read_bytes() == (second / "fallback.pem").read_bytes()


@pytest.mark.parametrize("what", ["no openssl", "it fails", "it says half", "it hangs"])
def test_where_none_can_be_made_the_proxy_has_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    def run(argv: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        if what == "no openssl":
            raise FileNotFoundError("openssl")
        if what == "it hangs":
            raise subprocess.TimeoutExpired(argv, 30)
        code, said = (1, b"") if what == "it fails" else (0, b"-----BEGIN PRIVATE KEY-----\nAA\n")
        return subprocess.CompletedProcess(argv, code, said, b"")

    monkeypatch.setattr(fallback.subprocess, "run", run)  # type: ignore[attr-defined]
    home, watched = prepare(tmp_path)
    assert list(watched.iterdir()) == []
    assert [one.name for one in home.iterdir()] == ["this-proxy"]
    assert not (tmp_path / "fallback.pem").exists()
