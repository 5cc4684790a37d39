"""The story of a rollout: lock, stage, migrate once, switch and verify, smoke, then commit everywhere.

If anything fails before the commit, every host that was switched goes back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from longshore.agent import wire
from longshore.console import Output, bytes_text
from longshore.errors import DeployError, HostError, LongshoreError
from longshore.remote.session import Event, Session
from longshore.render.pack import pack
from longshore.roles import HookName
from longshore.rollout.hooks import run_hooks, run_role_checks, tell_hooks
from longshore.rollout.moves import HostReport, Move, Report, State, Story
from longshore.rollout.pulse import Pulse


class _StoppedError(Exception):
    """A step failed somewhere; the rollout goes no further."""


class Rollout:
    """One run of one app over its hosts. ``sessions`` are open; the caller closes them."""

    def __init__(self, story: Story, sessions: Mapping[str, Session], output: Output) -> None:
        self.story = story
        self.sessions = sessions
        self.output = output
        self.failed: dict[str, LongshoreError] = {}
        self.problems: list[LongshoreError] = []
        self.locked: set[str] = set()
        self.begun: set[str] = set()
        self.committed: set[str] = set()
        self.taken_back: set[str] = set()
        self.noted: set[str] = set()
        self.migrated = False
        self.abandoned = False
        self.started = time.monotonic()

    def run(self) -> Report:
        """Carry it out and report. Raises nothing but what is a defect of ours; a host's failure is in
        the report. A second Ctrl-C is raised: the hosts go back when their sessions end."""
        moves = self.story.moves
        pulse = Pulse(self.sessions.values(), every=self.story.lease / 4)
        try:
            self._everywhere(moves, self._lock, note=self.locked)
            self._everywhere(moves, self._stage)
            first = [move for move in moves if move.host in self.story.first]
            rest = [move for move in moves if move.host not in self.story.first]
            self._everywhere(first, self._switch, before=self.begun)
            self._migrate(rest)
            self._everywhere(rest, self._switch, before=self.begun)
            self._smoke()
            self._everywhere(moves, self._commit, note=self.committed)
            self._tell_hooks("after_commit", self.committed)
        except _StoppedError:
            self._take_back()
        except KeyboardInterrupt:
            if self.abandoned:
                raise
            self.problems.append(DeployError("stopped by Ctrl-C."))
            self._take_back()
        finally:
            pulse.stop()
        self._unlock()
        return self._report()

    # The steps, each on one host

    def _lock(self, move: Move, session: Session) -> None:
        args = {**self._args(move), **self.story.facts.args(), "expect": move.expect}
        args |= {"wait": self.story.wait, "lease": self.story.lease}
        answer = session.call(wire.LOCK, args, timeout=self.story.wait + 300)
        if answer["recovered"]:
            self.output.say(f"{move.host}: a run before this one had ended in the middle; that was undone.")

    def _stage(self, move: Move, session: Session) -> None:
        if move.bundle is None:
            return
        run_hooks("before_stage", move, self.story, session, self.output)
        self.output.step(move.host, "staging", move.release)
        session.call(
            wire.STAGE,
            {**self._args(move), "manifest": move.bundle.manifest(), "auth": self.story.auth},
            payload=b"" if move.staged else pack(move.bundle),
            on_event=self._teller(move),
        )

    def _switch(self, move: Move, session: Session) -> None:
        run_hooks("before_switch", move, self.story, session, self.output)
        self.output.step(move.host, "switching", move.release)
        session.call(wire.SWITCH, self._args(move), on_event=self._teller(move))
        self.output.step(move.host, "verifying", move.release)
        session.call(wire.VERIFY, self._args(move), on_event=self._teller(move))
        run_hooks("after_switch", move, self.story, session, self.output)
        self.output.step(move.host, "healthy", move.release)

    def _commit(self, move: Move, session: Session) -> None:
        seconds = round(time.monotonic() - self.started, 3)
        session.call(wire.COMMIT, {**self._args(move), **self.story.facts.args(), "seconds": seconds})

    def _revert(self, move: Move, session: Session) -> None:
        self.output.step(move.host, "going back")
        why = "; ".join(str(error) for error in [*self.failed.values(), *self.problems])[:500]
        args = {**self._args(move), **self.story.facts.args(), "why": self.output.masks.text(why)}
        session.call(wire.REVERT, args, on_event=self._teller(move))

    # The steps, over the fleet

    def _migrate(self, moves: Iterable[Move]) -> None:
        """Once, on the first host that runs the migrating service."""
        migrate = self.story.migrate
        on = [move for move in moves if migrate and migrate.service in move.services]
        if migrate is None or not on:
            return
        args = {"service": migrate.service, "command": list(migrate.command), "timeout": migrate.timeout}

        def step(move: Move, session: Session) -> None:
            self.output.step(move.host, "migrating", " ".join(migrate.command))
            session.call(wire.MIGRATE, {**self._args(move), **args}, on_event=self._teller(move))

        self._everywhere(on[:1], step, before=self.begun)
        self.migrated = True

    def _smoke(self) -> None:
        from longshore.verify import run_checks  # late: a run with nothing to do never comes here

        checks = [check for move in self.story.moves for check in move.smoke]
        for result in run_checks(checks):
            if result.ok:
                self.output.say(f"smoke test {result.name}: ok in {result.seconds * 1000:.0f} ms")
            else:
                self.problems.append(DeployError(f"the smoke test {result.name!r} failed: {result.why}."))
        for move in self.story.moves:
            self.problems += run_role_checks(move, self.story)
        if self.problems:
            raise _StoppedError

    def _tell_hooks(self, name: HookName, hosts: set[str]) -> None:
        """Hooks after the fact: one that fails is told, and changes nothing."""
        moves = [move for move in self.story.moves if move.host in hosts]
        usable = {host: session for host, session in self.sessions.items() if host in self.locked}
        why = "; ".join(str(error) for error in [*self.failed.values(), *self.problems])
        tell_hooks(name, moves, self.story, usable, self.output, error=why)

    def _take_back(self) -> None:
        """Every host that was begun and not committed goes back to what it ran."""
        self._tell_hooks("on_failure", {move.host for move in self.story.moves})
        moves = [
            move for move in self.story.moves if move.host in self.begun and move.host not in self.committed
        ]
        back: dict[str, LongshoreError] = {}
        self._everywhere(moves, self._revert, note=self.taken_back, errors=back)
        for host, error in back.items():
            self.problems.append(
                HostError(
                    f"could not be taken back: {error}",
                    where=host,
                    hint="Its agent, or the next run, tries again; `invoke status` shows what runs.",
                )
            )
        self._tell_hooks("on_rollback", self.taken_back)

    def _unlock(self) -> None:
        moves = [move for move in self.story.moves if move.host in self.locked]
        self._everywhere(moves, lambda move, session: session.call(wire.UNLOCK, self._args(move)), errors={})

    # Below the story

    def _args(self, move: Move) -> dict[str, Any]:
        return {"app": self.story.app, "release": move.release}

    def _everywhere(
        self,
        moves: Iterable[Move],
        step: Callable[[Move, Session], Any],
        *,
        before: set[str] | None = None,
        note: set[str] | None = None,
        errors: dict[str, LongshoreError] | None = None,
    ) -> None:
        """Run a step on these hosts at once, and wait for all of them.

        ``before`` notes a host as soon as the step may have changed it, ``note`` when it has succeeded.
        Failures go to ``errors``; without it they stop the rollout. Ctrl-C is kept until the step has
        ended: the host would finish it all the same.
        """
        wanted = list(moves)
        if not wanted:
            return
        stop = errors is None
        found = self.failed if errors is None else errors
        interrupted = False
        pool = ThreadPoolExecutor(max_workers=min(len(wanted), self.story.parallel))
        try:
            futures: dict[Future[Any], Move] = {}
            for move in wanted:
                if before is not None:
                    before.add(move.host)
                futures[pool.submit(step, move, self.sessions[move.host])] = move
            pending = set(futures)
            while pending:
                try:
                    done, pending = wait(pending, return_when=FIRST_COMPLETED)
                except KeyboardInterrupt:
                    if interrupted:
                        # The step still waits for the session's answer: nothing else may be asked there.
                        self.abandoned = True
                        self.output.say("The hosts go back alone now; `invoke status` shows when they have.")
                        raise
                    interrupted = True
                    self.output.say(
                        "Ctrl-C: the step is finished, then all goes back. Again: the hosts do that alone."
                    )
                    continue
                for future in done:
                    host = futures[future].host
                    error = future.exception()
                    if error is None:
                        if note is not None:
                            note.add(host)
                    elif isinstance(error, LongshoreError):
                        found[host] = error
                        self.output.step(host, "failed", error.message)
                    else:
                        raise error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        if interrupted:
            raise KeyboardInterrupt
        if stop and found:
            raise _StoppedError

    def _teller(self, move: Move) -> Callable[[Event], None]:
        def tell(event: Event) -> None:
            kind = event["kind"]
            if kind == "pull":
                detail = str(event["image"]).split("@")[0]
                if event["total"]:
                    detail += f" {bytes_text(event['done'])} of {bytes_text(event['total'])}"
                self.output.step(move.host, "pulling", detail)
            elif kind == "health":
                self.output.step(move.host, "verifying", f"{event['service']}: {event['state']}")
            elif kind == "output":
                self.output.step(move.host, "migrating", str(event["line"]))
            elif kind == "compose" and event["line"].strip():
                words = str(event["line"]).split()
                self.output.step(move.host, "switching", " ".join(words[1:]) if len(words) > 2 else words[-1])
            elif kind == "note" and event["message"] not in self.noted:
                self.noted.add(event["message"])  # once, not for each of fifty hosts
                self.output.say(f"note: {event['message']} ({move.host})")

        return tell

    def _report(self) -> Report:
        hosts = []
        for move in self.story.moves:
            state = self._state(move)
            release = move.release if state == "deployed" else move.expect
            hosts.append(HostReport(move.host, state, release, self.failed.get(move.host)))
            self.output.step(move.host, state, release or "")
        return Report(
            self.story.app, tuple(hosts), time.monotonic() - self.started, self.migrated, tuple(self.problems)
        )

    def _state(self, move: Move) -> State:
        if move.host in self.committed:
            return "deployed"
        if move.host in self.failed:
            return "failed"
        return "taken back" if move.host in self.taken_back else "unchanged"
