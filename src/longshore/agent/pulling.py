"""Bringing an image to the host, through a line that may break in the middle of it."""

import re
import time
from typing import Any, Callable, Dict, Optional, Set, Tuple

from longshore.agent import preflight, wire
from longshore.agent.engine import Engine, EngineError
from longshore.agent.fail import Refusal
from longshore.agent.health import Emit

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
"""So often may a pull break off: the older image store begins anew each time."""


def bring(
    engine: Engine,
    ref: str,
    platform: Optional[str],
    auth: Optional[Dict[str, str]],
    emit: Emit,
    given_up: Optional[Callable[[], bool]] = None,
) -> Dict[str, Any]:
    """The image, pulled where it is missing or may be another one by now. Raises ``Refusal``.

    A pull that breaks off is tried again, for a while: which parts it brings again is the engine's affair.
    One that never began isn't: a registry that is down, or a name that is wrong, is said at once.
    """
    have = engine.image(ref)
    if have is not None and "@" in ref:
        return have
    emit("pull", image=ref, done=0, total=0)
    pull = _Pull(engine, ref, platform, auth, emit)
    try:
        pull.run(given_up)
    except EngineError as error:
        # An image that exists only here (built or loaded on the host) can't be pulled, and need not be.
        if have is not None:
            emit("note", message=f"{ref} could not be pulled ({error.message}); the host's own is used")
            return have
        raise _no_image(ref, error.message, *pull.most) from error
    found = engine.image(ref)
    if found is None:
        raise Refusal(wire.NO_IMAGE, f"{ref} was pulled but is not there")
    return found


class _Pull:
    """One image on its way. ``most`` is how far it has come at best: bytes, and of how many."""

    def __init__(
        self, engine: Engine, ref: str, platform: Optional[str], auth: Optional[Dict[str, str]], emit: Emit
    ) -> None:
        self.engine = engine
        self.ref = ref
        self.platform = platform
        self.auth = auth
        self.emit = emit
        self.most = (0, 0)
        self._came = False
        """Whether a layer was seen to grow the last time: what is there already is told, too."""

    def run(self, given_up: Optional[Callable[[], bool]]) -> None:
        """Pull it, and again when it breaks off. Raises ``EngineError``."""
        tries = breaks = 0
        broken_at = 0.0
        while True:
            try:
                self._once()
                return
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
                    said = _broken(self.ref, error.message, *self.most)
                    self.emit("note", message=f"{said}; it goes on by itself")
                if not _slept(_PAUSES[min(tries, len(_PAUSES) - 1)], given_up):
                    raise

    def _once(self) -> None:
        layers: Dict[str, Tuple[int, int]] = {}
        self._came = False
        last = -1
        waiting: Set[str] = set()
        for line in self.engine.pull(self.ref, self.platform, self.auth):
            detail = line.get("progressDetail") or {}
            status, layer = str(line.get("status")), str(line.get("id"))
            if status.startswith("Retrying in"):  # the older image store, for up to 50 s
                if not waiting:
                    self.emit("note", message=f"the pull of {self.ref} broke off; the engine tries again")
                waiting.add(layer)
            elif status == "Downloading":
                waiting.discard(layer)
            if line.get("id") and detail.get("total") and status == "Downloading":
                now = (int(detail.get("current", 0)), int(detail["total"]))
                self._came = self._came or layers.get(line["id"], now) != now
                layers[line["id"]] = now
            done, total = (sum(part[at] for part in layers.values()) for at in (0, 1))
            self.most = max(self.most, (done, total))
            percent = done * 20 // total if total else 0  # a line each 5 %
            if percent != last:
                last = percent
                self.emit("pull", image=self.ref, done=done, total=total)


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
