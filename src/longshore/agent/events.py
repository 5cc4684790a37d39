"""What happens to a project's containers, as the engine tells it: so nobody has to ask again and again."""

import json
import threading
from types import TracebackType
from typing import Optional, Type

from longshore.agent.engine import PROJECT, Engine, EngineError
from longshore.agent.fail import Refusal

_WHICH = ("start", "die", "oom", "kill", "pause", "unpause", "destroy", "health_status")
"""Not all: each health check is three more."""


class Events:
    """Within its ``with``, ``wait`` ends when something has happened. While the engine doesn't tell, since it
    is being restarted, say, nothing happens."""

    def __init__(self, engine: Engine, project: str) -> None:
        self._engine = engine
        self._filters = {"type": ["container"], "label": [f"{PROJECT}={project}"], "event": list(_WHICH)}
        self._happened = threading.Event()
        self._connection = engine.connection()

    def __enter__(self) -> "Events":
        try:
            self._connection.open()  # here, so that it can be aborted from now on
        except OSError:
            return self
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self._connection.abort()

    def wait(self, seconds: float) -> bool:
        """Wait until something has happened since the last ``forget``, up to so long. Whether it has."""
        return self._happened.wait(seconds)

    def forget(self) -> None:
        """What has happened up to now is known: somebody looks at it just after this."""
        self._happened.clear()

    def _listen(self) -> None:
        query = {"filters": json.dumps(self._filters)}
        try:
            for _ in self._engine.stream("GET", "/events", query, connection=self._connection):
                self._happened.set()
        except (EngineError, Refusal, ValueError):
            pass  # it is away, or was aborted
