"""The engine's settings on a host: merged, checked, written, and taken over without stopping anything."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from longshore.bootstrap.host import daemon, folder
from longshore.bootstrap.host.say import Changes, Refusal, note, step
from longshore.bootstrap.host.service import Service, info, running_containers, until
from longshore.bootstrap.host.system import write


class Settings:
    """daemon.json on this host, and what the engine still has to do about it.

    What it has to do is kept in ``pending`` until it is done: a run that breaks off in between leaves a file
    that the engine hasn't read, and the next run would find nothing to change.
    """

    def __init__(self, changes: Changes, service: Service, wanted: Mapping[str, Any], state_dir: str) -> None:
        self._changes, self._service = changes, service
        self._pending = Path(state_dir, "engine.pending")
        self._put = False
        self._old = daemon.read()
        swarm = info().get("Swarm") or {}
        self._merge = daemon.merge(
            self._old,
            wanted,
            flags=daemon.flags_in(service.command_line()),
            swarm=swarm.get("LocalNodeState") not in (None, "", "inactive"),
        )
        for text in self._merge.kept:
            note(f"kept in {daemon.FILE}: {text}")

    def put(self, *, engine: bool) -> None:
        """Write the file where it must change, once. ``engine``: there is one already, which must agree."""
        if not self._merge.keys or self._put:
            return
        self._put = True
        if engine:
            daemon.validate(self._merge.text)
        self._changes.make(f"set in {daemon.FILE}: {'; '.join(self._merge.changes)}", self._write)

    def take_over(self) -> None:
        """Have a running engine use the file: by SIGHUP where that is enough, else by a restart."""
        need = self._need()
        if not need:
            self._done()
        elif need == "reload":
            self._changes.make("reload the engine's settings (nothing stops)", self._reload)
        else:
            self._restart()

    def _write(self) -> None:
        # Only an engine that runs already has something to do; one that starts later reads the file itself.
        birth = self._service.birth()
        if birth:
            need = "reload" if self._merge.reloadable and self._left_over() != "restart" else "restart"
            write(self._pending, json.dumps({"engine": birth, "need": need}).encode(), mode=0o600)
        elif self._service.answers():
            note(
                "the engine's process isn't found, so it isn't told of its new settings: restart it yourself"
            )
        write(daemon.FILE, self._merge.text.encode())

    def _left_over(self) -> str:
        try:
            kept = json.loads(self._pending.read_text())
            return str(kept["need"]) if kept["engine"] == self._service.birth() else ""
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def _need(self) -> str:
        if self._changes.check and self._merge.keys and self._service.birth():
            return "reload" if self._merge.reloadable else "restart"
        return self._left_over()

    def _done(self) -> None:
        if not self._changes.check:
            self._pending.unlink(missing_ok=True)

    def _reload(self) -> None:
        self._service.reload()
        self._service.await_answer()
        self._done()

    def _restart(self) -> None:
        """Restart the engine, if that stops no container."""
        running = running_containers()
        survive = self._survive()
        if running and not survive:
            note(
                f"the new settings take effect when the engine is restarted, which stops {len(running)}"
                " running containers here, because live-restore is off; restart it when that suits"
            )
            return
        kept = f"; {len(running)} running containers stay up (live-restore)" if running else ""
        self._changes.make(f"restart the engine{kept}", self._restart_now)

    def _survive(self) -> bool:
        """Whether containers live through a restart; the running engine is told of live-restore first."""
        if self._changes.check:
            after = {
                **daemon.parse(self._old),
                **(daemon.parse(self._merge.text) if self._merge.text else {}),
            }
            return bool(after.get("live-restore")) or bool(info().get("LiveRestoreEnabled"))
        if not info().get("LiveRestoreEnabled"):
            self._service.reload()
        return until(lambda: bool(info().get("LiveRestoreEnabled")), 5.0)

    def _restart_now(self) -> None:
        before = running_containers()
        # A deploy that is under way would find no engine.
        with folder.locked(self._pending.parent, "the engine isn't restarted now, and its new settings wait"):
            try:
                self._service.restart()
            except Refusal as refusal:
                raise self._taken_back(refusal) from None
        self._done()
        gone = before - running_containers()
        if gone:
            note(f"{len(gone)} containers didn't live through the engine's restart: see `docker ps -a`")

    def _taken_back(self, refusal: Refusal) -> Refusal:
        """The engine doesn't start with the new file: give it the old one back."""
        if not self._merge.keys:
            return refusal
        step("put the old settings back")
        if self._old:
            write(daemon.FILE, self._old.encode())
        else:
            daemon.FILE.unlink(missing_ok=True)
        self._pending.unlink(missing_ok=True)
        try:
            self._service.restart()
            outcome = "the old settings are back, and it runs again"
        except Refusal:
            outcome = "it doesn't come up with the old ones either"
        return Refusal(
            refusal.code, f"{refusal.message} with the new settings; {outcome}", refusal.hint, refusal.log
        )
