"""What the image is: its base, its user, what is written into it for everyone to read."""

from __future__ import annotations

import re
from collections.abc import Iterator

from longshore.dockerfile.finding import Finding, Subject
from longshore.dockerfile.parse import Instruction
from longshore.dockerfile.words import expand, pairs
from longshore.inventory import looks_secret

# Public by nature, or only the place of a secret.
_PUBLIC = re.compile(
    r"(^|_)(GPG|PGP|PUBLIC|PUB|CACHE|SORT|PRIMARY|FOREIGN|HOST|APT)_?KEYS?($|_)|"
    r"_(FILE|PATH|DIR|URL|NAME|ID|ALGORITHM|TTL|EXPIRE\w*|LENGTH|TYPE|HEADER|HOST|PORT|USER|MINUTES|SECONDS)$|"
    r"^(OLD)?PWD$|^SSH_AUTH_SOCK$|AUTH_(TYPE|MODE|METHOD|ENABLED|REQUIRED)|TOKENIZERS",
    re.IGNORECASE,
)
_NO_SECRET = re.compile(r"|true|false|yes|no|on|off|none|null|\d{1,3}", re.IGNORECASE)
# Bounded, so that a long line costs no more than its length.
_CREDENTIALS = re.compile(
    r"[a-z][a-z0-9+.-]{0,20}://[^/\s@:'\"]{1,100}:(?!\$\(cat )[^/\s@'\"]{1,300}@", re.IGNORECASE
)
# NAME=value in a script: an export, or a line that is written into a file. Not $X, not $(cat …).
_ASSIGNED = re.compile(r"\b([A-Z][A-Z0-9_]{2,})=(?:\"([^\"$`]+)\"|'([^'$`]+)'|([^\s\"'$`;&|<>)]+))")
_SECRET_FILES = re.compile(
    r"(.*/)?(\.env(\.(?!example$|sample$|template$|dist$)[\w-]+)?|\.netrc|\.pgpass|\.npmrc|\.pypirc|"
    r"id_(rsa|dsa|ecdsa|ed25519)|.*\.(p12|pfx|jks)|\.aws(/.*)?|\.ssh(/.*)?|\.docker/config\.json|"
    r"credentials\.json)/?"
)
_ROOT = re.compile(r"(root|0+)(:.*)?")
_WINDOWS = re.compile(r"windows|nanoserver|servercore")
_NOT_ROOT = re.compile(r"non-?root|rootless|unprivileged", re.IGNORECASE)


def bases(subject: Subject) -> Iterator[Finding]:
    """``latest-base``: in FROM, and in COPY --from."""
    known = {stage.name for stage in subject.dockerfile.stages if stage.name} | subject.contexts
    for stage in subject.dockerfile.stages:
        if stage.parent is None and stage.base not in subject.contexts:
            yield from _tag(subject, stage.base, stage.start)
        for one in stage.instructions:
            source = one.flag("from") if one.name in ("COPY", "ADD") else None
            if source and source.lower() not in known and not source.isdigit():
                yield from _tag(subject, expand(source, subject.values), one)


def _tag(subject: Subject, image: str, one: Instruction) -> Iterator[Finding]:
    if not image or image == "scratch" or "@" in image or "$" in image:
        return
    name, _, tag = image.rpartition("/")[2].partition(":")
    if tag and tag != "latest":
        return
    said = f"{image} has no tag, which means latest" if not tag else f"{image} is another image every month"
    yield subject.finding(
        "latest-base", one.line, said, f"Name a version: {name}:1.2, or pin it with @sha256:…."
    )


def user(subject: Subject) -> Iterator[Finding]:
    """``root-user``."""
    last = subject.last("USER")
    hint = "Make a user (useradd --uid 10001 …) and end with USER 10001:10001."
    if last is None:
        if not _NOT_ROOT.search(subject.base) and not _WINDOWS.search(subject.base):
            yield subject.finding(
                "root-user", subject.final.start.line, "The image has no USER: it runs as root", hint
            )
        return
    name = expand(last.text.strip(), subject.values)
    if _ROOT.fullmatch(name):
        yield subject.finding("root-user", last.line, f"The last USER is {name}: it runs as root", hint)


def secrets(subject: Subject) -> Iterator[Finding]:
    """``secret``: ARG, ENV, a password in a URL of a RUN, a file that is one. In every stage: an ARG is in
    the image's history, and a builder's layers are in a cache that others read."""
    mount = "Give it while the container runs, or to one RUN: --mount=type=secret,id=…"
    for one in subject.dockerfile.instructions:
        one = one.trigger or one
        if one.name in ("ARG", "ENV"):
            for name, value, offset in pairs(one.text, subject.dockerfile.escape):
                if _is_secret(one.name, name, value):
                    said = f"{one.name} {name} is a secret, and in the image for everyone to read"
                    yield subject.finding("secret", one.line_at(offset), said, f"{mount}.")
        elif one.name in ("RUN", "CMD", "ENTRYPOINT"):
            for match in _CREDENTIALS.finditer(one.text):
                if "$" not in match.group(0).rpartition(":")[2]:
                    said = "A URL with a password is in the image's history"
                    yield subject.finding("secret", one.line_at(match.start()), said, f"{mount}.")
            for match in _ASSIGNED.finditer(one.text):
                name, value = match.group(1), next(part for part in match.groups()[1:] if part)
                if len(value) > 3 and _is_secret("ENV", name, value):
                    said = f"{name} is set to a secret in a {one.name}, which is in the image's history"
                    yield subject.finding("secret", one.line_at(match.start()), said, f"{mount}.")
        elif one.name in ("COPY", "ADD") and one.flag("from") is None:
            for source in sources(one):
                if _SECRET_FILES.fullmatch(source.removeprefix("./")):
                    said = f"{source} is copied into the image"
                    yield subject.finding("secret", one.line, said, f"{mount}.")


def _is_secret(kind: str, name: str, value: str) -> bool:
    if _CREDENTIALS.match(value) and "$" not in value:
        return True
    if not looks_secret(name) or _PUBLIC.search(name):
        return False
    # An ARG without a value gets one when it is used; an empty ENV only says that there is one.
    return kind == "ARG" or not _NO_SECRET.fullmatch(value)


def sources(one: Instruction) -> tuple[str, ...]:
    """What a COPY or ADD takes; without here-documents."""
    words = one.words if one.words is not None else tuple(one.text.split())
    return tuple(word for word in words[:-1] if "<<" not in word)


RULES = (bases, user, secrets)
