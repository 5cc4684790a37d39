"""From checked settings to the model: an app and its policies as one host sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from longshore.errors import Where
from longshore.inventory.balanced import balanced_policy
from longshore.inventory.building import build_policy
from longshore.inventory.dockerfiles import dockerfile_policy
from longshore.inventory.kinds import Reading
from longshore.inventory.maintaining import Maintenance
from longshore.inventory.model import (
    App,
    Database,
    Health,
    HookSettings,
    Logging,
    Migrate,
    Probe,
    Registry,
    RolloutPolicy,
    ServicePolicy,
    SmokeCheck,
    Webhook,
)
from longshore.inventory.nodes import Key, MappingNode, Node, is_null
from longshore.inventory.proxying import proxy_policy
from longshore.inventory.sections import merge, own
from longshore.inventory.services import SERVICE
from longshore.inventory.settings import APP
from longshore.inventory.traffic import traffic_policy
from longshore.secrets.references import Reference

_Values = Mapping[str, Any]


def with_defaults(app: MappingNode) -> MappingNode:
    """Lay each service of an app over the app's ``defaults``, so that a part of one keeps the rest.

    But for volumes: those of both are added to the compose file's, by rendering.
    """
    general, services = app.get("defaults"), app.get("services")
    if not isinstance(general, MappingNode) or not isinstance(services, MappingNode):
        return app
    kept = {name: pair for name, pair in general.items.items() if name != "volumes"}
    defaults = MappingNode(kept, general.where)
    merged: dict[str, tuple[Key, Node]] = {
        key.name: (key, defaults if is_null(policy) else merge(defaults, policy, SERVICE))
        for key, policy in services
    }
    items = dict(app.items)
    items["services"] = (items["services"][0], MappingNode(merged, services.where))
    return MappingNode(items, app.where)


def prepared(app: MappingNode) -> MappingNode:
    """The node that :func:`build_app` takes."""
    return with_defaults(without_env(app))


def without_env(app: MappingNode) -> MappingNode:
    """The app without ``env``, which is read key by key with its sources."""
    if "env" not in app.items:
        return app
    return MappingNode({name: pair for name, pair in app.items.items() if name != "env"}, app.where)


def build_app(name: str, node: MappingNode, root: Path, reading: Reading) -> App | None:
    """Check an app's :func:`prepared` settings and make the model of them; ``None`` after a report."""
    path = f"longshore.apps.{name}"
    found = APP.check(node, path, reading)
    if not isinstance(found, Mapping) or "compose" not in found:
        return None
    compose = node.get("compose") or node
    url = found.get("url")
    return App(
        name=name,
        hosts=found.get("hosts", "all"),
        compose=tuple(
            _file(root, text, f"{path}.compose", compose.where, reading) for text in found["compose"]
        ),
        project=found.get("project", name),
        profiles=found.get("profiles", ()),
        files=_files(found.get("files", {}), node, root, path, reading),
        mounts=found.get("mounts", {}),
        services={service: _policy(policy, reading) for service, policy in found.get("services", {}).items()},
        defaults=_policy(found.get("defaults", {}), reading),
        migrate=_migrate(found.get("migrate")),
        maintenance=_maintenance(found.get("maintenance"), root, path, reading),
        balanced=balanced_policy(found.get("balanced")),
        rollout=_rollout(found.get("rollout", {}), reading),
        smoke=tuple(_smoke(check, url, root, path, reading) for check in found.get("smoke", ())),
        hooks=HookSettings(**own(found.get("hooks", {}))),
        notify=tuple(_webhook(one) for one in found.get("notify", ()) if one.get("webhook")),
        databases={key: _database(key, value) for key, value in found.get("databases", {}).items()},
        url=url,
        keep=found.get("keep", 5),
        health_timeout=found.get("health_timeout", 120.0),
        stability=found.get("stability"),
        pin=found.get("pin", "when-possible"),
        where=node.where,
    )


def build_registry(name: str, found: _Values, root: Path) -> Registry:
    """A registry of its checked settings."""
    password = found.get("password")
    kept = isinstance(password, Reference)
    return Registry(
        name=name,
        insecure=found.get("insecure", False),
        mirror=found.get("mirror"),
        username=found.get("username"),
        password=None if kept else password,
        ca=root / found["ca"] if found.get("ca") else None,
        password_from=password if kept else None,
        where=found.get("") if kept else None,
    )


def _file(root: Path, text: str, name: str, where: Where, reading: Reading) -> Path:
    path = root / text
    try:
        exists = path.is_file()
    except (OSError, ValueError):
        exists = False
    if not exists:
        what = "is a folder" if text and path.is_dir() else "doesn't exist"
        reading.problem(f"{name}: {text} {what}.", where, "Paths start at the project's root.")
    return path


def _files(
    found: Mapping[str, str], node: MappingNode, root: Path, path: str, reading: Reading
) -> dict[str, Path]:
    section = node.get("files")
    files = {}
    for target, text in found.items():
        said = section.get(target) if isinstance(section, MappingNode) else None
        files[target] = _file(root, text, f"{path}.files", (said or node).where, reading)
    return files


def _policy(found: _Values, reading: Reading) -> ServicePolicy:
    reserve = found.get("reserve") or {}
    logging, health = found.get("logging"), found.get("health")
    return ServicePolicy(
        image=found.get("image"),
        hosts=found.get("hosts"),
        cpus=found.get("cpus"),
        memory=found.get("memory"),
        pids=found.get("pids"),
        reserve_cpus=reserve.get("cpus"),
        reserve_memory=reserve.get("memory"),
        restart=found.get("restart"),
        logging=None if logging is None else Logging(**own(logging)),
        volumes=found.get("volumes", ()),
        ports=found.get("ports"),
        health=Health(**own(health)) if health and own(health) else None,
        probe=_probe(found.get("probe"), reading),
        environment=found.get("environment", {}),
        labels=found.get("labels", {}),
        replicas=found.get("replicas"),
        platform=found.get("platform"),
        build=build_policy(found.get("build")),
        dockerfile=dockerfile_policy(found.get("dockerfile")),
        stop_grace=found.get("stop_grace"),
        proxy=proxy_policy(found.get("proxy"), reading),
        overlap=found.get("overlap"),
    )


def _rollout(found: _Values, reading: Reading) -> RolloutPolicy:
    values = own(found)
    traffic = values.pop("traffic", {})
    return RolloutPolicy(**values, traffic=traffic_policy(traffic, reading))


def _migrate(found: _Values | None) -> Migrate | None:
    if not found or "service" not in found or "command" not in found:
        return None
    return Migrate(**own(found))


def _maintenance(found: _Values | None, root: Path, path: str, reading: Reading) -> Maintenance:
    values = own(found)
    page = values.pop("page", None)
    if page is None:
        return Maintenance(**values)
    where = (found or {}).get("", Where(""))
    return Maintenance(page=_file(root, page, f"{path}.maintenance.page", where, reading), **values)


def _database(name: str, found: _Values) -> Database:
    return Database(
        name=name,
        kind=found.get("kind", "postgres"),
        service=found.get("service", name),
        user=found.get("user"),
        database=found.get("database"),
    )


_HTTP_ONLY = ("method", "headers", "body", "status", "answer_headers", "latency")
_TEXT_ONLY = ("contains", "matches", "json")


def _smoke(found: _Values, base: str | None, root: Path, path: str, reading: Reading) -> SmokeCheck:
    url, where, name = found.get("url"), found.get("", Where("")), f"{path}.smoke"
    kind = next((kind for kind in ("url", "tcp", "tls", "command") if found.get(kind)), "")
    if not kind and not reading.failed:
        reading.problem(f"{name}: a check needs url, tcp, tls or command.", where, "Write - url: /health")
    if url and url.startswith("/"):
        if base is None and not reading.failed:
            reading.problem(f"{name}: {url} needs the app's url.", where, "Write url: https://…")
        url = f"{(base or '').rstrip('/')}{url}"
    wrong = [key for key in _HTTP_ONLY if kind and kind != "url" and key in found]
    wrong += [key for key in _TEXT_ONLY if kind in ("tcp", "tls") and key in found]
    wrong += ["days"] if kind and kind != "tls" and "days" in found else []
    if wrong:
        reading.problem(f"{name}: a check of {kind} has no {' and no '.join(wrong)}.", where)
    if "body" in found and found.get("method") in ("GET", "HEAD"):
        reading.problem(f"{name}: a {found['method']} request has no body.", where, "Write method: POST")
    values = {key: value for key, value in own(found).items() if key not in ("name", "url")}
    check = SmokeCheck(name="", url=url, root=root, **values)
    return replace(check, name=found.get("name") or found.get("url") or check.place or "smoke")


def _probe(found: _Values | None, reading: Reading) -> Probe | None:
    if not found or not found.get("http"):
        return None
    port, slash, rest = found["http"].partition("/")
    if not 1 <= int(port) <= 65535:
        reading.problem(f"probe: {port} is not a port.", found.get("", Where("")), "Write http: 8000/health")
        return None
    values = {key: value for key, value in own(found).items() if key != "http"}
    return Probe(port=int(port), path=f"{slash or '/'}{rest}", **values)


def _webhook(found: _Values) -> Webhook:
    values = {key: value for key, value in own(found).items() if key != "webhook"}
    return Webhook(url=found["webhook"], **values)
