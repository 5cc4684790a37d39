"""``invoke inventory``, ``explain`` and ``schema``, as a person types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from inventory_project import SHOP, make
from invoke import MockContext
from invoke.exceptions import Exit

from longshore.tasks import inventory as tasks

FILES = {
    "inventory/prod.yml": SHOP.replace("h1: ,", "h1: {ansible_host: 192.0.2.1, ansible_user: deploy},"),
    "env/prod.env": "DB_PASSWORD=planted\n",
    "inventory/host_vars/h1.yml": "longshore: {apps: {shop: {keep: 3}}}\n",
    "inventory/group_vars/all.yml": "longshore: {apps: {shop: {keep: 9}}}\n",
}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make(tmp_path, FILES))


def test_inventory_prints_groups_hosts_and_apps(capsys: pytest.CaptureFixture[str]) -> None:
    tasks.inventory(MockContext(), env="prod")
    printed = capsys.readouterr().out
    assert "h1 deploy@192.0.2.1" in printed
    assert "shop" in printed


def test_inventory_as_json_has_hosts_groups_and_apps(capsys: pytest.CaptureFixture[str]) -> None:
    tasks.inventory(MockContext(), env="prod", limit="h1", json=True)
    data = json.loads(capsys.readouterr().out)
    assert data["hosts"]["h1"]["address"] == "192.0.2.1"
    assert data["apps"] == {"shop": ["h1"]}


def test_explain_prints_the_value_its_place_and_what_it_overrode(capsys: pytest.CaptureFixture[str]) -> None:
    tasks.explain(MockContext(), "longshore.apps.shop.keep", env="prod", host="h1")
    assert capsys.readouterr().out.splitlines() == [
        "longshore.apps.shop.keep = 3   inventory/host_vars/h1.yml:1 (host h1)",
        "  overrode 9   inventory/group_vars/all.yml:1 (all)",
    ]


def test_explain_masks_secrets_unless_reveal_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    for as_json in (False, True):
        tasks.explain(MockContext(), "env.DB_PASSWORD", env="prod", host="h1", json=as_json)
        assert "planted" not in capsys.readouterr().out
    tasks.explain(MockContext(), "env.DB_PASSWORD", env="prod", host="h1", reveal=True)
    assert "planted" in capsys.readouterr().out


def test_a_wrong_name_ends_with_code_1_and_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Exit) as ended:
        tasks.inventory(MockContext(), env="prd")
    assert ended.value.code == 1
    captured = capsys.readouterr()
    assert "Did you mean prod?" in captured.out + captured.err


def test_schema_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    tasks.schema(MockContext())
    assert json.loads(capsys.readouterr().out)["title"] == "Longshore inventory"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("longshore.apps.shpo.keep", "There is no app named 'shpo' in prod. Did you mean shop?"),
        ("longshore.apps.shop.services.apii.memory", "shop has no service 'apii'. Did you mean api?"),
    ],
)
def test_explain_has_no_default_for_what_there_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, says: str
) -> None:
    make(tmp_path, {**FILES, "compose.yml": "services: {api: {image: x}}\n"})
    with pytest.raises(Exit):
        tasks.explain(MockContext(), name, env="prod", host="h1")
    assert capsys.readouterr().err == f"error: {says}\n"


def test_a_host_that_is_reached_by_its_name_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    tasks.explain(MockContext(), "ansible_host", env="prod", host="h2")
    assert capsys.readouterr().out == "ansible_host = h2   the host's own name (host h2)\n"
