"""Building with this machine's own engine: a practice host is the controller, and its engine the builder."""

from __future__ import annotations

import hashlib
import json
import platform
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.lab.conftest import clean

from longshore.lab import Lab

try:
    import tomllib
except ImportError:  # Python 3.10
    import pip._vendor.tomli as tomllib  # type: ignore[import-not-found,no-redef]

ROOT = Path(__file__).parents[2]
PYTHON = "python:3.12-slim-bookworm"
HOME = "/srv/controller"
COMPOSE = """
services:
  web:
    image: {registry}/local/web:1
    build:
      context: web
      additional_contexts: {{more: ./more}}
      ssh: [default]
      ulimits: {{nofile: 2048}}
    stop_signal: SIGKILL
"""
DOCKERFILE = f"""
FROM {PYTHON}
RUN --mount=type=ssh test -S "$SSH_AUTH_SOCK" && ulimit -n >/limit
COPY --from=more file /more
COPY . /srv
CMD ["sleep", "1000000"]
"""
INVENTORY = """
all:
  vars:
    ansible_user: root
    longshore:
      {root}
      registries:
        docker.io: {{mirror: 'http://{registry}', insecure: true}}
        '{registry}': {{insecure: true}}
      apps:
        local: {{compose: compose.yml, hosts: web, stability: 500ms}}
  children:
    web:
      hosts:
        own: {{ansible_connection: local}}
        other: {{ansible_host: {other}, ansible_ssh_private_key_file: {home}/key}}
"""


def _libraries(lab: Lab) -> Path:
    """What Longshore stands on, for the host's Python: kept in the lab's cache."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    say = "import sys; print('%d.%d' % sys.version_info[:2])"
    version = lab.ssh("h1", ["python3", "-c", say]).stdout.strip()
    key = hashlib.sha256(json.dumps([wanted, version]).encode()).hexdigest()[:12]
    folder = lab.place.cache / f"libraries-{key}"
    if not folder.is_dir():
        fresh = folder.with_suffix(".new")
        shutil.rmtree(fresh, ignore_errors=True)
        kinds = [f"--platform=manylinux{one}_{platform.machine()}" for one in ("2014", "_2_28", "_2_34")]
        words = ["install", "-q", "--no-compile", f"--target={fresh}", f"--python-version={version}", *kinds]
        subprocess.run([sys.executable, "-m", "pip", *words, "--only-binary=:all:", *wanted], check=True)
        fresh.rename(folder)
    return folder


class Controller:
    """The practice host h1 as somebody's machine, with a project, an engine and an agent of SSH keys."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def put(self, path: str, text: str) -> None:
        """Write a file of the project."""
        script = 'mkdir -p "$(dirname "$1")" && cat >"$1"'
        self.lab.ssh("h1", ["sh", "-c", script, "put", f"{HOME}/project/{path}"], stdin=text.encode())

    def script(self, *words: str) -> str:
        """What starts ``longshore WORDS`` there."""
        program = "from longshore.tasks import main; main()"
        return f"cd {HOME}/project && {shlex.join(['/usr/bin/python3', '-c', program, *words])}"

    def run(self, *words: str, before: str = "") -> Any:
        """``longshore WORDS`` as root, there."""
        return self.sh(f"{before}\n{self.script(*words)}")

    def sh(self, script: str, host: str = "h1") -> Any:
        ours = f"export PYTHONPATH={HOME}/libraries:{HOME}/src SSH_AUTH_SOCK={HOME}/agent HOME={HOME}\n"
        return self.lab.ssh(host, ["sh", "-c", ours + script], check=False)


@pytest.fixture(scope="module")
def controller(lab: Lab, stand_ins: Callable[..., None]) -> Iterator[Controller]:
    stand_ins(PYTHON)
    clean(lab)
    packed = subprocess.Popen(
        ["tar", "-cf", "-", "--exclude=__pycache__", "-C", str(ROOT), "src", "-C", str(_libraries(lab)),
         "--transform=s,^\\./,libraries/,", "."],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert packed.stdout is not None
    lab.ssh("h1", ["sh", "-c", f"mkdir -p {HOME} && tar -C {HOME} -xf -"], stdin=packed.stdout.read())
    packed.wait()
    made = Controller(lab)
    for path, text in (
        ("compose.yml", COMPOSE.format(registry=lab.registry)),
        ("web/Dockerfile", DOCKERFILE),
        ("web/page", "one"),
        ("more/file", "more"),
        ("../key", Path(lab.key).read_text()),
        ("../.ssh/known_hosts", Path(lab.key).with_name("known_hosts").read_text()),
    ):
        made.put(path, text)
    for name, root in (("try", "pulls: 10"), ("none", "registry: none")):
        text = INVENTORY.format(root=root, registry=lab.registry, other=lab.addresses["h2"], home=HOME)
        made.put(f"inventory/{name}.yml", text)
    made.sh(f"chmod 600 {HOME}/key; ssh-agent -a {HOME}/agent >{HOME}/pid; ssh-add {HOME}/key")
    try:
        yield made
    finally:
        made.sh(f". {HOME}/pid >/dev/null; kill $SSH_AGENT_PID; rm -rf {HOME}")
        clean(lab)


def _results(done: Any) -> list[Any]:
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return [line["value"] for line in lines if line["event"] == "result"]


def test_what_this_machines_own_engine_built_runs_on_it_and_elsewhere(controller: Controller) -> None:
    (pushed,) = _results(controller.run("push", "--env", "try", "--json"))
    (image,) = pushed["images"]
    assert {step["builder"] for step in image["steps"]} == {"this machine"}
    done = controller.run("deploy", "--env", "try")
    assert done.returncode == 0, done.stdout + done.stderr
    for host in ("h1", "h2"):
        seen = controller.sh("docker exec local-web-1 cat /limit /more /srv/page", host).stdout
        assert seen.split() == ["2048", "moreone"], seen
        assert image["digest"] in controller.sh("docker inspect local-web-1", host).stdout
    # What stays is the build cache, and nothing of the session.
    left = controller.sh(f"ls -A {HOME}/.cache/longshore/work /dev/shm")
    assert left.stdout.split() == ["/dev/shm:", f"{HOME}/.cache/longshore/work:"]


def test_without_a_registry_it_is_brought_from_this_machine(controller: Controller) -> None:
    controller.put("web/page", "two")
    done = controller.run("deploy", "--env", "none", "--build", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    moved = {line["host"]: line["detail"] for line in lines if line.get("state") == "loaded"}
    assert set(moved) == {"own", "other"} and all(" B of " in text for text in moved.values()), moved
    for host in ("h1", "h2"):
        assert controller.sh("docker exec local-web-1 cat /srv/page", host).stdout == "two"


def test_a_step_that_fails_and_an_engine_that_cannot_be_used_are_sentences(controller: Controller) -> None:
    controller.put("web/Dockerfile", f"FROM {PYTHON}\nRUN echo compiling; exit 3\n")
    done = controller.run("push", "--env", "try")
    controller.put("web/Dockerfile", DOCKERFILE)
    assert done.returncode == 1 and "this machine: web could not be built" in done.stderr
    assert "RUN echo compiling" in done.stderr and "Traceback" not in done.stderr
    done = controller.run("push", "--env", "try", before="export PATH=/nowhere")
    assert done.returncode == 1 and "this machine can't (it has no docker)" in done.stderr
    done = controller.run("push", "--env", "try", before="export DOCKER_HOST=unix:///run/nothing.sock")
    assert done.returncode == 1 and "its Docker engine doesn't answer" in done.stderr
    done = controller.run("push", "--env", "try", before="unset SSH_AUTH_SOCK")
    assert done.returncode == 1 and "SSH_AUTH_SOCK" in done.stderr


def test_a_build_ends_when_the_command_is_killed(controller: Controller) -> None:
    controller.put("web/Dockerfile", f"FROM {PYTHON}\nRUN sleep 271\n")
    controller.sh(f"{controller.script('push', '--env', 'try')} >/dev/null 2>&1 & echo $! >{HOME}/running")
    building = "pgrep -f '[s]leep 271' | wc -l; pgrep -f '[b]uildx build' | wc -l"
    _until(lambda: controller.sh(building).stdout.split()[0] != "0", 20)
    controller.sh(f"pkill -9 -P $(cat {HOME}/running); kill -9 $(cat {HOME}/running)")
    _until(lambda: controller.sh(building).stdout.split() == ["0", "0"], 20)
    controller.put("web/Dockerfile", DOCKERFILE)
    assert _results(controller.run("build", "--env", "try", "--json"))[0]["images"]


def test_an_engine_with_the_older_image_store_does_what_it_can_and_says_the_rest(
    controller: Controller,
) -> None:
    def inventory(more: str) -> None:
        root = f"build: {{buildkit: '127.0.0.1:1/none:1'{more}}}"
        lab = controller.lab
        text = INVENTORY.format(root=root, registry=lab.registry, other=lab.addresses["h2"], home=HOME)
        controller.put("inventory/old.yml", text)

    controller.put("web/Dockerfile", "FROM scratch\nCOPY . /\n")
    controller.sh("cp /etc/docker/daemon.json /run/daemon.json")
    restart = "service docker restart >/dev/null; until docker info >/dev/null 2>&1; do sleep 0.2; done"
    controller.sh(
        f"sed -i 's/\\(containerd-snapshotter.: \\)true/\\1false/' /etc/docker/daemon.json; {restart}"
    )
    try:
        inventory("")
        done = controller.run("push", "--env", "old")
        assert done.returncode == 0, done.stderr
        assert "no build cache is kept in the registry: a BuildKit container" in done.stdout
        inventory(", platforms: [linux/amd64, linux/arm64]")
        done = controller.run("push", "--env", "old")
        assert done.returncode == 1 and "older image store, and web is built for several" in done.stderr
        assert "127.0.0.1:1/none:1" in done.stderr and "`invoke bootstrap`" in done.stderr
        left = controller.sh(f"docker ps -aq; BUILDX_CONFIG={HOME}/.cache/longshore/buildx docker buildx ls")
        assert "longshore" not in left.stdout and "default" in left.stdout
    finally:
        controller.sh(f"mv /run/daemon.json /etc/docker/daemon.json; {restart}")
        controller.put("web/Dockerfile", DOCKERFILE)


def _until(true: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.3)
