"""Masking secrets by their value, wherever the text comes from."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

MASK = "***"
SHORTEST = 4
"""Shorter values are not masked: they would blank out half of every text, and protect nothing."""


class Masks:
    """Replaces every known secret in what goes out, also in the forms in which programs print it."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        forms: set[str] = set()
        for secret in secrets:
            if len(secret) >= SHORTEST:
                forms |= _forms(secret)
        # The longest first, so that a secret that contains another one goes as a whole.
        ordered = sorted(forms, key=lambda form: (-len(form), form))
        self._pattern = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def text(self, text: str) -> str:
        """The text with secrets masked."""
        return self._pattern.sub(MASK, text) if self._pattern else text

    def value(self, value: Any) -> Any:
        """A JSON value with secrets masked in every string, keys included."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(str(key)): self.value(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.value(item) for item in value]
        return value


def _forms(secret: str) -> set[str]:
    forms = {
        secret,
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
        quote(secret),
        quote(secret, safe=""),
        secret.replace("$", "$$"),
        base64.b64encode(secret.encode("utf-8", "surrogateescape")).decode(),
    }
    # A secret of several lines (a key file) is printed line by line.
    forms |= {line for line in secret.splitlines() if len(line.strip()) >= 8}
    return {form for form in forms if len(form) >= SHORTEST}
