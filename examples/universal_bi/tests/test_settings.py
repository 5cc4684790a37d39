"""What the environment may say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from app import settings

ROOT = Path(__file__).parents[1]
KEYS_OF_COMPOSE = {"REGISTRY", "TAG", "API_PORT", "MYSQL_ROOT_PASSWORD", "WEB_CONCURRENCY"}


def keys(name: str) -> list[str]:
    return re.findall(r"^([A-Z0-9_]+)=", (ROOT / name).read_text(), re.MULTILINE)


def test_the_example_has_every_key_that_is_read_and_no_other() -> None:
    fields = {name.upper() for name in settings.Settings.model_fields}
    assert set(keys(".env.example")) == fields | KEYS_OF_COMPOSE


@pytest.mark.parametrize("name", [".env.dev", ".env.docker", ".env.prod.example"])
def test_every_variant_has_the_same_keys_as_the_example(name: str) -> None:
    assert keys(name) == keys(".env.example")


@pytest.mark.parametrize("app_env", ["docker", "staging", "prod"])
def test_the_default_secret_key_is_refused_outside_dev(monkeypatch: pytest.MonkeyPatch, app_env: str) -> None:
    monkeypatch.setenv("APP_ENV", app_env)
    for value in (settings.DEFAULT_SECRET_KEY, "CHANGE_THIS_please_and_make_it_long_enough", "", "short"):
        monkeypatch.setenv("SECRET_KEY", value)
        with pytest.raises(settings.SettingsError, match="SECRET_KEY"):
            settings.load()
    monkeypatch.setenv("SECRET_KEY", "0123456789abcdef0123456789abcdef")
    assert settings.load().app_env == app_env


def test_a_bad_value_is_named_but_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYSQL_PORT", "hunter2")
    with pytest.raises(settings.SettingsError) as caught:
        settings.load()
    assert "MYSQL_PORT" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_the_server_ends_with_one_sentence_and_no_traceback() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "uvicorn", "--factory", "app.main:main", "--port", "0"],
        cwd=ROOT,
        env={**os.environ, "APP_ENV": "prod", "SECRET_KEY": settings.DEFAULT_SECRET_KEY},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 1
    assert "SECRET_KEY has its default value" in run.stderr
    assert "Traceback" not in run.stderr


def test_a_password_with_any_character_stays_whole_in_the_url() -> None:
    config = settings.Settings(mysql_password="p@ss:w/rd#%")
    assert ":p%40ss%3Aw%2Frd%23%25@" in config.mysql_url
