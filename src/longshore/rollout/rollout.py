"""The story of a rollout: lock, stage, migrate once, switch and verify batch after batch, smoke, then commit.

If anything fails before the last commit, every host goes back to what it ran; but for the few that
``max_fail`` allows, which go back alone.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from longshore.agent import wire
from longshore.agent.shorten import first
from longshore.console import Output
from longshore.errors import ConnectionLostError, DeployError, LongshoreError
from longshore.inventory.model import SmokeCheck
from longshore.remote.session import Session
from longshore.roles import HookName
from longshore.rollout import words
from longshore.rollout.batches import batches, before_migration, parts, smokes_after
from longshore.rollout.canary import Canary
from longshore.rollout.crew import Crew
from longshore.rollout.hooks import run_role_checks, tell_hooks
from longshore.rollout.lost import Reopen, find_again, is_lost
from longshore.rollout.moves import HostReport, Move, Report, State, Story
from longshore.rollout.pulse import Pulse
from longshore.rollout.steps import Steps

_SOON = 5.0
"""Seconds in which a host that was lost before the commit is tried to reach: it goes back in any case."""
_LATER = 30.0
"""Seconds beyond its lease in which one that was lost at the commit is tried to reach."""


class _StoppedError(Exception):
    """The rollout goes no further."""


class Rollout:
    """One run of one app over its hosts. ``sessions`` are open; the caller closes them.

    ``reopen`` opens a new session with a host that was lost; without it, lost hosts are left to their agents.
    ``ask`` puts a question to the person, for ``confirm``; without it there is nobody to ask.
    """

    def __init__(
        self,
        story: Story,
        sessions: Mapping[str, Session],
        output: Output,
        *,
        reopen: Reopen | None = None,
        ask: Callable[[str], bool] | None = None,
    ) -> None:
        self.story = story
        self.output = output
        self.steps = Steps(story, sessions, output)
        self.crew = Crew(min(story.parallel, len(self.steps.sessions)), output)
        self.pulse: Pulse | None = None
        self.reopen = reopen
        self.ask = ask
        self.failed: dict[str, LongshoreError] = {}
        self.problems: list[LongshoreError] = []
        self.locked: set[str] = set()
        self.begun: set[str] = set()
        self.committed: set[str] = set()
        self.taken_back: set[str] = set()
        self.unknown: set[str] = set()
        """Hosts that were lost at the commit: which release they run is not known."""
        self.migrated = False
        self.sealed = False
        """A breaking migration has begun: the schema may be the new one."""
        self.settled = False
        """All is committed that will be: nothing is taken back any more."""
        self.started = time.monotonic()

    def run(self) -> Report:
        """Carry it out and report. Raises nothing but what is a defect of ours; a host's failure is in
        the report. A second Ctrl-C is raised: the hosts go back when their sessions end."""
        hosts = self._lockable()
        self.pulse = Pulse([self.steps.sessions[host] for host in hosts], every=self.story.lease / 4)
        try:
            try:
                self._lock(hosts)
                self._tolerantly(self._moving(), self.steps.stage)
                self._all(self._to_close(), self.steps.close)
                self.steps.leave_together(before_migration(self.story))
                self._all(before_migration(self.story), self.steps.switch)
                self._migrate()
                self._switch_in_batches()
                self._commit()
                self._open()
                self._tell_hooks("after_commit", self.committed)
            except _StoppedError:
                self._take_back()
            except KeyboardInterrupt:
                if self.crew.abandoned:
                    raise
                if not self.settled:
                    self.problems.append(DeployError("stopped by Ctrl-C."))
                    self._take_back()
            self.crew.each(self.locked, self._unlock, then="")
        finally:
            self.pulse.stop()
            self.crew.close()
        return self._report()

    # The story's parts

    def _lockable(self) -> tuple[str, ...]:
        """All of the app's hosts that there is a session with, whatever is to be done on them."""
        known = self.story.hosts or tuple(self.steps.moves)
        return tuple(host for host in known if host in self.steps.sessions)

    def _lock(self, hosts: tuple[str, ...]) -> None:
        """The first host alone, then the rest: of two runs one gets all of them, and not each a half."""
        for part in (hosts[:1], hosts[1:]):
            errors = self.crew.each(part, self.steps.lock, note=self.locked)
            for host, error in errors.items():
                if host in self.steps.moves:
                    self.failed[host] = error
                elif words.is_locked(error):
                    self.problems.append(error)
                else:
                    self.output.say(f"note: {host} is not part of this run, and was not locked: {error}")
            if self.failed or self.problems:
                raise _StoppedError

    def _migrate(self) -> None:
        """Once, on the first host that runs the migrating service."""
        migrate = self.story.migrate
        first = before_migration(self.story)
        on = [
            host
            for host in self._moving()
            if migrate and host not in first and migrate.service in self.steps.moves[host].services
        ]
        if migrate is None or not on:
            return
        if self.story.closing is not None:
            self.sealed = True
            self._all(self._moving(), lambda host: self.steps.seal(host, True))
        self.steps.leave_together(on[:1], tell=False)
        self._all(on[:1], lambda host: self.steps.migrate(host, migrate))
        self.migrated = True

    def _to_close(self) -> tuple[str, ...]:
        """All hosts, before a breaking migration: the old release must not meet the new schema anywhere."""
        closing = self.story.closing
        return tuple(host for host in self._moving() if closing is not None and host in closing.hosts)

    def _open(self) -> None:
        """Every host that is closed has committed: it may answer again."""
        errors = self.crew.each(self._to_close(), self.steps.open, then="")
        self.problems += [words.not_opened(error, self.story) for error in errors.values()]

    def _undo_migration(self) -> None:
        """Make the schema the old one again, where the inventory says how: then the old release may run."""
        migrate = self.story.migrate
        if migrate is None or not migrate.back or self.committed:
            return
        hosts = [host for host in self.steps.moves if host in self.begun & self.locked]
        back = replace(migrate, command=migrate.back)
        on = [host for host in hosts if migrate.service in self.steps.moves[host].services]
        # Nothing may use the schema meanwhile: what was switched to already stops.
        errors = self.crew.each(hosts, self.steps.close, then="")
        if on and not errors:
            errors = self.crew.each(on[:1], lambda host: self.steps.migrate(host, back), then="")
        if on and not errors:
            errors = self.crew.each(hosts, lambda host: self.steps.seal(host, False), then="")
        self.problems += errors.values()

    def _switch_in_batches(self) -> None:
        all_batches = batches(self.story)
        count = len(all_batches)
        for number, batch in enumerate(all_batches, 1):
            moving = self._moving()
            wanted = [host for host in batch if host in moving]
            if count > 1:
                if number > 1:
                    self._between(number, count, wanted)
                self.output.say(f"batch {number} of {count}: {', '.join(wanted) or 'no host is left of it'}")
            self._switch(wanted)
            if smokes_after(number, count):
                self._smoke(all_batches[:number])

    def _switch(self, hosts: list[str]) -> None:
        """Switch these hosts; with a canary, when the release has proved itself on them."""
        self.steps.leave_together(hosts)
        traffic = self.story.policy.traffic
        if traffic.wanted:
            self._tolerantly(hosts, self.steps.run_beside, begins=True)
            shared = [host for host in self._moving() if self.steps.beside.get(host)]
            shared = [host for host in shared if host in hosts]
            try:
                Canary(self.steps, self.crew, self.output, traffic, self._tolerantly).run(
                    shared, self._moving
                )
            except DeployError as error:
                self.problems.append(error)
                raise _StoppedError from None
            moving = self._moving()
            hosts = [host for host in hosts if host in moving]
        self._tolerantly(hosts, self.steps.switch, begins=True)

    def _between(self, number: int, count: int, coming: list[str]) -> None:
        """Wait, ask, and see that what was switched is still good: that is what the waiting is for."""
        policy = self.story.policy
        if policy.pause:
            self.output.say(f"batch {number} of {count} comes in {policy.pause:g} s")
            time.sleep(policy.pause)
        if policy.confirm:
            question = f"Batch {number - 1} of {count} is good. Go on with {', '.join(coming)}?"
            if self.ask is None or not self.ask(question):
                self.problems.append(DeployError(f"stopped before batch {number}: nobody said yes"))
                raise _StoppedError
        if policy.pause or policy.confirm:
            self._all([host for host in self._moving() if host in self.begun], self.steps.verify)

    def _smoke(self, done: Iterable[tuple[str, ...]]) -> None:
        from longshore.verify import distinct, run_checks  # late: a run with nothing to do never comes here

        switched = {*before_migration(self.story), *(host for batch in done for host in batch)}
        moves = [self.steps.moves[host] for host in self._moving() if host in switched]
        problems: list[LongshoreError] = []
        checks = [self._let_through(check) for move in moves for check in move.smoke]
        for result in run_checks(distinct(checks)):
            if result.ok:
                self.output.say(f"smoke test {result.name}: ok in {result.seconds * 1000:.0f} ms")
            else:
                problems.append(DeployError(f"the smoke test {result.name!r} failed: {result.why}."))
        for move in moves:
            problems += run_role_checks(move, self.story, self.output)
        self.problems += problems
        if problems:
            raise _StoppedError

    def _let_through(self, check: SmokeCheck) -> SmokeCheck:
        """The check, so that maintenance is none for it."""
        closing = self.story.closing
        if closing is None or check.url is None:
            return check
        return replace(check, headers={**check.headers, wire.PASSING: closing.token})

    def _commit(self) -> None:
        """Everywhere or nowhere, as far as the hosts can be reached.

        A host that refuses takes the others back, also those that have committed. One that is lost is found
        again and brought forward: the others have the release already, and it was good there, too.
        """
        gone = [host for host in self._moving() if not self.steps.sessions[host].alive()]
        for host in gone:  # nobody has committed yet: all can go back
            self.failed[host] = ConnectionLostError("the connection ended before the commit", where=host)
        if gone:
            raise _StoppedError
        errors = self.crew.each(self._moving(), self.steps.commit, note=self.committed, then="")
        if errors and self.reopen is not None and all(map(is_lost, errors.values())):
            self.steps.leave_together(tuple(errors))
            errors = self.crew.each(errors, self._bring_forward, note=self.committed, then="")
        self.failed |= errors
        # One that isn't locked was not reached again, and is on its own now; as is one that was lost twice.
        if any(host in self.locked and not is_lost(error) for host, error in errors.items()):
            raise _StoppedError
        for host, error in errors.items():
            self.failed[host] = words.lost_at_commit(error, self.steps.moves[host], self.story)
            self.unknown.add(host)
        self.settled = True

    def _bring_forward(self, host: str) -> None:
        """A host that was lost at the commit: see whether it has committed, and if not, do it all again."""
        move = self.steps.moves[host]
        current = self._find(host, self.story.lease + _LATER)
        if current == move.release:
            return
        if current != move.expect:
            raise DeployError(f"the host has moved on meanwhile, to {current or 'nothing'}", where=host)
        self.output.step(host, "switching", move.release)
        self.steps.switch(host)
        self.steps.commit(host)

    def _find(self, host: str, patience: float) -> str | None:
        assert self.reopen is not None
        assert self.pulse is not None
        self.locked.discard(host)
        self.output.step(host, "lost", "trying to reach it again")
        args = self.steps.lock_args()
        session, current = find_again(
            host, self.reopen, args, patience=patience, recovery=self.story.recovery
        )
        self.steps.sessions[host] = session
        self.pulse.add(session)
        self.locked.add(host)
        self.steps.is_in(host)
        return current

    def _take_back(self) -> None:
        """Every host that was begun goes back to what it ran, also one that has committed already."""
        self._tell_hooks("on_failure", set(self.steps.moves))
        if self.sealed:
            self._undo_migration()
        self._go_back([host for host in self.steps.moves if host in self.begun - self.taken_back])
        if self.steps.closed:
            self.problems.append(words.stays_closed(self.story, self.steps.closed))
        self._tell_hooks("on_rollback", self.taken_back - self.steps.closed)

    # Below the story

    def _moving(self) -> tuple[str, ...]:
        """The hosts that are still on their way to the release, in the inventory's order."""
        return tuple(host for host in self.steps.moves if host not in self.failed)

    def _all(self, hosts: Iterable[str], step: Callable[[str], None]) -> None:
        """A step after which these hosts have begun; one that fails stops the rollout."""
        errors = self.crew.each(hosts, step, before=self.begun)
        self.failed |= errors
        if errors:
            raise _StoppedError

    def _tolerantly(self, hosts: Iterable[str], step: Callable[[str], None], *, begins: bool = False) -> None:
        """A step that ``max_fail`` hosts may fail: they go back alone, and the rest goes on."""
        errors = self.crew.each(hosts, step, before=self.begun if begins else None)
        self.failed |= errors
        if errors and (len(self.failed) > self.story.policy.max_fail or not self._moving()):
            raise _StoppedError
        self._go_back([host for host in errors if host in self.begun])

    def _go_back(self, hosts: list[str]) -> None:
        why = "; ".join(str(error) for error in [*self.failed.values(), *self.problems])
        why = first(self.output.masks.text(why), 500)

        def back(host: str) -> None:
            if is_lost(self.failed.get(host)) and self.reopen is not None:
                # Its lock is got when its agent is over, which has gone back then. Unless it had committed.
                if self._find(host, _SOON) == self.steps.moves[host].expect:
                    return
                self.steps.leave(host, why)
            elif host in self.committed:
                self.steps.leave(host, why)
            else:
                self.steps.revert(host, why)

        # Who serves nothing just now comes first: then there are more of those who can.
        down = [host for host in hosts if host not in self.steps.serving]
        up = [host for host in hosts if host in self.steps.serving]
        for part in (*([tuple(down)] if down else ()), *parts(self.story, up)):
            self.steps.leave_together(part, tell=False)
            errors = self.crew.each(part, back, note=self.taken_back, then="")
            self.committed -= self.taken_back
            for host, error in errors.items():
                self.problems.append(words.not_taken_back(error, self.steps.moves[host], self.story))

    def _unlock(self, host: str) -> None:
        with contextlib.suppress(LongshoreError):  # a host that was lost unlocks by itself
            self.steps.unlock(host)

    def _tell_hooks(self, name: HookName, hosts: set[str]) -> None:
        """Hooks after the fact: one that fails is told, and changes nothing."""
        moves = [move for move in self.story.moves if move.host in hosts]
        usable = {host: session for host, session in self.steps.sessions.items() if host in self.locked}
        why = "; ".join(str(error) for error in [*self.failed.values(), *self.problems])
        tell_hooks(name, moves, self.story, usable, self.output, error=why)

    def _report(self) -> Report:
        behind = [host for host in self.steps.moves if host in self.failed.keys() - self.unknown]
        if self.committed and behind:
            deployed = [host for host in self.steps.moves if host in self.committed]
            self.problems.append(words.mixed(self.story, deployed, behind))
        hosts = []
        for move in self.story.moves:
            state = self._state(move)
            release = move.release if state in ("deployed", "rolled back") else move.expect
            if move.host in self.unknown:
                release = None
            hosts.append(HostReport(move.host, state, release, self.failed.get(move.host)))
            self.output.step(move.host, state, release or "")
        return Report(
            self.story.app,
            tuple(hosts),
            time.monotonic() - self.started,
            self.migrated,
            tuple(self.problems),
            tuple(host for host in self.steps.moves if host in self.taken_back - self.steps.closed),
        )

    def _state(self, move: Move) -> State:
        if move.host in self.committed:
            return "deployed" if move.bundle is not None else "rolled back"
        if move.host in self.steps.closed:
            return "closed"
        if move.host in self.failed:
            return "failed"
        return "taken back" if move.host in self.taken_back else "unchanged"
