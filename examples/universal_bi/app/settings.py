"""The service's settings, from the environment. One field is one key of ``.env.example``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

DEFAULT_SECRET_KEY = "change_this_secret_key_in_production"

Port = Annotated[int, Field(ge=1, le=65535)]
Count = Annotated[int, Field(ge=1)]


class SettingsError(Exception):
    """The environment says something that can't be; the message is a sentence."""


class Settings(BaseSettings):
    """Times are seconds unless the name says otherwise."""

    model_config = SettingsConfigDict(case_sensitive=False, extra="ignore")

    app_name: str = "Universal BI"
    app_env: Literal["dev", "docker", "staging", "prod"] = "dev"
    debug: bool = False
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_dir: Path = Path("logs")
    log_max_mb: Count = 10
    log_backups: Count = 3
    cors_origins: str = ""

    secret_key: SecretStr = SecretStr(DEFAULT_SECRET_KEY)
    auth_required: bool = False
    access_token_expire_minutes: Count = 60

    mysql_server: str = "127.0.0.1"
    mysql_port: Port = 3306
    mysql_user: str = "universal_bi"
    mysql_password: SecretStr = SecretStr("")
    mysql_database: str = "universal_bi"
    mysql_pool_size: Count = 5
    mysql_pool_recycle: Count = 1800

    postgres_server: str = "127.0.0.1"
    postgres_port: Port = 5432
    postgres_user: str = "vectors"
    postgres_password: SecretStr = SecretStr("")
    postgres_db: str = "vectors"
    vector_dimension: Count = 128

    redis_host: str = "127.0.0.1"
    redis_port: Port = 6379
    redis_password: SecretStr = SecretStr("")
    redis_db: Annotated[int, Field(ge=0)] = 0
    history_length: Count = 50
    history_ttl: Count = 604800

    chroma_dir: Path = Path("chroma_db")
    chroma_collection: str = "documents"

    query_max_rows: Count = 1000
    query_timeout_ms: Count = 5000
    search_results: Count = 5
    search_min_score: Annotated[float, Field(ge=0, le=1)] = 0.2

    llm_api_base: str = "https://api.openai.com/v1"
    llm_api_key: SecretStr = SecretStr("")
    llm_model: str = "gpt-4o-mini"
    llm_timeout: Count = 30

    @property
    def mysql_url(self) -> str:
        """SQLAlchemy's URL of the main database."""
        login = _login(self.mysql_user, self.mysql_password)
        place = f"{self.mysql_server}:{self.mysql_port}/{self.mysql_database}"
        return f"mysql+mysqldb://{login}@{place}?charset=utf8mb4"

    @property
    def postgres_url(self) -> str:
        """SQLAlchemy's URL of the vectors' database."""
        login = _login(self.postgres_user, self.postgres_password)
        return f"postgresql+psycopg://{login}@{self.postgres_server}:{self.postgres_port}/{self.postgres_db}"

    @property
    def llm_configured(self) -> bool:
        """Whether there is a language model to ask; the example's placeholder doesn't count."""
        key = self.llm_api_key.get_secret_value()
        return bool(key) and not key.startswith("sk-xxxx")


def _login(user: str, password: SecretStr) -> str:
    return f"{quote(user, safe='')}:{quote(password.get_secret_value(), safe='')}"


def load() -> Settings:
    """The settings in the environment.

    Raises :class:`SettingsError` for bad values, and for a secret key outside dev that everyone knows
    or that is short enough to be guessed.
    """
    try:
        settings = Settings()
    except ValidationError as error:
        # The input isn't in the text: it might be a secret.
        problems = [f"{str(item['loc'][0]).upper()}: {item['msg']}." for item in error.errors()]
        raise SettingsError(" ".join(problems)) from None
    key = settings.secret_key.get_secret_value()
    if settings.app_env != "dev":
        make_one = "Make one with `openssl rand -hex 32`."
        if key.lower().startswith("change_this") or not key:
            raise SettingsError(
                f"SECRET_KEY has its default value, which only APP_ENV=dev may have. {make_one}"
            )
        if len(key) < 32:
            raise SettingsError(
                f"SECRET_KEY is {len(key)} characters long; outside dev it needs 32. {make_one}"
            )
    return settings
