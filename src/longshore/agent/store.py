"""What an app has on this host: its folder, its releases, and the one that is current.

Everything is written beside its place, synced, and renamed: a reader, or a host that comes back from a
power cut, sees the old or the new, never a half.
"""

import errno
import json
import os
import re
from contextlib import contextmanager
from typing import IO, Any, Dict, Iterator, List, Optional

from longshore.agent import wire
from longshore.agent.fail import Refusal

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
RELEASE = re.compile(r"[0-9a-f]{12}")
_CHUNK = 1 << 20
_RESERVE = 4 << 20
"""Bytes that are set aside before a switch, so that going back has room when the disk is full by then."""


def sync_folder(path: str) -> None:
    """Make a rename in this folder last."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write(path: str, data: bytes, mode: int = 0o600) -> None:
    """Write a file as a whole or not at all."""
    folder = os.path.dirname(path)
    with _written(folder, data, mode) as temporary:
        os.replace(temporary, path)
    sync_folder(folder)


@contextmanager
def _written(folder: str, data: bytes, mode: int) -> Iterator[str]:
    """A new file in this folder, synced, to be renamed."""
    import tempfile  # late, as below: a look at a host writes and unpacks nothing, and these are slow to load

    handle, temporary = tempfile.mkstemp(prefix=".new-", dir=folder)
    try:
        with os.fdopen(handle, "wb") as out:
            os.fchmod(out.fileno(), mode)
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        yield temporary
    except BaseException:
        _forget(temporary)
        raise


def make_open(folder: str) -> None:
    """Make a folder that containers look into, whoever they run as, and those above it that are missing.

    ``makedirs`` with a mode isn't enough: the agent's umask is for what only we read. Others on this host are
    kept out by the app's own folder.
    """
    if os.path.isdir(folder):
        return
    make_open(os.path.dirname(folder))
    os.mkdir(folder)
    os.chmod(folder, 0o755)  # noqa: S103


def put_inside(base: str, path: str, data: bytes, mode: int) -> None:
    """Write the file ``path`` below ``base`` as a whole or not at all, with the folders that it lacks.

    What a container that may write there has put in the way of them (a link out of it) goes, and isn't
    followed.
    """
    *folders, name = path.split("/")
    inside = os.open(base, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for folder in folders:
            below = _own_folder(folder, inside)
            os.close(inside)
            inside = below
        with _written(base, data, mode) as temporary:
            os.rename(temporary, name, dst_dir_fd=inside)
        os.fsync(inside)
    finally:
        os.close(inside)


def _own_folder(name: str, inside: int) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    try:
        return os.open(name, flags, dir_fd=inside)
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENOTDIR):
            raise
        os.unlink(name, dir_fd=inside)
    os.mkdir(name, dir_fd=inside)
    made = os.open(name, flags, dir_fd=inside)
    os.fchmod(made, 0o755)  # as in make_open
    return made


def _forget(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def read_json(path: str) -> Optional[Any]:
    """The file's JSON, or ``None`` when it is missing or was never finished."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (FileNotFoundError, ValueError):
        return None


class AppStore:
    """The folder of one app: see docs/architecture.md for what is in it."""

    def __init__(self, state_dir: str, app: str) -> None:
        if not NAME.fullmatch(app):
            raise Refusal(wire.BAD_REQUEST, f"{app!r} can't be the name of an app")
        self.app = app
        self.root = os.path.join(state_dir, app)
        self.releases = os.path.join(self.root, "releases")
        self.content = os.path.join(self.root, "content")
        self.current_link = os.path.join(self.root, "current")

    def make(self) -> None:
        """Create the folders that are missing, closed to others."""
        for folder in (self.root, self.releases, self.content):
            os.makedirs(folder, mode=0o700, exist_ok=True)

    def exists(self) -> bool:
        return os.path.isdir(self.root)

    # Releases

    def release_dir(self, release: str) -> str:
        if not RELEASE.fullmatch(release):
            raise Refusal(wire.BAD_REQUEST, f"{release!r} is not a release id")
        return os.path.join(self.releases, release)

    def bundle_dir(self, release: str) -> str:
        return os.path.join(self.release_dir(release), "bundle")

    def manifest(self, release: str) -> Dict[str, Any]:
        """The manifest of a staged release. Raises ``Refusal`` when the host has no such release."""
        found = read_json(os.path.join(self.release_dir(release), "manifest.json"))
        if found is None:
            raise Refusal(
                wire.NO_RELEASE,
                f"there is no release {release} of {self.app} on this host",
                "See `invoke history`.",
            )
        manifest: Dict[str, Any] = found
        return manifest

    def has(self, release: str) -> bool:
        return os.path.exists(os.path.join(self.release_dir(release), "manifest.json"))

    def committed(self, release: str) -> Optional[Dict[str, Any]]:
        """What ran when the release was committed, or ``None`` when it never was."""
        found: Optional[Dict[str, Any]] = read_json(os.path.join(self.release_dir(release), "committed.json"))
        return found

    def kept(self) -> List[str]:
        """The committed releases on this host, oldest first (by the time of their last commit)."""
        try:
            names = [name for name in os.listdir(self.releases) if RELEASE.fullmatch(name)]
        except FileNotFoundError:
            return []
        dated = [(done["at"], name) for name in names for done in [self.committed(name)] if done]
        return [name for _, name in sorted(dated)]

    def current(self) -> Optional[str]:
        """The release that was committed last."""
        try:
            return os.path.basename(os.readlink(self.current_link))
        except FileNotFoundError:
            return None

    def set_current(self, release: Optional[str]) -> None:
        """Point ``current`` elsewhere, atomically. ``None``: nothing runs."""
        if release is None:
            _forget(self.current_link)
        else:
            temporary = self.current_link + ".new"
            _forget(temporary)
            os.symlink(os.path.join("releases", release), temporary)
            os.replace(temporary, self.current_link)
        sync_folder(self.root)

    def write_committed(self, release: str, value: Dict[str, Any]) -> None:
        write(os.path.join(self.release_dir(release), "committed.json"), json.dumps(value).encode())

    def forget_committed(self, release: str) -> None:
        """The release never was good after all: nobody is to go back to it."""
        _forget(os.path.join(self.release_dir(release), "committed.json"))

    # Room for going back

    def reserve(self) -> None:
        """Set some room aside on the disk. Raises ``OSError`` when there is none."""
        path = os.path.join(self.root, "reserve")
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if os.fstat(handle).st_size < _RESERVE:
                os.posix_fallocate(handle, 0, _RESERVE)
        except OSError as error:
            _forget(path)
            raise OSError(error.errno, error.strerror, path) from None
        finally:
            os.close(handle)

    def spend(self) -> None:
        """Give the room that was set aside back to the disk."""
        _forget(os.path.join(self.root, "reserve"))

    # Taking in a bundle

    def receive(self, release: str, manifest: Dict[str, Any], tar: IO[bytes]) -> None:
        """Unpack a bundle's tar and keep it as a release.

        Only what the manifest names is taken, as regular files with the manifest's modes; anything else
        in the tar (links, devices, ``..``) is refused. The release's folder appears as a whole.
        """
        import shutil
        import tarfile
        import tempfile

        self.make()
        target = self.release_dir(release)
        temporary = tempfile.mkdtemp(prefix=".stage-", dir=self.releases)
        try:
            missing = set(manifest["files"])
            with tarfile.open(fileobj=tar, mode="r|") as archive:
                for member in archive:
                    known = manifest["files"].get(member.name)
                    source = archive.extractfile(member) if member.isreg() else None
                    if known is None or source is None or not _plain(member.name):
                        raise Refusal(
                            wire.BAD_REQUEST, f"the bundle has an entry that is not its own: {member.name!r}"
                        )
                    base = os.path.join(temporary, known["kind"])
                    _copy(source, os.path.join(base, member.name), int(known["mode"], 8))
                    missing.discard(member.name)
            if missing:
                raise Refusal(wire.BAD_REQUEST, f"the bundle came without {', '.join(sorted(missing)[:3])}")
            os.makedirs(os.path.join(temporary, "release"), exist_ok=True)
            os.rename(os.path.join(temporary, "release"), os.path.join(temporary, "bundle"))
            self._keep_content(os.path.join(temporary, "content"))
            write(os.path.join(temporary, "manifest.json"), json.dumps(manifest).encode())
            if os.path.isdir(target):  # staged before, never committed, perhaps with other secrets' modes
                old = tempfile.mkdtemp(prefix=".old-", dir=self.releases)
                os.rename(target, os.path.join(old, "gone"))
                os.rename(temporary, target)
                shutil.rmtree(old)
            else:
                os.rename(temporary, target)
            os.chmod(target, 0o700)
            sync_folder(self.releases)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise

    def _keep_content(self, staged: str) -> None:
        """Move mounted content to the path of its hash; what is there already is the same."""
        import shutil

        if not os.path.isdir(staged):
            return
        for name in os.listdir(staged):
            target = os.path.join(self.content, name)
            if os.path.isdir(target):
                continue
            os.rename(os.path.join(staged, name), target)
        sync_folder(self.content)
        shutil.rmtree(staged)

    # Housekeeping

    def collect(self, keep: int) -> List[str]:
        """Remove the releases beyond the last ``keep`` committed ones, and content that none of the rest
        mounts. Never the current one. Returns the ids of what went."""
        import shutil

        wanted = set(self.kept()[-max(keep, 1) :])
        current = self.current()
        if current:
            wanted.add(current)
        gone = []
        used = set()
        for name in sorted(os.listdir(self.releases)):
            path = os.path.join(self.releases, name)
            if name in wanted:
                used |= _mounted(read_json(os.path.join(path, "manifest.json")) or {})
            else:
                shutil.rmtree(path, ignore_errors=True)
                if RELEASE.fullmatch(name):
                    gone.append(name)
        for name in os.listdir(self.content):
            if name not in used:
                shutil.rmtree(os.path.join(self.content, name), ignore_errors=True)
        return gone


def _mounted(manifest: Dict[str, Any]) -> set:  # type: ignore[type-arg]
    files: Dict[str, Any] = manifest.get("files", {})
    return {path.split("/", 1)[0] for path, file in files.items() if file["kind"] == "content"}


def _plain(name: str) -> bool:
    parts = name.split("/")
    return (
        not name.startswith("/") and all(part not in ("", ".", "..") for part in parts) and "\0" not in name
    )


def _copy(source: IO[bytes], path: str, mode: int) -> None:
    import shutil

    make_open(os.path.dirname(path))
    with open(path, "xb") as out:
        os.fchmod(out.fileno(), mode)
        shutil.copyfileobj(source, out, _CHUNK)
        out.flush()
        os.fsync(out.fileno())
