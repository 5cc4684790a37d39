"""A BuildKit of ours beside engines with the older image store: when, how it is made, what is said else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

import pytest

from longshore.agent import building, buildkit, wire
from longshore.agent.fail import Refusal
from longshore.console import Masks
from longshore.errors import AgentError, HostError
from longshore.images.builders import Builder, Part
from longshore.images.buildkit import equipped
from longshore.images.spec import BuildSpec
from longshore.inventory.building import BuildSettings
from longshore.inventory.model import Environment, Registry

BOTH = ("linux/amd64", "linux/arm64")


class Said:
    masks = Masks()

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


class Session:
    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[Any] = []

    def call(self, op: str, args: Any = None, **_: Any) -> Any:
        assert op == wire.BUILDER
        self.asked.append(args["make"])
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


HAD = {"name": "longshore", "platforms": list(BOTH)}
NOT_HAD = AgentError("it can't be had", code=wire.NO_BUILDKIT, where="h1", hint="Name another.")


def _equipped(
    platforms: tuple[str, ...], way: str, answer: Any = HAD, *, containerd: bool = False, **settings: Any
) -> tuple[Builder, Session, list[str]]:
    session = Session(answer)
    link = cast(Any, type("Link", (), {"session": lambda self: session})())
    builder = Builder("h1", link, "linux/amd64", BOTH, 2, containerd)
    spec = BuildSpec("shop", ("web",), "r.test/a:1", ("r.test/a:1",), Path("/x"), None, "")
    hub = Registry("docker.io", insecure=True, mirror="http://10.0.0.5:5000")
    environment = Environment("try", Path(), {}, {}, {}, {}, {"docker.io": hub}, BuildSettings(**settings))
    said = Said()
    found = equipped(builder, [Part(spec, "h1", platforms)], way, environment, cast(Any, said))
    return found, session, said.lines


def test_only_what_the_older_store_cannot_do_takes_a_buildkit_of_ours() -> None:
    assert _equipped(BOTH, "image")[0].buildx == "longshore"
    assert _equipped(BOTH[:1], "push")[0].buildx == "longshore"  # its cache goes to the registry
    assert _equipped(BOTH[:1], "keep")[0].buildx == "longshore"
    for without in (
        _equipped(BOTH, "push", containerd=True),
        _equipped(BOTH[:1], "image"),
        _equipped(BOTH[:1], "push", cache=False),
    ):
        assert without[0].buildx == "" and not without[1].asked


def test_it_is_told_of_the_registries_which_it_does_not_learn_from_the_engine() -> None:
    asked = _equipped(BOTH, "push", buildkit="r.test/buildkit:1")[1].asked[0]
    assert asked["image"] == "r.test/buildkit:1"
    assert asked["registries"] == [
        {"name": "docker.io", "insecure": True, "mirror": "http://10.0.0.5:5000", "ca": ""}
    ]


def test_several_platforms_need_it_and_a_cache_can_be_done_without() -> None:
    with pytest.raises(
        HostError, match=r"older image store, and web is built for several.*can't be had"
    ) as raised:
        _equipped(BOTH, "push", NOT_HAD)
    assert "invoke bootstrap" in raised.value.hint and "Name another." in raised.value.hint
    with pytest.raises(HostError, match="without a registry"):
        _equipped(BOTH[:1], "keep", NOT_HAD)
    builder, _, said = _equipped(BOTH[:1], "push", NOT_HAD)
    assert builder.buildx == "" and "no build cache" in said[0]


def test_a_builder_that_fails_otherwise_is_not_gone_around() -> None:
    broken = AgentError("no engine", code=wire.NO_ENGINE, where="h1")
    with pytest.raises(AgentError, match="no engine"):
        _equipped(BOTH[:1], "push", broken)


# On the host: what buildx is told


@pytest.fixture
def docker(tmp_path: Path) -> tuple[dict[str, str], Path]:
    """A ``docker`` that notes what it is told, and knows a builder once it was created."""
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.write_text(
        f"""#!/bin/sh
echo "$*" >>{tmp_path}/told
case "$*" in
    "buildx create --help") [ ! -e {tmp_path}/0.14 ] || echo "--buildkitd-config string" ;;
    "buildx create"*) [ ! -e {tmp_path}/broken ] || {{ echo "ERROR: pull access denied" >&2; exit 1; }}
        touch {tmp_path}/made ;;
    "buildx rm"*) rm -f {tmp_path}/made ;;
    "buildx inspect"*) [ -e {tmp_path}/made ] || exit 1
        printf 'Driver: docker-container\\nPlatforms: linux/amd64*, linux/arm64\\n' ;;
esac
"""
    )
    program.chmod(0o755)
    return {"PATH": f"{program.parent}:{os.environ['PATH']}"}, tmp_path


def _told(folder: Path) -> list[str]:
    lines = (folder / "told").read_text().splitlines()
    (folder / "told").unlink()
    return [line.removeprefix("buildx ") for line in lines]


ARGS: dict[str, Any] = {"image": "moby/buildkit:x", "registries": [], "allow": []}


def test_it_is_made_once_and_anew_when_its_settings_differ(docker: tuple[dict[str, str], Path]) -> None:
    environment, folder = docker
    notes = folder / "buildx"
    notes.mkdir()
    value = buildkit.ensure(ARGS, environment, str(notes))
    assert value == {"name": "longshore", "platforms": ["linux/amd64", "linux/arm64"]}
    create = (
        "create --name=longshore --driver=docker-container --driver-opt=image=moby/buildkit:x"
        f" --config={notes}/buildkitd.toml"
    )
    inspect, remove = "inspect --bootstrap longshore", "rm --keep-state longshore"
    assert _told(folder) == [inspect, remove, "create --help", create, inspect]
    buildkit.ensure(ARGS, environment, str(notes))
    assert _told(folder) == [inspect]
    (folder / "0.14").touch()
    buildkit.ensure({**ARGS, "allow": ["network.host"]}, environment, str(notes))
    newer = create.replace("--config=", "--buildkitd-config=")
    assert f"{newer} --buildkitd-flags=--allow-insecure-entitlement=network.host" in _told(folder)


def test_one_that_cannot_be_started_is_taken_away_again_and_is_a_sentence(
    docker: tuple[dict[str, str], Path],
) -> None:
    environment, folder = docker
    (folder / "broken").touch()
    with pytest.raises(Refusal, match=r"moby/buildkit:x.*pull access denied") as raised:
        buildkit.ensure(ARGS, environment, str(folder))
    assert raised.value.code == wire.NO_BUILDKIT and _told(folder)[-1] == "rm --keep-state longshore"


def test_mirrors_plain_registries_and_authorities_are_written_as_buildkit_reads_them() -> None:
    registries = [
        {"name": "docker.io", "insecure": True, "mirror": "http://10.0.0.5:5000"},
        {"name": "10.0.0.5:5000", "insecure": True},
        {"name": "r.test", "ca": "PEM"},
        {"name": "plain.test"},
    ]
    files = buildkit.settings({"registries": registries}, "/n")
    (config, text), (certificate, pem) = files.items()
    assert (config, certificate, pem) == ("/n/buildkitd.toml", "/n/certificates/r.test.pem", "PEM")
    assert text == (
        '[registry."10.0.0.5:5000"]\nhttp = true\ninsecure = true\n'
        '[registry."docker.io"]\nmirrors = ["10.0.0.5:5000"]\n'
        '[registry."r.test"]\nca = ["/n/certificates/r.test.pem"]\n'
    )


def test_a_builder_of_the_persons_own_is_used_by_its_name_and_its_platforms_are_asked_for() -> None:
    told = "Name: mine\nPlatforms: linux/amd64*, linux/arm64\nName: x\nPlatforms: linux/riscv64\nPlatforms:\n"
    assert building.platforms_in(told) == {*BOTH, "linux/riscv64"}
