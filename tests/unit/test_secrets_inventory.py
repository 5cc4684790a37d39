"""Encrypted files and references in an inventory: read in place, asked for once, and only what is needed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyrage
import pytest
from inventory_project import SHOP, make, problems

from longshore.errors import InventoryError
from longshore.inventory import explain, load, masked_values, resolve_secrets
from longshore.inventory.resolving import wanted
from longshore.secrets.keyring import Keyring

TWO = """
all:
  vars:
    longshore:
      registries: {r.example.org: {username: ci, password: {from: env, ref: TOKEN_R}}}
      apps:
        shop:
          compose: compose.yml
          env: {API: {from: env, ref: TOKEN_A}, T: "op://{{ inventory_hostname }}/a/b"}
  children:
    web: {hosts: {h1: , h2: {longshore: {apps: {shop: {env: {API: plain}}}}}}}
"""


@pytest.fixture
def key() -> pyrage.x25519.Identity:
    return pyrage.x25519.Identity.generate()


def keyring(key: pyrage.x25519.Identity) -> Keyring:
    return Keyring(environ={"LONGSHORE_AGE_KEY": str(key)})


def sealed(root: Path, name: str, text: str, key: pyrage.x25519.Identity) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pyrage.encrypt(text.encode(), [key.to_public()], armored=True))


def tool(root: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = root / "tools"
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f'#!/bin/sh\necho "$*" >> {folder}/calls\n{script}\n')
    (folder / name).chmod(0o755)
    if str(folder) not in os.environ["PATH"]:
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder / "calls"


def test_an_encrypted_file_gives_the_values_and_the_places_of_one_in_clear(
    tmp_path: Path, key: pyrage.x25519.Identity
) -> None:
    make(tmp_path, {"inventory/prod.yml": SHOP, "env/prod.env": "A=1\nLOG=info\n"})
    sealed(tmp_path, "env/prod.env.age", "# comment\nCOLOR=sunshine\nM='two\nlines'\n", key)
    sealed(tmp_path, "env/prod/shop.env.age", "A=own\n", key)
    environment = load(tmp_path, "prod", keyring=keyring(key))
    env = environment.targets["shop", "h1"].env
    assert {name: value.value for name, value in env.items()} == {
        "A": "own",
        "LOG": "info",
        "COLOR": "sunshine",
        "M": "two\nlines",
    }
    assert str(env["COLOR"].source.where) == "env/prod.env.age:2"
    assert all(env[name].secret and env[name].sealed for name in ("A", "COLOR", "M"))
    assert "sunshine" in masked_values(environment), "what is encrypted is a secret, whatever it looks like"
    assert "sunshine" not in repr(environment)


def test_a_command_that_needs_no_value_opens_nothing(tmp_path: Path, key: pyrage.x25519.Identity) -> None:
    make(tmp_path, {"inventory/prod.yml": SHOP})
    sealed(tmp_path, "env/prod.env.age", "A=1\n", key)
    environment = load(tmp_path, "prod")
    assert environment.locked == ("env/prod.env.age",)
    assert dict(environment.targets["shop", "h1"].env) == {}


def test_the_same_variable_in_clear_and_encrypted_is_an_error_with_both_places(
    tmp_path: Path, key: pyrage.x25519.Identity
) -> None:
    make(tmp_path, {"inventory/prod.yml": SHOP, "env/prod.env": "B=0\nA=1\n"})
    sealed(tmp_path, "env/prod.env.age", "A=planted\n", key)
    with pytest.raises(InventoryError) as caught:
        load(tmp_path, "prod", keyring=keyring(key))
    assert str(caught.value) == "env/prod.env.age:1: A is also given in env/prod.env:2. Keep one of them."


def test_references_are_asked_for_the_chosen_hosts_only_and_by_every_name_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = tool(tmp_path, "op", 'printf "%s" "got-$3"', monkeypatch)
    monkeypatch.setenv("TOKEN_A", "token-value-a")
    monkeypatch.setenv("TOKEN_R", "token-value-r")
    make(
        tmp_path, {"inventory/prod.yml": TWO, "env/prod.env": "P=op://p/q/r\nU='x:${P}'\nV=\"x:${P}/${P}\"\n"}
    )
    environment = load(tmp_path, "prod")
    assert not calls.exists(), "to load asks no store"
    assert explain(environment, "env.P", host="h1").value == "op://p/q/r"
    assert {one.key for one in wanted(environment, {"shop": ("h2",)})} == {
        "P", "V", "T", "The password of the registry r.example.org",
    }  # fmt: skip
    resolved = resolve_secrets(environment, {"shop": ("h2",)})
    env = {name: value.value for name, value in resolved.targets["shop", "h2"].env.items()}
    assert env == {
        "P": "got-op://p/q/r",
        "U": "x:${P}",
        "V": "x:got-op://p/q/r/got-op://p/q/r",
        "T": "got-op://h2/a/b",
        "API": "plain",
    }
    assert sorted(calls.read_text().splitlines()) == [
        "read --no-newline op://h2/a/b",
        "read --no-newline op://p/q/r",
    ]
    assert resolved.registries["r.example.org"].password == "token-value-r"
    assert not resolved.targets["shop", "h1"].env["API"].known
    assert {"got-op://p/q/r", "token-value-r"} <= masked_values(resolved)
    assert "got-op" not in repr(resolved)


def test_what_can_not_be_had_is_named_with_key_and_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TOKEN_A", raising=False)
    monkeypatch.setenv("TOKEN_R", "x")
    make(tmp_path, {"inventory/prod.yml": TWO.replace(', T: "op://{{ inventory_hostname }}/a/b"', "")})
    with pytest.raises(InventoryError, match=r"prod\.yml:9:\d+: API of shop \(env://TOKEN_A\): the variable"):
        resolve_secrets(load(tmp_path, "prod"), {"shop": ("h1",)})


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("{ref: x}", "doesn't say which store"),
        ("{from: valt, ref: x}", "Did you mean vault?"),
        ("{from: vault, ref: x}", "says which field"),
        ("{from: vault, ref: x, field: y, colour: z}", "no option 'colour'"),
        ("{from: command}", "A reference to a command needs it"),
        ("{from: op, ref: a/b/c, timeout: 5}", "has no unit"),
        ("ref+vault://x", "says which field"),
    ],
)
def test_a_reference_that_can_not_be_right_is_an_error_at_its_place(
    tmp_path: Path, value: str, sentence: str
) -> None:
    inventory = SHOP.replace("{compose: compose.yml}", f"{{compose: compose.yml, env: {{KEY: {value}}}}}")
    told = problems(tmp_path, {"inventory/prod.yml": inventory})
    assert len(told) == 1
    assert "longshore.apps.shop.env.KEY" in told[0]
    assert sentence in told[0]
    assert told[0].startswith("inventory/prod.yml:")


SOPS_ENV = "A=ENC[AES256_GCM,data:x]\n#ENC[AES256_GCM,data:y]\nURL=ENC[AES256_GCM,data:z]\nsops_version=3.9\n"


@pytest.mark.parametrize(
    ("name", "text", "answer"),
    [
        ("env/prod.sops.env", SOPS_ENV, "A=one-secret\nURL='$x'\n"),
        (
            "env/prod.sops.yaml",
            "A: ENC[x]\nURL: ENC[y]\nsops:\n  version: 3.9\n",
            json.dumps({"A": "one-secret", "URL": "$x"}),
        ),
        (
            "env/prod/shop.sops.json",
            '{"A": "ENC[x]", "URL": "ENC[y]", "sops": {"version": "3"}}',
            json.dumps({"A": "one-secret", "URL": "$x"}),
        ),
    ],
)
def test_a_sops_file_gives_its_names_in_clear_and_its_values_by_one_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, answer: str
) -> None:
    calls = tool(tmp_path, "sops", f"cat <<'X'\n{answer}\nX", monkeypatch)
    make(tmp_path, {"inventory/prod.yml": SHOP, name: text})
    environment = load(tmp_path, "prod")
    assert sorted(environment.targets["shop", "h1"].env) == ["A", "URL"]
    assert not calls.exists()
    env = resolve_secrets(environment, environment.apps).targets["shop", "h1"].env
    assert {key: value.value for key, value in env.items()} == {"A": "one-secret", "URL": "$x"}
    kind = "dotenv" if name.endswith(".env") else "json"
    assert calls.read_text() == f"--decrypt --output-type {kind} {name}\n"


def test_a_sops_file_that_is_in_clear_is_refused(tmp_path: Path) -> None:
    told = problems(tmp_path, {"inventory/prod.yml": SHOP, "env/prod.sops.env": "A=planted\n"})
    assert "SOPS has not encrypted this file" in told[0]
    assert "planted" not in told[0]
