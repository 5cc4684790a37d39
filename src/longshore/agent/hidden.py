"""What of an app's secrets must not be said: those in the ``.env``, and in mounted files, of every release on
this host.

Which variables are secrets says the manifest (``secrets``); the values stay in ``.env``, mode 0600. So an old
release that is gone back to can't tell its secrets, either, which the controller may no longer know.
"""

import os
import re
from typing import Dict, List, Tuple

from longshore.agent.masks import Masks, of_file
from longshore.agent.store import RELEASE, AppStore, read_json

_LINE = re.compile(r'([^=\n]+)="((?:[^"\\]|\\.)*)"\n')
_LARGEST = 16 << 20
_ESCAPE = re.compile(r"\\(.)")
_MEANS = {"n": "\n", "r": "\r", "t": "\t", "v": "\v", "f": "\f"}


def read_env(text: str) -> Dict[str, str]:
    """The variables of a ``.env`` that Longshore has written: each in double quotes, on a line of its own."""
    return {
        key: _ESCAPE.sub(lambda match: _MEANS.get(match.group(1), match.group(1)), raw)
        for key, raw in _LINE.findall(text)
    }


class Hidden:
    """The masks of each app, read when they are needed and again after a release came."""

    def __init__(self, state_dir: str) -> None:
        self.state_dir = state_dir
        self._masks: Dict[str, Tuple[Tuple[str, ...], Masks]] = {}

    def masks(self, app: str) -> Masks:
        """The masks for what is said about an app."""
        store = AppStore(self.state_dir, app)
        try:
            names = tuple(sorted(name for name in os.listdir(store.releases) if RELEASE.fullmatch(name)))
        except OSError:
            names = ()
        known = self._masks.get(app)
        if known is None or known[0] != names:
            public = {app}
            values: List[str] = []
            for name in names:
                values += _secrets_of(store, name, public)
            known = self._masks[app] = (names, Masks(value for value in values if value not in public))
        return known[1]


def _secrets_of(store: AppStore, release: str, public: "set[str]") -> List[str]:
    manifest = read_json(os.path.join(store.release_dir(release), "manifest.json"))
    if not isinstance(manifest, dict):
        return []
    # Names that are in every line anyway, and that the controller reads.
    public |= {str(manifest.get("project", "")), release, *map(str, manifest.get("services") or {})}
    names = manifest.get("secrets") or []
    path = os.path.join(store.bundle_dir(release), str(manifest.get("project_directory", ".")), ".env")
    found = read_env(_text(path))
    values = [found[name] for name in names if name in found]
    for name, facts in (manifest.get("files") or {}).items():
        if facts.get("secret") and facts.get("kind") == "content":
            values.append(of_file(_text(os.path.join(store.content, name))))
    return values


def _text(path: str) -> str:
    """A file that could be a secret as a whole; empty when it is too large, or isn't there (any more)."""
    try:
        if not os.path.isfile(path) or os.path.getsize(path) > _LARGEST:
            return ""
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            return file.read()
    except OSError:
        return ""
