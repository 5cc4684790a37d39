"""What a rollout asks of one host's agent, step by step, and what it tells of it meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from longshore.agent import wire
from longshore.console import Output, bytes_text
from longshore.inventory.model import Migrate
from longshore.remote.session import Event, Session
from longshore.render.pack import Packer
from longshore.rollout.hooks import run_hooks
from longshore.rollout.moves import Move, Story

_PAUSE = 0.2
_LINES = 10
"""Lines of progress that may come in a second, from all hosts: nobody reads more, and each costs us CPU."""


class Steps:
    """The steps, each on one host. ``sessions`` may get a new one for a host that was lost."""

    def __init__(self, story: Story, sessions: Mapping[str, Session], output: Output) -> None:
        self.story = story
        self.sessions = dict(sessions)
        self.output = output
        self.moves = {move.host: move for move in story.moves}
        self.started = time.monotonic()
        self.beside: dict[str, tuple[str, ...]] = {}
        """Host to the services of which the new release runs beside the old one."""
        self._noted: set[str] = set()
        self._pack = Packer()
        self.closed: set[str] = set()
        """Hosts that have gone back from the release, and start nothing of the one before: its schema is
        gone."""
        self.serving: set[str] = set()
        """Hosts that get requests from the load balancer in front, as far as is known."""
        self.by_hand: set[str] = set()
        """Those that a person has taken out of it."""
        self._may_leave: dict[str, dict[str, str]] = {}
        self._in_since: dict[str, float] = {}
        """When hosts came back into it (monotonic, s)."""

    def lock(self, host: str) -> None:
        """Take the host's lock. One without a move takes it so that nobody else rolls out meanwhile."""
        move = self.moves.get(host)
        args = self.lock_args()
        if move is not None:
            args["expect"] = move.expect
            if move.bundle is None and not move.as_it_is:
                args["whole"] = move.release
        answer = self.sessions[host].call(wire.LOCK, args, timeout=self.story.wait + self.story.recovery)
        if answer["recovered"]:
            self.output.say(f"{host}: a run before this one had ended in the middle; that was undone.")
        if answer.get("trouble"):
            self.output.say(f"warning: {host}: what ran before is back, but: {answer['trouble']}")
        ill = self.story.balancing.ill if self.story.balancing else ()
        if answer.get("in_for") is not None:
            self._in_since[host] = time.monotonic() - float(answer["in_for"])
        if answer.get("out"):
            self.by_hand.add(host)
        elif answer["current"] and host not in ill:
            self.serving.add(host)

    def leave_together(self, hosts: Sequence[str], *, tell: bool = True) -> None:
        """Decide what these hosts may stop serving while all of them are worked on at once."""
        balancing = self.story.balancing
        if balancing is None:
            return
        serving = {host for host in self.serving if self.sessions[host].alive()}
        for host in hosts:
            self._may_leave[host] = balancing.may_leave(host, hosts, serving)
            stay = sorted(balancing.asked.get(host, {}).keys() - self._may_leave[host].keys())
            if tell and host in balancing.gaps & self.serving and stay:
                why = f"for nobody else serves {', '.join(stay)} just now"
                self.output.say(f"note: {host} stays in the load balancer, {why}")

    def is_in(self, host: str) -> None:
        """The host is back in the load balancer, by now at the latest."""
        self._in_since[host] = time.monotonic()

    def _out(self, host: str, *, planned: bool = True) -> dict[str, Any]:
        """How the host leaves the load balancer, for a step that may replace what serves there. Waits until
        the balancer has noticed that those who came back are in: for a moment it might have nobody."""
        balancing, asked = self.story.balancing, self._may_leave.get(host)
        if balancing is None or not asked:
            return {}
        back = max((since for one, since in self._in_since.items() if one != host), default=0.0)
        pause = back + balancing.wait - time.monotonic()
        if pause > 0 and host in self.serving:
            self.output.step(host, "waiting", "for the load balancer to notice who is back")
            time.sleep(pause)
        replaced = balancing.replaced.get(host) if planned else None
        return {"out": balancing.args(asked, by=self.story.facts.by, replaced=replaced)}

    def lock_args(self) -> dict[str, Any]:
        """What every host's lock is taken with."""
        return {
            "app": self.story.app,
            **self.story.facts.args(),
            "wait": self.story.wait,
            "lease": self.story.lease,
            "pause": max(_PAUSE, len(self.moves) / _LINES),
            "keep": self.story.policy.on_lost_controller == "keep",
        }

    def stage(self, host: str) -> None:
        """Bring the release to the host: files and images. Nothing to do for one that it has (a rollback)."""
        move, session = self.moves[host], self.sessions[host]
        if move.bundle is None:
            return
        run_hooks("before_stage", move, self.story, session, self.output)
        with self.story.pulls.turn(host):
            self.output.step(host, "staging", move.release)
            session.call(
                wire.STAGE,
                {**self._args(move), "manifest": move.bundle.manifest(), "auth": self.story.auth},
                payload=b"" if move.staged else self._pack(move.bundle),
                on_event=self._teller(host),
            )

    def close(self, host: str) -> None:
        """Have the host answer maintenance, and stop what mustn't meet the new schema."""
        closing = self.story.closing
        assert closing is not None
        self.output.step(host, "closing", "503 from now on")
        self.sessions[host].call(
            wire.SHUT,
            {
                **self._args(self.moves[host]),
                **self.story.facts.args(),
                "keep": None if closing.keep is None else sorted(closing.keep),
                "pass": closing.token,
                "page": closing.page,
                "retry_after": int(closing.retry_after),
                "allow": list(closing.allow),
            },
            on_event=self._teller(host),
        )

    def seal(self, host: str, is_sealed: bool) -> None:
        """The schema may be the new one from now on, or is the old one again."""
        self.sessions[host].call(wire.SEAL, {"app": self.story.app, "sealed": is_sealed})

    def open(self, host: str) -> None:
        """The end of maintenance."""
        self.sessions[host].call(wire.REOPEN, {"app": self.story.app})
        self.output.step(host, "open")

    def migrate(self, host: str, migrate: Migrate) -> None:
        """Run the migration in a container of the new release."""
        move = self.moves[host]
        args = {"service": migrate.service, "command": list(migrate.command), "timeout": migrate.timeout}
        self.output.step(host, "migrating", " ".join(migrate.command))
        args |= self._out(host)
        self.sessions[host].call(wire.MIGRATE, {**self._args(move), **args}, on_event=self._teller(host))

    def run_beside(self, host: str) -> None:
        """Have the release run beside the old one, which goes on serving."""
        move, session = self.moves[host], self.sessions[host]
        run_hooks("before_switch", move, self.story, session, self.output)
        self.output.step(host, "starting beside the old", move.release)
        args = {**self._args(move), "do": "begin", **self._out(host)}
        answer = session.call(wire.CANARY, args, on_event=self._teller(host))
        self.beside[host] = tuple(answer["services"])

    def give(self, host: str, *, share: int, mirror: int) -> None:
        """Give what runs beside the old one a share of the requests, or copies of them (percent)."""
        args = {**self._args(self.moves[host]), "do": "give", "share": share, "mirror": mirror}
        self.sessions[host].call(wire.CANARY, args, on_event=self._teller(host))

    def look(self, host: str) -> Mapping[str, Any]:
        """What both have answered since: service to ``old`` and ``new`` (``agent.metrics.Meter.of``)."""
        args = {**self._args(self.moves[host]), "do": "look"}
        found: Mapping[str, Any] = self.sessions[host].call(wire.CANARY, args)["services"]
        return found

    def stop_canary(self, host: str, service: str, why: str) -> None:
        """The release gets no requests any more, for that reason. Raises it as the host's own ``AgentError``,
        with what one of the service's containers wrote."""
        args = {**self._args(self.moves[host]), "do": "stop", "service": service, "why": why}
        self.sessions[host].call(wire.CANARY, args)

    def switch(self, host: str) -> None:
        """Make the release run, and wait until it is good."""
        move, session = self.moves[host], self.sessions[host]
        if host not in self.beside:
            run_hooks("before_switch", move, self.story, session, self.output)
        self.output.step(host, "switching", move.release)
        args = {**self._args(move), **self._out(host), "verify": True}
        self.serving.discard(host)
        session.call(wire.SWITCH, args, on_event=self._teller(host))
        self._serves(host)
        run_hooks("after_switch", move, self.story, session, self.output)
        self.output.step(host, "healthy", move.release)

    def verify(self, host: str) -> None:
        """See that what was switched to is still good."""
        self.sessions[host].call(wire.VERIFY, self._args(self.moves[host]), on_event=self._teller(host))

    def commit(self, host: str) -> None:
        """The release is the good one there from now on."""
        seconds = round(time.monotonic() - self.started, 3)
        args = {**self._args(self.moves[host]), **self.story.facts.args(), "seconds": seconds}
        self.sessions[host].call(wire.COMMIT, args)

    def revert(self, host: str, why: str) -> None:
        """Back to what ran before; the release was not committed."""
        self.output.step(host, "going back")
        args = {**self._args(self.moves[host]), **self.story.facts.args(), "why": why}
        args |= self._out(host, planned=False)
        self.serving.discard(host)
        answer = self.sessions[host].call(wire.REVERT, args, on_event=self._teller(host))
        self._is_back(host, answer)

    def leave(self, host: str, why: str) -> None:
        """Back to what ran before, though the release was committed: another host could not."""
        move = self.moves[host]
        self.output.step(host, "going back")
        args = {**self._args(move), **self.story.facts.args(), "to": move.expect, "why": why}
        args |= self._out(host, planned=False)
        self.serving.discard(host)
        answer = self.sessions[host].call(wire.RETURN, args, on_event=self._teller(host))
        self._is_back(host, answer)

    def _is_back(self, host: str, answer: Mapping[str, Any]) -> None:
        if answer.get("closed"):
            self.closed.add(host)
        elif self.moves[host].expect:
            self._serves(host)

    def _serves(self, host: str) -> None:
        if host not in self.by_hand:
            self.serving.add(host)

    def unlock(self, host: str) -> None:
        self.sessions[host].call(wire.UNLOCK, {"app": self.story.app})

    def _args(self, move: Move) -> dict[str, Any]:
        return {"app": self.story.app, "release": move.release, "boot": move.recover_at_boot}

    def _teller(self, host: str) -> Callable[[Event], None]:
        def tell(event: Event) -> None:
            kind = event["kind"]
            if kind == "pull":
                detail = str(event["image"]).split("@")[0]
                if event["total"]:
                    detail += f" {bytes_text(event['done'])} of {bytes_text(event['total'])}"
                self.output.step(host, "pulling", detail)
            elif kind == "verify":
                self.output.step(host, "verifying", str(event["release"]))
            elif kind == "health":
                self.output.step(host, "verifying", f"{event['service']}: {event['state']}")
            elif kind == "output":
                self.output.step(host, "migrating", str(event["line"]))
            elif kind == "compose" and event["line"].strip():
                words = str(event["line"]).split()
                self.output.step(host, "switching", " ".join(words[1:]) if len(words) > 2 else words[-1])
            elif kind == "moved":
                after = f"{event['seconds']:.2f} s after they were good"
                self.output.step(host, "switched", f"all requests go to the new containers, {after}")
            elif kind == "out":
                self.output.step(host, "out of the load balancer", f"{event['seconds']:g} s")
            elif kind == "in":
                self.is_in(host)
                self.output.step(host, "in the load balancer")
            elif kind == "note" and event["message"] not in self._noted:
                self._noted.add(event["message"])  # once, not for each of fifty hosts
                self.output.say(f"note: {event['message']} ({host})")

        return tell
