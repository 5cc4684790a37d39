"""What a stored release's files say, for a controller that wants to show what would change.

No value of ``.env`` leaves the host. It may be yesterday's password, which nobody can tell from yesterday's
log level, and what isn't sent can't be shown, logged or kept by mistake. Instead of it goes a fingerprint,
keyed with a salt that the controller made for this run alone: whoever knows today's value can see whether it
is the same, and nobody can try out others later. In other files every such value that could be a secret (by
the controller's own rule for what it masks) is replaced in the same way, in all forms in which programs write
one. A mounted secret is not sent at all.
"""

import os
import re
from typing import Any, Dict, Iterator, List, Tuple

from longshore.agent import edited, wire
from longshore.agent.store import AppStore

PROXY = "proxy.json"
"""The proxy's part of a release: it holds private keys and hashes of passwords."""
_LARGEST = 256 * 1024
_MOST = 4 * 1024 * 1024
_SHORTEST = 4
_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_.-]*)\s*=(.*)")
_UNESCAPE = {"n": "\n", "r": "\r", "t": "\t", "v": "\v", "f": "\f"}
_PASSWORD_IN_URL = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s@:]*:([^/\s@]+)@", re.IGNORECASE)


def explain(
    store: AppStore, manifest: Dict[str, Any], asked: Dict[str, Any], changed: List[str]
) -> Dict[str, Any]:
    """A ``wire.Stored``. ``changed``: paths of files that were edited here.

    ``asked``: ``salt``; ``have`` (path to SHA-256 of what the controller has itself); ``content`` (also what
    is mounted); ``names`` and ``plain``: patterns for names of secrets, and for values that are none.
    """
    salt: str = asked["salt"]
    have: Dict[str, str] = asked["have"]
    variables = _variables(_read(store, manifest, _env_path(manifest)) or "")
    hider = _Hider(salt, variables, asked)
    files: Dict[str, Dict[str, Any]] = {}
    room = _MOST
    for path, facts in sorted(manifest["files"].items()):
        if have.get(path) == facts["sha256"] and path not in changed:
            continue
        if facts["kind"] == "content" and not asked.get("content"):
            continue
        said = _file(store, manifest, path, facts, hider, room)
        room -= len(said.get("text", ""))
        files[path] = said
    return {"files": files, "edited": changed, "pins": edited.pins_of(store, manifest["id"])}


def _file(
    store: AppStore, manifest: Dict[str, Any], path: str, facts: Dict[str, Any], hider: "_Hider", room: int
) -> Dict[str, Any]:
    where = edited.place(store, manifest["id"], path, facts["kind"])
    try:
        size = os.path.getsize(where)
    except OSError:
        return {"missing": True}
    if not os.path.isfile(where):  # a pipe, or a link to a device, that a container has put there
        return {"missing": True}
    if facts["secret"] and (facts["kind"] == "content" or path == PROXY):
        return {"hidden": True}
    text = _read(store, manifest, path) if size <= min(_LARGEST, room) else None
    if text is None:
        return {"size": size}
    if facts["kind"] == "release" and path not in manifest["compose_files"] and facts["secret"]:
        if _is_env(text):
            return {"env": {name: wire.fingerprint(hider.salt, value) for name, value in _variables(text)}}
        if not _is_yaml(path):
            return {"hidden": True}
    return {"text": hider.text(text)}


def _env_path(manifest: Dict[str, Any]) -> str:
    folder = manifest["project_directory"]
    return ".env" if folder == "." else f"{folder}/.env"


def _read(store: AppStore, manifest: Dict[str, Any], path: str) -> Any:
    """The file's text, or ``None`` when it is missing or no text."""
    facts = manifest["files"].get(path)
    if facts is None:
        return None
    try:
        with open(
            edited.place(store, manifest["id"], path, facts["kind"]), encoding="utf-8", newline=""
        ) as file:
            text = file.read()
    except (OSError, UnicodeDecodeError):
        return None
    return None if "\0" in text or wire.OPEN in text or wire.CLOSE in text else text


def _is_yaml(path: str) -> bool:
    """A compose file that another one includes: of its secrets those of ``.env`` are known."""
    return path.endswith((".yml", ".yaml", ".json"))


def _is_env(text: str) -> bool:
    lines = [line.strip() for line in text.splitlines()]
    return all(_LINE.fullmatch(line) for line in lines if line and not line.startswith("#"))


def _variables(text: str) -> List[Tuple[str, str]]:
    """The variables of an env file. Ours has one way of writing; of others' the quotes are taken off."""
    found = []
    for line in text.splitlines():
        match = _LINE.fullmatch(line.strip())
        if match:
            found.append((match.group(1), _value(match.group(2).strip())))
    return found


def _value(text: str) -> str:
    if len(text) >= 2 and text[0] == text[-1] == '"':
        return re.sub(r"\\(.)", lambda match: _UNESCAPE.get(match.group(1), match.group(1)), text[1:-1])
    if len(text) >= 2 and text[0] == text[-1] == "'":
        return text[1:-1]
    return text


class _Hider:
    """Replaces values of ``.env`` in texts by what stands for them."""

    def __init__(self, salt: str, variables: List[Tuple[str, str]], asked: Dict[str, Any]) -> None:
        self.salt = salt
        self.stands: Dict[str, str] = {}
        names = re.compile(asked["names"], re.IGNORECASE)
        plain = re.compile(asked["plain"])
        for name, value in variables:
            for label, part in _parts(name, value, names, plain):
                mark = wire.fingerprint(salt, part)
                for index, form in enumerate(wire.forms(part)):
                    if len(form) >= _SHORTEST:
                        self.stands.setdefault(form, f"{wire.OPEN}{label} {index} {mark}{wire.CLOSE}")
        forms = sorted(self.stands, key=lambda form: (-len(form), form))
        self.pattern = re.compile("|".join(map(re.escape, forms))) if forms else None

    def text(self, text: str) -> str:
        if self.pattern is None:
            return text
        return self.pattern.sub(lambda match: self.stands[match.group()], text)


def _parts(name: str, value: str, names: Any, plain: Any) -> Iterator[Tuple[str, str]]:
    """What of a value is to be hidden: all of it, and a URL's password alone (labelled ``name@``)."""
    password = _PASSWORD_IN_URL.match(value)
    if names.search(name) or password or not plain.fullmatch(value):
        yield name, value
    if password:
        yield f"{name}@", password.group(1)
    # A key of several lines is written line by line.
    for number, line in enumerate(value.splitlines()) if "\n" in value else ():
        if len(line.strip()) >= 8:
            yield f"{name}#{number}", line
