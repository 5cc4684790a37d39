"""Bundles as a whole: the same for the same input, the right services, and written as a host has them."""

from __future__ import annotations

import stat
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from render_factory import overlay, problems_of, service, target, text_of, write

from longshore.errors import LongshoreError
from longshore.render import Bundle, Renderer, render
from longshore.render import pack as packing
from longshore.render import write as writing
from longshore.render.pack import pack
from longshore.render.selection import ELSEWHERE
from longshore.render.write import write_bundle

STACK = """
services:
  web:
    image: "w:1"
    depends_on: [db, cache]
  worker:
    image: "w:1"
    depends_on: {db: {condition: service_healthy}}
  db: {image: "postgres:15"}
  cache: {image: "redis:7"}
  debug: {image: "d:1", profiles: [debug], volumes: ["./missing.conf:/x"]}
"""


def refused(one: Any) -> str:
    with pytest.raises(LongshoreError) as caught:
        render(one)
    return "\n".join(problems_of(caught.value))


# Which services


def test_a_service_of_another_host_does_not_run_here_and_is_not_waited_for(tmp_path: Path) -> None:
    bundle = render(target(tmp_path, STACK, host="h1", placed={"db": ("h2",), "web": ("h1",)}))
    assert set(bundle.services) == {"web", "worker", "cache"}
    assert service(bundle, "db") == {"profiles": {"!override": [ELSEWHERE]}}
    # Always all of it: compose-go 2.0 shares one entry among the names of the short form.
    assert service(bundle, "web")["depends_on"] == {
        "!override": {
            "db": {"condition": "service_started", "required": False},
            "cache": {"condition": "service_started"},
        }
    }
    assert service(bundle, "worker")["depends_on"]["!override"]["db"] == {
        "condition": "service_healthy",
        "required": False,
    }
    assert bundle.services["web"].depends_on == ("cache",)


def test_everything_in_one_place_leaves_depends_on_alone(tmp_path: Path) -> None:
    bundle = render(target(tmp_path, STACK))
    assert all("depends_on" not in said for said in overlay(bundle)["services"].values())
    assert bundle.services["web"].depends_on == ("db", "cache")


def test_a_service_behind_a_profile_is_left_alone_until_it_is_asked_for(tmp_path: Path) -> None:
    bundle = render(target(tmp_path, STACK))
    assert "debug" not in bundle.services and "debug" not in overlay(bundle)["services"]
    assert "missing.conf" in refused(target(tmp_path, STACK, profiles=("debug",)))


def test_profiles_in_the_env_file_count_as_they_do_for_compose(tmp_path: Path) -> None:
    one = target(tmp_path, "services: {a: {image: 'a:1'}, b: {image: 'b:1', profiles: [x]}}\n")
    assert set(render(one).services) == {"a"}
    active = render(target(tmp_path, env={"COMPOSE_PROFILES": "x,y"}))
    assert set(active.services) == {"a", "b"} and active.profiles == ("x", "y")
    spaced = render(target(tmp_path, env={"COMPOSE_PROFILES": "y, x"}))
    assert set(spaced.services) == {"a", "b"} and spaced.profiles == ("y", "x")


@pytest.mark.parametrize("profiles", [{"profiles": ("*",)}, {"env": {"COMPOSE_PROFILES": "*"}}])
def test_all_profiles_do_not_bring_back_what_runs_elsewhere(tmp_path: Path, profiles: dict[str, Any]) -> None:
    compose = "services: {a: {image: 'a:1'}, b: {image: 'b:1', profiles: [x, y]}, c: {image: 'c:1'}}\n"
    bundle = render(target(tmp_path, compose, placed={"c": ("h2",)}, **profiles))
    assert set(bundle.services) == {"a", "b"} and bundle.profiles == ("x", "y")
    without = render(target(tmp_path, "services: {a: {image: 'a:1'}}\n", **profiles))
    assert "*" not in without.profiles and without.profiles


@pytest.mark.parametrize("key", ["network_mode: 'service:db'", "links: [db]", "volumes_from: ['db:ro']"])
def test_services_that_share_something_cannot_be_on_two_hosts(tmp_path: Path, key: str) -> None:
    compose = f"services: {{a: {{image: 'a:1', {key}}}, db: {{image: 'd:1'}}}}\n"
    assert "needs db on the same host" in refused(target(tmp_path, compose, placed={"db": ("h2",)}))
    assert render(target(tmp_path, compose)).services["a"].depends_on == ("db",)


def test_a_dependency_behind_a_profile_is_refused_unless_it_is_optional(tmp_path: Path) -> None:
    compose = "services: {a: {image: 'a:1', depends_on: {b: %s}}, b: {image: 'b:1', profiles: [x]}}\n"
    assert "behind a profile that isn't active" in refused(
        target(tmp_path, compose % "{condition: service_started}")
    )
    render(target(tmp_path, compose % "{condition: service_started, required: false}"))


def test_a_host_without_any_service_is_refused(tmp_path: Path) -> None:
    one = target(tmp_path, "services: {a: {image: 'a:1'}}\n", placed={"a": ("h2",)})
    assert "No service of shop runs on h1" in refused(one)


# The same input


def test_the_same_input_is_the_same_release(tmp_path: Path) -> None:
    write(tmp_path, {"conf/a": "1", "e.env": "A=1"})
    compose = STACK.replace('image: "d:1"', 'image: "d:1", env_file: e.env')
    one = render(target(tmp_path, compose, env={"B": "1", "A": "2"}))
    two = render(target(tmp_path, compose, env={"A": "2", "B": "1"}, host="h2"))
    assert one.id == two.id and one.files == two.files


@pytest.mark.parametrize(
    "change",
    [
        {"env": {"A": "2"}},
        {"services": {"web": {"cpus": 0.5}}},
        {"placed": {"db": ("h2",)}},
        {"keep": 9},
        {"profiles": ("other",)},
    ],
)
def test_a_different_input_is_another_release(tmp_path: Path, change: dict[str, Any]) -> None:
    renderer = Renderer()
    before = renderer.render(target(tmp_path, STACK, env={"A": "1"}))
    after = renderer.render(target(tmp_path, STACK, **{"env": {"A": "1"}, **change}))
    assert before.id != after.id


def test_a_digest_is_part_of_the_release(tmp_path: Path) -> None:
    renderer = Renderer()
    one = target(tmp_path, STACK)
    pinned = renderer.render(one, digests={"w:1": "w@sha256:" + "1" * 64})
    assert pinned.id != renderer.render(one).id
    assert pinned.id == renderer.render(one, digests={"w:1": "w@sha256:" + "1" * 64}).id


def test_a_template_is_rendered_for_each_host(tmp_path: Path) -> None:
    write(tmp_path, {"compose.yml.j2": "services: {web: {image: 'w:1', hostname: '{{ name }}'}}\n"})
    renderer = Renderer()
    texts = [
        text_of(
            renderer.render(target(tmp_path, paths=("compose.yml.j2",), host=name, variables={"name": name})),
            "compose.yml",
        )
        for name in ("h1", "h2")
    ]
    assert "'h1'" in texts[0] and "'h2'" in texts[1]


def test_hundreds_of_hosts_of_an_app_cost_little_more_than_one(tmp_path: Path) -> None:
    renderer = Renderer()
    one = target(tmp_path, STACK, env={f"K{index}": "x" * 20 for index in range(40)})
    begin = time.perf_counter()
    renderer.render(one)
    first = time.perf_counter() - begin
    begin = time.perf_counter()
    for index in range(300):
        renderer.render(replace(one, host=replace(one.host, name=f"h{index}")))
    assert (time.perf_counter() - begin) / 300 < max(first / 3, 0.001)


def test_hosts_that_differ_in_their_env_only_share_the_rest(tmp_path: Path) -> None:
    compose = "services: {web: {image: 'w:1', environment: {A: '${A}'}}}\n"
    renderer = Renderer()
    base = renderer.render(target(tmp_path, compose, env={"A": "1", "B": "1"}))
    other = target(tmp_path, env={"A": "1", "B": "2"}, host="h2")
    assert renderer.render(other) == render(other)
    assert renderer.render(other).id != base.id
    third = target(tmp_path, env={"A": "2", "B": "1"}, host="h3")
    assert renderer.render(third) == render(third)


def test_hosts_that_mount_their_env_file_get_their_own(tmp_path: Path) -> None:
    compose = "services: {web: {image: 'w:1', volumes: ['./.env:/app/.env']}}\n"
    renderer = Renderer()
    renderer.render(target(tmp_path, compose, env={"B": "1"}))
    other = target(tmp_path, env={"B": "2"}, host="h2")
    assert renderer.render(other) == render(other)


# .env and files


def test_the_env_file_is_sorted_closed_and_secret(tmp_path: Path) -> None:
    bundle = render(target(tmp_path, STACK, env={"B": "$2y$10$x", "A": 'a"b'}))
    (env,) = [file for file in bundle.files if file.path == ".env"]
    assert env.data == b'A="a\\"b"\nB="\\$2y\\$10\\$x"\n'
    assert env.mode == 0o600 and env.secret


def test_a_file_that_holds_a_secret_is_marked(tmp_path: Path) -> None:
    one = target(
        tmp_path,
        STACK,
        env={"PW": "hunter22"},
        secrets=("PW",),
        services={"web": {"environment": {"X": "hunter22"}}},
    )
    assert {file.path: file.secret for file in render(one).files} == {
        ".env": True,
        "compose.yml": False,
        "longshore.yml": True,
    }


def test_a_mounted_template_that_holds_a_secret_is_marked(tmp_path: Path) -> None:
    write(tmp_path, {"conf/a.conf.j2": "password {{ env.PW }}", "conf/b.conf": "1"})
    one = target(
        tmp_path,
        "services: {a: {image: 'a:1', volumes: ['./conf/a.conf:/a', './conf/b.conf:/b']}}\n",
        env={"PW": "hunter22"},
        secrets=("PW",),
    )
    marked = {
        file.path.rpartition("/")[2]: file.secret for file in render(one).files if file.kind == "content"
    }
    assert marked == {"a.conf": True, "b.conf": False}


def test_our_file_name_is_ours(tmp_path: Path) -> None:
    write(tmp_path, {"longshore.yml": "services: {a: {image: 'a:1'}}\n"})
    assert "longshore.yml" in refused(target(tmp_path, paths=("longshore.yml",)))


def test_what_engines_ignore_is_pointed_out(tmp_path: Path) -> None:
    bundle = render(
        target(
            tmp_path,
            """
            services:
              web:
                image: "w:1"
                container_name: web
                network_mode: host
                post_start: [{command: ls}]
                deploy: {update_config: {order: start-first}}
              net: {image: "n:1", networks: [outer], volumes: ["vol:/v"], logging: {driver: none}}
            networks: {outer: {external: true}, own: {external: true}}
            volumes: {vol: {external: true, name: real}}
            """,
        )
    )
    said = " / ".join(note.message for note in bundle.notes)
    for part in (
        "fixed container_name",
        "the host's network",
        "post_start needs Compose 2.30",
        "deploy.update_config is Swarm's",
        "network outer is external",
        "volume real is external",
        "logs nowhere",
    ):
        assert part in said
    assert "own is external" not in said


# invoke render


def test_a_bundle_is_written_as_a_host_has_it(tmp_path: Path) -> None:
    write(tmp_path / "app", {"run.sh": "#!"})
    (tmp_path / "app/run.sh").chmod(0o755)
    one = target(tmp_path / "app", "services: {a: {image: 'a:1', volumes: ['./run.sh:/run.sh']}}\n")
    bundle = render(one)
    folder = tmp_path / "rendered/shop/h1"
    (tmp_path / "rendered").mkdir()
    for _ in range(2):
        write_bundle(bundle, folder)
    modes = {str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*")}
    (digest,) = (folder / "content").iterdir()
    assert modes == {
        ".gitignore": 0o600,
        "bundle": 0o700,
        "bundle/.env": 0o600,
        "bundle/compose.yml": 0o600,
        "bundle/longshore.yml": 0o600,
        "content": 0o700,
        f"content/{digest.name}": 0o700,
        f"content/{digest.name}/run.sh": 0o755,
        "manifest.json": 0o600,
    }


def test_git_leaves_out_what_is_rendered_into_a_folder_that_is_there(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    write_bundle(render(target(tmp_path / "app", STACK)), tmp_path / "mine/new/shop/h1")
    write(tmp_path / "mine", {"note.txt": "1"})
    status = ["git", "-C", tmp_path, "status", "--porcelain", "-uall", "mine"]
    assert subprocess.run(status, capture_output=True, text=True, check=True).stdout == "?? mine/note.txt\n"


def test_what_was_broken_off_halfway_is_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = render(target(tmp_path / "app", STACK))
    folder = tmp_path / "out/shop/h1"

    def full(path: Path, *rest: Any) -> None:
        if path.name == "compose.yml":
            raise OSError(28, "No space left on device", str(path))
        written(path, *rest)

    written = writing._write
    monkeypatch.setattr(writing, "_write", full)
    with pytest.raises(LongshoreError, match="No space left"):
        write_bundle(bundle, folder)
    monkeypatch.undo()
    write_bundle(bundle, folder)
    assert (folder / "bundle/compose.yml").is_file()


def test_a_folder_that_was_not_rendered_is_left_alone(tmp_path: Path) -> None:
    write(tmp_path, {"out/shop/h1/precious": "1"})
    with pytest.raises(LongshoreError, match="left as it is"):
        write_bundle(render(target(tmp_path, STACK)), tmp_path / "out/shop/h1")
    assert (tmp_path / "out/shop/h1/precious").read_text() == "1"


def test_what_hosts_get_alike_is_packed_once_and_what_differs_for_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed: list[Bundle] = []
    monkeypatch.setattr(packing, "pack", lambda bundle: packed.append(bundle) or pack(bundle))
    packer = packing.Packer()
    first, same, other = (
        render(target(tmp_path / name, f"services:\n  web: {{image: 'web:{tag}'}}\n"))
        for name, tag in (("a", 1), ("b", 1), ("c", 2))
    )
    assert packer(first) is packer(same)
    assert packer(other) == pack(other) != packer(first)
    assert packed == [first, other]
