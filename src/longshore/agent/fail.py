"""How the agent says that it won't or can't: a code for programs, a sentence for people."""

import errno
from typing import Any, Dict, Optional

from longshore.agent import wire


class Refusal(Exception):
    """The request can't be carried out. What had been begun is undone, or said in the message."""

    def __init__(
        self, code: str, message: str, hint: str = "", detail: Optional[Dict[str, Any]] = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.detail = detail or {}


def from_os_error(error: OSError) -> Refusal:
    """The sentence for what the system refused: no space, no permission, or its own words."""
    what = error.filename or "the host"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Refusal(
            wire.NO_SPACE,
            f"no space left on the disk (writing {what})",
            "Free some, for example with `invoke cleanup`.",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return Refusal(
            wire.NO_PERMISSION,
            f"not allowed to write {what}: {error.strerror}",
            "Set `ansible_become: true` for a user with sudo.",
        )
    return Refusal(wire.INTERNAL, f"{error.strerror or error} ({what})")
