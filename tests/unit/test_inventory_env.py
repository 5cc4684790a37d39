"""Where an app's ``.env`` comes from, what is a secret, and what contradicts itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from inventory_project import SHOP, loaded, make, problems

from longshore.errors import InventoryError
from longshore.inventory import EnvValue, explain, load
from longshore.inventory.hidden import looks_secret

GROUPED = """
all:
  vars:
    longshore: {apps: {shop: {compose: compose.yml, env: {LEVEL: all, WHO: "{{ inventory_hostname }}"}}}}
  children:
    web:
      hosts: {h1: , h2: }
      vars: {longshore: {apps: {shop: {env: {DB_HOST: group}}}}}
"""


def test_env_files_and_the_inventory_make_one_env_with_sources(tmp_path: Path) -> None:
    files = {
        "inventory/prod.yml": GROUPED,
        "inventory/host_vars/h2.yml": "longshore: {apps: {shop: {env: {DB_HOST: host}}}}\n",
        "env/prod.env": "DB_HOST=file\nSHARED=shared\nBOTH=shared\n",
        "env/prod/shop.env": "BOTH=own\nPRICE='$2y$10$abcdef'\n",
    }
    targets = loaded(tmp_path, files).targets
    env = {name: value.value for name, value in targets["shop", "h1"].env.items()}
    assert env == {
        "BOTH": "own",
        "DB_HOST": "group",
        "LEVEL": "all",
        "PRICE": "$2y$10$abcdef",
        "SHARED": "shared",
        "WHO": "h1",
    }
    assert list(env) == sorted(env)
    two = targets["shop", "h2"].env
    assert two["DB_HOST"].value == "host"
    assert two["WHO"].value == "h2"
    assert [str(weaker.source.where) for weaker in two["DB_HOST"].overrode] == [
        "inventory/prod.yml:8:55",
        "env/prod.env:1",
    ]


def test_the_command_line_wins_over_an_env_file(tmp_path: Path) -> None:
    files = {"inventory/prod.yml": SHOP, "env/prod.env": "TAG=1\n"}
    environment = loaded(tmp_path, files, "longshore.apps.shop.env.TAG='2'")
    assert environment.targets["shop", "h1"].env["TAG"].value == "2"


def test_a_key_in_an_env_file_and_in_the_inventory_for_all_hosts_is_an_error_with_both_places(
    tmp_path: Path,
) -> None:
    told = problems(tmp_path, {"inventory/prod.yml": GROUPED, "env/prod/shop.env": "A=1\nLEVEL=file\n"})
    assert told == [
        "inventory/prod.yml:4:66: LEVEL of shop is also given in env/prod/shop.env:2. "
        "Keep one of them; a group, a host or --set may override it."
    ]


def test_a_key_given_twice_in_an_env_file_is_an_error(tmp_path: Path) -> None:
    told = problems(tmp_path, {"inventory/prod.yml": SHOP, "env/prod.env": "A=1\nB=2\nA=3\n"})
    assert told == ["env/prod.env:3: A is given twice, first in line 1. Keep one of them."]


def test_an_env_file_of_an_app_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    told = problems(tmp_path, {"inventory/prod.yml": SHOP, "env/prod/shpo.env": "A=1\n"})
    assert told == ["env/prod/shpo.env: There is no app named 'shpo' in prod. Did you mean shop?"]


def test_values_of_env_files_are_secret_and_so_are_values_of_the_inventory_that_look_so(
    tmp_path: Path,
) -> None:
    inventory = SHOP.replace(
        "{compose: compose.yml}",
        "{compose: compose.yml, env: {API_KEY: planted1, PLAIN: shown,"
        " DB: 'postgres://app:planted2@db/app', FROM_SHELL: \"{{ lookup('env', 'HOME') }}\"}}",
    )
    environment = loaded(tmp_path, {"inventory/prod.yml": inventory, "env/prod.env": "COLOR=planted3\n"})
    env = environment.targets["shop", "h1"].env
    assert {name for name, value in env.items() if value.secret} == {"API_KEY", "COLOR", "DB", "FROM_SHELL"}
    assert "planted" not in repr(env)
    assert "shown" in repr(env)


def test_explain_masks_a_secret_and_what_it_overrode_unless_asked(tmp_path: Path) -> None:
    files = {
        "inventory/prod.yml": SHOP,
        "env/prod.env": "DB_PASSWORD=planted1\n",
        "inventory/host_vars/h1.yml": "longshore: {apps: {shop: {env: {DB_PASSWORD: planted2}}}}\n",
    }
    environment = loaded(tmp_path, files)
    hidden = explain(environment, "env.DB_PASSWORD", host="h1")
    assert (hidden.value, hidden.overrode[0][0]) == ("***", "***")
    assert "planted" not in repr(explain(environment, "longshore", host="h1"))
    assert "planted" not in repr(explain(environment, "longshore.apps.shop.env.DB_PASSWORD", host="h1"))
    shown = explain(environment, "env.DB_PASSWORD", host="h1", reveal=True)
    assert (shown.value, shown.overrode[0][0]) == ("planted2", "planted1")


def test_a_readable_env_file_with_secrets_is_warned_about(tmp_path: Path) -> None:
    make(
        tmp_path,
        {"inventory/prod.yml": SHOP, "env/prod.env": "DB_PASSWORD=x\n", "env/prod/shop.env": "A=1\n"},
    )
    assert load(tmp_path, "prod").warnings == ()
    (tmp_path / "env/prod.env").chmod(0o644)
    (tmp_path / "env/prod/shop.env").chmod(0o644)
    assert load(tmp_path, "prod").warnings == (
        "env/prod.env holds secrets and every user of this machine can read it: chmod 600 it.",
    )


@pytest.mark.parametrize(
    "name",
    ["DB_PASSWORD", "SECRET_KEY", "api-token", "SENTRY_DSN", "AWS_ACCESS_KEY_ID", "PGPASSWORD", "jwt_key"],
)
def test_a_secret_is_told_by_its_name(name: str) -> None:
    assert looks_secret(name)


@pytest.mark.parametrize("name", ["PATH", "KEYBOARD", "MONKEY", "AUTHOR", "LOG_LEVEL", "COMPASS", "KEYWORDS"])
def test_a_harmless_name_is_no_secret(name: str) -> None:
    assert not looks_secret(name)


def test_a_secret_is_told_by_credentials_in_a_url() -> None:
    assert looks_secret("CELERY_BROKER", "amqp://guest:guest@mq:5672/")
    assert looks_secret("CACHE", "redis://:pw@cache:6379/0")
    assert not looks_secret("HOME_PAGE", "https://example.org:8443/a@b")


def test_a_broken_env_file_is_a_sentence_with_its_line(tmp_path: Path) -> None:
    told = problems(tmp_path, {"inventory/prod.yml": SHOP, "env/prod.env": "A=1\nB='never closed\n"})
    assert told[0].startswith("env/prod.env:2")


def test_a_surprising_number_under_a_secret_name_is_refused_without_showing_it(tmp_path: Path) -> None:
    files = {
        "inventory/prod.yml": SHOP,
        "inventory/host_vars/h1.yml": "longshore: {apps: {shop: {env: {PIN_TOKEN: 0123}}}}\n",
    }
    assert problems(tmp_path, files) == [
        "inventory/host_vars/h1.yml:1:44: longshore.apps.shop.env.PIN_TOKEN is not a text to YAML. "
        "Write it in quotes."
    ]


def test_explain_of_an_unknown_key_names_the_nearest(tmp_path: Path) -> None:
    environment = loaded(tmp_path, {"inventory/prod.yml": SHOP, "env/prod.env": "LOG_LEVEL=1\n"})
    with pytest.raises(InventoryError, match="Did you mean LOG_LEVEL"):
        explain(environment, "env.LOGLEVEL", host="h1")
    value: EnvValue = environment.targets["shop", "h1"].env["LOG_LEVEL"]
    assert value.secret


def test_a_dollar_in_an_env_file_that_is_read_as_nothing_is_pointed_out_without_what_was_lost(
    tmp_path: Path,
) -> None:
    files = {"inventory/prod.yml": SHOP, "env/prod.env": "A=pa$word\nB='pa$word'\nC=$A-${D:-x}\n"}
    warnings = [text for text in loaded(tmp_path, files).warnings if "$" in text]
    assert len(warnings) == 1
    assert warnings[0].startswith("env/prod.env:1: A has a $")
    assert "word" not in warnings[0]
