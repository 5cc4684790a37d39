"""Reading ssh_config(5) files: Paramiko's parser, with ``Include``, the system's file and two repairs."""

from __future__ import annotations

import functools
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from glob import glob
from pathlib import Path
from typing import Any

from longshore.errors import HostError
from longshore.remote.whoami import login_name

USER_FILE = Path("~/.ssh/config")
SYSTEM_FILE = Path("/etc/ssh/ssh_config")
MAX_INCLUDES = 16  # OpenSSH's own limit
_WHERE = re.compile(
    r"^\s*(?:hostname|port|proxyjump|proxycommand|addressfamily|connecttimeout|serveraliveinterval)\b",
    re.IGNORECASE | re.MULTILINE,
)


class Config:
    """Parsed ssh_config files. ``lookup`` isn't thread-safe."""

    def __init__(self, text: str) -> None:
        self._parsed: Any = None
        self._text = text

    @property
    def says_where(self) -> bool:
        """Whether it has a word about where any host is, or how one connects."""
        return bool(_WHERE.search(self._text))

    def lookup(self, address: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options for ``address``, keys in lower case; ``options`` are what ``Match`` already knows."""
        if not self._text.strip():
            return {"hostname": address}
        if self._parsed is None:
            self._parsed = _parser()
            self._parsed.parse(self._text.splitlines())
        known = {key: options[key] for key in ("user", "port", "hostname") if key in options}
        return dict(self._parsed.find(address, known))


def _parser() -> Any:
    from paramiko.config import SSHConfig, SSHConfigDict

    base: Any = SSHConfig

    class Parser(base):  # type: ignore[misc]
        def find(self, address: str, known: Mapping[str, Any]) -> Mapping[str, Any]:
            # Paramiko's lookup() can't be told the user and port that the command line gave, which
            # `Match user` and %r need.
            options = self._lookup(address, SSHConfigDict(known))
            options.setdefault("hostname", address)
            result: Mapping[str, Any] = self._lookup(address, options, final=True)
            return result

        def _tokenize(self, config: Any, target_hostname: str, key: str, value: str) -> str:
            # Paramiko resolves this machine's full name over DNS for every IdentityFile, to replace a
            # %l that isn't there. And these two we expand ourselves, once HostName is final.
            if key in ("identityfile", "proxycommand") or "%" not in value:
                return value
            return str(super()._tokenize(config, target_hostname, key, value))

    return Parser()


def load(file: Path | None = None) -> Config:
    """The person's and the system's files, or only ``file`` (as ``ssh -F``), whose absence is an error."""
    if file is not None:
        try:
            return Config(_expand_includes(file.expanduser()))
        except OSError as error:
            raise HostError(f"ssh_config {file} can't be read: {error.strerror}.") from None
    parts = []
    for path in (USER_FILE.expanduser(), SYSTEM_FILE):
        if path.is_file() and os.access(path, os.R_OK):
            parts.append(_expand_includes(path))
    return Config("\nHost *\n".join(parts))


def _expand_includes(path: Path, *, depth: int = 0, within: str = "") -> str:
    """The file's text with its includes in place. ``within`` are the ``Match`` criteria of the block that
    the file is included in: they hold for its own blocks, too."""
    if depth > MAX_INCLUDES:
        raise HostError(f"ssh_config {path}: includes nested deeper than {MAX_INCLUDES}.")
    criteria = within
    lines: list[str] = []
    for line in path.read_text(errors="replace").splitlines():
        word, _, rest = line.strip().replace("=", " ", 1).partition(" ")
        keyword = word.lower()
        if keyword == "include":
            for name in _included(path, rest):
                lines.append(_expand_includes(name, depth=depth + 1, within=criteria))
            # What follows an Include belongs to the block that the Include stands in.
            lines.append(_block(criteria))
        elif keyword in ("host", "match"):
            own = f"originalhost {','.join(rest.split())}" if keyword == "host" else rest.strip()
            criteria = " ".join(part for part in (within, own) if part and part.lower() != "all")
            lines.append(_block(criteria))
        else:
            lines.append(line)
    return "\n".join(lines)


def _block(criteria: str) -> str:
    return f"Match {criteria}" if criteria else "Host *"


def _included(path: Path, patterns: str) -> Iterator[Path]:
    system = SYSTEM_FILE.parent
    base = system if path.is_relative_to(system) else USER_FILE.expanduser().parent
    for pattern in shlex.split(patterns):
        for name in sorted(glob(str(base / Path(pattern).expanduser()))):  # noqa: PTH207
            if Path(name).is_file() and os.access(name, os.R_OK):
                yield Path(name)


def expand(text: str, tokens: Mapping[str, str]) -> str:
    """``%h`` and the like replaced; ``%%`` is a percent sign. An unknown token stays as it is."""
    if "%" not in text:
        return text
    table = {"%%": "%", "%d": str(Path.home()), "%u": login_name(), **tokens}
    return re.sub(r"%.", lambda match: table.get(match.group(), match.group()), text)


def path(text: str, tokens: Mapping[str, str]) -> Path:
    """A file name of ssh_config with ``~`` and tokens expanded."""
    return Path(expand(text, tokens)).expanduser()


def paths(text: object, tokens: Mapping[str, str]) -> tuple[Path, ...]:
    """Several file names; ``none`` is no file."""
    return tuple(path(word, tokens) for word in _words(str(text)) if word.lower() != "none")


@functools.lru_cache(maxsize=64)
def _words(text: str) -> tuple[str, ...]:
    # The same few settings are split for every host, and shlex takes a third of a millisecond.
    return tuple(shlex.split(text))
