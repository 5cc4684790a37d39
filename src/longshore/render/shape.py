"""What kind of value each part of a compose file has to have.

Compose validates the whole file against its schema (compose-spec's, which this follows); this is for a
sentence before any host is touched, and so that the reader can rely on what it finds.
"""

from __future__ import annotations

import re
from typing import Any

from longshore.errors import LongshoreError, RenderError, Where
from longshore.render.document import Items, Map, Reset, unmarked

Kinds = tuple[str, ...]

_TEXT: Kinds = ("a text",)
_SCALAR: Kinds = ("a text", "a number", "true or false")
_LIST: Kinds = ("a list",)
_MAP: Kinds = ("a mapping",)
_EITHER: Kinds = ("a list", "a mapping")
_TEXT_OR_LIST: Kinds = ("a text", "a list")
_SWITCH: Kinds = ("true or false", "a text")  # a text, for it may come from a variable
_SWITCHES = re.compile(r"true|t|yes|y|on|1|false|f|no|n|off|0", re.IGNORECASE)  # what Compose takes for one
_NUMBER: Kinds = ("a number", "a text")

SECTIONS = ("services", "networks", "volumes", "configs", "secrets")
_SERVICE: dict[str, tuple[Kinds, Kinds]] = {
    # What the value may be, and what its items may be.
    "image": (_TEXT, ()),
    "build": (("a text", "a mapping"), ()),
    "ports": (_LIST, ("a text", "a number", "a mapping")),
    "volumes": (_LIST, ("a text", "a mapping")),
    "env_file": (_TEXT_OR_LIST, ("a text", "a mapping")),
    "environment": (_EITHER, _SCALAR),
    "labels": (_EITHER, _SCALAR),
    "depends_on": (_EITHER, ("a text", "a mapping")),
    "deploy": (_MAP, ()),
    "logging": (_MAP, ()),
    "healthcheck": (_MAP, ()),
    "profiles": (_LIST, _TEXT),
    "configs": (_LIST, ("a text", "a mapping")),
    "secrets": (_LIST, ("a text", "a mapping")),
    "extends": (("a text", "a mapping"), ()),
    "networks": (_EITHER, ("a text", "a mapping")),
    "scale": (_SCALAR, ()),
    "links": (_LIST, _TEXT),
    "volumes_from": (_LIST, _TEXT),
    "network_mode": (_TEXT, ()),
    "ipc": (_TEXT, ()),
    "pid": (_TEXT, ()),
    "restart": (_TEXT, ()),
    "platform": (_TEXT, ()),
    "container_name": (_TEXT, ()),
    "cpus": (_SCALAR, ()),
    "mem_limit": (_SCALAR, ()),
    "mem_reservation": (_SCALAR, ()),
    "pids_limit": (_SCALAR, ()),
    "command": (_TEXT_OR_LIST, _TEXT),
    "entrypoint": (_TEXT_OR_LIST, _TEXT),
    "user": (_TEXT, ()),
    "hostname": (_TEXT, ()),
    "domainname": (_TEXT, ()),
    "working_dir": (_TEXT, ()),
    "cpuset": (_TEXT, ()),
    "stop_signal": (_TEXT, ()),
    "stop_grace_period": (_TEXT, ()),
    "pull_policy": (_TEXT, ()),
    **dict.fromkeys(("cgroup", "cgroup_parent", "isolation", "mac_address"), (_TEXT, ())),
    **dict.fromkeys(("pull_refresh_after", "runtime", "userns_mode", "uts"), (_TEXT, ())),
    **dict.fromkeys(("attach", "init", "oom_kill_disable", "privileged", "read_only"), (_SWITCH, ())),
    **dict.fromkeys(("stdin_open", "tty", "use_api_socket"), (_SWITCH, ())),
    **dict.fromkeys(("cpu_count", "cpu_percent", "cpu_period", "cpu_quota", "cpu_shares"), (_NUMBER, ())),
    **dict.fromkeys(("cpu_rt_period", "cpu_rt_runtime", "oom_score_adj", "shm_size"), (_NUMBER, ())),
    **dict.fromkeys(("mem_swappiness", "memswap_limit"), (_NUMBER, ())),
    **dict.fromkeys(("cap_add", "cap_drop", "device_cgroup_rules", "dns_opt"), (_LIST, _TEXT)),
    **dict.fromkeys(("external_links", "security_opt"), (_LIST, _TEXT)),
    **dict.fromkeys(("expose", "group_add"), (_LIST, _NUMBER)),
    **dict.fromkeys(("dns", "dns_search", "tmpfs"), (_TEXT_OR_LIST, _TEXT)),
    "label_file": (_TEXT_OR_LIST, _TEXT),
    **dict.fromkeys(("annotations", "sysctls"), (_EITHER, _SCALAR)),
    "extra_hosts": (_EITHER, _TEXT_OR_LIST),
    "devices": (_LIST, ("a text", "a mapping")),
    "gpus": (_TEXT_OR_LIST, _MAP),
    "models": (_EITHER, ("a text", "a mapping")),
    **dict.fromkeys(("post_start", "pre_stop"), (_LIST, _MAP)),
    "ulimits": (_MAP, ("a number", "a text", "a mapping")),
    **dict.fromkeys(("blkio_config", "credential_spec", "develop", "provider", "storage_opt"), (_MAP, ())),
}
_INNER: dict[str, dict[str, Kinds]] = {
    "deploy": {"resources": _MAP, "restart_policy": _MAP, "replicas": _SCALAR},
    "logging": {"driver": _TEXT, "options": _MAP},
    "healthcheck": {
        "test": _TEXT_OR_LIST,
        "disable": _SWITCH,
        "retries": _NUMBER,
        "interval": _TEXT,
        "timeout": _TEXT,
        "start_period": _TEXT,
        "start_interval": _TEXT,
    },
    "extends": {"service": _TEXT, "file": _TEXT},
    "build": {
        "context": _TEXT,
        "additional_contexts": _EITHER,
        "ssh": ("a text", "a list", "a mapping"),
        "entitlements": _LIST,
        "ulimits": _MAP,
        **dict.fromkeys(("dockerfile", "dockerfile_inline", "network", "target"), _TEXT),
        **dict.fromkeys(("args", "labels", "extra_hosts"), _EITHER),
        **dict.fromkeys(("cache_from", "cache_to", "platforms", "secrets", "tags"), _LIST),
        **dict.fromkeys(("no_cache", "pull", "privileged"), _SWITCH),
        **dict.fromkeys(("provenance", "sbom"), ("a text", "true or false")),
        "no_cache_filter": _TEXT_OR_LIST,
        "shm_size": _NUMBER,
    },
}
_TOP: dict[str, Kinds] = {"file": _TEXT, "environment": _TEXT, "content": _TEXT, "name": _TEXT}


def check(document: Map, problems: list[LongshoreError]) -> None:
    """Add a sentence to ``problems`` for each part of the wrong kind, and take the part out."""
    for key in ("name", "version"):
        _is(document, key, _TEXT, key, problems)
    for section in SECTIONS:
        if not _is(document, section, _MAP, section, problems):
            continue
        entries = unmarked(document.get(section))
        if not isinstance(entries, Map):
            continue
        for name in list(entries):
            if not _is(entries, name, _MAP, f"{section}.{name}", problems):
                continue
            entry = unmarked(entries.get(name))
            if isinstance(entry, Map):
                (_service if section == "services" else _top)(entry, f"{section}.{name}", problems)
    if _is(document, "include", _TEXT_OR_LIST, "include", problems):
        _items(document, "include", ("a text", "a mapping"), "include", problems)


def _service(service: Map, path: str, problems: list[LongshoreError]) -> None:
    for key, (kinds, items) in _SERVICE.items():
        if key not in service or not _is(service, key, kinds, f"{path}.{key}", problems):
            continue
        if items:
            _items(service, key, items, f"{path}.{key}", problems)
        inner = unmarked(service.get(key))
        if key in _INNER and isinstance(inner, Map):
            for name, inner_kinds in _INNER[key].items():
                _is(inner, name, inner_kinds, f"{path}.{key}.{name}", problems)
    deploy = unmarked(service.get("deploy"))
    resources = unmarked(deploy.get("resources")) if isinstance(deploy, Map) else None
    if isinstance(resources, Map):
        for name in ("limits", "reservations"):
            _is(resources, name, _MAP, f"{path}.deploy.resources.{name}", problems)


def _top(entry: Map, path: str, problems: list[LongshoreError]) -> None:
    for key, kinds in _TOP.items():
        _is(entry, key, kinds, f"{path}.{key}", problems)


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, Map):
        return "a mapping"
    return "a list" if isinstance(value, Items) else "a text"


def _is(owner: Map, key: str, kinds: Kinds, path: str, problems: list[LongshoreError]) -> bool:
    value = owner.get(key)
    if value is None or isinstance(value, Reset):
        return False
    found = _kind(unmarked(value))
    if found in kinds:
        text = unmarked(value)
        unset = getattr(text, "unset", ())  # what is wrong with that is said elsewhere
        if kinds == _SWITCH and isinstance(text, str) and text and not (unset or _SWITCHES.fullmatch(text)):
            message = f"{path} is {str(text)!r}, and has to be true or false."
            problems.append(RenderError(message, where=owner.where_of(key)))
        return True
    problems.append(_error(path, found, kinds, owner.where_of(key)))
    del owner[key]
    return False


def _items(owner: Map, key: str, kinds: Kinds, path: str, problems: list[LongshoreError]) -> None:
    value = unmarked(owner.get(key))
    if isinstance(value, Items):
        bad = [
            item
            for item in value
            if not isinstance(item, Reset) and (item is None or _kind(item) not in kinds)
        ]
    elif isinstance(value, Map):
        bad = [item for item in value.values() if item is not None and _kind(unmarked(item)) not in kinds]
    else:
        return
    for item in bad:
        found = "nothing" if item is None else _kind(unmarked(item))
        where = getattr(item, "where", None) or owner.where_of(key)
        problems.append(_error(f"An entry of {path}", found, kinds, where))
    if bad:
        del owner[key]


def _error(what: str, found: str, kinds: Kinds, where: Where) -> RenderError:
    quotes = "a text" in kinds and found in ("a number", "true or false")
    return RenderError(
        f"{what} is {found}, and has to be {' or '.join(kinds)}.",
        where=where,
        hint="Put it in quotes." if quotes else "",
    )
