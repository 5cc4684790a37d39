"""Requests about an app that are no step of a release: looking, restarting, cleaning, closing, pausing."""

import threading
from typing import Any, Callable, Dict

from longshore.agent import cleanup, control, fronting, leaving, wire
from longshore.agent.daily import Daily
from longshore.agent.engine import Engine
from longshore.agent.fail import Refusal
from longshore.agent.health import Emit
from longshore.agent.hidden import Hidden
from longshore.agent.store import AppStore

_KNOWN: Dict[str, Callable[[Daily, Dict[str, Any]], Any]] = {
    wire.PS: Daily.ps,
    wire.STATS: Daily.stats,
    wire.IMAGES: Daily.images,
    wire.HEALTH: Daily.health,
    wire.VOLUMES: Daily.volumes,
    wire.HISTORY: Daily.history,
    wire.AUDIT: Daily.audit,
    wire.LIMITS: Daily.limits,
    wire.RESTART: control.restart,
    wire.STOP: control.stop,
    wire.START: control.start,
    wire.DOWN: control.down,
    wire.RUN: control.run,
    wire.CLEANUP: cleanup.cleanup,
    wire.MAINTENANCE: fronting.set_maintenance,
    wire.SEAL: fronting.seal,
    wire.REOPEN: fronting.reopen,
    wire.PAUSE: fronting.pause,
    wire.RESUME: fronting.resume,
    wire.OUT: leaving.by_hand,
}


def run(
    op: str,
    args: Dict[str, Any],
    *,
    engine: Engine,
    store: AppStore,
    emit: Emit,
    gone: threading.Event,
    hidden: Hidden,
) -> Any:
    """Answer one of them. Raises ``Refusal``."""
    if op not in _KNOWN:
        raise Refusal(wire.BAD_REQUEST, f"unknown request {op!r}")
    value = _KNOWN[op](Daily(engine, store, emit, gone), args)
    if op == wire.HEALTH:
        masks = hidden.masks(store.app)
        return [{**row, "output": masks.text(row["output"])} for row in value]
    if op == wire.PS and args.get("secrets"):
        # For who reads the containers' own output past us: `logs`, `exec`.
        value["secrets"] = sorted(hidden.masks(store.app).secrets)
    return value
