"""Brings both schemas up to date: ``python -m app.migrate``; ``--history`` shows the revisions instead."""

from __future__ import annotations

import sys
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy.exc import OperationalError

from app import settings

ROOT = Path(__file__).parents[1]


def configuration(name: str, url: str) -> Config:
    """Alembic's settings for the folder ``migrations/<name>``."""
    config = Config()
    config.set_main_option("script_location", str(ROOT / "migrations" / name))
    config.attributes["url"] = url
    return config


def main(arguments: list[str]) -> None:
    """Exits with a sentence when an argument or the environment is wrong."""
    if arguments not in ([], ["--history"]):
        sys.exit("Usage: python -m app.migrate [--history]")
    try:
        config = settings.load()
    except settings.SettingsError as error:
        sys.exit(f"Nothing was migrated: {error}")
    for name, url in (("main", config.mysql_url), ("vectors", config.postgres_url)):
        print(f"{name}:", flush=True)
        alembic = configuration(name, url)
        try:
            if arguments:
                command.history(alembic, indicate_current=True)
            else:
                command.upgrade(alembic, "head")
                command.current(alembic)
        except (OperationalError, CommandError) as error:
            # Statement and traceback would bury the one line that says what is wrong.
            sys.exit(f"{name} can't be migrated: {getattr(error, 'orig', None) or error}")


if __name__ == "__main__":
    main(sys.argv[1:])
