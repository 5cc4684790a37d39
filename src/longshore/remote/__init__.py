"""Hosts: how they are reached, and the conversation with the agent on them.

``connect(host)`` gives a :class:`~longshore.remote.session.Link`; :class:`Links` keeps those of a run over an
environment. Importing this costs nothing; Fabric and Paramiko (a quarter of a second) are imported when the
first host is reached.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from longshore.remote.connections import Connections
from longshore.remote.fleet import Links, Outcome, each
from longshore.remote.session import Connector, Event, Link, Session

if TYPE_CHECKING:
    from longshore.inventory.model import Host

__all__ = ["Connections", "Connector", "Event", "Link", "Links", "Outcome", "Session", "connect", "each"]


def connect(host: Host, **options: Any) -> Link:
    """A link to one host; ``options`` are those of :class:`Connections`."""
    return Connections(**options)(host)
