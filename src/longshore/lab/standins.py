"""Images that stand in for Docker Hub's where it isn't reached, made of distributions' packages.

Each says what it is: the labels ``longshore.stand-in`` and ``org.opencontainers.image.description`` name
the software and the version that is really inside. They are built on a practice host of a lab of their
own, and kept in the cache as a registry's content.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shlex
import shutil
import tarfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longshore.lab import pip, registry
from longshore.lab.commands import LabError
from longshore.lab.machine import Say, native_arch
from longshore.lab.roots import script
from longshore.lab.state import locked
from longshore.records import dataclass

if TYPE_CHECKING:
    from longshore.lab.lab import Lab

BUILDER = "images"
"""The name of the lab that builds: it comes and goes with a build."""

LANES = 2
"""Builders at once."""

PASSING = "being-built"
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    INDEX,
)


@dataclass(frozen=True)
class Source:
    """One way to make a stand-in: the image it starts from and the Dockerfile's arguments."""

    base: str
    args: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StandIn:
    """A stand-in: its Dockerfile's folder and target, and the ways to make it, best first."""

    folder: str
    sources: tuple[Source, ...]
    target: str = "image"


BASES = {
    "debian:bookworm-slim": "bookworm",
    "debian:trixie-slim": "trixie",
    "ubuntu:22.04": "jammy",
    "ubuntu:24.04": "noble",
}

_DEBIAN = Source("debian:bookworm-slim")
_DEBIAN_PYTHON = Source("debian:bookworm-slim", {"PYTHON": "python3"})
_PYTHON_310 = (Source("ubuntu:22.04", {"PYTHON": "python3.10"}), _DEBIAN_PYTHON)
_PYTHON_312 = (Source("ubuntu:24.04", {"PYTHON": "python3.12"}), _DEBIAN_PYTHON)
_MARIADB = Source("debian:bookworm-slim", {"PACKAGES": "mariadb-server mariadb-client"})

STAND_INS: Mapping[str, StandIn] = {
    "postgres:15": StandIn("postgres", (_DEBIAN,)),
    "redis:7": StandIn("redis", (_DEBIAN,)),
    "mysql:8.0": StandIn("mysql", (Source("ubuntu:24.04"), _MARIADB)),
    "python:3.10-slim": StandIn("python", _PYTHON_310, target="slim"),
    "python:3.12-slim-bookworm": StandIn("python", _PYTHON_312, target="slim"),
    "python:3.12-bookworm": StandIn("python", _PYTHON_312, target="full"),
    "traefik:v3": StandIn("traefik", (_DEBIAN,)),
}


def hub_is_reached() -> bool:
    """Whether Docker Hub answers from here; then nothing needs to stand in for it.

    ``LONGSHORE_LAB_HUB`` decides instead: ``stand-ins`` or ``hub``.
    """
    asked = os.environ.get("LONGSHORE_LAB_HUB")
    if asked:
        return asked == "hub"
    try:
        with urllib.request.urlopen("https://registry-1.docker.io/v2/", timeout=5):
            return True
    except urllib.error.HTTPError as answered:
        return answered.code == 401
    except OSError:
        return False


def known(images: Sequence[str]) -> None:
    """Raise ``LabError`` for an image that has no stand-in."""
    for image in images:
        if image not in STAND_INS and image not in BASES:
            there = ", ".join([*STAND_INS, *BASES])
            raise LabError(f"There is no stand-in for '{image}'.", hint=f"There are: {there}.")


def missing(cache: Path, images: Sequence[str], platforms: Sequence[str]) -> dict[str, list[str]]:
    """Which of these images aren't in the cache, with the architectures to build."""
    known(images)
    index = _index(cache)
    found = {}
    for image in images:
        entry = index.get(image, {})
        have = entry.get("platforms", {}) if entry.get("recipe") == _recipe(image) else {}
        wanted = [arch for arch in platforms if arch not in have]
        if wanted:
            found[image] = wanted
    return found


def build(cache: Path, wanted: Mapping[str, Sequence[str]], say: Say) -> None:
    """Build images into the cache, by image the architectures (``amd64``, ``arm64``).

    Raises ``LabError`` with the build's last lines when an image can't be made in any way.
    """
    from longshore.lab.lab import Lab

    cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    with locked(cache.parent / "images.lock"):
        # Another lab may have built them while this one waited.
        left: dict[str, list[str]] = {}
        for image, platforms in wanted.items():
            left |= missing(cache, [image], platforms)
        if not left:
            return
        foreign = any(arch != native_arch() for platforms in left.values() for arch in platforms)
        # What is emulated is made beside something else, and leaves that a processor.
        lanes = _lanes(left, 1 if foreign else LANES)
        lab = Lab(BUILDER)
        lab.down()
        try:
            lab.up(len(lanes))
            lab.registry_up()
            if foreign:
                lab.emulate()
            shared = _Shared(lab, cache, say)
            with ThreadPoolExecutor(len(lanes)) as pool:
                made = [
                    pool.submit(_Builder(shared, f"h{number}").images, lane)
                    for number, lane in enumerate(lanes, 1)
                ]
            for one in made:
                one.result()
        finally:
            lab.down()


def _lanes(wanted: Mapping[str, Sequence[str]], count: int) -> list[dict[str, Sequence[str]]]:
    """Shares the images out to so many builders at most; those of one base go to the same."""
    groups: dict[str, dict[str, Sequence[str]]] = {}
    for image, platforms in wanted.items():
        base = image if image in BASES else STAND_INS[image].sources[0].base
        groups.setdefault(base, {})[image] = platforms
    lanes: list[dict[str, Sequence[str]]] = [{} for _ in range(min(count, len(groups)))]
    for group in sorted(groups.values(), key=len, reverse=True):
        min(lanes, key=len).update(group)
    return lanes


class _Shared:
    """What the builders of one lab have in common."""

    def __init__(self, lab: Lab, cache: Path, say: Say) -> None:
        self.lab, self.cache, self.say = lab, cache, say
        self.content = lab.place.home / "registry" / "content"
        self.publishing = threading.Lock()
        self.basing = {base: threading.Lock() for base in BASES}
        """Held while a base is made: another builder may fall back on it."""


class _Builder:
    """The story of a build, on one host of the builders' lab."""

    def __init__(self, shared: _Shared, host: str) -> None:
        self.shared, self.host = shared, host
        self.lab, self.cache, self.say = shared.lab, shared.cache, shared.say
        self.passing = f"{PASSING}-{host}"
        self.unreached: set[tuple[str, str]] = set()

    def images(self, wanted: Mapping[str, Sequence[str]]) -> None:
        """Build these, one after the other."""
        for image, platforms in wanted.items():
            self.image(image, platforms)

    def image(self, image: str, platforms: Sequence[str]) -> None:
        """Build one stand-in for these architectures, and put it into the cache."""
        if image in BASES:
            for arch in platforms:
                self._base(image, arch)
            return
        made = {}
        for arch in platforms:
            self.say(f"Building {image} for {arch}: a stand-in, made once and kept.")
            begun = time.monotonic()
            made[arch], says = self._from_any(image, arch)
            self.say(f"Built {image} for {arch} in {time.monotonic() - begun:.0f} s: {says}.")
        self._publish(image, made)

    def _from_any(self, image: str, arch: str) -> tuple[str, str]:
        stand_in, problem = STAND_INS[image], LabError(f"There is no way to make '{image}'.")
        for source in stand_in.sources:
            try:
                self._base(source.base, arch)
                return self._build(image, stand_in, source, arch)
            except LabError as failed:
                self.say(f"{image} for {arch} can't be made from {source.base}: {failed}")
                problem = failed
        raise problem

    def _base(self, base: str, arch: str) -> None:
        """Have a distribution's root as an image."""
        with self.shared.basing[base]:
            if not missing(self.cache, [base], [arch]):
                return
            if (base, arch) in self.unreached:
                raise LabError("its packages aren't reached from here")
            self._make_base(base, arch)

    def _make_base(self, base: str, arch: str) -> None:
        begun, folder = time.monotonic(), f"/srv/{base.replace(':', '-')}-{arch}"
        try:
            said = self._host(["bash", "-s", BASES[base], arch, folder], stdin=script("base.sh"))
        except LabError:
            self.unreached.add((base, arch))
            raise
        name = said.splitlines()[-1]
        self._send("base", folder)
        digest = self._push(base, arch, folder, ["--label", "longshore.stand-in=" + name], f"{name}, minimal")
        self._host(["rm", "-rf", folder])
        self.say(f"Built {base} for {arch} in {time.monotonic() - begun:.0f} s: {name}.")
        self._publish(base, {arch: digest})

    def _build(self, image: str, stand_in: StandIn, source: Source, arch: str) -> tuple[str, str]:
        folder = f"/srv/{stand_in.folder}"
        self._send(stand_in.folder, folder)
        options = ["--build-arg", f"BASE={self.lab.registry}/library/{source.base}"]
        for name, value in source.args.items():
            options += ["--build-arg", f"{name}={value}"]
        command = ["docker", "buildx", "build", "--platform", f"linux/{arch}", *options]
        self._host([*command, "--target", "version", "--output", f"type=local,dest={folder}-out", folder])
        software = self._host(["cat", f"{folder}-out/stand-in"]).strip()
        packages = "PyPI" if stand_in.folder == "traefik" else source.base.partition(":")[0].capitalize()
        says = f"{software} ({packages}'s package)"
        options += ["--target", stand_in.target, "--label", f"longshore.stand-in={software.split()[-1]}"]
        return self._push(image, arch, folder, options, says), says

    def _push(self, image: str, arch: str, folder: str, options: Sequence[str], says: str) -> str:
        """Build for one architecture, push it under a passing name and return its digest."""
        name = f"{self.lab.registry}/library/{image.partition(':')[0]}:{self.passing}"
        command = ["docker", "buildx", "build", "--platform", f"linux/{arch}", "--provenance=false", *options]
        command += ["--label", f"org.opencontainers.image.description=stand-in: {says}"]
        self._host([*command, "--push", "--tag", name, "--metadata-file", "/srv/metadata.json", folder])
        return str(json.loads(self._host(["cat", "/srv/metadata.json"]))["containerimage.digest"])

    def _publish(self, image: str, made: Mapping[str, str]) -> None:
        """Name the image as one of all its architectures, and keep it."""
        with self.shared.publishing:
            index, recipe = _index(self.cache), _recipe(image)
            old = index.get(image, {})
            digests = {**(old["platforms"] if old.get("recipe") == recipe else {}), **made}
            repository, _, tag = image.partition(":")
            url = f"http://{self.lab.registry}/v2/library/{repository}/manifests/"
            manifests = []
            for arch, digest in sorted(digests.items()):
                body, kind = _ask(url + digest)
                platform = {
                    "architecture": arch,
                    "os": "linux",
                    **({"variant": "v8"} if arch == "arm64" else {}),
                }
                manifests.append(
                    {"mediaType": kind, "digest": digest, "size": len(body), "platform": platform}
                )
            body = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}).encode()
            _ask(url + tag, body)
            # The registry has no way to drop a tag and keep what it names.
            content = self.shared.content
            tags = content / registry.STORAGE / "repositories/library" / repository / "_manifests/tags"
            shutil.rmtree(tags / self.passing)
            registry.copy_content(content, self.cache, [f"library/{repository}"])
            for other in (self.cache / tags.relative_to(content)).glob(f"{PASSING}-*"):
                shutil.rmtree(other)
            index[image] = {"recipe": recipe, "platforms": digests}
            beside = self.cache / "index.new"
            beside.write_text(json.dumps(index, indent=1))
            beside.replace(self.cache / "index.json")

    def _host(self, argv: Sequence[str], stdin: str | bytes | None = None) -> str:
        done = self.lab.ssh(self.host, argv, stdin=stdin, check=False, timeout=3600)
        if done.returncode != 0:
            said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
            raise LabError(f"{shlex.join(argv[:3])} failed: {' / '.join(said[-6:])}")
        return done.stdout

    def _send(self, name: str, folder: str) -> None:
        """Put an image's folder, and this machine's pip settings, on the builder."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for file, content in {**_files(name), "pip.conf": pip.settings().encode()}.items():
                entry = tarfile.TarInfo(file)
                entry.size, entry.mode = len(content), 0o644
                tar.addfile(entry, io.BytesIO(content))
        self._host(["mkdir", "-p", folder])
        self._host(["tar", "-x", "-C", folder], stdin=packed.getvalue())


def _files(name: str) -> dict[str, bytes]:
    folder = files("longshore.lab") / "images" / name
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir(), key=lambda one: one.name)}


def _recipe(image: str) -> str:
    """The hash of what an image is made of, but not the packages' versions.

    This machine's pip settings aren't in it either: they differ from one shell to the next.
    """
    what: tuple[object, ...]
    if image in BASES:
        what = (BASES[image], script("base.sh"), _files("base"))
    else:
        stand_in = STAND_INS[image]
        what = (stand_in, _files(stand_in.folder))
    return hashlib.sha256(repr(what).encode()).hexdigest()[:16]


def _index(cache: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((cache / "index.json").read_text()))
    except FileNotFoundError:
        return {}


def _ask(url: str, put: bytes | None = None) -> tuple[bytes, str]:
    """Get a manifest, or put one; returns the answer's body and media type."""
    headers = {"Content-Type": INDEX} if put else {"Accept": ", ".join(MANIFESTS)}
    method = "PUT" if put else "GET"
    request = urllib.request.Request(url, data=put, method=method, headers=headers)  # noqa: S310 - http, ours
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
            return answer.read(), answer.headers.get("Content-Type", "")
    except OSError as failed:
        raise LabError(f"The lab's registry refused {url}: {failed}") from failed
