"""The switch: from one release to another, and back.

Each method writes to the journal before it changes anything, so that whoever comes next, in this session
or after a power cut, knows what was begun. What is committed is what ``current`` points to: until it does,
everything can be taken back, and from then on nothing fails any more.
"""

import errno
import time
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Tuple

from longshore.agent import bluegreen, closing, condition, drift, edited, leaving, wire
from longshore.agent.bluegreen import BlueGreen
from longshore.agent.compose import Compose
from longshore.agent.engine import PROJECT, Engine, EngineError
from longshore.agent.fail import Refusal
from longshore.agent.health import Emit, Watch, containers, still_running
from longshore.agent.history import History
from longshore.agent.journal import COMMIT, REVERTED, Journal
from longshore.agent.store import AppStore

if TYPE_CHECKING:
    from longshore.agent.canary import Canary

APP_LABEL = "longshore.app"
_ENGINE_PATIENCE = 90.0
"""Seconds that going back waits for an engine that is being restarted."""
_AGAIN = 10.0
"""Seconds that containers have to run again at the commit, when the engine was restarted meanwhile."""
_AT_ONCE = 30.0
"""What fails within so many seconds may be an engine that comes up or goes down: it is tried once more."""


class Switch:
    """Moves one app on this host between releases."""

    def __init__(
        self,
        engine: Engine,
        store: AppStore,
        emit: Emit,
        run: str,
        keep: Optional[Dict[str, Any]] = None,
        given_up: Optional[Callable[[], bool]] = None,
    ) -> None:
        """``keep`` (``keep``, ``by``, ``git``): without its controller the host keeps what is good; that
        goes into the journal, for the case that the host itself goes down. ``given_up`` says that the
        controller is lost: nothing is waited for then."""
        self.given_up = given_up
        self.keeping = keep or {}
        self.engine = engine
        self.store = store
        self.emit = emit
        self.run = run
        self.journal = Journal(store.root)
        self.history = History(store.root)

    def compose(self, release: str) -> Compose:
        return Compose(self.store.manifest(release), self.store.bundle_dir(release))

    def _line(self, text: str) -> None:
        self.emit("compose", line=text)

    def begin(self, release: str) -> None:
        """Write down that we go to ``release``, and set aside the room that going back may need. Nothing when
        this run has already begun it."""
        if not self.store.has(release):
            raise Refusal(
                wire.NOT_STAGED, f"release {release} of {self.store.app} is not staged on this host"
            )
        begun = self.journal.unfinished() or {}
        # Another run's, whose end could not be written down, says nothing of where we come from and go to.
        if begun.get("to") != release or begun.get("run") != self.run:
            self.store.reserve()
            known = self.store.committed(release) is not None
            self.journal.begin(self.store.current(), release, self.run, known, self.keeping)

    def migrate(self, args: Dict[str, Any]) -> Dict[str, Any]:
        """Run a one-off command of the new release, its dependencies started first.

        What those need to become the new release's is a change of the host, so the journal knows first.
        """
        release = args["release"]
        self.begin(release)
        self._leave(release, args.get("out"), only=args["service"])
        name = f"{self.store.manifest(release)['project']}-longshore-{self.run}"
        output: List[str] = []

        def keep(line: str) -> None:
            output.append(line)
            del output[:-200]
            self.emit("output", service=args["service"], line=line)

        code = self.compose(release).one_off(
            args["service"], list(args["command"]), name, keep, float(args["timeout"]),
            with_dependencies=True, to_its_end=True,
        )  # fmt: skip
        if code:
            command = " ".join(args["command"])
            raise Refusal(
                wire.MIGRATION_FAILED,
                f"the migration `{command}` in {args['service']} failed with code {code}",
                "",
                {"log": output[-30:], "exit_code": code, "service": args["service"]},
            )
        leaving.settle(self.engine, self.store, self.emit)
        return {"code": 0}

    def _leave(self, release: str, out: Optional[Dict[str, Any]], *, only: str = "") -> None:
        leaving.leave_for(self.engine, self.store, self.emit, release, out, self.given_up, only=only)

    def try_out(self, release: str, out: Optional[Dict[str, Any]] = None) -> Optional["Canary"]:
        """Have ``release`` run beside the current one, which goes on serving, so that it can get a part of
        the requests. ``None`` where none of its services can; then nothing is touched."""
        from longshore.agent.canary import Canary, can_share

        self.begin(release)
        if not can_share(self.store, release):
            return None
        self._leave(release, out)
        manifest = self.store.manifest(release)
        try:
            blue = BlueGreen(self.engine, self.store, release, self.emit, given_up=self.given_up)
            canary = Canary(blue, set(self._astray(manifest)))
        except Refusal as refusal:
            raise condition.with_autopsy(self.engine, manifest, refusal) from None
        leaving.come_back(self.engine, self.store, self.emit)  # there is nothing to compare without requests
        return canary

    def switch(
        self, release: str, canary: Optional["Canary"] = None, out: Optional[Dict[str, Any]] = None
    ) -> Dict[str, Any]:
        """Make ``release`` run: Compose replaces what differs, and services it has no more go. With a
        ``canary`` it runs beside the old already. ``out``: how to leave the load balancer before
        (``leaving.leave``); the host comes back when the release is verified."""
        self.begin(release)
        if canary is None:
            self._leave(release, out)
        began = time.time()
        self._up(release, forward=True, canary=canary)
        bluegreen.settle_certificates(self.engine, self.store, release, self.emit, began)
        if self.keeping:
            self._note_switched(release)
        return {"from": self.store.current()}

    def _astray(self, manifest: Dict[str, Any]) -> Tuple[str, ...]:
        """The services that Compose would take for unchanged though somebody changed them by hand."""
        there = containers(self.engine, manifest["project"])
        found = drift.astray(self.engine, self.store, there, edited.restored(self.store))
        return tuple(name for name in found if name in manifest["services"])

    def _up(self, release: str, *, forward: bool = False, canary: Optional["Canary"] = None) -> None:
        manifest = self.store.manifest(release)
        try:
            names = () if canary else self._astray(manifest)
            if canary is not None:
                canary.take_over()
            elif bluegreen.needed(manifest):
                given_up = self.given_up if forward else None
                blue = BlueGreen(self.engine, self.store, release, self.emit, given_up=given_up)
                blue.bring(set(names), forward=forward)
            else:
                if names:
                    self.compose(release).up(self._line, names, anew=True)
                self.compose(release).up(self._line)
                bluegreen.forget_routes(self.store)
            edited.note_restored(self.store, [])
        except Refusal as refusal:
            raise condition.with_autopsy(self.engine, manifest, refusal) from None
        self._remove_strangers(release)

    def verify(self, release: str, given_up: Optional[Callable[[], bool]] = None) -> Dict[str, Any]:
        """Wait until ``release`` is good, and be in the load balancer again. Raises ``Refusal``; going back
        is the controller's word."""
        Watch(self.engine, self.store.manifest(release), self.emit, given_up).run()
        leaving.come_back(self.engine, self.store, self.emit)
        return {}

    def commit(self, release: str, facts: Dict[str, Any], outcome: str = "committed") -> Dict[str, Any]:
        """``release`` is the good one from now on. ``facts``: ``by``, ``git``, ``why``, ``seconds``.

        When it raises, nothing is committed, and ``revert`` is still possible.
        """
        manifest = self.store.manifest(release)
        self.engine.wait(_ENGINE_PATIENCE)
        running = still_running(self.engine, manifest, _AGAIN)
        record = {
            "at": self._after_the_others(),
            "run": self.run,
            "one_shots": [
                name
                for name, one in sorted(manifest["services"].items())
                if one["one_shot"] or one["may_exit"]
            ],
            "containers": drift.record(self.engine, running, manifest["services"]),
            "pins": edited.pins_of(self.store, release),
            "seen": time.time(),
            "breaking": closing.is_breaking(self.store, release),
        }
        try:
            self._settle(release, record)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            self.store.spend()
            self._settle(release, record)
        # Committed. What follows is housekeeping: its failure must not look like a commit that was refused.
        self.store.spend()
        self._end(COMMIT, release)
        self._tell(release, outcome, facts)
        gone: List[str] = []
        try:
            gone = self.store.collect(int(manifest["settings"].get("keep", 5)))
            self.journal.compact()
        except OSError as error:
            self.emit("note", message=f"old releases could not be removed: {error.strerror or error}")
        return {"removed": gone}

    def _settle(self, release: str, record: Dict[str, Any]) -> None:
        self.store.write_committed(release, record)
        self.store.set_current(release)

    def _note_switched(self, release: str) -> None:
        """Only a release that runs as a whole may be kept. On a full disk it isn't written: then it isn't."""
        try:
            self.journal.switched(release, self.run)
        except OSError as error:
            self.emit("note", message=f"the journal could not be written: {error.strerror or error}")

    def _end(self, step: str, release: Optional[str]) -> None:
        """Close the journal's open switch. On a full disk it stays open: the next run that takes the lock
        sees by ``current`` what is to be done, which is nothing."""
        try:
            self.journal.end(step, release, self.run)
        except OSError as error:
            self.emit("note", message=f"the journal could not be written: {error.strerror or error}")

    def finish(self) -> None:
        """What a run before this one had committed is closed in the journal, and open to requests."""
        open_switch = self.journal.unfinished()
        if open_switch is not None and open_switch["to"] != open_switch.get("from"):
            release = open_switch["to"]
            if self.store.current() == release and self.store.committed(release) is not None:
                self._end(COMMIT, release)
                facts = {"by": "", "why": "the run that committed it ended before it could say so"}
                self._tell(release, "committed", facts)
        closing.settle(self.engine, self.store, self.emit)

    def close(self, args: Dict[str, Any]) -> Dict[str, Any]:
        """Close the app for a release with a breaking migration (``closing.close``)."""
        self.begin(args["release"])
        return closing.close(self.engine, self.store, self.emit, args)

    def _after_the_others(self) -> float:
        """Now; but later than every release that was committed before, also when the clock was set back."""
        others = [self.store.committed(name) or {} for name in self.store.kept()[-1:]]
        return max([time.time(), *(float(one.get("at", 0)) + 0.001 for one in others)])

    def revert(self, facts: Dict[str, Any], *, unwell_is_back: bool = False) -> Dict[str, Any]:
        """Undo an unfinished switch: the last good release runs again, or, where there was none, nothing
        does. Volumes stay. Doing it twice is as doing it once.

        Raises ``Refusal`` (NOT_TAKEN_BACK) with what runs now. With ``unwell_is_back`` a release that is back
        and not healthy is no error but ``trouble``, a sentence in the answer: whoever takes the lock next may
        be bringing what mends it. ``facts`` may have ``out``: how to leave the load balancer before. Whatever
        comes of it, the host is in again: its own health is what a balancer hears then.
        """
        try:
            return self._revert(facts, unwell_is_back=unwell_is_back)
        finally:
            leaving.settle(self.engine, self.store, self.emit)

    def _revert(self, facts: Dict[str, Any], *, unwell_is_back: bool) -> Dict[str, Any]:
        open_switch = self.journal.unfinished()
        if open_switch is None:
            return {"release": self.store.current(), "reverted": False}
        back: Optional[str] = open_switch.get("from")
        failed = open_switch["to"]
        self.emit("revert", release=back)
        self.store.spend()
        trouble = ""
        try:
            self._bring_back(back, failed, facts.get("out"))
        except (Refusal, EngineError, OSError) as error:
            problem = condition.as_refusal(error)
            if not unwell_is_back or problem.code in (wire.NO_ENGINE, wire.NO_SPACE, wire.NO_PERMISSION):
                raise self._not_back(back, failed, problem) from error
            trouble = problem.message
        self._settle_back(back, failed, bool(open_switch.get("known", True)))
        self._tell(failed, "reverted", facts)
        more = {"trouble": trouble} if trouble else {}
        return {"release": back, "reverted": True, **closing.told(self.store), **more}

    def _bring_back(self, back: Optional[str], failed: str, out: Optional[Dict[str, Any]] = None) -> None:
        if not closing.sealed(self.store):
            leaving.leave_to_go_back(self.engine, self.store, self.emit, back, failed, out, self.given_up)
        for last in (False, True):
            started = time.monotonic()
            try:
                self.engine.wait(_ENGINE_PATIENCE)
                if closing.sealed(self.store):
                    closing.stop(self.engine, self.store, self.emit)
                elif back is None:
                    bluegreen.forget_routes(self.store)
                    self.compose(failed).down(self._line)
                else:
                    self._up(back)
                    self.verify(back)
                return
            except (Refusal, EngineError, OSError):
                if last or time.monotonic() - started > _AT_ONCE:
                    raise

    def _settle_back(self, back: Optional[str], failed: str, known: bool) -> None:
        """Write down that we are back, as far as the disk has room."""
        try:
            if self.store.current() != back:
                self.store.set_current(back)
            if not known and failed != back:
                self.store.forget_committed(failed)
        except OSError as error:
            self.emit("note", message=f"that it went back could not be written down: {error.strerror}")
            return
        self._end(REVERTED, back)
        if not closing.sealed(self.store):
            closing.reopen_quietly(self.engine, self.store, self.emit)

    def _not_back(self, back: Optional[str], failed: str, problem: Refusal) -> Refusal:
        state = condition.condition(self.engine, self.store, back, failed)
        return Refusal(
            wire.NOT_TAKEN_BACK,
            f"could not be taken back to {back or 'nothing'}: {problem.message}",
            "",
            {**problem.detail, "reason": problem.code, "state": state},
        )

    def leave(self, args: Dict[str, Any]) -> Dict[str, Any]:
        """Leave a release that this run has committed, because another host could not commit it.

        ``release`` is that one, ``to`` the one before it, or ``None``; ``by``, ``git``, ``why``. A switch
        like any other: until it is done the journal says that it was begun, and ``revert`` goes to
        ``release``.
        """
        release, to = args["release"], args.get("to")
        if self.store.current() != release:
            raise Refusal(wire.MOVED_ON, f"release {release} is not the current one here")
        self.store.reserve()
        self.journal.begin(release, to or release, self.run, known=True)
        try:
            self._bring_back(to, release, args.get("out"))
        except (Refusal, EngineError, OSError) as error:
            raise self._not_back(to, release, condition.as_refusal(error)) from error
        finally:
            leaving.settle(self.engine, self.store, self.emit)
        self._settle_back(to, release, known=to is not None)
        self.store.spend()
        self._tell(release, "reverted", args)
        if to is not None:
            self._tell(to, "committed", {**args, "why": f"back from {release}"})
        return {"release": to, **closing.told(self.store)}

    def keep(
        self, release: str, facts: Dict[str, Any], why: str = "the controller was lost; the release is good"
    ) -> None:
        """The controller is lost after the switch: commit ``release`` without it, if it is good.

        Raises ``Refusal`` when it isn't.
        """
        self.verify(release)
        self.commit(release, {**facts, "why": why}, "kept")
        closing.settle(self.engine, self.store, self.emit)

    def _tell(self, release: str, outcome: str, facts: Dict[str, Any]) -> None:
        """A line for the history, where the disk has room for it."""
        try:
            self.note(release, outcome, facts)
        except OSError as error:
            self.emit("note", message=f"the history could not be written: {error.strerror or error}")

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
