"""Images that are built from the images of other services: which come first, and where."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from longshore.agent import building as agent_building
from longshore.agent.fail import Refusal
from longshore.agent.work import Work
from longshore.console import Masks
from longshore.errors import LongshoreError, RenderError
from longshore.images.build import Building
from longshore.images.builders import Builder, Part, share_out
from longshore.images.buildkit import equipped
from longshore.images.jobs import Way, jobs_of
from longshore.images.spec import BuildSpec, Git, specs
from longshore.inventory import load
from longshore.inventory.model import Environment
from longshore.render import Renderer

COMPOSE = """
services:
  api:
    image: r.test/shop/api:1
    build: {context: api, additional_contexts: {ground: "service:base"}}
  web:
    image: r.test/shop/web:1
    build: {context: web, additional_contexts: ["ground=service:base"]}
  base:
    build: {context: base, secrets: [token]}
    profiles: [never]
secrets:
  token: {environment: TOKEN}
"""
INVENTORY = """
all:
  hosts: {h1: }
  vars:
    longshore:
      apps: {shop: {compose: compose.yml, env: {TOKEN: s3cret}}}
"""
BOTH = ("linux/amd64", "linux/arm64")
Read = Callable[..., tuple[BuildSpec, ...]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """The specs of the compose file with these words in place of others."""
    (tmp_path / "inventory").mkdir()
    (tmp_path / "inventory" / "try.yml").write_text(INVENTORY)
    for folder in ("api", "web", "base"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "Dockerfile").write_text(f"FROM ground\n# {folder}\n")

    def made(changes: Mapping[str, str] | None = None) -> tuple[BuildSpec, ...]:
        text = COMPOSE
        for old, new in (changes or {}).items():
            assert old in text
            text = text.replace(old, new, 1)
        (tmp_path / "compose.yml").write_text(text)
        environment = load(tmp_path, "try")
        git = Git("abc", "main", "main")
        return specs(environment.targets.values(), Renderer(), environment.build, git)

    return made


def test_a_service_that_is_only_built_from_needs_no_image_and_no_host(read: Read) -> None:
    api, web = read()
    assert (api.services, web.services) == (("api",), ("web",))
    base = api.images["ground"]
    assert (base.image, base.tags, base.secrets) == ("", (), {"token": "s3cret"})
    assert base.text == "FROM ground\n# base\n" and api.contexts == {}
    assert base.is_same_build(web.images["ground"]) and not base.is_same_build(api)
    assert web.whole == (web.images["ground"], web)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"context: base,": 'context: base, additional_contexts: {up: "service:api"},'},
         "api is built from base, that from api: none of them can be built first"),
        ({"context: api,": "context: api, platforms: [linux/amd64, linux/arm64],",
          "context: base,": "context: base, platforms: [linux/amd64],"},
         r"api is built for linux/arm64, and base, which it is built from, only for linux/amd64"),
    ],
)  # fmt: skip
def test_what_cannot_be_built_first_is_a_sentence(read: Read, changes: dict[str, str], sentence: str) -> None:
    with pytest.raises(LongshoreError, match=sentence) as raised:
        read(changes)
    assert "compose.yml:" in str(raised.value)


def test_what_is_built_from_has_the_platforms_of_what_is_built(read: Read) -> None:
    # arm64 goes without its only variant, and more than is needed is no harm.
    more = "platforms: [linux/amd64, linux/arm64/v8]"
    read(
        {
            "context: api,": "context: api, platforms: [linux/arm64],",
            "context: base,": f"context: base, {more},",
        }
    )
    with pytest.raises(RenderError):
        read({"context: base,": "context: base, platforms: [linux/amd64],", "context: api,":
              "context: api, platforms: [linux/arm64],"})  # fmt: skip


def _spec(name: str, *images: BuildSpec, folder: Path = Path("/x"), **rest: Any) -> BuildSpec:
    ref = f"r.test/{name}:1"
    contexts = {one.name: one for one in images}
    return BuildSpec("shop", (name,), ref, (ref,), folder, None, f"# {name}", images=contexts, **rest)


def _builder(name: str, *platforms: str, link: Any = None, containerd: bool = True) -> Builder:
    return Builder(name, link, platforms[0], platforms, 4, containerd)


def test_what_is_built_from_each_other_is_built_in_one_place() -> None:
    base = _spec("base")
    made = [_spec("api", base), base, _spec("other"), _spec("web", base)]
    builders = {name: _builder(name, "linux/amd64") for name in ("one", "two")}
    parts = share_out(made, {spec.image: ["one", "two"] for spec in made}, builders)
    assert [part.builder for part in parts] == ["one", "one", "two", "one"]


def test_each_builder_makes_what_its_images_are_built_from_once_and_first() -> None:
    ground = _spec("ground")
    base = _spec("base", ground)
    parts = [
        *(Part(_spec(name, base), "amd", BOTH) for name in ("api", "web")),
        *(Part(_spec("split", base), name, (f"linux/{name}64",)) for name in ("amd", "arm")),
        Part(base, "amd", BOTH),
    ]
    jobs = jobs_of(parts)
    names = [job.name for job in jobs]
    assert len(set(names)) == len(names)
    assert [job.is_context for job in jobs] == [True] * 6 + [False] * 5
    made = {job.name: job for job in jobs}
    for at, job in enumerate(jobs):
        assert all(names.index(name) < at for name in job.images.values())
        for name, below in job.images.items():
            same = (job.part.builder, job.part.platforms)
            assert (made[below].part.builder, made[below].part.platforms) == same
            assert made[below].part.spec is job.part.spec.images[name]
    assert made[made["base"].after].part == Part(base, "amd", BOTH)
    assert made["api"].after == ""


# The story


class FakeSession:
    """A builder where what is in ``broken`` can't be built."""

    def __init__(self, *broken: str) -> None:
        self.broken = broken
        self.asked: list[list[dict[str, Any]]] = []

    def call(self, op: str, args: Any = None, **_: Any) -> Any:
        if op != "build":
            return None
        self.asked.append(args["builds"])
        results: dict[str, Any] = {}
        for one in args["builds"]:
            lacks = next((name for name in one["after"] if results[name]["code"]), "")
            code = 1 if lacks or one["name"] in self.broken else 0
            digest = "sha256:" + "2" * 64
            results[one["name"]] = {"code": code, "digest": digest, "seconds": 1.0, "lacks": lacks}
        return results


class Quiet:
    """An output that says nothing, and knows the first state of each line."""

    def __init__(self) -> None:
        self.masks = Masks()
        self.first: dict[str, str] = {}

    def step(self, host: str, state: str, detail: str = "") -> None:
        if state in ("building", "waiting"):
            self.first.setdefault(host, state)

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **facts: None


def _built(
    tmp_path: Path, way: Way, session: FakeSession, *made: BuildSpec, output: Any = None, **more: Any
) -> list[Any]:
    link = type("Link", (), {"session": lambda self: session})()
    builder = _builder("h1", *BOTH, link=link)
    placed = [replace(one, context=tmp_path) for one in made]
    parts = share_out(placed, {spec.image: ["h1"] for spec in placed}, {"h1": builder})
    environment = Environment("try", tmp_path, {}, {}, {}, {}, {})
    git = Git("abc", "work", "main")
    output = output or cast("Any", Quiet())
    return list(Building(environment, {"h1": builder}, parts, output, git=git, **more).run(way))


def test_a_context_is_built_once_and_what_is_pushed_afterwards_uses_it(tmp_path: Path) -> None:
    base = _spec("base", folder=tmp_path)
    session = FakeSession()
    output = Quiet()
    built = _built(tmp_path, "push", session, _spec("api", base), base, no_cache=True, output=output)
    assert [one.spec.name for one in built] == ["api", "base"]
    first, second = ([(one["name"], one["output"], one["after"]) for one in some] for some in session.asked)
    context = "base (context)"
    assert output.first == {context: "building", "api": "waiting", "base": "waiting"}
    assert first == [(context, "context", []), ("api", "cache", [context]), ("base", "cache", [context])]
    assert second == [("api", "push", []), ("base", "push", [])]
    api = session.asked[1][0]
    assert api["images"] == {"base": context} and api["contexts"] == {}
    # Built without the cache is built once: the rest is the same bytes.
    assert [one["no_cache"] for some in session.asked for one in some] == [True, True, False, False, False]
    assert not any(one["cache_to"] for one in session.asked[0])


def test_an_image_that_is_only_built_from_has_its_cache_in_the_registry_too(tmp_path: Path) -> None:
    session, output = FakeSession(), Quiet()
    base = _spec("base", folder=tmp_path)
    _built(tmp_path, "push", session, _spec("api", base), output=output)
    assert output.first["base (context)"] == "building"  # it isn't pushed
    (context, api) = session.asked[0]
    assert (context["output"], api["output"]) == ("context", "push")
    assert context["cache_to"] == ["type=registry,ref=r.test/base:cache-work,mode=max,ignore-error=true"]
    nameless = FakeSession()
    _built(tmp_path, "push", nameless, _spec("api", replace(base, image="", tags=())))
    assert nameless.asked[0][0]["cache_to"] == nameless.asked[0][0]["cache_from"] == []


def test_of_a_context_that_cannot_be_built_there_is_one_error(tmp_path: Path) -> None:
    session = FakeSession("base (context)")
    base = _spec("base", folder=tmp_path)
    with pytest.raises(LongshoreError) as raised:
        _built(tmp_path, "push", session, _spec("api", base), _spec("web", base))
    assert str(raised.value) == "h1: base (context) could not be built (it didn't say why)."
    assert len(session.asked) == 1


def test_an_engine_with_the_older_store_needs_a_buildkit_for_it(tmp_path: Path) -> None:
    from longshore.agent import wire
    from longshore.errors import AgentError, HostError

    class NoBuildkit:
        def call(self, op: str, args: Any, **_: Any) -> Any:
            raise AgentError("there is none", code=wire.NO_BUILDKIT, where="h1")

    link = type("Link", (), {"session": lambda self: NoBuildkit()})()
    builder = _builder("h1", "linux/amd64", link=link, containerd=False)
    part = Part(_spec("api", _spec("base")), "h1", ("linux/amd64",))
    environment = Environment("try", tmp_path, {}, {}, {}, {}, {})
    with pytest.raises(
        HostError, match="api is built from another service's image, which takes the containerd"
    ):
        equipped(builder, [part], "check", environment, cast("Any", Quiet()))


# On the builder

DOCKER = """#!/bin/sh
dest=$(echo "$*" | sed -n 's/.*type=oci,dest=\\([^ ,]*\\).*/\\1/p')
target=$(echo "$*" | sed -n 's/.*--target=\\([^ ]*\\).*/\\1/p')
case "$target" in slow*) sleep 0.3 ;; broken) echo "#1 ERROR: no"; exit 1 ;; esac
[ -z "$dest" ] || {
    mkdir -p "$dest" && echo '{"manifests": [{"digest": "sha256:'$target'"}]}' >"$dest/index.json"
}
echo "$target $*" >>LOG
"""


def _agent_builds(
    tmp_path: Path, work: Work, builds: list[dict[str, Any]]
) -> tuple[dict[str, Any], list[str]]:
    log = tmp_path / "log"
    log.unlink(missing_ok=True)
    fake = tmp_path / "docker"
    fake.write_text(DOCKER.replace("LOG", str(log)))
    fake.chmod(0o755)
    if "c" not in work.unpacked:
        with tarfile.open(work.path("c"), "w"):
            pass
    whole = [{"context": "c", "dockerfile": "FROM x", "target": one["name"], **one} for one in builds]
    args = {"builds": json.loads(json.dumps(whole)), "parallel": 2}
    result = agent_building.build(args, work, str(tmp_path), lambda kind, **_: None, lambda: False)
    return result, log.read_text().splitlines()


def test_an_agent_builds_first_what_others_are_built_from_and_has_it_for_the_next_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    work = Work(str(tmp_path))
    builds: list[dict[str, Any]] = [
        {"name": "slow", "output": "context"},
        {"name": "api", "after": ["slow"], "images": {"ground": "slow"}},
        {"name": "other"},
    ]
    result, lines = _agent_builds(tmp_path, work, builds)
    assert {one["code"] for one in result.values()} == {0}
    assert [line.split()[0] for line in lines] == ["other", "slow", "api"]
    given = f"--build-context=ground=oci-layout://{work.folder}/build-"
    assert given in lines[2] and "/oci@sha256:slow" in lines[2]
    # The folder of one build is no other's, so the image is there yet when it is pushed.
    _, lines = _agent_builds(
        tmp_path, work, [{"name": "api", "images": {"ground": "slow"}, "output": "push"}]
    )
    place = lines[0].partition("oci-layout://")[2].partition("@")[0]
    assert "--push" in lines[0] and (Path(place) / "index.json").exists()
    work.remove()


def test_an_agent_does_not_try_what_is_built_from_what_could_not_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    work = Work(str(tmp_path))
    builds: list[dict[str, Any]] = [
        {"name": "broken", "output": "context"},
        {"name": "api", "after": ["broken"], "images": {"ground": "broken"}},
        {"name": "top", "after": ["api"]},
        {"name": "other"},
    ]
    result, lines = _agent_builds(tmp_path, work, builds)
    assert {name: one["code"] for name, one in result.items()} == {
        "broken": 1,
        "api": 125,
        "top": 125,
        "other": 0,
    }
    assert (result["api"]["lacks"], result["top"]["lacks"]) == ("broken", "api")
    assert [line.split()[0] for line in lines] == ["other"]
    # An order that never ends is refused, not waited for.
    with pytest.raises(Refusal, match="api"):
        _agent_builds(tmp_path, work, [{"name": "api", "after": ["base"]}, {"name": "base"}])
    work.remove()
