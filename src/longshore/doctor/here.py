"""What is to be said of this machine, and of the project on it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from longshore.doctor.finding import Finding
from longshore.errors import LongshoreError
from longshore.images.resolve import resolve
from longshore.images.spec import Git
from longshore.inventory.model import Environment, Target

DAYS = 14
"""A certificate that ends within so many days is worth a word; as for smoke checks."""


def builds(names: Iterable[str], trouble: str) -> Iterator[Finding]:
    """Whether this machine's own engine builds, where it is to."""
    services = ", ".join(names)
    if services and not trouble:
        yield Finding("good", "engine-here", f"its engine builds {services}")


def commit(environment: Environment, git: Git, built: bool) -> Iterator[Finding]:
    """What a push would be tagged with."""
    if not git.commit:
        if built:
            text = "the project is in no git repository, so images get no tag of a commit"
            yield Finding("warning", "git", text, "`git init` and commit it.")
        return
    may = environment.build.dirty
    if built and git.dirty and not (may if may is not None else not environment.production):
        text = f"there are changes that are not committed ({git.commit}), and {environment.name} takes none"
        yield Finding("warning", "git", text, "Commit them before `invoke push`.")
    else:
        yield Finding("good", "git", f"the project is at {git.commit}")


def registries(images: Iterable[str], environment: Environment) -> Iterator[Finding]:
    """Whether the registries answer this machine, which asks them for digests. ``images``: one of each."""
    for image in images:
        try:
            found = resolve([image], environment.registries)
        except LongshoreError as error:
            yield Finding("warning", "image", error.message, error.hint)
            continue
        for ref, why in found.unpinned.items():
            text = f"{ref} can't be asked for from here ({why}), so each host pins what it pulls"
            yield Finding("warning", "registry", text)


def certificates(
    environment: Environment, targets: Iterable[Target], *, now: float | None = None
) -> list[Finding]:
    """The project's certificates that have ended or soon will: of routes (``tls:``) and of registries."""
    paths: dict[Path, str] = {}
    for one in environment.registries.values():
        if one.ca is not None:
            paths[one.ca] = f"the authority of {one.name}"
    for target in targets:
        for name, policy in {"": target.app.defaults, **target.app.services}.items():
            tls = policy.proxy.tls if policy.proxy is not None else None
            if tls is not None and tls.certificate:
                paths[target.root / tls.certificate] = f"the certificate of {target.app.name} {name}".strip()
    clock = time.time() if now is None else now
    return [finding for path, what in paths.items() for finding in _certificate(path, what, clock)]


def _certificate(path: Path, what: str, now: float) -> Iterator[Finding]:
    from cryptography import x509  # Paramiko's own; late, for it is slow to load

    try:
        ends = min(
            one.not_valid_after_utc.timestamp() for one in x509.load_pem_x509_certificates(path.read_bytes())
        )
    except OSError as error:
        yield Finding("error", "certificate", f"{what}, {path}, can't be read: {error.strerror}")
        return
    except ValueError:
        yield Finding("error", "certificate", f"{what}, {path}, is no certificate in PEM")
        return
    day = time.strftime("%Y-%m-%d", time.gmtime(ends))
    days = int((ends - now) // 86400)
    if ends <= now:
        yield Finding("error", "certificate", f"{what} has ended on {day} ({path})", "Have it renewed.")
    elif days < DAYS:
        yield Finding("warning", "certificate", f"{what} ends on {day}, in {days} days ({path})", "Renew it.")
    else:
        yield Finding("good", "certificate", f"{what} is good until {day}")
