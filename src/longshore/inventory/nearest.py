"""The nearest known name to one that isn't known, for sentences."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str], *, list_all: str = "") -> str:
    """Return ``Did you mean web?``, or ``<list_all>: a, b, c.`` when nothing is near, or an empty text."""
    names = list(dict.fromkeys(known))
    folded = {candidate.lower().replace("-", "_"): candidate for candidate in reversed(names)}
    near = difflib.get_close_matches(name.lower().replace("-", "_"), list(folded), n=2, cutoff=0.6)
    if near:
        return f"Did you mean {' or '.join(folded[match] for match in near)}?"
    if not list_all or not names:
        return ""
    shown = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    return f"{list_all}: {shown}."
