"""How what runs differs from what was committed: seen, said, and left alone where it isn't ours."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any, cast

import pytest

from longshore.agent import edited as editing
from longshore.agent import wire
from longshore.agent.drift import astray, drift, record, shape, size
from longshore.agent.edited import edited, findings, note_restored, put_right, restored
from longshore.agent.engine import Engine
from longshore.agent.explain import explain
from longshore.agent.store import AppStore

RELEASE = "0123456789ab"


class _Engine:
    """Answers with the containers that a test has made."""

    def __init__(self, *full: dict[str, Any]) -> None:
        self.full = {one["Id"]: one for one in full}

    def container(self, ident: str) -> dict[str, Any] | None:
        return self.full.get(ident)

    def containers(self, project: str | None = None, labels: tuple[str, ...] = ()) -> list[dict[str, Any]]:
        return [
            {
                "Id": ident,
                "Names": ["/" + ident],
                "State": "running",
                "Labels": {"com.docker.compose.service": one["service"]},
            }
            for ident, one in self.full.items()
        ]


def _engine(*full: dict[str, Any]) -> Engine:
    return cast(Engine, _Engine(*full))


def _full(ident: str = "c1", service: str = "web", **host: Any) -> dict[str, Any]:
    mounts = host.pop("mounts", [])
    config = {
        "Image": "shop:1",
        "Env": ["A=1", "PASSWORD=secret"],
        "Cmd": ["serve"],
        **host.pop("config", {}),
    }
    networks = {name: {} for name in host.pop("networks", ["shop_default"])}
    return {
        "Id": ident,
        "service": service,
        "HostConfig": {
            "Memory": 512 * 2**20,
            "RestartPolicy": {"Name": "always", "MaximumRetryCount": 0},
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m"}},
            **host,
        },
        "Config": config,
        "Mounts": mounts,
        "NetworkSettings": {"Networks": networks},
    }


def _container(service: str = "web", **more: Any) -> dict[str, Any]:
    return {
        "service": service, "config_hash": "h", "image_id": "i", "state": "running",
        "name": f"shop-{service}-1", "health": "", "status": "Up", "id": "c1", "app": "shop", **more,
    }  # fmt: skip


def _sentences(committed: dict[str, Any] | None, found: list[dict[str, Any]], *full: Any) -> list[str]:
    return [one.text for one in drift(_engine(*full), "shop", committed, found)]


def test_drift_names_what_was_changed_by_hand() -> None:
    committed = {
        "containers": [_container("api"), _container("api"), _container("db")],
        "one_shots": ["init"],
    }
    assert _sentences(committed, [_container("api"), _container("api"), _container("db")]) == []
    assert _sentences(committed, [_container("api"), _container("db")]) == ["api has 1 of 2 containers"]
    changed = [_container("api"), _container("api", image_id="other"), _container("db")]
    assert _sentences(committed, changed) == ["api was changed since the release was committed"]
    stopped = [_container("api"), _container("api"), _container("db", state="exited")]
    assert _sentences(committed, stopped) == ["db is exited"]
    assert _sentences(committed, [_container("api"), _container("api")]) == ["db has no container"]
    assert _sentences(None, []) == ["what was committed is not known"]


def test_a_one_shot_that_exited_with_0_is_no_drift() -> None:
    shot = _container("init", state="exited", status="Exited (0) 2 minutes ago")
    assert _sentences({"containers": [shot], "one_shots": ["init"]}, [shot]) == []
    assert _sentences({"containers": [shot], "one_shots": []}, [shot]) == ["init is exited"]


def test_a_container_that_is_not_ours_is_told_and_left_alone() -> None:
    (finding,) = drift(_engine(), "shop", {"containers": []}, [_container("guest", app="")])
    assert finding.mend == ""
    assert "shop-guest-1 has the app's project name, but Longshore did not make it" in finding.text
    (ours,) = drift(_engine(), "shop", {"containers": []}, [_container("old")])
    assert ours.mend == "remove"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"Memory": 2**30}, "web: memory limit is 1G, the release says 512M"),
        ({"Memory": 0}, "web: memory limit is none, the release says 512M"),
        ({"NanoCpus": 1_500_000_000}, "web: CPU limit is 1.5, the release says none"),
        ({"PidsLimit": 64}, "web: process limit is 64, the release says none"),
        ({"RestartPolicy": {"Name": "no"}}, "web: restart policy is no, the release says always"),
        ({"networks": []}, "web: network shop_default is missing"),
        ({"networks": ["shop_default", "other"]}, "web: network other was added"),
    ],
)
def test_what_docker_update_changed_is_a_sentence_with_both_values(
    change: dict[str, Any], sentence: str
) -> None:
    committed = {"containers": record(_engine(_full()), [_container()], {"web": {}})}
    assert _sentences(committed, [_container()], _full(**change)) == [sentence]
    assert _sentences(committed, [_container()], _full()) == []


def test_a_container_that_was_made_anew_by_hand_is_described_and_no_value_is_told() -> None:
    committed = {"containers": record(_engine(_full()), [_container()], {"web": {}})}
    assert "secret" not in json.dumps(committed)
    other = _full("c2", config={"Image": "shop:evil", "Env": ["A=1", "PASSWORD=hunter2"], "Cmd": ["sh"]})
    for found in ([_container(id="c2")], [_container(id="c2", config_hash="x")]):
        assert _sentences(committed, found, other) == [
            "web: image is shop:evil, the release says shop:1",
            "web: command is sh, the release says serve",
            "web: the variable PASSWORD is not the release's",
        ]


def test_a_record_of_an_older_longshore_says_nothing_of_limits() -> None:
    old = {"containers": [{"service": "web", "config_hash": "h", "image_id": "i"}]}
    assert _sentences(old, [_container()], _full(Memory=2**30)) == []


def test_anonymous_volumes_have_another_name_each_time_and_are_the_same() -> None:
    def with_volume(name: str) -> dict[str, Any]:
        return shape(_full(mounts=[{"Type": "volume", "Name": name, "Destination": "/data"}]))

    assert with_volume("a" * 64) == with_volume("b" * 64)
    assert with_volume("one") != with_volume("two")


def test_compose_is_told_to_make_anew_only_what_it_would_not_see(store: AppStore) -> None:
    _keep(store, {"compose.yml": (b"1", "release")})
    committed = {"at": 1, "containers": record(_engine(_full()), [_container()], {"web": {}})}
    store.write_committed(RELEASE, committed)
    assert astray(_engine(_full()), store, [_container()], []) == []
    assert astray(_engine(_full(Memory=0)), store, [_container()], []) == ["web"]
    # Compose sees another hash, and recreates by itself.
    assert astray(_engine(_full(Memory=0)), store, [_container(config_hash="new")], []) == []
    mounted = _full(mounts=[{"Source": f"{store.content}/aa11/page.txt", "Destination": "/p", "RW": False}])
    committed = {"at": 1, "containers": record(_engine(mounted), [_container()], {"web": {}})}
    store.write_committed(RELEASE, committed)
    assert astray(_engine(mounted), store, [_container()], ["aa11"]) == ["web"]
    assert astray(_engine(mounted), store, [_container()], ["bb22"]) == []


@pytest.mark.parametrize(
    ("count", "text"), [(2**30, "1G"), (512 * 2**20, "512M"), (1536 * 2**10, "1536K"), (100, "100b")]
)
def test_sizes_read_as_the_inventory_writes_them(count: int, text: str) -> None:
    assert size(count) == text


# Files


@pytest.fixture
def store(tmp_path: Path) -> AppStore:
    made = AppStore(str(tmp_path), "shop")
    made.make()
    return made


def _manifest(files: dict[str, tuple[bytes, str]], release: str = RELEASE, **secret: bool) -> dict[str, Any]:
    return {
        "id": release,
        "project": "shop",
        "project_directory": ".",
        "compose_files": ["compose.yml", "longshore.yml"],
        "services": {"web": {}},
        "files": {
            path: {
                "sha256": hashlib.sha256(data).hexdigest(),
                "mode": "0600",
                "kind": kind,
                "secret": path.endswith(".env") or path in secret,
            }
            for path, (data, kind) in files.items()
        },
    }


def _tar(files: dict[str, tuple[bytes, str]]) -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, (data, _) in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    buffer.seek(0)
    return buffer


def _keep(store: AppStore, files: dict[str, tuple[bytes, str]], release: str = RELEASE) -> dict[str, Any]:
    manifest = _manifest(files, release)
    store.receive(release, manifest, _tar(files))
    return manifest


FILES = {
    "compose.yml": (b"services: {}", "release"),
    ".env": (b'A="1"\n', "release"),
    "aa11/page.txt": (b"hello", "content"),
}


def _user(store: AppStore, *, writable: bool) -> dict[str, Any]:
    source = f"{store.content}/aa11/page.txt"
    return _full(mounts=[{"Type": "bind", "Source": source, "Destination": "/page.txt", "RW": writable}])


def test_files_that_were_edited_removed_or_opened_on_the_host_are_named(store: AppStore) -> None:
    manifest = _keep(store, FILES)
    assert edited(store, manifest, 0) == []
    Path(store.bundle_dir(RELEASE), "compose.yml").write_text("services: {evil: }")
    Path(store.bundle_dir(RELEASE), ".env").chmod(0o644)
    Path(store.content, "aa11", "page.txt").unlink()
    assert [(one.name, one.how) for one in edited(store, manifest, 0)] == [
        (".env", "has the mode 0644 on the host, the release says 0600"),
        ("page.txt", "is missing on the host"),
        ("compose.yml", "was edited on the host"),
    ]


def test_a_look_that_is_not_deep_reads_only_what_was_changed_since(store: AppStore) -> None:
    manifest = _keep(store, FILES)
    file = Path(store.bundle_dir(RELEASE), "compose.yml")
    file.write_text("services: {evil: }")
    after = file.stat().st_ctime + 1
    assert edited(store, manifest, after) == []
    assert [one.name for one in edited(store, manifest, file.stat().st_ctime - 0.01)] == ["compose.yml"]


def test_edited_content_names_who_mounts_it_and_what_they_write_themselves_is_left_alone(
    store: AppStore,
) -> None:
    manifest = _keep(store, FILES)
    Path(store.content, "aa11", "page.txt").write_text("bye")
    for writable, mend in ((False, "recreate"), (True, "")):
        engine = _engine(_user(store, writable=writable))
        (finding,) = findings(engine, store, manifest, [_container()], 0)
        assert finding.text.startswith("page.txt, which web mounts, was edited on the host")
        assert finding.mend == mend


def test_what_was_edited_is_put_right_and_its_users_are_remembered_until_they_are_made_anew(
    store: AppStore,
) -> None:
    manifest = _keep(store, FILES)
    Path(store.bundle_dir(RELEASE), "compose.yml").write_text("services: {evil: }")
    Path(store.content, "aa11", "page.txt").write_text("bye")
    store.write_committed(RELEASE, {"at": 1, "containers": []})
    engine = _engine(_user(store, writable=False))
    assert put_right(engine, store, manifest, _tar(FILES)) == ["aa11/page.txt", "compose.yml"]
    assert edited(store, manifest, 0) == []
    assert store.committed(RELEASE) is not None, "the release is the same one"
    assert restored(store) == ["aa11"]
    assert [one.mend for one in findings(engine, store, manifest, [_container()], 0)] == ["recreate"]
    note_restored(store, [])
    assert restored(store) == []
    assert findings(engine, store, manifest, [_container()], 0) == []


def test_a_new_release_that_shares_edited_content_gets_what_its_bundle_says(store: AppStore) -> None:
    _keep(store, FILES)
    Path(store.content, "aa11", "page.txt").write_text("bye")
    other = {**FILES, "compose.yml": (b"services: {web: }", "release")}
    manifest = _keep(store, other, "ba9876543210")
    put_right(_engine(), store, manifest, _tar(other))
    assert Path(store.content, "aa11", "page.txt").read_text() == "hello"


def test_a_file_that_was_added_to_mounted_content_is_told_and_stays(store: AppStore) -> None:
    manifest = _keep(store, FILES)
    extra = Path(store.content, "aa11", "mine.txt")
    extra.write_text("keep me")
    (finding,) = findings(_engine(), store, manifest, [], 0)
    assert (finding.mend, finding.text) == ("", "mine.txt was added on the host and is left alone")
    put_right(_engine(), store, manifest, _tar(FILES))
    assert extra.exists()


def test_pins_that_were_edited_are_put_right(store: AppStore) -> None:
    manifest = _keep(store, FILES)
    path = Path(store.release_dir(RELEASE), editing.PINS)
    path.write_text(json.dumps({"services": {"web": {"image": "shop@sha256:1"}}}))
    store.write_committed(RELEASE, {"at": 1, "containers": [], "pins": editing.pins_of(store, RELEASE)})
    assert edited(store, manifest, 0) == []
    path.write_text(json.dumps({"services": {"web": {"image": "evil"}}}))
    assert [one.name for one in edited(store, manifest, 0)] == [editing.PINS]
    put_right(_engine(), store, manifest, _tar(FILES))
    assert editing.pins_of(store, RELEASE) == {"web": "shop@sha256:1"}


# What leaves the host


def _asked(**more: Any) -> dict[str, Any]:
    return {"salt": "salt", "have": {}, "names": "PASSWORD|TOKEN", "plain": r"[a-z]+|\d+", **more}


def test_no_value_of_env_leaves_the_host_in_any_form_and_todays_can_be_recognised(store: AppStore) -> None:
    secret = 's3cr$t "x"\\'
    env = 'DB_PASSWORD="s3cr\\$t \\"x\\"\\\\"\nLEVEL="info"\nURL="postgres://u:p4ssw0rd@db/x"\n'
    forms = wire.forms(secret)
    text = "services:\n" + "".join(f"  # {form}\n" for form in forms) + "  # p4ssw0rd info\n"
    manifest = _keep(store, {".env": (env.encode(), "release"), "compose.yml": (text.encode(), "release")})
    stored = explain(store, manifest, _asked(), [])
    sent = json.dumps(stored)
    for form in [*forms, "p4ssw0rd"]:
        assert form not in sent
        assert json.dumps(form)[1:-1] not in sent
    assert stored["files"][".env"]["env"] == {
        "DB_PASSWORD": wire.fingerprint("salt", secret),
        "LEVEL": wire.fingerprint("salt", "info"),
        "URL": wire.fingerprint("salt", "postgres://u:p4ssw0rd@db/x"),
    }
    assert "info" in stored["files"]["compose.yml"]["text"], "a plain word is no secret"


def test_what_the_controller_has_is_not_sent_unless_it_was_edited(store: AppStore) -> None:
    manifest = _keep(store, FILES)
    have = {path: facts["sha256"] for path, facts in manifest["files"].items()}
    assert explain(store, manifest, _asked(have=have), [])["files"] == {}
    assert set(explain(store, manifest, _asked(have=have), ["compose.yml"])["files"]) == {"compose.yml"}


def test_a_mounted_secret_a_binary_and_a_large_file_are_not_sent(store: AppStore) -> None:
    files = {
        ".env": (b"", "release"),
        "aa/db_password": (b"hunter2", "content"),
        "bb/logo.png": (b"\x89PNG\0", "content"),
        "cc/big.txt": (b"x" * 300_000, "content"),
        "dd/page.txt": (b"hello", "content"),
    }
    manifest = _keep(store, files)
    manifest["files"]["aa/db_password"]["secret"] = True
    sent = explain(store, manifest, _asked(content=True), [])["files"]
    assert sent["aa/db_password"] == {"hidden": True}
    assert sent["bb/logo.png"] == {"size": 5}
    assert sent["cc/big.txt"] == {"size": 300_000}
    assert sent["dd/page.txt"] == {"text": "hello"}
    assert "dd/page.txt" not in explain(store, manifest, _asked(), [])["files"]


def test_the_fingerprint_of_a_value_needs_the_salt_of_the_run() -> None:
    assert wire.fingerprint("one", "hunter2") != wire.fingerprint("two", "hunter2")
