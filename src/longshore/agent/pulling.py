"""Bringing an image to the host, through a line that may break in the middle of it."""

import re
import time
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, Optional, Set, Tuple

from longshore.agent import preflight, wire
from longshore.agent.engine import Engine, EngineError
from longshore.agent.fail import Refusal
from longshore.agent.health import Emit

if TYPE_CHECKING:
    from longshore.agent.relay import Relay
    from longshore.agent.resuming import Resuming

_UNREACHED = re.compile(
    r"connection refused|connection reset|no such host|timeout|timed out|deadline exceeded|unreachable"
    r"|no route to host|\beof\b|unexpected status|server error|service unavailable|bad gateway"
    r"|broken pipe|stream error|unexpected commit size|failed size validation"
)
"""What the engine says of a registry that doesn't answer, or not as one does (Go's net, containerd)."""
PATIENCE = 75.0
"""Seconds after which a pull that has broken off and brings nothing more is given up: registries restart in
less."""
_PAUSES = (1.0, 2.0, 4.0, 8.0)
"""Seconds before a pull is tried again; the last for all that follow."""
_BREAKS = 6
"""So often may a pull break off that goes on without a relay: engines begin anew each time."""
_COMING = ("Downloading", "Download complete")
"""What the engine says of a layer that wasn't there. Of one that comes quickly, only the second."""
_HERE = ("Verifying Checksum", "Download complete", "Extracting", "Pull complete")
_CANCELLED = 0.3
"""Seconds in which an engine notices that nobody waits for its pull any more."""


def bring(
    engine: Engine,
    ref: str,
    platform: Optional[str],
    auth: Optional[Dict[str, str]],
    emit: Emit,
    given_up: Optional[Callable[[], bool]] = None,
) -> Dict[str, Any]:
    """The image, pulled where it is missing or may be another one by now. Raises ``Refusal``.

    A pull that breaks off goes on through a relay of ours, from where it was. Where that is no use, the
    engine tries again, for a while, and which parts it brings again is its affair.
    One that never began doesn't: a registry that is down, or a name that is wrong, is said at once.
    """
    have = engine.image(ref)
    if have is not None and "@" in ref:
        return have
    emit("pull", image=ref, done=0, total=0)
    pull = _Pull(engine, ref, platform, auth, emit, given_up)
    try:
        pull.run()
    except EngineError as error:
        # An image that exists only here (built or loaded on the host) can't be pulled, and need not be.
        if have is not None:
            emit("note", message=f"{ref} could not be pulled ({error.message}); the host's own is used")
            return have
        refusal = _no_image(ref, error.message, *pull.most)
        if pull.resuming is not None and pull.resuming.no_use:
            refusal.detail["relay"] = pull.resuming.no_use
        raise refusal from error
    found = engine.image(ref)
    if found is None:
        raise Refusal(wire.NO_IMAGE, f"{ref} was pulled but is not there")
    return found


class _Pull:
    """One image on its way. ``most`` is how far it has come at best: bytes, and of how many."""

    def __init__(
        self,
        engine: Engine,
        ref: str,
        platform: Optional[str],
        auth: Optional[Dict[str, str]],
        emit: Emit,
        given_up: Optional[Callable[[], bool]],
    ) -> None:
        self.engine = engine
        self.ref = ref
        self.platform = platform
        self.auth = auth
        self.emit = emit
        self.given_up = given_up
        self.most = (0, 0)
        self.resuming: Optional[Resuming] = None
        self._came = False
        """Whether a layer was seen to grow the last time: what is there already is told, too."""

    def run(self) -> None:
        """Pull it, and go on when it breaks off. Raises ``EngineError``."""
        tries = breaks = 0
        broken_at = 0.0
        relayed = ""
        try:
            while True:
                try:
                    self._once()
                    break
                except EngineError as error:
                    if not self.most[0] or not _broke_off(self.ref, error.message):
                        raise
                    tries += 1
                    anew = self._came or not breaks
                    if anew:
                        # Counted from what the engine says: it may have waited long for a line that was dead.
                        broken_at, tries, breaks = time.monotonic(), 0, breaks + 1
                    if breaks >= _BREAKS or time.monotonic() - broken_at > PATIENCE:
                        raise
                    if anew:
                        self._say_broken(error.message)
                    if not relayed:
                        relayed = self._by_relay()
                        if relayed:
                            tries = breaks = 0
                            continue
                    if not _slept(_PAUSES[min(tries, len(_PAUSES) - 1)], self.given_up):
                        raise
            if relayed:
                # Not where it failed: the next pull finds the layers then, and after that the name goes.
                from longshore.agent.relayed import untag

                untag(self.engine, relayed)
        finally:
            if self.resuming is not None:
                self.resuming.close()

    def _say_broken(self, message: str) -> None:
        self.emit("note", message=f"{_broken(self.ref, message, *self.most)}; it goes on by itself")

    def _once(self, relay: "Optional[Relay]" = None) -> None:
        layers: Dict[str, Tuple[int, int]] = {}
        self._came = False
        last = -1
        waiting: Set[str] = set()
        coming: Set[Tuple[str, str]] = set()
        seen = self.most
        lines = self._through(relay) if relay else self.engine.pull(self.ref, self.platform, self.auth)
        for line in lines:
            detail = line.get("progressDetail") or {}
            status, layer = str(line.get("status")), str(line.get("id"))
            if status.startswith("Retrying in"):  # the older image store, for up to 50 s
                if not relay and self.resuming is not None and self.resuming.is_better():
                    lines.close()  # type: ignore[attr-defined]  # the engine forgets it then
                    raise EngineError(500, "unexpected EOF")
                if not waiting:
                    self.emit("note", message=f"the pull of {self.ref} broke off; the engine tries again")
                waiting.add(layer)
            elif status == "Downloading":
                waiting.discard(layer)
            if line.get("id") and detail.get("total") and status == "Downloading":
                now = (int(detail.get("current", 0)), int(detail["total"]))
                self._came = self._came or layers.get(line["id"], now) != now
                if now[0] == now[1]:
                    # The older store also says so of a layer whose line broke; that it is here comes next.
                    now = (layers.get(line["id"], (0, 0))[0], now[1])
                layers[line["id"]] = now
            elif status in _HERE and layer in layers:
                layers[layer] = (layers[layer][1], layers[layer][1])
            if status in _COMING and not relay:
                self._keep(coming, (layer, status))
            # What was seen is not taken back: some of it comes again, from here.
            done, total = (max(seen[at], sum(part[at] for part in layers.values())) for at in (0, 1))
            self.most = max(self.most, (done, total))
            percent = done * 20 // total if total else 0  # a line each 5 %
            if percent != last:
                last = percent
                self.emit("pull", image=self.ref, done=done, total=total)

    def _keep(self, coming: Set[Tuple[str, str]], now: Tuple[str, str]) -> None:
        """Hold on to what comes: the layers, each with what the engine has said of it."""
        is_new = now not in coming
        coming.add(now)
        if self.resuming is None and self.most[0]:  # a small one is here before it was worth it
            from longshore.agent.resuming import Resuming

            self.resuming = Resuming(self.engine, self.ref, self.auth, PATIENCE, self.given_up)
        if self.resuming is not None:
            self.resuming.keep({layer for layer, _ in coming}, is_new)

    def _by_relay(self) -> str:
        """Pull it through the relay; by what name it is there then, empty where the relay is no use. Raises
        ``EngineError`` when the registry stays away."""
        relay = self.resuming.relay() if self.resuming else None
        if self.resuming is None or relay is None:
            return ""
        from longshore.agent.registry import NoUseError
        from longshore.agent.relayed import left_behind
        from longshore.agent.unbroken import OverError

        image = relay.image
        try:
            relay.open()
            left_behind(self.engine)
            image.find()
            self._once(relay)
            self.resuming.done()
            return relay.ref
        except OverError as error:
            raise EngineError(500, image.over or str(error)) from error
        except EngineError as error:
            if image.over:
                raise
            self.resuming.close(error.message)
        except (NoUseError, OSError) as error:
            self.resuming.close(str(error))
        return ""

    def _through(self, relay: "Relay") -> Iterator[Dict[str, Any]]:
        """The engine's lines of the pull through the relay; between them it is looked how that fares."""
        import queue
        import threading

        from longshore.agent.registry import NoUseError

        connection = self.engine.connection()
        told: queue.Queue[Any] = queue.Queue()

        def read() -> None:
            try:
                for line in self.engine.pull(relay.ref, self.platform, None, connection):
                    told.put(line)
                told.put(None)
            except (EngineError, Refusal) as error:
                told.put(error)

        reading = threading.Thread(target=read, daemon=True)
        reading.start()
        line: Any = {}
        try:
            while line is not None:
                self._say_all_broken(relay)
                if relay.no_use:
                    raise NoUseError(relay.no_use)
                if relay.image.over:
                    raise EngineError(500, relay.image.over)
                try:
                    line = told.get(timeout=0.2)
                except queue.Empty:
                    continue
                if isinstance(line, Exception):
                    raise line
                if line is not None:
                    yield line
            self._say_all_broken(relay)
        finally:
            if line is not None:
                connection.abort()
                reading.join(_CANCELLED)
                time.sleep(_CANCELLED)

    def _say_all_broken(self, relay: "Relay") -> None:
        while not relay.image.broken.empty():
            self._say_broken(relay.image.broken.get())


def _slept(seconds: float, given_up: Optional[Callable[[], bool]]) -> bool:
    """Wait so long, or until nobody waits for us any more; whether there is a reason to go on."""
    until = time.monotonic() + seconds
    while given_up is None or not given_up():
        if time.monotonic() >= until:
            return True
        time.sleep(0.1)
    return False


def _broke_off(ref: str, message: str) -> bool:
    """Whether it may go on after a while."""
    return _no_image(ref, message, 0, 0).code == wire.REGISTRY_DOWN


def _broken(ref: str, message: str, done: int, total: int) -> str:
    last = message.rstrip(".").rpartition(": ")[2]
    return f"the pull of {ref} broke off after {_mb(done)} of {_mb(total)} ({last})"


def _no_image(ref: str, message: str, done: int, total: int) -> Refusal:
    """Why a pull ended badly, after ``done`` of ``total`` bytes."""
    low = message.lower()
    detail = {"engine": message}
    registry = registry_of(ref)
    if "no space left" in low:
        return Refusal(
            wire.NO_SPACE,
            f"no space left on the disk while pulling {ref}",
            "Free some with `invoke cleanup`.",
        )
    if "no match for platform" in low or "no matching manifest" in low:
        return Refusal(
            wire.WRONG_ARCHITECTURE,
            f"{ref} has no image for this host's architecture ({preflight.architecture()})",
            "Build it for that, too.",
        )
    if re.search("unauthorized|denied|authentication required|no basic auth|authorization failed", low):
        return Refusal(
            wire.REGISTRY_LOGIN,
            f"the registry refuses {ref}: the login is wrong or lacking, or there is no such image",
            f"Give username and password of {registry} under `longshore.registries`.",
            detail,
        )
    if "not found" in low or "manifest unknown" in low or "does not exist" in low:
        return Refusal(
            wire.NO_IMAGE,
            f"there is no image {ref} in the registry",
            "Build and push it, or correct its name.",
        )
    if "http response to https client" in low:
        return Refusal(
            wire.NO_IMAGE,
            f"{ref} can't be pulled: the registry {registry} speaks plain HTTP, and this host's engine takes"
            " that from no registry it isn't told of",
            "Say `insecure: true` for it under `longshore.registries`, and run `invoke bootstrap`.",
            detail,
        )
    if "x509" in low or "failed to verify certificate" in low:
        return Refusal(
            wire.NO_IMAGE,
            f"{ref} can't be pulled: the certificate of the registry {registry} is not trusted on this host",
            "Name its `ca` under `longshore.registries`, and run `invoke bootstrap`.",
            detail,
        )
    last = message.rstrip(".").rpartition(": ")[2]
    if done:
        return Refusal(
            wire.REGISTRY_DOWN,
            _broken(ref, message, done, total),
            "Nothing of what runs has changed. Run it again when the registry answers.",
            {**detail, "done": done, "total": total},
        )
    if _UNREACHED.search(low):
        return Refusal(
            wire.REGISTRY_DOWN,
            f"{ref} can't be pulled: the registry can't be reached from this host, or fails ({last})",
            "Is it up, and reached from there? Nothing of what runs has changed; run it again then.",
            detail,
        )
    return Refusal(wire.NO_IMAGE, f"{ref} can't be pulled: {message}", "", detail)


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def registry_of(ref: str) -> str:
    """The registry's name in an image reference, ``docker.io`` without one."""
    first, slash, _ = ref.partition("/")
    return first if slash and ("." in first or ":" in first or first == "localhost") else "docker.io"
