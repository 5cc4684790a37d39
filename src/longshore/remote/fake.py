"""A host in memory, for tests of what talks to hosts: same interface, same rules, no process and no network.

The model is small and honest: it keeps releases, the lock and the history as the agent does
(:mod:`longshore.agent.main` says what each request means), refuses what the agent refuses in the same words'
code, and takes back an unfinished switch when its session ends. What it can't know (is a container
healthy?) a test says with :meth:`FakeHost.fail`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any

from longshore.agent import wire
from longshore.errors import AgentError, ConnectionLostError, LongshoreError
from longshore.records import dataclass
from longshore.remote.session import Event


@dataclass(frozen=True)
class Call:
    """A request that a host got."""

    op: str
    args: Mapping[str, Any]
    payload: int


@dataclass
class FakeApp:
    """What a fake host knows of one app."""

    releases: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Id to manifest, oldest first; staged or committed."""
    current: str | None = None
    running: str | None = None
    """The release whose containers run; differs from ``current`` during a switch."""
    unfinished: tuple[str | None, str] | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    owner: FakeSession | None = None
    lock: dict[str, Any] | None = None
    hold: dict[str, Any] | None = None
    drift: list[str] = field(default_factory=list)
    closed: str = ""
    """``closed`` for a breaking migration, or ``sealed``: it has begun."""
    out: bool = False
    """A person has taken it out of the load balancer."""


@dataclass
class FakeHost:
    """A host. Tests look at ``apps`` and ``calls``, and plan its failures."""

    name: str
    apps: dict[str, FakeApp] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    unreachable: LongshoreError | None = None
    """Raised by connecting, when set."""
    facts: dict[str, Any] = field(
        default_factory=lambda: {"engine": "26.1.5", "api": "1.45", "architecture": "amd64", "free": 10**11}
    )
    shares: Callable[[], Mapping[str, Any]] | None = None
    """What a new release and the one beside it have answered, by service (``agent.canary``). ``None``:
    nothing here can share its requests."""
    _failures: dict[str, list[LongshoreError]] = field(default_factory=dict)

    def fail(self, op: str, *errors: LongshoreError) -> None:
        """The next requests for ``op`` fail, one with each. ``ConnectionLostError`` ends the session."""
        self._failures.setdefault(op, []).extend(errors)

    def refuse(self, op: str, code: str, message: str = "refused", **detail: Any) -> None:
        """The next request for ``op`` is refused by the agent."""
        self.fail(op, AgentError(message, code=code, where=self.name, detail=detail))

    def ops(self) -> list[str]:
        """The requests so far, by name."""
        return [call.op for call in self.calls]

    def app(self, name: str) -> FakeApp:
        """The app of this name, made when missing."""
        return self.apps.setdefault(name, FakeApp())


class FakeSession:
    """A :class:`longshore.remote.session.Session` with a fake host."""

    def __init__(self, fake: FakeHost) -> None:
        self.host = fake.name
        self._fake = fake
        self._closed = False
        self._run = ""

    def call(
        self,
        op: str,
        args: Mapping[str, Any] | None = None,
        *,
        payload: bytes | memoryview = b"",
        on_event: Callable[[Event], None] | None = None,
        timeout: float | None = None,
    ) -> Any:
        """See :class:`longshore.remote.session.Session`."""
        if self._closed:
            raise ConnectionLostError("the session is closed.", where=self.host)
        args = dict(args or {})
        self._fake.calls.append(Call(op, args, len(payload)))
        error = self._planned(op)
        app = self._fake.app(args["app"]) if "app" in args else FakeApp()
        locked_only = (
            wire.STAGE, wire.MIGRATE, wire.CANARY, wire.SWITCH, wire.COMMIT, wire.REVERT, wire.RETURN,
            wire.HOLD, wire.DOWN,
        )  # fmt: skip
        if op in locked_only and app.owner is not self:
            raise self._refusal(wire.LOCK_LOST, "this run does not have the lock")
        if op in (wire.SHUT, wire.MIGRATE, wire.CANARY, wire.SWITCH):
            # A step that fails has begun: going back is owed from here on, as with the agent's journal.
            self._begin(app, args["release"])
        if error is not None:
            raise error
        handler = getattr(self, f"_{op}", None)
        if handler is None:
            raise self._refusal(wire.BAD_REQUEST, f"the fake host doesn't know {op!r}")
        return handler(app, args)

    def _planned(self, op: str) -> LongshoreError | None:
        """How a request is to fail. One that ends the session is raised at once."""
        failures = self._fake._failures.get(op)
        error = failures.pop(0) if failures else None
        if isinstance(error, ConnectionLostError):
            self.close()
            raise error
        return error

    def beat(self) -> None:
        """A fake host knows no time."""

    def alive(self) -> bool:
        """See :class:`longshore.remote.session.Session`."""
        return not self._closed

    def close(self) -> None:
        """End the session: what it had begun is taken back, its locks are free."""
        if self._closed:
            return
        self._closed = True
        for app in self._fake.apps.values():
            if app.owner is self:
                self._revert(app, {"why": "the connection to the controller was lost"})
                self._unlock(app, {})

    def _facts(self, _: FakeApp, args: Mapping[str, Any]) -> dict[str, Any]:
        return dict(self._fake.facts)

    def _inspect(self, app: FakeApp, args: Mapping[str, Any]) -> dict[str, Any]:
        wanted = args.get("release")
        steps: list[dict[str, Any]] = []
        for line in app.history:
            if line["outcome"] == "committed":
                known = [at for at, step in enumerate(steps) if step["release"] == line["release"]]
                del steps[known[0] + 1 if known else len(steps) :]
                steps += [] if known else [{key: line[key] for key in ("release", "run", "at")}]
        committed = [step["release"] for step in steps]
        return {
            "current": app.current,
            "stack": steps,
            "releases": [release for release in app.releases if release in committed],
            "staged": wanted in app.releases,
            "manifest": app.releases.get(app.current) if app.current and app.current != wanted else None,
            "good": app.current is not None and not app.drift and app.unfinished is None,
            "drift": list(app.drift),
            "containers": self._containers(app),
            "unfinished": app.unfinished[1] if app.unfinished else None,
            "lock": app.lock,
            "hold": app.hold,
            "out": app.out,
            "notes": [],
            "facts": dict(self._fake.facts),
        }

    def _lock(self, app: FakeApp, args: Mapping[str, Any]) -> dict[str, Any]:
        if app.owner not in (None, self):
            holder = dict(app.lock or {})
            raise self._refusal(wire.LOCKED, f"locked by {holder.get('by')}", holder=holder)
        if app.hold is not None:
            raise self._refusal(wire.HELD, f"{app.hold['by']} holds it: {app.hold['why']}", hold=app.hold)
        app.owner = self
        app.lock = {**{key: args.get(key, "") for key in ("by", "run", "why")}, "since": time.time()}
        self._run = str(args.get("run", ""))
        recovered = self._revert(app, {"why": "a run before this one ended in the middle"})
        if "expect" in args and args["expect"] != app.current:
            self._unlock(app, {})
            raise self._refusal(wire.MOVED_ON, "the host has moved on")
        return {"current": app.current, "recovered": recovered["reverted"], "trouble": "", "out": app.out}

    def _unlock(self, app: FakeApp, _: Mapping[str, Any]) -> dict[str, Any]:
        if app.owner is self:
            app.owner = app.lock = None
        return {}

    def _stage(self, app: FakeApp, args: Mapping[str, Any]) -> dict[str, Any]:
        manifest = dict(args["manifest"])
        app.releases.setdefault(manifest["id"], manifest)
        return {"pulled": [], "compose": "2.26.1"}

    def _shut(self, app: FakeApp, args: Mapping[str, Any]) -> dict[str, Any]:
        app.closed = app.closed or "closed"
        app.running = None
        return {"served": True}

    def _seal(self, app: FakeApp, args: Mapping[str, Any]) -> dict[str, Any]:
        app.closed = "sealed" if args["sealed"] else "closed"
        return {}

    def _reopen(self, app: FakeApp, args: Mapping[str, Any]) -> dict[str, Any]:
        app.closed = ""
        return {"opened": True}

    def _migrate(self, app: FakeApp, args: Mapping[str, Any]) -> dict[str, Any]:
        return {"code": 0}

    def _canary(self, app: FakeApp, args: Mapping[str, Any]) -> dict[str, Any]:
        if args["do"] == "begin":
            return {"services": sorted(self._fake.shares()) if self._fake.shares else []}
        if args["do"] == "stop":
            raise self._refusal(wire.CANARY_FAILED, str(args["why"]))
        return {"services": self._fake.shares()} if args["do"] == "look" and self._fake.shares else {}

    def _switch(self, app: FakeApp, args: Mapping[str, Any]) -> dict[str, Any]:
        app.running = args["release"]
        if args.get("verify") and (error := self._planned(wire.VERIFY)) is not None:
            raise error
        return {"from": app.current}

    def _verify(self, app: FakeApp, args: Mapping[str, Any]) -> dict[str, Any]:
        if app.running != args["release"]:
            raise self._refusal(wire.UNHEALTHY, f"{app.running or 'nothing'} runs")
        return {"containers": self._containers(app)}

    def _commit(self, app: FakeApp, args: Mapping[str, Any]) -> dict[str, Any]:
        app.current = app.running = args["release"]
        app.unfinished = None
        app.drift = []
        self._note(app, args["release"], "committed", args)
        return {"removed": []}

    def _revert(self, app: FakeApp, args: Mapping[str, Any]) -> dict[str, Any]:
        if app.unfinished is None:
            return {"release": app.current, "reverted": False}
        back, failed = app.unfinished
        app.unfinished = None
        if app.closed == "sealed":
            app.current, app.running = back, None
            self._note(app, failed, "reverted", args)
            return {"release": back, "reverted": True, "closed": True}
        app.current = app.running = back
        app.closed = ""
        self._note(app, failed, "reverted", args)
        return {"release": back, "reverted": True}

    def _return(self, app: FakeApp, args: Mapping[str, Any]) -> dict[str, Any]:
        if app.current != args["release"]:
            raise self._refusal(wire.MOVED_ON, "another release is the current one")
        app.current = args["to"]
        app.running = None if app.closed == "sealed" else args["to"]
        self._note(app, args["release"], "reverted", args)
        if args["to"] is not None:
            self._note(app, args["to"], "committed", args)
        return {"release": args["to"], **({"closed": True} if app.closed == "sealed" else {})}

    def _hold(self, app: FakeApp, args: Mapping[str, Any]) -> dict[str, Any]:
        seconds = float(args.get("seconds") or 0)
        now = time.time()
        app.hold = {"by": args["by"], "why": args["why"], "since": now, "until": seconds and now + seconds}
        return app.hold

    def _unhold(self, app: FakeApp, args: Mapping[str, Any]) -> dict[str, Any]:
        hold, app.hold = app.hold, None
        return {"lock": app.lock, "hold": hold}

    def _locks(self, app: FakeApp, args: Mapping[str, Any]) -> dict[str, Any]:
        return {"lock": app.lock, "hold": app.hold}

    def _out(self, app: FakeApp, args: Mapping[str, Any]) -> dict[str, Any]:
        wanted = {"out": True, "back": False}.get(args["do"], app.out)
        changed, app.out = wanted != app.out, wanted
        return {
            "out": "out" if app.out else "",
            "in_for": None,
            "served": bool(app.running),
            "changed": changed,
        }

    def _history(self, app: FakeApp, args: Mapping[str, Any]) -> list[dict[str, Any]]:
        return app.history[-int(args.get("limit") or 20) :]

    def _ps(self, app: FakeApp, args: Mapping[str, Any]) -> dict[str, Any]:
        return {"release": app.current, "containers": self._containers(app)}

    def _begin(self, app: FakeApp, release: str) -> None:
        if release not in app.releases:
            raise self._refusal(wire.NOT_STAGED, f"release {release} is not staged on this host")
        if app.unfinished is None:
            app.unfinished = (app.current, release)

    def _note(self, app: FakeApp, release: str, outcome: str, args: Mapping[str, Any]) -> None:
        kept = {key: args.get(key, "") for key in ("by", "git", "why")}
        line = {"release": release, "outcome": outcome, "at": time.time(), "run": self._run, **kept}
        app.history.append({**line, "seconds": args.get("seconds", 0)})

    def _containers(self, app: FakeApp) -> list[dict[str, Any]]:
        manifest = app.releases.get(app.running or "", {})
        return [
            {
                "id": f"{app.running}-{service}",
                "name": f"{manifest.get('project', '')}-{service}-1",
                "service": service,
                "image": facts.get("image") or "",
                "image_id": "",
                "state": "running",
                "health": "healthy" if facts.get("healthcheck") else "",
                "status": "Up 1 second",
                "created": 0,
                "ports": list(facts.get("ports", ())),
                "config_hash": "",
                "release": app.running,
                "one_off": False,
            }
            for service, facts in sorted(manifest.get("services", {}).items())
        ]

    def _refusal(self, code: str, message: str, **detail: Any) -> AgentError:
        return AgentError(message, code=code, where=self.host, detail=detail)


class FakeLink:
    """A :class:`longshore.remote.session.Link` to a fake host. ``runs`` keeps what was run on it."""

    def __init__(
        self, fake: FakeHost, *, answer: Callable[[list[str]], tuple[int, bytes]] | None = None
    ) -> None:
        if fake.unreachable is not None:
            raise fake.unreachable
        self.host = fake.name
        self.runs: list[list[str]] = []
        self._fake = fake
        self._answer = answer or (lambda argv: (0, b""))
        self._session: FakeSession | None = None

    def session(self) -> FakeSession:
        """See :class:`longshore.remote.session.Link`."""
        if self._session is None:
            self._session = FakeSession(self._fake)
        return self._session

    def run(
        self,
        argv: list[str],
        *,
        stdin: bytes = b"",
        pty: bool = False,
        on_output: Callable[[bytes], None] | None = None,
        timeout: float | None = None,
    ) -> int:
        """See :class:`longshore.remote.session.Link`."""
        self.runs.append(list(argv))
        code, output = self._answer(argv)
        if output and on_output is not None:
            on_output(output)
        return code

    def docker(self) -> Any:
        """A fake host has no engine."""
        raise NotImplementedError("a fake host has no engine")

    def close(self) -> None:
        """Close the session."""
        if self._session is not None:
            self._session.close()
            self._session = None


class FakeFleet:
    """Fake hosts by name, and a :class:`longshore.remote.session.Connector` to them."""

    def __init__(self, *names: str) -> None:
        self.hosts = {name: FakeHost(name) for name in names}

    def __getitem__(self, name: str) -> FakeHost:
        return self.hosts[name]

    def __call__(self, host: Any) -> FakeLink:
        return FakeLink(self.hosts[host.name])
