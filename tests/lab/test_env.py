"""What the real Compose, docker and a container's process make of env files and values."""

from __future__ import annotations

import base64
import json
import os
import random
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from tests.lab.project import PYTHON, Project
from tests.lab.test_compose_merge import HOST, MAKE_TINY, TINY, put
from tests.unit.dotenv_corpus import CASES, recorded, short

from longshore import dotenv
from longshore.errors import InventoryError
from longshore.lab import Lab
from longshore.render.emit import emit

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("clean_hosts")]

COUNT = 2_100
"""Values that each way carries, at the least."""
FRESH = int(os.environ.get("LONGSHORE_SEED", random.SystemRandom().randrange(10**6)))

# Reads env files with the real programs. Files that are readable go through one run, the others one by one.
# `docker stack config` has the reader of `docker run --env-file`; the recordings were made with that.
READ = """
import base64, json, os, subprocess, sys, tempfile
env = {"PATH": "/usr/bin:/bin"}
folder = tempfile.mkdtemp()
os.chdir(folder)

def run(*words):
    done = subprocess.run(words, env=env, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr

def compose(names):
    with open("compose.yml", "w") as file:
        json.dump({"services": {name: {"image": "x", "env_file": name + ".env"} for name in names}}, file)
    return run("docker", "compose", "-p", "p", "config", "--format", "json")

def stack(names):
    with open("stack.yml", "w") as file:
        services = {name: {"image": "x", "env_file": name + ".env"} for name in names}
        json.dump({"version": "3.8", "services": services}, file)
    return run("docker", "stack", "config", "-c", "stack.yml")

said = json.load(sys.stdin)
for name, text in said["files"].items():
    with open(name + ".env", "wb") as file:
        file.write(base64.b64decode(text))
found = {"compose": compose(said["compose"]), "stack": stack(said["docker"])}
found["compose refuses"] = {name: compose([name])[0] != 0 for name in said["compose refuses"]}
found["docker refuses"] = {name: stack([name])[0] != 0 for name in said["docker refuses"]}
json.dump(found, sys.stdout)
"""

# The environments of containers as their processes have them, from the kernel.
ENVIRON = """
import base64, json, subprocess, sys
found = {}
for name in sys.argv[1:]:
    pid = subprocess.run(["docker", "inspect", "-f", "{{.State.Pid}}", name], capture_output=True, text=True)
    with open("/proc/" + pid.stdout.strip() + "/environ", "rb") as file:
        found[name] = base64.b64encode(file.read()).decode()
json.dump(found, sys.stdout)
"""

CHARACTERS = st.characters(blacklist_characters="\0", blacklist_categories=("Cs",))
TRICKY = st.sampled_from(
    ["$", "$$", "${A}", "${A:-b}", "$A", "{", "}", "{{ x }}", '"', "'", "`", "\\", "\\n", "\\$", "\n",
     "\r", "\r\n", "\t", "\v", "\f", " ", "#", " #", "=", ":", "export ", "%", "!", "\x01", "\x1b[0m", "\x7f",
     "\x85", "\xa0", "\u2028", "\ufeff", "é", "漢", "😀", "a", "0", "\\0101", "\\\\", "\U0010ffff", "\ufffe"]
)  # fmt: skip
VALUES = st.one_of(
    st.text(CHARACTERS, max_size=60),
    st.lists(TRICKY, max_size=14).map("".join),
    st.tuples(TRICKY, st.text(CHARACTERS, max_size=10), TRICKY).map("".join),
    st.tuples(TRICKY, st.integers(1, 400)).map(lambda pair: pair[0] * pair[1]),
)
LONG = [
    "x" * 65_536,
    "$" * 65_536,
    "é" * 32_768,
    '"\\' * 32_768,
    "\n" * 65_536,
    "${A}#'" * 10_000,
    " " * 65_536,
]


@lru_cache(maxsize=1)
def made_values(count: int, number: int) -> list[str]:
    """At least ``count`` different values, made by hypothesis, and the long ones."""
    found: dict[str, None] = dict.fromkeys(LONG)

    @seed(number)
    @settings(
        max_examples=count + count // 2,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(VALUES)
    def collect(value: str) -> None:
        if len(found) < count:
            found.setdefault(value)

    collect()
    assert len(found) >= count
    return list(found)


def environments(lab: Lab, *names: str) -> dict[str, dict[str, bytes]]:
    """Container to the environment of its first process."""
    said: Mapping[str, str] = json.loads(lab.ssh(HOST, ["python3", "-c", ENVIRON, *names]).stdout)
    result = {}
    for name, text in said.items():
        pairs = (pair.partition(b"=") for pair in base64.b64decode(text).split(b"\0") if pair)
        result[name] = {key.decode(): value for key, _, value in pairs}
    return result


def differing(env: Mapping[str, str], seen: Mapping[str, bytes]) -> list[tuple[str, bytes | None]]:
    """What arrived otherwise, the shortest first."""
    wrong = [(value, seen.get(key)) for key, value in env.items() if seen.get(key) != value.encode()]
    return sorted(wrong, key=lambda pair: len(pair[0]))[:5]


def ask(lab: Lab, files: Mapping[str, bytes], **names: list[str]) -> dict[str, Any]:
    said = {
        "files": {name: base64.b64encode(data).decode() for name, data in files.items()},
        **{key.replace("_", " "): value for key, value in names.items()},
    }
    answer: dict[str, Any] = json.loads(lab.ssh(HOST, ["python3", "-c", READ], stdin=json.dumps(said)).stdout)
    return answer


def test_the_recorded_readings_are_those_of_this_compose_and_this_docker(lab: Lab) -> None:
    known = recorded()
    names = {
        "compose": [name for name in CASES if known[name]["compose"] is not None],
        "docker": [name for name in CASES if known[name]["docker"] is not None],
        "compose_refuses": [name for name in CASES if known[name]["compose"] is None],
        "docker_refuses": [name for name in CASES if known[name]["docker"] is None],
    }
    found = ask(lab, CASES, **names)
    code, out, err = found["compose"]
    assert code == 0, err
    for name, service in json.loads(out)["services"].items():
        read = {
            key: short(value.replace("$$", "$")) for key, value in (service.get("environment") or {}).items()
        }
        assert read == known[name]["compose"], name
    code, out, err = found["stack"]
    assert code == 0, err
    for name, service in yaml.load(out, Loader=yaml.BaseLoader)["services"].items():
        read = {key: short(value or "") for key, value in service.get("environment", {}).items()}
        assert read == dict(known[name]["docker"]), name
    assert all(found["compose refuses"].values()), found["compose refuses"]
    assert all(found["docker refuses"].values()), found["docker refuses"]


PIECES = [
    "A", "B", "K=", "A=", "B=", "=", ":", "\n", "\n", "\n", " ", " ", "\t", "\r", '"', '"', "'", "'", "#",
    " #", "$", "$$", "${", "}", "${A}", "$A", "${B:-", "${A:+", "-", "?", "+", "\\", "\\n", "\\$", '\\"',
    "\\'", "\\0101", "\\012", "é", "x", "1", ".", "[", "]", "export ", "export", "\x85", "\xa0", "\u2003",
    "\x1c", "\v", "\f", "\u2028", "word", "\x01", "²", "漢",
]  # fmt: skip


def ugly(dice: random.Random) -> str:
    """A text that somebody's editor could have made, on a very bad day."""
    text = "".join(dice.choices(PIECES, k=dice.randint(1, 25)))
    if dice.random() < 0.7:
        text = "A=1\nB=two\n" + dice.choice(["C=", 'C="', "C='", ""]) + text
    return text + dice.choice(["\n", '"\n', "'\n", ""])


def test_texts_made_at_random_are_read_as_this_compose_reads_them(lab: Lab) -> None:
    dice = random.Random(FRESH)
    texts = {f"t{number}": ugly(dice) for number in range(800)}
    ours: dict[str, dict[str, str]] = {}
    refused: list[str] = []
    for name, text in texts.items():
        try:
            ours[name] = {entry.key: entry.value for entry in dotenv.read(text, name)}
        except InventoryError as error:
            # Compose reads these three, as something that nobody can use.
            if not any(word in str(error) for word in ("without a name", "only a name", "NUL")):
                refused.append(name)
    files = {name: texts[name].encode() for name in (*ours, *refused)}
    answer = ask(lab, files, compose=list(ours), docker=[], compose_refuses=refused[:15], docker_refuses=[])
    code, out, err = answer["compose"]
    assert code == 0, f"LONGSHORE_SEED={FRESH}: {err}"
    theirs = json.loads(out)["services"]
    assert len(ours) > 100
    for name, read in ours.items():
        said = {
            key: value.replace("$$", "$") for key, value in (theirs[name].get("environment") or {}).items()
        }
        assert said == read, f"LONGSHORE_SEED={FRESH}: {texts[name]!r}"
    wrong = [texts[name] for name, is_refused in answer["compose refuses"].items() if not is_refused]
    assert not wrong, f"LONGSHORE_SEED={FRESH}: Compose reads these: {wrong}"


def test_every_value_arrives_in_the_process_by_env_file_by_environment_and_by_interpolation(lab: Lab) -> None:
    values = made_values(COUNT, FRESH)
    lab.ssh(HOST, ["bash", "-c", MAKE_TINY])
    batches = [values[at : at + 700] for at in range(0, len(values), 700)]
    envs = {f"{number}": {f"V{at}": v for at, v in enumerate(batch)} for number, batch in enumerate(batches)}
    theirs: dict[str, Any] = {}
    ours: dict[str, Any] = {}
    files: dict[str, tuple[bytes, int]] = {}
    for number, env in envs.items():
        # Each batch has its names to itself: all of them are in the one .env that ${…} is filled from.
        named = {f"B{number}{key}": value for key, value in env.items()}
        envs[number] = named
        files[f"{number}.env"] = (dotenv.render(named).encode(), 0o600)
        theirs[f"file{number}"] = {"image": TINY, "env_file": f"{number}.env"}
        theirs[f"fill{number}"] = {"image": TINY, "environment": {key: f"${{{key}}}" for key in named}}
        ours[f"ours{number}"] = {"image": TINY, "environment": named}
    everything = {key: value for env in envs.values() for key, value in env.items()}
    files[".env"] = (dotenv.render(everything).encode(), 0o600)
    files["compose.yml"] = (json.dumps({"services": theirs}).encode(), 0o600)
    files["ours.yml"] = (emit({"services": ours}).encode(), 0o600)
    put(lab, "/srv/values", files)
    words = ["env", "-i", "PATH=/usr/bin:/bin", "docker", "compose", "-p", "v", "--progress", "quiet"]
    lab.ssh(HOST, [*words, "-f", "/srv/values/compose.yml", "-f", "/srv/values/ours.yml", "up", "-d"])
    for number, env in envs.items():
        for name, seen in environments(
            lab, *(f"v-{way}{number}-1" for way in ("file", "fill", "ours"))
        ).items():
            assert differing(env, seen) == [], f"LONGSHORE_SEED={FRESH} {name}"


def test_every_value_arrives_by_a_deploy(lab: Lab, tmp_path: Path, stand_ins: Callable[..., None]) -> None:
    stand_ins(PYTHON)
    project = Project(tmp_path, lab)
    env = {f"V{at}": value for at, value in enumerate(made_values(COUNT, FRESH))}
    service = {"image": PYTHON, "command": ["sleep", "1000"], "stop_signal": "SIGKILL"}
    services = {
        "file": {**service, "env_file": ".env"},
        "fill": {**service, "environment": {key: f"${{{key}}}" for key in env}},
        "ours": service,
    }
    project.write("compose.yml", json.dumps({"services": services}))
    lines = [f"      {key}: !unsafe {quoted(value)}" for key, value in env.items()]
    project.inventory(HOST, app="stability: 100ms\nservices:\n  ours:\n    environment:\n" + "\n".join(lines))
    project.write("env/try.env", "").write_text(dotenv.render(env))
    (tmp_path / "env/try.env").chmod(0o600)
    done = project.run("deploy", "--env", "try")
    assert done.code == 0, done.all[-2000:]
    for name, seen in environments(lab, *(f"shop-{way}-1" for way in services)).items():
        assert differing(env, seen) == [], f"LONGSHORE_SEED={FRESH} {name}"


def quoted(value: str) -> str:
    """A text in YAML's double quotes, on one line."""
    return str(yaml.dump(value, Dumper=yaml.SafeDumper, default_style='"', width=10**9)).strip()


def test_what_cannot_be_carried_is_refused_before_a_host_is_touched(lab: Lab, tmp_path: Path) -> None:
    project = Project(tmp_path, lab)
    project.write("compose.yml", json.dumps({"services": {"web": {"image": TINY, "env_file": ".env"}}}))
    project.inventory(HOST)
    project.write("env/try.env", "").write_bytes(b"TOKEN=hun\0ter2\n")
    done = project.run("deploy", "--env", "try")
    assert done.code == 1
    assert "env/try.env:1" in done.err and "TOKEN" in done.err and "NUL" in done.err
    assert "ter2" not in done.all
    assert lab.ssh(HOST, ["ls", "/var/lib/longshore"], check=False).returncode != 0
