"""How the container starts, listens, and is known to work."""

from __future__ import annotations

import re
from collections.abc import Iterator

from longshore.dockerfile.finding import Finding, Subject
from longshore.dockerfile.rules.installing import installed
from longshore.dockerfile.shell import commands
from longshore.dockerfile.words import expand

_DEVELOPMENT = re.compile(r"(^|[._-])(dev|develop|development|local|debug)($|[._-])", re.IGNORECASE)
_LOCAL_PORT = re.compile(
    r"(?:localhost|127\.0\.0\.1|\[::1\]|0\.0\.0\.0)[\"']?\s*[:,]\s*(\d{2,5})\b|/dev/tcp/[^/]+/(\d{2,5})"
)
_SLIM = re.compile(
    r"(^|/)(python:[\w.]*-?slim[\w-]*|debian:[\w.-]*slim|debian:\w+|ubuntu:[\w.]+|node:[\w.]*-?slim[\w-]*)"
)


def health(subject: Subject) -> Iterator[Finding]:
    """``no-healthcheck``, ``health-tool``."""
    last = subject.last("HEALTHCHECK")
    if last is None:
        yield subject.finding(
            "no-healthcheck",
            subject.final.start.line,
            "The image has no HEALTHCHECK",
            'Ask the service itself: HEALTHCHECK CMD ["python", "-c", "import urllib.request as r; '
            "r.urlopen('http://127.0.0.1:8000/health', timeout=5)\"].",
        )
        return
    if not _SLIM.search(subject.base):
        return
    test = last.text.partition(" ")[2].strip()
    words = re.findall(r'"((?:[^"\\]|\\.)*)"', test) if test.startswith("[") else []
    called = {words[0]} if words else {one.program for one in commands(test)}
    have = installed(subject, subject.image)
    for tool in ("curl", "wget"):
        if tool in called and tool not in have:
            yield subject.finding(
                "health-tool",
                last.line,
                f"The health check calls {tool}, which {subject.base} doesn't have: it can't get healthy",
                f"Install {tool}, or ask with Python's urllib.",
            )


def ports(subject: Subject) -> Iterator[Finding]:
    """``port-mismatch``."""
    exposed = {
        part.partition("/")[0]
        for one in subject.image
        if one.name == "EXPOSE"
        for part in expand(one.text, subject.values).split()
    }
    if not exposed or any("$" in one or "-" in one for one in exposed):
        return
    check, start = subject.last("HEALTHCHECK"), subject.last("CMD") or subject.last("ENTRYPOINT")
    shown = " and ".join(sorted(exposed))
    if check is not None:
        for match in _LOCAL_PORT.finditer(expand(check.text, subject.values)):
            port = match.group(1) or match.group(2)
            if port not in exposed:
                said = f"The health check asks port {port}, and EXPOSE says {shown}"
                yield subject.finding("port-mismatch", check.line, said, "One of them is wrong.")
                break
    words = [expand(word, subject.values) for word in subject.start()]
    port = _served(words)
    if start is not None and port and port not in exposed:
        said = f"The service is started on port {port}, and EXPOSE says {shown}"
        yield subject.finding("port-mismatch", start.line, said, "One of them is wrong.")


def _served(words: list[str]) -> str:
    """The port that uvicorn, gunicorn and the like are told to listen on; empty when they aren't."""
    for at, word in enumerate(words):
        following = words[at + 1] if at + 1 < len(words) else ""
        name, _, value = word.partition("=")
        if name == "--port" and (value or following).isdigit():
            return value or following
        if name in ("--bind", "-b"):
            match = re.search(r":(\d{2,5})$", value or following)
            if match:
                return match.group(1)
    return ""


def development(subject: Subject) -> Iterator[Finding]:
    """``dev-server``. A Dockerfile or stage that is called dev may have one."""
    if _DEVELOPMENT.search(subject.file.rpartition("/")[2]) or _DEVELOPMENT.search(subject.final.name):
        return
    one = subject.last("CMD") or subject.last("ENTRYPOINT")
    if one is None:
        return
    text = " ".join(subject.start())
    hint = "That is for dev: put it into the compose file that only dev uses (command: …)."
    if re.search(r"(^|\s)--(reload|debug)\b(?!=false)", text):
        option = "--reload" if "--reload" in text else "--debug"
        yield subject.finding("dev-server", one.line, f"The image starts the service with {option}", hint)
    elif re.search(r"manage\.py\s+runserver|\bflask\b.*\srun(\s|$)|\bfastapi\s+dev\b", text):
        said = "The image starts a development server"
        yield subject.finding("dev-server", one.line, said, "Start gunicorn or uvicorn.")


def shell_form(subject: Subject) -> Iterator[Finding]:
    """``shell-form``, and ``syntax`` for a list that isn't JSON."""
    for name in ("ENTRYPOINT", "CMD"):
        one = subject.last(name)
        if one is None:
            continue
        if one.words is None and one.text.startswith("["):
            said = f"This {name} looks like a list and isn't JSON: a shell gets it as it stands"
            yield subject.finding("syntax", one.line, said, 'Use double quotes: ["uvicorn", "app.main:app"].')
        elif one.words is None:
            first = commands(one.text)
            if not re.match(r"\s*exec\s", one.text) and not (first and first[0].program == "tini"):
                yield subject.finding("shell-form", one.line, f"{name} is in shell form", _FORM)
        elif _script(one.words) and "exec " not in _script(one.words):
            said = f"{name} starts a shell that stays"
            yield subject.finding("shell-form", one.line, said, 'Write "exec" before the last command.')


def _script(words: tuple[str, ...]) -> str:
    """The script of ``["sh", "-c", script]``; empty for another command."""
    shell = len(words) > 2 and words[0].rpartition("/")[2] in ("sh", "bash", "ash", "dash")
    return words[2] if shell and words[1].startswith("-") and "c" in words[1] else ""


_FORM = (
    "`docker stop` then waits ten seconds and kills it. "
    'Write a list: ["uvicorn", "app.main:app"], or begin with exec.'
)

RULES = (health, ports, development, shell_form)
