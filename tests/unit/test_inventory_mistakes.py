"""What is wrong with an inventory is told all at once, each mistake with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from longshore.errors import Problems, Where
from longshore.inventory import load

HERE = Path(__file__).parent


def test_a_file_with_ten_mistakes_yields_ten_sentences_with_line_and_column() -> None:
    with pytest.raises(Problems) as raised:
        load(HERE / "inventories" / "ten_mistakes", "prod")
    found = raised.value.problems
    assert len(found) >= 10
    places = [problem.where for problem in found]
    assert all(isinstance(where, Where) and where.line and where.column for where in places)
    assert len({str(problem) for problem in found}) == len(found)
    lines = str(raised.value).splitlines()
    assert len(lines) == len(found)
    assert all(line.startswith("inventory/prod.yml:") for line in lines)


SEVERAL = {
    "inventory/prod.yml": """
all:
  vars:
    ansible_port: twenty-two
    longshore:
      paralel: 4
      connect_timeout: 10 lightyears
      apps:
        shop: {compose: compose.yml, hosts: "web:!nosuch", services: {api: {memory: 12M}}}
  children:
    web:
      hosts:
        h1: {ansible_host: "{{ undefined_thing }}"}
        h2:
""",
    "inventory/group_vars/web.yml": (
        "longshore: {apps: {shop: {services: {api: {cpus: -1}}}}, roles: [nosuch]}\n"
    ),
    "inventory/host_vars/h1.yml": "longshore: {state_dir: relative/path}\n",
    "env/prod.env": "A=1\nA=2\nBAD KEY=3\n",
    "compose.yml": "services: {api: {image: x}}\n",
}
"""Ten mistakes of kinds that are found at different steps of loading."""


def test_mistakes_in_several_files_are_all_told_in_one_run(tmp_path: Path) -> None:
    for name, text in SEVERAL.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    with pytest.raises(Problems) as raised:
        load(tmp_path, "prod")
    found = raised.value.problems
    assert all(isinstance(one.where, Where) and one.where.line for one in found)
    told = [f"{one.where.file}:{one.where.line}" for one in found if isinstance(one.where, Where)]
    assert told == [
        "env/prod.env:2",
        "env/prod.env:3",
        "inventory/group_vars/web.yml:1",
        "inventory/group_vars/web.yml:1",
        "inventory/host_vars/h1.yml:1",
        *(f"inventory/prod.yml:{line}" for line in (4, 6, 7, 9, 13)),
    ]
