"""What controller and agent say to each other: one session per host and run, over stdin and stdout.

A request is one line of JSON, followed by ``payload`` raw bytes (a tar) when that is not 0::

    {"id": 1, "op": "stage", "args": {...}, "payload": 20480}\\n<20480 bytes>

An answer is one or more lines of JSON with the same ``id``: any number of events, then a result or an
error. The agent greets first, unasked (``HELLO``), so that a session costs no extra round trip::

    {"type": "hello", "protocol": 1, "agent": "<hash>", "python": "3.11.2"}
    {"id": 1, "type": "event", "kind": "pull", "image": "...", "done": 1024, "total": 4096}
    {"id": 1, "type": "result", "value": {...}}
    {"id": 2, "type": "error", "code": "port-taken", "message": "...", "hint": "...", "detail": {...}}

End of file on stdin means that the controller is gone. The agent then finishes or undoes what it had
begun; it never stops in the middle of a step.
"""

from typing import Any, Dict, List, Optional, TypedDict

PROTOCOL = 1

# Ops. Each is documented where the agent answers it.
FACTS = "facts"
BEAT = "beat"  # the controller lives; has no id and gets no answer
INSPECT = "inspect"
LOCK = "lock"
UNLOCK = "unlock"
STAGE = "stage"
MIGRATE = "migrate"
CANARY = "canary"
SWITCH = "switch"
VERIFY = "verify"
COMMIT = "commit"
REVERT = "revert"
RETURN = "return"
HOLD = "hold"
UNHOLD = "unhold"
LOCKS = "locks"
HISTORY = "history"
PS = "ps"
STATS = "stats"
IMAGES = "images"
HEALTH = "health"
VOLUMES = "volumes"
RESTART = "restart"
STOP = "stop"
START = "start"
DOWN = "down"
RUN = "run"
CLEANUP = "cleanup"
LIMITS = "limits"
PUT = "put"
BUILDER = "builder"
BUILD = "build"
BUILT = "built"
PRESENT = "present"
LOAD = "load"
HOOK = "hook"
AUDIT = "audit"
PROXY = "proxy"
MAINTENANCE = "maintenance"
SHUT = "shut"
SEAL = "seal"
REOPEN = "reopen"
PAUSE = "pause"
RESUME = "resume"
OUT = "out"

LONGEST_PAUSE = 25.0
"""Seconds: Traefik gives a question up after 30 (its forwardauth), with a 500."""
PASSING = "X-Longshore-Pass"
"""The header by which a deploy's own checks go past the maintenance that it has turned on."""


ASKED = ":balancer:check"
"""The end of the names of routes by which a balancer of ours asks whether a service is well."""


BUILD_AGAIN = "(the engine came in its own way; once more)"
"""Among a build's lines: from here on it is run a second time."""

# Error codes, stable for tests and --json.
NO_ENGINE = "no-engine"
OLD_COMPOSE = "old-compose"
NO_COMPOSE = "no-compose"
NO_SPACE = "no-space"
NO_PERMISSION = "no-permission"
LOCKED = "locked"
LOCK_LOST = "lock-lost"
HELD = "held"
MOVED_ON = "moved-on"
NOT_TAKEN_BACK = "not-taken-back"
EDITED = "edited"
NO_IMAGE = "no-image"
REGISTRY_DOWN = "registry-down"
REGISTRY_LOGIN = "login"
NO_BUILDKIT = "no-buildkit"
WRONG_ARCHITECTURE = "wrong-architecture"
PORT_TAKEN = "port-taken"
COMPOSE_FAILED = "compose-failed"
UNHEALTHY = "unhealthy"
CANARY_FAILED = "canary-failed"
NO_RELEASE = "no-release"
NO_SERVICE = "no-service"
NOT_STAGED = "not-staged"
BAD_REQUEST = "bad-request"
MIGRATION_FAILED = "migration-failed"
HOOK_FAILED = "hook-failed"
INTERNAL = "internal"


class Container(TypedDict):
    """A container of the app, as the engine reports it."""

    id: str
    name: str
    service: str
    image: str
    image_id: str
    state: str  # created, running, restarting, paused, exited, dead
    health: str  # healthy, unhealthy, starting, or "" without a health check
    status: str  # the engine's own words: "Up 3 minutes (healthy)"
    created: int  # seconds since the epoch
    ports: List[str]
    config_hash: str
    release: str
    one_off: bool
    app: str  # the label longshore.app; empty for a container that Longshore did not make


class Step(TypedDict):
    """A release that led to the current one, with the run that brought it, and when (the host's clock)."""

    release: str
    run: str
    at: float


class InspectValue(TypedDict):
    """The answer to ``inspect``. Where ``images`` were asked about and there is something to do, it has also
    ``present``: what the question of that name would be answered with."""

    current: Optional[str]
    stack: List[Step]  # what led to the current release, oldest first
    releases: List[str]  # kept on the host, newest last
    good: bool  # current is running as it was committed: same containers, all running and healthy
    drift: List[str]  # sentences; empty when good
    containers: List[Container]
    unfinished: Optional[str]  # the step that a dead controller left, or None
    lock: Optional[Dict[str, Any]]
    hold: Optional[Dict[str, Any]]  # by, why, since, until (0: no end)
    staged: bool  # the host already has the release that was asked about
    manifest: Optional[Dict[str, Any]]  # of the current release, when it is another one
    notes: List[str]  # sentences about what differs and is left alone
    out: bool  # a person has taken it out of the load balancer
    closed: bool  # a deploy with a breaking migration has closed the app, and nothing has opened it yet
    breaking: bool  # the current release came with a breaking migration
    mend: Dict[str, str]  # service to what a deploy does about it: create, start, recreate, remove, wait
    stored: Optional["Stored"]  # when it was asked for (``explain``) and there is a difference to explain


class Stored(TypedDict):
    """What the current release's files say, without a value of ``.env`` (:mod:`longshore.agent.explain`)."""

    files: Dict[str, Dict[str, Any]]  # those that differ from what the controller has: text, env or size
    edited: List[str]  # the files that are not the release's own any more
    pins: Dict[str, str]  # service to image, where this host pinned it


def fingerprint(salt: str, value: str) -> str:
    """What stands for a value that isn't sent. Without the salt, which is made for one run and kept nowhere,
    it can't be guessed from: a short password would be found by trying."""
    import hmac  # late: most sessions need none

    return hmac.new(salt.encode(), value.encode("utf-8", "surrogateescape"), "sha256").hexdigest()[:16]


def forms(value: str) -> List[str]:
    """How a value may be written in a file, always in this order: as it is, in JSON or YAML, with the dollars
    that Compose wants doubled, in a URL, in base64."""
    import base64
    import json
    from urllib.parse import quote

    doubled = value.replace("$", "$$")
    return [
        value,
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        doubled,
        json.dumps(doubled, ensure_ascii=False)[1:-1],
        quote(value, errors="surrogateescape"),
        quote(value, safe="", errors="surrogateescape"),
        base64.b64encode(value.encode("utf-8", "surrogateescape")).decode(),
    ]


OPEN, CLOSE = "\ue000", "\ue001"
"""Around what stands for a value in a text: ``NAME``, the index in :func:`forms`, and the fingerprint, with
spaces between. Of the private use area: no file of people has them."""


class Request(TypedDict):
    """One request line."""

    id: int
    op: str
    args: Dict[str, Any]
    payload: int
