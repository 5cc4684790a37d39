"""Templates in the inventory: lazy, strict, sandboxed, and told with their place."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from inventory_project import SHOP, loaded, problems
from jinja2 import UndefinedError
from jinja2.sandbox import SandboxedEnvironment

from longshore.errors import InventoryError, Where
from longshore.inventory.templates import resolve_text, template_globals
from longshore.inventory.variables import TEMPLATE_NAMES

HERE = Where("file.yml", 3, 5)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{{ 1 + 1 }}", 2),
        ("{{ [1, 2] }}", [1, 2]),
        ("{{ {'a': 1} }}", {"a": 1}),
        ("{{- name -}}", "Ada"),
        ("{{ -5 }}", -5),
        ("{{ name }}!", "Ada!"),
        ("{{ name }}{{ name }}", "AdaAda"),
        ("{% if name == 'Ada' %}yes{% endif %}", "yes"),
        ("{{ name | b64encode }}", "QWRh"),
        ("{{ 'QWRh' | b64decode }}", "Ada"),
        ("{{ {'a': [1]} | to_json }}", '{"a": [1]}'),
        ("{{ nowhere | default('x') }}", "x"),
        ("{{ '' | default('x', true) }}", "x"),
        ("{{ 'yes' | bool }}", True),
        ("{{ 'abc' | hash }}", "a9993e364706816aba3e25717850c26c9cd0d89d"),
        ("{{ 'abc' | hash('md5') }}", "900150983cd24fb0d6963f7d28e17f72"),
        ("{{ {'a': {'b': 1}} | combine({'a': {'c': 2}}, recursive=True) }}", {"a": {"b": 1, "c": 2}}),
        ("{{ 'a b' | quote }}", "'a b'"),
        ("{{ true | ternary(1, 2) }}", 1),
        ("{# nothing #}", ""),
    ],
)
def test_a_template_gives_what_ansible_gives(text: str, value: Any) -> None:
    assert resolve_text(text, {"name": "Ada"}, HERE) == value


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{{ nmae }}", "file.yml:3:5: The variable 'nmae' is not defined. Did you mean name?"),
        ("{{ zzz }}", "file.yml:3:5: The variable 'zzz' is not defined. Define it, or give it a default"),
        ("{{ name.first }}", "has no attribute 'first'"),
        ("{{ name + 1 }}", "can't be rendered: can only concatenate str"),
        ("{{ name", "is broken"),
        ("{% for %}", "is broken"),
        ("{{ name | nofilter }}", "is broken: No filter named 'nofilter'"),
        ("{{ name.__class__.__mro__ }}", "is unsafe"),
        ("{{ 1 / 0 }}", "can't be rendered: division by zero"),
        ("{{ 'a' * 10000000 }}", "can't be rendered: the result is too long"),
        ("{{ 9 ** 9 ** 9 }}", "can't be rendered: the power is too large"),
        ("{{ '!' | b64decode }}", "can't be rendered: a value is not what it needs"),
    ],
)
def test_a_template_that_fails_is_a_sentence_with_its_place(text: str, sentence: str) -> None:
    with pytest.raises(InventoryError) as raised:
        resolve_text(text, {"name": "Ada"}, HERE)
    assert sentence in str(raised.value)
    assert str(raised.value).startswith("file.yml:3:5: ")


def test_a_failing_filter_does_not_quote_the_value_it_got() -> None:
    for text in ("{{ secret | from_json }}", "{{ secret | b64decode }}"):
        with pytest.raises(InventoryError) as raised:
            resolve_text(text, {"secret": "pl@nted"}, HERE)
        assert "pl@nted" not in str(raised.value)


def test_lookup_reads_the_environment_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SHOP_TAG", "1.4")
    inventory = SHOP.replace("vars:", "vars:\n    tag: \"{{ lookup('env', 'SHOP_TAG') }}\"")
    inventory = inventory.replace("vars:", "vars:\n    file: \"{{ lookup('file', '/etc/passwd') }}\"")
    environment = loaded(tmp_path, {"inventory/prod.yml": inventory})
    variables = environment.hosts["h1"].vars
    assert variables["tag"].value == "1.4"
    with pytest.raises(InventoryError, match=r"only lookup\('env', 'NAME'\) is"):
        _ = variables["file"].value


def test_a_variable_defined_by_itself_is_told_as_the_loop_it_is(tmp_path: Path) -> None:
    inventory = """
    all:
      hosts: {h1: }
      vars:
        a: "{{ b }}"
        b: "x{{ c }}"
        c: "{{ a }}"
        longshore: {apps: {shop: {compose: compose.yml, url: "http://{{ a }}"}}}
    """
    told = problems(tmp_path, {"inventory/prod.yml": inventory})
    assert told == ["inventory/prod.yml:5:8: The variable a is defined by itself: a > b > c > a."]


def test_an_undefined_variable_in_a_setting_names_file_line_and_the_nearest(tmp_path: Path) -> None:
    inventory = SHOP.replace("compose.yml}", "compose.yml, url: 'https://{{ domian }}'}")
    files = {"inventory/prod.yml": inventory, "group_vars/all.yml": "domain: example.org\n"}
    assert problems(tmp_path, files) == [
        "inventory/prod.yml:7:43: The variable 'domian' is not defined. Did you mean domain?"
    ]


def test_a_template_that_resolves_to_the_wrong_type_is_told_at_its_place(tmp_path: Path) -> None:
    inventory = SHOP.replace("compose.yml}", "compose.yml, keep: '{{ kept }}'}")
    files = {"inventory/prod.yml": inventory, "group_vars/all.yml": "kept: plenty\n"}
    assert problems(tmp_path, files) == [
        "inventory/prod.yml:7:44: longshore.apps.shop.keep must be a whole number, not the text 'plenty'. "
        "Write it as keep: 5"
    ]


def test_a_broken_variable_that_no_template_uses_is_harmless_and_one_in_use_says_why(tmp_path: Path) -> None:
    files = {"inventory/prod.yml": SHOP, "group_vars/all.yml": 'broken: "{{ nowhere }}"\nfine: 1\n'}
    target = loaded(tmp_path, files).targets["shop", "h1"]
    everything = dict(target.vars)
    jinja = SandboxedEnvironment()
    assert jinja.from_string("{{ fine }} {{ app }} {{ environment }}").render(everything) == "1 shop prod"
    with pytest.raises(UndefinedError, match=r"all\.yml:1:9: The variable 'nowhere' is not defined"):
        jinja.from_string("{{ broken }}").render(everything)


def test_a_variable_of_the_inventory_wins_over_a_name_of_ours(tmp_path: Path) -> None:
    files = {"inventory/prod.yml": SHOP, "group_vars/all.yml": "app: theirs\nenvironment: {PATH: /bin}\n"}
    variables = loaded(tmp_path, files).targets["shop", "h1"].vars
    assert (variables["app"], variables["environment"]) == ("theirs", {"PATH": "/bin"})


def test_a_version_that_yaml_reads_as_a_number_is_warned_about_when_a_setting_uses_it(tmp_path: Path) -> None:
    inventory = SHOP.replace("compose.yml}", "compose.yml, services: {api: {image: 'a:{{ version }}'}}}")
    files = {"inventory/prod.yml": inventory, "group_vars/all.yml": "version: 1.10\nunused: 0644\n"}
    environment = loaded(tmp_path, files)
    assert environment.targets["shop", "h1"].app.services["api"].image == "a:1.1"
    assert environment.warnings == (
        "group_vars/all.yml:1:10: version: 1.10 is the number 1.1 to YAML. Write it in quotes for a text.",
    )


def test_hosts_that_are_resolved_in_threads_do_not_see_each_others_loops(tmp_path: Path) -> None:
    files = {
        "inventory/prod.yml": SHOP,
        "group_vars/all.yml": 'a: "{{ b }}"\nb: "{{ c }}"\nc: "{{ hostvars.h1.d }}"\nd: "{{ 1 }}"\n',
    }
    for _ in range(20):
        target = loaded(tmp_path, files).targets["shop", "h1"]
        with ThreadPoolExecutor(8) as pool:
            seen = list(pool.map(lambda _, target=target: dict(target.vars)["a"], range(8)))
        assert seen == [1] * 8


def test_a_variable_may_look_at_its_namesake_on_another_host(tmp_path: Path) -> None:
    inventory = SHOP.replace("compose.yml}", "compose.yml, env: {PEER: '{{ peer }}'}}")
    files = {
        "inventory/prod.yml": inventory,
        "group_vars/all.yml": 'peer: "{{ hostvars.h2.peer }} and {{ inventory_hostname }}"\n',
        "host_vars/h2.yml": "peer: h2\n",
    }
    env = loaded(tmp_path, files).targets["shop", "h1"].env
    assert env["PEER"].value == "h2 and h1"


def test_a_value_that_holds_itself_is_refused(tmp_path: Path) -> None:
    inventory = SHOP.replace("compose.yml}", 'compose.yml, compose: "{{ hostvars }}"}').replace(
        "compose: compose.yml, ", ""
    )
    told = problems(tmp_path, {"inventory/prod.yml": inventory})
    assert len(told) == 1
    assert "more than 100 levels deep; does it hold itself, as hostvars does?" in told[0]


@pytest.mark.parametrize(
    ("longshore", "name"),
    [
        ('"{{ mine }}"', "longshore"),
        ('{apps: "{{ mine.apps }}"}', "longshore.apps"),
        ('{apps: {shop: "{{ mine.apps.shop }}"}}', "longshore.apps.shop"),
    ],
)
def test_which_apps_there_are_is_not_left_to_a_template(tmp_path: Path, longshore: str, name: str) -> None:
    inventory = f"""
    all:
      hosts: {{h1: }}
      vars:
        mine: {{apps: {{shop: {{compose: compose.yml}}}}}}
        longshore: {longshore}
    """
    told = problems(tmp_path, {"inventory/prod.yml": inventory})
    assert len(told) == 1
    assert f"{name} can't be a template" in told[0]


def test_the_names_that_every_template_has_are_known_without_jinja2() -> None:
    assert set(TEMPLATE_NAMES) == set(template_globals())


def test_a_project_without_templates_is_read_and_rendered_without_jinja2(tmp_path: Path) -> None:
    loaded(tmp_path, {"inventory/prod.yml": SHOP})
    (tmp_path / "compose.yml").write_text("services: {web: {image: nginx}}\n")
    script = """
import sys
from pathlib import Path
from longshore.inventory import load
from longshore.render import render
for target in load(Path(sys.argv[1]), "prod").targets.values():
    print(sorted(render(target).services), "jinja2" in sys.modules)
"""
    argv = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "['web'] False"
