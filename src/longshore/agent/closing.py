"""A deploy with a breaking migration: nothing of the old release may meet the new schema.

The app is closed first: the proxy answers maintenance, what is under way is finished, and all that isn't
needed for the migration stops. It opens when a release is committed, or when the old one is back. From the
moment at which the schema may have been touched the host starts nothing of the old release by itself, whoever
dies when: it stays closed, and a person decides.

The note of that is with the maintenance's state, so whoever turns maintenance off by hand takes it away.
"""

from typing import Any, Dict, List, Tuple

from longshore.agent import draining, maintenance, overlays
from longshore.agent.engine import Engine, EngineError
from longshore.agent.fail import Refusal
from longshore.agent.health import Emit, containers, is_ours
from longshore.agent.order import in_order
from longshore.agent.proxy import Proxy
from longshore.agent.store import AppStore


def note_of(store: AppStore) -> Dict[str, Any]:
    """Empty when no deploy has closed the app; else ``release``, ``keep`` (services that go on), ``own``
    (whether maintenance was off before) and ``sealed``: the release whose schema may be there; or ''."""
    found: Dict[str, Any] = (maintenance.state_of(store) or {}).get("deploy") or {}
    return found


def sealed(store: AppStore) -> bool:
    """Whether the old release must not be started here."""
    return bool(note_of(store).get("sealed"))


def told(store: AppStore) -> Dict[str, bool]:
    """For an answer: ``closed``, where going back has left the app closed."""
    return {"closed": True} if sealed(store) else {}


def is_breaking(store: AppStore, release: str) -> bool:
    """Whether a release that is committed now came, now or the first time, with a breaking migration."""
    known = store.committed(release) or {}
    return bool(known.get("breaking")) or note_of(store).get("sealed") == release


def close(engine: Engine, store: AppStore, emit: Emit, args: Dict[str, Any]) -> Dict[str, Any]:
    """Turn maintenance on, let requests under way finish, and stop all services but those of ``keep``.

    ``release`` is the one that comes; without ``keep`` it is as it was closed before. ``pass`` lets the
    deploy's own checks through; ``page``, ``allow``, ``retry_after``, ``by`` and ``why`` are maintenance's.
    Gives ``served``: whether there is a proxy's route to close. Raises ``Refusal``.
    """
    before = maintenance.state_of(store) or {}
    note = {
        "release": str(args["release"]),
        "keep": before.get("deploy", {}).get("keep", []) if args.get("keep") is None else list(args["keep"]),
        "own": bool(before.get("deploy", {}).get("own", not before)),
        "sealed": str(before.get("deploy", {}).get("sealed", "")),
    }
    served = overlays.close(engine, store, emit, {**args, "deploy": note})
    _drain(engine, store, emit)
    stop(engine, store, emit)
    return {"served": served}


def seal(store: AppStore, is_sealed: bool) -> Dict[str, Any]:
    """From now on the schema may be the new one, or it is the old one again."""
    state = maintenance.state_of(store)
    if state is not None and state.get("deploy"):
        note = {**state["deploy"], "sealed": state["deploy"]["release"] if is_sealed else ""}
        maintenance.put(store, {**state, "deploy": note})
    return {}


def reopen(engine: Engine, store: AppStore, emit: Emit) -> Dict[str, Any]:
    """What runs is what may run: the app is open again, unless a person had closed it before."""
    note = note_of(store)
    if note:
        overlays.reopen(engine, store, emit, own=bool(note.get("own")))
    return {"opened": bool(note)}


def reopen_quietly(engine: Engine, store: AppStore, emit: Emit) -> None:
    """``reopen``, where not being able to is no reason to say that something else failed."""
    try:
        reopen(engine, store, emit)
    except (Refusal, EngineError, OSError) as error:
        emit("note", message=f"maintenance is still on: {error}")


def settle(engine: Engine, store: AppStore, emit: Emit) -> None:
    """Open an app whose deploy has committed its release and ended before it could say so."""
    note = note_of(store)
    if note and store.current() == note["release"]:
        reopen_quietly(engine, store, emit)


def stop(engine: Engine, store: AppStore, emit: Emit) -> None:
    """Stop what runs of the app, of whatever release, but for what goes on; what needs others first."""
    keep = set(note_of(store).get("keep", []))
    for one in reversed(_running(engine, store)):
        if one["service"] not in keep:
            emit("compose", line=f"{one['service']} stops")
            engine.stop(one["id"])


def _running(engine: Engine, store: AppStore) -> List[Dict[str, Any]]:
    releases = [name for name in (store.current(), note_of(store).get("release")) if name and store.has(name)]
    found: Dict[str, Dict[str, Any]] = {}
    for release in releases:
        manifest = store.manifest(release)
        ranks = {name: rank for rank, name in enumerate(in_order(manifest["services"]))}
        for one in containers(engine, manifest["project"]):
            runs = one["state"] in ("running", "restarting", "paused")
            if runs and is_ours(one, store.app, manifest["services"]):
                found.setdefault(one["id"], {**one, "rank": ranks.get(one["service"], len(ranks))})
    return sorted(found.values(), key=lambda one: (one["rank"], one["name"]))


def _drain(engine: Engine, store: AppStore, emit: Emit) -> None:
    from longshore.agent.bluegreen import routes_of  # late: it has all that brings a release

    current = store.current()
    routes = routes_of(store, current) if current else None
    if not routes:
        return
    running = _running(engine, store)
    addresses = Proxy(engine, overlays.state_dir(store), emit).addresses(one["id"] for one in running)
    leaving: List[Tuple[str, int]] = []
    longest = 0.0
    for one in running:
        entry = routes["services"].get(one["service"])
        if entry is not None and one["id"] in addresses:
            leaving.append((addresses[one["id"]], int(entry["port"])))
            longest = max(longest, float(entry["drain"]))
    if leaving and not draining.drained(leaving, longest):
        emit("note", message=f"some requests were not finished {longest:g} s after maintenance began")
