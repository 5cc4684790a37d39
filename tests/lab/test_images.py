"""Building, pushing and bringing images, typed as a user types it, on a lab of its own.

h1 builds, h2 is amd64, h3 is arm64 (under QEMU).
"""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bcrypt
import pytest
from tests.lab.conftest import PATIENT, free_name, say
from tests.lab.project import Done, Project

from longshore.images.context import context_of, names
from longshore.images.registry import LISTS
from longshore.lab import Lab, LabError, registry

PYTHON = "python:3.12-slim-bookworm"
SECRET = "s3cret-token-of-the-build"
COMPOSE = """
services:
  web:
    image: {registry}/shop/web:${{TAG:-1}}
    build: web
    stop_signal: SIGKILL
  worker:
    image: {registry}/shop/worker:${{TAG:-1}}
    build: {{context: worker, target: run}}
    stop_signal: SIGKILL
"""
WEB = f"""
FROM {PYTHON}
ARG COLOUR
RUN echo "$COLOUR" >/colour
RUN --mount=type=secret,id=token wc -c </run/secrets/token >/size
COPY . /srv
CMD ["sleep", "1000000"]
"""
WORKER = f"""
FROM {PYTHON} AS run
COPY . /srv
CMD ["sleep", "1000000"]
FROM run AS never
RUN false
"""


@pytest.fixture(scope="module")
def hosts() -> Iterator[Lab]:
    """The lab, with the base image for both architectures in its registry."""
    with free_name() as name:
        lab = Lab(name, say=say)
        try:
            lab.down()
            lab.up(3, arch={"h3": "arm64"})
            lab.registry_up()
            lab.stand_in([PYTHON], platforms=["amd64", "arm64"])
            for host in ("h1", "h2", "h3"):
                lab.ssh(host, ["sh", "-c", PATIENT])
            yield lab
        except LabError as problem:
            pytest.fail(str(problem), pytrace=False)
        finally:
            lab.down()


class Shop(Project):
    """A project with two images of its own, in git."""

    def environment(
        self,
        name: str,
        *web: str,
        root: str = "",
        service: str = "",
        builders: str = "h1",
        compose: str = "compose.yml",
    ) -> None:
        """Write an inventory: the app on ``web``; ``root`` and ``service`` are lines of settings."""
        addresses = self.lab.addresses

        def listed(names: str) -> str:
            return ", ".join(f"{one}: {{ansible_host: {addresses[one]}}}" for one in names.split())

        text = f"""
all:
  vars:
{self.connection}
    longshore:
      {root}
      registries:
        docker.io: {{mirror: 'http://{self.lab.registry}', insecure: true}}
        '{self.lab.registry}': {{insecure: true}}
      apps:
        shop:
          compose: {compose}
          hosts: web
          stability: 1s
          services:
            web: {{build: {{args: {{COLOUR: blue}}, secrets: {{token: {SECRET}}}{service}}}}}
  children:
    web: {{hosts: {{{listed(" ".join(web))}}}}}
    builders: {{hosts: {{{listed(builders)}}}}}
"""
        self.write(f"inventory/{name}.yml", text)

    def commit(self) -> None:
        """Commit everything."""
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        for words in (["init", "-q", "-b", "main"], ["add", "-A"], [*identity, "commit", "-qm", "x"]):
            subprocess.run(["git", "-C", str(self.root), *words], check=True)

    def get(self, path: str) -> Any:
        """What the registry answers."""
        kinds = ", ".join(LISTS)
        request = urllib.request.Request(f"http://{self.lab.registry}/v2/{path}", headers={"Accept": kinds})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=10) as answer:
            return json.loads(answer.read()), answer.headers["Docker-Content-Digest"]

    def on(self, host: str, script: str) -> str:
        return self.lab.ssh(host, ["sh", "-c", script]).stdout.strip()


@pytest.fixture(scope="module")
def shop(hosts: Lab, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    made = Shop(tmp_path_factory.mktemp("shop"), hosts)
    made.write("compose.yml", COMPOSE.format(registry=hosts.registry))
    made.write("web/Dockerfile", WEB)
    made.write("web/.dockerignore", "*.log\n!keep.log\n")
    for name in ("page", "a.log", "keep.log"):
        made.write(f"web/{name}", name)
    made.write("worker/Dockerfile", WORKER)
    made.write("worker/job", "one")
    both = "build: {platforms: [linux/amd64, linux/arm64]}"
    made.environment("try", "h2", "h3", root=both)
    made.environment("none", "h2", root=f"{both}\n      registry: none", service=", tag: git")
    made.commit()
    return made


def result(done: Done) -> Any:
    """The last result of a run with ``--json``."""
    assert done.code == 0, done.all
    return [line["value"] for line in done.json() if line["event"] == "result"][-1]


def test_what_was_pushed_for_both_architectures_is_what_hosts_of_both_run(shop: Shop) -> None:
    built = result(shop.run("push", "--env", "try", "--json", timeout=400))["images"]
    assert [one["services"] for one in built] == [["web"], ["worker"]]
    for one in built:
        repository, tags = f"shop/{one['services'][0]}", [tag.rpartition(":")[2] for tag in one["tags"]]
        assert len(tags) == 2 and tags[0] == "1" and len(tags[1]) == 12  # as written, and the commit
        for tag in tags:
            index, digest = shop.get(f"{repository}/manifests/{tag}")
            assert digest == one["digest"]
            platforms = sorted(entry["platform"]["architecture"] for entry in index["manifests"])
            assert platforms == ["amd64", "arm64"]
        assert "cache-main" in shop.get(f"{repository}/tags/list")[0]["tags"]
    done = shop.run("deploy", "--env", "try", timeout=300)
    assert done.code == 0, done.all
    for host, machine in (("h2", "x86_64"), ("h3", "aarch64")):
        images = [one["Config"]["Image"].partition("@")[2] for one in shop.containers(host)]
        assert sorted(images) == sorted(one["digest"] for one in built)
        run = "docker exec shop-web-1 python3 -c 'import platform; print(platform.machine())'"
        assert shop.on(host, run) == machine
    shown = result(shop.run("images", "--env", "try", "--json"))["images"]
    assert [(one["service"], one["platforms"], one["hosts"]) for one in shown] == [
        (name, ["linux/amd64", "linux/arm64"], ["h2", "h3"]) for name in ("web", "worker")
    ]
    assert all(sorted(one["tags"]) == sorted(tag.rpartition(":")[2] for tag in image["tags"])
               for one, image in zip(shown, built, strict=True))  # fmt: skip


def test_the_secret_is_nowhere_but_in_the_step_that_reads_it(shop: Shop) -> None:
    assert shop.on("h2", "docker exec shop-web-1 cat /size /colour").split() == [str(len(SECRET)), "blue"]
    image = shop.on("h2", "docker inspect -f '{{.Image}}' shop-web-1")
    assert SECRET not in shop.on("h2", f"docker history --no-trunc {image}; docker inspect {image}")
    left = shop.on(
        "h1", "ls -A /var/lib/longshore/work /dev/shm; grep -rl auths /root/.docker 2>/dev/null || true"
    )
    assert left.split() == ["/dev/shm:", "/var/lib/longshore/work:"]


def test_the_context_is_what_dockerignore_leaves_of_it(shop: Shop) -> None:
    assert shop.on("h2", "docker exec shop-web-1 ls -A /srv").split() == [
        ".dockerignore", "Dockerfile", "keep.log", "page",
    ]  # fmt: skip


def test_docker_itself_would_have_sent_the_same(shop: Shop, tmp_path: Path) -> None:
    patterns = "**/*.pyc\ndocs\n!docs/api/*.md\n/top\nsub/[ab]*\n!sub/abc\n**/tmp/**\n*.t?t\n#x\n !spaced\n"
    files = """
    a.pyc d/e/f.pyc docs/x docs/api/k.md docs/api/k.txt docs/api/in/k.md top in/top sub/a1 sub/abc sub/c1
    p/tmp/x/y p/tmp2/y z.txt q/z.txt spaced #x
    """.split()  # noqa: SIM905
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / ".dockerignore").write_text(patterns)
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    packed = subprocess.run(
        ["tar", "-C", str(tmp_path), "-cf", "-", "."], capture_output=True, check=True
    ).stdout
    shop.lab.ssh(
        "h1", ["sh", "-c", "rm -rf /srv/same && mkdir -p /srv/same && tar -C /srv/same -xf -"], stdin=packed
    )
    shop.on("h1", "docker buildx build -q -o type=local,dest=/srv/same-out /srv/same")
    docker = sorted(shop.on("h1", "cd /srv/same-out && find . -mindepth 1 | cut -c3-").splitlines())
    ours = sorted(name for name, _ in names(context_of(tmp_path, tmp_path / "Dockerfile")))
    assert ours == docker


def test_a_change_of_code_builds_only_what_comes_after_it_and_deploys_just_that(shop: Shop) -> None:
    shop.write("web/page", "changed")
    done = shop.run("deploy", "--env", "try", "--limit", "h2", "--build", "--json", timeout=300)
    assert done.code == 0, done.all
    values = [line["value"] for line in done.json() if line["event"] == "result"]
    web, worker = values[0]["images"]
    assert (web["cached"], web["instructions"]) == (4, 6)  # of each architecture all but the COPY
    assert (worker["cached"], worker["instructions"]) == (2, 2)
    copies = [step for step in web["steps"] if "COPY" in step["step"]]
    assert len(copies) == 2 and all(step["seconds"] < 5 for step in copies)
    assert web["tags"][1].endswith("-dirty")
    assert shop.on("h2", "docker exec shop-web-1 cat /srv/page") == "changed"
    assert shop.on("h3", "docker exec shop-web-1 cat /srv/page") == "page"


def test_a_build_that_fails_shows_its_step_and_changes_nothing(shop: Shop) -> None:
    before = [shop.get(f"shop/{name}/manifests/1")[1] for name in ("web", "worker")]
    shop.write("web/page", "third")
    shop.write(
        "worker/Dockerfile", WORKER.replace("AS run", "AS run\nRUN echo compiling; echo no header; exit 3")
    )
    done = shop.run("push", "--env", "try", timeout=300)
    shop.write("worker/Dockerfile", WORKER)
    assert done.code == 1
    assert "worker could not be built" in done.err and "RUN echo compiling" in done.err
    assert "| no header" in done.err and "Traceback" not in done.all and SECRET not in done.all
    assert [shop.get(f"shop/{name}/manifests/1")[1] for name in ("web", "worker")] == before


def test_an_image_for_another_architecture_is_refused_before_a_host_is_touched(shop: Shop) -> None:
    shop.environment("amd", "h3", root="build: {platforms: linux/amd64}")
    shop.write("env/amd.env", "TAG=amd\n").chmod(0o600)
    history = shop.on("h3", "cat /var/lib/longshore/shop/history.jsonl; ls /var/lib/longshore/shop/releases")
    done = shop.run("deploy", "--env", "amd", "--build", timeout=300)
    assert done.code == 1
    assert "is built for linux/amd64, and this host is linux/arm64" in done.err
    assert (
        shop.on("h3", "cat /var/lib/longshore/shop/history.jsonl; ls /var/lib/longshore/shop/releases")
        == history
    )


def test_without_a_registry_a_host_is_sent_only_the_layers_that_it_lacks(shop: Shop) -> None:
    # Of the base, h2 has every layer from the deploys before; of what is built, none.
    received = "cat /sys/class/net/eth0/statistics/rx_bytes"
    shop.write("web/blob", "x" * 1000)
    before = int(shop.on("h2", received))
    done = shop.run("push", "--env", "none", "--json", timeout=300)
    assert done.code == 0, done.all
    spent = int(shop.on("h2", received)) - before
    moved = [line["detail"] for line in done.json() if line["event"] == "step" and line["state"] == "loaded"]
    assert len(moved) == 2 and all(" of " in text for text in moved)
    whole = int(
        shop.on("h2", f"docker image inspect -f '{{{{.Size}}}}' {PYTHON} 2>/dev/null || echo 40000000")
    )
    assert spent < whole / 20, (spent, whole, moved)
    again = shop.run("push", "--env", "none", "--json", timeout=300)
    assert again.code == 0 and not [line for line in again.json() if line.get("state") == "loaded"]


def test_a_push_to_a_registry_that_is_down_or_has_no_address_is_a_sentence(shop: Shop) -> None:
    shop.write("compose-down.yml", COMPOSE.format(registry="127.0.0.1:1").split("  worker:")[0])
    text = (shop.root / "inventory" / "amd.yml").read_text().replace("compose.yml", "compose-down.yml")
    shop.write("inventory/down.yml", text)
    done = shop.run("push", "--env", "down", "--json", timeout=300)
    assert done.code == 1
    (error,) = [line for line in done.json() if line["event"] == "error"]
    assert error["code"] == "registry-down" and "run it again" in error["hint"]


def test_builders_of_each_architecture_make_one_image_together(shop: Shop) -> None:
    shop.environment("both", "h2", root="build: {platforms: [linux/amd64, linux/arm64]}", builders="h1 h3")
    shop.write("env/both.env", "TAG=both\n").chmod(0o600)
    built = result(shop.run("push", "--env", "both", "--service", "worker", "--json", timeout=400))["images"]
    assert {step["builder"] for step in built[0]["steps"]} == {"h1", "h3"}
    index, digest = shop.get("shop/worker/manifests/both")
    assert digest == built[0]["digest"]
    assert sorted(entry["platform"]["architecture"] for entry in index["manifests"]) == ["amd64", "arm64"]


STACKED = """
services:
  base:
    build: {{context: base, args: [WORD={word}]}}
    profiles: [never]
  web:
    image: {registry}/shop/stacked:1
    build: {{context: top, additional_contexts: {{ground: 'service:base'}}}}
    stop_signal: SIGKILL
"""


def test_an_image_is_built_from_another_services_image_for_each_architecture(shop: Shop) -> None:
    """``base`` runs nowhere and has no name: only what is built from it leaves the builders."""
    shop.write("base/Dockerfile", f"FROM {PYTHON}\nARG WORD\nRUN echo $WORD $(uname -m) >/ground\n")
    top = 'FROM ground\nCOPY --from=ground /ground /copied\nCMD ["sleep", "1000000"]\n'
    shop.write("top/Dockerfile", top)
    both = "build: {platforms: [linux/amd64, linux/arm64]}"
    # Two builders, each with a part of it; and one for all, without a registry.
    ways = (("parts", both, "h1 h3"), ("moved", f"{both}\n      registry: none", "h1"))
    for name, root, builders in ways:
        shop.environment(name, "h2", "h3", root=root, builders=builders, compose="stacked.yml")
        shop.write("stacked.yml", STACKED.format(registry=shop.lab.registry, word=name))
        done = shop.run("deploy", "--env", name, "--build", "--json", timeout=400)
        assert done.code == 0, done.all
        (image,) = next(line["value"]["images"] for line in done.json() if line["event"] == "result")
        assert {step["builder"] for step in image["steps"]} == set(builders.split())
        for host, machine in (("h2", "x86_64"), ("h3", "aarch64")):
            (container,) = shop.containers(host)
            assert container["Config"]["Image"].endswith(image["digest"])
            files = shop.on(host, "docker exec shop-web-1 cat /ground /copied").splitlines()
            assert files == [f"{name} {machine}"] * 2
    shop.write("base/Dockerfile", f"FROM {PYTHON}\nRUN echo no ground; exit 4\n")
    done = shop.run("build", "--env", "parts", timeout=300)
    assert done.code == 1 and "base (context) could not be built" in done.err and "| no ground" in done.err


@pytest.fixture
def private(hosts: Lab, tmp_path: Path) -> Iterator[str]:
    """A registry with TLS of its own authority, for ann with the password ``practice-pw``. Its name."""
    address = f"{hosts.registry.partition(':')[0]}:5443"
    key, ca = tmp_path / "key.pem", tmp_path / "ca.pem"
    files = ["-keyout", str(key), "-out", str(ca)]
    subject = ["-subj", "/CN=practice", "-addext", f"subjectAltName=IP:{address.partition(':')[0]}"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject, *files],
        capture_output=True,
        check=True,
    )
    hashed = bcrypt.hashpw(b"practice-pw", bcrypt.gensalt(4)).decode()
    (tmp_path / "users").write_text(f"ann:{hashed}\n")
    (tmp_path / "config.yml").write_text(
        "version: 0.1\nlog: {level: error}\n"
        f"storage: {{filesystem: {{rootdirectory: {tmp_path}/content}}}}\n"
        f"auth: {{htpasswd: {{realm: practice, path: {tmp_path}/users}}}}\n"
        f"http: {{addr: '{address}', tls: {{certificate: {ca}, key: {key}}}}}\n"
    )
    program = registry.program(hosts.place.cache, say)
    running = subprocess.Popen([str(program), "serve", str(tmp_path / "config.yml")])
    try:
        yield address
    finally:
        running.kill()
        running.wait()


def test_a_private_registry_is_trusted_by_its_authority_and_takes_only_the_right_login(
    shop: Shop, private: str, tmp_path: Path
) -> None:
    shop.write("certs/registry.pem", (tmp_path / "ca.pem").read_text())
    shop.write("compose-private.yml", COMPOSE.format(registry=private).split("  worker:")[0])
    shop.environment("private", "h2", root="build: {platforms: linux/amd64}")
    file = shop.root / "inventory" / "private.yml"
    login = f"'{private}': {{ca: certs/registry.pem, username: ann, password: PASSWORD}}"
    text = file.read_text().replace("compose.yml", "compose-private.yml")
    text = text.replace("      registries:\n", f"      registries:\n        {login}\n")

    file.write_text(text.replace("PASSWORD", "practice-pw"))
    done = shop.run("push", "--env", "private", "--json", timeout=300)
    (error,) = [line for line in done.json() if line["event"] == "error"]
    assert error["code"] == "certificate" and "invoke bootstrap" in error["hint"]

    done = shop.run("bootstrap", "--env", "private", timeout=300)
    assert done.code == 0 and f"trust the certificate authority of {private}" in done.out, done.all

    file.write_text(text.replace("PASSWORD", "wrong-password"))
    done = shop.run("push", "--env", "private", "--json", timeout=300)
    (error,) = [line for line in done.json() if line["event"] == "error"]
    assert error["code"] == "login" and "wrong-password" not in done.all

    file.write_text(text.replace("PASSWORD", "practice-pw"))
    built = result(shop.run("push", "--env", "private", "--json", timeout=300))["images"]
    done = shop.run("deploy", "--env", "private", timeout=300)
    assert done.code == 0, done.all
    (container,) = shop.containers("h2")
    assert container["Config"]["Image"] == f"{private}/shop/web@{built[0]['digest']}"
    for host in ("h1", "h2"):
        found = shop.on(
            host, "grep -rlE 'practice-pw|YW5uOnByYWN0aWNlLXB3' /root /var/lib/longshore /tmp || true"
        )
        assert found == ""
