"""A build or push that failed, as a sentence: which step, what it said, what to do."""

from __future__ import annotations

import re

from longshore.errors import AgentError
from longshore.images.progress import Progress, short

REGISTRY_FAILED = "registry-failed"
"""The code of a registry that answers with an error of its own, and doesn't say which."""
NO_SPACE = "no-space"
_KNOWN: tuple[tuple[str, str, str, str], ...] = (
    (
        r"no space left on device|disk quota exceeded|insufficient storage|\b507\b"
        r"|exceed the configured upper limit",  # Harbor's quotas
        NO_SPACE,
        "there is no space left, {where}",
        "Free some: `docker buildx prune` on a builder, old images in a registry.",
    ),
    (
        r"server gave HTTP response to HTTPS client",
        "insecure",
        "the registry speaks plain HTTP, and the engine takes that from no registry it isn't told of",
        "Say `insecure: true` for it under longshore.registries, and run `invoke bootstrap` on the builder.",
    ),
    (
        r"x509: |tls: failed to verify|certificate signed by unknown authority",
        "certificate",
        "the registry's certificate is not trusted there",
        "Name its `ca` under longshore.registries, and run `invoke bootstrap` on the builder.",
    ),
    (
        r"\b401\b|\b403\b|unauthorized|authentication required|access denied|denied: |authorization failed"
        r"|no basic auth credentials|insufficient_scope",
        "login",
        "the registry refuses the login, or knows none",
        "Give username and password under longshore.registries, or `docker login` on this machine.",
    ),
    (
        r"connection refused|no such host|i/o timeout|network is unreachable|no route to host"
        r"|connection reset|deadline exceeded|\b50[234]\b|broken pipe|server closed idle connection"
        r"|: (?:unexpected )?EOF(?:\n|$)",
        "registry-down",
        "a registry can't be reached from the builder",
        "Is it up? What is done so far is kept: run it again.",
    ),
    (
        r"\b500\b|internal server error",
        REGISTRY_FAILED,
        "the registry fails",
        "Its log says why; often its disk is full. Then run it again: what has arrived stays.",
    ),
    (
        r"missing in your target registry",
        "push-raced",
        "the registry lacks parts of it, which another push of the same image was bringing",
        "Run it again: what has arrived stays.",
    ),
    (
        r"granting entitlement .* is not allowed",
        "not-allowed",
        "the builder gives no step such rights",
        "`builder: {entitlements: …}` in its engine's daemon.json allows them; for a builder of yours, its"
        " buildkitd.toml.",
    ),
    (
        r"exec format error",
        "no-emulation",
        "programs of that platform can't run on the builder",
        "Install qemu-user-static there, or add a host of that architecture to `builders`.",
    ),
    (
        r"no match for platform|no matching manifest",
        "wrong-architecture",
        "a base image has nothing for that platform",
        "Choose another base, or leave the platform out.",
    ),
)
_NETWORK = re.compile(r"export|push|load metadata|import|auth|resolve|FROM ", re.I)


def failure(name: str, builder: str, progress: Progress) -> AgentError:
    """The error for a build that ended badly. Its ``detail.log`` is what the step said last."""
    step, lines = progress.failure()
    said = lines[-1] if lines else "it didn't say why"
    text = "\n".join(lines)
    # What a RUN says about a network is the program's own business, and shown as it is.
    of_ours = not step or bool(_NETWORK.search(step)) or "no space left" in text or "exec format" in text
    for pattern, code, sentence, hint in _KNOWN if of_ours else ():
        if re.search(pattern, text, re.I):
            where = "at the registry" if "push" in step or "export" in step else "on the builder"
            done = "pushed" if "failed to push" in text else "built"
            message = f"{name} could not be {done}: {sentence.format(where=where)} ({_short(said)})"
            return AgentError(message, code=code, where=builder, hint=hint, detail=_detail(step, lines))
    message = f"{name} could not be built: {short(step)} failed" if step else f"{name} could not be built"
    return AgentError(
        f"{message} ({_short(said)})", code="build-failed", where=builder, detail=_detail(step, lines)
    )


def without_space(name: str, error: AgentError) -> AgentError:
    """The error for a push to a registry that failed, and that has said to us why."""
    return AgentError(
        f"{name} could not be pushed: the registry has no space left",
        code=NO_SPACE,
        where=error.where,
        hint="Free some there. Then run it again: what has arrived stays.",
        detail=error.detail,
    )


def _short(text: str) -> str:
    return text if len(text) <= 240 else text[:239] + "…"


def _detail(step: str, lines: list[str]) -> dict[str, object]:
    return {"service": f"step {short(step)}" if step else "the build", "log": lines}
