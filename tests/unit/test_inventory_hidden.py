"""A secret in the wrong place: what is said about it doesn't repeat it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from invoke.program import Program
from tests.unit.inventory_project import make

from longshore.console import Masks
from longshore.errors import LongshoreError, Problems
from longshore.inventory import explain, load, masked_values
from longshore.secrets.keyring import Keyring
from longshore.tasks import ns

PLANTED = "Pl4ntedS3cret"
SHOP = """
all:
  vars:
    longshore:
      registries: {{r.example.org: {{username: ci, {registry}}}}}
      apps:
        shop:
          compose: compose.yml
          notify: [{{webhook: {webhook}}}]
          env: {env}
          services:
            web:
              proxy: {{port: 80, users: {users}, request_headers: {headers}}}
              build: {{secrets: {build}}}
  hosts: {{h1: }}
"""
GOOD = {
    "registry": f"password: {PLANTED}0",
    "webhook": f"'https://hooks.example.org/{PLANTED}1'",
    "env": f"{{DB_URL: 'postgres://app:{PLANTED}2@db/app'}}",
    "users": f"['ann:$2y$05${PLANTED}3']",
    "headers": f"{{Authorization: Bearer {PLANTED}4}}",
    "build": f"{{pip: {PLANTED}5}}",
}


def project(tmp_path: Path, **other: str) -> Path:
    text = SHOP.format(**{**GOOD, **other})
    return make(tmp_path, {"inventory/prod.yml": text, "compose.yml": "services: {web: {image: w}}\n"})


@pytest.mark.parametrize(
    "other",
    [
        {"registry": f"password: [{PLANTED}]"},
        {"registry": f"password: '{PLANTED}{{{{'"},
        {"registry": f"password: {{from: opp, ref: {PLANTED}}}"},
        {"registry": f"pasword: {PLANTED}"},
        {"webhook": f"'ftp:/{PLANTED}'"},
        {"webhook": f"[{PLANTED}]"},
        {"env": f"{{A: ['{PLANTED}']}}"},
        {"env": f"{{A: 'ref+vaultt://{PLANTED}'}}"},
        {"env": f"{{A: '{PLANTED} {{{{ x'}}"},
        {"env": f"{{A: '{PLANTED} {{{{ 1 / 0 }}}}'}}"},
        {"users": f"['ann:{PLANTED}']"},
        {"users": f"ann {PLANTED}"},
        {"headers": f"{{Authorization: [{PLANTED}]}}"},
        {"headers": f"{PLANTED}"},
        {"build": f"{{pip: [{PLANTED}]}}"},
        {"build": f"[{PLANTED}]"},
    ],
    ids=range(16),
)
def test_a_secret_that_is_refused_is_not_repeated(tmp_path: Path, other: dict[str, str]) -> None:
    root = project(tmp_path, **other)
    with pytest.raises(LongshoreError) as caught:
        environment = load(root, "prod")
        dict(environment.targets["shop", "h1"].env)
    problems = caught.value.problems if isinstance(caught.value, Problems) else (caught.value,)
    assert all(problem.where for problem in problems)
    assert PLANTED not in str(caught.value)


def test_what_is_taken_is_masked_and_explained_without_it(tmp_path: Path) -> None:
    environment = load(project(tmp_path), "prod")
    masked = masked_values(environment)
    for number in range(6):
        assert any(value.endswith(f"{PLANTED}{number}") or f"{PLANTED}{number}@" in value for value in masked)
    shown = explain(environment, "longshore", host="h1").value
    assert PLANTED not in json.dumps(shown, default=str)


def test_what_opens_files_and_stores_here_is_masked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGSHORE_AGE_KEY", "# mine\\nAGE-SECRET-KEY-1QQQQPLANTED")
    monkeypatch.setenv("VAULT_TOKEN", "hvs.planted")
    masks = Masks(masked_values(load(project(tmp_path), "prod")))
    assert masks.text("VAULT_TOKEN=hvs.planted, AGE-SECRET-KEY-1QQQQPLANTED") == "VAULT_TOKEN=***, ***"


def test_a_key_that_is_given_as_a_path_is_not_repeated(tmp_path: Path) -> None:
    for key in ("AGE-SECRET-KEY-1QQQQPLANTED", "-----BEGIN OPENSSH PRIVATE KEY-----\nPLANTED\n"):
        for keyring in (Keyring(key), Keyring(environ={"LONGSHORE_AGE_KEY_FILE": key})):
            with pytest.raises(LongshoreError, match="This is a key itself") as caught:
                keyring.sources()
            assert "PLANTED" not in str(caught.value)


def test_the_command_that_explains_shows_no_secret_of_a_template_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = project(tmp_path, env=f"{{TOKEN: {PLANTED}2}}")
    text = (root / "inventory/prod.yml").read_text()
    (root / "inventory/prod.yml").write_text(text.replace("  vars:", f"  vars:\n    motto: call {PLANTED}2"))
    monkeypatch.chdir(root)
    for name in ("motto", "longshore", "longshore.apps.shop.services.web.build.secrets.pip"):
        for extra in ([], ["--json"]):
            Program(namespace=ns).run(["longshore", "explain", name, "--env", "prod", *extra], exit=False)
            told = capsys.readouterr().out
            assert "***" in told and PLANTED not in told
    Program(namespace=ns).run(["longshore", "explain", "motto", "--env", "prod", "--reveal"], exit=False)
    assert PLANTED in capsys.readouterr().out
