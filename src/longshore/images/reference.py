"""Image references, taken apart as Docker does."""

from __future__ import annotations

from longshore.errors import LongshoreError
from longshore.records import dataclass

DOCKER_HUB = "docker.io"


@dataclass(frozen=True)
class Reference:
    """``registry/repository:tag@digest``. ``tag`` is ``latest`` where neither tag nor digest is given."""

    registry: str
    repository: str
    tag: str | None
    digest: str | None
    name: str
    """Registry and repository as they were written, for a reference that looks like the original."""

    def pinned(self, digest: str) -> str:
        """The reference by digest. The tag goes: Docker would ignore it."""
        return f"{self.name}@{digest}"


def parse(text: str) -> Reference:
    """Take a reference apart. Raises ``LongshoreError`` for an empty one.

    Source of the rules: distribution/reference, "ParseNormalizedNamed".
    """
    rest, _, digest = text.partition("@")
    name, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        name, tag = rest, ""
    if not name:
        raise LongshoreError(f"{text!r} is not an image reference.")
    first, slash, remainder = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        registry, repository = first, remainder
    else:
        registry, repository = DOCKER_HUB, name if slash else f"library/{name}"
    if registry == "index.docker.io":
        registry = DOCKER_HUB
    return Reference(registry, repository, tag or (None if digest else "latest"), digest or None, name)
