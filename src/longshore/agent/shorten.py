"""Shortening texts that are still to be masked, so that :mod:`longshore.agent.masks` sees where.

A secret that was cut in two is in no list of secrets; beside the mark of a cut, its piece is looked for.
"""

CUT = "…"


def first(text: str, most: int) -> str:
    """Its first ``most`` characters, the mark among them."""
    return text if len(text) <= most else text[: most - 1] + CUT


def last(text: str, most: int) -> str:
    """Its last ``most`` characters, the mark among them."""
    return text if len(text) <= most else CUT + text[1 - most :]
