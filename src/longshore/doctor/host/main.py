"""Looks at one host, one thing after the other. What can't be looked at is a sentence, and stops nothing."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from longshore.agent.engine import EngineError
from longshore.agent.fail import Refusal as AgentRefusal
from longshore.bootstrap.host.say import Refusal
from longshore.bootstrap.host.system import prepare
from longshore.doctor.host import engine, network, state

# What is looked at, by the name that judging asks for.
LOOKS: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "system": state.system,
    "programs": engine.programs,
    "engine": engine.running,
    "settings": engine.settings,
    "builder": engine.builder,
    "disks": state.disks,
    "folder": state.folder,
    "apps": state.apps,
    "boot": state.boot,
    "ports": network.ports,
    "registries": network.registries,
    "mirrors": network.mirrors,
}


def main(wish: Mapping[str, Any]) -> None:
    """Say what time it is, and then, as one line of JSON, what everything in ``LOOKS`` has seen."""
    _say({"clock": time.time()})
    prepare()
    _say({"facts": {name: _looked(look, wish) for name, look in LOOKS.items()}})


def _looked(look: Callable[[Mapping[str, Any]], Any], wish: Mapping[str, Any]) -> Any:
    try:
        return look(wish)
    except (Refusal, AgentRefusal) as refusal:
        return {"error": refusal.message, "hint": refusal.hint}
    except EngineError as error:
        return {"error": f"the Docker engine refused: {error.message}", "hint": ""}
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        return {"error": f"{error.strerror or error}{place}", "hint": ""}
    except Exception as error:
        # A defect of ours, or a host unlike all others: the rest is worth seeing all the same.
        return {"error": f"this could not be looked at: {error!r}", "hint": "Please report it."}


def _say(value: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + os.linesep)
    sys.stdout.flush()
