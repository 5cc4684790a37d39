"""The five levels: who wins, what is merged, and how it is explained."""

from __future__ import annotations

from pathlib import Path

import pytest
from inventory_project import SHOP, loaded, problems

from longshore.errors import InventoryError
from longshore.inventory import explain

LEVELS = {
    "inventory/prod.yml": """
        all:
          vars:
            longshore:
              roles: app
              apps:
                shop:
                  compose: compose.yml
                  services: {api: {memory: 100M, cpus: 1, health: {http: 80/, interval: 5s}}}
          children:
            web:
              children: {front: }
              vars: {longshore: {apps: {shop: {services: {api: {memory: 200M}}}}}}
            front:
              vars: {longshore: {apps: {shop: {services: {api: {memory: 300M}}}}}}
              hosts:
                h1: {longshore: {apps: {shop: {services: {api: {memory: 400M}}}}}}
                h2:
        """,
    "inventory/host_vars/h2.yml": "longshore: {apps: {shop: {services: {api: {health: {none: true}}}}}}\n",
}
MEMORY = "longshore.apps.shop.services.api.memory"


def megabytes(size: int | None) -> int | None:
    return None if size is None else size // 1024**2


def test_all_loses_to_group_loses_to_host_loses_to_the_command_line(tmp_path: Path) -> None:
    environment = loaded(tmp_path, LEVELS)
    api = {host: environment.targets["shop", host].app.services["api"] for host in ("h1", "h2")}
    assert megabytes(api["h1"].memory) == 400
    assert megabytes(api["h2"].memory) == 300
    assert api["h1"].cpus == 1
    overridden = loaded(tmp_path, LEVELS, f"{MEMORY}=500M")
    assert megabytes(overridden.targets["shop", "h1"].app.services["api"].memory) == 500


def test_roles_are_the_weakest_level_and_what_they_say_is_kept_below_the_rest(tmp_path: Path) -> None:
    api = loaded(tmp_path, LEVELS).targets["shop", "h1"].app.services["api"]
    assert api.pids == 4096
    pids = "longshore.apps.shop.defaults.pids"
    assert loaded(tmp_path, LEVELS, f"{pids}=100").targets["shop", "h1"].app.services["api"].pids == 100


def test_a_stronger_kind_of_health_check_takes_the_weaker_one_away(tmp_path: Path) -> None:
    health = loaded(tmp_path, LEVELS).targets["shop", "h2"].app.services["api"].health
    assert health is not None
    assert (health.none, health.http, health.interval) == (True, None, 5.0)


def test_explain_says_the_winner_its_place_and_everything_it_overrode(tmp_path: Path) -> None:
    environment = loaded(tmp_path, LEVELS, f"{MEMORY}=500M")
    variable = explain(environment, MEMORY, host="h1")
    assert variable.value == "500M"
    assert variable.source.level == "command line"
    assert [(value, source.level, source.name) for value, source in variable.overrode] == [
        ("400M", "host", "h1"),
        ("300M", "group", "front"),
        ("200M", "group", "web"),
        ("100M", "all", "all"),
    ]
    assert str(variable.overrode[0][1].where) == "inventory/prod.yml:17:65"


def test_explain_says_when_a_value_is_the_default(tmp_path: Path) -> None:
    variable = explain(loaded(tmp_path, LEVELS), "longshore.apps.shop.keep", host="h1")
    assert variable.value == "5"
    assert variable.source.where.file == "Longshore's default"


def test_explain_refuses_a_setting_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match="Did you mean memory"):
        explain(loaded(tmp_path, LEVELS), f"{MEMORY[:-1]}", host="h1")


def test_null_means_back_to_the_default_for_a_value_and_nothing_for_a_mapping(tmp_path: Path) -> None:
    files = {
        "inventory/prod.yml": SHOP,
        "inventory/host_vars/h1.yml": "longshore: {apps: {shop: {keep: , services: }}}\n",
        "inventory/group_vars/all.yml": "longshore: {apps: {shop: {keep: 9, services: {api: {cpus: 1}}}}}\n",
    }
    targets = loaded(tmp_path, files).targets
    assert targets["shop", "h2"].app.keep == 9
    assert targets["shop", "h1"].app.keep == 5
    assert targets["shop", "h1"].app.services["api"].cpus == 1


def test_lists_and_the_variables_of_others_are_replaced_as_a_whole(tmp_path: Path) -> None:
    files = {
        "inventory/prod.yml": SHOP,
        "inventory/group_vars/all.yml": """
            nested: {a: 1, b: 2}
            longshore: {apps: {shop: {profiles: [one, two]}}}
            """,
        "inventory/host_vars/h1.yml": """
            nested: {a: 3}
            longshore: {apps: {shop: {profiles: three}}}
            """,
    }
    environment = loaded(tmp_path, files)
    assert environment.hosts["h1"].vars["nested"].value == {"a": 3}
    assert environment.targets["shop", "h1"].app.profiles == ("three",)


def test_an_app_that_only_a_host_speaks_of_is_a_typo(tmp_path: Path) -> None:
    told = problems(
        tmp_path,
        {
            "inventory/prod.yml": SHOP,
            "inventory/host_vars/h1.yml": "longshore: {apps: {shpo: {keep: 3}}}\n",
        },
    )
    assert told == [
        "inventory/host_vars/h1.yml:1:20: The app 'shpo' is not declared for this environment. "
        "Did you mean shop?"
    ]


def test_set_reads_yaml_and_refuses_what_is_no_name(tmp_path: Path) -> None:
    files = {"inventory/prod.yml": SHOP}
    environment = loaded(tmp_path, files, "domain=a=b", "list=[1, two]", "empty=", 'text="5"')
    seen = {name: environment.hosts["h1"].vars[name].value for name in ("domain", "list", "empty", "text")}
    assert seen == {"domain": "a=b", "list": [1, "two"], "empty": "", "text": "5"}
    assert problems(tmp_path, files, "domain") == [
        "--set domain: --set takes name=value. As --set domain=example.org"
    ]
    assert "only names below longshore have dots" in problems(tmp_path, files, "a.b=1")[0].lower()


def test_a_secret_on_the_command_line_is_in_no_error(tmp_path: Path) -> None:
    files = {"inventory/prod.yml": SHOP}
    for text in (
        "longshore.apps.shop.env.DB_PASSWORD=[s3cr3t",
        "longshore.apps.shop.env.DB_PASSWORD={s3cr3t: 1}",
        "longshore.apps.shop.env.DB_PASSWORD=0123456",
        "{{ s3cr3t",
    ):
        told = " ".join(problems(tmp_path, files, text))
        assert "s3cr3t: 1" not in told
        assert "0123456" not in told


@pytest.mark.parametrize("value", ["!s3cr3t", "!s3cr3t x", "{s3cr3t: 1, s3cr3t: 2}", "!!int s3cr3t"])
def test_a_secret_that_yaml_takes_for_something_else_is_in_no_error(tmp_path: Path, value: str) -> None:
    files = {"inventory/prod.yml": SHOP}
    for name in ("longshore.apps.shop.env.DB_PASSWORD", "password"):
        told = problems(tmp_path, files, f"{name}={value}")
        assert any("Put the value in quotes" in one for one in told) and "s3cr3t" not in " ".join(told)


def test_a_template_on_the_command_line_without_quotes_is_told_how_to_write_it(tmp_path: Path) -> None:
    (told,) = problems(tmp_path, {"inventory/prod.yml": SHOP}, "domain={{ inventory_hostname }}")
    assert "A value that starts with {{ must be in quotes" in told
