"""Which packages the engine comes from, and getting them onto the host.

The distribution's own, where they are new enough; else Docker's. apt is asked what it offers, because what
a release is called doesn't say what it carries today: Ubuntu 22.04 began with an engine 20.10 and has 29 now.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from longshore.bootstrap.host import repository
from longshore.bootstrap.host.apt import Apt, explain
from longshore.bootstrap.host.found import OLDEST, Found
from longshore.bootstrap.host.say import Changes, Refusal
from longshore.bootstrap.host.system import need_known, need_space, release, run
from longshore.bootstrap.host.versions import NEEDED_BY_HAND, parse_version, version_text

BESIDE = ("ca-certificates", "iptables", "apparmor")
"""Only recommended by the engine's packages, but without them it pulls from nowhere, has no networks, or
confines no container."""


@dataclass(frozen=True)
class Family:
    """Packages that belong together: by part, those that may bring it, the best first."""

    name: str
    parts: Mapping[str, tuple[str, ...]]
    optional: tuple[str, ...] = ()
    """Parts that another package of the family brings where they have none of their own."""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for names in self.parts.values() for name in names)


DISTRO = Family(
    "distro",
    {
        "engine": ("docker.io",),
        "cli": ("docker-cli",),
        # On Debian 12 and Ubuntu 24.04 the latter is Compose 1, in Python; on Debian 13 it is Compose 2.
        "compose": ("docker-compose-v2", "docker-compose"),
        "buildx": ("docker-buildx",),
    },
    optional=("cli",),
)
DOCKER = Family(
    "docker",
    {
        "engine": ("docker-ce",),
        "cli": ("docker-ce-cli",),
        "compose": ("docker-compose-plugin",),
        "buildx": ("docker-buildx-plugin",),
    },
)


def choose(
    family: Family, parts: Sequence[str], candidates: Mapping[str, str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The packages of ``family`` that bring ``parts``, and what speaks against it, in words (() if nothing).

    ``candidates`` is what apt offers: package to version.
    """
    chosen: list[str] = []
    against: list[str] = []
    for part in parts:
        offers = [(name, candidates[name]) for name in family.parts[part] if name in candidates]
        good = [name for name, version in offers if parse_version(version) >= OLDEST[part]]
        if good:
            chosen.append(good[0])
        elif part not in family.optional:
            against += [
                f"{name} is {version}, and {version_text(OLDEST[part])} is needed" for name, version in offers
            ] or [f"there is no {family.parts[part][0]}"]
    return tuple(chosen), tuple(against)


def complete(
    changes: Changes, found: Found, *, source: str, repository_url: str, key: str, lock_timeout: float
) -> None:
    """Install what is missing. ``source`` is ``auto``, ``distro`` or ``docker``; ``key`` the fingerprint of
    Docker's signing key. Raises ``Refusal``.
    """
    fields = release()
    need_known(fields)
    need_space("/usr", "/var")
    with tempfile.TemporaryDirectory(prefix="longshore-") as folder:
        apt = Apt(lock_timeout=lock_timeout, lists=folder if changes.check else "")
        apt.update()
        installed = _installed_family(found)
        family = _family(source, installed)
        parts = found.missing if installed is None or installed == family else tuple(OLDEST)
        candidates = apt.candidates([*DISTRO.names, *DOCKER.names])
        packages, against = choose(family or DISTRO, parts, candidates)
        if family is None and against:
            if apt.complaints and DISTRO.parts["engine"][0] not in candidates:
                # The distribution's source didn't answer: that is no reason to go to another one.
                raise _not_offered(against, apt.complaints, installed, family)
            family = DOCKER
            packages, against = choose(DOCKER, parts, candidates)
        if against and family is DOCKER and not any(name in candidates for name in DOCKER.names):
            repository.add(changes, apt, fields, repository_url, key)
            packages, against = DOCKER.names, ()
            if not changes.check:
                packages, against = choose(DOCKER, parts, apt.candidates(DOCKER.names))
            if against:
                repository.remove()
        if against:
            raise _not_offered(against, apt.complaints, installed, family)
        offered = apt.candidates(packages)
        texts = [f"{name} {offered[name]}" if name in offered else name for name in packages]
        replace = installed is not None and installed != family
        changes.make(
            f"{'replace the engine: ' if replace else ''}install {', '.join(texts)}",
            lambda: apt.install(_with_beside(apt, packages), replace=replace),
        )


def _with_beside(apt: Apt, packages: Sequence[str]) -> list[str]:
    return [*packages, *(name for name in BESIDE if name in apt.candidates(BESIDE))]


def _installed_family(found: Found) -> Family | None:
    """The family of the engine that is on the host; None without one. Raises ``Refusal``."""
    if not found.engine:
        return None
    for family in (DISTRO, DOCKER):
        code, output = run(["dpkg-query", "-W", "-f", "${db:Status-Status}", family.parts["engine"][0]])
        if code == 0 and output == "installed":
            return family
    raise Refusal(
        "by_hand",
        "the engine on this host wasn't installed from packages that bootstrap knows, and something of it is"
        f" missing or too old: {', '.join(found.missing)}",
        f"Bring it up to date the way it was installed; needed is: {NEEDED_BY_HAND}.",
    )


def _family(source: str, installed: Family | None) -> Family | None:
    """The family that must be used; None leaves the choice to what apt offers."""
    if source == "auto":
        return installed
    return {"distro": DISTRO, "docker": DOCKER}[source]


def _not_offered(
    against: Sequence[str], complaints: str, installed: Family | None, family: Family | None
) -> Refusal:
    if complaints:
        return explain(complaints, f"finding packages ({'; '.join(against)})")
    hint = "Enable the distribution's other components (Ubuntu: universe)"
    if installed is DISTRO and family is DISTRO:
        hint = (
            "Let bootstrap replace the engine by Docker's own (engine source `docker`; its containers stop"
            " meanwhile)"
        )
    return Refusal("no_package", f"apt offers no packages that will do: {'; '.join(against)}", f"{hint}.")
