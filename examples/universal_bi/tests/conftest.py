"""The service over SQLite and a Redis that is a dictionary: no server is needed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import redis
from fastapi.testclient import TestClient
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

sys.path.insert(0, str(Path(__file__).parents[1]))

from app import sources, vectors
from app.documents import Documents
from app.history import History
from app.main import Stores, create_app
from app.settings import Settings


class FakeRedis:
    """The calls that the service makes. ``down`` makes each fail as a lost server does."""

    def __init__(self) -> None:
        self.lists: dict[str, list[str]] = {}
        self.down = False

    def __enter__(self) -> FakeRedis:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        if self.down:
            raise redis.ConnectionError("Connection refused")

    def pipeline(self) -> FakeRedis:
        return self

    def execute(self) -> None:
        self._answer()

    def lpush(self, key: str, value: str) -> None:
        self.lists.setdefault(key, []).insert(0, value)

    def ltrim(self, key: str, start: int, stop: int) -> None:
        self.lists[key] = self.lists[key][start : stop + 1]

    def expire(self, key: str, seconds: int) -> None:
        assert seconds > 0

    def lrange(self, key: str, start: int, stop: int) -> list[str]:
        self._answer()
        return self.lists.get(key, [])

    def ping(self) -> bool:
        self._answer()
        return True


@pytest.fixture
def fake_redis() -> FakeRedis:
    return FakeRedis()


@pytest.fixture
def stores(tmp_path: Path, fake_redis: FakeRedis) -> Stores:
    main = sources.Sources(create_engine(f"sqlite:///{tmp_path / 'main.db'}"))
    sources.Base.metadata.create_all(main.engine)
    with Session(main.engine) as session, session.begin():
        session.add(sources.DataSource(name="sales", table_name="sample_sales", description="Sales."))
        session.add_all(
            sources.Sale(region=region, product="tea", quantity=number, amount_cents=number * 100)
            for number, region in enumerate(("north", "south", "west"), start=1)
        )
    examples = vectors.Vectors(create_engine(f"sqlite:///{tmp_path / 'vectors.db'}"), 64)
    vectors.Base.metadata.create_all(examples.engine)
    return Stores(
        sources=main,
        vectors=examples,
        history=History(fake_redis, length=2, ttl=60),  # type: ignore[arg-type]
        documents=Documents(tmp_path / "chroma_db", "documents", 64),
    )


@pytest.fixture
def config() -> Settings:
    return Settings(query_max_rows=2)


@pytest.fixture
def client(config: Settings, stores: Stores) -> TestClient:
    return TestClient(create_app(config, stores))
