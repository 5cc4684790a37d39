"""What each person asked last, in Redis."""

from __future__ import annotations

import json
from typing import Any

import redis


class History:
    """A list per person, newest first, of at most ``length`` entries, forgotten after ``ttl`` seconds."""

    def __init__(self, client: redis.Redis, *, length: int, ttl: int) -> None:
        self.client = client
        self.length = length
        self.ttl = ttl

    def add(self, person: str, entry: dict[str, Any]) -> None:
        """Put ``entry`` first."""
        key = f"history:{person}"
        with self.client.pipeline() as pipe:
            pipe.lpush(key, json.dumps(entry))
            pipe.ltrim(key, 0, self.length - 1)
            pipe.expire(key, self.ttl)
            pipe.execute()

    def of(self, person: str) -> list[dict[str, Any]]:
        """The newest first."""
        return [json.loads(entry) for entry in self.client.lrange(f"history:{person}", 0, -1)]

    def check(self) -> None:
        """Raise what the client raises when Redis doesn't answer."""
        self.client.ping()
