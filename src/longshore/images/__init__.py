"""Images: building and pushing them, which bytes a reference means, and whether hosts can take them.

``spec`` says what is built, ``builders`` where, ``build`` is the story; ``registry`` and ``login`` talk to
registries, ``resolve`` and ``check`` look before a deploy, ``moving`` does without a registry.
"""

from longshore.images.reference import Reference, parse
from longshore.images.resolve import resolve

__all__ = ["Reference", "parse", "resolve"]
