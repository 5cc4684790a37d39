"""Docker's own apt repository: its key, checked by its fingerprint, and its entry in apt's sources."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from longshore.bootstrap.host.apt import Apt
from longshore.bootstrap.host.openpgp import keys
from longshore.bootstrap.host.say import Changes, Refusal
from longshore.bootstrap.host.system import run, write

KEYRING = Path("/etc/apt/keyrings/longshore-docker.gpg")
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
    write(KEYRING, _signing_key(f"{base}/gpg", key))
    write(SOURCES, sources(base, suite, architecture.strip()).encode())
    apt.update()


def sources(base: str, suite: str, architecture: str) -> str:
    """The entry in apt's deb822 format, bound to its own key."""
    return (
        f"# Written by `invoke bootstrap`.\nTypes: deb\nURIs: {base}\nSuites: {suite}\nComponents: stable\n"
        f"Architectures: {architecture}\nSigned-By: {KEYRING}\n"
    )


def _signing_key(url: str, fingerprint: str) -> bytes:
    """The key with this fingerprint, fetched as apt fetches packages: by the same proxy, trusting the same
    certificates. Raises ``Refusal``."""
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
        found = keys(text)
    except ValueError as error:
        raise Refusal("key", f"what {url} answers is not a signing key: {error}") from None
    wanted = fingerprint.upper().replace(" ", "")
    if wanted not in found:
        raise Refusal(
            "key",
            f"the key at {url} has the fingerprint {', '.join(found)}, and {fingerprint} was expected",
            "Someone may be answering in the repository's place; nothing was installed.",
        )
    # That key alone: apt would believe any other that comes with it as well.
    return found[wanted]
