"""The name that an image has in the engine while a relay brings it, and what a killed agent's relay left."""

import re
import socket

from longshore.agent.engine import Engine, EngineError
from longshore.agent.fail import Refusal
from longshore.agent.unixhttp import quoted

NAME = "longshore-relay-"
_LEFT = re.compile(rf"127\.0\.0\.1:(\d+)/{NAME}[0-9a-f]{{32}}@sha256:[0-9a-f]{{64}}")


def left_behind(engine: Engine) -> None:
    """Remove what relays of killed agents have left in the engine: names, whose images go with them where
    nothing else has them. That of a relay at work (its port answers) stays."""
    for image in engine.images():
        for name in image.get("RepoDigests") or []:
            found = _LEFT.fullmatch(name)
            if found and not _answers(int(found[1])):
                untag(engine, name)


def untag(engine: Engine, ref: str) -> None:
    """Take a relay's name from an image; one that isn't there is as good."""
    try:
        engine.request("DELETE", f"/images/{quoted(ref, safe='/:@')}")
    except (EngineError, Refusal):
        pass  # the next one, or a cleanup, takes it


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True
