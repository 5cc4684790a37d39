"""Recovering at boot: what undoes a run that was under way when the host lost its power.

The program itself comes with the first deploy (:mod:`longshore.agent.recovery`); what starts it is root's.
"""

from __future__ import annotations

import pwd
from pathlib import Path

from longshore.agent.boot import DISABLED, SYSTEMD, Boot
from longshore.bootstrap.host import system
from longshore.bootstrap.host.say import Changes, note


def bring(changes: Changes, state_dir: Path, user: str, *, wanted: bool, root: str = "/") -> None:
    """Have it start at boot, as whoever deploys: ``user``, or else the folder's owner. Or leave it out."""
    boot = Boot(str(state_dir), root=root)
    found = boot.found().by
    if not wanted:
        if found:
            changes.make("don't recover at boot any more", lambda: _remove(boot))
        return
    if found == DISABLED:
        note(f"{boot.name}.service is disabled on this host, and stays so")
        return
    why = boot.obstacle()
    if why:
        note(f"the host doesn't recover by itself when it comes up: {why}")
        return
    name = user or _owner(state_dir)
    if not boot.due(name):
        return

    def set_up() -> None:
        boot.install(lambda path, data, mode: system.write(Path(path), data, mode=mode), name)
        if name != "root":
            boot.out_of_crontab(name)

    how = "a systemd unit" if boot.mechanism() == SYSTEMD else "cron"
    changes.make(f"have the host recover by itself at boot ({how}, {boot.name})", set_up)


def _remove(boot: Boot) -> None:
    boot.remove()


def _owner(state_dir: Path) -> str:
    """Who deploys here: the folder's owner. One that isn't made yet (a check) is going to be root's."""
    try:
        return pwd.getpwuid(state_dir.stat().st_uid).pw_name
    except (OSError, KeyError):
        return "root"
