"""A service field by field, in the words of the inventory, so that two releases of it can be compared.

What means the same is the same here, however it is written: ``512m`` and ``512M``, a list and a mapping, a
command as a text or a list (compose-spec).
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from longshore.errors import LongshoreError
from longshore.plan.release import Release
from longshore.plan.veil import Veil
from longshore.render.document import Map
from longshore.render.merge import as_items, as_mapping, as_names
from longshore.render.parts import LocalFile, Mount, plain, ports
from longshore.values import format_duration, format_size, parse_duration, parse_size


class Field(NamedTuple):
    """``value`` is what is compared, ``shown`` what may be told of it. ``loose``: no container is made anew
    for it. ``differs``: the whole sentence, for what has a content and no value that could be shown."""

    value: str
    shown: str
    loose: bool = False
    differs: str = ""


Fields = dict[str, Field]
_KEYED = ("environment", "label", "mount", "config", "secret", "logging")
_IGNORED = {"build", "profiles", "pull_policy", "extends", "develop", "env_file", "image", "scale"}
_NAMESPACES = ("network_mode", "ipc", "pid", "uts")


def fields_of(release: Release, name: str, veil: Veil, *, whole: bool = True, named: bool = True) -> Fields:
    """The fields of one service of a release; not ``whole``: only those that need no compose file. Not
    ``named``: its image is not told of, so that its tag needn't be looked up."""
    facts = release.manifest["services"][name]
    image = release.images[name]
    found: Fields = {"image": Field(image, _image(release, name, image) if named else image)}
    found["replicas"] = Field(str(facts["replicas"]), str(facts["replicas"]), loose=True)
    service = release.model.services.get(name) if whole and release.model else None
    if isinstance(service, Map):
        _Reader(release, service, veil, found).run()
    elif facts["ports"]:
        found["ports"] = _same(", ".join(facts["ports"]))
    return found


def sentence(name: str, before: Field | None, after: Field | None) -> str:
    """How a field changes: ``memory 512M → 256M``."""
    kind = name.partition(" ")[0]
    if before is not None and after is not None:
        if after.differs and before.differs and after.shown == before.shown:
            return after.differs
        return f"{name} {before.shown or 'nothing'} → {after.shown or 'nothing'}"
    if kind in _KEYED and " " in name:
        if after is not None:
            return f"{name} is new{f': {after.shown}' if after.shown else ''}"
        return f"{name} goes"
    return f"{name} {before.shown if before else 'none'} → {after.shown if after else 'none'}"


def needs(service: str, release: Release, *, shared: bool = False) -> set[str]:
    """The services that this one depends on; only those whose namespaces it lives in, with ``shared``."""
    found: set[str] = set() if shared else set(release.manifest["services"][service]["depends_on"])
    model = release.model.services.get(service) if release.model else None
    if isinstance(model, Map):
        for key in _NAMESPACES:
            kind, _, other = str(model.get(key) or "").partition(":")
            if kind == "service":
                found.add(other)
        if not shared:
            found |= {str(item).partition(":")[0] for item in as_items(model.get("volumes_from"))}
            found |= {str(item).partition(":")[0] for item in as_items(model.get("links"))}
    return found & set(release.manifest["services"])


def _same(text: str, *, loose: bool = False) -> Field:
    return Field(text, text, loose)


def _image(release: Release, name: str, image: str) -> str:
    """``shop:1 (sha256:1a2b3c4d5e6f)``: the tag as a person wrote it, and what it is pinned to."""
    repository, _, digest = image.partition("@")
    if not digest:
        return image
    short = digest[:19]
    written = release.written.get(name, "").partition("@")[0]
    named = written if written.startswith(repository) else repository
    return f"{named} ({short})"


class _Reader:
    """Reads one service into fields."""

    def __init__(self, release: Release, service: Map, veil: Veil, found: Fields) -> None:
        self.release = release
        self.service = service
        self.veil = veil
        self.found = found

    def run(self) -> None:
        self.environment()
        self.limits()
        self.mounts()
        self.grants("configs")
        self.grants("secrets")
        special: Mapping[str, Callable[[Any], None]] = {
            "command": lambda value: self.words("command", value),
            "entrypoint": lambda value: self.words("entrypoint", value),
            "labels": self.labels,
            "logging": self.logging,
            "ports": self.ports,
            "healthcheck": self.health,
            "depends_on": lambda value: self.put(
                "depends on", ", ".join(sorted(as_names(value))), loose=True
            ),
            "networks": lambda value: self.put("networks", ", ".join(sorted(as_names(value)))),
            "stop_grace_period": lambda value: self.put("stop_grace", _duration(value)),
        }
        done = {"environment", "volumes", "configs", "secrets", "deploy", *_SHORT}
        for key, value in self.service.items():
            if value is None or key in done or key in _IGNORED or key.startswith("x-"):
                continue
            if key in special:
                special[key](value)
            else:
                self.put(key, _plain(value))

    def put(self, name: str, value: str, *, loose: bool = False) -> None:
        self.found[name] = Field(value, self.veil.shown(name, _short(value)), loose)

    def keyed(self, kind: str, values: Mapping[str, Any]) -> None:
        for key, value in values.items():
            text = "" if value is None else _scalar(value)
            self.found[f"{kind} {key}"] = Field(text, _short(self.veil.shown(key, text)))

    def environment(self) -> None:
        values: dict[str, Any] = {}
        for entry in as_items(self.service.get("env_file")):
            if isinstance(entry, LocalFile) and entry.path is not None:
                values |= self.env_file(entry)
        said = self.service.get("environment")
        for key, value in as_mapping(said).items() if said is not None else ():
            # Without a value it is taken from .env, and left out where that hasn't it.
            taken = self.release.env.get(key) if value is None else value
            if taken is not None:
                values[key] = taken
        self.keyed("environment", values)

    def env_file(self, entry: LocalFile) -> Mapping[str, str]:
        for path, values in self.release.env_files.items():
            if self.release.folder_of(path) == entry.path:
                return values
        directory = self.release.folder_of(self.release.manifest["project_directory"])
        return self.release.env if entry.path == directory / ".env" else {}

    def limits(self) -> None:
        deploy = self.service.get("deploy")
        deploy = deploy if isinstance(deploy, Map) else {}
        resources = deploy.get("resources")
        resources = resources if isinstance(resources, Map) else {}
        for section, keys in (("limits", _LIMITS), ("reservations", _RESERVED)):
            nested = resources.get(section)
            nested = nested if isinstance(nested, Map) else {}
            for key, (short, name, read) in keys.items():
                value = nested.get(key)
                if value is None and short:
                    value = self.service.get(short)
                if value is not None and str(value) != "0":
                    self.put(name, read(value))
        for key, value in deploy.items():
            if key not in ("resources", "replicas", "update_config", "rollback_config", "placement"):
                self.put(f"deploy.{key}", _plain(value))

    def mounts(self) -> None:
        for mount in as_items(self.service.get("volumes")):
            if not isinstance(mount, Mount):
                continue
            options = {key: value for key, value in mount.options.items() if key != "bind"}
            closed = bool(options.pop("read_only", False))
            root, name = self.content(mount.source)
            shown = name if root else mount.source or "a volume of its own"
            if closed:
                shown += " (read-only)"
            where = f", mounted at {mount.target}," if name != mount.target else ","
            value = json.dumps([mount.type, mount.source, closed, options], sort_keys=True, default=str)
            self.found[f"mount {mount.target}"] = Field(
                value, shown, differs=f"{name}{where} differs" if root else ""
            )

    def content(self, source: str) -> tuple[str, str]:
        """The root and the name of mounted content, of an absolute path on the host; empty for others."""
        if "/content/" in source:
            root, _, name = source.rpartition("/content/")[2].partition("/")
            if any(path.startswith(f"{root}/") for path in self.release.manifest["files"]):
                return root, name
        return "", ""

    def grants(self, kind: str) -> None:
        """What a service gets of the project's configs or secrets, and what is in them."""
        model = self.release.model
        entries = getattr(model, kind) if model else {}
        for item in as_items(self.service.get(kind)):
            source = str(item.get("source") if isinstance(item, Map) else item)
            entry = entries.get(source)
            content = ""
            if isinstance(entry, Map):
                content = str(entry.get("file") or entry.get("content") or "")
                variable = entry.get("environment")
                content = self.release.env.get(str(variable), "") if variable else content
            word = kind.rstrip("s")
            value = json.dumps([_plain(item), content])
            self.found[f"{word} {source}"] = Field(value, "", differs=f"{word} {source} differs")

    def words(self, name: str, value: Any) -> None:
        items = [str(item) for item in value] if isinstance(value, list) else _split(str(value))
        text = shlex.join(items)
        self.found[name] = Field(text, _short(self.veil.hide(text)))

    def labels(self, value: Any) -> None:
        self.keyed("label", {k: v for k, v in as_mapping(value).items() if not k.startswith("longshore.")})

    def logging(self, value: Any) -> None:
        if isinstance(value, Map):
            self.put("logging driver", str(value.get("driver") or "json-file"))
            options = value.get("options")
            self.keyed("logging", as_mapping(options) if options is not None else {})

    def ports(self, value: Any) -> None:
        try:
            found = [
                f"{port.ip + ':' if port.ip else ''}{port.published or ''}:{port.target}".lstrip(":")
                + ("" if port.protocol == "tcp" else f"/{port.protocol}")
                for port in ports(value, self.service.where_of("ports"))
            ]
        except LongshoreError:  # a part of it is only known by its fingerprint
            found = [_plain(item) for item in value]
        self.put("ports", ", ".join(sorted(found)))

    def health(self, value: Any) -> None:
        if not isinstance(value, Map):
            return
        if str(value.get("disable")).lower() == "true":
            self.put("health check", "disabled")
            return
        for key, said in value.items():
            if key == "test":
                self.words("health check", said)
            elif key == "retries":
                self.put("health retries", str(said))
            elif key != "disable":
                self.put(f"health {key}", _duration(said))


def _size(value: Any) -> str:
    try:
        return format_size(int(value) if str(value).isdigit() else parse_size(str(value)))
    except ValueError:
        return str(value)


def _cpus(value: Any) -> str:
    try:
        return f"{float(str(value)):g}"
    except ValueError:
        return str(value)


def _duration(value: Any) -> str:
    try:
        return format_duration(parse_duration(str(value)))
    except ValueError:
        return str(value)


_LIMITS: Mapping[str, tuple[str, str, Callable[[Any], str]]] = {
    "cpus": ("cpus", "cpus", _cpus),
    "memory": ("mem_limit", "memory", _size),
    "pids": ("pids_limit", "pids", str),
}
_RESERVED: Mapping[str, tuple[str, str, Callable[[Any], str]]] = {
    "cpus": ("", "reserved cpus", _cpus),
    "memory": ("mem_reservation", "reserved memory", _size),
}
_SHORT = {short for keys in (_LIMITS, _RESERVED) for short, _, _ in keys.values() if short}


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return [text]


def _scalar(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _plain(value: Any) -> str:
    def texts(item: Any) -> Any:
        if isinstance(item, dict):
            return {key: texts(child) for key, child in sorted(item.items())}
        if isinstance(item, list):
            return [texts(child) for child in item]
        return _scalar(item)

    simple = texts(plain(value))
    return simple if isinstance(simple, str) else json.dumps(simple, ensure_ascii=False)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 80 else f"{line[:77]}…"
