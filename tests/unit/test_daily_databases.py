"""The clients of databases: scripts run by a real shell, with clients that say how they were called."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from longshore.daily.databases import client_command
from longshore.errors import LongshoreError
from longshore.inventory.model import Database
from longshore.tasks.databases import pick

CLIENT = """#!/bin/sh
echo "args:$*"; echo "PGPASSWORD=$PGPASSWORD MYSQL_PWD=$MYSQL_PWD REDISCLI_AUTH=$REDISCLI_AUTH"
"""


@pytest.fixture
def container(tmp_path: Path) -> Path:
    """A folder of clients, as PATH would have them in the container."""
    for name in ("psql", "mariadb", "redis-cli"):
        (tmp_path / name).write_text(CLIENT)
        (tmp_path / name).chmod(0o755)
    for name in ("sh", "cat"):
        (tmp_path / name).symlink_to(shutil.which(name) or f"/bin/{name}")
    return tmp_path


def _call(container: Path, database: Database, *arguments: str, **environment: str) -> tuple[str, str]:
    done = subprocess.run(
        client_command(database, *arguments),
        env={"PATH": str(container), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    called, told = done.stdout.splitlines()
    return called.removeprefix("args:"), told


def test_psql_takes_user_database_and_password_of_the_container(container: Path) -> None:
    called, told = _call(
        container,
        Database("main", "postgres", "db"),
        "-c",
        "select 'a  b'",
        POSTGRES_USER="shop",
        POSTGRES_DB="shopdb",
        POSTGRES_PASSWORD="p'w $x",
    )
    assert called == "--username shop --dbname shopdb -c select 'a  b'"
    assert "PGPASSWORD=p'w $x " in told
    assert "p'w" not in called


def test_the_inventorys_user_wins_and_gets_no_password_of_another(container: Path) -> None:
    database = Database("main", "postgres", "db", user="reader", database="reports")
    called, told = _call(container, database, POSTGRES_USER="shop", POSTGRES_PASSWORD="secret")
    assert called == "--username reader --dbname reports"
    assert "PGPASSWORD= " in told


def test_another_user_comes_to_the_database_that_the_container_was_set_up_with(container: Path) -> None:
    database = Database("main", "postgres", "db", user="reader")
    called, _ = _call(container, database, POSTGRES_USER="shop")
    assert called == "--username reader --dbname shop"
    called, _ = _call(container, database)
    assert called == "--username reader --dbname postgres"


def test_a_password_in_a_file_is_read(container: Path) -> None:
    (container / "password").write_text("from-file\n")
    _, told = _call(
        container, Database("main", "postgres", "db"), POSTGRES_PASSWORD_FILE=str(container / "password")
    )
    assert "PGPASSWORD=from-file " in told


def test_mysql_may_be_called_mariadb_and_root_has_its_own_password(
    container: Path,
) -> None:
    environment = {
        "MYSQL_USER": "shop",
        "MYSQL_PASSWORD": "one",
        "MYSQL_ROOT_PASSWORD": "two",
        "MYSQL_DATABASE": "shopdb",
    }
    called, told = _call(container, Database("m", "mysql", "db"), **environment)
    assert called == "--user=shop --connect-timeout=10 shopdb"
    assert "MYSQL_PWD=one " in told
    _, told = _call(container, Database("m", "mysql", "db", user="root"), **environment)
    assert "MYSQL_PWD=two " in told


def test_redis_gets_its_password_and_database_number(container: Path) -> None:
    database = Database("cache", "redis", "redis", database="2")
    called, told = _call(container, database, "PING", REDIS_PASSWORD="secret")
    assert called == "-n 2 PING"
    assert told.endswith("REDISCLI_AUTH=secret")


def test_a_value_that_looks_like_shell_is_only_a_value(container: Path) -> None:
    database = Database("m", "postgres", "db", user="$(touch /tmp/x)", database="; rm -rf /")
    called, _ = _call(container, database)
    assert called == "--username $(touch /tmp/x) --dbname ; rm -rf /"


def test_one_database_is_picked_by_kind_or_name_and_else_those_there_are_are_named() -> None:
    main, cache = Database("main", "postgres", "db"), Database("cache", "redis", "redis")
    found = {"shop": {"main": main, "cache": cache}}
    assert pick(found, kind="postgres") == ("shop", main)
    assert pick(found, database="cache") == ("shop", cache)
    with pytest.raises(LongshoreError, match=r"several databases.*main \(postgres, of shop\), cache \(redis"):
        pick(found)
    with pytest.raises(LongshoreError, match=r"no postgres database named 'cache'. There are: main"):
        pick(found, database="cache", kind="postgres")
    with pytest.raises(LongshoreError, match="Declare it in the inventory"):
        pick({})
