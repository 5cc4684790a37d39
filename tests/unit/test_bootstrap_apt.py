"""apt and its packages: what is chosen from what it offers, and what its words mean."""

from __future__ import annotations

import base64
import hashlib

import pytest

from longshore.bootstrap.host.apt import Progress, explain, parse_policy
from longshore.bootstrap.host.openpgp import keys
from longshore.bootstrap.host.packages import DISTRO, DOCKER, choose
from longshore.bootstrap.host.repository import sources
from longshore.bootstrap.host.versions import parse_version

ALL = ("engine", "cli", "compose", "buildx")
OFFERS = {
    "debian 13": {
        "docker.io": "26.1.5+dfsg1-9+deb13u1",
        "docker-cli": "26.1.5+dfsg1-9+deb13u1",
        "docker-compose": "2.26.1-4",
        "docker-buildx": "0.13.1+ds1-3",
    },
    "debian 12": {"docker.io": "20.10.24+dfsg1-1+deb12u1", "docker-compose": "1.29.2-3"},
    "ubuntu 22.04": {
        "docker.io": "29.1.3-0ubuntu3~22.04.2",
        "docker-compose": "1.29.2-1",
        "docker-compose-v2": "2.40.3+ds1-0ubuntu1~22.04.1",
        "docker-buildx": "0.30.1-0ubuntu1~22.04.1",
    },
    "ubuntu 24.04, as it came": {
        "docker.io": "24.0.7-0ubuntu4",
        "docker-compose": "1.29.2-6ubuntu1",
        "docker-compose-v2": "2.24.6+ds1-0ubuntu2",
        "docker-buildx": "0.12.1-0ubuntu2",
    },
    "docker": {
        "docker-ce": "5:28.0.1-1~debian.12~bookworm",
        "docker-ce-cli": "5:28.0.1-1~debian.12~bookworm",
        "docker-compose-plugin": "2.33.1-1~debian.12~bookworm",
        "docker-buildx-plugin": "0.21.1-1~debian.12~bookworm",
    },
}


@pytest.mark.parametrize(
    ("system", "packages"),
    [
        ("debian 13", ("docker.io", "docker-cli", "docker-compose", "docker-buildx")),
        ("ubuntu 22.04", ("docker.io", "docker-compose-v2", "docker-buildx")),
        ("ubuntu 24.04, as it came", ("docker.io", "docker-compose-v2", "docker-buildx")),
    ],
)
def test_new_enough_packages_of_the_distribution_are_taken(system: str, packages: tuple[str, ...]) -> None:
    assert choose(DISTRO, ALL, OFFERS[system]) == (packages, ())


def test_old_packages_are_refused_one_by_one() -> None:
    _, against = choose(DISTRO, ALL, OFFERS["debian 12"])
    assert against == (
        "docker.io is 20.10.24+dfsg1-1+deb12u1, and 24.0 is needed",
        "docker-compose is 1.29.2-3, and 2.24.4 is needed",
        "there is no docker-buildx",
    )


def test_dockers_own_packages_are_read_past_their_epoch() -> None:
    assert choose(DOCKER, ALL, OFFERS["docker"])[1] == ()


def test_only_what_is_missing_is_chosen() -> None:
    assert choose(DISTRO, ("compose",), OFFERS["debian 13"]) == (("docker-compose",), ())


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("Docker version 26.1.5+dfsg1, build a72d7cd", (26, 1, 5)),
        ("v2.24.4", (2, 24, 4)),
        ("5:27.3.1-1~debian.12~bookworm", (27, 3, 1)),
        (" 0.13.1+ds1 0.13.1+ds1-3", (0, 13, 1)),
        ("none", ()),
    ],
)
def test_versions_are_read_as_programs_and_packages_write_them(text: str, version: tuple[int, ...]) -> None:
    assert parse_version(text) == version


def test_a_package_without_candidate_is_not_offered() -> None:
    output = (
        "docker.io:\n  Installed: (none)\n  Candidate: 26.1.5-1\n  Version table:\n     26.1.5-1 500\n"
        "        500 http://deb.debian.org/debian trixie/main amd64 Packages\n"
        "docker-ce:\n  Installed: (none)\n  Candidate: (none)\n  Version table:\n"
    )
    assert parse_policy(output) == {"docker.io": "26.1.5-1"}


@pytest.mark.parametrize(
    ("output", "code", "words"),
    [
        ("E: You don't have enough free space in /var/cache/apt/archives/.", "no_space", "/var/cache/apt"),
        ("dpkg: error: write failed: No space left on device\nE: Sub-process", "no_space", "disk is full"),
        (
            "E: dpkg was interrupted, you must manually run 'dpkg --configure -a' to correct the problem.",
            "apt_broken",
            "interrupted",
        ),
        ("E: Unable to correct problems, you have held broken packages.", "apt_broken", "held broken"),
        ("E: Packages need to be removed but remove is disabled.", "apt_conflict", "would remove"),
        ("E: Malformed line 1 in source list /etc/apt/sources.list (type)", "apt_sources", "sources.list"),
        ("W: GPG error: http://x InRelease: NO_PUBKEY 7EA0A9C3F273FCD8", "apt_untrusted", "NO_PUBKEY"),
        (
            "Err:1 http://deb.debian.org\n  Temporary failure resolving 'deb.debian.org'",
            "no_network",
            "resolv",
        ),
        ("E: Something new", "apt_failed", "Something new"),
        ("", "apt_failed", "nothing"),
    ],
)
def test_apts_failures_are_told_apart(output: str, code: str, words: str) -> None:
    refusal = explain(output, "installing docker.io")
    assert refusal.code == code
    assert words in refusal.message


def test_progress_is_told_once_for_every_ten_per_cent() -> None:
    told: list[tuple[str, str]] = []
    progress = Progress(lambda text, detail: told.append((text, detail)), "download packages")
    progress.feed("dlstatus:1:0.0:Retrieving\ndlstatus:1:3.1:Retrieving\ndlst")
    progress.feed("atus:2:41.5:Retrieving\npmstatus:libc6:amd64:41.9:Unpacking\npmconffile:x:y\nnonsense\n")
    assert told == [("download packages", "0 %"), ("download packages", "41 %"), ("install packages", "41 %")]


def _armored(packet: bytes) -> bytes:
    text = base64.encodebytes(packet).decode()
    block = "-----BEGIN PGP PUBLIC KEY BLOCK-----"
    return f"{block}\nVersion: x\n\n{text}=abcd\n{block.replace('BEGIN', 'END')}\n".encode()


@pytest.mark.parametrize(
    "header", [b"\x99\x01\x00", b"\xc6\xc0\x40", b"\xc6\xff\x00\x00\x01\x00"], ids=["old", "new", "new, long"]
)
def test_a_key_is_found_by_its_fingerprint_with_all_that_belongs_to_it(header: bytes) -> None:
    body = b"\x04" + bytes(range(255))
    packets = header + body + b"\xb4\x01u"
    assert keys(_armored(packets)) == {_fingerprint(body): packets}


def test_keys_that_come_together_are_taken_apart() -> None:
    first, second = (b"\x04" + bytes([number]) * 9 for number in (1, 2))
    one, two = (b"\xc6\x0a" + body + b"\xcd\x01u" for body in (first, second))
    wanted = {_fingerprint(first): one, _fingerprint(second): two}
    assert keys(_armored(one + two)) == wanted
    assert keys(_armored(one) + b"and\n" + _armored(two)) == wanted
    # Of a version that isn't known: neither it nor what belongs to it comes with the one before.
    assert keys(_armored(one + b"\xc6\x02\x06x\xcd\x01v")) == {_fingerprint(first): one}


def _fingerprint(body: bytes) -> str:
    return hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body).hexdigest().upper()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"<html>404</html>",
        b"-----BEGIN PGP PUBLIC KEY BLOCK-----",
        _armored(b"\xb4\x05hello"),
        _armored(b"\x99\x01\x00\x04short"),
        _armored(b"\xc6"),
        _armored(b"hello"),
        _armored(b"\x9b\x04\x04"),
        _armored(b"").replace(b"=abcd", b"=abcd\n!!"),
        _armored(b"\xc6\x01\x06"),
    ],
)
def test_what_is_no_key_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"PUBLIC KEY|packet|key|armour|base64|padding"):
        keys(text)


def test_the_repository_is_bound_to_its_own_key() -> None:
    text = sources("https://download.docker.com/linux/debian", "bookworm", "amd64")
    assert "Signed-By: /etc/apt/keyrings/longshore-docker.gpg\n" in text
    assert "Suites: bookworm\n" in text
