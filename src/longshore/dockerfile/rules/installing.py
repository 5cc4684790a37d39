"""What is installed: apt and pip as they cost little, and no compiler where none is needed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from longshore.dockerfile.finding import Call, Finding, Subject
from longshore.dockerfile.parse import Instruction
from longshore.dockerfile.shell import Command

_APT = ("apt-get", "apt", "aptitude")
COMPILERS = re.compile(
    r"(build-essential|gcc|g\+\+|clang|cc|make|cmake|rustc|cargo|golang|golang-go|gfortran|build-base|"
    r"musl-dev|autoconf|automake|gcc-\d+|g\+\+-\d+|clang-\d+|python3?-dev|python3-all-dev|gcc-c\+\+)"
)
# The tags of the official image that stand on buildpack-deps, which has gcc, make and headers.
_FULL = re.compile(
    r"(?:^|/)(?:library/)?(?:python|node|ruby):(?!.*(?:slim|alpine|windows|nanoserver))[\w.-]*"
)


def unwrapped(command: Command) -> Command:
    """The command that ``sudo`` is to run, or the command itself."""
    if command.program != "sudo":
        return command
    words = command.words[1:]
    while words and (words[0].startswith("-") or "=" in words[0]):
        words = words[1:]
    return Command(words, command.assignments, command.offset, command.piped)


def apt_install(command: Command) -> bool:
    """Whether it is ``apt-get install`` or the like."""
    plain = unwrapped(command)
    return plain.program in _APT and "install" in plain.plain()[:1]


def _apt_update(command: Command) -> bool:
    plain = unwrapped(command)
    return plain.program in _APT and "update" in plain.plain()[:1]


def packages(command: Command) -> tuple[str, ...]:
    """The packages that a command installs, without versions; empty when it installs none."""
    plain = unwrapped(command)
    words = plain.plain()
    if plain.program in (*_APT, "yum", "dnf", "microdnf") and words[:1] == ("install",):
        return tuple(word.partition("=")[0] for word in words[1:])
    if plain.program == "apk" and words[:1] == ("add",):
        return tuple(re.split(r"[=<>~@]", word)[0] for word in words[1:])
    return ()


def installed(subject: Subject, instructions: Iterable[Instruction]) -> frozenset[str]:
    """The packages of the system that these instructions install."""
    return frozenset(name for call in subject.calls(instructions) for name in packages(call.command))


def apt(subject: Subject) -> Iterator[Finding]:
    """``apt-update``, ``apt-recommends``, ``apt-lists``, ``apt-yes``."""
    for stage in subject.dockerfile.stages:
        shipped = stage in subject.chain
        for run, calls in _by_run(subject, stage.instructions):
            updates = [call for call in calls if _apt_update(call.command)]
            installs = [call for call in calls if apt_install(call.command)]
            if updates and not installs and not any(_upgrades(call.command) for call in calls):
                yield subject.finding(
                    "apt-update",
                    updates[0].line,
                    "apt-get update is in a layer of its own",
                    "Write RUN apt-get update && apt-get install …: in one layer, so that the lists are new.",
                )
            for call in installs:
                yield from _apt_install(subject, call)
            if shipped and (updates or installs) and not _lists_go(run, calls):
                yield subject.finding(
                    "apt-lists",
                    (updates or installs)[0].line,
                    "The package lists stay in the layer",
                    "End the RUN with && rm -rf /var/lib/apt/lists/*, or mount a cache there.",
                )


def _apt_install(subject: Subject, call: Call) -> Iterator[Finding]:
    plain = unwrapped(call.command)
    if not plain.has("--no-install-recommends") and not any(
        "install-recommends" in word.lower() for word in plain.words
    ):
        yield subject.finding(
            "apt-recommends", call.line, "Recommended packages come along", "Add --no-install-recommends."
        )
    asks = plain.has("-y", "--yes", "--assume-yes", "-qq") or any(
        word.startswith("-qqy") for word in plain.words
    )
    if not asks and not call.command.piped:
        yield subject.finding(
            "apt-yes", call.line, f"{plain.program} install asks, and a build can't answer", "Add -y."
        )


def _upgrades(command: Command) -> bool:
    plain = unwrapped(command)
    return plain.program in _APT and plain.plain()[:1] not in (("update",), ("install",))


def _lists_go(run: Instruction, calls: list[Call]) -> bool:
    if any("/var/lib/apt" in value and "type=cache" in value for key, value in run.flags if key == "mount"):
        return True
    return any(
        call.command.program in ("rm", "find") and any("/var/lib/apt" in word for word in call.command.words)
        for call in calls
    )


def _by_run(
    subject: Subject, instructions: Iterable[Instruction]
) -> Iterator[tuple[Instruction, list[Call]]]:
    found: list[Call] = []
    for call in subject.calls(instructions):
        if found and call.run is not found[0].run:
            yield found[0].run, found
            found = []
        found.append(call)
    if found:
        yield found[0].run, found


def pip_install(command: Command) -> bool:
    """Whether it is pip's ``install``, in one of its ways of being called."""
    plain = unwrapped(command)
    words = plain.words
    if len(words) > 2 and re.fullmatch(r"python[\d.]*", plain.program) and words[1:3] == ("-m", "pip"):
        return "install" in words[3:]
    if re.fullmatch(r"pip[\d.]*", plain.program):
        return "install" in plain.plain()[:1]
    return plain.program == "uv" and plain.plain()[:2] == ("pip", "install")


def pip(subject: Subject) -> Iterator[Finding]:
    """``pip-cache``, in the stages that the image consists of, and as a lost cache in the others."""
    for stage in subject.dockerfile.stages:
        variables = {
            name
            for lower in subject.dockerfile.chain(stage)
            for one in lower.instructions
            if one.name in ("ENV", "ARG")
            for name in re.findall(r"\b(PIP_NO_CACHE_DIR|UV_NO_CACHE|PIP_CACHE_DIR|UV_CACHE_DIR)\b", one.text)
        }
        for call in subject.calls(stage.instructions):
            if not pip_install(call.command) or variables & {"PIP_NO_CACHE_DIR", "UV_NO_CACHE"}:
                continue
            if any(word.startswith("--no-cache") for word in call.command.words):
                continue
            if any("NO_CACHE" in one for one in call.command.assignments):
                continue
            mounts = [value for key, value in call.run.flags if key == "mount" and "type=cache" in value]
            if any("cache" in value.replace("type=cache", "") for value in mounts):
                continue
            yield subject.finding(
                "pip-cache",
                call.line,
                "What pip downloads stays in the layer",
                "Mount a cache (RUN --mount=type=cache,target=/root/.cache/pip), or add --no-cache-dir.",
            )


def compiler(subject: Subject) -> Iterator[Finding]:
    """``compiler``: installed in a stage that the image stands on, and not removed by the same RUN."""
    hint = "Build in a stage of its own and copy the result: `invoke dockerfile` renders one of that shape."
    if _FULL.search(subject.base) and "@" not in subject.base:
        said = f"{subject.base} has a compiler, and is many times as large as -slim"
        yield subject.finding("compiler", subject.chain[0].start.line, said, hint)
        return
    for stage in subject.chain:
        for _, calls in _by_run(subject, stage.instructions):
            gone = {
                word
                for call in calls
                if {"purge", "remove", "autoremove", "del"} & set(unwrapped(call.command).plain()[:1])
                for word in unwrapped(call.command).plain()[1:]
            }
            for call in calls:
                names = [name for name in packages(call.command) if COMPILERS.fullmatch(name)]
                virtual = "--virtual" in call.command.words or "-t" in call.command.words
                kept = [name for name in names if name not in gone]
                if kept and not (virtual and gone) and not any("$" in word for word in gone):
                    yield subject.finding(
                        "compiler", call.line, f"The image has a compiler ({', '.join(kept)})", hint
                    )


RULES = (apt, pip, compiler)
