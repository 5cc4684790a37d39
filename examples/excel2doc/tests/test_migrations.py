"""The schema that Alembic makes is the one that the code expects, and its last step only adds."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from app.store import Base
from sqlalchemy import create_engine, inspect

CONFIG = Config(str(Path(__file__).parents[1] / "alembic.ini"))


def test_the_migrations_make_what_the_code_expects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path / 'm.db'}"
    monkeypatch.setenv("DATABASE_URL", url)
    command.upgrade(CONFIG, "head")
    with create_engine(url).connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_the_second_revision_only_adds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path / 'm.db'}"
    monkeypatch.setenv("DATABASE_URL", url)
    command.upgrade(CONFIG, "0001")
    before = {column["name"] for column in inspect(create_engine(url)).get_columns("conversions")}
    command.upgrade(CONFIG, "0002")
    after = {column["name"]: column for column in inspect(create_engine(url)).get_columns("conversions")}
    assert before < set(after)
    assert all(after[name]["nullable"] for name in set(after) - before)
