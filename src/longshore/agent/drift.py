"""How what runs differs from what was committed: what somebody changed by hand on the host.

A container's configuration can't change but by making another one, with a few exceptions: ``docker
update`` (limits, restart policy) and ``docker network connect``. Compose sees neither, since the label that
it compares stays; so what the engine held each container to is kept at the commit, and compared at each look.
That costs half a millisecond a container.
"""

from collections import Counter
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from longshore.agent.engine import Engine
from longshore.agent.store import AppStore

Container = Dict[str, Any]


class Finding(NamedTuple):
    """One thing that differs. ``mend`` is what a deploy does about it: ``create``, ``start``, ``recreate``,
    ``remove``, ``write`` (a file), ``wait`` (only look again), or ``""`` where it leaves it alone."""

    service: str
    text: str
    mend: str


def record(engine: Engine, running: List[Container], services: Dict[str, Any]) -> List[Dict[str, Any]]:
    """What ``committed.json`` keeps of the containers of these services."""
    kept = []
    for one in running:
        if one["service"] not in services:
            continue  # a sibling stack of the same project name is not ours to expect
        full = engine.container(one["id"])
        kept.append(
            {
                **{key: one[key] for key in ("service", "config_hash", "image_id", "id", "name")},
                **({"shape": shape(full)} if full else {}),
            }
        )
    return kept


def shape(full: Dict[str, Any]) -> Dict[str, Any]:
    """What a container is held to, of what the engine reports of it. Sizes are bytes, CPUs billionths."""
    host, config = full["HostConfig"], full["Config"]
    restart = host.get("RestartPolicy") or {}
    retries = restart.get("MaximumRetryCount") or 0
    return {
        "memory": host.get("Memory") or 0,
        "memory_swap": host.get("MemorySwap") or 0,
        "memory_reservation": host.get("MemoryReservation") or 0,
        "cpus": host.get("NanoCpus") or 0,
        "cpu_quota": host.get("CpuQuota") or 0,
        "cpu_shares": host.get("CpuShares") or 0,
        "cpuset": host.get("CpusetCpus") or "",
        "pids": max(0, host.get("PidsLimit") or 0),
        "blkio_weight": host.get("BlkioWeight") or 0,
        "restart": (restart.get("Name") or "no") + (f":{retries}" if retries else ""),
        "networks": sorted((full.get("NetworkSettings") or {}).get("Networks") or {}),
        "image": config.get("Image") or "",
        "command": list(config.get("Cmd") or []),
        "entrypoint": list(config.get("Entrypoint") or []),
        "user": config.get("User") or "",
        "privileged": bool(host.get("Privileged")),
        "capabilities": sorted([f"+{name}" for name in host.get("CapAdd") or []]
                               + [f"-{name}" for name in host.get("CapDrop") or []]),
        "logging": {"driver": host["LogConfig"]["Type"], **(host["LogConfig"].get("Config") or {})},
        "ports": sorted(
            f"{binding.get('HostIp') or ''}:{binding.get('HostPort') or ''}->{inner}"
            for inner, bindings in (host.get("PortBindings") or {}).items()
            for binding in bindings or []
        ),
        "mounts": sorted(_mount(mount) for mount in full.get("Mounts") or []),
        "environment": {
            text.partition("=")[0]: _digest(text) for text in config.get("Env") or []
        },
    }  # fmt: skip


_IN_PLACE = (
    "memory", "memory_swap", "memory_reservation", "cpus", "cpu_quota", "cpu_shares", "cpuset", "pids",
    "blkio_weight", "restart", "networks",
)  # fmt: skip
"""What can be changed while the container stays the same one."""


def _mount(mount: Dict[str, Any]) -> str:
    name = str(mount.get("Name") or mount.get("Source") or "")
    if mount.get("Type") == "volume" and len(name) == 64 and not set(name) - set("0123456789abcdef"):
        name = "(anonymous)"  # another name for each container
    return f"{name}:{mount['Destination']}{'' if mount.get('RW', True) else ':ro'}"


def _digest(text: str) -> str:
    """So that no file but ``.env`` holds a secret. Not hashlib's: loading that takes longer than a look."""
    try:
        from _sha2 import sha256  # type: ignore[import-not-found, unused-ignore]  # from Python 3.12 on
    except ImportError:
        from hashlib import sha256
    return str(sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16])


def drift(
    engine: Engine, app: str, committed: Optional[Dict[str, Any]], found: List[Container]
) -> List[Finding]:
    """How the containers differ from what was committed, in the order of the services' names."""
    if committed is None:
        return [Finding("", "what was committed is not known", "recreate")]
    findings: List[Finding] = []
    expected = list(committed["containers"])
    for service in sorted({one["service"] for one in expected} | {one["service"] for one in found}):
        want = [one for one in expected if one["service"] == service]
        have = [one for one in found if one["service"] == service]
        findings += _numbers(app, service, want, have)
        if want and have and Counter(map(key, want)) != Counter(map(key, have)) and len(want) == len(have):
            findings += _changed(engine, service, want, have)
        elif want:
            findings += _updated(engine, service, want, have)
        findings += _states(service, have, committed)
    return findings


def key(one: Dict[str, Any]) -> Tuple[str, str, str]:
    """What two containers have in common that Compose takes for the same."""
    return one["service"], one["config_hash"], one["image_id"]


def _numbers(app: str, service: str, want: List[Container], have: List[Container]) -> List[Finding]:
    if not have:
        return [Finding(service, f"{service} has no container", "create")]
    if not want:
        if any(one.get("app", app) == app for one in have):
            return [Finding(service, f"{service} runs but is not part of the release", "remove")]
        names = ", ".join(one["name"] for one in have)
        text = f"{names} has the app's project name, but Longshore did not make it; it is left alone"
        return [Finding(service, text, "")]
    if len(have) != len(want):
        mend = "create" if len(have) < len(want) else "remove"
        return [Finding(service, f"{service} has {len(have)} of {len(want)} containers", mend)]
    return []


def _states(service: str, have: List[Container], committed: Dict[str, Any]) -> List[Finding]:
    findings = []
    shots = committed.get("one_shots", [])
    for one in have:
        if one["state"] == "exited" and one["status"].startswith("Exited (0)") and service in shots:
            continue
        if one["state"] != "running":
            findings.append(Finding(service, f"{service} is {one['state']}", "start"))
        elif one["health"] == "unhealthy":
            findings.append(Finding(service, f"{service} is unhealthy", "wait"))
    return findings


def _changed(engine: Engine, service: str, want: List[Container], have: List[Container]) -> List[Finding]:
    """A container of another configuration or image than was committed: how it differs, if that is known."""
    known = [key(one) for one in want]
    old = next((one["shape"] for one in want if "shape" in one), None)
    sentences: List[str] = []
    for one in have:
        full = engine.container(one["id"]) if old and key(one) not in known else None
        if full is not None and old is not None:
            sentences += differences(service, old, shape(full), tuple(old))
    if not sentences:
        sentences = [f"{service} was changed since the release was committed"]
    return [Finding(service, text, "recreate") for text in dict.fromkeys(sentences)]


def _updated(engine: Engine, service: str, want: List[Container], have: List[Container]) -> List[Finding]:
    sentences: List[str] = []
    for one in have:
        expected = _expected(one, want)
        full = engine.container(one["id"]) if expected else None
        if full is not None and expected is not None:
            # The same container can have changed in few things; one made anew by hand in all.
            names = _IN_PLACE if expected.get("id") == one["id"] else tuple(expected["shape"])
            sentences += differences(service, expected["shape"], shape(full), names)
    return [Finding(service, text, "recreate") for text in dict.fromkeys(sentences)]


def _expected(one: Container, recorded: List[Dict[str, Any]]) -> Optional[Dict[str, Any]]:
    same = [other for other in recorded if "shape" in other and key(other) == key(one)]
    return next((other for other in same if other.get("id") == one["id"]), same[0] if same else None)


def astray(engine: Engine, store: AppStore, found: List[Container], restored: List[str]) -> List[str]:
    """The services that Compose would leave alone though they must be made anew: of the same configuration as
    some kept release's, but held to something else; or with content mounted that was put right since
    (``restored``: names of folders in the app's content)."""
    recorded = [
        one
        for release in reversed(store.kept())
        for one in (store.committed(release) or {}).get("containers", [])
    ]
    names = set()
    for one in found:
        expected = _expected(one, recorded)
        full = engine.container(one["id"]) if expected or restored else None
        if full is None:
            continue
        sources = {str(mount.get("Source") or "") for mount in full.get("Mounts") or []}
        again = any(source.startswith(f"{store.content}/{name}/") for source in sources for name in restored)
        wanted = expected["shape"] if expected else {}
        if again or differences("", wanted, shape(full), tuple(wanted)):
            names.add(one["service"])
    return sorted(names)


# In words


def differences(
    service: str, wanted: Dict[str, Any], got: Dict[str, Any], names: Tuple[str, ...]
) -> List[str]:
    """Sentences for what differs: ``web: memory limit is 1G, the release says 512M``. No value of a variable
    is in them."""
    sentences = []
    for name in names:
        want, have = wanted.get(name), got.get(name)
        if want == have:
            continue
        if name == "memory_swap" and wanted.get("memory") != got.get("memory"):
            continue  # it goes with the memory
        if name == "environment":
            old, new = dict(want or {}), dict(have or {})
            changed = sorted(k for k in {*old, *new} if old.get(k) != new.get(k))
            sentences += [f"{service}: the variable {k} is not the release's" for k in changed]
        elif isinstance(want, list) and name not in ("command", "entrypoint"):
            there = list(have or [])
            sentences += [f"{service}: {_ONE[name]} {item} was added" for item in there if item not in want]
            sentences += [f"{service}: {_ONE[name]} {item} is missing" for item in want if item not in there]
        else:
            sentences.append(
                f"{service}: {_LABELS[name]} is {_say(name, have)}, the release says {_say(name, want)}"
            )
    return sentences


_LABELS = {
    "memory": "memory limit", "memory_swap": "memory and swap limit",
    "memory_reservation": "memory reservation",
    "cpus": "CPU limit", "cpu_quota": "CPU quota", "cpu_shares": "CPU shares", "cpuset": "set of CPUs",
    "pids": "process limit", "blkio_weight": "disk weight", "restart": "restart policy", "image": "image",
    "command": "command", "entrypoint": "entrypoint", "user": "user", "privileged": "privileged",
    "logging": "logging",
}  # fmt: skip
_ONE = {"networks": "network", "capabilities": "capability", "ports": "port", "mounts": "mount"}


def _say(name: str, value: Any) -> str:
    if name in ("memory", "memory_swap", "memory_reservation"):
        return "unlimited" if name == "memory_swap" and value == -1 else size(int(value)) if value else "none"
    if name == "cpus":
        return f"{value / 1e9:.4f}".rstrip("0").rstrip(".") if value else "none"
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in sorted(value.items()))
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return str(value).lower() if isinstance(value, bool) else str(value) if value else "none"


def size(count: int) -> str:
    """Bytes as the inventory has them: ``512M``, ``1G``, ``1536K``."""
    for power, unit in ((4, "T"), (3, "G"), (2, "M"), (1, "K")):
        if count and count % 1024**power == 0:
            return f"{count // 1024**power}{unit}"
    return f"{count}b"
