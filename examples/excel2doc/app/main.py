"""The HTTP side of Excel2Doc: what can be asked, and what is answered."""

from __future__ import annotations

import hashlib
import logging
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Protocol

import redis
from fastapi import FastAPI, File, HTTPException, Query, Request, Response, UploadFile
from fastapi.responses import JSONResponse, RedirectResponse
from pydantic import BaseModel, ConfigDict
from sqlalchemy.exc import SQLAlchemyError

from app import VERSION, logs, settings
from app.convert import MEDIA_TYPES, ConversionError, Format, read_table, write_document
from app.store import Cache, Conversion, Records

log = logging.getLogger("excel2doc")


class Checked(Protocol):
    """Something the service can't do without."""

    def check(self) -> None:
        """Raise when it doesn't answer."""


class ConversionOut(BaseModel):
    """A record as the API shows it."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    filename: str
    sha256: str
    format: str
    rows: int
    size: int
    duration_ms: int | None


def health(needs: dict[str, Checked]) -> tuple[int, dict[str, Any]]:
    """Status 200 and ``ok``, or 503 with the reason of each that doesn't answer."""
    checks = {name: _reason(name, need) for name, need in needs.items()}
    good = all(value == "ok" for value in checks.values())
    return (200 if good else 503), {
        "status": "ok" if good else "unavailable",
        "version": VERSION,
        "checks": checks,
    }


def _reason(name: str, need: Checked) -> str:
    try:
        need.check()
    except Exception as error:  # whatever it is, it is the reason
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        log.warning("health", extra={"need": name, "reason": reason})
        return reason
    return "ok"


def create_app(config: settings.Settings, records: Records, cache: Cache) -> FastAPI:
    """The application over the given stores; tests give it their own."""
    app = FastAPI(title="Excel2Doc", version=VERSION, summary="Turns a spreadsheet into a document.")

    @app.middleware("http")
    async def access_log(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        began = time.monotonic()
        request_id = request.headers.get("x-request-id", "")[:64] or uuid.uuid4().hex[:16]
        response = await call_next(request)
        response.headers["x-request-id"] = request_id
        # A container's health check every few seconds would bury everything else.
        level = (
            logging.DEBUG if request.url.path == "/health" and response.status_code == 200 else logging.INFO
        )
        log.log(
            level,
            "request",
            extra={
                "request_id": request_id,
                "method": request.method,
                "path": request.url.path,
                "status": response.status_code,
                "ms": round((time.monotonic() - began) * 1000, 1),
            },
        )
        return response

    @app.exception_handler(ConversionError)
    def not_convertible(_: Request, error: ConversionError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, status_code=422)

    @app.exception_handler(SQLAlchemyError)
    def no_database(_: Request, error: SQLAlchemyError) -> JSONResponse:
        log.error("database", extra={"reason": str(error).splitlines()[0]})
        return JSONResponse({"detail": "The database doesn't answer."}, status_code=503)

    @app.get("/", include_in_schema=False)
    def root() -> RedirectResponse:
        return RedirectResponse("/docs")

    @app.get("/health")
    def get_health() -> JSONResponse:
        status, body = health({"database": records, "redis": cache})
        return JSONResponse(body, status_code=status)

    @app.post("/api/v1/convert", response_class=Response)
    def convert(
        file: Annotated[UploadFile, File(description="an .xlsx or .csv file")],
        form: Annotated[Format, Query(alias="format")] = "docx",
    ) -> Response:
        began = time.monotonic()
        filename = (file.filename or "upload")[:255]
        data = file.file.read(config.max_upload + 1)
        if len(data) > config.max_upload:
            raise HTTPException(413, f"The file is larger than {config.max_upload // 1024 // 1024} MB.")
        digest = hashlib.sha256(data).hexdigest()
        # The title in the document is the file's name, so it belongs to what the result is made of.
        key = f"doc:{form}:{digest}:{hashlib.sha256(filename.encode()).hexdigest()[:16]}"
        headers = {"content-disposition": f'attachment; filename="{digest[:12]}.{form}"', "x-cache": "hit"}
        document = _from_cache(cache, key)
        if document is None:
            table = read_table(data, filename, max_rows=config.max_rows, max_columns=config.max_columns)
            document = write_document(table, form)
            number = records.add(
                Conversion(
                    filename=filename,
                    sha256=digest,
                    format=form,
                    rows=len(table.rows),
                    size=len(document),
                    duration_ms=round((time.monotonic() - began) * 1000),
                )
            )
            _to_cache(cache, key, document)
            headers |= {"x-cache": "miss", "x-conversion-id": str(number)}
        return Response(document, media_type=MEDIA_TYPES[form], headers=headers)

    @app.get("/api/v1/conversions")
    def conversions(limit: Annotated[int, Query(ge=1, le=100)] = 20) -> list[ConversionOut]:
        return [ConversionOut.model_validate(record) for record in records.latest(limit)]

    return app


def _from_cache(cache: Cache, key: str) -> bytes | None:
    """A cache that is away costs time, not the answer."""
    try:
        return cache.get(key)
    except redis.RedisError as error:
        log.warning("cache", extra={"reason": str(error)})
        return None


def _to_cache(cache: Cache, key: str, document: bytes) -> None:
    try:
        cache.put(key, document)
    except redis.RedisError as error:
        log.warning("cache", extra={"reason": str(error)})


def main() -> FastAPI:
    """What ``uvicorn --factory app.main:main`` serves; mistakes in the environment end it with a sentence."""
    try:
        config = settings.load()
    except settings.SettingsError as error:
        sys.exit(f"Excel2Doc can't start: {error}")
    logs.configure(config.log_level)
    log.info("starting", extra={"version": VERSION, "environment": config.environment})
    return create_app(
        config, Records.connect(config.database_url), Cache.connect(config.redis_url, config.cache_ttl)
    )
