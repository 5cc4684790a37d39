"""The agent's session: what is done about each request of the controller."""

import io
import os
import signal
import sys
import threading
from typing import IO, TYPE_CHECKING, Any, Dict, List, Optional

from longshore.agent import preflight, wire
from longshore.agent.engine import Engine, EngineError
from longshore.agent.fail import Refusal
from longshore.agent.guardian import Notes, guarded
from longshore.agent.inspect import inspect
from longshore.agent.lock import Hold, Lock
from longshore.agent.store import AppStore
from longshore.agent.talking import PROGRESS_PAUSE, Talking

if TYPE_CHECKING:
    from longshore.agent.canary import Canary
    from longshore.agent.hidden import Hidden
    from longshore.agent.switch import Switch
    from longshore.agent.work import Work

# Looking at a host is what is asked most, and needs only the above. The rest is imported when it is asked
# for: it is more than half of the agent's start.

_STEPS = {
    wire.SHUT, wire.VERIFY, wire.MIGRATE, wire.CANARY, wire.SWITCH, wire.COMMIT, wire.REVERT, wire.RETURN,
}  # fmt: skip
_IMAGES = {wire.PUT, wire.BUILDER, wire.BUILD, wire.BUILT, wire.LOAD}
_BEGIN = {wire.SHUT, wire.MIGRATE, wire.SWITCH, wire.RETURN}
_NEEDS_LOCK = {
    wire.STAGE, wire.MIGRATE, wire.CANARY, wire.SWITCH, wire.COMMIT, wire.REVERT, wire.RETURN, wire.HOLD,
    wire.DOWN, wire.STOP, wire.START, wire.RESTART, wire.CLEANUP, wire.HOOK,
    wire.MAINTENANCE, wire.PAUSE, wire.SHUT, wire.SEAL, wire.REOPEN, wire.OUT,
}  # fmt: skip


class Agent(Talking):
    """One session, and what it has begun."""

    def __init__(
        self,
        state_dir: str,
        version: str,
        stdin: IO[bytes],
        stdout: IO[bytes],
        notes: Optional[Notes] = None,
    ) -> None:
        super().__init__(version, stdin, stdout)
        self.state_dir = state_dir
        self.notes = notes or Notes()
        self.engine = Engine()
        self.locks: Dict[str, Lock] = {}
        self.run = ""
        self.begun: Dict[str, Dict[str, Any]] = {}
        """App to the release that a step of this session has begun to bring (``release``), and whether it
        runs (``switched``)."""
        self.canaries: Dict[str, Canary] = {}
        """App to the release that runs beside the current one, and may have a part of the requests."""
        self.keep: Dict[str, bool] = {}
        self.facts: Dict[str, Dict[str, Any]] = {}
        """App to whose run it is: ``by``, ``git``."""
        self.work: Optional[Work] = None
        self._hidden: Optional[Hidden] = None
        self._goes_on = False

    def serve(self) -> int:
        """Answer requests until the controller hangs up; then undo what it left unfinished."""
        self.talk()
        self._controller_is_gone()
        if self.work is not None:
            self.work.remove()
        return 0

    def beat(self) -> None:
        for lock in list(self.locks.values()):
            lock.beat()

    def is_bound(self) -> bool:
        return bool(self.locks)

    def answered(self, op: str) -> None:
        if op == wire.PRESENT or self._goes_on:
            # A deploy goes on from here; what it needs next is imported while the controller thinks.
            self._goes_on = False
            threading.Thread(target=_import_steps, daemon=True).start()

    @property
    def hidden(self) -> "Hidden":
        """What of the apps' secrets must not be said."""
        from longshore.agent.hidden import Hidden

        self._hidden = self._hidden or Hidden(self.state_dir)
        return self._hidden

    def masked(self, told: Dict[str, Any]) -> Dict[str, Any]:
        masked: Dict[str, Any] = self.hidden.masks(self.app).value(told)
        return masked

    # The ops

    def handle(self, op: str, args: Dict[str, Any], payload: bytes) -> Any:
        if op == wire.FACTS:
            return preflight.facts(self.engine, self.state_dir)
        if op == wire.PRESENT:
            from longshore.agent.present import present

            return present(self.engine, args["refs"], bool(args.get("layers")))
        if op in _IMAGES:
            return self._images(op, args, payload)
        if op == wire.PROXY:
            from longshore.agent import fronting

            return fronting.handle(self.engine, self.state_dir, args, self.emit)
        if "app" not in args:
            raise Refusal(wire.BAD_REQUEST, f"unknown request {op!r}")
        store = AppStore(self.state_dir, args["app"])
        self.app = store.app
        if op == wire.INSPECT:
            return self._inspect(store, args)
        if op == wire.LOCK:
            return self.lock(store, args)
        if op == wire.UNLOCK:
            # What could not be taken back is not tried again without the lock: the journal has it.
            self.begun.pop(store.app, None)
            self._unlock(store.app)
            return {}
        if op in (wire.LOCKS, wire.UNHOLD):
            return self._holds(op, store)
        only_looks = (op == wire.CLEANUP and args.get("preview")) or (
            op == wire.OUT and args.get("do") == "look"
        )
        if op in _NEEDS_LOCK and store.app not in self.locks and not only_looks:
            raise Refusal(wire.LOCK_LOST, f"this run does not have the lock of {store.app}")
        if op == wire.HOLD:
            return Hold(store.root).put(str(args["by"]), str(args["why"]), float(args.get("seconds") or 0))
        if op == wire.STAGE:
            from longshore.agent.stage import stage

            tar = io.BytesIO(payload) if payload else None
            return stage(self.engine, store, args, tar, self.emit, self.given_up)
        if op == wire.HOOK:
            from longshore.agent.hooks import run_hook

            return run_hook(store, args, payload, self.emit, self.given_up)
        if op in _STEPS:
            return self._step(op, self._switch(store), args)
        from longshore.agent.errands import run

        return run(
            op, args, engine=self.engine, store=store, emit=self.emit, gone=self.gone, hidden=self.hidden
        )

    def _images(self, op: str, args: Dict[str, Any], payload: bytes) -> Any:
        from longshore.agent import images
        from longshore.agent.work import Work

        def work() -> Work:
            self.work = self.work or Work(self.state_dir)
            return self.work

        return images.handle(
            op, args, payload, engine=self.engine, state_dir=self.state_dir, work=work, emit=self.emit,
            gone=self.gone.is_set,
        )  # fmt: skip

    def _switch(self, store: AppStore) -> "Switch":
        # Taking the lock comes through here: whoever holds it has all in memory that going back needs.
        from longshore.agent.switch import Switch

        keep = {**self.facts.get(store.app, {}), "keep": True} if self.keep.get(store.app) else {}
        given_up = None if keep else self.given_up
        return Switch(self.engine, store, self.emit, self.run, keep, given_up)

    def _step(self, op: str, switch: "Switch", args: Dict[str, Any]) -> Any:
        app = switch.store.app
        if op == wire.VERIFY:
            return self._verify(switch, args)
        if op in _BEGIN or (op, args.get("do")) == (wire.CANARY, "begin"):
            from longshore.agent.recovery import settle

            settle(self.state_dir, self.version, bool(args.get("boot", True)))
            self.begun[app] = {"release": args["release"], "switched": False}
        if op == wire.SHUT:
            return switch.close(args)
        if op == wire.MIGRATE:
            return switch.migrate(args)
        if op == wire.CANARY:
            from longshore.agent.canary import handle

            return handle(self.canaries, switch, args)
        canary = self.canaries.pop(app, None)
        if op == wire.SWITCH:
            value = switch.switch(args["release"], canary, args.get("out"))
            self.begun[app]["switched"] = True
            return {**value, **self._verify(switch, args)} if args.get("verify") else value
        if op == wire.COMMIT:
            value = switch.commit(args["release"], args)
        elif op == wire.RETURN:
            value = switch.leave(args)
        else:
            value = switch.revert(args)
        self.begun.pop(app, None)
        return value

    def _verify(self, switch: "Switch", args: Dict[str, Any]) -> Dict[str, Any]:
        self.emit("verify", release=args["release"])
        return switch.verify(args["release"], None if self.keep.get(switch.store.app) else self.given_up)

    def _holds(self, op: str, store: AppStore) -> Dict[str, Any]:
        """LOCKS: ``lock``, who runs something now (``Lock.holder``), and ``hold`` (``Hold.read``).
        UNHOLD: the same, and the hold is gone afterwards. Both work while somebody has the lock."""
        if not store.exists():
            return {"lock": None, "hold": None}
        hold = Hold(store.root)
        return {
            "lock": Lock(store.root).holder(),
            "hold": hold.take_away() if op == wire.UNHOLD else hold.read(),
        }

    def _inspect(self, store: AppStore, args: Dict[str, Any]) -> Dict[str, Any]:
        value = inspect(
            self.engine, store, args["project"], args.get("release"),
            deep=bool(args.get("deep")), explain=args.get("explain"),
        )  # fmt: skip
        if args.get("images") and not (value["good"] and value["current"] == args.get("release")):
            # The question that a deploy would ask next: so it need not.
            from longshore.agent.present import present

            value["present"] = present(self.engine, args["images"], False)
            self._goes_on = True
        return value

    def lock(self, store: AppStore, args: Dict[str, Any]) -> Dict[str, Any]:
        """Take the lock, and undo what a run before left unfinished.

        ``expect``: the release that the plan saw as current. Another one means that the host has moved
        on since, and the plan is void. ``lease``: after so many seconds (of this host's own, that no clock
        can set back) without a word, the controller is taken for dead. 0: only the connection's end is.
        ``pause``: seconds between two lines of progress.
        ``keep``: without the controller, a release that is switched to and good is committed. ``whole``: a
        stored release that is to run again; it is refused when its files were edited.
        """
        store.make()
        lock = self.locks.get(store.app) or Lock(store.root)
        owner = {key: args.get(key, "") for key in ("by", "run", "why", "lease")}
        hold = Hold(store.root)
        hold.check(store.app)  # waiting for a lock that is no use helps nobody
        lock.take(owner, float(args.get("wait") or 0), self.gone.is_set)
        self.locks[store.app] = lock
        self.lease = float(args.get("lease") or 0)
        self.pause = float(args.get("pause") or PROGRESS_PAUSE)
        self.run = str(args.get("run", ""))
        self.keep[store.app] = bool(args.get("keep"))
        self.facts[store.app] = {key: args.get(key, "") for key in ("by", "git")}
        self.begun.pop(store.app, None)
        try:
            hold.check(store.app)
            self.notes.took(store.app, self.run)
            from longshore.agent.recovery import recover  # late, with all that going back needs

            recovered = recover(self._switch(store), str(args.get("by", "")))
            current = store.current()
            if "expect" in args and args["expect"] != current:
                raise Refusal(
                    wire.MOVED_ON,
                    f"the host has moved on: {current or 'nothing'} runs, the plan was made for"
                    f" {args['expect'] or 'nothing'}",
                    "Run it again.",
                )
            from longshore.agent import out

            if "whole" in args:
                from longshore.agent.edited import check_whole

                check_whole(self.engine, store, str(args["whole"]))
        except BaseException:
            self._unlock(store.app)
            raise
        return {
            "current": current,
            "recovered": recovered["reverted"],
            "trouble": recovered.get("trouble", ""),
            "out": out.by_hand(store),
            "in_for": out.in_for(store),
        }

    def _unlock(self, app: str) -> None:
        lock = self.locks.pop(app, None)
        if lock:
            self._come_back(AppStore(self.state_dir, app))
            lock.release()

    def _come_back(self, store: AppStore) -> None:
        """What this run took out of the load balancer is in again, whatever became of the run."""
        from longshore.agent import out

        if out.state_of(store) is not None:
            from longshore.agent import leaving

            leaving.settle(self.engine, store, self.emit)

    def _controller_is_gone(self) -> None:
        """The connection ended. A switch that was begun and not committed is taken back, or kept where that
        was asked for and the new release is good."""
        for app, begun in list(self.begun.items()):
            switch = self._switch(AppStore(self.state_dir, app))
            facts = self.facts.get(app, {})
            try:
                if self.keep.get(app) and begun["switched"] and self._kept(switch, begun["release"], facts):
                    continue
                switch.revert({**facts, "why": "the connection to the controller was lost"})
            except (Refusal, EngineError, OSError):
                pass  # the journal still says so: the next one who takes the lock tries again
        for app in list(self.locks):
            self._open(AppStore(self.state_dir, app))
            self._unlock(app)

    def _open(self, store: AppStore) -> None:
        """Its release is committed, and nobody is there any more to open the app."""
        from longshore.agent import maintenance

        if maintenance.state_of(store) is not None:
            from longshore.agent import closing

            closing.settle(self.engine, store, self.emit)

    def _kept(self, switch: "Switch", release: str, facts: Dict[str, Any]) -> bool:
        try:
            switch.keep(release, facts)
            return True
        except (Refusal, EngineError, OSError):
            return False


def _import_steps() -> None:
    from longshore.agent import recovery, stage, switch  # noqa: F401


def _bereaved(state_dir: str, app: str, run: str) -> None:
    from longshore.agent.recovery import bereaved

    bereaved(state_dir, app, run)


def main(argv: List[str]) -> int:
    """Run one session on this process's stdin and stdout. ``argv``: the state folder, our own hash."""
    state_dir, version = argv
    os.umask(0o077)
    for name in ("SIGHUP", "SIGPIPE", "SIGINT"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    if os.getpid() != os.getsid(0):
        try:
            os.setsid()  # the connection's end must not end us in the middle of a step
        except PermissionError:
            pass
    os.chdir("/")
    notes = Notes()
    if not guarded(notes, lambda app, run: _bereaved(state_dir, app, run)):
        return 1
    code = Agent(state_dir, version, sys.stdin.buffer, sys.stdout.buffer, notes).serve()
    # Not by way of Python's own end: the thread that listens may be in the middle of a read, and then that is
    # an abort, whose core dump would hold all that we had in memory.
    os._exit(code)
