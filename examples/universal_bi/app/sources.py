"""The main database (MySQL): the data sources that may be asked, and read-only queries on them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, String, create_engine, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    """The tables of the main database; Alembic's revisions make them."""


class DataSource(Base):
    """A table that people may ask about."""

    __tablename__ = "data_sources"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    table_name: Mapped[str] = mapped_column(String(64))
    description: Mapped[str] = mapped_column(String(500), default="")


class Sale(Base):
    """The rows of the data source that comes along."""

    __tablename__ = "sample_sales"

    id: Mapped[int] = mapped_column(primary_key=True)
    region: Mapped[str] = mapped_column(String(32))
    product: Mapped[str] = mapped_column(String(64))
    quantity: Mapped[int]
    amount_cents: Mapped[int]


class QueryError(Exception):
    """The query isn't one that may be run; the message is a sentence."""


@dataclass(frozen=True)
class Result:
    """``truncated``: there were more rows than may be returned."""

    columns: list[str]
    rows: list[list[Any]]
    truncated: bool


def checked(sql: str) -> str:
    """One SELECT (or WITH), without its closing semicolon. The read-only transaction is what enforces it;
    this gives the sentence."""
    statement = sql.strip().rstrip(";").strip()
    if not re.match(r"(?i)(select|with)\b", statement):
        raise QueryError("Only a SELECT (or WITH … SELECT) can be run.")
    if ";" in statement:
        raise QueryError("Only one statement can be run, and it can't hold a semicolon.")
    if re.search(r"(?i)\binto\s+(out|dump)file\b|\bload_file\s*\(|\bfor\s+(update|share)\b", statement):
        raise QueryError("The query may neither read or write files nor lock rows.")
    return statement


class Sources:
    """The main database. Each call is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @classmethod
    def connect(cls, url: str, *, pool_size: int, recycle: int) -> Sources:
        """A pool that opens its first connection on first use."""
        return cls(
            create_engine(
                url,
                pool_pre_ping=True,
                pool_size=pool_size,
                pool_recycle=recycle,
                connect_args={"connect_timeout": 2},
            )
        )

    def all(self) -> list[DataSource]:
        """By name."""
        with Session(self.engine) as session:
            return list(session.scalars(select(DataSource).order_by(DataSource.name)))

    def query(self, sql: str, *, max_rows: int, timeout_ms: int) -> Result:
        """Run ``sql`` in a read-only transaction. Raises :class:`QueryError` when it may not be run."""
        statement = checked(sql)
        with self.engine.connect() as connection:
            if connection.dialect.name == "mysql":
                # MySQL's own guards; MariaDB has the time limit under another name and unit.
                limit = (
                    f"SET SESSION max_statement_time = {timeout_ms / 1000}"
                    if connection.dialect.is_mariadb
                    else f"SET SESSION max_execution_time = {timeout_ms}"
                )
                connection.exec_driver_sql(limit)
                connection.rollback()
                connection.exec_driver_sql("START TRANSACTION READ ONLY")
            try:
                # Driver SQL without parameters, so that neither : nor % in the query is taken for one.
                answer = connection.exec_driver_sql(statement, execution_options={"no_parameters": True})
                rows = [list(row) for row in answer.fetchmany(max_rows + 1)]
                return Result(list(answer.keys()), rows[:max_rows], len(rows) > max_rows)
            except DBAPIError as error:
                if error.connection_invalidated:
                    raise
                raise QueryError(f"The database refused the query: {error.orig}") from error
            finally:
                connection.rollback()

    def check(self) -> None:
        """Raise what the driver raises when the database doesn't answer."""
        with self.engine.connect() as connection:
            connection.execute(text("SELECT 1"))
