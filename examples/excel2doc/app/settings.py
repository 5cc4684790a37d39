"""What the service is told by its environment. Nothing else reads ``os.environ``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field


class SettingsError(Exception):
    """A variable is missing or says something that can't be; the message is a sentence."""


@dataclass(frozen=True)
class Settings:
    """Sizes are bytes, times are seconds."""

    database_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    environment: str = "dev"
    log_level: str = "INFO"
    cache_ttl: int = 3600
    max_upload: int = 10 * 1024 * 1024
    max_rows: int = 2000
    max_columns: int = 50


def load(environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings in ``environ``. Raises :class:`SettingsError` with every mistake in one text."""
    problems: list[str] = []

    def required(name: str) -> str:
        value = environ.get(name, "")
        if not value:
            problems.append(f"{name} is not set.")
        return value

    def number(name: str, default: int) -> int:
        text = environ.get(name, "") or str(default)
        if not text.isascii() or not text.isdigit() or int(text) < 1:
            problems.append(f"{name} is {text!r}, but must be a whole number from 1 on.")
            return default
        return int(text)

    level = (environ.get("LOG_LEVEL") or "INFO").upper()
    if level not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
        problems.append(f"LOG_LEVEL is {level!r}, but must be DEBUG, INFO, WARNING or ERROR.")
    settings = Settings(
        database_url=required("DATABASE_URL"),
        redis_url=required("REDIS_URL"),
        environment=environ.get("APP_ENV") or "dev",
        log_level=level,
        cache_ttl=number("CACHE_TTL", 3600),
        max_upload=number("MAX_UPLOAD_MB", 10) * 1024 * 1024,
        max_rows=number("MAX_ROWS", 2000),
        max_columns=number("MAX_COLUMNS", 50),
    )
    if problems:
        raise SettingsError(" ".join(problems))
    return settings
