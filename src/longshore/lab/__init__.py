"""Practice hosts: disposable machines with a real sshd and a real Docker engine, and a registry.

``Lab`` is the way in; what it promises is in ``docs/practice-hosts.md``.
"""

from __future__ import annotations

from longshore.lab.commands import LabError
from longshore.lab.lab import HostStatus, Lab

__all__ = ["HostStatus", "Lab", "LabError"]
