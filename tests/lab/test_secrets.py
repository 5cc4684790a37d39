"""No secret is seen by anyone who should not: planted ones are looked for in all that is said and written."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.lab.planted import NEW, OLD, OP, Processes, open_files, open_here, seen, write_secrets
from tests.lab.project import PYTHON, Done, Project

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
