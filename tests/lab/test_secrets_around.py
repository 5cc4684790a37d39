"""No planted secret is seen in what stands around a deploy: builds, plans, hooks, the proxy, webhooks."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import bcrypt
import pytest
from tests.lab.planted import (
    NEW,
    OLD,
    OP,
    Processes,
    open_files,
    open_here,
    seen,
    write_secrets,
)
from tests.lab.project import PYTHON, Done, Project

from longshore.lab import Lab

# Prints every secret of the build, as it is and as programs write it, and fails where it is told to.
TELL = """
import base64, glob, json, sys, urllib.parse
for path in sorted(glob.glob("/run/secrets/*")):
    text = open(path, newline="").read()
    print(text, json.dumps(text), repr(text), urllib.parse.quote(text, safe=""))
    print("Basic", base64.b64encode(b"user:" + text.encode()).decode(), flush=True)
sys.exit(int(sys.argv[1]))
"""
MOUNTS = " ".join(f"--mount=type=secret,id=s{at:02d}" for at in range(25))
DOCKERFILE = f"""
FROM {PYTHON}
COPY tell.py /tell.py
RUN {MOUNTS} python3 /tell.py CODE; code=$?; sleep SECONDS; exit $code
CMD ["sleep", "1000000"]
"""

SERVER = """
import http.server, os, sys
print(dict(os.environ), open("/run/secrets/mounted").read(), flush=True)
if len(sys.argv) > 1:
    sys.exit(int(sys.argv[1]))
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        told = repr(dict(os.environ)).encode()
        self.send_response(500 if os.environ.get("SICK") else 200)
        self.end_headers()
        self.wfile.write(told)
http.server.ThreadingHTTPServer(("", 8000), Page).serve_forever()
"""
CHECK = "import os, sys; print(dict(os.environ)); sys.exit(bool(os.environ.get('ILL')))"
COMPOSE = f"""
services:
  web:
    image: {PYTHON}
    command: ["python3", "-u", "/srv/server.py"]
    stop_signal: SIGKILL
    env_file: [.env]
    secrets: [mounted]
    volumes: ["./server.py:/srv/server.py:ro"]
    healthcheck: {{test: ["CMD", "python3", "-c", {json.dumps(CHECK)}], interval: 1s, retries: 1}}
secrets:
  mounted: {{file: ./mounted.key}}
"""
MOUNTED = "Mount3dK3yOfTheProject"
HEADER, HOOK_URL, TOKEN = "He4derOfTheProxy", "Hook0fTheProject", "T0kenOfTheWebhook"
HASH = bcrypt.hashpw(b"Pa55wordOfAnn", bcrypt.gensalt(4)).decode()
AROUND = [MOUNTED, HEADER, HOOK_URL, TOKEN, HASH]
HERE = """#!/bin/sh
[ -e hooks.on ] || exit 0
cat env/try.env mounted.key env/tls/own.key inventory/try.yml store/*; env
cat store/* >&2
[ ! -e hooks.fail ]
"""
THERE = """#!/bin/sh
cat releases/*/bundle/.env releases/*/bundle/proxy.json content/*/*
echo "the API refused: $(cat releases/*/bundle/.env)" >&2
exit 3
"""
ROLE = """
import json, sys
from pathlib import Path

from longshore.roles import Role


def leak(facts):
    if (told := Path("leak.txt")).exists():
        print(told.read_text())
        print(json.dumps(told.read_text()), file=sys.stderr)
        raise RuntimeError("the API refused: " + told.read_text())


role = Role(name="leaky", summary="Fails with a secret in its words.", hooks={"before_stage": leak})
"""


class Said(dict[str, Done]):
    """What was captured of each command, by its words."""

    def __init__(self, project: Project, around: dict[str, str]) -> None:
        self.project = project
        self.around = around

    def run(self, *words: str) -> Done:
        done = self[" ".join(words)] = self.project.run(*words, env=self.around)
        return done

    def leaks(self, more: list[str]) -> dict[str, list[str]]:
        """The commands that have shown one, and which."""
        found = {
            words: seen(done.all) + [one for one in more if one in done.all] for words, done in self.items()
        }
        return {words: secrets for words, secrets in found.items() if secrets}


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[str]]]:
    """A webhook's URL, and the bodies that were posted there."""
    got: list[str] = []

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/{HOOK_URL}", got
    server.shutdown()
    server.server_close()


def _replace(project: Project, before: str, after: str) -> None:
    """Change the inventory, which is for nobody else."""
    path = project.root / "inventory/try.yml"
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))
    path.chmod(0o600)


def test_no_planted_secret_of_a_build_is_seen(
    lab: Lab, hosts: list[str], tmp_path: Path, stand_ins: Callable[..., None], processes: Processes
) -> None:
    stand_ins(PYTHON)
    project = Project(tmp_path / "project", lab)
    project.root.mkdir()
    ids = {f"s{at:02d}": value for at, value in enumerate(OLD.values())}
    project.inventory("h1", app=f"services: {{web: {{build: {{secrets: {json.dumps(ids)}}}}}}}")
    login = f"{{username: ci, password: {json.dumps(NEW['SECRET_08'])}, insecure: true}}"
    _replace(project, f"'{lab.registry}': {{insecure: true}}", f"'{lab.registry}': {login}")
    builders = f"builders: {{hosts: {{h2: {{ansible_host: {lab.addresses['h2']}}}}}}}"
    _replace(project, "  children:\n", f"  children:\n    {builders}\n")
    project.write("compose.yml", f"services: {{web: {{image: '{lab.registry}/told/web:1', build: web}}}}\n")
    _dockerfile(project)
    project.write("web/tell.py", TELL)
    said = Said(project, {})

    assert said.run("push", "--env", "try", "--json").code == 0, said
    _dockerfile(project, code=3)
    for words in (("build",), ("--debug", "build"), ("push", "--json")):
        failed = said.run(*words, "--env", "try")
        assert failed.code == 1 and "***" in failed.all and "could not be built" in failed.all, failed.all
    said.run("explain", "longshore.apps.shop", "--env", "try", "--host", "h1")
    said.run("images", "--env", "try")
    assert not said.leaks([])

    # Killed while a step runs: nothing of it stays there, and no file of it was ever in anybody's reach.
    _dockerfile(project, seconds=97)
    running = _start(project, "build", "--env", "try")
    _until(lambda: "sleep 97" in lab.ssh("h2", ["ps", "-eo", "args"]).stdout)
    assert open_files(lab, "h2", has_env=False) == []
    running.kill()
    running.wait()
    left = ["sh", "-c", "ls -A /var/lib/longshore/work /dev/shm; ls -A /root/.docker 2>/dev/null || true"]
    _until(lambda: lab.ssh("h2", left).stdout.split() == ["/dev/shm:", "/var/lib/longshore/work:"])
    processes.over.set()
    processes.join()
    assert not processes.found
    assert processes.samples > 50
    assert [str(path) for path in open_here(project.root)] == []


def test_no_planted_secret_is_seen_in_plans_hooks_the_proxy_and_webhooks(
    lab: Lab,
    hosts: list[str],
    tmp_path: Path,
    stand_ins: Callable[..., None],
    processes: Processes,
    receiver: tuple[str, list[str]],
) -> None:
    import pyrage

    stand_ins(PYTHON, "traefik:v3")
    url, posted = receiver
    project = Project(tmp_path / "project", lab)
    project.root.mkdir()
    app = f"""
    health_timeout: 20s
    stability: 500ms
    notify: [{{webhook: '{url}', format: json, headers: {{X-Token: {TOKEN}}}}}]
    services:
      web:
        proxy:
          port: 8000
          hosts: shop.test
          users: ['ann:{HASH}']
          request_headers: {{Authorization: 'Bearer {HEADER}'}}
          tls: {{certificate: env/tls/own.pem, key: env/tls/own.key}}
    """
    project.inventory("h1", app=app)
    _replace(project, "      apps:\n", "      roles: [leaky]\n      apps:\n")
    project.write("compose.yml", COMPOSE)
    project.write("server.py", SERVER)
    project.write("mounted.key", MOUNTED).chmod(0o600)
    project.write("roles/leaky.py", ROLE)
    key_lines = _certificate(project.root / "env/tls")
    project.write("bin/op", OP % (project.root / "store")).chmod(0o755)
    for name in ("before_stage", "after_switch", "on_failure"):
        project.write(f"hooks/{name}", HERE).chmod(0o755)
    key = str(pyrage.x25519.Identity.generate())
    secret = [*AROUND, *key_lines, key]
    # The key itself is in the environment, as in CI: hooks print that.
    around = {"LONGSHORE_AGE_KEY": key, "PATH": f"{project.root / 'bin'}:{os.environ['PATH']}"}
    said = Said(project, around)
    deploy = ("deploy", "--env", "try")

    write_secrets(project, OLD, key)
    project.write("hooks.on", "")
    # A plan is saved, with its file for nobody else, and holds nothing; the deploy of it is told in full.
    assert said.run("plan", "--env", "try", "--save", "plan.json").code == 2, said
    saved = project.root / "plan.json"
    assert saved.stat().st_mode & 0o777 == 0o600
    assert not seen(saved.read_text()) and not [one for one in secret if one in saved.read_text()]
    first = said.run("--debug", "deploy", "--plan", "plan.json", "--env", "try")
    assert first.code == 0 and "before_stage | " in first.all, first.all
    (project.root / "hooks.on").unlink()

    # All values change, and what is mounted: the differences are shown, line by line.
    write_secrets(project, NEW, key)
    assert said.run("plan", "--env", "try", "--diff").code == 2
    assert said.run("plan", "--env", "try", "--json").code == 2
    folder = project.root / "open"
    folder.mkdir(mode=0o755)
    assert said.run("render", "--env", "try", "--no-pin", "--out", "open").code == 0
    looking = (
        ("doctor", "--json"), ("images",), ("audit",), ("proxy.status", "--json"), ("proxy.logs",), ("logs",),
        ("secrets.show",), ("explain", "longshore"), ("pause",), ("resume",),
        ("maintenance", "on"), ("maintenance", "off"),
    )  # fmt: skip
    for words in looking:
        done = said.run(*words, "--env", "try", *(("--host", "h1") if words[0] == "explain" else ()))
        assert done.code == 0 or words[0] == "doctor", (words, done.all)
    for words in (("exec", "web"), ("run", "web")):
        told = said.run(*words, "--env", "try", "--", "sh", "-c", "env; cat /run/secrets/mounted; env >&2")
        assert "***" in told.out, told.all

    # A hook on the host, one here and one in Python fail, and say what they shouldn't; so do a migration,
    # and a health check.
    project.write("hooks/host/before_switch", THERE).chmod(0o755)
    failed = said.run("--debug", *deploy)
    assert failed.code == 1 and "the API refused: " in failed.all, failed.all
    (project.root / "hooks/host/before_switch").unlink()
    project.write("hooks.on", "")
    project.write("hooks.fail", "")
    assert said.run(*deploy).code == 1
    (project.root / "hooks.fail").unlink()
    (project.root / "hooks.on").unlink()
    project.write("leak.txt", "\n".join(NEW.values())).chmod(0o600)
    failed = said.run("--debug", *deploy, "--json")
    assert failed.code == 1 and "the API refused: " in failed.all, failed.all
    (project.root / "leak.txt").unlink()
    canary = ("--canary", "50%", "--canary-for", "5s")
    failed = said.run(*deploy, *canary, "--set", "longshore.apps.shop.env.ILL='1'")
    assert failed.code == 1 and "its check says" in failed.all, failed.all
    migrate = "longshore.apps.shop.migrate={service: web, command: [python3, /srv/server.py, '4']}"
    failed = said.run(*deploy, "--json", "--set", migrate)
    assert failed.code == 1 and "***" in failed.all, failed.all

    processes.over.set()
    processes.join()
    assert not said.leaks(secret)
    assert posted and not seen("".join(posted)) and not [one for one in secret if one in "".join(posted)]
    assert processes.samples > 50
    assert not processes.found
    assert open_files(lab) == []
    assert [str(path) for path in open_here(project.root)] == []


def _dockerfile(project: Project, *, code: int = 0, seconds: int = 0) -> None:
    text = DOCKERFILE.replace("CODE", str(code)).replace("SECONDS", str(seconds))
    project.write("web/Dockerfile", text)


def _start(project: Project, *words: str) -> subprocess.Popen[bytes]:
    program = "from longshore.tasks import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", program, *words],
        cwd=project.root,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 40
    while not true():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.3)


def _certificate(folder: Path) -> list[str]:
    """Write ``own.pem`` and ``own.key``, and return the key's lines."""
    folder.mkdir(parents=True)
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "9"]
    name = ["-subj", "/CN=shop.test", "-addext", "subjectAltName=DNS:shop.test"]
    words = ["req", "-x509", *kind, *name, "-keyout", "own.key"]
    subprocess.run(["openssl", *words, "-out", "own.pem"], cwd=folder, check=True, capture_output=True)
    (folder / "own.key").chmod(0o600)
    return [line for line in (folder / "own.key").read_text().splitlines() if "-----" not in line]
