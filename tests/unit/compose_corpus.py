"""The collection of compose files in ``compose/``, read by us and by Compose.

``expected.json`` of each is what ``docker compose config --format json`` (2.26.1) said, reduced by
``of_compose``. ``vars.env`` stands for the project's ``.env``. The lab tests compare with a real one again.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

from longshore import dotenv
from longshore.render.files import ProjectFiles
from longshore.render.merge import as_items, as_mapping
from longshore.render.parts import LocalFile, Mount, plain, ports
from longshore.render.reader import read
from longshore.render.selection import dependencies, references, select

HERE = Path(__file__).parent / "compose"
CASES: dict[str, tuple[str, ...]] = {
    "anchors": ("compose.yml",),
    "django": ("docker-compose.yml",),
    "extends": ("compose.yml",),
    "include": ("compose.yml",),
    "interpolation": ("compose.yml",),
    "longforms": ("compose.yml",),
    "multidoc": ("compose.yml",),
    "overrides": ("compose.yml", "compose.prod.yml"),
    "profiles": ("compose.yml",),
    "subfolder": ("docker/docker-compose.yml",),
}


def variables(case: str) -> dict[str, str]:
    """The project's ``.env`` of a case."""
    path = HERE / case / "vars.env"
    return (
        {entry.key: entry.value for entry in dotenv.read(path.read_text(), str(path))}
        if path.exists()
        else {}
    )


def of_ours(case: str) -> dict[str, Any]:
    """The services of a case as our reader has them."""
    root = HERE / case
    compose = tuple(root / name for name in CASES[case])
    files = ProjectFiles(root=root, project=compose[0].parent, extra={}, variables={})
    env = variables(case)
    model = read(files, compose, env)
    here = select(model.services, profiles=(), placed={}, host="h").here
    return {name: _ours(model.services[name], root, env) for name in here}


def _ours(service: Any, root: Path, env: dict[str, str]) -> dict[str, Any]:
    environment: dict[str, str | None] = {}
    for file in as_items(service.get("env_file")):
        if file.written == ".env":
            environment |= env
        elif isinstance(file, LocalFile) and file.path is not None and file.path.exists():
            text = file.path.read_text()
            environment |= {entry.key: entry.value for entry in dotenv.read(text, "", lookup=env.get)}
    for key, value in as_mapping(service["environment"]).items() if service.get("environment") else ():
        environment[key] = env.get(key) if value is None else _text(value)
    return {
        "image": service.get("image"),
        "environment": environment,
        "ports": sorted([port.ip, port.published, port.target, port.protocol] for port in
                        ports(as_items(service.get("ports")), service.where)),
        "volumes": sorted(_mount(mount, root) for mount in as_items(service.get("volumes"))),
        "depends_on": {name: ["service_started", True] for name, _key, _where in references(service)}
        | {name: [entry["condition"], entry.get("required", True)]
           for name, entry in dependencies(service).items()},
        "command": _command(service.get("command")),
        "labels": {key: str(value) for key, value in as_mapping(service["labels"]).items()}
        if service.get("labels") else {},
        "logging": plain(service.get("logging")),
        "restart": service.get("restart"),
        "build": os.path.relpath(service["build"]["context"].path, root) if service.get("build") else None,
        "networks": sorted(plain(service["networks"])) if service.get("networks") else [],
        "configs": sorted(_sources(service.get("configs"))),
        "secrets": sorted(_sources(service.get("secrets"))),
    }  # fmt: skip


def _command(value: Any) -> list[str] | None:
    return shlex.split(value) if isinstance(value, str) else plain(value)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _sources(value: Any) -> list[str]:
    return [str(item["source"] if isinstance(item, dict) else item) for item in as_items(value)]


def _mount(mount: Mount, root: Path) -> list[Any]:
    source = os.path.relpath(mount.path, root) if mount.path else mount.source
    return [mount.type, source, os.path.normpath(mount.target), mount.options.get("read_only", False)]


def of_compose(config: dict[str, Any], root: str) -> dict[str, Any]:
    """The same of what ``docker compose config --format json`` says; ``root`` is where the case lay."""
    return {name: _compose(service, root) for name, service in config["services"].items()}


def _compose(service: dict[str, Any], root: str) -> dict[str, Any]:
    def literal(value: Any) -> Any:
        if isinstance(value, str):
            return value.replace("$$", "$")
        return [literal(item) for item in value] if isinstance(value, list) else value

    environment = {key: literal(value) for key, value in (service.get("environment") or {}).items()}
    return {
        "image": service.get("image"),
        "environment": environment,
        "ports": sorted([_ip(port), _published(port), port["target"], port["protocol"]] for port in
                        service.get("ports", [])),
        "volumes": sorted([mount["type"], _source(mount, root), mount["target"],
                           mount.get("read_only", False)] for mount in service.get("volumes", [])),
        "depends_on": {name: [entry["condition"], entry.get("required", False)]
                       for name, entry in service.get("depends_on", {}).items()},
        "command": literal(service.get("command")),
        "labels": {key: literal(value) for key, value in service.get("labels", {}).items()},
        "logging": service.get("logging"),
        "restart": service.get("restart"),
        "build": os.path.relpath(service["build"]["context"], root) if service.get("build") else None,
        "networks": sorted(name for name in service.get("networks") or {} if name != "default"),
        "configs": sorted(item["source"] for item in service.get("configs", [])),
        "secrets": sorted(item["source"] for item in service.get("secrets", [])),
    }  # fmt: skip


def _ip(port: dict[str, Any]) -> str:
    return str(port.get("host_ip", ""))


def _published(port: dict[str, Any]) -> int:
    published = str(port.get("published") or "0")
    return int(published) if published.isdigit() else 0


def _source(mount: dict[str, Any], root: str) -> str:
    source = str(mount.get("source", ""))
    return os.path.relpath(source, root) if source.startswith(root) else source
