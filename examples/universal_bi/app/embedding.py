"""Text to a vector without a model: words and letter triples, hashed into a fixed number of places.

Good enough to find "sales by region" with "sales per region"; it knows nothing of meaning.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


def embed(text: str, dimension: int) -> list[float]:
    """A vector of length 1 (or 0, for text without a word), the same on every machine."""
    vector = [0.0] * dimension
    for word in re.findall(r"\w+", text.lower()):
        padded = f" {word} "
        for part in (word, *(padded[at : at + 3] for at in range(len(padded) - 2))):
            digest = hashlib.blake2b(part.encode(), digest_size=8).digest()
            number = int.from_bytes(digest, "big")
            vector[number % dimension] += 1.0 if number >> 63 else -1.0
    return normalised(vector)


def normalised(vector: list[float]) -> list[float]:
    """The vector at length 1, so that the cosine of two is their product."""
    length = math.sqrt(sum(value * value for value in vector))
    return [value / length for value in vector] if length else vector


def nearest(
    query: list[float], candidates: Iterable[tuple[T, list[float]]], *, limit: int, min_score: float
) -> list[tuple[T, float]]:
    """The best by cosine, best first. Vectors of another dimension are passed over."""
    scored = [
        (item, sum(a * b for a, b in zip(query, vector, strict=True)))
        for item, vector in candidates
        if len(vector) == len(query)
    ]
    scored.sort(key=lambda pair: pair[1], reverse=True)
    return [(item, score) for item, score in scored[:limit] if score >= min_score]
