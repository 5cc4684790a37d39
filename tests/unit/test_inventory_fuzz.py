"""Whatever is in the files, loading ends in an ``Environment`` or in sentences."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from inventory_project import make

from longshore.errors import LongshoreError
from longshore.inventory import explain, load, select
from longshore.inventory.kinds import Kind
from longshore.inventory.sections import ListOf, MapOf, Section
from longshore.inventory.settings import ROOT

# `LONGSHORE_FUZZ=5000 pytest tests/unit/test_inventory_fuzz.py` looks further.
EXAMPLES = int(os.environ.get("LONGSHORE_FUZZ", "60"))
RUN = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))

WORDS = st.sampled_from(
    [
        "web",
        "db",
        "h1",
        "h[1:3]",
        "all",
        "ungrouped",
        "shop",
        "api",
        "512M",
        "30s",
        "compose.yml",
        "yes",
        "no",
        "{{ domain }}",
        "{{ longshore }}",
        "{{ nowhere",
        "{{ hostvars.h1.x }}",
        "{% for %}",
        "web:!db",
        "~(",
        "*",
        "22:22",
        "0644",
        "1.10",
        "linux/arm64",
        "postgres",
        "local",
        "a: b",
        "",
        " ",
        "http://x",
        "8000/health",
    ]
)
SCALARS = st.one_of(WORDS, st.none(), st.booleans(), st.integers(-5, 70000), st.floats(), st.text(max_size=8))
NAMES = st.one_of(
    WORDS,
    st.sampled_from(
        [
            "hosts",
            "children",
            "vars",
            "longshore",
            "ansible_host",
            "ansible_port",
            "ansible_connection",
            "ansible_become",
            "ansible_group_priority",
            "domain",
            "env",
            "name",
        ]
    ),
    st.text(max_size=6),
)


def trees(names: st.SearchStrategy[str] = NAMES) -> st.SearchStrategy[Any]:
    return st.recursive(
        SCALARS,
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=4)),
        max_leaves=20,
    )


def settings_like(kind: Kind) -> st.SearchStrategy[Any]:
    """Something of the shape of a setting, now and then something else in its place."""
    if isinstance(kind, Section):
        shape = st.fixed_dictionaries(
            {}, optional={setting.name: settings_like(setting.kind) for setting in kind.settings}
        )
        return st.one_of(shape, shape, shape, SCALARS)
    if isinstance(kind, MapOf):
        return st.dictionaries(WORDS, settings_like(kind.item), max_size=2)
    if isinstance(kind, ListOf):
        return st.lists(settings_like(kind.item), max_size=2)
    examples = [yaml.safe_load(kind.example)] if kind.example and "{{" not in kind.example else ["x"]
    return st.one_of(st.sampled_from(examples), SCALARS)


def check(files: dict[str, str], *overrides: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = make(Path(folder), files)
        try:
            environment = load(root, "prod", overrides=overrides)
            for target in environment.targets.values():
                dict(target.vars)
            for host in environment.hosts:
                explain(environment, "longshore", host=host)
            select(environment, "all")
        except LongshoreError as error:
            assert str(error).strip()


@RUN
@given(trees(), trees())
def test_any_tree_is_loaded_or_refused_with_sentences(inventory: Any, variables: Any) -> None:
    files = {"inventory/prod.yml": yaml.safe_dump(inventory), "group_vars/all.yml": yaml.safe_dump(variables)}
    check(files)


@RUN
@given(st.text(max_size=80), st.text(max_size=40))
def test_any_text_is_loaded_or_refused_with_sentences(inventory: str, env: str) -> None:
    texts = {"inventory/prod.yml": inventory, "env/prod.env": env}
    check({name: text.encode("utf-8", "replace").decode() for name, text in texts.items()})


@RUN
@given(settings_like(ROOT), settings_like(ROOT))
def test_any_settings_are_loaded_or_refused_with_sentences(everywhere: Any, host: Any) -> None:
    inventory = {
        "all": {
            "vars": {"domain": "example.org", "longshore": everywhere},
            "children": {
                "web": {"hosts": {"h1": {"longshore": host}, "h2": None}},
                "db": {"hosts": {"h1": None}},
            },
        }
    }
    check({"inventory/prod.yml": yaml.safe_dump(inventory)})


@RUN
@given(st.lists(st.one_of(st.text(max_size=20), WORDS.map("longshore.apps.shop.{}=1".format)), max_size=3))
def test_any_override_is_taken_or_refused_with_sentences(overrides: list[str]) -> None:
    check({"inventory/prod.yml": "all: {hosts: {h1: }}\n"}, *overrides)
