"""Where things are kept: records of conversions in PostgreSQL, finished documents in Redis for a while."""

from __future__ import annotations

from datetime import datetime, timezone

import redis
from sqlalchemy import DateTime, Engine, Integer, String, create_engine, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    """The tables; Alembic's revisions make them."""


def _now() -> datetime:
    return datetime.now(timezone.utc)


class Conversion(Base):
    """One conversion that was asked for and done."""

    __tablename__ = "conversions"

    id: Mapped[int] = mapped_column(primary_key=True)
    filename: Mapped[str] = mapped_column(String(255))
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    format: Mapped[str] = mapped_column(String(8))
    rows: Mapped[int] = mapped_column(Integer)
    size: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=_now, index=True)
    # Revision 0002. Nullable, so that the release before it works on the same schema.
    duration_ms: Mapped[int | None] = mapped_column(Integer, default=None)


class Records:
    """The conversions table. Each call is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @classmethod
    def connect(cls, url: str) -> Records:
        """A pool that opens its first connection on first use, so that the service starts without it."""
        options = {"connect_args": {"connect_timeout": 2}} if url.startswith("postgresql") else {}
        return cls(create_engine(url, pool_pre_ping=True, pool_size=5, max_overflow=5, **options))

    def add(self, conversion: Conversion) -> int:
        """Store it and return its id."""
        with Session(self.engine) as session, session.begin():
            session.add(conversion)
            session.flush()
            return conversion.id

    def latest(self, limit: int) -> list[Conversion]:
        """The newest first."""
        with Session(self.engine) as session:
            return list(session.scalars(select(Conversion).order_by(Conversion.id.desc()).limit(limit)))

    def check(self) -> None:
        """Raise what the driver raises when the database doesn't answer."""
        with self.engine.connect() as connection:
            connection.execute(text("SELECT 1"))


class Cache:
    """Finished documents by the content they were made of."""

    def __init__(self, client: redis.Redis, ttl: int) -> None:
        self.client = client
        self.ttl = ttl

    @classmethod
    def connect(cls, url: str, ttl: int) -> Cache:
        """Like :meth:`Records.connect`, without waiting for the server."""
        return cls(redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2), ttl)

    def get(self, key: str) -> bytes | None:
        """The document, or ``None`` when it isn't there (any more)."""
        value = self.client.get(key)
        return value if isinstance(value, bytes) else None

    def put(self, key: str, document: bytes) -> None:
        """Keep ``document`` for the cache's time to live."""
        self.client.set(key, document, ex=self.ttl)

    def check(self) -> None:
        """Raise what the client raises when Redis doesn't answer."""
        self.client.ping()
