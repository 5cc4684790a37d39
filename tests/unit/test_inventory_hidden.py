"""A secret in the wrong place: what is said about it doesn't repeat it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.unit.inventory_project import make

from longshore.errors import LongshoreError, Problems
from longshore.inventory import explain, load, masked_values

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
          services: {{web: {{proxy: {{port: 80, users: {users}, request_headers: {headers}}}}}}}
  hosts: {{h1: }}
"""
GOOD = {
    "registry": f"password: {PLANTED}0",
    "webhook": f"'https://hooks.example.org/{PLANTED}1'",
    "env": f"{{DB_URL: 'postgres://app:{PLANTED}2@db/app'}}",
    "users": f"['ann:$2y$05${PLANTED}3']",
    "headers": f"{{Authorization: Bearer {PLANTED}4}}",
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
    ],
    ids=range(14),
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
    for number in range(5):
        assert any(value.endswith(f"{PLANTED}{number}") or f"{PLANTED}{number}@" in value for value in masked)
    shown = explain(environment, "longshore", host="h1").value
    assert PLANTED not in json.dumps(shown, default=str)
