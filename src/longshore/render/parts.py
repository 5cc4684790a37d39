"""The parts of a service that Compose writes in short and long forms: mounts, env files, ports."""

from __future__ import annotations

import ipaddress
import os.path
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from longshore.errors import RenderError, Where
from longshore.records import dataclass
from longshore.render.document import Items, Map, Text

_PROPAGATION = ("rprivate", "private", "rshared", "shared", "rslave", "slave")
_CONSISTENCY = ("consistent", "cached", "delegated")


@dataclass(frozen=True)
class Mount:
    """An entry of ``volumes``. ``path`` is the source on the controller, for a relative bind mount only."""

    type: str
    source: str
    target: str
    where: Where
    path: Path | None = None
    written: str = ""
    """The source as the file has it."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The other keys of the long form: ``read_only``, ``bind``, ``volume``, ``tmpfs``, ``consistency``."""
    unset: tuple[str, ...] = ()
    untidy: bool = False
    """The target is written oddly (``/data/``): versions of Compose differ in whether it is the same."""

    def long(self, source: str | None = None, **options: Any) -> dict[str, Any]:
        """The entry in Compose's long form, with another source when given."""
        entry: dict[str, Any] = {"type": self.type}
        where = self.source if source is None else source
        if where:
            entry["source"] = where
        entry["target"] = self.target
        merged = {**self.options, **options}
        return entry | {key: merged[key] for key in sorted(merged)}


@dataclass(frozen=True)
class LocalFile:
    """A file that a compose file names: ``env_file``, or ``file`` of a config or secret.

    ``path`` is ``None`` for an absolute path, which is the host's.
    """

    written: str
    path: Path | None
    where: Where
    required: bool = True
    unset: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.written

    @property
    def here(self) -> Path:
        """Where it is on this machine, for what is read here and not on the host."""
        # Not Path's expanduser(), which raises for a user that there isn't.
        return self.path or Path(os.path.expanduser(self.written))  # noqa: PTH111


def local_file(text: Any, base: Path, *, required: bool = True, where: Where | None = None) -> LocalFile:
    """Resolve a path of a compose file against ``base``."""
    written = str(text)
    absolute = written.startswith(("/", "~"))
    return LocalFile(
        written=written,
        path=None if absolute else resolve(base, written),
        where=getattr(text, "where", None) or where or Where(""),
        required=required,
        unset=getattr(text, "unset", ()),
    )


def resolve(base: Path, written: str) -> Path:
    """``written`` relative to ``base``, without ``.`` and ``..``, links not followed (as Compose does it)."""
    return Path(os.path.normpath(base / written))


def mount(item: Any, base: Path, where: Where) -> Mount:
    """Read one entry of ``volumes``; raises ``RenderError`` with its place."""
    if isinstance(item, Map):
        return _long_mount(item, base)
    if not isinstance(item, str):
        raise RenderError(f"{item!r} is not a volume.", where=where, hint="Write SOURCE:TARGET, in quotes.")
    return _short_mount(item, base, getattr(item, "where", None) or where)


def check_drive(text: str, where: Where) -> None:
    """Refuse ``c:/data``, which Compose takes for a folder of Windows in the container, and for no volume."""
    if re.match(r"[A-Za-z]:[/\\]", text):
        raise RenderError(
            f"{text!r} is a path of Windows to Compose, and doesn't mount a volume named {text[0]}.",
            where=where,
            hint="A volume needs a name of two letters, or the long form (type:, source:, target:).",
        )


def _short_mount(text: str, base: Path, where: Where) -> Mount:
    fields = text.split(":")
    if len(fields) > 3 or not all(fields):
        raise RenderError(f"{text!r} is not a volume.", where=where, hint="Write SOURCE:TARGET[:OPTIONS].")
    unset = getattr(text, "unset", ())
    if len(fields) == 1:
        return Mount("volume", "", _tidy(text), where, unset=unset, untidy=_tidy(text) != text)
    source, target = fields[0], _tidy(fields[1])
    bind = source[0] in "./~"
    options: dict[str, Any] = {}
    inner: dict[str, Any] = {"create_host_path": True} if bind else {}
    for option in fields[2].split(",") if len(fields) == 3 else ():
        if option in ("ro", "rw"):
            options["read_only"] = option == "ro"
        elif option in ("z", "Z"):
            inner["selinux"] = option
        elif option in _PROPAGATION:
            inner["propagation"] = option
        elif option in _CONSISTENCY:
            options["consistency"] = option
        elif option == "nocopy" and not bind:
            options["volume"] = {"nocopy": True}
    if inner:
        options["bind"] = inner  # of a named volume, too: Compose keeps selinux there
    path = resolve(base, source) if source[0] == "." else None
    kind = "bind" if bind else "volume"
    return Mount(kind, source, target, where, path, source, options, unset, untidy=target != fields[1])


def _tidy(target: str) -> str:
    """``/data/`` as ``/data``: the engine takes both for the same place."""
    return "/" + posixpath.normpath(target).lstrip("/") if target.startswith("/") else target


def _long_mount(item: Map, base: Path) -> Mount:
    target = item.get("target")
    if not isinstance(target, str):
        raise RenderError("This volume has no target.", where=item.where)
    source = str(item.get("source") or "")
    kind = str(item.get("type") or "volume")
    path = None
    if kind == "bind":
        if not source:
            raise RenderError("This bind mount has no source.", where=item.where)
        path = None if source[0] in "/~" else resolve(base, source)
    for key in ("bind", "volume", "tmpfs", "image"):
        if key in item and not isinstance(item[key], Map):
            raise RenderError(f"The {key} of this volume is not a mapping.", where=item.where_of(key))
    options = {key: plain(value) for key, value in item.items() if key not in ("type", "source", "target")}
    if isinstance(options.get("read_only"), str):  # of a variable: Compose takes these words for true
        options["read_only"] = options["read_only"].lower() in ("true", "yes", "y", "on", "t", "1")
    unset = tuple(name for value in item.values() for name in getattr(value, "unset", ()))
    tidy = _tidy(target)
    return Mount(kind, source, tidy, item.where, path, source, options, unset, untidy=tidy != target)


def env_files(value: Any, base: Path) -> Items:
    """Read ``env_file`` (text, list of texts, list of ``path``/``required``)."""
    entries = value if isinstance(value, Items) else [value]
    result = Items(getattr(value, "where", None) or Where(""))
    for entry in entries:
        if isinstance(entry, Map):
            if not entry.get("path"):
                raise RenderError("This env_file has no path.", where=entry.where)
            required = entry.get("required", True)
            result.append(
                local_file(entry["path"], base, required=str(required).lower() != "false", where=entry.where)
            )
        elif entry is not None:
            result.append(local_file(entry, base, where=result.where))
    return result


@dataclass(frozen=True)
class Port:
    """One published port. ``published`` is 0 for one that the engine picks."""

    ip: str
    published: int
    target: int
    protocol: str
    where: Where

    def __str__(self) -> str:
        return f"{self.ip}:{self.published}/{self.protocol}"


_SHORT_PORT = re.compile(
    r"(?:(?:(?P<ip>\[[0-9a-fA-F:.]+\]|[0-9.]*|[0-9a-fA-F:]*:[0-9a-fA-F:]+):)?(?P<published>[0-9-]*):)?"
    r"(?P<target>[0-9]+(?:-[0-9]+)?)(?:/(?P<protocol>\w+))?"
)


def ports(value: Any, where: Where) -> tuple[Port, ...]:
    """Read ``ports``: short and long forms, ranges. Ports are ordered as written."""
    found: list[Port] = []
    for item in value if isinstance(value, list | tuple) else [value]:
        place = getattr(item, "where", None) or where
        if isinstance(item, Map):
            ip, target = str(item.get("host_ip") or ""), str(item.get("target") or "")
            published, protocol = str(item.get("published") or ""), str(item.get("protocol") or "tcp")
        else:
            match = _SHORT_PORT.fullmatch(str(item))
            if match is None:
                raise RenderError(
                    f"{str(item)!r} is not a port.",
                    where=place,
                    hint="Write [IP:]HOST:CONTAINER[/udp], in quotes.",
                )
            ip, target = (match["ip"] or "").strip("[]"), match["target"]
            published, protocol = match["published"] or "", match["protocol"] or "tcp"
            if ip and not _is_address(ip):
                raise RenderError(
                    f"{str(item)!r} is not a port: {ip} is no IP address.",
                    where=place,
                    hint="Write [IP:]HOST:CONTAINER[/udp], in quotes.",
                )
        if protocol.lower() not in ("tcp", "udp", "sctp"):
            raise RenderError(
                f"{protocol!r} is no protocol of a port.", where=place, hint="There are tcp, udp, sctp."
            )
        ip = "" if ip in ("0.0.0.0", "::") else ip  # noqa: S104
        inside, outside = _range(target, place), _range(published, place) if published else []
        if outside and len(outside) != len(inside):
            if len(inside) != 1:
                raise RenderError(f"{published}:{target} are ranges of different lengths.", where=place)
            outside = []  # Compose picks one of the range
        for index, port in enumerate(inside):
            found.append(Port(ip, outside[index] if outside else 0, port, protocol, place))
    return tuple(found)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _range(text: str, where: Where) -> list[int]:
    first, _, last = text.partition("-")
    if not first.isdigit() or (last and not last.isdigit()):
        raise RenderError(f"{text!r} is not a port or range of ports.", where=where)
    low, high = int(first), int(last or first)
    if not 0 <= low <= high <= 65535:
        raise RenderError(f"{text} is not a port (1 to 65535).", where=where)
    return list(range(low, high + 1))


def plain(value: Any) -> Any:
    """Return a read value as plain Python, without its places."""
    if isinstance(value, dict):
        return {str(key): plain(child) for key, child in value.items()}
    if isinstance(value, list):
        return [plain(child) for child in value]
    return str(value) if isinstance(value, Text) else value


def unset_variables(value: Any, *, skip: tuple[str, ...] = ()) -> Iterator[tuple[str, Where]]:
    """Variables without value or default that a value uses, with their places."""
    if isinstance(value, Text | Mount | LocalFile):
        for name in value.unset:
            yield name, value.where
    elif isinstance(value, Map):
        for key, child in value.items():
            if key not in skip and not key.startswith("x-"):
                yield from unset_variables(child)
    elif isinstance(value, Items):
        for child in value:
            yield from unset_variables(child)


_SHELL = {"PWD", "HOME", "USER", "UID", "GID", "HOSTNAME"}


def unset_error(name: str, where: Where) -> RenderError:
    """The sentence for a variable that nobody set. Compose would put an empty text, with a warning."""
    hint = (
        "It is the shell's, which no host has: write a relative path instead."
        if name in _SHELL
        else f"Add it to the environment's env file, or give it a default: ${{{name}:-…}}."
    )
    return RenderError(f"The variable {name} is not set.", where=where, hint=hint)
