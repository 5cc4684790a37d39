"""Registries, lines and mirrors in trouble while images are built, pushed and pulled, as a user meets it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bcrypt
import pytest
from tests.lab.conftest import clean
from tests.lab.project import PYTHON, Done, Project
from tests.lab.registries import Base, Index, Line, Registry

from longshore.dockerfile.render import render
from longshore.inventory.dockerfiles import DockerfilePolicy, HealthRequest
from longshore.lab import Lab
from longshore.lab import registry as labs
from longshore.lab.commands import wait_until

MB = 1_000_000
REDIS = "redis:7"
COMPOSE = """
services:
  web:
    image: {image}
    stop_signal: SIGKILL
"""
HOSTS = ("h1", "h2")


class Trouble(Project):
    """The project, a registry behind a line, and a mirror of Docker Hub with an upstream of its own."""

    registry: Registry
    line: Line
    hub: Registry
    mirror: Registry
    private: Registry
    small: Registry
    """On a disk of 12 MB."""
    base: Base

    def environment(self, name: str, image: str, root: str = "", private: str = "") -> None:
        """Write an environment whose app is ``image``; ``root`` is a line of settings, ``private`` are
        settings of the private registry."""
        web = ", ".join(f"{one}: {{ansible_host: {self.lab.addresses[one]}}}" for one in HOSTS)
        text = f"""
all:
  vars:
{self.connection}
    longshore:
      {root}
      registries:
        docker.io: {{mirror: 'http://{self.mirror.address}', insecure: true}}
        '{self.line.address}': {{insecure: true}}
        '{self.small.address}': {{insecure: true}}
        '{self.private.address}': {{insecure: true{private}}}
      apps:
        shop: {{compose: {name}.yml, hosts: web, stability: 200ms}}
  children:
    web: {{hosts: {{{web}}}}}
    builders: {{hosts: {{h1: {{ansible_host: {self.lab.addresses["h1"]}}}}}}}
"""
        self.write(f"inventory/{name}.yml", text)
        self.write(f"{name}.yml", COMPOSE.format(image=image))

    def running(self) -> list[str]:
        """The image and container of every host."""
        return [f"{one['Id']} {one['Config']['Image']}" for host in HOSTS for one in self.containers(host)]

    def meanwhile(self, *words: str) -> subprocess.Popen[str]:
        """``longshore WORDS --json``, while something else is done."""
        return subprocess.Popen(
            [sys.executable, "-c", "from longshore.tasks import main; main()", *words, "--json"],
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def on(self, host: str, script: str) -> str:
        return self.lab.ssh(host, ["sh", "-c", script]).stdout.strip()


@pytest.fixture(autouse=True)
def mended(trouble: Trouble) -> None:
    """What one test broke is no trouble of the next."""
    trouble.line.mend()


@pytest.fixture(scope="module")
def trouble(
    lab: Lab, stand_ins: Callable[..., None], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Trouble]:
    stand_ins(REDIS, PYTHON)
    clean(lab, *HOSTS)
    root = tmp_path_factory.mktemp("trouble")
    made = Trouble(root / "project", lab)
    bridge, _, port = lab.registry.partition(":")
    inside = f"127.{bridge.split('.', 1)[1]}"  # of this lab alone: others may run these tests, too
    program = labs.program(lab.place.cache, print)

    def registry(name: str, number: int, host: str = bridge, upstream: str = "") -> Registry:
        if not upstream:
            content = lab.place.home / "registry/content"
            labs.copy_content(content, root / name / "content", ["library/redis", "library/python"])
        return Registry(program, root / name, f"{host}:{int(port) + number}", upstream=upstream)

    made.base = Base(lab.registry, f"library/{REDIS}")
    made.registry = registry("registry", 51, inside)
    made.hub = registry("hub", 52, inside)
    made.mirror = registry("mirror", 53, upstream=f"http://{made.hub.address}")
    made.private = registry("private", 54)
    small = root / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "small", str(small)], check=True)
    made.small = Registry(program, small, f"{bridge}:{int(port) + 55}")
    before = made.on("h1", "cat /etc/docker/daemon.json")
    try:
        with Line(bridge, made.registry.address) as made.line:
            made.environment("boot", REDIS)
            done = made.run("bootstrap", "--env", "boot")
            assert done.code == 0, done.all
            yield made
    finally:
        for host in HOSTS:
            script = "cat >/etc/docker/daemon.json && kill -HUP $(pidof dockerd)"
            lab.ssh(host, ["sh", "-c", script], stdin=before.encode())
        for one in (made.registry, made.hub, made.mirror, made.private, made.small):
            one.stop()
        subprocess.run(["umount", str(small)], check=True)


def failed_on(done: Done) -> list[dict[str, Any]]:
    """The errors of a run with ``--json``."""
    assert done.code == 1 and "Traceback" not in done.all, done.all
    return [line for line in done.json() if line["event"] == "error"]


def failed(done: Done) -> dict[str, Any]:
    """The one error of a run with ``--json``."""
    (error,) = failed_on(done)
    return error


def ended(run: subprocess.Popen[str]) -> Done:
    """How a run of ``meanwhile`` ended."""
    out, err = run.communicate(timeout=120)
    return Done(run.returncode, out, err)


def order(done: Done) -> list[str]:
    """Which hosts pulled, by the steps of a deploy: ``h1 h2`` when one began after the other had ended."""
    assert done.code == 0, done.all
    steps = [line for line in done.json() if line["event"] == "step"]
    hosts = [line["host"] for line in steps if line["state"] in ("staging", "pulling")]
    return [one for at, one in enumerate(hosts) if at == 0 or hosts[at - 1] != one]


def wait(true: Callable[[], bool]) -> None:
    """Wait for what is under way."""
    assert wait_until(true, timeout=60, pause=0.02)


# Pulling


def test_with_a_mirror_one_host_pulls_first_and_the_others_need_nothing_of_upstream(
    trouble: Trouble,
) -> None:
    asked = []
    for number, limit in enumerate((["--limit", "h1"], []), start=1):
        layers = dict(trouble.hub.put_image(f"library/first:{number}", trouble.base, 4 * MB, 6 * MB))
        trouble.environment("first", f"first:{number}")
        upstream, mirror = trouble.hub.mark(), trouble.mirror.mark()
        done = trouble.run("deploy", "--env", "first", "--json", *limit)
        hosts = order(done)
        given = Counter(digest for digest, _ in trouble.mirror.fetched(mirror))
        assert [given[layer] for layer in layers] == [len(hosts)] * 2
        asked.append(
            [dict(Counter(digest for digest, _ in trouble.hub.fetched(upstream)))[layer] for layer in layers]
        )
    assert len(hosts) == 2  # the second began when the first had ended
    # docker-registry asks for a layer twice, to pass it on and to keep it: as often for two hosts as for one.
    assert asked[1] == asked[0]


def test_pulls_is_how_many_hosts_pull_at_once(trouble: Trouble) -> None:
    trouble.line.mend(rate=8 * MB)
    for pulls in (1, 2):
        trouble.registry.put_image(f"library/turns:{pulls}", trouble.base, 6 * MB)
        trouble.environment("turns", f"{trouble.line.address}/library/turns:{pulls}", root=f"pulls: {pulls}")
        done = trouble.run("deploy", "--env", "turns", "--json")
        assert (len(order(done)) == 2) == (pulls == 1), order(done)


@pytest.fixture
def older(trouble: Trouble) -> Iterator[str]:
    """A host whose engine has the older image store, and the base in it."""
    host = "h2"
    clean(trouble.lab, host)

    def restart(settings: str) -> None:
        script = (
            "cat >/etc/docker/daemon.json && service docker restart && until docker info; do sleep 0.1; done"
        )
        trouble.lab.ssh(host, ["sh", "-c", script], stdin=settings.encode())

    before = trouble.on(host, "cat /etc/docker/daemon.json")
    restart(json.dumps({**json.loads(before), "features": {"containerd-snapshotter": False}}))
    try:
        trouble.on(host, f"docker pull -q {trouble.line.address}/library/{REDIS}")
        yield host
    finally:
        clean(trouble.lab, host)
        restart(before)


@pytest.fixture
def newer(trouble: Trouble) -> str:
    """A host whose engine has the containerd image store, and the base in it."""
    trouble.on("h1", f"docker pull -q {trouble.line.address}/library/{REDIS}")
    return "h1"


STRANGER = """
import os, urllib.error, urllib.request as u
os.setuid(65534)
answers = []
for line in open("/proc/net/tcp").readlines()[1:]:
    place, state = line.split()[1], line.split()[3]
    if state == "0A" and place.startswith("0100007F:"):
        port = int(place[9:], 16)
        for name in ("longshore-relay-" + "0" * 32, "library/cut", ""):
            for what in WANTED:
                try:
                    answers.append(u.urlopen(f"http://127.0.0.1:{port}/v2/{name}/{what}", timeout=5).status)
                except urllib.error.HTTPError as error:
                    answers.append(error.code)
                except Exception:
                    pass  # somebody else's, which speaks no HTTP
print(*answers)
"""
"""What a process that knows no secret, and is nobody, gets of WANTED at whatever listens on loopback."""


@pytest.mark.parametrize("store", ["older", "newer"])
def test_a_deploy_goes_on_by_itself_after_each_outage_and_fetches_nothing_twice(
    trouble: Trouble, request: pytest.FixtureRequest, store: str
) -> None:
    host: str = request.getfixturevalue(store)
    small, large = trouble.registry.put_image(
        f"library/cut:{store}", trouble.base, 1 * MB, 24 * MB, listed=True
    )
    trouble.environment("cut", f"{trouble.line.address}/library/cut:{store}")
    mark, passed = trouble.registry.mark(), trouble.line.passed
    trouble.line.mend(rate=8 * MB)
    run = trouble.meanwhile("deploy", "--env", "cut", "--limit", host)
    for number, size in enumerate((12 * MB, 18 * MB)):
        wait(lambda size=size: trouble.line.passed - passed > size or run.poll() is not None)  # type: ignore[misc]
        trouble.line.cut()
        time.sleep(3)
        if number:
            wanted = [f"blobs/{large[0]}", f"manifests/{store}"]
            told = trouble.on(host, f"python3 - <<'EOF'\nWANTED = {wanted!r}{STRANGER}\nEOF")
            assert set(told.split()) == {"404"}
        trouble.line.mend(rate=8 * MB)
    done = ended(run)
    assert done.code == 0, done.all

    # What came to the host is the image, once; and its manifests a few times.
    assert trouble.line.passed - passed < small[1] + large[1] + MB // 2
    came = Counter[str]()

    def is_told() -> bool:
        came.clear()
        for digest, size in trouble.registry.fetched(mark):
            came[digest] += size
        return came[large[0]] >= large[1]

    wait(is_told)  # a request whose line broke is written down when the registry notices
    assert came[small[0]] == small[1]
    # The registry also counts what was on its way when the line broke.
    assert large[1] <= came[large[0]] < large[1] + 2 * 4 * MB, trouble.registry.fetched(mark)

    (container,) = trouble.containers(host)
    assert container["State"]["Running"] and container["Config"]["Image"].startswith(trouble.line.address)
    assert "longshore-relay" not in trouble.on(host, "docker images --digests")


def test_a_pull_whose_agent_is_killed_switches_nothing_and_the_next_one_goes_on_from_there(
    trouble: Trouble, newer: str
) -> None:
    image = f"{trouble.line.address}/library/broken"
    trouble.registry.put_image("library/broken:1", trouble.base, 1000)
    trouble.environment("broken", f"{image}:1")
    done = trouble.run("deploy", "--env", "broken", "--limit", newer)
    assert done.code == 0, done.all
    before = trouble.running()
    layers = trouble.registry.put_image("library/broken:2", trouble.base, 2 * MB, 20 * MB)
    trouble.environment("broken", f"{image}:2")
    passed = trouble.line.passed
    trouble.line.mend(rate=8 * MB)
    run = trouble.meanwhile("deploy", "--env", "broken", "--limit", newer)
    wait(lambda: trouble.line.passed - passed > 12 * MB)
    trouble.on(newer, "pkill -9 -f '[p]ython3 -I -S'")
    error = failed(ended(run))
    assert error["where"] == newer and "the agent ended" in error["message"]
    assert trouble.running() == before
    trouble.line.mend()
    mark = trouble.registry.mark()
    done = trouble.run("deploy", "--env", "broken", "--limit", newer, "--json")
    assert done.code == 0, done.all
    (large, size) = layers[1]
    (rest,) = [(digest, came) for digest, came in trouble.registry.fetched(mark) if digest in dict(layers)]
    assert rest[0] == large and rest[1] < size - 4 * MB


def test_at_a_deploy_a_registry_that_is_down_or_refuses_the_login_is_a_sentence(
    trouble: Trouble, tmp_path: Path
) -> None:
    before = trouble.running()
    trouble.line.cut()
    trouble.environment("down", f"{trouble.line.address}/library/down:1")
    for error in failed_on(trouble.run("deploy", "--env", "down", "--json")):
        assert error["code"] == "registry-down"
    trouble.line.mend()
    hashed = bcrypt.hashpw(b"practice-pw", bcrypt.gensalt(4)).decode()
    (tmp_path / "users").write_text(f"ann:{hashed}\n")
    trouble.private.put_image("library/secret:1", trouble.base, 1000)
    trouble.private.stop()
    trouble.private.start(tmp_path / "users")
    for login in ("", ", username: ann, password: wrong-password"):
        trouble.environment("login", f"{trouble.private.address}/library/secret:1", private=login)
        done = trouble.run("deploy", "--env", "login", "--json")
        assert "wrong-password" not in done.all
        assert all(error["code"] == "login" for error in failed_on(done))
    assert trouble.running() == before


# Pushing


def test_a_push_that_breaks_half_way_is_repeated_with_only_what_was_missing(trouble: Trouble) -> None:
    trouble.line.mend()
    image = f"{trouble.line.address}/shop/pushed:1"
    trouble.environment("pushed", image)
    trouble.write("pushed.yml", COMPOSE.format(image=image) + "    build: {context: pushed}\n")
    trouble.write("pushed/Dockerfile", 'FROM scratch\nCOPY small /\nCOPY large /\nCMD ["/x"]\n')
    for name, size in (("small", 1000), ("large", 1000)):
        (trouble.root / "pushed" / name).write_bytes(os.urandom(size))
    done = trouble.run("push", "--env", "pushed")
    assert done.code == 0, done.all
    tags = trouble.registry.tags("shop/pushed")
    digest = trouble.registry.get("shop/pushed/manifests/1")[1]

    for name, size in (("small", 1 * MB), ("large", 16 * MB)):
        (trouble.root / "pushed" / name).write_bytes(os.urandom(size))
    mark, passed = trouble.registry.mark(), trouble.line.passed
    trouble.line.mend(rate=6 * MB)
    run = trouble.meanwhile("push", "--env", "pushed")
    wait(lambda: trouble.line.passed - passed > 7 * MB)
    trouble.line.cut()
    done = ended(run)
    error = failed(done)
    assert error["code"] == "registry-down", error
    assert trouble.registry.tags("shop/pushed") == tags
    assert trouble.registry.get("shop/pushed/manifests/1")[1] == digest
    first = trouble.registry.uploaded(mark)

    mark = trouble.registry.mark()
    trouble.line.mend()
    done = trouble.run("push", "--env", "pushed")
    assert done.code == 0, done.all
    manifest, now = trouble.registry.get("shop/pushed/manifests/1")
    if "manifests" in manifest:
        manifest = trouble.registry.get(f"shop/pushed/manifests/{manifest['manifests'][0]['digest']}")[0]
    small, large = (layer["digest"] for layer in manifest["layers"])
    assert now != digest
    assert small in first and large not in first
    second = trouble.registry.uploaded(mark)
    assert large in second and small not in second


def test_a_registry_without_space_is_a_sentence_and_no_tag_has_changed(trouble: Trouble) -> None:
    image = f"{trouble.small.address}/shop/full:1"
    trouble.environment("full", image)
    trouble.write("full.yml", COMPOSE.format(image=image) + "    build: {context: full}\n")
    trouble.write("full/Dockerfile", 'FROM scratch\nCOPY large /\nCMD ["/x"]\n')
    (trouble.root / "full" / "large").write_bytes(os.urandom(14 * MB))
    error = failed(trouble.run("push", "--env", "full", "--json"))
    assert error["code"] == "no-space", error
    assert error["message"] == "web could not be pushed: the registry has no space left"
    assert trouble.small.tags("shop/full") == []


# Building


@pytest.fixture
def index(trouble: Trouble) -> Iterator[Index]:
    with Index(trouble.lab.registry.partition(":")[0]) as made:
        yield made


@pytest.mark.parametrize(
    ("how", "fetched"), [("kept", {"two"}), ("plain", {"one", "two"})], ids=["as PyPI", "without headers"]
)
def test_what_pip_has_is_used_again_when_the_index_says_that_it_may_be_kept(
    trouble: Trouble, index: Index, how: str, fetched: set[str]
) -> None:
    trouble.environment("pip", f"{trouble.line.address}/shop/pip:1")
    text = COMPOSE.format(image=f"{trouble.line.address}/shop/pip:1") + "    build: {context: pip}\n"
    trouble.write("pip.yml", text)
    policy = DockerfilePolicy(shape="single-stage", image=PYTHON, health=HealthRequest(none=True))
    made = render(policy, service="web", environment="pip", root=trouble.root)
    trouble.write("pip/Dockerfile", made.dockerfile)
    source = f"--index-url http://{index.address}/{how}/simple/\n--trusted-host {index.address}\n"
    for number, names in enumerate((["one"], ["one", "two"])):
        index.files.clear()
        lines = "".join(f"tiny-{name}-{how}==1.0\n" for name in names)
        trouble.write("pip/requirements.txt", source + lines)
        done = trouble.run("build", "--env", "pip")
        assert done.code == 0, done.all
        wanted = fetched if number else {"one"}
        assert set(index.files) == {f"tiny_{name}_{how}-1.0-py3-none-any.whl" for name in wanted}


def test_several_services_are_built_at_once_as_many_as_there_are_cores(
    trouble: Trouble, index: Index
) -> None:
    names = ("one", "two", "three")
    say = "python3 -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1])'"
    for name in names:
        place = f"http://{index.address}"
        script = f"{say} {place}/begin/{name}; sleep 1; {say} {place}/end/{name}"
        trouble.write(f"{name}/Dockerfile", f"FROM {PYTHON}\nARG AGAIN\nRUN {script}\nCOPY Dockerfile /\n")
    cores = int(trouble.on("h1", "nproc"))
    for parallel, most in ((0, min(3, cores)), (1, 1)):
        trouble.environment("three", "", root=f"build: {{parallel: {parallel}}}" if parallel else "")
        # Another ARG each time, so that the steps are made anew.
        services = [
            f"  {name}:\n    image: {trouble.line.address}/shop/{name}:1\n"
            f"    build: {{context: {name}, args: {{AGAIN: '{parallel}'}}}}\n"
            for name in names
        ]
        trouble.write("three.yml", "services:\n" + "".join(services))
        index.most = 0
        done = trouble.run("build", "--env", "three", "--json")
        assert done.code == 0, done.all
        told = {line["host"] for line in done.json() if line["event"] == "step" and "RUN" in line["detail"]}
        assert told == set(names) and index.most == most


SCANNER = """
echo '{"_type": "https://in-toto.io/Statement/v0.1", "predicateType": "https://spdx.dev/Document",
"predicate": {"spdxVersion": "SPDX-2.3", "name": "practice"}}' \\
>"$BUILDKIT_SCAN_DESTINATION/practice.spdx.json"
"""


def test_what_was_attached_to_an_image_is_in_the_registry_and_in_nobodys_way(trouble: Trouble) -> None:
    trouble.hub.put_image("docker/buildkit-syft-scanner:stable-1", trouble.base, script=SCANNER)
    image = f"{trouble.line.address}/shop/attested:1"
    trouble.environment("attested", image)
    trouble.write("attested.yml", COMPOSE.format(image=image) + "    build: {context: attested}\n")
    trouble.write("attested/Dockerfile", f'FROM {REDIS}\nENTRYPOINT []\nCMD ["sleep", "1000000"]\n')
    done = trouble.run("push", "--env", "attested", "--sbom", "--provenance")
    assert done.code == 0, done.all
    document, digest = trouble.registry.get("shop/attested/manifests/1")
    kinds = [entry["platform"]["architecture"] for entry in document["manifests"]]
    assert kinds == ["amd64", "unknown"]
    attached = trouble.registry.get(f"shop/attested/manifests/{document['manifests'][1]['digest']}")[0]
    found = {layer["annotations"]["in-toto.io/predicate-type"] for layer in attached["layers"]}
    assert {"https://spdx.dev/Document"} < found and any("provenance" in one for one in found)

    done = trouble.run("deploy", "--env", "attested")
    assert done.code == 0, done.all
    assert [one.partition(" ")[2] for one in trouble.running()] == [f"{image[:-2]}@{digest}"] * 2
    done = trouble.run("images", "--env", "attested", "--json")
    (value,) = [line["value"] for line in done.json() if line["event"] == "result"]
    (shown,) = value["images"]
    assert (shown["digest"], shown["platforms"], shown["hosts"]) == (digest, ["linux/amd64"], list(HOSTS))
