"""Images: which bytes a reference means. (What builds and pushes them comes on top of this.)"""

from longshore.images.reference import Reference, parse
from longshore.images.resolve import resolve

__all__ = ["Reference", "parse", "resolve"]
