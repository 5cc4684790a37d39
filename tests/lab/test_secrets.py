"""No secret is seen by anyone who should not: planted ones are looked for in all that is said and written."""

from __future__ import annotations

import base64
import json
import re
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from project import PYTHON, Done, Project

from longshore.lab import Lab

# Tells its whole environment whenever it starts, in the forms in which programs do that.
SERVER = """
import base64, json, os, sys, time, urllib.parse

for name, value in sorted(os.environ.items()):
    print(f"{name}={value}")
    print(json.dumps({name: value}), repr(value), urllib.parse.quote(value, safe=""))
    print("Basic", base64.b64encode(f"user:{value}".encode()).decode())
sys.stdout.flush()
if os.path.exists("/data/die"):
    raise ValueError(f"no such database: {os.environ['SECRET_00']} {dict(os.environ)}")
if os.environ.get("EXIT_AT_ONCE"):
    sys.exit(json.dumps(dict(os.environ)))
time.sleep(100000)
"""
COMPOSE = f"""
services:
  web:
    image: {PYTHON}
    command: ["python3", "-u", "/srv/server.py"]
    stop_signal: SIGKILL
    env_file: [.env]
    environment: {{URL: "postgres://app:${{SECRET_01}}@db/app"}}
    secrets: [token]
    volumes: ["./server.py:/srv/server.py:ro", "data:/data"]
    healthcheck: {{test: ["CMD", "true"], interval: 1s}}
secrets:
  token: {{environment: SECRET_02}}
volumes:
  data:
"""
ROLE = """
from pathlib import Path

from longshore.roles import Role


def leak(facts):
    if (told := Path("leak.txt")).exists():
        raise RuntimeError("the API refused: " + told.read_text())


role = Role(name="leaky", summary="Fails with a secret in its words.", hooks={"before_switch": leak})
"""
OP = """#!/bin/sh
# As 1Password's own: prints one secret, without a newline.
[ "$1" = read ] && [ "$2" = --no-newline ] || exit 2
cat "%s/$(basename "$3")"
"""
LOOK = """
import json, os, stat, sys

secrets = json.loads(sys.stdin.buffer.read())
for top in ("/var/lib/longshore", "/tmp", "/run", "/var/log", "/etc", "/root", "/home", "/srv", "/dev/shm"):
    for folder, inner, names in os.walk(top):
        for name in names:
            path = os.path.join(folder, name)
            try:
                if not stat.S_ISREG(os.lstat(path).st_mode) or os.path.getsize(path) > 1 << 24:
                    continue
                data = open(path, "rb").read()
            except OSError:
                continue  # it went while we looked
            if not any(secret.encode() in data for secret in secrets):
                continue
            parts = path.split("/")
            above = ["/".join(parts[:end]) or "/" for end in range(1, len(parts))]
            closed = any(not os.stat(one).st_mode & stat.S_IXOTH for one in above)
            open_file = bool(os.stat(path).st_mode & stat.S_IROTH)
            print(json.dumps([path, open_file and not closed]))
"""


def planted(start: int) -> dict[str, str]:
    """25 secrets of all kinds; none is in another one or in anything that is said anyway."""
    mark = f"{start:02d}"
    kinds = [
        "short{0}!",
        "Qu'o{0}te\"d",
        "$do{0}llar$$s${{X}}",
        "tick`{0}`back\\slash\\n",
        "spaces  {0}  in it ",
        "ünïcödé{0}→☃",
        "first{0}line\nsecond{0}line of it\nthird{0}line",
        "-----BEGIN KEY-----\nMIIEv{0}QIBADANBgkqhkiG9w0\n8s7d{0}f6g5h4j3k2\n-----END KEY-----\n",
        "p@ss/w:or?d&{0}=%40+",
        "<tag>&amp;{0}</tag>",
        '{{"json":"{0}","key":"v\\"alue"}}',
        "tab\tand{0}more",
        "#hash{0}#tag",
        "long{0}" + "".join(chr(97 + at * 7 % 26) for at in range(3000)),
        "sunshine{0}",
    ]
    values = [kinds[at % len(kinds)].format(f"{mark}{at:02d}zq") for at in range(25)]
    return {f"SECRET_{at:02d}": value for at, value in enumerate(values)}


OLD, NEW = planted(1), planted(2)
ALL = [*OLD.values(), *NEW.values()]


def forms(secret: str) -> set[str]:
    """How a secret could be seen."""
    lines = {line for line in secret.splitlines() if len(line) >= 8 and not line.startswith("-----")}
    return {
        secret,
        *lines,
        json.dumps(secret)[1:-1],
        repr(secret)[1:-1],
        quote(secret, safe=""),
        base64.b64encode(secret.encode()).decode().rstrip("="),
        base64.b64encode(b"user:" + secret.encode())[8:-4].decode(),
    }


def seen(text: str) -> list[str]:
    """The planted secrets that are in a text, in any form."""
    return [secret for secret in ALL if any(form in text for form in forms(secret))]


class Processes(threading.Thread):
    """Reads the arguments and the environment of every process, again and again; hosts' processes are there,
    too. What runs in a container has its own environment by right."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.found: dict[str, list[str]] = {}
        self.samples = 0
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.is_set():
            for folder in Path("/proc").iterdir():
                if folder.name.isdigit():
                    self.look(folder)
            self.samples += 1
            time.sleep(0.1)

    def look(self, folder: Path) -> None:
        try:
            words = (folder / "cmdline").read_bytes().decode("utf-8", "replace")
            around = (folder / "environ").read_bytes().decode("utf-8", "replace")
            group = (folder / "cgroup").read_text()
        except OSError:
            return
        if re.search(r"docker[/-][0-9a-f]{64}", group):
            around = ""
        for text in (words, around):
            if found := [secret for secret in ALL if secret in text]:
                self.found.setdefault(f"{words[:80]!r}", []).extend(found)


@pytest.fixture
def processes() -> Iterator[Processes]:
    looking = Processes()
    looking.start()
    yield looking
    looking.over.set()


def write_secrets(project: Project, values: dict[str, str], key: str) -> None:
    """A third is encrypted with age, a third in a store, a third in clear."""
    import pyrage

    from longshore import dotenv

    names = list(values)
    store = project.root / "store"
    store.mkdir(mode=0o700, exist_ok=True)
    for name in names[8:16]:
        (store / name).write_text(values[name], newline="")
        (store / name).chmod(0o600)
    sealed = dotenv.render({name: values[name] for name in names[:8]}).encode()
    to = pyrage.x25519.Identity.from_str(key).to_public()
    project.write("env/try.env.age", "")
    (project.root / "env/try.env.age").write_bytes(pyrage.encrypt(sealed, [to], armored=True))
    clear = dotenv.render({name: values[name] for name in names[16:]})
    clear += "".join(f"{name}=op://prod/app/{name}\n" for name in names[8:16])
    path = project.root / "env/try.env"
    path.write_text(clear)
    path.chmod(0o600)


def test_no_planted_secret_is_seen_anywhere(
    lab: Lab,
    hosts: list[str],
    tmp_path: Path,
    stand_ins: Callable[..., None],
    processes: Processes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import pyrage

    stand_ins(PYTHON)
    project = Project(tmp_path / "project", lab)
    project.root.mkdir()
    project.inventory("h1", app="health_timeout: 20s\nstability: 500ms", longshore_roles="x")
    text = (project.root / "inventory/try.yml").read_text().replace("    longshore_roles: x\n", "")
    text = text.replace("      apps:\n", "      roles: [leaky]\n      apps:\n", 1)
    project.write("inventory/try.yml", text)
    project.write("compose.yml", COMPOSE)
    project.write("server.py", SERVER)
    project.write("roles/leaky.py", ROLE)
    tools = project.root / "bin"
    project.write("bin/op", OP % (project.root / "store")).chmod(0o755)
    key = str(pyrage.x25519.Identity.generate())
    identity = project.write("key.txt", key)
    identity.chmod(0o600)
    path = f"{tools}:{subprocess.os.environ['PATH']}"  # type: ignore[attr-defined]
    around = {"LONGSHORE_AGE_KEY_FILE": str(identity), "PATH": path}
    said: dict[str, Done] = {}

    def run(*words: str) -> Done:
        done = said[" ".join(words)] = project.run(*words, env=around)
        return done

    deploy = ("deploy", "--env", "try")
    write_secrets(project, OLD, key)
    assert run(*deploy).code == 0, said
    # What arrived is what was planted: the rest of this test would be easy otherwise.
    env = project.containers("h1")[0]["Config"]["Env"]
    assert {name: value for name, _, value in (one.partition("=") for one in env) if name in OLD} == OLD

    # As docs/secrets.md has it: Compose copies it in, readable for every user there.
    container = project.containers("h1")[0]["Id"]
    place = ["docker", "exec", container, "stat", "-c", "%a %u %F", "/run/secrets/token"]
    assert lab.ssh("h1", place).stdout.strip() == "444 0 regular file"

    write_secrets(project, NEW, key)
    assert run("plan", "--env", "try").code == 2
    assert run("render", "--env", "try", "--no-pin").code == 0
    assert run(*deploy, "--json").code == 0
    for words in (
        ("logs",),
        ("logs", "--json"),
        ("history",),
        ("status", "--json"),
        ("ps",),
        ("health", "--json"),
    ):
        run(*words, "--env", "try")
    assert "***" in run("exec", "web", "--env", "try", "--", "env").out
    assert "***" in said["logs --env try"].out

    # A hook fails with a secret in its words, also under --debug.
    project.write("leak.txt", NEW["SECRET_03"]).chmod(0o600)
    assert run(*deploy, "--set", "longshore.apps.shop.env.VERSION='3'").code == 1
    assert run("--debug", *deploy, "--set", "longshore.apps.shop.env.VERSION='4'").code == 1
    assert "the API refused: ***" in said["deploy --env try --set longshore.apps.shop.env.VERSION='3'"].err
    (project.root / "leak.txt").unlink()

    # A container that tells everything and dies.
    for words in ((*deploy, "--json"), ("--debug", *deploy)):
        failed = run(*words, "--set", "longshore.apps.shop.env.EXIT_AT_ONCE='1'")
        assert failed.code == 1
        assert "***" in failed.all

    # The release before can't run any more: its secrets are told by the host alone.
    run("exec", "web", "--env", "try", "--", "touch", "/data/die")
    back = run("rollback", "--env", "try")
    assert back.code == 1
    assert "no such database: ***" in back.all
    run("history", "--env", "try", "--json")

    processes.over.set()
    processes.join()
    leaks = {words: found for words, done in said.items() if (found := seen(done.all))}
    assert not leaks
    assert processes.samples > 50
    assert not processes.found
    assert open_files(lab) == []
    assert [str(path) for path in open_here(project.root)] == []


def open_files(lab: Lab) -> list[str]:
    """The files of the host that hold a secret and that others can read."""
    done = subprocess.run(
        lab.ssh_argv("h1", ["python3", "-c", LOOK]),
        input=json.dumps(ALL).encode(),
        capture_output=True,
        check=True,
        timeout=60,
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    told = [path for path, _ in rows if path.endswith((".jsonl", "manifest.json", "longshore.yml", "lock"))]
    assert any(path.endswith("/.env") for path, _ in rows), "it looks in the right place"
    return [path for path, exposed in rows if exposed] + told


def open_here(root: Path) -> Iterator[Path]:
    """The files of the project that hold a secret and that others can read, but for its own folder's mode."""
    for path in root.rglob("*"):
        if path.is_file() and any(secret.encode() in path.read_bytes() for secret in ALL):
            above = [one for one in path.parents if one.is_relative_to(root) and one != root]
            closed = any(not one.stat().st_mode & stat.S_IXOTH for one in above)
            if path.stat().st_mode & stat.S_IROTH and not closed:
                yield path
