"""Logs to stdout, and to a rotated file in the ``logs`` folder."""

from __future__ import annotations

import logging
import sys
from logging.handlers import RotatingFileHandler

from app.settings import Settings, SettingsError


def configure(settings: Settings) -> None:
    """Raises :class:`SettingsError` when the folder can't be written."""
    try:
        settings.log_dir.mkdir(parents=True, exist_ok=True)
        file = RotatingFileHandler(
            settings.log_dir / "universal_bi.log",
            maxBytes=settings.log_max_mb * 1024 * 1024,
            backupCount=settings.log_backups,
            encoding="utf-8",
        )
    except OSError as error:
        raise SettingsError(f"LOG_DIR {settings.log_dir} can't be written: {error.strerror}.") from error
    logging.basicConfig(
        level=logging.DEBUG if settings.debug else settings.log_level,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        handlers=[logging.StreamHandler(sys.stdout), file],
        force=True,
    )
