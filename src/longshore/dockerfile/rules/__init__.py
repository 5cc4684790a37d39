"""The linter's rules: each a function that takes a :class:`~longshore.dockerfile.finding.Subject` and yields
what it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from longshore.dockerfile.finding import Finding, Subject
from longshore.dockerfile.rules import copying, image, installing, scripts, starting

Rule = Callable[[Subject], Iterator[Finding]]

ALL: tuple[Rule, ...] = (*image.RULES, *starting.RULES, *copying.RULES, *installing.RULES, *scripts.RULES)

__all__ = ["ALL", "Rule"]
