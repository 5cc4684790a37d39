"""What an app is on this host, looked at without changing anything."""

from typing import Any, Dict, List, Optional

from longshore.agent import edited, maintenance, out
from longshore.agent.drift import Finding, drift
from longshore.agent.engine import Engine
from longshore.agent.health import containers
from longshore.agent.history import History
from longshore.agent.journal import Journal
from longshore.agent.lock import Hold, Lock
from longshore.agent.store import AppStore


def inspect(
    engine: Engine,
    store: AppStore,
    project: str,
    wanted: Optional[str],
    *,
    deep: bool = False,
    explain: Optional[Dict[str, Any]] = None,
) -> Dict[str, Any]:
    """A ``wire.InspectValue``, for a run that wants the release ``wanted`` here, if any.

    ``deep``: every file of the release is read, and not only what changed on the disk since the commit.
    ``explain``: also say what the current release's files hold (:mod:`longshore.agent.explain`).
    """
    found = containers(engine, project)
    if not store.exists():
        return {
            "current": None, "stack": [], "releases": [], "staged": False, "manifest": None,
            "good": False, "drift": [], "containers": found, "unfinished": None, "lock": None,
            "notes": [], "mend": {}, "closed": False, "breaking": False, "stored": None, "hold": None,
            "out": False,
        }  # fmt: skip
    current = store.current()
    kept = store.kept()
    history = History(store.root).read()
    open_switch = Journal(store.root).unfinished()
    findings = look(engine, store, current, found, deep=deep) if current else []
    sentences = [one.text for one in findings if one.mend and one.text]
    return {
        "current": current,
        "stack": stack(history, kept),
        "releases": kept,
        "staged": bool(wanted) and _is_whole(store, str(wanted), deep),
        # What is already so need not be sent: the plan asks only when there is a difference to explain.
        "manifest": store.manifest(current) if current and current != wanted else None,
        "good": current is not None and not sentences and open_switch is None,
        "drift": list(dict.fromkeys(sentences)),
        "notes": list(dict.fromkeys(one.text for one in findings if not one.mend)),
        "mend": _mend(findings),
        "containers": found,
        "unfinished": open_switch["to"] if open_switch else None,
        "lock": Lock(store.root).holder(),
        "hold": Hold(store.root).read(),
        "out": out.by_hand(store),
        "closed": bool((maintenance.state_of(store) or {}).get("deploy")),
        "breaking": bool(((store.committed(current) if current else None) or {}).get("breaking")),
        "stored": _stored(store, current, wanted, explain, deep) if current and explain else None,
    }


def look(
    engine: Engine, store: AppStore, current: str, found: List[Dict[str, Any]], *, deep: bool
) -> List[Finding]:
    """How containers and files differ from what was committed."""
    committed = store.committed(current)
    findings = drift(engine, store.app, committed, found)
    since = _since(store, current, deep)
    manifest = store.manifest(current)
    if any(facts.get("routed") for facts in manifest["services"].values()):
        from longshore.agent import bluegreen  # late: few apps are behind the proxy

        findings += bluegreen.findings(engine, store, manifest, found)
    return findings + edited.findings(engine, store, manifest, found, since)


def _is_whole(store: AppStore, release: str, deep: bool) -> bool:
    """Whether a release is here and as it came: else it has to be sent again."""
    if not store.has(release):
        return False
    changes = edited.edited(store, store.manifest(release), _since(store, release, deep))
    return all(one.how == edited.ADDED for one in changes)


def _since(store: AppStore, release: str, deep: bool) -> float:
    return 0.0 if deep else float((store.committed(release) or {}).get("seen", 0))


_STRENGTH = ("wait", "write", "start", "create", "remove", "recreate")


def _mend(findings: List[Finding]) -> Dict[str, str]:
    mends: Dict[str, str] = {}
    for one in findings:
        if one.service and one.mend:
            known = mends.get(one.service, one.mend)
            mends[one.service] = max(known, one.mend, key=_STRENGTH.index)
    return mends


def _stored(
    store: AppStore, current: str, wanted: Optional[str], asked: Dict[str, Any], deep: bool
) -> Optional[Dict[str, Any]]:
    manifest = store.manifest(current)
    changed = [one.path for one in edited.edited(store, manifest, _since(store, current, deep))]
    if current == wanted and not changed:
        return None
    from longshore.agent.explain import explain  # late: only where there is a difference

    return explain(store, manifest, asked, changed)


def stack(history: List[Dict[str, Any]], kept: List[str]) -> List[Dict[str, Any]]:
    """The releases that led to the current one, oldest first, as ``wire.Step``; only those still kept.

    Going back takes off what was left: after A, B, C and a way back to B the stack is A, B. An entry has the
    run that brought it first, so that the hosts of one run can be taken back together.
    """
    steps: List[Dict[str, Any]] = []
    for line in history:
        release = line.get("release")
        if line.get("outcome") not in ("committed", "kept") or not isinstance(release, str):
            continue
        known = [at for at, step in enumerate(steps) if step["release"] == release]
        if known:
            del steps[known[0] + 1 :]
        else:
            steps.append({"release": release, "run": line.get("run", ""), "at": line.get("at", 0)})
    return [step for step in steps if step["release"] in kept]
