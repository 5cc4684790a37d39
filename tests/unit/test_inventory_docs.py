"""The reference and the JSON Schema say what the code says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from longshore.inventory import model
from longshore.inventory.kinds import Kind, Reading
from longshore.inventory.nodes import from_plain
from longshore.inventory.reference import BEGIN, END, json_schema, markdown
from longshore.inventory.sections import ListOf, MapOf, Section
from longshore.inventory.services import HEALTH, LOGGING, SERVICE
from longshore.inventory.settings import APP, ROOT
from longshore.inventory.yamlfile import parse_yaml

DOCS = Path(__file__).parents[2] / "docs" / "inventory.md"


def test_the_reference_in_the_documentation_is_the_one_the_code_writes() -> None:
    text = DOCS.read_text()
    written = text[text.index(BEGIN) : text.index(END) + len(END)]
    assert written == markdown(), "Run `invoke schema --docs` and put its output into docs/inventory.md."


def test_every_field_of_the_model_can_be_said() -> None:
    def names(section: Section) -> set[str]:
        return {setting.name for setting in section.settings}

    assert set(model.Logging.__dataclass_fields__) == names(LOGGING)
    assert set(model.Health.__dataclass_fields__) == names(HEALTH)
    reserve = {"reserve_cpus", "reserve_memory"}
    assert set(model.ServicePolicy.__dataclass_fields__) - reserve == names(SERVICE) - {"reserve"}
    assert set(model.App.__dataclass_fields__) - {"name", "where"} == names(APP) - {"env"}


def every_setting(section: Section, path: str) -> list[tuple[str, Kind, str, str]]:
    found = []
    for setting in section.settings:
        inner: Kind = setting.kind
        found.append((f"{path}.{setting.name}", inner, setting.summary, setting.default))
        while isinstance(inner, (MapOf, ListOf)):
            inner = inner.item
        if isinstance(inner, Section):
            found += every_setting(inner, f"{path}.{setting.name}")
    return found


def test_every_setting_has_a_sentence_and_an_example_that_is_accepted() -> None:
    told: list[str] = []
    for path, kind, summary, _ in every_setting(ROOT, "longshore"):
        assert summary.endswith("."), path
        if kind.example:
            node = parse_yaml(kind.example, path, lambda problem: told.append(str(problem)))
            assert node is not None
            reading = Reading(lambda problem: told.append(str(problem)), resolve=lambda scalar: "x")
            kind.check(node, path, reading)
    assert told == []


def test_every_example_of_a_map_is_accepted_as_its_value() -> None:
    told: list[str] = []
    for path, kind, _, _ in every_setting(ROOT, "longshore"):
        if isinstance(kind, MapOf) and kind.item.example:
            reading = Reading(lambda problem: told.append(str(problem)), resolve=lambda scalar: "x")
            kind.item.check(from_plain(kind.item.example, model.Where(path)), path, reading)
    assert told == []


def test_the_json_schema_knows_every_setting_and_refuses_others() -> None:
    schema = json_schema()
    variables = schema["$defs"]["variables"]["properties"]["longshore"]
    assert set(variables["properties"]) == {setting.name for setting in ROOT.settings}
    assert variables["additionalProperties"] is False
    assert set(schema["$defs"]["service"]["properties"]) == {setting.name for setting in SERVICE.settings}
    assert json_schema(variables_file=True)["$ref"] == "#/$defs/variables"


def test_the_examples_name_a_schema_for_editors_and_it_is_what_the_task_prints() -> None:
    folder = Path(__file__).parents[2] / "inventory"
    printed = subprocess.run(
        [sys.executable, "-c", "from longshore.tasks import main; main()", "schema"],
        cwd=folder.parent,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    told = "It is made anew by: invoke schema > inventory/schema.json"
    assert (folder / "schema.json").read_text() == printed, told
    for path in folder.glob("*.yml"):
        assert path.read_text().startswith("# yaml-language-server: $schema=schema.json\n"), path
