"""Mounts, configs and secrets: what is shipped, what is state, and what recreates whom."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
from render_factory import overlay, problems_of, service, target, write

from longshore.errors import LongshoreError
from longshore.render import Bundle, Renderer, content, render

CONTENT = "/var/lib/longshore/shop/content/"
STATE = "/var/lib/longshore/shop/state/"


def compose(*volumes: str, more: str = "") -> str:
    return (
        f"services: {{web: {{image: 'w:1', volumes: [{', '.join(volumes)}]{more}}}}}\nvolumes: {{data: }}\n"
    )


def mounts(bundle: Bundle, name: str = "web") -> dict[str, dict[str, Any]]:
    volumes = service(bundle, name).get("volumes", [])
    entries = volumes["!override"] if isinstance(volumes, dict) else volumes
    return {entry["target"]: entry for entry in entries}


def shipped(bundle: Bundle) -> dict[str, tuple[bytes, int]]:
    """Content of a bundle by its path below the hash."""
    return {
        file.path.partition("/")[2]: (file.data, file.mode) for file in bundle.files if file.kind == "content"
    }


def refused(one: Any) -> str:
    with pytest.raises(LongshoreError) as caught:
        render(one)
    return "\n".join(problems_of(caught.value))


def git(root: Path, ignore: str) -> None:
    write(root, {".gitignore": ignore})
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)


def test_a_file_beside_the_compose_file_is_shipped_under_its_hash(tmp_path: Path) -> None:
    write(tmp_path, {"nginx/site.conf": "server {}"})
    bundle = render(target(tmp_path, compose("'./nginx/site.conf:/etc/nginx/conf.d/site.conf:ro,z'")))
    (entry,) = mounts(bundle).values()
    assert entry["source"].startswith(CONTENT) and entry["source"].endswith("/site.conf")
    assert entry["read_only"] is True
    assert entry["bind"] == {"selinux": "z", "create_host_path": False}
    assert shipped(bundle) == {"site.conf": (b"server {}", 0o644)}
    assert [file.path for file in bundle.files if file.kind == "content"] == [
        entry["source"].removeprefix(CONTENT)
    ]


def test_a_folder_is_shipped_with_modes_and_links_that_stay_inside(tmp_path: Path) -> None:
    write(tmp_path, {"conf/a": "1", "conf/sub/run.sh": "#!", "shared/b": "2"})
    (tmp_path / "conf/sub/run.sh").chmod(0o750)
    (tmp_path / "conf/link").symlink_to("../shared/b")
    (tmp_path / "conf/folder").symlink_to("../shared")
    bundle = render(target(tmp_path, compose("./conf:/conf")))
    assert shipped(bundle) == {
        "conf/a": (b"1", 0o644),
        "conf/sub/run.sh": (b"#!", 0o755),
        "conf/link": (b"2", 0o644),
        "conf/folder/b": (b"2", 0o644),
    }


def test_changed_content_changes_the_path_of_its_users_only(tmp_path: Path) -> None:
    write(tmp_path, {"a/x": "1", "b/x": "1"})
    one = target(tmp_path, compose("./a:/a", "./b:/b", "./a:/again"))
    before = mounts(render(one))
    write(tmp_path, {"a/x": "2"})
    after = mounts(render(one))
    assert before["/a"] != after["/a"] and before["/again"] != after["/again"]
    assert before["/b"] == after["/b"]
    (tmp_path / "b/x").chmod(0o755)
    assert mounts(render(one))["/b"] != after["/b"]


def test_the_same_content_elsewhere_on_disk_has_the_same_path(tmp_path: Path) -> None:
    bundles = []
    for name in ("here", "there"):
        write(tmp_path / name, {"conf/a": "1", "x.txt": "2"})
        bundles.append(render(target(tmp_path / name, compose("./conf:/c", ".:/all", "./x.txt:/x"))))
    assert bundles[0].id == bundles[1].id
    assert bundles[0].files == bundles[1].files


@pytest.mark.parametrize("folder", ["missing", "empty", "kept", "ignored", "all-ignored"])
def test_a_folder_without_content_of_ours_is_state(tmp_path: Path, folder: str) -> None:
    git(tmp_path, "ignored/\n")
    (tmp_path / "empty").mkdir()
    write(
        tmp_path,
        {
            "kept/.gitkeep": "",
            "ignored/db": "rows",
            "all-ignored/.gitignore": "*\n!.gitignore\n",
            "all-ignored/upload.jpg": "x",
        },
    )
    bundle = render(target(tmp_path, compose(f"./{folder}:/data")))
    assert mounts(bundle)["/data"]["source"] == f"{STATE}{folder}"
    assert bundle.state_dirs == (f"{STATE}{folder}",)
    assert shipped(bundle) == {}
    assert any("is state" in note.message for note in bundle.notes)


def test_the_data_of_a_database_is_never_shipped(tmp_path: Path) -> None:
    write(tmp_path, {"pgdata/PG_VERSION": "15"})
    bundle = render(target(tmp_path, compose("./pgdata:/var/lib/postgresql/data")))
    assert mounts(bundle)["/var/lib/postgresql/data"]["source"] == f"{STATE}pgdata"
    assert shipped(bundle) == {}


def test_state_stays_where_it_is_whatever_else_the_project_gets(tmp_path: Path) -> None:
    write(tmp_path, {"deploy/compose.yml": compose("../uploads:/u")})
    one = render(target(tmp_path, paths=("deploy/compose.yml",)))
    write(
        tmp_path,
        {
            "deploy/compose.yml": compose("../uploads:/u", more=", env_file: ../../e.env"),
            "../e.env": "",
        },
    )
    two = render(target(tmp_path, paths=("deploy/compose.yml",)))
    assert one.state_dirs == two.state_dirs == (f"{STATE}_up/uploads",)


def test_what_git_ignores_in_a_shipped_folder_stays_here(tmp_path: Path) -> None:
    git(tmp_path, "*.log\nnode_modules/\n")
    write(
        tmp_path,
        {"app/index.js": "1", "app/debug.log": "x", "app/node_modules/a/b.js": "x", "app/.git/config": "x"},
    )
    (tmp_path / "app/node_modules/out").symlink_to("/usr")
    bundle = render(target(tmp_path, compose("./app:/app")))
    assert set(shipped(bundle)) == {"app/index.js"}
    assert any("2 entries" in note.message for note in bundle.notes)
    (tmp_path / "app/node_modules/out").unlink()
    everything = render(target(tmp_path, compose("./app:/app"), mounts={"./app": "ship"}))
    assert set(shipped(everything)) == {"app/index.js", "app/debug.log", "app/node_modules/a/b.js"}


def test_a_file_that_git_ignores_needs_a_word_from_a_person(tmp_path: Path) -> None:
    git(tmp_path, "*.sqlite3\n")
    write(tmp_path, {"db.sqlite3": "rows"})
    volumes = compose("./db.sqlite3:/app/db.sqlite3")
    assert "mounts: {./db.sqlite3: ship}" in refused(target(tmp_path, volumes))
    bundle = render(target(tmp_path, volumes, mounts={"db.sqlite3": "state"}))
    (entry,) = mounts(bundle).values()
    assert entry["source"] == f"{STATE}db.sqlite3" and entry["bind"]["create_host_path"] is False
    assert bundle.state_dirs == (STATE.rstrip("/"),)
    assert any("put the file on each host" in note.message for note in bundle.notes)


def test_a_file_that_is_missing_is_not_made_a_folder(tmp_path: Path) -> None:
    sentence = refused(target(tmp_path, compose("./nginx.conf:/etc/nginx/nginx.conf")))
    assert "nginx.conf, which is mounted here, doesn't exist" in sentence
    assert "mounts: {./nginx.conf: state}" in sentence
    assert sentence.startswith("compose.yml:1:")


def test_a_dropped_mount_is_gone_and_the_others_stay(tmp_path: Path) -> None:
    write(tmp_path, {"src/app.py": "1", "conf/a": "1"})
    volumes = compose("./src:/app/src", "./conf:/conf", "data:/data", "/var/run/docker.sock:/d.sock")
    bundle = render(target(tmp_path, volumes, mounts={"src": "drop"}))
    said = service(bundle, "web")["volumes"]["!override"]
    assert [entry["target"] for entry in said] == ["/conf", "/data", "/d.sock"]
    assert said[1] == {"type": "volume", "source": "data", "target": "/data"}


def test_the_only_mount_can_be_dropped(tmp_path: Path) -> None:
    bundle = render(target(tmp_path, compose(".:/app"), mounts={".": "drop"}))
    assert service(bundle, "web")["volumes"] == {"!reset": None}


def test_a_rule_for_a_mount_that_nobody_has_is_pointed_out(tmp_path: Path) -> None:
    bundle = render(target(tmp_path, compose("data:/d"), mounts={"./srcc": "drop"}))
    assert any("srcc, which no service here mounts" in note.message for note in bundle.notes)


@pytest.mark.parametrize("volume", [".:/app", "./backend:/app", "./backend/app:/code"])
def test_a_mount_of_source_code_is_pointed_out(tmp_path: Path, volume: str) -> None:
    write(tmp_path, {"backend/Dockerfile": "FROM x", "backend/app/main.py": "1", "conf/a.conf": "1"})
    volumes = compose(f"'{volume}'", "./conf:/conf", more=", build: ./backend")
    (warning,) = [note for note in render(target(tmp_path, volumes)).notes if note.level == "warning"]
    assert "source code" in warning.message and "drop}" in warning.message
    assert warning.where is not None and warning.where.line == 1


def test_absolute_and_named_mounts_are_left_to_compose(tmp_path: Path) -> None:
    bundle = render(target(tmp_path, compose("/srv/x:/x", "data:/data", "/anonymous", "~/y:/y")))
    assert "volumes" not in service(bundle, "web")


def test_a_link_out_of_the_project_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"outside/secret": "x", "project/conf/a": "1"})
    (tmp_path / "project/conf/link").symlink_to("../../outside/secret")
    assert "points out of the project" in refused(target(tmp_path / "project", compose("./conf:/c")))
    (tmp_path / "project/file.txt").symlink_to("../outside/secret")
    assert "points out of the project" in refused(target(tmp_path / "project", compose("./file.txt:/f")))


def test_a_link_in_a_circle_ends(tmp_path: Path) -> None:
    write(tmp_path, {"conf/a": "1"})
    (tmp_path / "conf/me").symlink_to(".")
    assert "points to a folder that holds it" in refused(target(tmp_path, compose("./conf:/c")))


def test_a_dangling_link_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"conf/a": "1"})
    (tmp_path / "conf/gone").symlink_to("nowhere")
    assert "points to nothing" in refused(target(tmp_path, compose("./conf:/c")))


def test_a_socket_or_pipe_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"conf/a": "1"})
    os.mkfifo(tmp_path / "conf/pipe")
    assert "socket, pipe or device" in refused(target(tmp_path, compose("./conf:/c")))
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind("app.sock")
        assert "socket, pipe or device" in refused(target(tmp_path, compose("./app.sock:/s")))


def test_too_much_content_is_refused_before_it_is_read(tmp_path: Path) -> None:
    write(tmp_path, {"media/small": "1"})
    with (tmp_path / "media/big").open("wb") as file:
        file.truncate(content.MAX_CONTENT)
    sentence = refused(target(tmp_path, compose("./media:/m")))
    assert "64 MiB" in sentence and "./media" in sentence


def test_two_mounts_that_are_too_much_together_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "MAX_CONTENT", 10)
    write(tmp_path, {"a/x": "123456", "b/x": "654321"})
    assert "up to this one" in refused(target(tmp_path, compose("./a:/a", "./b:/b")))


def test_a_mounted_env_file_is_the_rendered_one(tmp_path: Path) -> None:
    write(tmp_path, {".env": "TOKEN=of-the-laptop"})
    one = target(tmp_path, compose("./.env:/app/.env:ro"), env={"TOKEN": "real"}, secrets=("TOKEN",))
    bundle = render(one)
    assert shipped(bundle) == {".env": (b'TOKEN="real"\n', 0o644)}
    assert all(file.secret for file in bundle.files if file.kind == "content")


def test_the_laptops_env_file_never_travels(tmp_path: Path) -> None:
    write(tmp_path, {".env": "TOKEN=of-the-laptop", "main.py": "1"})
    bundle = render(target(tmp_path, compose(".:/app", more=", env_file: .env"), env={"A": "1"}))
    assert not any(b"of-the-laptop" in file.data for file in bundle.files)
    assert set(shipped(bundle)) == {"_project/main.py", "_project/compose.yml"}


def test_an_extra_file_of_the_inventory_can_be_mounted(tmp_path: Path) -> None:
    write(tmp_path, {"t/site.conf.j2": "host {{ name }};", "conf/own": "1"})
    files = {"conf/site.conf": tmp_path / "t/site.conf.j2"}
    one = target(
        tmp_path,
        compose("./conf:/conf", "./conf/site.conf:/one"),
        files=files,
        variables={"name": "a"},
    )
    bundle = render(one)
    assert shipped(bundle) == {
        "conf/own": (b"1", 0o644),
        "conf/site.conf": (b"host a;", 0o644),
        "site.conf": (b"host a;", 0o644),
    }
    assert "conf/site.conf" in {file.path for file in bundle.files if file.kind == "release"}


CONFIGS = """
services:
  web: {image: "w:1", configs: [app, {source: inline, target: /i}], secrets: [token]}
  cron: {image: "w:1", secrets: [token]}
  idle: {image: "w:1"}
configs: {app: {file: ./app.conf}, inline: {content: "a=${A}"}, unused: {file: ./gone}}
secrets: {token: {file: token.txt}, env: {environment: A}}
"""


def labels(bundle: Bundle) -> dict[str, str | None]:
    return {
        name: value["labels"].get("longshore.content") for name, value in overlay(bundle)["services"].items()
    }


def test_configs_and_secrets_recreate_their_users_when_they_change(tmp_path: Path) -> None:
    write(tmp_path, {"app.conf": "1", "token.txt": "hunter2"})
    one = target(tmp_path, CONFIGS, env={"A": "1"})
    bundle = render(one)
    before = labels(bundle)
    assert before["idle"] is None and before["web"] and before["cron"]
    assert overlay(bundle)["secrets"]["token"]["file"].startswith(CONTENT)
    (secret,) = [file for file in bundle.files if file.data == b"hunter2"]
    assert secret.secret and secret.kind == "content"
    write(tmp_path, {"app.conf": "2"})
    after = labels(render(one))
    assert after["web"] != before["web"] and after["cron"] == before["cron"]
    inline = labels(render(target(tmp_path, CONFIGS, env={"A": "2"})))
    assert inline["web"] != after["web"] and inline["cron"] == after["cron"]


def test_a_secret_from_a_variable_that_is_not_set_is_refused(tmp_path: Path) -> None:
    sentence = refused(
        target(tmp_path, "services: {w: {image: x, secrets: [s]}}\nsecrets: {s: {environment: PW}}\n")
    )
    assert "secrets.s takes its content from PW, which is not set" in sentence


def test_the_file_of_a_config_must_exist(tmp_path: Path) -> None:
    sentence = refused(
        target(tmp_path, "services: {w: {image: x, configs: [c]}}\nconfigs: {c: {file: ./c}}\n")
    )
    assert sentence.startswith("compose.yml:2:") and "doesn't exist" in sentence


def test_a_renderer_reads_a_file_once_for_all_hosts(tmp_path: Path) -> None:
    write(tmp_path, {"conf/a": "1"})
    renderer = Renderer()
    first = renderer.render(target(tmp_path, compose("./conf:/c"), host="h1"))
    write(tmp_path, {"conf/a": "2"})
    second = renderer.render(target(tmp_path, compose("./conf:/c"), host="h2"))
    assert first.id == second.id and second.host == "h2"
    assert render(target(tmp_path, compose("./conf:/c"))).id != first.id


def test_a_folder_that_cannot_be_read_needs_a_word_from_a_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {"data/x": "1"})
    monkeypatch.setattr(content.os, "access", lambda path, mode: False)  # root can read everything
    sentence = refused(target(tmp_path, compose("./data:/d")))
    assert sentence.startswith("compose.yml:1:") and "data, which is mounted here, can't be read" in sentence
    said = render(target(tmp_path, compose("./data:/d"), mounts={"./data": "state"}))
    assert mounts(said)["/d"]["source"] == f"{STATE}data"
    known = render(target(tmp_path, compose("./data:/var/lib/postgresql/data")))
    assert mounts(known)["/var/lib/postgresql/data"]["source"] == f"{STATE}data"


def test_a_name_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"conf/a": "1"})
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/conf/caf\xe9")).write_text("1")
    assert "not UTF-8" in refused(target(tmp_path, compose("./conf:/c")))


@pytest.mark.parametrize(
    "written", ["./conf:/etc/app/", "./conf:/etc//app", "{type: bind, source: ./conf, target: /etc/app/}"]
)
def test_a_mount_whose_target_is_written_oddly_is_replaced_and_not_doubled(
    tmp_path: Path, written: str
) -> None:
    write(tmp_path, {"conf/a.txt": "a"})
    volumes = service(render(target(tmp_path, compose(written, "data:/data"))), "web")["volumes"]
    # Versions of Compose differ in whether /etc/app/ and /etc/app are the same, so all of them are replaced.
    assert [entry["target"] for entry in volumes["!override"]] == ["/etc/app", "/data"]


def test_the_options_of_a_named_volume_are_where_compose_keeps_them(tmp_path: Path) -> None:
    write(tmp_path, {"conf/a.txt": "a"})
    volumes = ("./conf:/conf/", "'data:/x:ro,z'", "data:/y:nocopy")
    found = mounts(render(target(tmp_path, compose(*volumes))))
    assert found["/x"] == {
        "type": "volume", "source": "data", "target": "/x", "read_only": True, "bind": {"selinux": "z"}
    }  # fmt: skip
    assert found["/y"]["volume"] == {"nocopy": True}


def test_a_mount_of_the_inventory_replaces_one_whose_target_is_written_oddly(tmp_path: Path) -> None:
    bundle = render(
        target(tmp_path, compose("data:/data/", "/srv:/srv"), services={"web": {"volumes": ("/mnt:/data",)}})
    )
    said = service(bundle, "web")["volumes"]["!override"]
    assert [(entry["source"], entry["target"]) for entry in said] == [("/mnt", "/data"), ("/srv", "/srv")]
