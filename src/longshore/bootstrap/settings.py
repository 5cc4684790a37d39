"""What a host's engine should be, as a value, and as the JSON that travels to the host."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from longshore.errors import LongshoreError
from longshore.inventory import patterns
from longshore.inventory.model import EnginePolicy, Environment, Registry
from longshore.records import dataclass

HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")
"""Docker Hub's names. The engine asks mirrors for this registry only (moby, registry-mirrors)."""
NOT_USERS = {
    "root": "it is there, and deploys without being made",
    "docker": "its own group would be the engine's",
    "nobody": "it must own nothing",
}


@dataclass(frozen=True)
class BootstrapOptions:
    """What is asked of a run, beside what the inventory says of the engine (``EnginePolicy``)."""

    docker_group: bool = False
    """Whether the login user joins the group docker, which is as good as being root."""
    user: str = ""
    """The user that deploys from now on (:func:`user_name`): made, let in, and given the state folder."""
    lock_timeout: float = 300.0
    """Seconds to wait for another package manager."""


def wish(
    environment: Environment, settings: BootstrapOptions, *, check: bool, host: str = ""
) -> dict[str, Any]:
    """The request for a host of ``environment``; without one, what they have in common. JSON.

    Raises ``LongshoreError`` for a registry's ``ca`` that can't be read.
    """
    return {
        "store": environment.registry == "none" or host in builders(environment),
        "emulate": list(_platforms(environment)) if host in builders(environment) else [],
        "certificates": _certificates(environment.registries.values()),
        "check": check,
        "state_dir": _state_dir(environment, host),
        "recover_at_boot": _recovers(environment, host),
        "source": environment.engine.source,
        "repository": environment.engine.repository,
        "key": environment.engine.key,
        "lock_timeout": settings.lock_timeout,
        "docker_group": settings.docker_group,
        "user": settings.user,
        "daemon": daemon_defaults(environment.engine, environment.registries.values()),
    }


def _state_dir(environment: Environment, host: str) -> str:
    """The host's own, where the inventory gives it one."""
    own = (target.state_dir for (_, name), target in environment.targets.items() if name == host)
    return next(own, environment.state_dir)


def _recovers(environment: Environment, host: str) -> bool:
    return all(target.recover_at_boot for (_, name), target in environment.targets.items() if name == host)


def _platforms(environment: Environment) -> tuple[str, ...]:
    """What the inventory has images built for. Compose files aren't read to prepare a host."""
    policies = [
        policy.build
        for target in environment.targets.values()
        for policy in (target.app.defaults, *target.app.services.values())
    ]
    said = [*environment.build.platforms, *(one for build in policies if build for one in build.platforms)]
    return tuple(dict.fromkeys(said))


def builders(environment: Environment) -> frozenset[str]:
    """The hosts that build images."""
    pattern = environment.build.builders
    if pattern is None:
        group = environment.groups.get("builders")
        return frozenset(group.hosts if group else ())
    return frozenset(patterns.match(pattern, hosts=environment.hosts, groups=environment.groups))


def _certificates(registries: Iterable[Registry]) -> dict[str, str]:
    found = {}
    for registry in registries:
        if registry.ca is not None:
            try:
                found[registry.name] = registry.ca.read_text()
            except (OSError, UnicodeDecodeError) as error:
                why = getattr(error, "strerror", None) or "it is no text"
                raise LongshoreError(f"can't be read: {why}", where=str(registry.ca)) from None
    return found


def user_name(text: str) -> str:
    """``text``, when it can be the name of the user that deploys. Raises ``LongshoreError``."""
    if not re.fullmatch(r"[a-z_][a-z0-9_-]{0,31}", text):
        # What useradd itself takes (useradd(8)), without its trailing $, which is for machines.
        raise LongshoreError(
            f"{text!r} can't be the name of a user.",
            where="--user",
            hint="Up to 32 of a-z, 0-9, _ and -, the first of them a letter or _.",
        )
    if text in NOT_USERS:
        raise LongshoreError(
            f"{text} isn't a user to deploy as: {NOT_USERS[text]}.",
            where="--user",
            hint="Choose another name, for example `deployer`.",
        )
    return text


def daemon_defaults(engine: EnginePolicy, registries: Iterable[Registry]) -> dict[str, Any]:
    """The keys of ``daemon.json`` that a host should have unless someone there set them otherwise."""
    logging = engine.logging
    options = {**logging.options}
    if logging.driver in ("json-file", "local"):
        options = {
            "max-size": _size(logging.max_size),
            "max-file": str(logging.max_file),
            "compress": "true" if logging.compress else "false",
            **options,
        }
    insecure, mirrors = [], []
    for registry in registries:
        # With a mirror, it is the mirror that answers.
        asked = (registry.mirror or registry.name).partition("://")[2] or registry.mirror or registry.name
        if registry.insecure:
            insecure.append(asked.rstrip("/"))
        if registry.mirror and registry.name in HUB:
            scheme = "" if "://" in registry.mirror else "http://" if registry.insecure else "https://"
            mirrors.append(scheme + registry.mirror)
    wanted: dict[str, Any] = {
        "log-driver": logging.driver,
        "log-opts": options,
        "live-restore": engine.live_restore,
        "registry-mirrors": sorted(set(mirrors)),
        "insecure-registries": sorted(set(insecure)),
    }
    return {key: value for key, value in wanted.items() if value not in ([], {}, False)}


def _size(count: int) -> str:
    """Bytes as the log drivers read them: their ``m`` is 1000 * 1000 (docker/go-units, FromHumanSize)."""
    for unit, factor in (("g", 10**9), ("m", 10**6), ("k", 10**3)):
        if count % factor == 0:
            return f"{count // factor}{unit}"
    return str(count)
