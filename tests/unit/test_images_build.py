"""What is built, where, and what is made of what buildx says."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from longshore.agent import building as agent_building
from longshore.agent import contexts, pulling
from longshore.agent.dockerconfig import environment_of
from longshore.agent.fail import Refusal
from longshore.agent.work import Work
from longshore.errors import LongshoreError, RenderError
from longshore.images.build import Building
from longshore.images.builders import HERE, Builder, share_out
from longshore.images.failures import failure, without_space
from longshore.images.login import Login, auths, logins
from longshore.images.progress import Progress
from longshore.images.spec import BuildSpec, Git, cache_tag, specs
from longshore.inventory import load
from longshore.inventory.model import Environment, Registry
from longshore.render import Renderer

COMPOSE = """
services:
  api:
    image: r.test/shop/api:1
    build: ./api
  worker:
    image: r.test/shop/api:1
    build: {context: api}
  web:
    image: r.test/shop/web
    build:
      context: .
      dockerfile: web/Dockerfile
      target: run
      args: [VERSION=2, COLOUR, GONE]
      secrets: [token, {source: cert, target: ca}]
      platforms: [linux/amd64]
      extra_hosts: ["a=10.0.0.1"]
  db:
    image: postgres:15
secrets:
  token: {environment: TOKEN}
  cert: {file: ./ca.pem}
"""
INVENTORY = """
all:
  hosts: {h1: , h2: }
  vars:
    longshore:
      build: {platforms: [linux/amd64, linux/arm64]}
      apps:
        shop:
          compose: compose.yml
          env: {COLOUR: blue, TOKEN: s3cret}
          services: SERVICES
"""


@pytest.fixture
def project(tmp_path: Path) -> Callable[..., tuple[BuildSpec, ...]]:
    (tmp_path / "inventory").mkdir()
    for folder in ("api", "web"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "Dockerfile").write_text(f"FROM scratch\n# {folder}\n")
    (tmp_path / "ca.pem").write_text("a certificate")

    def read(services: str = "{}", *, compose: str = COMPOSE, commit: str = "abc") -> tuple[BuildSpec, ...]:
        (tmp_path / "compose.yml").write_text(compose)
        (tmp_path / "inventory" / "try.yml").write_text(INVENTORY.replace("SERVICES", services))
        environment = load(tmp_path, "try")
        git = Git(commit, "main", "main")
        return specs(environment.targets.values(), Renderer(), environment.build, git)

    return read


def test_the_string_form_is_a_context_and_one_image_of_two_services_is_built_once(project: Any) -> None:
    api, web = project()
    assert api.services == ("api", "worker") and web.services == ("web",)
    assert api.context.name == "api" and api.text == "FROM scratch\n# api\n"
    assert api.tags == ("r.test/shop/api:1", "r.test/shop/api:abc")
    assert api.platforms == ("linux/amd64", "linux/arm64")


def test_every_key_of_a_build_section_arrives(project: Any) -> None:
    web = project()[1]
    assert (web.target, web.platforms, web.text) == ("run", ("linux/amd64",), "FROM scratch\n# web\n")
    assert web.args == {"VERSION": "2", "COLOUR": "blue"}  # a key alone is .env's; without one it is left out
    assert web.secrets == {"token": "s3cret", "ca": "a certificate"}
    assert web.options == {"hosts": ["a:10.0.0.1"]}
    assert web.tags[0] == "r.test/shop/web:latest"


def test_a_secret_of_a_build_may_be_a_file_outside_the_project(
    project: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "ca.pem").write_text("mine")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for written in ("~/ca.pem", f"{tmp_path}/home/ca.pem"):
        web = project(compose=COMPOSE.replace("./ca.pem", written))[1]
        assert web.secrets["ca"] == "mine"


def test_further_contexts_limits_keys_and_rights_arrive(project: Any, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("k")
    keys = (
        "additional_contexts: [more=./api, base=docker-image://r.test/base:1, site=https://x.test/a.git]\n"
        "      ssh: [default, own=./key.pem]\n"
        "      ulimits: {nofile: {soft: 10, hard: 20}, nproc: 5}\n"
        "      entitlements: [network.host]\n      privileged: true\n      isolation: default\n"
        "      target: run"
    )
    web = project(compose=COMPOSE.replace("target: run", keys))[1]
    assert web.contexts == {
        "more": tmp_path / "api", "base": "docker-image://r.test/base:1", "site": "https://x.test/a.git",
    }  # fmt: skip
    assert web.ssh == ("default", f"own={tmp_path}/key.pem")
    assert web.options["ulimits"] == ["nofile=10:20", "nproc=5:5"]
    assert web.options["allow"] == ["network.host", "security.insecure"]


def test_further_contexts_limits_keys_and_rights_are_said_to_buildx(tmp_path: Path) -> None:
    one = {
        "context": "c.tar",
        "dockerfile": "FROM x\n",
        "folders": {"more": "m.tar"},
        "contexts": {"base": "docker-image://r.test/base:1"},
        "ulimits": ["nofile=10:20"],
        "allow": ["network.host"],
        "ssh": ["default"],
        "builder": "longshore",
        "output": "image",
        "platforms": ["linux/amd64", "linux/arm64"],
    }
    where = {"c.tar": "/c", "m.tar": "/m"}
    argv, _ = agent_building._command(one, where, str(tmp_path), "/s", "/metadata")
    assert {
        "--build-context=more=/m", "--build-context=base=docker-image://r.test/base:1",
        "--ulimit=nofile=10:20", "--allow=network.host", "--ssh=default", "--builder=longshore",
        "--output=type=cacheonly",
    } <= set(argv)  # fmt: skip
    # The older store holds one platform, and takes that.
    argv, _ = agent_building._command({**one, "platforms": ["linux/amd64"]}, where, str(tmp_path), "/s", "/m")
    assert "--load" in argv


def test_the_inventory_lies_over_the_compose_file(project: Any) -> None:
    policy = "{target: dev, args: {VERSION: '3'}, platforms: linux/arm64, secrets: {token: other}, tag: git}"
    web = project(f"{{web: {{build: {policy}}}}}")[1]
    assert (web.target, web.platforms) == ("dev", ("linux/arm64",))
    assert web.args == {"VERSION": "3", "COLOUR": "blue"} and web.secrets["token"] == "other"
    assert web.tags == ("r.test/shop/web:abc",)


def test_a_service_without_a_build_gets_one_from_the_inventory(project: Any) -> None:
    found = project("{db: {image: r.test/db:1, build: {context: api}}}")
    assert [spec.services for spec in found] == [("api", "worker"), ("db",), ("web",)]


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("target: run", "provenance: true", "build.provenance of web is not understood.*the inventory has"),
        ("target: run", "no_cache_filter: [a]", "build.no_cache_filter of web is not understood"),
        ("target: run", "additional_contexts: {more: ~nobody_at_all/x}", "of web, doesn't exist"),
        ("target: run", "ssh: [key=./gone.pem]", "gone.pem, which web is built with, doesn't exist"),
        ("target: run", "additional_contexts: {more: ./gone}", "gone, a context of web, doesn't exist"),
        ("target: run", "additional_contexts: {more: 'target:x'}", "target: can't be given to a builder"),
        ("target: run", "additional_contexts: {more: 'service:db'}", "image of db, which has no build"),
        ("target: run", "additional_contexts: {more: 'service:d'}", "'d', and there is no such service"),
        ("target: run", "additional_contexts: {more: 'service:web'}", "web is built from web: none of them"),
        ("target: run", "additional_contexts: {'--x': ./web}", "can't be the name of a context"),
        ("target: run", "isolation: hyperv", "isolation of web is for engines on Windows"),
        ("target: run", "entitlements: [all]", "entitlement all of a build is not known"),
        ("target: run", "ulimits: {nofile: many}", "limit nofile of a build is no number"),
        ("build: ./api", "build: https://example.org/x.git", "not a folder of the project"),
        ("build: ./api", "build: ./nothing", "doesn't exist"),
        ("web/Dockerfile", "web/Dockerfile2", "can't be read: No such file"),
        ("context: api", "context: web", "would be built in two ways"),
        ("r.test/shop/web", "r.test/web@sha256:" + "1" * 64, "is pinned, so there is nothing to build"),
        ("secrets: [token,", "secrets: [other,", "secret other, which is not defined"),
    ],
)
def test_what_cannot_be_built_is_said_with_its_line(project: Any, old: str, new: str, sentence: str) -> None:
    with pytest.raises(RenderError, match=sentence) as raised:
        project(compose=COMPOSE.replace(old, new))
    assert "compose.yml:" in str(raised.value)


def test_the_commits_tag_needs_a_commit(project: Any) -> None:
    with pytest.raises(LongshoreError, match="tag: git"):
        project("{web: {build: {tag: git}}}", commit="")


def test_a_branch_becomes_a_tag_for_the_cache() -> None:
    assert cache_tag("feature/ä b") == "cache-feature-b"
    assert cache_tag("") == "cache-main" and len(cache_tag("x" * 300, "-arm64")) < 128


def _builder(name: str, native: str, *others: str, containerd: bool = True) -> Builder:
    return Builder(name, cast(Any, None), native, (native, *others), 4, containerd)


def _spec(*platforms: str, image: str = "r.test/a:1", **rest: Any) -> BuildSpec:
    return BuildSpec(
        "shop", (image.rsplit("/")[-1],), image, (image,), Path("/x"), None, "", platforms=platforms, **rest
    )


def _shares(specs: list[BuildSpec], *builders: Builder, **rest: Any) -> list[tuple[str, tuple[str, ...]]]:
    allowed = {spec.image: [one.name for one in builders] for spec in specs}
    parts = share_out(specs, allowed, {one.name: one for one in builders}, **rest)
    return [(part.builder, part.platforms) for part in parts]


def test_each_platform_goes_to_the_builder_whose_own_it_is() -> None:
    amd, arm = _builder("amd", "linux/amd64", "linux/arm64"), _builder("arm", "linux/arm64")
    both = _spec("linux/amd64", "linux/arm64")
    assert _shares([both], amd, arm) == [("amd", ("linux/amd64",)), ("arm", ("linux/arm64",))]
    assert _shares([both], amd) == [("amd", ("linux/amd64", "linux/arm64"))]
    assert _shares([both], amd, arm, whole=True) == [("amd", ("linux/amd64", "linux/arm64"))]


def test_images_take_turns_among_equal_builders() -> None:
    one, two = _builder("one", "linux/amd64"), _builder("two", "linux/amd64")
    specs = [_spec(image="r.test/a:1"), _spec(image="r.test/b:1")]
    assert [name for name, _ in _shares(specs, one, two)] == ["one", "two"]


def test_a_platform_that_nobody_has_and_keys_for_another_machine_are_sentences() -> None:
    with pytest.raises(LongshoreError, match=r"linux/arm64.*h1 has linux/amd64.*qemu-user-static"):
        _shares([_spec("linux/arm64")], _builder("h1", "linux/amd64"))
    with pytest.raises(LongshoreError, match=r"build\.ssh.*don't travel to h1.*type=secret"):
        _shares([_spec("linux/amd64", ssh=("default",))], _builder("h1", "linux/amd64"))
    here = _builder(HERE, "linux/amd64")
    assert _shares([_spec("linux/amd64", ssh=("default",))], here) == [(HERE, ("linux/amd64",))]


PLAIN = """\
#0 building with "default" instance using docker driver

#1 [internal] load build definition from Dockerfile
#1 transferring dockerfile: 161B 0.0s done
#1 DONE 0.0s

#5 importing cache manifest from r.test/shop:cache-main
#5 ERROR: r.test/shop:cache-main: not found

#6 [1/4] FROM docker.io/library/python:3.12@sha256:aa
#6 CACHED

#7 [2/4] COPY requirements.txt .
#7 CACHED

#8 [3/4] RUN pip install -r requirements.txt
#8 0.512 Collecting fastapi
#8 12.80 Successfully installed
#8 DONE 12.9s

#9 [4/4] COPY . .
"""
FAILED = """\
#9 0.163 gcc: fatal error
#9 ERROR: process "/bin/sh -c make" did not complete successfully: exit code: 2
#10 [linux/arm64 4/4] RUN make
#10 CANCELED
------
ERROR: failed to solve: process "/bin/sh -c make" did not complete successfully: exit code: 2
"""


def _said(text: str) -> Progress:
    progress = Progress()
    for line in text.splitlines():
        progress.line(line)
    return progress


def test_a_builds_record_says_what_was_cached_and_how_long_the_rest_took() -> None:
    record = _said(PLAIN + "#9 DONE 0.1s\n").record
    assert (record.cached, record.instructions) == (1, 3)  # FROM is no work of ours
    assert record.seconds == pytest.approx(13.0)


def test_the_step_that_failed_is_named_with_what_it_said_and_a_missing_cache_is_none() -> None:
    step, lines = _said(PLAIN + FAILED).failure()
    assert step == "[4/4] COPY . ."
    assert lines[0] == "gcc: fatal error" and "exit code: 2" in lines[-1]


def test_only_steps_worth_a_word_are_told_once() -> None:
    progress = Progress()
    told = [line for line in PLAIN.splitlines() if progress.line(line)]
    assert [line.split()[1] for line in told] == ["[2/4]", "[3/4]", "[4/4]"]


@pytest.mark.parametrize(
    ("step", "said", "code"),
    [
        ("pushing r.test/a:1 with docker", "dial tcp: connect: connection refused", "registry-down"),
        ("exporting to image", 'Head "https://r.test/v2/a/sha256:a507f": EOF', "registry-down"),
        ("exporting to image", "failed to push r.test/a:1: 500 Internal Server Error", "registry-failed"),
        ("exporting to image", "failed to push r.test/a:1: unexpected status: 401 Unauthorized", "login"),
        ("exporting to image", "failed to push r.test/a:1: denied: requested access", "login"),
        ("exporting to image", "http: server gave HTTP response to HTTPS client", "insecure"),
        ("exporting to image", "tls: failed to verify certificate: x509: unknown authority", "certificate"),
        ("exporting to image", "write /var/lib/x: no space left on device", "no-space"),
        ("pushing r.test/a:1", "index references to blobs are missing in your target registry", "push-raced"),
        ("[2/3] RUN make", "cc1: write: no space left on device", "no-space"),
        ("[2/3] RUN make", ".buildkit_qemu_emulator: exec format error", "no-emulation"),
        ("[2/3] RUN pip install", "ConnectionError: connection refused", "build-failed"),
        ("[internal] load metadata for x:1", "no match for platform in manifest", "wrong-architecture"),
    ],
)  # fmt: skip
def test_every_known_failure_is_a_sentence_with_what_to_do(step: str, said: str, code: str) -> None:
    error = failure("api", "h1", _said(f"#1 {step}\n#1 ERROR: {said}\n"))
    assert error.code == code and error.where == "h1"
    assert said.split(":")[-1].strip()[:20] in str(error)
    assert bool(error.hint) is (code != "build-failed")


# Logins


@pytest.fixture
def docker_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Any]], None]:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    helper = tmp_path / "docker-credential-try"
    helper.write_text(
        "#!/bin/sh\nread -r key\n"
        'case "$1 $key" in\n'
        '"get a.test") echo \'{"Username": "ann", "Secret": "pw"}\' ;;\n'
        '"get b.test") echo \'{"Username": "<token>", "Secret": "t0ken"}\' ;;\n'
        '"get bad.test") echo locked >&2; exit 1 ;;\n'
        "*) echo credentials not found in native keychain; exit 1 ;;\nesac\n"
    )
    helper.chmod(0o755)
    return lambda value: (tmp_path / "config.json").write_text(json.dumps(value)) and None


def test_logins_come_from_the_inventory_then_helpers_then_dockers_file(docker_config: Any) -> None:
    docker_config(
        {
            "credHelpers": {"a.test": "try", "b.test": "try", "c.test": "try"},
            "auths": {
                "d.test": {"auth": "YW5uOnB3OjI="},
                "https://index.docker.io/v1/": {"auth": "YW5uOmh1Yg=="},
            },
        }
    )
    known = {"i.test": Registry("i.test", username="me", password="mine")}
    found = logins(["a.test", "b.test", "c.test", "d.test", "docker.io", "i.test", "none.test"], known)
    assert found == {
        "a.test": Login("ann", "pw"),
        "b.test": Login("<token>", token="t0ken"),
        "d.test": Login("ann", "pw:2"),
        "docker.io": Login("ann", "hub"),
        "i.test": Login("me", "mine"),
    }
    assert auths(found)["https://index.docker.io/v1/"] == {"auth": "YW5uOmh1Yg=="}
    assert "pw" not in repr(found) and "t0ken" not in repr(found)


def test_a_helper_that_fails_or_is_missing_is_a_sentence(docker_config: Any) -> None:
    docker_config({"credHelpers": {"bad.test": "try", "gone.test": "gone"}})
    with pytest.raises(LongshoreError, match="docker-credential-try gives no login: locked"):
        logins(["bad.test"], {})
    with pytest.raises(LongshoreError, match="docker-credential-gone, which is not installed"):
        logins(["gone.test"], {})


# On the builder


@pytest.fixture
def work(tmp_path: Path) -> Work:
    return Work(str(tmp_path))


def test_no_secret_is_in_an_argument_and_its_files_go_with_the_session(tmp_path: Path, work: Work) -> None:
    secrets = os.path.join(work.private, "s")
    one = {
        "context": "c.tar",
        "dockerfile": "FROM x\n",
        "args": {"TOKEN_ARG": "sh0wn"},
        "secrets": {"pip": "s3cret"},
        "output": "push",
        "tags": ["r/a:1"],
        "platforms": ["linux/amd64"],
    }
    argv, more = agent_building._command(one, {"c.tar": "/ctx"}, str(tmp_path), secrets, "/m")
    assert "s3cret" not in str(argv) and "sh0wn" not in str(argv) and more == {"TOKEN_ARG": "sh0wn"}
    (option,) = [word for word in argv if word.startswith("--secret=")]
    path = Path(option.split("src=")[1])
    assert path.read_text() == "s3cret" and stat.S_IMODE(path.stat().st_mode) == 0o600
    environment = environment_of(work, str(tmp_path), {"r.test": {"auth": "cGFzcw=="}})
    folder = Path(environment["DOCKER_CONFIG"])
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert json.loads((folder / "config.json").read_text())["auths"] == {"r.test": {"auth": "cGFzcw=="}}
    work.remove()
    assert not path.exists() and not folder.exists() and not Path(work.folder).exists()


def test_what_a_killed_agent_left_goes_with_the_next_one_and_what_is_in_use_stays(tmp_path: Path) -> None:
    killed, living = Work(str(tmp_path)), Work(str(tmp_path))
    assert killed._lock is not None
    killed._lock.close()  # as when its process ends
    Path(killed.private, "config.json").write_text("login")
    Work(str(tmp_path)).remove()
    assert not Path(killed.folder).exists() and not Path(killed.private).exists()
    assert Path(living.folder).exists() and Path(living.private).exists()
    living.remove()


@pytest.mark.parametrize("name", ["../out", "/etc/out", "a/../../out"])
def test_a_context_lands_in_its_own_folder_only(tmp_path: Path, work: Work, name: str) -> None:
    with tarfile.open(work.path("context-0.tar"), "w") as archive:
        archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(Refusal, match="the context holds"):
        contexts.unpack(work, "context-0.tar")
    work.remove()


def test_nothing_is_written_through_a_link_of_the_context(tmp_path: Path, work: Work) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    with tarfile.open(work.path("context-0.tar"), "w") as archive:
        link = tarfile.TarInfo("inner")
        link.type, link.linkname = tarfile.SYMTYPE, str(outside)
        archive.addfile(link)
        archive.addfile(tarfile.TarInfo("inner/file"))
    with pytest.raises(OSError):
        contexts.unpack(work, "context-0.tar")
    assert list(outside.iterdir()) == []
    work.remove()


def test_builds_end_when_the_controller_goes(
    tmp_path: Path, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "docker"
    fake.write_text("#!/bin/sh\necho '#1 [1/1] RUN sleep'\nexec sleep 60\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with tarfile.open(work.path("c"), "w"):
        pass
    lines: list[Any] = []
    request = {"builds": [{"name": "api", "context": "c", "dockerfile": "FROM x"}], "parallel": 1}
    result = agent_building.build(
        request, work, str(tmp_path), lambda kind, **facts: lines.append(facts), lambda: bool(lines)
    )
    assert lines == [{"name": "api", "lines": ["#1 [1/1] RUN sleep"]}]
    assert result["api"]["code"] != 0
    work.remove()


def test_a_build_that_the_engine_itself_came_in_the_way_of_is_run_once_more(
    tmp_path: Path, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "docker"
    fake.write_text(
        "#!/bin/sh\necho '#1 [1/1] RUN make'\n"
        f"[ ! -e {tmp_path}/second ] || {{ echo '#1 CACHED'; exit 0; }}\n"
        f"touch {tmp_path}/second\n"
        "echo '#1 DONE 9.0s'\necho '#2 exporting to image'\n"
        'echo "#2 ERROR: failed to prepare extraction snapshot: parent snapshot sha256:62 does not exist"\n'
        "exit 1\n"
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with tarfile.open(work.path("c"), "w"):
        pass
    progress = Progress()

    def tell(kind: str, **facts: Any) -> None:
        for line in facts["lines"]:
            progress.line(line)

    request = {"builds": [{"name": "api", "context": "c", "dockerfile": "FROM x"}], "parallel": 1}
    result = agent_building.build(request, work, str(tmp_path), tell, lambda: False)
    assert result["api"]["code"] == 0
    # What was done the first time was done: it isn't called cached.
    assert (progress.whole.cached, progress.whole.instructions) == (0, 1)
    work.remove()


def test_a_registry_that_fails_is_asked_why_and_one_without_space_is_told_so() -> None:
    error = failure("api", "h1", _said("#1 exporting to image\n#1 ERROR: failed to push r/a: 500 Internal\n"))
    assert error.code == "registry-failed" and "api could not be pushed" in error.message
    full = without_space("api", error)
    assert full.code == "no-space" and full.where == "h1" and "run it again" in str(full.hint)


def test_a_build_that_has_ended_is_told_while_others_go_on(
    tmp_path: Path, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "docker"
    fake.write_text('#!/bin/sh\ncase "$*" in *slow*) sleep 1 ;; esac\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with tarfile.open(work.path("c"), "w"):
        pass
    told: list[tuple[str, int, bool]] = []

    def tell(kind: str, *, name: str, code: int, seconds: float, **_: Any) -> None:
        told.append((name, code, seconds < 0.9))

    builds = [{"name": one, "context": "c", "dockerfile": "FROM x", "target": one} for one in ("slow", "api")]
    request = {"builds": builds, "parallel": 2}
    agent_building.build(request, work, str(tmp_path), tell, lambda: False)
    assert told[0] == ("api", 0, True)
    work.remove()


@pytest.mark.parametrize(
    ("said", "code", "words"),
    [
        ("pull access denied, authorization failed: no basic auth credentials", "login", "login is wrong"),
        ("unexpected status from HEAD request to http://r.test/v2/a: 401 Unauthorized", "login", "refuses"),
        ('failed to do request: Head "https://r.test/v2/a": dial tcp: connect: connection refused',
         "registry-down", "(connection refused)"),
        ("unexpected status from GET request: 500 Internal Server Error", "registry-down", "or fails (500"),
        ("http: server gave HTTP response to HTTPS client", "no-image", "plain HTTP"),
        ("tls: failed to verify certificate: x509: unknown authority", "no-image", "not trusted"),
        ("r.test/a:1: not found", "no-image", "there is no image"),
        ("write /var/lib/docker/x: no space left on device", "no-space", "no space left on the disk"),
        ("no match for platform in manifest", "wrong-architecture", "for this host's architecture"),
    ],
)  # fmt: skip
def test_a_pull_that_ends_badly_is_a_sentence_with_what_to_do(said: str, code: str, words: str) -> None:
    refusal = pulling._no_image("r.test/a:1", said, 0, 0)
    assert refusal.code == code and words in refusal.message and refusal.hint


def test_a_pull_that_broke_off_says_how_far_it_came() -> None:
    refusal = pulling._no_image("r.test/a:1", "failed to copy: unexpected EOF", 15_000_000, 32_000_000)
    assert refusal.code == "registry-down"
    assert refusal.message == "the pull of r.test/a:1 broke off after 15.0 MB of 32.0 MB (unexpected EOF)"


# The story


class FakeSession:
    host = "h1"

    def __init__(self, codes: dict[str, int]) -> None:
        self.codes = codes
        self.outputs: list[tuple[str, str]] = []

    def call(self, op: str, args: Any = None, *, payload: bytes = b"", on_event: Any = None, **_: Any) -> Any:
        if op != "build":
            return None
        results = {}
        for one in args["builds"]:
            self.outputs.append((one["name"], one["output"]))
            results[one["name"]] = {
                "code": self.codes.get(one["name"], 0),
                "digest": "sha256:" + "2" * 64,
                "seconds": 1.0,
            }
        return results


class Quiet:
    masks: Any

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **facts: None


def _building(tmp_path: Path, codes: dict[str, int]) -> tuple[Building, FakeSession]:
    from longshore.console import Masks

    session = FakeSession(codes)
    link = type("Link", (), {"session": lambda self: session})()
    builder = Builder("h1", link, "linux/amd64", ("linux/amd64",), 4, True)
    made = [_spec(image="r.test/a:1"), _spec(image="r.test/b:1")]
    made = [BuildSpec(**{**vars(spec), "context": tmp_path}) for spec in made]
    parts = share_out(made, {spec.image: ["h1"] for spec in made}, {"h1": builder})
    environment = Environment("try", tmp_path, {}, {}, {}, {}, {})
    output = Quiet()
    output.masks = Masks()
    return Building(
        environment, {"h1": builder}, parts, cast(Any, output), git=Git("abc", "main", "main")
    ), session


def test_nothing_is_pushed_before_all_is_built(tmp_path: Path) -> None:
    building, session = _building(tmp_path, {})
    built = building.run("push")
    assert session.outputs == [("a:1", "cache"), ("b:1", "cache"), ("a:1", "push"), ("b:1", "push")]
    assert [one.pinned for one in built] == [f"r.test/{name}@sha256:{'2' * 64}" for name in ("a", "b")]


def test_a_build_that_fails_pushes_nothing_of_the_others(tmp_path: Path) -> None:
    building, session = _building(tmp_path, {"b:1": 1})
    with pytest.raises(LongshoreError, match="b:1 could not be built"):
        building.run("push")
    assert {output for _, output in session.outputs} == {"cache"}


def test_git_says_commit_branch_and_what_is_not_committed(tmp_path: Path) -> None:
    from longshore.images.spec import read_git

    assert read_git(tmp_path) == Git()
    (tmp_path / "a").write_text("x")
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q", "-b", "work"], ["add", "a"], [*identity, "commit", "-qm", "one"]):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    git = read_git(tmp_path)
    assert len(git.commit) == 12 and git.branch == "work" and not git.dirty
    (tmp_path / "a").write_text("y")
    assert read_git(tmp_path).commit == f"{git.commit}-dirty" and read_git(tmp_path).dirty
