"""What single keys of a compose file's ``build`` say, in the words that ``docker buildx build`` takes.

Source of the keys: compose-spec, ``build.md``; of the options: docs.docker.com, "docker buildx build".
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from longshore.errors import RenderError, Where
from longshore.inventory.model import Target
from longshore.render.document import Map
from longshore.render.merge import as_items
from longshore.render.parts import LocalFile
from longshore.render.renderer import BuiltService

_CONTEXT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]*")
_SERVICE_CONTEXT = "service:"
_REMOTE_CONTEXT = ("docker-image://", "https://", "http://", "git://", "ssh://", "git@")
_PRIVILEGED = "security.insecure"
_ENTITLEMENTS = ("network.host", _PRIVILEGED, "device")


def pairs(value: Any, env: Mapping[str, str]) -> dict[str, str]:
    """A mapping or a list of ``KEY=value``; a key alone takes its value from ``.env``, or is left out."""
    found: dict[str, str | None] = {}
    if isinstance(value, Mapping):
        found = {str(key): None if one is None else _text(one) for key, one in value.items()}
    else:
        for item in as_items(value):
            key, equals, one = str(item).partition("=")
            found[key] = one if equals else None
    known = {key: env.get(key) if one is None else one for key, one in found.items()}
    return {key: one for key, one in known.items() if one is not None}


def secrets_of(
    target: Target, service: BuiltService, said: Mapping[str, Any], secrets: Mapping[str, Any]
) -> dict[str, str]:
    """The values of ``secrets``, by id. Raises ``RenderError`` for one that can't be had."""
    found = {}
    for item in as_items(said.get("secrets")):
        where = getattr(item, "where", service.service.where)
        source = str(item.get("source")) if isinstance(item, Map) else str(item)
        name = str(item.get("target") or source) if isinstance(item, Map) else source
        entry = secrets.get(source)
        if not isinstance(entry, Map):
            raise RenderError(
                f"{service.name} is built with the secret {source}, which is not defined.", where=where
            )
        if entry.get("environment"):
            variable = str(entry["environment"])
            value = target.env[variable].value if variable in target.env else os.environ.get(variable)
            if value is None:
                raise RenderError(
                    f"The build secret {source} is the variable {variable}, which is not set.",
                    where=entry.where,
                    hint="Set it in the environment's env file, or in this shell.",
                )
            found[name] = value
            continue
        file = entry.get("file")
        if not isinstance(file, LocalFile):
            raise RenderError(f"The build secret {source} has no file here.", where=entry.where)
        path = file.here
        try:
            found[name] = path.read_text(encoding="utf-8", errors="surrogateescape")
        except OSError as error:
            raise RenderError(
                f"The build secret {source} can't be read: {error.strerror}.", where=file.where
            ) from None
    return found


def options_of(said: Mapping[str, Any], where: Where) -> dict[str, Any]:
    """``network``, ``shm-size``, ``hosts``, ``ulimits``, ``allow``, ``pull`` and ``no_cache``, where they are
    said, as the agent takes them. Raises ``RenderError``."""
    found: dict[str, Any] = {}
    if said.get("network"):
        found["network"] = str(said["network"])
    if said.get("shm_size"):
        found["shm-size"] = str(said["shm_size"])
    hosts = said.get("extra_hosts")
    if isinstance(hosts, Mapping):
        found["hosts"] = [f"{name}:{address}" for name, address in hosts.items()]
    elif hosts:
        found["hosts"] = [str(one).replace("=", ":", 1) for one in as_items(hosts)]
    if said.get("ulimits"):
        found["ulimits"] = [_ulimit(name, one, where) for name, one in said["ulimits"].items()]
    allow = _allow(said, where)
    if allow:
        found["allow"] = allow
    for key in ("pull", "no_cache"):
        if _text(said.get(key, False)) == "true":
            found[key] = True
    return found


def _ulimit(name: Any, value: Any, where: Where) -> str:
    """``NAME=SOFT[:HARD]`` (docs.docker.com, "docker buildx build", ``--ulimit``)."""
    soft = value.get("soft") if isinstance(value, Mapping) else value
    hard = value.get("hard", soft) if isinstance(value, Mapping) else value
    if not all(re.fullmatch(r"-?\d+", str(one)) for one in (soft, hard)):
        raise RenderError(
            f"The limit {name} of a build is no number.",
            where=where,
            hint="Write a number, or {soft: NUMBER, hard: NUMBER}.",
        )
    return f"{name}={soft}:{hard}"


def _allow(said: Mapping[str, Any], where: Where) -> list[str]:
    """``entitlements``, and ``privileged``, which is one of them (compose-spec)."""
    found = [str(one) for one in as_items(said.get("entitlements"))]
    for one in found:
        if one.partition("=")[0] not in _ENTITLEMENTS:
            raise RenderError(
                f"The entitlement {one} of a build is not known.",
                where=where,
                hint=f"BuildKit knows {', '.join(_ENTITLEMENTS)}.",
            )
    if _text(said.get("privileged", False)) == "true":
        found.append(_PRIVILEGED)
    return list(dict.fromkeys(found))


def contexts_of(service: BuiltService, said: Mapping[str, Any]) -> dict[str, Path | str]:
    """``additional_contexts`` by name: a folder of this machine, or what BuildKit fetches itself. Those that
    are images of other services are left to :func:`services_of`.

    Raises ``RenderError`` for a folder that isn't there, and for what can't be given to a builder.
    """
    found: dict[str, Path | str] = {}
    for name, value, where in _contexts(service, said):
        if isinstance(value, LocalFile):
            path = value.here
            if not path.is_dir():
                raise RenderError(
                    f"The folder {path}, a context of {service.name}, doesn't exist.", where=where
                )
            found[name] = path.resolve()
        elif str(value).startswith(_REMOTE_CONTEXT):
            found[name] = str(value)
        elif not str(value).startswith(_SERVICE_CONTEXT):
            kind = str(value).partition(":")[0]
            raise RenderError(
                f"{service.name} takes the context {name} from {value}, and {kind}: can't be given to a"
                " builder.",
                where=where,
                hint="Name a folder, a service (`service:NAME`), an image (`docker-image://…`) or an"
                " address.",
            )
    return found


def services_of(service: BuiltService, said: Mapping[str, Any]) -> dict[str, tuple[str, Where]]:
    """``additional_contexts`` that are images of other services (``service:NAME``): the service, and where it
    is said."""
    return {
        name: (str(value).removeprefix(_SERVICE_CONTEXT), where)
        for name, value, where in _contexts(service, said)
        if str(value).startswith(_SERVICE_CONTEXT)
    }


def _contexts(service: BuiltService, said: Mapping[str, Any]) -> Iterator[tuple[str, Any, Where]]:
    section = said.get("additional_contexts") or {}
    for name, value in section.items():
        where = section.where_of(name) if isinstance(section, Map) else service.service.where
        if not _CONTEXT_NAME.fullmatch(str(name)):
            raise RenderError(
                f"{name!r} of {service.name} can't be the name of a context.",
                where=where,
                hint="Letters, digits and . _ - : / @.",
            )
        yield str(name), value, where


def ssh_of(target: Target, service: BuiltService, said: Mapping[str, Any]) -> tuple[str, ...]:
    """``ssh``: agents and keys that steps may use, as ``ID`` or ``ID=PATH`` (absolute).

    Raises ``RenderError`` for a key that isn't there.
    """
    value = said.get("ssh")
    items = (
        [f"{name}={one}" if one else str(name) for name, one in value.items()]
        if isinstance(value, Mapping)
        else [str(one) for one in as_items(value)]
    )
    found = []
    for item in items:
        name, _, path = item.partition("=")
        if path:
            base = (target.root / service.service.where.file).parent
            full = (base / os.path.expanduser(path)).resolve()  # noqa: PTH111 (Path's raises for an unknown user)
            if not full.exists():
                where = service.section.where if service.section is not None else service.service.where
                raise RenderError(
                    f"The key {full}, which {service.name} is built with, doesn't exist.", where=where
                )
            found.append(f"{name}={full}")
        else:
            found.append(name)
    return tuple(found)


def cache_of(value: Any) -> str:
    """A plain reference is short for ``type=registry,ref=…``."""
    text = str(value)
    return text if "=" in text else f"type=registry,ref={text}"


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
