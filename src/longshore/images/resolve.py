"""From a tag to a digest, by asking the registry (OCI distribution specification, v1.1).

Only ``HEAD`` and a token request: nothing is pulled here, and Docker Hub doesn't count it as a pull.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from longshore.errors import LongshoreError
from longshore.images.reference import Reference, parse
from longshore.images.registry import UNREACHED, Clients, NotThereError, RefusedError, why
from longshore.inventory.model import Registry
from longshore.records import dataclass


@dataclass(frozen=True)
class Resolved:
    """``digests``: reference as written to reference by digest. ``unpinned``: reference to why not."""

    digests: Mapping[str, str]
    unpinned: Mapping[str, str]


class ImageMissingError(LongshoreError):
    """The registry was reached, and has no such image."""


def resolve(references: Iterable[str], registries: Mapping[str, Registry]) -> Resolved:
    """Ask the registries for the digest of every reference that has none, all at once.

    A registry that can't be reached from here is no error: the hosts may reach it, and each pins what it
    pulls. Raises ``ImageMissingError`` for an image that a registry which was reached doesn't have.
    """
    wanted = {text: parse(text) for text in dict.fromkeys(references)}
    asked = {text: reference for text, reference in wanted.items() if not reference.digest}
    if not asked:
        return Resolved({}, {})
    clients = Clients(registries)
    digests: dict[str, str] = {}
    unpinned: dict[str, str] = {}
    with ThreadPoolExecutor(max_workers=min(8, len(asked))) as pool:
        futures = {text: pool.submit(clients.of(one).digest, one) for text, one in asked.items()}
        for text, future in futures.items():
            try:
                digests[text] = asked[text].pinned(future.result())
            except NotThereError:
                raise _missing(asked[text]) from None
            except (*UNREACHED, RefusedError) as error:
                unpinned[text] = why(error, clients.of(asked[text]).base)
    return Resolved(digests, unpinned)


def _missing(reference: Reference) -> ImageMissingError:
    return ImageMissingError(
        f"there is no image {reference.name}:{reference.tag} in the registry.",
        hint="Build and push it with `invoke push`, or correct its name.",
    )
