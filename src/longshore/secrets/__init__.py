"""Secrets on the controller: files encrypted with age, their keys, and references to vendors' stores.

This is the façade. Nothing here talks to a host, and nothing here shows a value; what an inventory makes of
it is in :mod:`longshore.inventory.envfiles` and :mod:`longshore.inventory.resolving`.
"""

from longshore.secrets.references import Reference, parse_reference
from longshore.secrets.resolve import Asked, resolve

__all__ = ["Asked", "Reference", "parse_reference", "resolve"]
