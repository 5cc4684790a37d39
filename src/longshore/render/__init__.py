"""Turns one app on one host into a bundle: everything that the host gets. Only reads files."""

from __future__ import annotations

from collections.abc import Mapping

from longshore.inventory.model import Target
from longshore.render.bundle import Bundle, BundleFile, Note, ServiceFacts
from longshore.render.renderer import Renderer

__all__ = ["Bundle", "BundleFile", "Note", "Renderer", "ServiceFacts", "images", "render"]


def render(
    target: Target, *, digests: Mapping[str, str] | None = None, renderer: Renderer | None = None
) -> Bundle:
    """Return the bundle of a target; the same input gives the same bytes.

    ``digests`` maps image references as written to ``repo@sha256:…``. Give one ``renderer`` for all targets
    of a run: it reads every file once. Raises ``RenderError`` or ``Problems``, with files and lines.
    """
    return (renderer or Renderer()).render(target, digests=digests)


def images(target: Target, *, renderer: Renderer | None = None) -> tuple[str, ...]:
    """Return the image references, as written, that the target's services need, sorted."""
    return (renderer or Renderer()).images(target)
