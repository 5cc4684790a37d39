"""What `doctor` says of what it has seen: facts in, findings out; and that its program runs alone."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from longshore.doctor import Seen, Wanted
from longshore.doctor.ask import STARTER, examine, payload
from longshore.doctor.here import certificates, commit
from longshore.doctor.host import network
from longshore.doctor.judge import judge
from longshore.doctor.want import Wishes, only_emulated
from longshore.errors import HostError
from longshore.images.spec import Git
from longshore.inventory import load
from longshore.inventory.model import Environment, Registry

GB = 1000**3
GOOD: dict[str, Any] = {
    "system": {
        "name": "Debian", "kernel": "6.1.0-18-amd64", "python": "3.11.2", "user": "root", "migrates": True,
    },
    "programs": {
        "versions": {"engine": "26.1.5", "cli": "26.1.5", "compose": "2.26.1", "buildx": "0.13.1"},
        "needed": {"engine": "24.0", "cli": "", "compose": "2.24.4", "buildx": "0.12"},
        "missing": [],
    },
    "engine": {
        "version": "26.1.5", "architecture": "amd64", "store": True, "images": 2,
        "mirrors": ["http://mirror.test/"],
    },
    "settings": {"lacking": [], "kept": [], "pending": False},
    "builder": {"platforms": ["linux/amd64", "linux/arm64"], "named": None, "buildkit": False},
    "disks": [{"folder": "/", "size": 40 * GB, "free": 20 * GB, "inodes": 1000, "inodes_free": 900}],
    "folder": {"there": True, "mode": 0o700, "owner": "root", "ours": True, "folder": True},
    "apps": [{"app": "shop", "unfinished": None, "lock": None, "hold": None}],
    "boot": {"by": "systemd", "why": ""},
    "ports": [{"port": 80, "by": ""}, {"port": 443, "by": "ours"}],
    "registries": [{"name": "r.test", "image": "r.test/a:1", "pushed": False, "status": 200, "said": ""}],
    "mirrors": [{"url": "http://mirror.test", "said": ""}],
}  # fmt: skip
FOLDER = GOOD["folder"]
HOST = Wanted("h1", "/var/lib/longshore", apps=("shop",), ports=(80, 443))
BUILDER = Wanted("h1", "/s", builds=("api",), platforms=("linux/arm64",), several=True)
OLD = {**GOOD["engine"], "store": False}


def _bad(
    wanted: Wanted = HOST, *, ahead: float = 0.0, slack: float = 0.0, **facts: Any
) -> list[tuple[str, ...]]:
    """What isn't good: level, code and text of each finding."""
    seen = Seen({**GOOD, **facts}, ahead=ahead, slack=slack)
    found = judge(wanted, seen)
    assert all(one.hint for one in found if one.level == "error"), "an error says what to do"
    return [(one.level, one.code, one.text) for one in found if one.level != "good"]


def test_a_good_host_has_good_findings_only() -> None:
    assert _bad() == [] and _bad(BUILDER) == []
    codes = {one.code for one in judge(HOST, Seen(GOOD))}
    everyday = {"reached", "clock", "programs", "settings", "disk", "state-dir", "boot"}
    assert codes == everyday | {"registry", "mirror", "port", "handover"}


def _one(found: list[tuple[str, ...]]) -> tuple[str, str, str]:
    assert len(found) == 1, found
    level, code, text = found[0]
    return level, code, text


@pytest.mark.parametrize(
    ("facts", "level", "code", "says"),
    [
        ({"disks": [{**GOOD["disks"][0], "free": 10**8}]}, "error", "disk", "100.0 MB of 40.0 GB"),
        ({"disks": [{**GOOD["disks"][0], "free": GB}]}, "warning", "disk", "1.0 GB of 40.0 GB"),
        ({"disks": [{**GOOD["disks"][0], "inodes_free": 0}]}, "error", "disk", "no inodes are left"),
        ({"disks": [{**GOOD["disks"][0], "inodes_free": 50}]}, "warning", "disk", "5 % of the inodes"),
        ({"folder": {"there": False}, "boot": {"by": "", "why": "x"}}, "warning", "state-dir", "no /var/lib"),
        ({"folder": {**GOOD["folder"], "folder": False}}, "error", "state-dir", "is no folder"),
        ({"folder": {**FOLDER, "ours": False, "owner": "ann"}}, "error", "state-dir", "belongs to ann"),
        ({"folder": {**FOLDER, "mode": 0o777}}, "error", "state-dir", "written by others (mode 0777)"),
        ({"folder": {**GOOD["folder"], "mode": 0o755}}, "warning", "state-dir", "read by others (mode 0755)"),
        ({"boot": {"by": "", "why": "no cron"}}, "warning", "boot", "doesn't recover at boot: no cron"),
        ({"boot": {"by": "disabled", "why": ""}}, "warning", "boot", "switched that off"),
        ({"settings": {**GOOD["settings"], "lacking": ["x true"]}}, "warning", "settings", "isn't told"),
        ({"settings": {**GOOD["settings"], "pending": True}}, "warning", "settings", "hasn't read all"),
        ({"settings": {**GOOD["settings"], "kept": ["x is y"]}}, "warning", "settings-kept", "x is y"),
        ({"settings": {"error": "daemon.json:3:1: no", "hint": "Mend it."}}, "error", "settings", "json:3:1"),
        ({"programs": {"error": "Docker is a snap", "hint": "Remove it."}}, "error", "programs", "snap"),
        ({"engine": {"error": "no engine answers", "hint": "Start it."}}, "error", "engine", "no engine"),
        ({"ports": [{"port": 80, "by": "nginx"}]}, "error", "port", "port 80, which the proxy needs"),
        ({"system": {**GOOD["system"], "kernel": "5.4.0"}}, "warning", "handover", "5.6 can"),
        ({"system": {**GOOD["system"], "migrates": False}}, "warning", "handover", "5.14 can"),
        ({"system": {"error": "odd", "hint": ""}}, "warning", "system-unseen", "could not be looked at: odd"),
        ({"mirrors": [{"url": "http://x", "said": "refused"}]}, "warning", "mirror", "doesn't answer (r"),
        ({"mirrors": [{"url": "http://x", "said": ""}]}, "warning", "mirror", "isn't told of the mirror"),
    ],
)  # fmt: skip
def test_every_finding_has_its_level_and_its_reason(facts: Any, level: str, code: str, says: str) -> None:
    found = _one(_bad(**facts))
    assert found[:2] == (level, code) and says in found[2]


@pytest.mark.parametrize(
    ("said", "level", "code", "says"),
    [
        ("manifest unknown: manifest unknown", "warning", "image", "has no r.test/a:1"),
        ("http: server gave HTTP response to HTTPS client", "error", "registry", "plain HTTP"),
        ("tls: failed to verify certificate: x509: unknown authority", "error", "registry", "isn't trusted"),
        (
            "Get r.test: unauthorized: incorrect username or password",
            "error",
            "registry",
            "refuses the login",
        ),
        ("dial tcp: lookup r.test: no such host", "error", "registry", "can't be reached"),
        ("dial tcp 10.0.0.9:443: connect: connection refused", "error", "registry", "can't be reached"),
    ],
)
def test_a_registry_that_the_engine_cannot_use_is_told_apart(
    said: str, level: str, code: str, says: str
) -> None:
    row = {**GOOD["registries"][0], "status": 500, "said": said}
    found = _one(_bad(registries=[row]))
    assert found[:2] == (level, code) and says in found[2]


def test_what_a_builder_will_push_need_not_be_there_yet() -> None:
    row = {**GOOD["registries"][0], "status": 404, "said": "manifest unknown", "pushed": True}
    assert _bad(registries=[row]) == []


def test_a_clock_is_only_off_by_more_than_the_question_took() -> None:
    assert _bad(ahead=3.0, slack=2.0) == []
    assert _one(_bad(ahead=-30.0)) == ("warning", "clock", "its clock is 30 s behind this machine's")
    assert _one(_bad(ahead=400.0, slack=1.0))[0] == "error"


def test_what_is_missing_is_said_once_and_buildx_only_where_something_is_built() -> None:
    versions = {"engine": "", "cli": "", "compose": "2.20.0", "buildx": ""}
    programs = {**GOOD["programs"], "versions": versions, "missing": ["engine", "compose", "buildx"]}
    none = {"error": "no engine answers", "hint": "Start it."}
    found = _bad(programs=programs, engine=none, settings=none, builder=none)
    assert [one[:2] for one in found] == [("error", "engine"), ("error", "compose"), ("warning", "buildx")]
    assert found[1][2] == "Compose is 2.20.0, and 2.24.4 is needed"
    assert ("error", "buildx") in [
        one[:2] for one in _bad(BUILDER, programs=programs, engine=none, settings=none)
    ]


def test_what_runs_before_have_left_is_said_and_a_run_at_work_is_not_called_unfinished() -> None:
    app = GOOD["apps"][0]
    assert "brought 12ab of shop" in _one(_bad(apps=[{**app, "unfinished": "12ab"}]))[2]
    at_work = [{**app, "unfinished": "12ab", "lock": {"by": "ann@x"}}]
    assert _one(_bad(apps=at_work)) == ("warning", "locked", "shop is being worked on by ann@x")
    held = [{**app, "hold": {"by": "ann", "why": "the database moves"}}]
    assert _one(_bad(apps=held)) == ("warning", "held", "ann holds shop: the database moves")


def test_the_older_image_store_matters_where_images_are_built_or_brought() -> None:
    assert _bad(engine=OLD) == []
    assert "a BuildKit container, which the first build fetches" in _one(_bad(BUILDER, engine=OLD))[2]
    stacked = Wanted("h1", "/s", builds=("api",), stacked=True)
    assert "another service's takes a BuildKit container" in _one(_bad(stacked, engine=OLD))[2]
    there = {**GOOD["builder"], "buildkit": True}
    assert _bad(BUILDER, engine=OLD, builder=there) == []
    moved = Wanted("h1", "/s", moved=True)
    assert _one(_bad(moved, engine=OLD))[:2] == ("error", "image-store")


def test_a_builder_that_the_inventory_names_must_be_there() -> None:
    named = Wanted("h1", "/s", builds=("api",), buildx="mine")
    assert _bad(named, engine=OLD, builder={**GOOD["builder"], "named": True}) == []
    missing = _one(_bad(named, engine=OLD, builder={**GOOD["builder"], "named": False}))
    assert missing[:2] == ("error", "buildx")


def test_a_platform_that_no_builder_has_for_its_own_takes_an_emulation() -> None:
    own = {**GOOD["builder"], "platforms": ["linux/amd64"]}
    assert "can't be built for linux/arm64" in _one(_bad(BUILDER, builder=own))[2]
    both = ("linux/amd64", "linux/arm64/v8")
    wanted = {name: Wanted(name, "/s", builds=("api",), platforms=both) for name in ("amd", "arm")}
    assert only_emulated(wanted, {"amd": "linux/amd64"})["amd"].platforms == ("linux/arm64/v8",)
    native = {"amd": "linux/amd64", "arm": "linux/arm64"}
    assert {one.platforms for one in only_emulated(wanted, native).values()} == {()}


def test_a_folder_that_is_not_ours_is_said_once() -> None:
    denied = {"error": "Permission denied", "hint": ""}
    assert _one(_bad(folder={**FOLDER, "ours": False}, apps=denied))[1] == "state-dir"
    assert _one(_bad(apps=denied))[1] == "apps-unseen"


# Asking


def test_the_program_runs_alone_on_any_python_and_writes_nothing(tmp_path: Path) -> None:
    wanted = Wanted(
        "h1", str(tmp_path / "state"), apps=("shop",), mirrors=("http://127.0.0.1:1",), ports=(1,)
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", STARTER],
        input=payload(wanted), capture_output=True, env={"PATH": "/usr/bin:/bin"}, cwd=tmp_path, check=True,
    )  # fmt: skip
    clock, facts = (json.loads(line) for line in done.stdout.splitlines())
    assert abs(clock["clock"] - time.time()) < 60
    assert set(facts["facts"]) == set(GOOD)
    assert facts["facts"]["folder"] == {"there": False} and facts["facts"]["system"]["python"]
    assert facts["facts"]["mirrors"] == [{"url": "http://127.0.0.1:1", "said": "Connection refused"}]
    assert not any("could not be looked at" in str(one) for one in facts["facts"].values()), facts
    assert list(tmp_path.iterdir()) == []


class Link:
    host = "h1"

    def __init__(self, said: bytes, code: int = 0) -> None:
        self.said, self.code = said, code

    def run(self, argv: list[str], *, stdin: bytes = b"", on_output: Any = None, **_: Any) -> int:
        assert b"s3cret" in stdin and "s3cret" not in str(argv)
        on_output(self.said)
        return self.code


@pytest.mark.parametrize(
    ("said", "code", "sentence"),
    [
        (b"sh: python3: not found\n", 127, "no python3 to look with"),
        (b"SyntaxError: invalid syntax\n", 1, "too old, or not whole"),
        (b"Killed\n", 137, r"ended early \(exit code 137\): Killed"),
        (b"", 0, "it said nothing"),
    ],
)
def test_a_host_that_cannot_be_looked_at_is_a_sentence(said: bytes, code: int, sentence: str) -> None:
    wanted = Wanted("h1", "/s", registries=({"name": "r.test", "auth": {"password": "s3cret"}},))
    with pytest.raises(HostError, match=sentence):
        examine(Link(said, code), wanted, python="python3")  # type: ignore[arg-type]


def test_the_hosts_clock_is_read_between_question_and_answer() -> None:
    wanted = Wanted("h1", "/s", registries=({"name": "r.test", "auth": {"password": "s3cret"}},))
    said = json.dumps({"clock": time.time() + 100}) + "\n" + json.dumps({"facts": {}}) + "\n"
    seen = examine(Link(said.encode()), wanted, python="python3")  # type: ignore[arg-type]
    assert seen.ahead == pytest.approx(100, abs=2) and seen.slack < 2


# What each host is for, and this machine

INVENTORY = """
all:
  vars:
    longshore:
      registries:
        docker.io: {mirror: 10.0.0.5:5000, insecure: true}
        r.test: {username: ann, password: s3cret}
      build: {platforms: [linux/amd64, linux/arm64]}
      apps:
        shop: {compose: compose.yml, hosts: web, services: {api: {proxy: {port: 8000}}}}
  children:
    web: {hosts: {w1: , w2: }}
    builders: {hosts: {b1: }}
    others: {hosts: {o1: }}
"""
COMPOSE = "services: {api: {image: 'r.test/api:1', build: api}, db: {image: 'postgres:15'}}"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "inventory").mkdir()
    (tmp_path / "api").mkdir()
    (tmp_path / "api" / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "inventory" / "try.yml").write_text(INVENTORY)
    (tmp_path / "compose.yml").write_text(COMPOSE)
    return tmp_path


def test_each_host_is_looked_at_for_what_it_is_for(project: Path) -> None:
    wishes = Wishes(load(project, "try"), {"shop": ("w1", "w2")}, here=lambda: False)
    assert wishes.hosts == ("w1", "w2", "b1") and wishes.findings == []
    web, builder = wishes.of("w1"), wishes.of("b1")
    assert web.apps == ("shop",) and 80 in web.ports and web.builds == ()
    assert [(one["name"], one["image"]) for one in web.registries] == [
        ("docker.io", "postgres:15"), ("r.test", "r.test/api:1"),
    ]  # fmt: skip
    assert web.registries[1]["auth"]["password"] == "s3cret" and "s3cret" not in repr(web)
    assert web.mirrors == ("http://10.0.0.5:5000",) and web.daemon["live-restore"] is True
    assert builder.builds == ("api",) and builder.several and builder.ports == ()
    assert [one["pushed"] for one in builder.registries] == [True]


def test_a_project_that_cannot_be_read_is_a_finding_and_the_hosts_are_looked_at_all_the_same(
    project: Path,
) -> None:
    (project / "api" / "Dockerfile").unlink()
    wishes = Wishes(load(project, "try"), {"shop": ("w1",)}, here=lambda: False)
    assert wishes.hosts == ("w1",) and wishes.of("w1").apps == ("shop",)
    (finding,) = wishes.findings
    assert finding.level == "error" and "Dockerfile" in finding.text and "invoke dockerfile" in finding.hint


def _environment(root: Path, **rest: Any) -> Environment:
    return Environment("prod", root, {}, {}, {}, {}, rest.pop("registries", {}), production=True, **rest)


def test_changes_that_are_not_committed_are_said_before_a_push_refuses_them(tmp_path: Path) -> None:
    environment = _environment(tmp_path)
    assert [one.level for one in commit(environment, Git("ab-dirty"), True)] == ["warning"]
    assert [one.level for one in commit(environment, Git("ab-dirty"), False)] == ["good"]
    assert "in no git" in next(iter(commit(environment, Git(), True))).text


def test_certificates_are_said_before_they_end(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=x",
         "-keyout", str(tmp_path / "key"), "-out", str(path)],
        capture_output=True, check=True,
    )  # fmt: skip
    environment = _environment(tmp_path, registries={"r.test": Registry("r.test", ca=path)})
    now = time.time()
    for days, level in ((0, "good"), (20, "warning"), (31, "error")):
        (finding,) = certificates(environment, (), now=now + days * 86400)
        assert finding.level == level and "the authority of r.test" in finding.text
    path.write_text("nothing")
    assert "no certificate in PEM" in certificates(environment, ())[0].text
    path.unlink()
    assert "can't be read" in certificates(environment, ())[0].text


def test_a_port_of_another_protocol_is_not_in_the_proxys_way(monkeypatch: pytest.MonkeyPatch) -> None:
    class Engine:
        def __init__(self, **_: Any) -> None:
            pass

        def containers(self) -> list[dict[str, Any]]:
            ports = [{"PublicPort": 443, "Type": "udp"}, {"PublicPort": 80, "Type": "tcp"}]
            return [{"Names": ["/wireguard"], "State": "running", "Ports": ports}]

    monkeypatch.setattr(network, "Engine", Engine)
    monkeypatch.setattr(network, "sockets", lambda state: iter(()))
    assert network.ports({"ports": [80, 443]}) == [
        {"port": 80, "by": "the container wireguard"},
        {"port": 443, "by": ""},
    ]
