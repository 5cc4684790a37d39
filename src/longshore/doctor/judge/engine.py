"""What is to be said of the engine: its programs, whether it answers, and its settings."""

from __future__ import annotations

from collections.abc import Iterator

from longshore.doctor.finding import Finding, Level, Seen, Wanted

_NAMES = {"engine": "Docker engine", "cli": "the docker command", "compose": "Compose", "buildx": "buildx"}
_BOOTSTRAP = "`invoke bootstrap` installs it."


def programs(wanted: Wanted, seen: Seen) -> Iterator[Finding]:
    """Engine, Compose and buildx, against the oldest that will do."""
    facts = seen.of("programs")
    if not facts:
        said = seen.facts.get("programs") or {}
        if said.get("error"):
            yield Finding("error", "programs", str(said["error"]), str(said["hint"]))
        return
    versions, needed = facts["versions"], facts["needed"]
    for part in facts["missing"]:
        # Only a builder can't do without buildx.
        level: Level = "warning" if part == "buildx" and not wanted.builds else "error"
        name = _NAMES[part]
        text = f"there is no {name.removeprefix('the ')}"
        if versions[part]:
            text = f"{name} is {versions[part]}, and {needed[part]} is needed"
        yield Finding(level, part, text, _BOOTSTRAP)
    there = [f"{_NAMES[part]} {versions[part]}" for part in ("engine", "compose", "buildx") if versions[part]]
    if not facts["missing"]:
        yield Finding("good", "programs", ", ".join(there))


def running(wanted: Wanted, seen: Seen) -> Iterator[Finding]:
    """Whether the engine answers us."""
    said = seen.facts.get("engine") or {}
    if "error" in said and not (seen.of("programs").get("versions") or {"engine": "?"})["engine"]:
        return  # there is none: that has been said
    if "error" in said:
        yield Finding("error", "engine", str(said["error"]), str(said["hint"]))


def settings(wanted: Wanted, seen: Seen) -> Iterator[Finding]:
    """daemon.json: logs that rotate, containers that outlive the engine's restart, the registries."""
    facts = seen.of("settings")
    if not facts:
        said = seen.facts.get("settings") or {}
        if seen.of("engine") and said.get("error"):
            yield Finding("error", "settings", str(said["error"]), str(said["hint"]))
        return
    if facts["lacking"]:
        text = f"the engine isn't told: {'; '.join(facts['lacking'])}"
        yield Finding("warning", "settings", text, "`invoke bootstrap` adds it to /etc/docker/daemon.json.")
    if facts["pending"]:
        text = "the engine hasn't read all of its settings yet"
        yield Finding("warning", "settings", text, "Restart it when that suits: `systemctl restart docker`.")
    for text in facts["kept"]:
        yield Finding("warning", "settings-kept", f"someone has set otherwise: {text}")
    if not facts["lacking"] and not facts["pending"] and not facts["kept"]:
        yield Finding("good", "settings", "its logs rotate, and containers outlive its restart")
