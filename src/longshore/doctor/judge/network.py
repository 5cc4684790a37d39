"""What is to be said of registries as the host's engine reaches them, and of the proxy's ports."""

from __future__ import annotations

import re
from collections.abc import Iterator

from longshore.doctor.finding import Finding, Seen, Wanted

_WHY = (
    (
        r"server gave HTTP response to HTTPS client",
        "it speaks plain HTTP, which the engine isn't told of",
        "Say `insecure: true` for it under longshore.registries, and run `invoke bootstrap`.",
    ),
    (
        r"x509|certificate",
        "its certificate isn't trusted there",
        "Name its `ca` under longshore.registries, and run `invoke bootstrap`.",
    ),
    (
        r"unauthorized|denied|forbidden|authentication|no basic auth|incorrect username|\b40[13]\b",
        "it refuses the login, or wants one",
        "Give username and password under longshore.registries, or `docker login` on this machine.",
    ),
)
_UNREACHED = "Look at the host's network, DNS and firewall: it pulls from there."


def registries(wanted: Wanted, seen: Seen) -> Iterator[Finding]:
    """Each registry that the host's images come from, asked by its engine, with the login."""
    for one in seen.rows("registries"):
        name, said = one["name"], str(one["said"])
        if one["status"] == 200:
            yield Finding("good", "registry", f"{name} answers its engine")
            continue
        if re.search(r"manifest unknown|not found", said) and not re.search(r"no such host", said):
            if one["pushed"]:
                yield Finding("good", "registry", f"{name} answers its engine")
                continue
            text = f"{name} answers its engine, and has no {one['image']}"
            yield Finding("warning", "image", text, "`invoke push` builds and pushes what is built here.")
            continue
        for pattern, why, hint in _WHY:
            if re.search(pattern, said, re.I):
                yield Finding("error", "registry", f"{name}: {why} ({_short(said)})", hint)
                break
        else:
            yield Finding("error", "registry", f"{name} can't be reached ({_short(said)})", _UNREACHED)


def _short(said: str) -> str:
    """The end of what the engine says: that is the reason."""
    return said if len(said) <= 160 else "…" + said[-159:]


def mirrors(wanted: Wanted, seen: Seen) -> Iterator[Finding]:
    """Docker Hub's mirrors: whether the engine is told of them, and whether they answer."""
    told = {one.rstrip("/") for one in seen.of("engine").get("mirrors", ())}
    for one in seen.rows("mirrors"):
        url = str(one["url"]).rstrip("/")
        if one["said"]:
            text = f"the mirror {url} doesn't answer ({one['said']}): everything comes from Docker Hub itself"
            yield Finding("warning", "mirror", text, _UNREACHED)
        elif seen.of("engine") and url not in told:
            text = f"its engine isn't told of the mirror {url}"
            yield Finding("warning", "mirror", text, "`invoke bootstrap` tells it.")
        else:
            yield Finding("good", "mirror", f"the mirror {url} answers")


def ports(wanted: Wanted, seen: Seen) -> Iterator[Finding]:
    """The proxy's ports: free, or its own."""
    for one in seen.rows("ports"):
        if one["by"] in ("", "ours"):
            text = f"port {one['port']}: {'our proxy has it' if one['by'] else 'free for the proxy'}"
            yield Finding("good", "port", text)
        else:
            text = f"port {one['port']}, which the proxy needs, is taken by {one['by']}"
            hint = "Stop that, or choose other ports: longshore: proxy: {http: …, https: …}."
            yield Finding("error", "port", text, hint)


def handover(wanted: Wanted, seen: Seen) -> Iterator[Finding]:
    """Whether the kernel can hand connections from an old proxy to a new one (docs/proxy.md, "Limits")."""
    facts = seen.of("system")
    if not wanted.ports or not facts:
        return
    numbers = re.match(r"(\d+)\.(\d+)", str(facts["kernel"]))
    version = (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)
    if version < (5, 6):
        text = f"kernel {facts['kernel']} can't hold requests back for a proxy that still starts (5.6 can)"
        yield Finding(
            "warning", "handover", text, "A newer kernel; else a request may get a 404 at that moment."
        )
    elif not facts["migrates"]:
        text = f"kernel {facts['kernel']} can't hand waiting connections to a new proxy (5.14 can)"
        yield Finding("warning", "handover", text, "A newer kernel; else one may be refused at that moment.")
    else:
        yield Finding("good", "handover", "its kernel hands connections from one proxy to the next")
