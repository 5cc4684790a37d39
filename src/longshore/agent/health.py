"""Whether a release is good on this host: its containers, watched until they are or can't be.

Compose's own ``up --wait`` calls a crash loop healthy and a one-shot that exits 0 a failure, so this
is decided here, from what the engine reports.
"""

import time
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Set

from longshore.agent import wire
from longshore.agent.engine import APP, CONFIG_HASH, ONE_OFF, SERVICE, Engine, moment
from longshore.agent.fail import Refusal
from longshore.agent.shorten import last

if TYPE_CHECKING:
    from longshore.agent.events import Events

Emit = Callable[..., None]
_POLL_FIRST, _POLL_LAST = 0.1, 0.5
"""Seconds between two looks while nothing happens."""
_TO_APPEAR = 5.0
"""Seconds until a container must be in the list: Compose has made them all before they are watched."""
_LOG_LINES = 30


def describe(raw: Dict[str, Any]) -> Dict[str, Any]:
    """A container of the engine's list as a ``wire.Container``."""
    labels = raw.get("Labels") or {}
    status = raw.get("Status", "")
    health = ""
    for word, state in (
        ("(healthy)", "healthy"),
        ("(unhealthy)", "unhealthy"),
        ("(health: starting)", "starting"),
    ):
        if word in status:
            health = state
    ports = []
    for port in raw.get("Ports") or []:
        if port.get("PublicPort"):
            ports.append(f"{port.get('IP', '')}:{port['PublicPort']}->{port['PrivatePort']}/{port['Type']}")
    return {
        "id": raw["Id"],
        "name": (raw.get("Names") or ["/?"])[0].lstrip("/"),
        "service": labels.get(SERVICE, ""),
        "image": raw.get("Image", ""),
        "image_id": raw.get("ImageID", ""),
        "state": raw.get("State", ""),
        "health": health,
        "status": status,
        "created": int(raw.get("Created", 0)),
        "ports": sorted(ports),
        "config_hash": labels.get(CONFIG_HASH, ""),
        "release": "",
        "one_off": labels.get(ONE_OFF, "").lower() == "true",
        "app": labels.get(APP, ""),
    }


def containers(engine: Engine, project: str) -> List[Dict[str, Any]]:
    """The containers of a project, one-off ones left out, in the order of their names."""
    found = [describe(raw) for raw in engine.containers(project)]
    return sorted((one for one in found if not one["one_off"]), key=lambda one: str(one["name"]))


def _state(full: Dict[str, Any]) -> Dict[str, Any]:
    """The ``state`` and ``health`` of a container in full. What doesn't run has no health."""
    state = full["State"]["Status"]
    health = (full["State"].get("Health") or {}).get("Status") or "none"
    return {"state": state, "health": health if state == "running" and health != "none" else ""}


def is_ours(one: Dict[str, Any], app: str, services: Dict[str, Any]) -> bool:
    """Whether a container of the app's project is the app's: Longshore made it, or it is of a service of the
    release. A sibling stack that shares the project's name has others, and they are left alone."""
    return bool(one["app"] == app or one["service"] in services)


def still_running(engine: Engine, manifest: Dict[str, Any], patience: float) -> List[Dict[str, Any]]:
    """The containers of a release that was verified, seen once more before it is committed: somebody may have
    stopped one meanwhile. ``patience`` (s): an engine that was restarted is about to start them again.

    Raises ``Refusal`` when a service has less that run than it should.
    """
    until = time.monotonic() + patience
    while True:
        found = containers(engine, manifest["project"])
        missing = [
            name
            for name, facts in sorted(manifest["services"].items())
            if not (facts["one_shot"] or facts.get("may_exit"))
            and _running(found, name) < int(facts["replicas"])
        ]
        if not missing:
            return found
        if time.monotonic() > until:
            words = f"{', '.join(missing)} no longer runs, though it was good when it was verified"
            raise Refusal(wire.UNHEALTHY, words, "Somebody may have stopped it.")
        time.sleep(_POLL_FIRST)


def _running(found: List[Dict[str, Any]], service: str) -> int:
    return sum(one["service"] == service and one["state"] == "running" for one in found)


class Watch:
    """Waits until every service of a release is good, or one can't be."""

    def __init__(
        self,
        engine: Engine,
        manifest: Dict[str, Any],
        emit: Emit,
        given_up: Optional[Callable[[], bool]] = None,
        only: Optional[Set[str]] = None,
    ) -> None:
        self.engine = engine
        self.only = only
        """The containers (ids) that count; ``None`` for all of the project's."""
        self.project = manifest["project"]
        self.services: Dict[str, Dict[str, Any]] = manifest["services"]
        settings = manifest["settings"]
        self.timeout = float(settings.get("health_timeout", 120))
        self.stability = float(settings.get("stability", 3))
        self.steady = float(settings.get("steady", 0))
        """Seconds that a container must have run which has a health check, too."""
        self.restarts = int(settings.get("restarts", 0))
        self.emit = emit
        self.given_up = given_up
        """Says that nobody waits for the answer any more."""
        self._told: Dict[str, str] = {}
        self._began = time.monotonic()
        self._complete: Set[str] = set()
        """Services that had all of their containers at some time."""
        self._seen: Dict[str, float] = {}
        self._restarts: Dict[str, int] = {}
        """How often a container had been restarted before it was watched."""
        self._answered: Set[str] = set()
        """The containers that have answered their probe."""
        self._full: Dict[str, Dict[str, Any]] = {}
        """The containers in full, at the last look."""

    def run(self) -> None:
        """Return when all are good. Raises ``Refusal`` with the failing container's last log lines, exit code
        and the health check's output."""
        from longshore.agent.events import Events  # late: a look at a host waits for nothing

        with Events(self.engine, self.project) as events:
            self._run(events)

    def _run(self, events: "Events") -> None:
        self._began = time.monotonic()
        until = self._began + self.timeout
        pause = _POLL_FIRST
        found: List[Dict[str, Any]] = []
        while True:
            events.forget()
            found = self._look(found)
            waiting = [
                name for name, facts in sorted(self.services.items()) if not self._good(name, facts, found)
            ]
            if not waiting and self._stay(found) and not self._probed(found):
                return
            if time.monotonic() > until:
                raise self._late(waiting or sorted(self.services), found)
            if self.given_up and self.given_up():
                raise Refusal(wire.LOCK_LOST, "the controller went while it was waited for health")
            # A container that has died is known as such a moment after the engine says it.
            pause = _POLL_FIRST if events.wait(pause) else min(pause * 1.2, _POLL_LAST)

    def _look(self, before: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
        """The containers as they are now; ``before``: as they were. The list is asked for only where one is
        missing, for it is slow."""
        found = self._still(before) if self._all_there(before) else []
        return found if found and len(found) == len(before) else self._still(self._listed())

    def _still(self, known: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
        """Those that are there, as they are now."""
        found = []
        self._full = {}
        for one in known:
            full = self.engine.container(one["id"])
            if full is not None:
                self._full[one["id"]] = full
                found.append({**one, **_state(full)})
        return found

    def _listed(self) -> List[Dict[str, Any]]:
        found = containers(self.engine, self.project)
        return [one for one in found if self.only is None or one["id"] in self.only]

    def _all_there(self, found: List[Dict[str, Any]]) -> bool:
        return all(
            sum(one["service"] == name for one in found) >= facts["replicas"]
            for name, facts in self.services.items()
        )

    def _good(self, name: str, facts: Dict[str, Any], found: List[Dict[str, Any]]) -> bool:
        mine = [one for one in found if one["service"] == name]
        if len(mine) < facts["replicas"]:
            if name in self._complete or time.monotonic() > self._began + _TO_APPEAR:
                why = f"{len(mine)} of {facts['replicas']} containers of {name} are there: one was removed"
                raise Refusal(wire.UNHEALTHY, why, "Somebody may have done that by hand.")
            self._tell(name, "no container yet")
            return False
        self._complete.add(name)
        words = [f"{one['state']}, {one['health']}" if one["health"] else one["state"] for one in mine]
        counted = [f"{words.count(word)} {word}" for word in dict.fromkeys(words)]
        self._tell(name, words[0] if len(words) == 1 else "; ".join(counted))
        states = [self._container_good(one, facts) for one in mine]
        return all(states)

    def _container_good(self, one: Dict[str, Any], facts: Dict[str, Any]) -> bool:
        state, health = one["state"], one["health"]
        if facts["one_shot"]:
            if state == "exited" and self._full[one["id"]]["State"]["ExitCode"] != 0:
                raise self._failed(one, "failed")
            return bool(state == "exited")
        if facts.get("may_exit") and state == "exited" and self._full[one["id"]]["State"]["ExitCode"] == 0:
            return True
        if state in ("exited", "dead"):
            raise self._failed(one, "has stopped")
        if health == "unhealthy":
            raise self._failed(one, "is unhealthy")
        if state == "restarting" or (state == "running" and health != "healthy"):
            full = self._full[one["id"]]
            self._check_restarts(one, full)
            if state == "running" and not health:
                return self._age(one["id"], full["State"]["StartedAt"]) >= self.stability
            return False
        return bool(state == "running")

    def _check_restarts(self, one: Dict[str, Any], full: Dict[str, Any]) -> None:
        """Raise when it was restarted. What an older container went through before doesn't count, once it
        has run for the stability window."""
        count = int(full["RestartCount"])
        if one["id"] not in self._restarts:
            old = self._age(one["id"], full["State"]["StartedAt"]) >= self.stability
            self._restarts[one["id"]] = count if old and one["state"] == "running" else 0
        if count > self._restarts[one["id"]] + self.restarts:
            raise self._failed(one, "keeps dying")

    def _stay(self, found: List[Dict[str, Any]]) -> bool:
        """A health check that passes between two crashes proves nothing: what is healthy must not have been
        restarted, either; and where the inventory asks for it, it must have run for so long."""
        steady = True
        for one in found:
            if one["service"] in self.services and one["state"] == "running" and one["health"] == "healthy":
                full = self._full[one["id"]]
                self._check_restarts(one, full)
                steady = steady and self._age(one["id"], full["State"]["StartedAt"]) >= self.steady
        return steady

    def _probed(self, found: List[Dict[str, Any]]) -> bool:
        """Send the services' probes that were not sent yet. Gives whether there were any: then everything
        is looked at once more. Raises ``Refusal`` for one without the right answer."""
        todo = [one for one in found if self._probe_of(one) and one["id"] not in self._answered]
        for one in todo:
            from longshore.agent.probe import probe  # late: few services have one

            wanted = self._probe_of(one)
            where, why = probe(self._full[one["id"]], wanted, self.given_up)
            if why:
                # It may have died meanwhile.
                now = next((each for each in self._look([]) if each["id"] == one["id"]), None)
                if now is not None:
                    self._container_good(now, self.services[one["service"]])
                raise self._failed(one, f"doesn't answer its probe at {where} ({why})")
            self._answered.add(one["id"])
            self._tell(one["service"], "answers its probe")
        return bool(todo)

    def _probe_of(self, one: Dict[str, Any]) -> Dict[str, Any]:
        wanted: Dict[str, Any] = self.services.get(one["service"], {}).get("probe") or {}
        return wanted if one["state"] == "running" else {}

    def _age(self, ident: str, started: str) -> float:
        """Seconds since the container started: by the host's clock, or, where that was set back since,
        for as long as it was watched here."""
        watched = time.monotonic() - self._seen.setdefault(f"{ident} {started}", time.monotonic())
        return max(watched, time.time() - moment(started))

    def _tell(self, service: str, state: str) -> None:
        if self._told.get(service) != state:
            self._told[service] = state
            self.emit("health", service=service, state=state)

    def _late(self, waiting: List[str], found: List[Dict[str, Any]]) -> Refusal:
        for one in found:
            if one["service"] in waiting:
                return self._failed(one, f"is not healthy after {self.timeout:g} s")
        return Refusal(wire.UNHEALTHY, f"{waiting[0]} has no container after {self.timeout:g} s")

    def _failed(self, one: Dict[str, Any], how: str) -> Refusal:
        full = self.engine.container(one["id"])
        detail = autopsy(self.engine, one, full)
        words = f"{one['service']} {how}"
        if full is not None and detail["exit_code"] is not None:
            words += f": it exited with code {detail['exit_code']}"
            if detail["out_of_memory"]:
                words += ", out of memory"
        elif detail["health_output"]:
            # As it is: quoted once more, a secret that the program has quoted itself is in no known form.
            words += f": its check says: {last(detail['health_output'].splitlines()[-1], 200)}"
        return Refusal(wire.UNHEALTHY, words, "", detail)


def autopsy(engine: Engine, one: Dict[str, Any], full: Optional[Dict[str, Any]]) -> Dict[str, Any]:
    """What a person needs to see of a container that failed. Its log can hold secrets of the
    application's own making; the controller masks the values it knows."""
    detail: Dict[str, Any] = {
        "service": one["service"], "container": one["name"], "exit_code": None,
        "out_of_memory": False, "health_output": "", "log": [],
    }  # fmt: skip
    if full is None:
        return detail
    state = full["State"]
    if state["Status"] in ("exited", "dead", "restarting"):
        detail["exit_code"] = state["ExitCode"]
    elif full["RestartCount"]:  # it runs again: its state has forgotten how it ended before
        detail["exit_code"] = engine.last_exit_code(one["id"])
    detail["out_of_memory"] = bool(state.get("OOMKilled"))
    checks = (state.get("Health") or {}).get("Log") or []
    if checks:
        detail["health_output"] = last((checks[-1].get("Output") or "").strip(), 1000)
    detail["log"] = engine.logs(one["id"], _LOG_LINES).splitlines()[-_LOG_LINES:]
    return detail
