"""What it takes to go on with a pull that breaks off: what had come of it, and a relay for the rest.

Imported when the first bytes come; the relay, with TLS and all, when it is needed.
"""

import threading
import time
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterable, Optional

from longshore.agent.engine import Engine, EngineError
from longshore.agent.fail import Refusal
from longshore.agent.kept import Kept

if TYPE_CHECKING:
    from longshore.agent.relay import Relay

_REHEARSED = 3.0
"""Seconds of bytes coming after which it is worth knowing whether the relay would do."""
_YOUNG = 8.0
"""Seconds of bytes coming up to which not much could be lost, if it wouldn't."""


class Resuming:
    """For one pull. ``patience`` and ``given_up``: as for :class:`longshore.agent.unbroken.Image`."""

    def __init__(
        self,
        engine: Engine,
        ref: str,
        auth: Optional[Dict[str, str]],
        patience: float,
        given_up: Optional[Callable[[], bool]],
    ) -> None:
        self.engine = engine
        self.ref = ref
        self.auth = auth
        self.patience = patience
        self.given_up = given_up
        self.no_use = ""
        """Why there is no relay here; empty as long as there may be one."""
        try:
            self._info: Dict[str, Any] = engine.info()
        except (EngineError, Refusal):
            self._info = {}
        self._kept = Kept(self._info, ref.partition("@")[2])
        self._relay: Optional[Relay] = None
        self._began = time.monotonic()
        self._rehearsal = self._began + _REHEARSED
        """When the registry is asked (monotonic, s)."""
        self._answered = False
        """Whether the registry has answered the relay."""

    def keep(self, layers: Iterable[str], is_new: bool) -> None:
        """Hold on to what comes of these layers (as the engine tells progress); one of them ``is_new``."""
        if self.no_use:
            return
        self._kept.look(layers, at_once=is_new)
        now = time.monotonic()
        if self._kept.is_older and not self._answered and self._rehearsal <= now:
            self._rehearsal = now + _YOUNG
            # Such an engine doesn't say that a pull has failed before a minute is over, in which it may drop
            # what had come. It is cut short, but not when much has come and the relay might be no use.
            relay = self.relay()
            if relay is not None:
                threading.Thread(target=self._rehearse, args=(relay,), daemon=True).start()

    def relay(self) -> "Optional[Relay]":
        """The relay, if it is any use."""
        if self._relay is None and not self.no_use:
            try:
                from longshore.agent.registry import NoUseError
                from longshore.agent.relay import Relay
                from longshore.agent.unbroken import Image
            except ImportError as error:  # a Python without TLS
                self.no_use = str(error)
                return None
            try:
                image = Image(self.ref, self.auth, self._info, self._kept, self.patience, self.given_up)
                self._relay = Relay(image)
            except NoUseError as error:
                self.no_use = str(error)
        return self._relay

    def _rehearse(self, relay: "Relay") -> None:
        from longshore.agent.registry import UNREACHED, NoUseError

        try:
            relay.image.knows()
            self._answered = True
        except NoUseError as error:
            self.no_use = str(error)
        except UNREACHED:
            pass  # it is asked again

    def is_better(self) -> bool:
        """Whether an engine that tries again by itself is better cut short."""
        is_young = time.monotonic() < self._began + _YOUNG
        relay = self.relay()
        if relay is None or not self._kept or not (self._answered or is_young):
            return False
        try:
            relay.open()
        except OSError as error:
            self.no_use = str(error)
            return False
        if not relay.is_reached(self.engine):
            self.no_use = "the engine doesn't find its way to it"
        return not self.no_use

    def done(self) -> None:
        """The rest has come through the relay. It stays, for its name shows others that this is at work."""
        self.no_use = "it has done its part"
        self._kept.close()

    def close(self, why: str = "") -> None:
        """Let go of all of it; ``why`` there is to be none any more, where the pull goes on without."""
        self.no_use = self.no_use or why
        if self._relay is not None:
            self._relay.close()
            self._relay = None
        self._kept.close()
