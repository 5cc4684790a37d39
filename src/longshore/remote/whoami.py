"""Whose process this is. A container of CI often runs as a number without an entry in its passwd."""

from __future__ import annotations

import getpass


def login_name() -> str:
    """The login name (``$LOGNAME``, ``$USER`` or passwd's); empty when there is none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # OSError: from Python 3.13 on
        return ""
