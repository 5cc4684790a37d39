"""Which values are secrets, told by their name or by credentials in a URL."""

from __future__ import annotations

import re

_NAME = re.compile(
    r"(^|[_.-])(PASS(WORD|WD|PHRASE)?|PWD|SECRETS?|TOKENS?|CREDENTIALS?|DSN|SALT|PRIVATE|AUTH|"
    r"(API|ACCESS|SECRET|PRIVATE|SIGNING|ENCRYPTION|MASTER|JWT|SSH|LICENSE)?[_.-]?KEYS?)($|[_.-])"
    r"|PASSWORD|SECRET|APIKEY|PASSWD",
    re.IGNORECASE,
)
_URL_WITH_PASSWORD = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s@:]*:[^/\s@]+@", re.IGNORECASE)


def looks_secret(name: str, value: str = "") -> bool:
    """Whether a variable of this name and value should be masked when shown.

    Names like ``DB_PASSWORD``, ``API_KEY``, ``SENTRY_DSN``; values like ``postgres://app:pw@db/app``.
    """
    return bool(_NAME.search(name)) or bool(value and _URL_WITH_PASSWORD.search(value))
