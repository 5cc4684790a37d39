"""What rendering gives: everything that one release of one app is on one host.

A bundle is content. Its id is the hash of that content, so the same input is the same release,
and a second deploy of it has nothing to do.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import field
from functools import cached_property
from typing import Any, Literal

from longshore.agent.masks import of_file
from longshore.errors import Where
from longshore.records import dataclass


@dataclass(frozen=True)
class BundleFile:
    """A file of the bundle.

    ``kind`` is ``release`` for what lives in the release's own folder (compose files, ``.env``), and
    ``content`` for what containers mount: it is kept under a path made of its own hash, so that an
    unchanged file has an unchanged path and recreates nothing (compose-spec has no such hash:
    docker/compose#11900).
    """

    path: str
    """Relative, with ``/``. For ``content`` it starts with the hash of its mount."""
    data: bytes = field(repr=False)
    mode: int = 0o600
    kind: Literal["release", "content"] = "release"
    secret: bool = False

    @cached_property
    def sha256(self) -> str:
        """The hash of the content, in hex."""
        return hashlib.sha256(self.data).hexdigest()


def mounted_secrets(files: Iterable[BundleFile]) -> frozenset[str]:
    """What to mask of the files that are mounted as secrets (:func:`longshore.agent.masks.of_file`)."""
    mounted = (file.data for file in files if file.secret and file.kind == "content")
    return frozenset({of_file(data.decode("utf-8", "surrogateescape")) for data in mounted} - {""})


@dataclass(frozen=True)
class Note:
    """Something the person should know about what was rendered. ``level`` is ``note`` or ``warning``."""

    level: Literal["note", "warning"]
    message: str
    where: Where | None = None
    service: str | None = None


@dataclass(frozen=True)
class ServiceFacts:
    """What is known of a service before any host is asked."""

    name: str
    image: str | None
    """As it will run: with the digest, where it could be pinned."""
    replicas: int
    one_shot: bool
    """It is expected to exit 0 (``restart: no`` and something waits for its completion)."""
    healthcheck: bool
    """A health check is defined in compose or policy. The image may bring one, too."""
    ports: tuple[str, ...] = ()
    """Published host ports as ``IP:PORT/PROTO``, IP empty for all addresses."""
    depends_on: tuple[str, ...] = ()
    platform: str | None = None
    build: bool = False
    may_exit: bool = False
    """``restart: no`` was asked for: to exit with 0 is no failure, even when nothing waits for it."""
    routed: bool = False
    """The proxy sends requests to it."""
    twin: bool = False
    """The old and the new can run side by side on a host."""
    gap: str = ""
    """Why not, for one that the proxy serves: then there is a gap while it is replaced."""
    probe: Mapping[str, Any] | None = None
    """What the agent requests before the release is good: ``port``, ``path``, ``status``, ``timeout`` (s)."""


@dataclass(frozen=True)
class Bundle:
    """A release of an app for one host."""

    app: str
    host: str
    project: str
    files: tuple[BundleFile, ...]
    compose_files: tuple[str, ...]
    """In the order in which Compose gets them (``-f``), relative to the bundle; ours is the last."""
    project_directory: str
    """Relative to the bundle: what Compose resolves relative paths against."""
    profiles: tuple[str, ...]
    services: Mapping[str, ServiceFacts]
    """Only those that run on this host."""
    state_dirs: tuple[str, ...] = ()
    """Absolute folders on the host that bind mounts expect; made when missing, never emptied."""
    notes: tuple[Note, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    """For the agent: ``keep``, ``health_timeout`` (s), ``stability`` and ``steady`` (s)."""
    secrets: tuple[str, ...] = ()
    """The variables of ``.env`` whose values the host masks in whatever it says. Not a part of the id."""

    @cached_property
    def id(self) -> str:
        """The first 12 hex digits of the SHA-256 of everything the host gets."""
        digest = hashlib.sha256(json.dumps(self.manifest_body(), sort_keys=True).encode())
        return digest.hexdigest()[:12]

    def manifest_body(self) -> dict[str, Any]:
        """The manifest without the id. JSON; files are by SHA-256, in the order of their paths."""
        return {
            "format": 1,
            "app": self.app,
            "project": self.project,
            "compose_files": list(self.compose_files),
            "project_directory": self.project_directory,
            "profiles": list(self.profiles),
            "services": {
                name: {
                    "image": facts.image,
                    "replicas": facts.replicas,
                    "one_shot": facts.one_shot,
                    "may_exit": facts.may_exit,
                    "healthcheck": facts.healthcheck,
                    "ports": list(facts.ports),
                    "depends_on": list(facts.depends_on),
                    "platform": facts.platform,
                    **({"routed": True} if facts.routed else {}),
                    **({"twin": True} if facts.twin else {}),
                    # Only where there is one: a release without has the id that it always had.
                    **({"probe": dict(facts.probe)} if facts.probe else {}),
                }
                for name, facts in sorted(self.services.items())
            },
            "state_dirs": sorted(self.state_dirs),
            "settings": dict(self.settings),
            "files": {
                file.path: {
                    "sha256": file.sha256,
                    "mode": f"{file.mode:04o}",
                    "kind": file.kind,
                    "secret": file.secret,
                }
                for file in sorted(self.files, key=lambda file: file.path)
            },
        }

    def manifest(self) -> dict[str, Any]:
        """``manifest.json`` as the host gets it: the body, the id, and which variables are secrets."""
        return {"id": self.id, **self.manifest_body(), "secrets": list(self.secrets)}
