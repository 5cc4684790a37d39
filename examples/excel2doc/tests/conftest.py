"""The service over SQLite and a Redis that is a dictionary: no server is needed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import redis
from fastapi.testclient import TestClient
from sqlalchemy import create_engine

sys.path.insert(0, str(Path(__file__).parents[1]))

from app.main import create_app
from app.settings import Settings
from app.store import Base, Cache, Records


class FakeRedis:
    """The four calls that the service makes. ``down`` makes each fail as a lost server does."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.down = False

    def _answer(self) -> None:
        if self.down:
            raise redis.ConnectionError("Connection refused")

    def get(self, key: str) -> bytes | None:
        self._answer()
        return self.values.get(key)

    def set(self, key: str, value: bytes, ex: int) -> None:
        self._answer()
        assert ex > 0
        self.values[key] = value

    def ping(self) -> bool:
        self._answer()
        return True


@pytest.fixture
def fake_redis() -> FakeRedis:
    return FakeRedis()


@pytest.fixture
def records(tmp_path: Path) -> Records:
    records = Records(create_engine(f"sqlite:///{tmp_path / 'records.db'}"))
    Base.metadata.create_all(records.engine)
    return records


@pytest.fixture
def client(records: Records, fake_redis: FakeRedis) -> TestClient:
    config = Settings(database_url="", redis_url="", max_upload=64 * 1024, max_rows=20, max_columns=5)
    return TestClient(create_app(config, records, Cache(fake_redis, 60)))  # type: ignore[arg-type]
