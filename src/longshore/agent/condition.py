"""What a host is found in when a step has failed there: for the report, so it never fails itself."""

from typing import Any, Dict, List, Optional, Tuple, Union

from longshore.agent import wire
from longshore.agent.engine import Engine, EngineError
from longshore.agent.fail import Refusal, from_os_error
from longshore.agent.health import autopsy, containers
from longshore.agent.store import AppStore


def as_refusal(error: Union[Refusal, EngineError, OSError]) -> Refusal:
    """The same failure as a sentence with a code."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, EngineError):
        return Refusal(wire.INTERNAL, f"the Docker engine refused: {error.message}")
    return from_os_error(error)


def with_autopsy(engine: Engine, manifest: Dict[str, Any], refusal: Refusal) -> Refusal:
    """The refusal of Compose with what the container that made it fail has to say: its last log lines, exit
    code and health check. Compose itself names only the container."""
    if refusal.code != wire.COMPOSE_FAILED:
        return refusal
    try:
        found = containers(engine, manifest["project"])
        sick = next((one for one in found if _failed(engine, one, manifest)), None)
        if sick is None:
            return refusal
        detail = autopsy(engine, sick, engine.container(sick["id"]))
    except (Refusal, EngineError, OSError):
        return refusal
    words = refusal.message
    if detail["exit_code"] is not None:
        words += f" ({sick['service']} exited with code {detail['exit_code']})"
    return Refusal(refusal.code, words, refusal.hint, {**refusal.detail, **detail})


def _failed(engine: Engine, one: Dict[str, Any], manifest: Dict[str, Any]) -> bool:
    if one["service"] not in manifest["services"]:
        return False
    if one["health"] == "unhealthy" or one["state"] in ("restarting", "dead"):
        return True
    full = engine.container(one["id"]) if one["state"] == "exited" else None
    return full is not None and full["State"]["ExitCode"] != 0


def condition(engine: Engine, store: AppStore, back: Optional[str], failed: str) -> Dict[str, Any]:
    """``current``: the release that is recorded; ``back``, ``failed``; ``containers``: what runs, each with
    ``service``, ``status`` and ``release`` (``back`` where it is that one's container, else ``None``).
    ``containers`` is ``None`` when the engine doesn't say."""
    value: Dict[str, Any] = {"current": store.current(), "back": back, "failed": failed, "containers": None}
    try:
        good = _keys((store.committed(back) or {}).get("containers", [])) if back else []
        value["containers"] = [
            {
                "service": one["service"],
                "status": one["status"] or one["state"],
                "release": back if _key(one) in good else None,
            }
            for one in containers(engine, store.manifest(failed)["project"])
        ]
    except (Refusal, EngineError, OSError):
        pass
    return value


def _keys(containers: List[Dict[str, Any]]) -> List[Tuple[str, str, str]]:
    return [_key(one) for one in containers]


def _key(one: Dict[str, Any]) -> Tuple[str, str, str]:
    return one["service"], one["config_hash"], one["image_id"]
