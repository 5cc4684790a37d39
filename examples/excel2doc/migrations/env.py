"""How Alembic reaches the database: by DATABASE_URL, as the service itself."""

import logging
import os
import sys

from alembic import context
from sqlalchemy import create_engine, pool, text

from app.store import Base

# Any number, but the same for everyone: two migrations at once wait for each other.
LOCK = 0x45324443

logging.basicConfig(level=logging.INFO, format="%(message)s")


def run() -> None:
    url = os.environ.get("DATABASE_URL")
    if not url:
        sys.exit("Alembic can't run: DATABASE_URL is not set.")
    if context.is_offline_mode():
        context.configure(url=url, target_metadata=Base.metadata, literal_binds=True)
        with context.begin_transaction():
            context.run_migrations()
        return
    engine = create_engine(url, poolclass=pool.NullPool)
    with engine.connect() as connection:
        context.configure(connection=connection, target_metadata=Base.metadata)
        with context.begin_transaction():
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
            context.run_migrations()


run()
