"""``/etc/docker/daemon.json``: our defaults added to what is there, key by key, never instead of it."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longshore.bootstrap.host.say import Refusal
from longshore.bootstrap.host.system import run

FILE = Path("/etc/docker/daemon.json")
RELOADABLE = frozenset({"live-restore", "registry-mirrors", "insecure-registries"})
"""Of the keys that we set, those that the engine takes over on SIGHUP (moby: daemon/reload.go)."""
FLAGS = {
    "log-driver": "--log-driver",
    "log-opts": "--log-opt",
    "live-restore": "--live-restore",
    "registry-mirrors": "--registry-mirror",
    "insecure-registries": "--insecure-registry",
}
"""A key that is also given as a flag keeps the engine from starting."""


@dataclass(frozen=True)
class Merge:
    """``text`` is the new file; ``keys`` are the top-level ones that differ; both empty when all is there."""

    text: str
    keys: tuple[str, ...]
    changes: tuple[str, ...]
    """As sentences' ends: ``log-driver json-file``."""
    kept: tuple[str, ...]
    """What someone set otherwise, and stays so."""

    @property
    def reloadable(self) -> bool:
        """Whether SIGHUP is enough."""
        return RELOADABLE.issuperset(self.keys)


def read(path: Path = FILE) -> str:
    """The file's text; empty where there is none. Raises ``Refusal``."""
    try:
        return path.read_bytes().decode()
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError as error:
        raise _invalid(path, f"byte {error.start} is not UTF-8") from None


def parse(text: str, path: Path = FILE) -> dict[str, Any]:
    """The settings. Nothing but spaces is none, as for the engine. Raises ``Refusal`` with the line."""
    if not text.strip():
        return {}
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise _invalid(f"{path}:{error.lineno}:{error.colno}", error.msg) from None
    if not isinstance(value, dict):
        raise _invalid(f"{path}:1", "it isn't an object ({…})")
    for key, kind in (("log-opts", dict), ("registry-mirrors", list), ("insecure-registries", list)):
        if key in value and not isinstance(value[key], kind):
            raise _invalid(path, f"{key} is no {'object' if kind is dict else 'list'}")
    return value


def merge(
    text: str, wanted: Mapping[str, Any], *, flags: Iterable[str] = (), swarm: bool = False, path: Path = FILE
) -> Merge:
    """Add ``wanted`` to the file's ``text``. ``flags`` are keys that are set on the engine's command line.

    A list gets the entries that it lacks, ``log-opts`` the options that it lacks, if the driver is the one
    that they are for; any other key is set only where there is none. Raises ``Refusal``.
    """
    there = parse(text, path)
    result = dict(there)
    changes: list[str] = []
    kept: list[str] = []
    for key, value in wanted.items():
        if key in flags:
            kept.append(f"{key}, which is given as {FLAGS[key]} on the engine's command line")
        elif key == "live-restore" and swarm:
            kept.append("live-restore is off: it doesn't go together with swarm mode (moby)")
        elif isinstance(value, list):
            lacking = [entry for entry in value if entry not in there.get(key, [])]
            if lacking:
                result[key] = [*there.get(key, []), *lacking]
                changes.append(f"{key} {', '.join(lacking)}")
        elif key == "log-opts":
            driver = "another driver" if "log-driver" in flags else result.get("log-driver", "json-file")
            if driver != wanted.get("log-driver"):
                continue
            options = there.get(key, {})
            lacking = [f"{name}={one}" for name, one in value.items() if name not in options]
            if lacking:
                result[key] = {**options, **{k: v for k, v in value.items() if k not in options}}
                changes.append(f"{key} {', '.join(lacking)}")
            kept += [
                f"log-opts.{name} is {options[name]!r}, not {one!r}"
                for name, one in value.items()
                if name in options and str(options[name]) != one
            ]
        elif key not in there:
            result[key] = value
            changes.append(f"{key} {value if isinstance(value, str) else json.dumps(value)}")
        elif there[key] != value:
            kept.append(f"{key} is {json.dumps(there[key])}, not {json.dumps(value)}")
    keys = tuple(key for key in result if result[key] != there.get(key))
    new = json.dumps(result, indent=_indent(text), ensure_ascii=False) + "\n" if keys else ""
    return Merge(new, keys, tuple(changes), tuple(kept))


def flags_in(command_line: Sequence[str]) -> tuple[str, ...]:
    """The keys that these arguments of dockerd set."""
    given = {word.split("=", 1)[0] for word in command_line}
    return tuple(key for key, flag in FLAGS.items() if flag in given)


def validate(text: str) -> None:
    """Let the engine itself read the new file first. Raises ``Refusal`` with what it says."""
    with tempfile.NamedTemporaryFile("w", prefix="longshore-", suffix=".json") as file:
        file.write(text)
        file.flush()
        code, output = run(["dockerd", "--validate", "--config-file", file.name])
    if code not in (0, 127) and "unknown flag" not in output:
        said = output.strip().splitlines() or ["it didn't say why"]
        raise _invalid(FILE, f"the engine refuses it together with our defaults: {said[-1]}")


def _indent(text: str) -> int | str:
    match = re.search(r"^([ \t]+)\S", text, re.M)
    if not match:
        return 2
    return "\t" if match[1].startswith("\t") else len(match[1])


def _invalid(where: object, why: str) -> Refusal:
    return Refusal(
        "daemon_json",
        f"{where}: {why}; the file was left as it is",
        "Correct it on the host (`dockerd --validate` checks it) and bootstrap again.",
    )
