"""The schemas that Alembic makes are the ones that the code expects."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from app import sources, vectors
from app.migrate import configuration
from sqlalchemy import MetaData, create_engine


@pytest.mark.parametrize(
    ("name", "metadata"), [("main", sources.Base.metadata), ("vectors", vectors.Base.metadata)]
)
def test_the_migrations_make_what_the_code_expects(tmp_path: Path, name: str, metadata: MetaData) -> None:
    url = f"sqlite:///{tmp_path / 'm.db'}"
    command.upgrade(configuration(name, url), "head")
    with create_engine(url).connect() as connection:
        context = MigrationContext.configure(connection)
        # SQLite names no unique constraint, so Alembic can't compare that one.
        assert [
            change for change in compare_metadata(context, metadata) if "constraint" not in str(change[0])
        ] == []
