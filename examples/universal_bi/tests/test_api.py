"""What the service promises over HTTP."""

from __future__ import annotations

import time

import pytest
from app import tokens
from app.main import Stores, create_app
from app.settings import Settings
from conftest import FakeRedis
from fastapi.testclient import TestClient
from sqlalchemy import create_engine

API = "/api/v1"


def query(client: TestClient, sql: str) -> tuple[int, dict]:
    answer = client.post(f"{API}/query", json={"sql": sql})
    return answer.status_code, answer.json()


def test_a_select_gives_columns_and_rows(client: TestClient) -> None:
    status, body = query(client, "SELECT region, quantity FROM sample_sales ORDER BY id LIMIT 1;")
    assert status == 200
    assert body == {"columns": ["region", "quantity"], "rows": [["north", 1]], "truncated": False}


def test_more_rows_than_the_limit_are_cut_and_it_is_said(client: TestClient) -> None:
    _, body = query(client, "SELECT * FROM sample_sales")
    assert (len(body["rows"]), body["truncated"]) == (2, True)


def test_percent_and_colon_in_a_query_are_text(client: TestClient) -> None:
    status, body = query(client, "SELECT ':x' AS a FROM sample_sales WHERE region LIKE 'n%'")
    assert (status, body["rows"]) == (200, [[":x"]])


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM sample_sales",
        "SELECT 1; DROP TABLE sample_sales",
        "selection",
        "SELECT * FROM sample_sales INTO OUTFILE '/tmp/x'",
        "SELECT * FROM sample_sales FOR UPDATE",
        "SELECT nothing FROM sample_sales",
    ],
)
def test_anything_but_one_select_is_refused_with_a_sentence(client: TestClient, sql: str) -> None:
    status, body = query(client, sql)
    assert status == 422
    assert body["detail"]


def test_the_nearest_example_answers_a_question_and_history_remembers(client: TestClient) -> None:
    for question, sql in (
        ("How many sales per region?", "SELECT region, quantity FROM sample_sales ORDER BY region"),
        ("Which products are there?", "SELECT DISTINCT product FROM sample_sales"),
    ):
        assert client.post(f"{API}/examples", json={"question": question, "sql": sql}).status_code == 201
    found = client.get(f"{API}/examples/search", params={"q": "sales per region"}).json()
    assert found[0]["question"] == "How many sales per region?"
    answer = client.post(f"{API}/ask", json={"question": "how many sales per region"}).json()
    assert (answer["from"], answer["rows"][0]) == ("example", ["north", 1])
    assert [entry["question"] for entry in client.get(f"{API}/history").json()] == [answer["question"]]


def test_history_keeps_only_the_latest(client: TestClient) -> None:
    client.post(f"{API}/examples", json={"question": "one", "sql": "SELECT 1"})
    for _ in range(3):
        client.post(f"{API}/ask", json={"question": "one"})
    assert len(client.get(f"{API}/history").json()) == 2


def test_a_question_like_nothing_known_gets_a_sentence(client: TestClient) -> None:
    answer = client.post(f"{API}/ask", json={"question": "quite another thing"})
    assert answer.status_code == 404
    assert "No stored example" in answer.json()["detail"]


def test_documents_are_found_by_likeness(client: TestClient) -> None:
    for text in ("The table sample_sales has amounts in cents.", "Holidays are in December."):
        client.post(f"{API}/documents", json={"text": text})
    found = client.get(f"{API}/documents/search", params={"q": "amounts in sample_sales"}).json()
    assert found[0]["text"].startswith("The table")


def test_health_names_each_store_that_does_not_answer(
    client: TestClient, stores: Stores, fake_redis: FakeRedis
) -> None:
    assert client.get(f"{API}/health").status_code == 200
    fake_redis.down = True
    stores.sources.engine = create_engine("sqlite:////nowhere/at/all.db")
    answer = client.get(f"{API}/health")
    assert answer.status_code == 503
    checks = answer.json()["checks"]
    assert {name for name, value in checks.items() if value != "ok"} == {"mysql", "redis"}
    assert "Connection refused" in checks["redis"]


def test_with_auth_only_health_answers_without_a_good_token(config: Settings, stores: Stores) -> None:
    client = TestClient(create_app(config.model_copy(update={"auth_required": True}), stores))
    key = config.secret_key.get_secret_value()
    now = int(time.time())
    good = tokens.make("alice", key=key, expires=now + 60)
    late = tokens.make("alice", key=key, expires=now - 1)
    forged = tokens.make("alice", key="another key", expires=now + 60)

    def status(token: str) -> int:
        return client.get(f"{API}/sources", headers={"authorization": f"Bearer {token}".encode()}).status_code

    assert client.get(f"{API}/health").status_code == 200
    assert client.get(f"{API}/sources").status_code == 401
    assert [status(token) for token in (good, late, forged, "x", "é.1.2")] == [200, 401, 401, 401, 401]
