"""The vectors' database (PostgreSQL): questions with the SQL that answers them, found by likeness.

A plain table: the vector is a JSON array and the cosine is computed here, which is right for some
thousand rows. With pgvector it would be a column type and an index.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import JSON, Engine, String, Text, create_engine, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from app.embedding import embed, nearest


class Base(DeclarativeBase):
    """The tables of the vectors' database; Alembic's revisions make them."""


class Example(Base):
    """A question and the SQL that answers it."""

    __tablename__ = "examples"

    id: Mapped[int] = mapped_column(primary_key=True)
    question: Mapped[str] = mapped_column(String(500))
    sql: Mapped[str] = mapped_column(Text)
    embedding: Mapped[list[float]] = mapped_column(JSON)


@dataclass(frozen=True)
class Match:
    """``score`` is the cosine, 0 to 1."""

    question: str
    sql: str
    score: float


class Vectors:
    """The examples. Each call is one transaction."""

    def __init__(self, engine: Engine, dimension: int) -> None:
        self.engine = engine
        self.dimension = dimension

    @classmethod
    def connect(cls, url: str, dimension: int) -> Vectors:
        """A pool that opens its first connection on first use."""
        return cls(create_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": 2}), dimension)

    def add(self, question: str, sql: str) -> int:
        """Store an example and return its id."""
        with Session(self.engine) as session, session.begin():
            example = Example(question=question, sql=sql, embedding=embed(question, self.dimension))
            session.add(example)
            session.flush()
            return example.id

    def search(self, question: str, *, limit: int, min_score: float) -> list[Match]:
        """The examples most like ``question``, best first."""
        with Session(self.engine) as session:
            rows = session.execute(select(Example.question, Example.sql, Example.embedding)).all()
        found = nearest(
            embed(question, self.dimension),
            (((row.question, row.sql), row.embedding) for row in rows),
            limit=limit,
            min_score=min_score,
        )
        return [Match(question, sql, round(score, 4)) for (question, sql), score in found]

    def check(self) -> None:
        """Raise what the driver raises when the database doesn't answer."""
        with self.engine.connect() as connection:
            connection.execute(text("SELECT 1"))
