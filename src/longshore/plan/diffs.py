"""How the files of two releases differ, line by line, without secrets."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from longshore.inventory.hidden import may_be_secret
from longshore.plan.model import Change, FileDiff
from longshore.plan.release import Release, env_path, is_mark
from longshore.plan.veil import Veil


def by_name(files: Mapping[str, Any]) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """A manifest's files by the name a person knows (mounted content without its hash): path and facts."""
    found: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for path, facts in files.items():
        name = path.split("/", 1)[-1] if facts["kind"] == "content" else path
        # Two mounts may hold files of one name; and a mounted file may have that of a compose file.
        found[path if name in found else name] = (path, facts)
    return found


def file_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """The files that differ between two manifests, in the order of their names."""
    before, after = by_name(old.get("files", {})), by_name(new["files"])
    changes = []
    for name in sorted({*before, *after}):
        if name not in before:
            changes.append(Change(None, "file", f"{name} is new"))
        elif name not in after:
            changes.append(Change(None, "file", f"{name} goes"))
        elif before[name][1]["sha256"] != after[name][1]["sha256"]:
            changes.append(Change(None, "file", f"{name} differs"))
    return changes


def file_diffs(
    old: Release | None, new: Release, edited: tuple[str, ...], veil: Veil
) -> tuple[FileDiff, ...]:
    """A unified diff of every file that differs, or was edited on the host (its paths in ``edited``)."""
    before = by_name(old.manifest["files"]) if old else {}
    after = by_name(new.manifest["files"])
    found = []
    for name in sorted({*before, *after}):
        old_path = before[name][0] if name in before else None
        new_path = after[name][0] if name in after else None
        same = old_path and new_path and before[name][1]["sha256"] == after[name][1]["sha256"]
        if same and old_path not in edited:
            continue
        left, right = _lines(old, old_path, veil), _lines(new, new_path, veil)
        if left is None or right is None:
            why = (old.hidden.get(old_path or "") if old else None) or new.hidden.get(new_path or "")
            lines = [f"differs; its content is not shown ({why or 'not known here'})"]
        else:
            origin = f"{name} (edited on the host)" if old_path in edited else name
            labels = (origin if old_path else "/dev/null", name if new_path else "/dev/null")
            lines = list(difflib.unified_diff(left, right, *labels, lineterm="", n=2))
        if lines:
            found.append(FileDiff(name, tuple(lines)))
    return tuple(found)


def _lines(release: Release | None, path: str | None, veil: Veil) -> list[str] | None:
    if release is None or path is None:
        return []
    values = release.edited_env.get(path)
    if values is None:
        values = release.env if path == env_path(release.manifest) else release.env_files.get(path)
    if values is not None:
        return [f"{key}={_value(key, value, veil)}" for key, value in sorted(values.items())]
    text = release.edited.get(path, release.texts.get(path))
    return None if text is None else [veil.hide_line(line) for line in text.splitlines()]


def _value(key: str, value: str, veil: Veil) -> str:
    if is_mark(value):
        return value
    return veil.mark(value) if may_be_secret(key, value) else value
