"""How Alembic reaches this database: by the URL that app.migrate hands over."""

import logging

from alembic import context
from sqlalchemy import create_engine, pool

from app.sources import Base

logging.basicConfig(level=logging.INFO, format="%(message)s")
engine = create_engine(context.config.attributes["url"], poolclass=pool.NullPool)
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=Base.metadata)
    with context.begin_transaction():
        context.run_migrations()
