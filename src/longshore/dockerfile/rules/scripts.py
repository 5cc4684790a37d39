"""What a RUN must not do: run what it hasn't seen, open everything to everyone, ask for rights it has."""

from __future__ import annotations

import re
from collections.abc import Iterator

from longshore.dockerfile.finding import Call, Finding, Subject
from longshore.dockerfile.rules.installing import unwrapped
from longshore.dockerfile.shell import Command

_FETCH = ("curl", "wget", "fetch", "http", "aria2c")
_SHELLS = re.compile(r"(sh|bash|ash|dash|zsh|ksh|python[\d.]*|perl|ruby|node|php)")
_FETCHED = re.compile(r"(\$\(|<\(|`)\s*(curl|wget)\b")
_OPEN = re.compile(r"0?[0-7]?(777|666)|(a|o|ugo|)\+r?wx?|(a|o|ugo)=r?wx?")


def remote_scripts(subject: Subject) -> Iterator[Finding]:
    """``remote-script``: curl | sh, sh -c "$(curl …)", bash <(curl …)."""
    hint = "Fetch it into a file, check its sha256, then run it; or take a package."
    before: Call | None = None
    fetching = False
    for call in subject.calls(subject.dockerfile.instructions):
        command = unwrapped(call.command)
        if not call.command.piped or before is None or before.run is not call.run:
            fetching = command.program in _FETCH
        if (fetching and call.command.piped and _runs_its_input(command)) or _runs_what_it_fetches(command):
            yield subject.finding("remote-script", call.line, "A script from the network is run unseen", hint)
        before = call


def _runs_its_input(command: Command) -> bool:
    # `python -c …` and `python -m json.tool` read what was fetched as data.
    data = command.program not in ("sh", "bash", "ash", "dash") and command.has("-c", "-m", "-e")
    return bool(_SHELLS.fullmatch(command.program)) and not data


def _runs_what_it_fetches(command: Command) -> bool:
    runs = _SHELLS.fullmatch(command.program) or command.program in ("eval", ".", "source")
    return bool(runs) and any(_FETCHED.search(word) for word in command.arguments)


def world_writable(subject: Subject) -> Iterator[Finding]:
    """``world-writable``: chmod 777, also as COPY --chmod."""
    hint = "Give it to the user that needs it: --chown=app:app, or chown."
    for call in subject.calls(subject.image):
        command = unwrapped(call.command)
        if command.program == "chmod" and any(_OPEN.fullmatch(word) for word in command.arguments):
            mode = next(word for word in command.arguments if _OPEN.fullmatch(word))
            yield subject.finding("world-writable", call.line, f"chmod {mode}: everyone can change it", hint)
    for one in subject.image:
        given = one.flag("chmod") if one.name in ("COPY", "ADD") else None
        if given and _OPEN.fullmatch(given):
            yield subject.finding(
                "world-writable", one.line, f"--chmod={given}: everyone can change it", hint
            )


def sudo(subject: Subject) -> Iterator[Finding]:
    """``sudo``."""
    for call in subject.calls(subject.dockerfile.instructions):
        if call.command.program == "sudo":
            hint = "A RUN is root's until there is a USER; put it before that."
            yield subject.finding("sudo", call.line, "sudo isn't needed in a build", hint)


RULES = (remote_scripts, world_writable, sudo)
