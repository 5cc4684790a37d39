"""Who may ask: ``NAME.EXPIRY.SIGNATURE``, signed with the secret key.

``python -m app.tokens NAME`` makes one.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import sys
import time

from app import settings


def make(name: str, *, key: str, expires: int) -> str:
    """A token for ``name``, good until ``expires`` (seconds since the epoch)."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
        raise ValueError("A name has 1 to 64 letters, digits, _ and -.")
    body = f"{name}.{expires}"
    return f"{body}.{_sign(body, key)}"


def check(token: str, *, key: str, now: float) -> str | None:
    """The name in a token that is signed by us and not over; else ``None``."""
    body, _, signature = token.rpartition(".")
    if not hmac.compare_digest(signature.encode(), _sign(body, key).encode()):
        return None
    name, _, expires = body.partition(".")
    return name if int(expires) > now else None


def _sign(body: str, key: str) -> str:
    return hmac.new(key.encode(), body.encode(), hashlib.sha256).hexdigest()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Usage: python -m app.tokens NAME")
    try:
        config = settings.load()
        end = int(time.time()) + 60 * config.access_token_expire_minutes
        print(make(sys.argv[1], key=config.secret_key.get_secret_value(), expires=end))
    except (settings.SettingsError, ValueError) as problem:
        sys.exit(str(problem))
