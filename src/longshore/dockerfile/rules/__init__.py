"""The linter's rules: each a function that takes a :class:`~longshore.dockerfile.finding.Subject` and yields
what it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from longshore.dockerfile.finding import Finding, Subject
from longshore.dockerfile.rules.copying import RULES as COPYING
from longshore.dockerfile.rules.image import RULES as IMAGE
from longshore.dockerfile.rules.installing import RULES as INSTALLING
from longshore.dockerfile.rules.scripts import RULES as SCRIPTS
from longshore.dockerfile.rules.starting import RULES as STARTING

Rule = Callable[[Subject], Iterator[Finding]]

ALL: tuple[Rule, ...] = (*IMAGE, *STARTING, *COPYING, *INSTALLING, *SCRIPTS)

__all__ = ["ALL", "Rule"]
