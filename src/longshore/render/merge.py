"""How Compose merges what several files say of one thing (compose-spec, "Merge"; compose-go's ``override``).

For reading only: what is merged here is looked at, never written back.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from typing import Any

from longshore.errors import RenderError, Where
from longshore.render.document import Items, Map, Override, Reset, Text

Path = tuple[str, ...]


def merge(base: Any, over: Any, path: Path = ()) -> Any:
    """Return ``base`` with ``over`` laid on it; neither is changed. ``path`` is where in a project we are."""
    if isinstance(over, Override):
        return strip(over.value)
    if over is None:
        return base
    special = _special(path)
    if special is not None:
        return special(base, over, path)
    if isinstance(base, Map):
        if not isinstance(over, Map):
            raise _clash(over, path)
        return _mappings(base, over, path)
    if isinstance(base, Items):
        if not isinstance(over, Items):
            raise _clash(over, path)
        return _unique(base, over, _KEYS.get(_pattern(path)))
    return strip(over)


def strip(value: Any) -> Any:
    """Return ``value`` without its ``!reset`` parts and ``!override`` marks, for what overrides nothing."""
    if isinstance(value, Override):
        return strip(value.value)
    if isinstance(value, Map):
        result = Map(value.where)
        for key, child in value.items():
            if not isinstance(child, Reset):
                result.put(key, strip(child), value.where_of(key))
        return result
    if isinstance(value, Items):
        items = Items(value.where)
        items.extend(strip(child) for child in value if not isinstance(child, Reset))
        return items
    return None if isinstance(value, Reset) else value


def as_mapping(value: Any, *, split: str = "=") -> Map:
    """Return ``KEY=value`` items or a mapping as a mapping; a key without a value has ``None``."""
    if isinstance(value, Map):
        return value
    result = Map(value.where if isinstance(value, Items) else _nowhere(value))
    for item in value if isinstance(value, Items) else [value]:
        text = str(item)
        key, found, rest = text.partition(split)
        where = _nowhere(item, result)
        result.put(key, Text.at(rest, where, getattr(item, "unset", ())) if found else None, where)
    return result


def as_items(value: Any) -> Items:
    """Return a list, or a single value as a list of one."""
    if isinstance(value, Items):
        return value
    items = Items(_nowhere(value))
    if value is not None:
        items.append(value)
    return items


def _nowhere(value: Any, parent: Any = None) -> Where:
    return getattr(value, "where", None) or getattr(parent, "where", None) or Where("")


def _clash(over: Any, path: Path) -> RenderError:
    return RenderError(
        f"{'.'.join(path)} is of another kind (list, mapping, text) than in the file it overrides.",
        where=getattr(over, "where", None),
    )


def _mappings(base: Map, over: Map, path: Path) -> Map:
    result = Map(base.where)
    for key, value in base.items():
        result.put(key, value, base.where_of(key))
    for key, value in over.items():
        if isinstance(value, Reset):
            result.pop(key, None)
        elif key in result and result[key] is not None:
            result[key] = merge(result[key], value, (*path, key))
        else:
            result.put(key, strip(value), over.where_of(key))
    return result


def _pattern(path: Path) -> Path:
    """The path with the names of services, networks and so on left out."""
    if len(path) >= 2:
        path = (path[0], "*", *path[2:])
    return path


def _unique(base: Items, over: Items, key_of: Callable[[Any], Any] | None) -> Items:
    result = Items(base.where)
    places: dict[Any, int] = {}
    for item in (*base, *(strip(child) for child in over if not isinstance(child, Reset))):
        key = key_of(item) if key_of else None
        if key is not None and key in places:
            result[places[key]] = item
            continue
        if key is not None:
            places[key] = len(result)
        result.append(item)
    return result


def _replace(_base: Any, over: Any, _path: Path) -> Any:
    return strip(over)


def _key_values(base: Any, over: Any, path: Path) -> Any:
    # A !reset key is kept for a mapping only: in a list Compose doesn't find it.
    both = isinstance(base, Map) and isinstance(over, Map)
    over = over if both else as_mapping(strip(over))
    result = _mappings(as_mapping(base), over, path)
    for key, value in over.items():
        if value is None:  # not "as before": a key alone, which is .env's
            result.put(key, None, over.where_of(key))
    return result


def _sequence(base: Any, over: Any, path: Path) -> Any:
    return _unique(as_items(base), as_items(strip(over)), _KEYS.get(_pattern(path), str))


def _hosts(base: Any, over: Any, _path: Path) -> Any:
    def texts(value: Any) -> Items:
        if not isinstance(value, Map):
            return as_items(value)
        items = Items(value.where)
        items.extend(Text.at(f"{name}={one}", value.where_of(name)) for name, one in value.items())
        return items

    return _unique(texts(base), texts(strip(over)), str)


def _named(base: Any, over: Any, path: Path) -> Any:
    return _mappings(as_names(base), as_names(over), path)


def _dependencies(base: Any, over: Any, path: Path) -> Any:
    def long(value: Any) -> Map:
        names = as_names(value)
        if not isinstance(value, Map):
            for name, entry in names.items():
                entry.put("condition", Text.at("service_started", entry.where), names.where_of(name))
        return names

    return _mappings(long(base), long(over), path)


def as_names(value: Any) -> Map:
    """Return a list of names as a mapping to nothing, a mapping as it is (``depends_on``, ``networks``)."""
    if isinstance(value, Map):
        return value
    result = Map(_nowhere(value))
    for item in as_items(value):
        result.put(str(item), Map(_nowhere(item, result)), _nowhere(item, result))
    return result


def _logging(base: Any, over: Any, path: Path) -> Any:
    if not isinstance(base, Map) or not isinstance(over, Map):
        raise _clash(over, path)
    if "driver" in base and "driver" in over and base["driver"] != over["driver"]:
        return strip(over)
    return _mappings(base, over, path)


def _build(base: Any, over: Any, path: Path) -> Any:
    def long(value: Any) -> Any:
        if isinstance(value, Map):
            return value
        result = Map(_nowhere(value))
        result.put("context", value, _nowhere(value))
        return result

    return _mappings(long(base), long(over), path)


def _by(name: str, default: str = "") -> Callable[[Any], Any]:
    def key(item: Any) -> Any:
        said = item.get(name) if isinstance(item, Map) else getattr(item, name, None)
        source = item.get("source", "") if isinstance(item, Map) else item
        return posixpath.normpath(str(said or f"{default}{source}"))

    return key


def _port(item: Any) -> Any:
    if not isinstance(item, Map):
        return str(item)
    return (
        str(item.get("host_ip", "0.0.0.0")),  # noqa: S104  (compose-go's own default)
        str(item.get("published")),
        str(item.get("target")),
        str(item.get("protocol", "tcp")),
    )


def _env_file(item: Any) -> str:
    # By where it lies: what extends a service of another folder may have a file of the same name.
    return str(getattr(item, "path", None) or item)


_KEYS: dict[Path, Callable[[Any], Any]] = {
    ("services", "*", "volumes"): _by("target"),
    ("services", "*", "configs"): _by("target", "/"),
    ("services", "*", "secrets"): _by("target", "/run/secrets/"),
    ("services", "*", "ports"): _port,
    ("services", "*", "env_file"): _env_file,
    ("services", "*", "profiles"): str,
}

_SPECIALS: dict[Path, Callable[[Any, Any, Path], Any]] = {
    ("services", "*", "command"): _replace,
    ("services", "*", "entrypoint"): _replace,
    ("services", "*", "healthcheck", "test"): _replace,
    ("services", "*", "environment"): _key_values,
    ("services", "*", "labels"): _key_values,
    ("services", "*", "annotations"): _key_values,
    ("services", "*", "sysctls"): _key_values,
    ("services", "*", "extra_hosts"): _sequence,
    ("services", "*", "deploy", "labels"): _key_values,
    ("services", "*", "build"): _build,
    ("services", "*", "build", "args"): _key_values,
    ("services", "*", "build", "extra_hosts"): _hosts,
    ("services", "*", "build", "labels"): _key_values,
    ("services", "*", "depends_on"): _dependencies,
    ("services", "*", "networks"): _named,
    ("services", "*", "models"): _named,
    ("services", "*", "logging"): _logging,
    ("services", "*", "env_file"): _sequence,
    ("services", "*", "label_file"): _sequence,
    ("services", "*", "dns"): _sequence,
    ("services", "*", "dns_opt"): _sequence,
    ("services", "*", "dns_search"): _sequence,
    ("services", "*", "tmpfs"): _sequence,
    ("networks", "*", "labels"): _key_values,
    ("volumes", "*", "labels"): _key_values,
}


def _special(path: Path) -> Callable[[Any, Any, Path], Any] | None:
    pattern = _pattern(path)
    if len(pattern) == 4 and pattern[2] == "ulimits":
        return _replace
    return _SPECIALS.get(pattern)
