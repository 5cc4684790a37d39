"""What an inventory says about the Docker engine that ``bootstrap`` installs and sets up on its hosts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from longshore.inventory.kinds import Choice, Flag, Text
from longshore.inventory.model import EnginePolicy, Logging
from longshore.inventory.sections import Section, Setting, own
from longshore.inventory.services import LOGGING

ENGINE = Section(
    settings=(
        Setting(
            "source",
            Choice("auto, distro or docker", "docker", ("auto", "distro", "docker")),
            "Whose packages the engine comes from, where there is none yet: the distribution's, Docker's own,"
            " or the first of them that are new enough.",
            "auto",
        ),
        Setting(
            "repository",
            Text("a URL", "https://mirror.example.com/docker", pattern=r"https?://\S+[^\s/]", rule="a URL"),
            "Docker's package repository, or a mirror of it.",
            "https://download.docker.com",
        ),
        Setting(
            "key",
            Text(
                "a fingerprint",
                "9DC858229FC7DD38854AE2D88D81803C0EBFCD88",
                pattern=r"[0-9A-Fa-f]{40}",
                rule="a key's fingerprint: 40 hexadecimal digits, without spaces",
            ),
            "The fingerprint of that repository's signing key; another key is refused.",
            "Docker's",
        ),
        Setting(
            "live_restore",
            Flag(),
            "Whether containers run on while the engine is restarted.",
            "true",
        ),
        Setting("logging", LOGGING, "How the engine logs for containers that don't say otherwise."),
    )
)


def engine_policy(found: Mapping[str, Any] | None) -> EnginePolicy:
    """The policy of its checked settings."""
    said = own(found)
    if "logging" in said:
        said["logging"] = Logging(**own(said["logging"]))
    if "key" in said:
        said["key"] = said["key"].upper()
    return EnginePolicy(**said)
