"""Real inventories, broken in every way: loading ends in an ``Environment`` or in sentences, and soon."""

from __future__ import annotations

import datetime
import os
import random
import tempfile
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from longshore.errors import LongshoreError, Problems
from longshore.inventory import explain, load, masked_values, select

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
# `bin/test fuzz` looks further.
EXAMPLES = int(os.environ.get("LONGSHORE_FUZZ", "60"))
RUN = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
SECONDS = 20.0
"""No inventory keeps anybody waiting for longer, however it is nested; a busy machine needs far less."""

Project = dict[str, bytes]


@lru_cache(maxsize=1)
def projects() -> tuple[tuple[str, Project], ...]:
    """Environments of the example project and of the collection, each with its project's files."""
    found: list[tuple[str, Project]] = []
    for folder in sorted(path for path in (HERE / "inventories").iterdir() if path.is_dir()):
        found.append(("prod", _files(folder, folder.iterdir())))
    example = _files(ROOT, (ROOT / name for name in ("inventory", "env", "roles")))
    for name in ("prod", "staging", "demo", "demo-bi"):
        found.append((name, example))
    return tuple(found)


def _files(root: Path, parts: Any) -> Project:
    paths = [path for part in parts for path in ([part] if part.is_file() else sorted(part.rglob("*")))]
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in paths
        if path.is_file() and "__pycache__" not in path.parts
    }


def loads_or_refuses(project: Project, environment: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name, data in project.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            path.chmod(0o600)
        began = time.monotonic()
        try:
            loaded = load(root, environment)
            for target in loaded.targets.values():
                for name in target.vars:
                    try:
                        target.vars[name]
                    except LongshoreError as error:
                        assert str(error).strip()
            for host in list(loaded.hosts)[:3]:
                explain(loaded, "longshore", host=host)
            masked_values(loaded)
            select(loaded, "all")
        except LongshoreError as error:
            for problem in error.problems if isinstance(error, Problems) else (error,):
                assert str(problem).strip()
                assert "Traceback" not in str(problem)
        assert time.monotonic() - began < SECONDS


WEIRD = [
    b"\0",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\r",
    b"\t",
    b"\x85",
    "\u2028".encode(),
    "\ufeff".encode(),
    b"\xc3",
    "😀".encode(),
    "\u202e".encode(),
    b"\x1b[31m",
    b"\x7f",
    "İ".encode(),
    "ﬁ".encode(),
    "e\u0301".encode(),
    b"{{",
    b"}}",
    b"{%",
    b"{{ ''.__class__ }}",
    b"{{ 9**9**9 }}",
    b"{{ x }}",
    b"{{ range(10**9) | list }}",
    b"{{ 'a' * 10**9 }}",
    b"${A",
    b"$",
    b"&a",
    b"*a",
    b"<<: *a",
    b"!!python/object:os.system",
    b"!unsafe",
    b"!vault",
    b"!!binary aaaa",
    b"!!timestamp 2001-99-99",
    b"---\n",
    b"...\n",
    b"%YAML 1.1\n",
    b"? ",
    b"- ",
    b": ",
    b"#",
    b"'",
    b'"',
    b"[",
    b"]",
    b"{",
    b"}",
    b"|",
    b">",
    b"@",
    b"`",
    b"~",
    b"0x",
    b"1e999",
    b".nan",
    b"-.inf",
    b"1_000",
    b"09",
    b"yes",
    b"2001-01-01",
    b"12:30:45",
    b"=",
    b"/",
    b"../",
    b"\\",
    b"h[1:999999999]",
    b"h[a:",
    b"[1:2:0]",
    b"::1",
    b"all",
    b"localhost",
    b"longshore:",
    b"ansible_host:",
    b"apps:",
    b"lookup('env', 'X')",
    b"\n" * 50,
    b" " * 400,
]


def mutate(data: bytes, dice: random.Random) -> bytes:
    """The text with one to four accidents."""
    for _ in range(dice.randint(1, 4)):
        lines = data.split(b"\n")
        at = dice.randrange(len(data) + 1)
        row = dice.randrange(len(lines))
        match dice.randrange(9):
            case 0:
                data = data[:at] + data[at + dice.randint(1, 30) :]
            case 1:
                data = data[:at] + dice.choice(WEIRD) + data[at:]
            case 2:
                lines.insert(dice.randrange(len(lines) + 1), lines[row])
                data = b"\n".join(lines)
            case 3:
                lines[row] = b" " * dice.randint(0, 9) + lines[row].strip()
                data = b"\n".join(lines)
            case 4:
                data = data[:at]
            case 5:
                other = dice.randrange(len(lines))
                lines[row], lines[other] = lines[other], lines[row]
                data = b"\n".join(lines)
            case 6:
                key, colon, _ = lines[row].partition(b":")
                lines[row] = key + colon + b" " + dice.choice(WEIRD)
                data = b"\n".join(lines)
            case 7:
                data = data.replace(b"\n", dice.choice([b"\r\n", b"\r", b"\n\n"]))
            case 8:
                cut = data[at : at + dice.randint(1, 60)]
                data = data[:at] + cut * dice.randint(2, 20) + data[at:]
    return data


@RUN
@given(st.integers(0, 2**32))
def test_a_real_inventory_with_accidents_in_its_text_is_loaded_or_refused(number: int) -> None:
    dice = random.Random(number)
    environment, project = dice.choice(projects())
    broken = dict(project)
    texts = [name for name in broken if not name.endswith(".py")]
    for name in dice.sample(texts, k=min(len(texts), dice.randint(1, 2))):
        broken[name] = mutate(broken[name], dice)
    loads_or_refuses(broken, environment)


def nested(depth: int, kind: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [value] if kind else {"a": value}
    return value


NASTY: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1.5,
    float("nan"),
    float("inf"),
    10**40,
    "",
    " ",
    "\0",
    "x" * 5000,
    "😀",
    "\u202e",
    [],
    {},
    [None],
    [[]],
    {"": ""},
    {" ": None},
    {1: 2},
    {None: 1},
    {True: False},
    {1.5: []},
    {"a.b": 1},
    {"<<": 1},
    datetime.date(2001, 1, 1),
    datetime.datetime(2001, 1, 1),
    b"bytes",
    {"a", "b"},
    nested(40, 0),
    nested(40, 1),
    "{{ x }}",
    "{{ longshore }}",
    "{{ hostvars }}",
    "{{ groups }}",
    "{{ namespace(a=1) }}",
    "{{ range(3) }}",
    "{{ [1, 2] | map('string') }}",
    "{{ {'a': groups} }}",
    "{{ hostvars.values() }}",
    "{{ lipsum }}",
    "{{ 10 ** 400 }}",
    "{{ 1e308 * 10 }}",
    "{{ (1e308 * 10) - (1e308 * 10) }}",
    "{{ [[]] * 3 }}",
    "{{ none }}",
    "{{ undefined_thing | default(none) }}",
    "{{ 'a' | list }}",
    "{{ '\\0' }}",
    "{{ '\\ud800' }}",
    "{{ {1: 2, none: 3, true: []} }}",
    "{{ groups['all'][99] }}",
    "{{ 1 / 0 }}",
    "{{ '%s' % 1 % 2 }}",
    "{% for x in range(99999999) %}{% endfor %}",
    "{{ lookup('pipe', 'id') }}",
    "{{ cycler.__init__ }}",
    "{{",
    "h[1:3]",
    "all:!all",
    "~(",
    "web[",
    "*",
    "512M",
    "-1s",
    "1e9",
    "99999999999999999999G",
    "0x10",
    "1:2:3:4",
    "/../..",
    ["a", ["b", {"c": None}]],
    {"hosts": {"hosts": {"hosts": None}}},
    {"children": {"all": None}},
    {"name": ["x"]},
]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of everything in a tree."""
    found = [path]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in items:
        found += places(child, (*path, key))
    return found


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


@RUN
@given(st.integers(0, 2**32))
def test_a_real_inventory_with_values_of_any_other_kind_is_loaded_or_refused(number: int) -> None:
    dice = random.Random(number)
    environment, project = dice.choice(projects())
    trees: dict[str, Any] = {}
    for name in project:
        if name.endswith((".yml", ".yaml")) and not name.startswith(("compose", "expect")):
            try:
                trees[name] = yaml.safe_load(project[name])
            except yaml.YAMLError:
                continue
    if not trees:
        return
    broken = dict(project)
    for name in dice.sample(sorted(trees), k=min(len(trees), dice.randint(1, 2))):
        tree = trees[name]
        for _ in range(dice.randint(1, 3)):
            tree = replaced(tree, dice.choice(places(tree)), dice.choice(NASTY))
        broken[name] = yaml.safe_dump(tree, allow_unicode=dice.random() < 0.5).encode(
            "utf-8", "surrogatepass"
        )
    loads_or_refuses(broken, environment)


def bomb(width: int, depth: int, indent: str = "") -> str:
    lines = ["a0: &a0 [x, x]"]
    for level in range(1, depth):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * width)}]")
    return "\n".join(indent + line for line in lines)


def with_url(url: str) -> str:
    apps = f"{{s: {{compose: compose.yml, url: '{url}'}}}}"
    return f"all: {{vars: {{longshore: {{apps: {apps}}}}}, hosts: {{h1: }}}}"


CHAIN = ", ".join(f"a{n}: '{{{{ a{n + 1} }}}}'" for n in range(1, 900))


@pytest.mark.parametrize(
    "text",
    [
        bomb(9, 12),
        "all:\n  vars:\n" + bomb(9, 30, "    ") + "\n    x: *a29\n  hosts: {h1: }",
        "all: {vars: {longshore: &a {apps: *a}}}",
        "all: &a\n  children: {web: *a}",
        "all:\n  vars: &a\n    b: *a\n  hosts: {h1: }",
        "&a all: *a",
        "all: {vars: &v {x: 1, <<: *v}, hosts: {h1: }}",
        "all:\n  vars: {<<: [1, [2]], a: b}\n  hosts: {h1: }",
        "[" * 100_000,
        "{a: " * 20_000,
        "all: {hosts: " + "{a: " * 5_000 + "x" + "}" * 5_001,
        "- " * 20_000 + "x",
        "all:\n  hosts:\n" + "".join(" " * depth + "a:\n" for depth in range(4, 2_000)),
        "? " * 10_000,
        "!" * 50_000,
        "a: " + "'" * 99_999,
        "all: {hosts: {'h[1:99999999]': }}",
        "all: {hosts: {'h[1:999][1:999][1:999]': }}",
        "all:\n  children:\n" + "".join(f"    g{n}: {{children: {{g{n + 1}: }}}}\n" for n in range(3_000)),
        "all: {vars: {a: '{{ b }}', b: '{{ a }}', longshore: {parallel: '{{ a }}'}}, hosts: {h1: }}",
        f"all: {{vars: {{{CHAIN}}}, hosts: {{h1: {{longshore: {{state_dir: '{{{{ a1 }}}}'}}}}}}}}",
        with_url("{{ " * 3_000),
        with_url("{{ " + "(" * 3_000 + "1" + ")" * 3_000 + " }}"),
        "\x00all: {}",
        "\ud7ff\ue000\U0010ffff: {}",
        "%TAG ! tag:x,2000:\n---\n!foo {}",
        "--- a\n--- b\n...\n--- c",
    ],
    ids=range(27),
)
def test_a_file_that_is_a_bomb_is_refused_soon(text: str) -> None:
    for name in ("inventory/prod.yml", "inventory/group_vars/all.yml"):
        project = {"inventory/prod.yml": b"all: {hosts: {h1: }}\n", "compose.yml": b"services: {}\n"}
        loads_or_refuses({**project, name: text.encode("utf-8", "surrogatepass")}, "prod")


@RUN
@given(st.integers(0, 2**32))
def test_env_files_with_accidents_are_loaded_or_refused(number: int) -> None:
    dice = random.Random(number)
    text = b"A=1\nexport B='x'\nC=\"a $A ${B:-c}\n\"\nDB_PASSWORD=$2y$10$abc\n# note\nKEY=op://vault/x/y\n"
    shop = b"all: {hosts: {h1: }, vars: {longshore: {apps: {shop: {compose: compose.yml}}}}}\n"
    project = {"inventory/prod.yml": shop, "compose.yml": b"services: {}\n"}
    name = dice.choice(["env/prod.env", "env/prod/shop.env", "env/prod.sops.env", "env/prod.env.age"])
    loads_or_refuses({**project, name: mutate(text, dice)}, "prod")
