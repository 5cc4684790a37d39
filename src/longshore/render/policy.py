"""The inventory's policy for one service, as what ``longshore.yml`` lays over the compose file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from longshore.errors import RenderError, Where
from longshore.inventory.model import App, Logging, ServicePolicy
from longshore.render.document import Map
from longshore.render.emit import RESET
from longshore.render.merge import as_mapping
from longshore.render.parts import plain
from longshore.values import format_cpus, format_duration, format_size

_ROTATING = ("json-file", "")
# What Docker takes for "10m" differs: json-file reads decimal, local reads binary (moby's loggers).
_LOG_BASE = {"json-file": 1000, "local": 1024}


def policy_of(app: App, service: str) -> ServicePolicy:
    """What the inventory says of a service: its own policy over the app's defaults."""
    own = app.services.get(service)
    if own is None:
        return app.defaults
    changes: dict[str, Any] = {}
    for item in fields(ServicePolicy):
        mine, general = getattr(own, item.name), getattr(app.defaults, item.name)
        if isinstance(mine, Mapping):
            changes[item.name] = {**general, **mine}
        elif item.name == "volumes":
            changes[item.name] = (*general, *mine)
        else:
            changes[item.name] = general if mine is None else mine
    return replace(own, **changes)


# Compose's own keys beside those of deploy.resources.
_SHORT: dict[str, dict[str, str | None]] = {
    "limits": {"cpus": "cpus", "memory": "mem_limit", "pids": "pids_limit"},
    "reservations": {"cpus": None, "memory": "mem_reservation"},
}


def limits(service: Map, policy: ServicePolicy) -> dict[str, Any]:
    """CPU, memory and pids, in the file's own style: two styles that differ are an error to Compose.

    As soon as a section of ``deploy.resources`` exists, it has to repeat every short key of the service.
    """
    wanted: dict[str, dict[str, Any]] = {
        "limits": {"cpus": _cpus(policy.cpus), "memory": _memory(policy.memory), "pids": policy.pids},
        "reservations": {"cpus": _cpus(policy.reserve_cpus), "memory": _memory(policy.reserve_memory)},
    }
    deploy = service.get("deploy")
    resources = deploy.get("resources") if isinstance(deploy, Map) else None
    result: dict[str, Any] = {}
    nested: dict[str, dict[str, Any]] = {}
    for section, keys in _SHORT.items():
        values = {name: value for name, value in wanted[section].items() if value is not None}
        if not values:
            continue
        said = {name: service[key] for name, key in keys.items() if key and service.get(key) is not None}
        in_deploy = isinstance(resources, Map) and resources.get(section) is not None
        if in_deploy or not said or any(keys[name] is None for name in values):
            nested[section] = {**{name: plain(value) for name, value in said.items()}, **values}
        if said:
            result |= {key: values[name] for name, key in keys.items() if key and name in values}
    if nested:
        result["deploy"] = {"resources": nested}
    return result


def _cpus(cores: float | None) -> str | None:
    return None if cores is None else format_cpus(cores)


def _memory(size: int | None) -> str | None:
    return None if size is None else format_size(size).lower()


def restart(service: Map, policy: ServicePolicy, *, one_shot: bool) -> dict[str, Any]:
    """The restart policy: the inventory's, else the file's, else ``unless-stopped`` but for one-shots."""
    deploy = service.get("deploy")
    swarm_style = isinstance(deploy, Map) and deploy.get("restart_policy") is not None
    if policy.restart is not None:
        result: dict[str, Any] = {"restart": policy.restart}
        if swarm_style:  # Compose would prefer it to restart:
            result["deploy"] = {"restart_policy": RESET}
        return result
    if service.get("restart") is not None or swarm_style or one_shot:
        return {}
    return {"restart": "unless-stopped"}


def logging(service: Map, policy: ServicePolicy) -> dict[str, Any]:
    """Where output goes. json-file without a size never rotates, so it gets one; other drivers are theirs."""
    said = service.get("logging")
    said = said if isinstance(said, Map) else Map(service.where)
    driver = str(said.get("driver") or "")
    options = said.get("options")
    options = as_mapping(options) if options is not None else Map(service.where)
    if policy.logging is not None:
        return {"logging": _logging(policy.logging)}
    if driver not in _ROTATING or options.get("max-size") not in (None, ""):
        return {}
    default = _logging(Logging())
    kept = {key: value for key, value in default["options"].items() if options.get(key) is None}
    if str(options.get("max-file")) == "1":
        kept.pop("compress", None)  # json-file refuses compress with a single file
    return {"logging": {"driver": "json-file", "options": kept}}


def _logging(wanted: Logging) -> dict[str, Any]:
    options: dict[str, Any] = {}
    base = _LOG_BASE.get(wanted.driver)
    if base is not None:
        options["max-size"] = format_size(wanted.max_size, base=base).lower()
        options["max-file"] = str(wanted.max_file)
        options["compress"] = "true" if wanted.compress and wanted.max_file > 1 else "false"
    options |= {key: str(value) for key, value in sorted(wanted.options.items())}
    return {"driver": wanted.driver, "options": options}


def replicas(service: Map, policy: ServicePolicy) -> tuple[int, dict[str, Any]]:
    """How many containers, and what says so."""
    deploy = service.get("deploy")
    in_deploy = deploy.get("replicas") if isinstance(deploy, Map) else None
    if policy.replicas is not None:
        result: dict[str, Any] = {}
        if service.get("scale") is not None:
            result["scale"] = policy.replicas
        if in_deploy is not None or not result:
            result["deploy"] = {"replicas": policy.replicas}
        return policy.replicas, result
    said = service.get("scale") if service.get("scale") is not None else in_deploy
    if said is None:
        return 1, {}
    if not re.fullmatch("[0-9]{1,6}", str(said)):
        raise RenderError(f"{str(said)[:40]!r} is not a number of replicas.", where=service.where)
    return int(str(said)), {}


def check_limits(name: str, service: Map, policy: ServicePolicy, where: Where) -> None:
    """Refuse what the engine would refuse only after the old container is gone."""
    reserve, limit = policy.reserve_memory, policy.memory
    if reserve is not None and limit is not None and reserve > limit:
        raise RenderError(
            f"{name} reserves {format_size(reserve)} of memory, more than its limit of {format_size(limit)}.",
            where=where,
        )


def simple(policy: ServicePolicy) -> dict[str, Any]:
    """Settings that are one key each."""
    result: dict[str, Any] = {}
    if policy.platform is not None:
        result["platform"] = policy.platform
    if policy.stop_grace is not None:
        result["stop_grace_period"] = format_duration(policy.stop_grace)
    if policy.environment:
        result["environment"] = {key: str(value) for key, value in sorted(policy.environment.items())}
    return result


def combine(*parts: Mapping[str, Any]) -> dict[str, Any]:
    """Several overrides as one: mappings are joined, everything else is the last one's."""
    result: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            mine = result.get(key)
            both = isinstance(mine, dict) and isinstance(value, Mapping)
            result[key] = combine(mine or {}, value) if both else plain(value)
    return result
