"""The HTTP side of Universal BI: what can be asked, and what is answered."""

from __future__ import annotations

import logging
import sys
import time
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Protocol

import redis
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy.exc import SQLAlchemyError

from app import VERSION, logs, model, settings, tokens
from app.documents import Documents
from app.history import History
from app.sources import QueryError, Sources
from app.vectors import Vectors

log = logging.getLogger("universal_bi")

API = "/api/v1"


class Checked(Protocol):
    """Something the service can't do without."""

    def check(self) -> None:
        """Raise when it doesn't answer."""


@dataclass(frozen=True)
class Stores:
    """Everything that keeps something."""

    sources: Sources
    vectors: Vectors
    history: History
    documents: Documents


class QueryIn(BaseModel):
    sql: str = Field(min_length=1, max_length=10_000)


class ExampleIn(BaseModel):
    question: str = Field(min_length=1, max_length=500)
    sql: str = Field(min_length=1, max_length=10_000)


class QuestionIn(BaseModel):
    question: str = Field(min_length=1, max_length=500)


class DocumentIn(BaseModel):
    text: str = Field(min_length=1, max_length=10_000)


def person(request: Request, authorization: Annotated[str, Header()] = "") -> str:
    """Who asks; ``anonymous`` without a token, where none is needed."""
    config: settings.Settings = request.app.state.settings
    scheme, _, token = authorization.partition(" ")
    key = config.secret_key.get_secret_value()
    name = tokens.check(token, key=key, now=time.time()) if scheme.lower() == "bearer" else None
    if name is None and config.auth_required:
        raise HTTPException(401, "A token is needed: Authorization: Bearer …", {"www-authenticate": "Bearer"})
    return name or "anonymous"


Person = Annotated[str, Depends(person)]


def create_app(config: settings.Settings, stores: Stores) -> FastAPI:
    """The application over the given stores; tests give it their own."""
    app = FastAPI(title=config.app_name, version=VERSION, debug=config.debug)
    app.state.settings = config
    if config.cors_origins:
        origins = [origin.strip() for origin in config.cors_origins.split(",")]
        app.add_middleware(CORSMiddleware, allow_origins=origins, allow_methods=["*"], allow_headers=["*"])

    # Everything but health asks who it is, also where the answer doesn't depend on it.
    api = APIRouter(prefix=API, dependencies=[Depends(person)])

    @app.exception_handler(QueryError)
    def not_allowed(_: Request, error: QueryError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, status_code=422)

    @app.exception_handler(SQLAlchemyError)
    @app.exception_handler(redis.RedisError)
    def store_is_away(_: Request, error: Exception) -> JSONResponse:
        log.error("a store failed: %s", str(error).splitlines()[0])
        return JSONResponse({"detail": "A database doesn't answer."}, status_code=503)

    @app.get(API + "/health")
    def health() -> JSONResponse:
        needs = {
            "mysql": stores.sources,
            "postgres": stores.vectors,
            "redis": stores.history,
            "chroma_db": stores.documents,
        }
        checks = {name: _reason(name, need) for name, need in needs.items()}
        good = all(value == "ok" for value in checks.values())
        body = {"status": "ok" if good else "unavailable", "version": VERSION, "checks": checks}
        return JSONResponse(body, status_code=200 if good else 503)

    @api.get("/sources")
    def sources() -> list[dict[str, str]]:
        return [
            {"name": source.name, "table": source.table_name, "description": source.description}
            for source in stores.sources.all()
        ]

    def run(sql: str) -> dict[str, Any]:
        result = stores.sources.query(sql, max_rows=config.query_max_rows, timeout_ms=config.query_timeout_ms)
        return asdict(result)

    @api.post("/query")
    def query(body: QueryIn) -> dict[str, Any]:
        return run(body.sql)

    @api.post("/examples", status_code=201)
    def add_example(body: ExampleIn) -> dict[str, int]:
        return {"id": stores.vectors.add(body.question, body.sql)}

    @api.get("/examples/search")
    def search_examples(q: str) -> list[dict[str, Any]]:
        found = stores.vectors.search(q, limit=config.search_results, min_score=config.search_min_score)
        return [asdict(match) for match in found]

    @api.post("/documents", status_code=201)
    def add_document(body: DocumentIn) -> dict[str, int]:
        return {"id": stores.documents.add(body.text)}

    def notes(question: str) -> list[tuple[str, float]]:
        return stores.documents.search(
            question, limit=config.search_results, min_score=config.search_min_score
        )

    @api.get("/documents/search")
    def search_documents(q: str) -> list[dict[str, Any]]:
        return [{"text": text, "score": round(score, 4)} for text, score in notes(q)]

    @api.post("/ask")
    def ask(body: QuestionIn, who: Person) -> dict[str, Any]:
        best = stores.vectors.search(body.question, limit=1, min_score=0.6)
        if best:
            sql, origin = best[0].sql, "example"
        elif config.llm_configured:
            try:
                sql, origin = (
                    model.ask(body.question, [text for text, _ in notes(body.question)], config),
                    "model",
                )
            except model.ModelError as error:
                raise HTTPException(502, str(error)) from error
        else:
            raise HTTPException(
                404, "No stored example is like this question, and no language model is set up."
            )
        answer = {"question": body.question, "sql": sql, "from": origin}
        result = run(sql)
        stores.history.add(who, answer)
        return {**answer, **result}

    @api.get("/history")
    def history(who: Person) -> list[dict[str, Any]]:
        return stores.history.of(who)

    app.include_router(api)
    return app


def _reason(name: str, need: Checked) -> str:
    try:
        need.check()
    except Exception as error:  # whatever it is, it is the reason
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        log.warning("health: %s: %s", name, reason)
        return reason
    return "ok"


def main() -> FastAPI:
    """What ``uvicorn --factory app.main:main`` serves; mistakes in the environment end it with a sentence."""
    try:
        config = settings.load()
        logs.configure(config)
        stores = Stores(
            sources=Sources.connect(
                config.mysql_url, pool_size=config.mysql_pool_size, recycle=config.mysql_pool_recycle
            ),
            vectors=Vectors.connect(config.postgres_url, config.vector_dimension),
            history=History(
                redis.Redis(
                    host=config.redis_host,
                    port=config.redis_port,
                    db=config.redis_db,
                    password=config.redis_password.get_secret_value() or None,
                    socket_timeout=2,
                    socket_connect_timeout=2,
                ),
                length=config.history_length,
                ttl=config.history_ttl,
            ),
            documents=Documents(config.chroma_dir, config.chroma_collection, config.vector_dimension),
        )
    except (settings.SettingsError, OSError) as error:
        sys.exit(f"Universal BI can't start: {error}")
    log.info("starting version %s as %s", VERSION, config.app_env)
    return create_app(config, stores)
