"""The switch: from one release to another, and back.

Each method writes to the journal before it changes anything, so that whoever comes next, in this session
or after a power cut, knows what was begun.
"""

import os
import time
from typing import Any, Dict, List, Optional

from longshore.agent import wire
from longshore.agent.compose import Compose
from longshore.agent.engine import PROJECT, Engine
from longshore.agent.fail import Refusal
from longshore.agent.health import Emit, Watch, containers
from longshore.agent.journal import COMMIT, REVERTED, Journal, Lines
from longshore.agent.store import AppStore

APP_LABEL = "longshore.app"


class Switch:
    """Moves one app on this host between releases."""

    def __init__(self, engine: Engine, store: AppStore, emit: Emit, run: str) -> None:
        self.engine = engine
        self.store = store
        self.emit = emit
        self.run = run
        self.journal = Journal(store.root)
        self.history = Lines(os.path.join(store.root, "history.jsonl"))

    def compose(self, release: str) -> Compose:
        return Compose(self.store.manifest(release), self.store.bundle_dir(release))

    def _line(self, text: str) -> None:
        self.emit("compose", line=text)

    def begin(self, release: str) -> None:
        """Write down that we go to ``release``. Nothing when this run has already begun it."""
        if not self.store.has(release):
            raise Refusal(
                wire.NOT_STAGED, f"release {release} of {self.store.app} is not staged on this host"
            )
        open_switch = self.journal.unfinished()
        if open_switch is None:
            self.journal.begin(self.store.current(), release, self.run)

    def migrate(self, args: Dict[str, Any]) -> Dict[str, Any]:
        """Run a one-off command of the new release, its dependencies started first.

        What those need to become the new release's is a change of the host, so the journal knows first.
        """
        release = args["release"]
        self.begin(release)
        name = f"{self.store.manifest(release)['project']}-longshore-{self.run}"
        output: List[str] = []

        def keep(line: str) -> None:
            output.append(line)
            del output[:-200]
            self.emit("output", service=args["service"], line=line)

        code = self.compose(release).one_off(
            args["service"], list(args["command"]), name, keep, float(args["timeout"]), with_dependencies=True
        )
        if code:
            command = " ".join(args["command"])
            raise Refusal(
                wire.MIGRATION_FAILED,
                f"the migration `{command}` in {args['service']} failed with code {code}",
                "",
                {"log": output[-30:], "exit_code": code, "service": args["service"]},
            )
        return {"code": 0}

    def switch(self, release: str) -> Dict[str, Any]:
        """Make ``release`` run: Compose replaces what differs, and services it has no more go."""
        self.begin(release)
        self.compose(release).up(self._line)
        self._remove_strangers(release)
        return {"from": self.store.current()}

    def verify(self, release: str) -> Dict[str, Any]:
        """Wait until ``release`` is good. Raises ``Refusal``; going back is the controller's word."""
        return {"containers": Watch(self.engine, self.store.manifest(release), self.emit).run()}

    def commit(self, release: str, facts: Dict[str, Any]) -> Dict[str, Any]:
        """``release`` is the good one from now on. ``facts``: ``by``, ``git``, ``why``, ``seconds``."""
        manifest = self.store.manifest(release)
        running = containers(self.engine, manifest["project"])
        record = {
            "at": time.time(),
            "one_shots": [
                name
                for name, one in sorted(manifest["services"].items())
                if one["one_shot"] or one["may_exit"]
            ],
            "containers": [
                {key: one[key] for key in ("service", "config_hash", "image_id")} for one in running
            ],
        }
        self.store.write_committed(release, record)
        self.store.set_current(release)
        self.journal.end(COMMIT, release, self.run)
        self.note(release, "committed", facts)
        gone = self.store.collect(int(manifest["settings"].get("keep", 5)))
        self.journal.compact()
        return {"removed": gone}

    def revert(self, facts: Dict[str, Any]) -> Dict[str, Any]:
        """Undo an unfinished switch: the last good release runs again, or, where there was none, nothing
        does. Volumes stay. Doing it twice is as doing it once."""
        open_switch = self.journal.unfinished()
        if open_switch is None:
            return {"release": self.store.current(), "reverted": False}
        back: Optional[str] = open_switch.get("from")
        failed = open_switch["to"]
        self.emit("revert", release=back)
        if back is None:
            self.compose(failed).down(self._line)
        else:
            self.compose(back).up(self._line)
            self._remove_strangers(back)
            Watch(self.engine, self.store.manifest(back), self.emit).run()
        self.store.set_current(back)
        self.journal.end(REVERTED, back, self.run)
        self.note(failed, "reverted", facts)
        return {"release": back, "reverted": True}

    def note(self, release: str, outcome: str, facts: Dict[str, Any]) -> None:
        """Add a line to the history."""
        kept = {key: facts.get(key, "") for key in ("by", "git", "why")}
        self.history.append(
            {
                "release": release,
                "outcome": outcome,
                "run": self.run,
                "seconds": facts.get("seconds", 0),
                **kept,
            }
        )

    def _remove_strangers(self, release: str) -> None:
        """Remove containers of ours whose service the release no longer has.

        Not ``--remove-orphans``: that takes a sibling stack's, too, when it shares the project's name.
        """
        manifest = self.store.manifest(release)
        labels = (f"{APP_LABEL}={self.store.app}", f"{PROJECT}={manifest['project']}")
        for raw in self.engine.containers(labels=labels):
            service = (raw.get("Labels") or {}).get("com.docker.compose.service")
            if service not in manifest["services"]:
                self.emit("compose", line=f"{service} is not in this release: removed")
                self.engine.stop(raw["Id"])
                self.engine.remove(raw["Id"])
