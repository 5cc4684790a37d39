"""The story of one host: from whatever is there to an engine that deployments can rely on."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from longshore.bootstrap.host import boot, emulation, folder, images, packages, system, user
from longshore.bootstrap.host.found import Found, look
from longshore.bootstrap.host.say import Changes, Refusal, emit, note
from longshore.bootstrap.host.service import Service
from longshore.bootstrap.host.settings import Settings
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
    state_dir, name = Path(wish["state_dir"]), wish["user"]
    wanted = images.with_store(wish["daemon"]) if wish.get("store") else wish["daemon"]
    settings = Settings(changes, service, wanted, wish["state_dir"])
    images.trust(changes, wish.get("certificates") or {})
    if name:
        folder.need_free(state_dir, name)
        user.bring(changes, name)
    # A folder in use changes hands last: until then, deploying goes on as it was.
    in_use = bool(name) and state_dir.exists()
    if not in_use:
        folder.bring(changes, state_dir, name)
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
    emulation.bring(changes, wish.get("emulate") or (), lock_timeout=wish["lock_timeout"])
    if name:
        user.join_docker(changes, name)
    if wish["docker_group"]:
        _login_joins(changes)
    if in_use:
        folder.bring(changes, state_dir, name)
    boot.bring(changes, state_dir, name, wanted=bool(wish.get("recover_at_boot", True)))
    return _result(changes, service, look() if changes.made else found)


def _started(changes: Changes, service: Service) -> None:
    if not service.enabled():
        changes.make("have the engine start with the host", service.enable)
    if not service.answers():
        if changes.made and not changes.check:
            service.start()  # part of installing it
        else:
            changes.make("start the engine", service.start)


def _login_joins(changes: Changes) -> None:
    """The login user may use the engine without sudo; that is as good as being root."""
    login = user.came_as()
    if login.pw_uid == 0:
        note("the login user is root, who needs no group docker")
    else:
        user.join_docker(changes, login.pw_name)


def _result(changes: Changes, service: Service, found: Found) -> dict[str, object]:
    if found.missing and not changes.check:
        raise Refusal("incomplete", f"all is installed, but these don't answer: {', '.join(found.missing)}")
    return {
        "changes": changes.made,
        "engine": service.answers(),
        "versions": {part: version_text(version) for part, version in found.versions.items()},
    }
