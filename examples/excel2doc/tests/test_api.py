"""What the service promises over HTTP."""

from __future__ import annotations

import io

import docx
import openpyxl
import pytest
from app import settings
from app.store import Records
from conftest import FakeRedis
from fastapi.testclient import TestClient
from httpx import Response
from sqlalchemy import create_engine


def xlsx(rows: list[list[object]]) -> bytes:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def send(client: TestClient, name: str, data: bytes, form: str = "docx") -> Response:
    return client.post("/api/v1/convert", params={"format": form}, files={"file": (name, data)})


def test_an_xlsx_becomes_a_docx_with_every_cell(client: TestClient) -> None:
    answer = send(client, "prices.xlsx", xlsx([["item", "price"], ["tea", 2.5], ["cake", None]]))
    assert answer.status_code == 200
    document = docx.Document(io.BytesIO(answer.content))
    assert document.paragraphs[0].text == "prices"
    cells = [[cell.text for cell in row.cells] for row in document.tables[0].rows]
    assert cells == [["item", "price"], ["tea", "2.5"], ["cake", ""]]


def test_a_csv_becomes_html_and_its_text_is_escaped(client: TestClient) -> None:
    answer = send(client, "a.csv", b"\xef\xbb\xbfname;note\nx;<script>\n", "html")
    assert answer.headers["content-type"].startswith("text/html")
    assert "<td>&lt;script&gt;</td>" in answer.text
    assert "<th>name</th>" in answer.text


def test_control_characters_do_not_break_a_docx(client: TestClient) -> None:
    assert send(client, "a.csv", b"a,b\n1\x01,2\n").status_code == 200


def test_the_second_time_the_document_comes_from_the_cache(client: TestClient) -> None:
    first, second = (send(client, "a.csv", b"a,b\n1,2\n") for _ in range(2))
    assert (first.headers["x-cache"], second.headers["x-cache"]) == ("miss", "hit")
    assert first.content == second.content
    assert len(client.get("/api/v1/conversions").json()) == 1


def test_a_conversion_leaves_a_record(client: TestClient) -> None:
    number = send(client, "a.csv", b"a,b\n1,2\n3,4\n").headers["x-conversion-id"]
    (record,) = client.get("/api/v1/conversions").json()
    assert str(record["id"]) == number
    assert (record["filename"], record["rows"], record["format"]) == ("a.csv", 2, "docx")
    assert record["duration_ms"] >= 0


def test_without_redis_it_still_converts(client: TestClient, fake_redis: FakeRedis) -> None:
    fake_redis.down = True
    assert send(client, "a.csv", b"a,b\n1,2\n").status_code == 200


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("a.pdf", b"x", "neither an .xlsx nor a .csv"),
        ("a.xlsx", b"not a zip", "can't be read as .xlsx"),
        ("a.csv", b"\xff\xfe", "not UTF-8"),
        ("a.csv", b"\n\n", "empty"),
        ("a.csv", b"a\n" * 30, "more than 20 rows"),
        ("a.csv", b"1,2,3,4,5,6\n", "more than 5 columns"),
    ],
)
def test_what_cannot_be_converted_gets_a_sentence(
    client: TestClient, name: str, data: bytes, sentence: str
) -> None:
    answer = send(client, name, data)
    assert answer.status_code == 422
    assert sentence in answer.json()["detail"]


def test_an_upload_over_the_limit_is_refused(client: TestClient) -> None:
    assert send(client, "a.csv", b"a" * (64 * 1024 + 1)).status_code == 413


def test_health_is_ok_when_both_answer(client: TestClient) -> None:
    answer = client.get("/health")
    assert answer.status_code == 200
    assert answer.json()["checks"] == {"database": "ok", "redis": "ok"}


def test_health_says_which_one_does_not_answer_and_why(client: TestClient, fake_redis: FakeRedis) -> None:
    fake_redis.down = True
    answer = client.get("/health")
    assert answer.status_code == 503
    assert answer.json()["checks"]["database"] == "ok"
    assert "Connection refused" in answer.json()["checks"]["redis"]


def test_without_its_database_it_answers_503_not_500(client: TestClient, records: Records) -> None:
    records.engine = create_engine("sqlite:////nowhere/at/all.db")
    assert client.get("/health").status_code == 503
    assert client.get("/api/v1/conversions").status_code == 503


def test_the_docs_are_there(client: TestClient) -> None:
    assert client.get("/docs").status_code == 200
    assert "/api/v1/convert" in client.get("/openapi.json").json()["paths"]


def test_every_mistake_in_the_environment_is_named_at_once() -> None:
    with pytest.raises(settings.SettingsError) as caught:
        settings.load({"MAX_ROWS": "many", "LOG_LEVEL": "loud"})
    for name in ("DATABASE_URL", "REDIS_URL", "MAX_ROWS", "LOG_LEVEL"):
        assert name in str(caught.value)
