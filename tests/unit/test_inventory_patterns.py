"""Host patterns, ranges, and the choice of ``--limit`` and ``--app``."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inventory_project import loaded

from longshore.errors import InventoryError
from longshore.inventory import Group, patterns, select
from longshore.inventory.ranges import expand, split_port

HOSTS = ("web1", "web2", "web3", "db1", "db2", "solo")
GROUPS = {
    "all": Group("all", HOSTS, ("web", "db")),
    "web": Group("web", ("web1", "web2", "web3"), ()),
    "db": Group("db", ("db1", "db2"), ()),
    "prod": Group("prod", ("web1", "db1"), ()),
}


@pytest.mark.parametrize(
    ("pattern", "hosts"),
    [
        ("all", "web1 web2 web3 db1 db2 solo"),
        ("*", "web1 web2 web3 db1 db2 solo"),
        ("web", "web1 web2 web3"),
        ("web:db", "web1 web2 web3 db1 db2"),
        ("db,web", "web1 web2 web3 db1 db2"),
        ("web:!web2", "web1 web3"),
        ("!web2:web", "web1 web3"),
        ("web:&prod", "web1"),
        ("!web", "db1 db2 solo"),
        ("&prod", "web1 db1"),
        ("web:db:&prod:!db1", "web1"),
        ("web*", "web1 web2 web3"),
        ("*1", "web1 db1"),
        ("web[0]", "web1"),
        ("web[-1]", "web3"),
        ("web[0:1]", "web1 web2"),
        ("web[1:]", "web2 web3"),
        ("web[0-1]", "web1 web2"),
        ("web[1-]", "web2 web3"),
        ("db[1-2]", "db2"),
        ("all[0:1]", "web1 web2"),
        ("web[9]", ""),
        ("web[13]", ""),
        ("~(web|db)[12]$", "web1 web2 db1 db2"),
        ("~we", "web1 web2 web3"),
        ("web?:!*[23x]", "web1"),
        (" web1 , db1 ", "web1 db1"),
    ],
)
def test_a_pattern_picks_what_ansible_picks(pattern: str, hosts: str) -> None:
    assert " ".join(patterns.match(pattern, hosts=HOSTS, groups=GROUPS)) == hosts


@pytest.mark.parametrize(
    ("pattern", "sentence"),
    [
        ("wbe", "There is no host or group named 'wbe'. Did you mean web"),
        ("web:!wbe2", "There is no host or group named 'wbe2'. Did you mean web2"),
        ("nothing-like-it", "Groups and hosts: all, web, db, prod, web1"),
        ("~(", "The regular expression '\\(' can't be read"),
        ("", "The host pattern is empty"),
        (" , ", "The host pattern is empty"),
    ],
)
def test_an_unknown_name_is_a_sentence_with_the_nearest_ones(pattern: str, sentence: str) -> None:
    with pytest.raises(InventoryError, match=sentence):
        patterns.match(pattern, hosts=HOSTS, groups=GROUPS)


@settings(max_examples=200)
@given(st.text(alphabet="web123db[]:!&,*?~-al.", max_size=16))
def test_any_pattern_gives_hosts_or_a_sentence(pattern: str) -> None:
    try:
        assert set(patterns.match(pattern, hosts=HOSTS, groups=GROUPS)) <= set(HOSTS)
    except InventoryError as error:
        assert str(error)


@pytest.mark.parametrize(
    "name", ["web[3:1]", "web[01:1]", "web[a:", "web[1:99999999]", "web[1:3:0]", "x[0:999]y[0:999]"]
)
def test_a_range_that_stands_for_nothing_sensible_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"\["):
        expand(name)


def test_a_port_is_split_off_but_not_from_an_address() -> None:
    assert split_port("web1:2222") == ("web1", 2222)
    assert split_port("web[1:3]:2222") == ("web[1:3]", 2222)
    assert split_port("web[1:3]") == ("web[1:3]", None)
    assert split_port("2001:db8::1") == ("2001:db8::1", None)
    assert split_port("[2001:db8::1]:22") == ("2001:db8::1", 22)


TWO_APPS = {
    "inventory/prod.yml": """
        all:
          vars:
            longshore:
              apps:
                shop: {compose: compose.yml, hosts: web, services: {cron: {hosts: "web[0]"}}}
                blog: {compose: compose.yml, hosts: "web2:other"}
          children:
            web: {hosts: {web1: , web2: }}
            other: {hosts: {x1: , idle: {longshore: {state_dir: /srv/longshore}}}}
        """
}


def test_apps_can_share_hosts_and_limit_and_app_choose_among_them(tmp_path: Path) -> None:
    environment = loaded(tmp_path, TWO_APPS)
    assert select(environment) == (("shop", ("web1", "web2")), ("blog", ("web2", "x1", "idle")))
    assert select(environment, "web2") == (("shop", ("web2",)), ("blog", ("web2",)))
    assert select(environment, "other", "blog") == (("blog", ("x1", "idle")),)
    assert environment.targets["shop", "web2"].placed == {"cron": ("web1",)}
    assert environment.targets["blog", "idle"].state_dir == "/srv/longshore"


@pytest.mark.parametrize(
    ("limit", "app", "sentence"),
    [
        ("x1", "shop", "matches no host that runs shop. It runs on: web1, web2."),
        (None, "shpo", "There is no app named 'shpo' in prod. Did you mean shop?"),
        ("web9", None, "There is no host or group named 'web9'. Did you mean web"),
        ("web:!web", None, "matches no host of prod"),
    ],
)
def test_a_choice_that_leaves_nothing_is_a_sentence(
    tmp_path: Path, limit: str | None, app: str | None, sentence: str
) -> None:
    with pytest.raises(InventoryError) as raised:
        select(loaded(tmp_path, TWO_APPS), limit, app)
    assert sentence in str(raised.value)


def test_a_regular_expression_of_the_persons_warns_nobody(recwarn: pytest.WarningsRecorder) -> None:
    assert not patterns.match("~[[x]", hosts=HOSTS, groups=GROUPS)
    assert not list(recwarn)
