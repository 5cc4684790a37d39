"""Errors are sentences for the person who reads them: what was wrong, where, what to do.

Everything that Longshore raises on purpose is a :class:`LongshoreError`; the tasks print it and exit
with code 1. Any other exception is a defect of ours.
"""

from __future__ import annotations

from collections.abc import Iterable

from longshore.records import dataclass


@dataclass(frozen=True, order=True)
class Where:
    """A place in a file. Lines and columns count from 1; 0 means not known."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        parts = [self.file]
        if self.line:
            parts.append(str(self.line))
            if self.column:
                parts.append(str(self.column))
        return ":".join(parts)


class LongshoreError(Exception):
    """One thing that is wrong.

    ``message`` says what, ``where`` (a file's place, or a host's name) where, ``hint`` what to do.
    """

    def __init__(self, message: str, *, where: Where | str | None = None, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        if text[-1:] not in (".", "!", "?"):
            text += "."
        return f"{text} {self.hint}" if self.hint else text


class Problems(LongshoreError):
    """Several things that are wrong, all found in one run."""

    def __init__(self, problems: Iterable[LongshoreError]) -> None:
        self.problems: tuple[LongshoreError, ...] = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class InventoryError(LongshoreError):
    """An inventory, variable file or env file says something that can't be."""


class RenderError(LongshoreError):
    """A template or compose file can't be turned into a bundle."""


class HostError(LongshoreError):
    """A host can't be reached or used. ``where`` is the host's name."""


class ConnectionLostError(HostError):
    """The connection broke while the host was working; what it did is not known."""


class AgentError(HostError):
    """The agent on the host refused or failed. ``code`` is stable, for tests and ``--json``."""

    def __init__(
        self,
        message: str,
        *,
        code: str,
        where: Where | str | None = None,
        hint: str = "",
        detail: dict[str, object] | None = None,
    ) -> None:
        super().__init__(message, where=where, hint=hint)
        self.code = code
        self.detail: dict[str, object] = detail or {}


class DeployError(LongshoreError):
    """A rollout ended without the release being good everywhere."""


class HookError(DeployError):
    """A hook of the project failed. ``log`` are the last lines that it said; ``hook`` is which one."""

    def __init__(
        self, message: str, *, where: Where | str | None = None, log: Iterable[str] = (), hook: str = ""
    ) -> None:
        super().__init__(message, where=where)
        self.log = tuple(log)
        self.hook = hook
