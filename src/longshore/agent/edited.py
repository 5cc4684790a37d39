"""Whether the files of a release are still what they were when they came: nobody is to edit them on the host.

A look that may cost nothing reads only what has changed on the disk since the commit (``ctime``, which no
program can set); a deep one reads everything.
"""

import json
import os
import stat
from typing import IO, Any, Dict, Iterator, List, NamedTuple, Optional, Set

from longshore.agent import wire
from longshore.agent.drift import Finding
from longshore.agent.engine import Engine
from longshore.agent.fail import Refusal
from longshore.agent.health import containers
from longshore.agent.store import AppStore, make_open, put_inside, read_json, write

_CHUNK = 1 << 20
_MOST = 3
"""Files that a refusal names."""
PINS = "pins.json"
ADDED = "was added on the host"


class Edited(NamedTuple):
    """A file that is not the release's. ``path`` is the manifest's; ``how`` ends a sentence."""

    path: str
    kind: str
    how: str

    @property
    def root(self) -> str:
        """The folder in the app's content, of what is mounted."""
        return self.path.split("/", 1)[0] if self.kind == "content" else ""

    @property
    def name(self) -> str:
        """The name that a person knows: mounted content without its hash."""
        return self.path.split("/", 1)[-1] if self.kind == "content" else self.path


def edited(store: AppStore, manifest: Dict[str, Any], since: float) -> List[Edited]:
    """The files of a release that are no longer what its manifest says, in the order of their paths.

    ``since``: seconds since the epoch; what was last changed before is taken as it is. 0 reads everything.
    """
    found = []
    known: Set[str] = set()
    folders: Set[str] = set()
    for path, facts in sorted(manifest["files"].items()):
        where = place(store, manifest["id"], path, facts["kind"])
        known.add(where)
        if facts["kind"] == "content":
            folders.add(os.path.dirname(where))
        how = _how(where, facts, since)
        if how:
            found.append(Edited(path, facts["kind"], how))
    for folder in sorted(folders):
        for extra in _added(folder, known, since):
            found.append(Edited(os.path.relpath(extra, store.content), "content", ADDED))
    pins = pins_of(store, manifest["id"])
    recorded = (store.committed(manifest["id"]) or {}).get("pins")
    if recorded is not None and pins != recorded:
        found.append(Edited(PINS, "release", "was edited on the host"))
    return found


def place(store: AppStore, release: str, path: str, kind: str) -> str:
    """Where a file of a manifest lies on this host."""
    return os.path.join(_base(store, release, kind), path)


def _base(store: AppStore, release: str, kind: str) -> str:
    return store.content if kind == "content" else store.bundle_dir(release)


def pins_of(store: AppStore, release: str) -> Dict[str, str]:
    """Service to the image that this host has pinned for a release, where its bundle didn't."""
    found = read_json(os.path.join(store.release_dir(release), PINS)) or {}
    return {name: str(one.get("image")) for name, one in (found.get("services") or {}).items()}


def findings(
    engine: Engine, store: AppStore, manifest: Dict[str, Any], found: List[Dict[str, Any]], since: float
) -> List[Finding]:
    """What was edited, in sentences, with the services that a deploy must make anew for it.

    What a container may write itself is no business of a deploy: it is told, and left alone.
    """
    result = []
    changes = edited(store, manifest, since)
    users = _users(engine, store, found) if any(one.root for one in changes) else []
    left = _left_alone(users)
    for one in changes:
        its = [user for user in users if user["root"] == one.root]
        mounted = " and ".join(dict.fromkeys(user["service"] for user in its))
        text = f"{one.name}{f', which {mounted} mounts,' if mounted else ''} {one.how}"
        if one.how == ADDED:
            result.append(Finding("", f"{text} and is left alone", ""))
        elif one.root and one.root in left:
            result.append(Finding("", f"{text}; {mounted} may write it, so it is left alone", ""))
        elif its:
            result += [Finding(user["service"], text, "recreate") for user in its[:1]]
            result += [Finding(user["service"], "", "recreate") for user in its[1:]]
        else:
            result.append(Finding("", text, "write"))
    waiting = set(restored(store))
    for user in _users(engine, store, found) if waiting else []:
        if user["root"] in waiting:
            text = f"{user['service']} has a file mounted that was put right since it was started"
            result.append(Finding(user["service"], text, "recreate"))
    return result


def check_whole(engine: Engine, store: AppStore, release: str) -> None:
    """Raises ``Refusal`` when files of a stored release, which is to run again, are not its own any more.

    Every file is read. What services that run now may write themselves doesn't count, nor what was added.
    """
    manifest = store.manifest(release)
    changes = [one for one in edited(store, manifest, 0.0) if one.how != ADDED]
    if any(one.root for one in changes):
        left = _left_alone(_users(engine, store, containers(engine, manifest["project"])))
        changes = [one for one in changes if one.root not in left]
    if changes:
        told = [f"{one.name} {one.how}" for one in changes]
        rest = f" and {len(told) - _MOST} more" if len(told) > _MOST else ""
        raise Refusal(
            wire.EDITED,
            f"release {release} of {store.app} is not what it was: {', '.join(told[:_MOST])}{rest}",
            "`rollback --to` goes to another one (`invoke history`), `rollback --as-it-is` to this one, edits"
            " and all.",
        )


def put_right(engine: Engine, store: AppStore, manifest: Dict[str, Any], tar: IO[bytes]) -> List[str]:
    """Write what was edited on this host as the bundle has it, each file as a whole or not at all.

    Also for a release that is new here: it may share mounted content with one whose content was edited.
    What its users may write themselves stays. Returns the paths.
    """
    import tarfile  # late: a look at a host unpacks nothing, and this is slow to load

    from longshore.agent import compose

    # All of it is read: it may have been edited while another release was the current one.
    damaged = {one.path: one for one in edited(store, manifest, 0.0) if one.how != ADDED}
    if not damaged:
        return []
    users = _users(engine, store, containers(engine, manifest["project"]))
    left = _left_alone(users)
    damaged = {path: one for path, one in damaged.items() if one.root not in left}
    if PINS in damaged:
        pins = (store.committed(manifest["id"]) or {}).get("pins", {})
        where = os.path.join(store.release_dir(manifest["id"]), PINS)
        if pins:
            write(where, compose.pins(pins).encode())
        else:
            os.unlink(where)
    # Before it is done, so that a power cut leaves no container with the old one mounted for ever.
    note_restored(store, [one.root for one in damaged.values() if one.root])
    tar.seek(0)
    with tarfile.open(fileobj=tar, mode="r|") as archive:
        for member in archive:
            one = damaged.get(member.name)
            source = archive.extractfile(member) if one else None
            if one is not None and source is not None:
                base = _base(store, manifest["id"], one.kind)
                make_open(base)
                put_inside(base, one.path, source.read(), int(manifest["files"][one.path]["mode"], 8))
    return sorted(damaged)


def _left_alone(users: List[Dict[str, Any]]) -> Set[str]:
    """The folders of content that every service which mounts them may write."""
    return {user["root"] for user in users} - {user["root"] for user in users if not user["writable"]}


def _users(engine: Engine, store: AppStore, found: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
    """Which service mounts which folder of content, and whether it may write it."""
    users = []
    base = store.content + "/"
    for one in found:
        full = engine.container(one["id"]) or {}
        for mount in full.get("Mounts") or []:
            source = str(mount.get("Source") or "")
            if source.startswith(base):
                root = source[len(base) :].split("/", 1)[0]
                user = {"service": one["service"], "root": root, "writable": bool(mount.get("RW", True))}
                if user not in users:
                    users.append(user)
    return users


# What was put right, and is still mounted as it was before


def restored(store: AppStore) -> List[str]:
    """The folders of content that were put right since their users were started."""
    return [str(name) for name in read_json(os.path.join(store.root, "restored.json")) or []]


def note_restored(store: AppStore, roots: List[str]) -> None:
    """Remember what was put right until its users are made anew; nothing of it, when that is done."""
    path = os.path.join(store.root, "restored.json")
    if roots:
        write(path, json.dumps(sorted({*restored(store), *roots})).encode())
    elif os.path.exists(path):
        os.unlink(path)


def _how(where: str, facts: Dict[str, Any], since: float) -> str:
    try:
        status = os.lstat(where)
    except OSError:
        return "is missing on the host"
    if status.st_ctime < since:
        return ""
    # What a container has put there instead (a pipe, a link) is not opened: reading it might never end.
    if not stat.S_ISREG(status.st_mode) or _hash(where) != facts["sha256"]:
        return "was edited on the host"
    mode = f"{status.st_mode & 0o7777:04o}"
    if mode != facts["mode"]:
        return f"has the mode {mode} on the host, the release says {facts['mode']}"
    return ""


def _added(folder: str, known: Set[str], since: float) -> Iterator[str]:
    """Files in a mounted folder that no release brought: a container sees them, too."""
    try:
        if os.stat(folder).st_ctime < since:
            return
        names = sorted(os.listdir(folder))
    except OSError:
        return
    for name in names:
        path = os.path.join(folder, name)
        if path not in known and not os.path.isdir(path):
            yield path


def _hash(path: str) -> Optional[str]:
    import hashlib

    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            for part in iter(lambda: file.read(_CHUNK), b""):
                digest.update(part)
    except OSError:
        return None
    return digest.hexdigest()
