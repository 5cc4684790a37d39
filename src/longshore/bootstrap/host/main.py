"""The story of one host: from whatever is there to an engine that deployments can rely on."""

from __future__ import annotations

import errno
import grp
import os
import stat
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from longshore.bootstrap.host import packages, system
from longshore.bootstrap.host.found import Found, look
from longshore.bootstrap.host.say import Changes, Refusal, emit, note
from longshore.bootstrap.host.service import Service
from longshore.bootstrap.host.settings import Settings
from longshore.bootstrap.host.system import run
from longshore.bootstrap.host.versions import version_text


def main(wish: Mapping[str, Any]) -> None:
    """Do what ``wish`` says (``longshore.bootstrap.settings.wish``); the last line sent is its outcome."""
    try:
        emit("result", **bring_up(wish))
    except Refusal as refusal:
        emit("error", code=refusal.code, message=refusal.message, hint=refusal.hint, log=list(refusal.log))
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "the disk is full" if full else str(error.strerror or error)
        place = f" ({error.filename})" if error.filename else ""
        emit(
            "error",
            code="no_space" if full else "os",
            message=f"{what}{place}",
            hint="Free some space and bootstrap again: it goes on where it stopped." if full else "",
            log=[],
        )
    except Exception as error:
        # A defect of ours: the place in the program is what helps to find it.
        log = traceback.format_exc().splitlines()[-12:]
        emit("error", code="internal", message=f"bootstrap broke: {error!r}", hint="", log=log)


def bring_up(wish: Mapping[str, Any]) -> dict[str, object]:
    """Bring the host up and return its versions and what changed. Raises ``Refusal``."""
    system.prepare()
    system.need_root()
    changes = Changes(check=bool(wish["check"]))
    service = Service()
    found = look()
    settings = Settings(changes, service, wish["daemon"], wish["state_dir"])
    _state_dir(changes, Path(wish["state_dir"]))
    # What isn't running starts once, with its settings. An old engine that runs learns of live-restore
    # before its upgrade restarts it.
    upgrade = found.engine and "engine" in found.missing
    if upgrade or not service.answers():
        settings.put(engine=found.engine)
    if upgrade and service.answers():
        settings.take_over()
        note(f"the engine is upgraded from {version_text(found.versions['engine'])}, which restarts it")
    if found.missing:
        packages.complete(
            changes,
            found,
            source=wish["source"],
            repository_url=wish["repository"],
            key=wish["key"],
            lock_timeout=wish["lock_timeout"],
        )
    if not (changes.check and found.missing):
        _started(changes, service)
    settings.put(engine=found.engine)
    settings.take_over()
    if wish["docker_group"]:
        _in_group(changes)
    return _result(changes, service, look() if changes.made else found)


def _state_dir(changes: Changes, path: Path) -> None:
    """Root's own folder, closed to everyone else: releases hold secrets."""
    try:
        there = path.stat()
    except FileNotFoundError:
        changes.make(f"make {path} (0700, root)", lambda: _make_private(path))
        return
    if not stat.S_ISDIR(there.st_mode):
        raise Refusal("state_dir", f"{path} is no folder", "Move it away, or set `state_dir`.")
    if there.st_uid != 0 or there.st_mode & 0o077:
        changes.make(f"close {path} to others (0700, root)", lambda: _close(path))


def _make_private(path: Path) -> None:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)
    _close(path)


def _close(path: Path) -> None:
    os.chown(path, 0, 0)
    path.chmod(0o700)


def _started(changes: Changes, service: Service) -> None:
    if not service.enabled():
        changes.make("have the engine start with the host", service.enable)
    if not service.answers():
        if changes.made and not changes.check:
            service.start()  # part of installing it
        else:
            changes.make("start the engine", service.start)


def _in_group(changes: Changes) -> None:
    """The login user may use the engine without sudo; that is as good as being root."""
    user = os.environ.get("SUDO_USER", "")
    if user in ("", "root"):
        note("the login user is root, who needs no group docker")
        return
    try:
        members = grp.getgrnam("docker").gr_mem
    except KeyError:
        members = []
    if user not in members:
        changes.make(f"add {user} to the group docker (from the next login on)", lambda: _add(user))


def _add(user: str) -> None:
    code, output = run(["usermod", "-aG", "docker", user])
    if code != 0:
        raise Refusal("group", f"{user} can't be added to the group docker: {output.strip()}")


def _result(changes: Changes, service: Service, found: Found) -> dict[str, object]:
    if found.missing and not changes.check:
        raise Refusal("incomplete", f"all is installed, but these don't answer: {', '.join(found.missing)}")
    return {
        "changes": changes.made,
        "engine": service.answers(),
        "versions": {part: version_text(version) for part, version in found.versions.items()},
    }
