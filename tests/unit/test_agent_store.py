"""What the agent keeps on a host is whole or not there."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from longshore.agent.fail import Refusal
from longshore.agent.inspect import stack
from longshore.agent.journal import COMMIT, REVERTED, Journal, Lines
from longshore.agent.lock import Lock
from longshore.agent.store import AppStore, make_open, write

RELEASE = "0123456789ab"


def _manifest(files: dict[str, tuple[bytes, str]], release: str = RELEASE) -> dict[str, Any]:
    return {
        "id": release,
        "files": {
            path: {"sha256": hashlib.sha256(data).hexdigest(), "mode": "0600", "kind": kind, "secret": False}
            for path, (data, kind) in files.items()
        },
    }


def _tar(files: dict[str, bytes], extra: tarfile.TarInfo | None = None) -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, data in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        if extra is not None:
            archive.addfile(extra)
    buffer.seek(0)
    return buffer


def _receive(store: AppStore, files: dict[str, tuple[bytes, str]], release: str = RELEASE) -> None:
    data = {path: content for path, (content, _) in files.items()}
    store.receive(release, _manifest(files, release), _tar(data))


@pytest.fixture
def store(tmp_path: Path) -> AppStore:
    return AppStore(str(tmp_path), "shop")


def test_a_bundle_is_kept_with_its_modes_and_closed_to_others(store: AppStore) -> None:
    _receive(store, {"compose.yml": (b"services: {}", "release"), ".env": (b"A=1", "release")})
    env = Path(store.bundle_dir(RELEASE), ".env")
    assert env.read_bytes() == b"A=1"
    assert env.stat().st_mode & 0o777 == 0o600
    assert Path(store.release_dir(RELEASE)).stat().st_mode & 0o777 == 0o700


def test_content_is_kept_under_its_hash_and_shared_by_releases(store: AppStore) -> None:
    _receive(store, {"aa11/nginx.conf": (b"one", "content"), "compose.yml": (b"1", "release")})
    first = os.stat(os.path.join(store.content, "aa11", "nginx.conf")).st_ino
    _receive(
        store, {"aa11/nginx.conf": (b"one", "content"), "compose.yml": (b"2", "release")}, "ba9876543210"
    )
    assert os.stat(os.path.join(store.content, "aa11", "nginx.conf")).st_ino == first


def test_what_is_mounted_can_be_read_by_containers_that_are_not_root(store: AppStore) -> None:
    before = os.umask(0o077)  # the agent's
    try:
        _receive(store, {"aa11/conf.d/site/a.conf": (b"one", "content"), "compose.yml": (b"1", "release")})
        make_open(os.path.join(store.root, "state", "media", "uploads"))
    finally:
        os.umask(before)
    content, state = Path(store.content), Path(store.root, "state")
    opened = [content / "aa11", content / "aa11/conf.d", content / "aa11/conf.d/site", state, state / "media"]
    assert [f"{folder.stat().st_mode & 0o777:o}" for folder in opened] == ["755"] * 5
    closed = [Path(store.root), content, Path(store.releases), Path(store.release_dir(RELEASE))]
    assert [f"{folder.stat().st_mode & 0o777:o}" for folder in closed] == ["700"] * 4


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a/../../b", "other.yml"])
def test_an_entry_that_the_manifest_does_not_name_is_refused_and_leaves_nothing(
    store: AppStore, name: str
) -> None:
    with pytest.raises(Refusal):
        store.receive(RELEASE, _manifest({"compose.yml": (b"", "release")}), _tar({name: b"x"}))
    assert os.listdir(store.releases) == []


def test_a_link_in_the_tar_is_refused_even_under_a_known_name(store: AppStore) -> None:
    link = tarfile.TarInfo("compose.yml")
    link.type = tarfile.SYMTYPE
    link.linkname = "/etc/shadow"
    with pytest.raises(Refusal):
        store.receive(RELEASE, _manifest({"compose.yml": (b"", "release")}), _tar({}, link))
    assert not store.has(RELEASE)


def test_a_bundle_that_comes_without_a_file_is_refused(store: AppStore) -> None:
    manifest = _manifest({"compose.yml": (b"a", "release"), ".env": (b"b", "release")})
    with pytest.raises(Refusal, match=r"\.env"):
        store.receive(RELEASE, manifest, _tar({"compose.yml": b"a"}))
    assert not store.has(RELEASE)


def test_an_app_or_release_name_can_not_leave_the_folder(tmp_path: Path) -> None:
    with pytest.raises(Refusal):
        AppStore(str(tmp_path), "../x")
    with pytest.raises(Refusal):
        AppStore(str(tmp_path), "ok").release_dir("../../etc")


def test_current_moves_as_a_whole_and_can_be_nothing(store: AppStore) -> None:
    store.make()
    assert store.current() is None
    store.set_current(RELEASE)
    assert store.current() == RELEASE
    store.set_current(None)
    assert store.current() is None


def test_collect_keeps_the_last_releases_the_current_one_and_the_content_they_mount(store: AppStore) -> None:
    names = [f"{at:012x}" for at in range(1, 6)]
    for at, name in enumerate(names):
        _receive(store, {f"c{at}/f": (b"x", "content"), "compose.yml": (b"y", "release")}, name)
        store.write_committed(name, {"at": at, "containers": []})
    store.set_current(names[0])
    gone = store.collect(2)
    assert gone == names[1:3]
    assert store.kept() == [names[0], *names[3:]]
    assert sorted(os.listdir(store.content)) == ["c0", "c3", "c4"]


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    write(str(path), b"old")

    def broken(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="space"):
        write(str(path), b"new")
    assert path.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["f"]


def test_the_name_of_a_new_journal_is_synced_as_its_lines_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda handle: (synced.append(os.readlink(f"/proc/self/fd/{handle}")), fsync(handle))
    )
    journal = Journal(str(tmp_path))
    journal.begin(None, RELEASE, "run1")
    assert synced == [journal.path, str(tmp_path)]
    journal.end(COMMIT, RELEASE, "run1")
    assert synced[2:] == [journal.path]


def test_a_switch_without_an_end_is_unfinished(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path))
    assert journal.unfinished() is None
    journal.begin("a", "b", "run1")
    open_switch = journal.unfinished()
    assert open_switch is not None
    assert (open_switch["from"], open_switch["to"]) == ("a", "b")
    journal.end(COMMIT, "b", "run1")
    assert journal.unfinished() is None
    journal.begin("b", "c", "run2")
    journal.end(REVERTED, "b", "run2")
    assert journal.unfinished() is None


def test_a_line_that_a_power_cut_left_half_written_costs_no_other(tmp_path: Path) -> None:
    lines = Lines(str(tmp_path / "j"))
    lines.append({"n": 1})
    with open(lines.path, "a") as file:
        file.write('{"n": 2, "half')
    lines.append({"n": 3})
    assert [line["n"] for line in lines.read()] == [1, 3]


def test_the_lock_has_one_owner_and_says_who(tmp_path: Path) -> None:
    one, two = Lock(str(tmp_path)), Lock(str(tmp_path))
    one.take({"by": "ann@laptop", "run": "1", "why": "hotfix"})
    with pytest.raises(Refusal, match=r"ann@laptop.*hotfix"):
        two.take({"by": "bob"})
    assert (two.holder() or {})["by"] == "ann@laptop"
    one.release()
    assert two.holder() is None
    two.take({"by": "bob"})
    assert two.held


def test_a_lock_whose_owner_died_is_free(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        Lock(str(tmp_path)).take({"by": "dead"})
        os._exit(0)
    os.waitpid(child, 0)
    Lock(str(tmp_path)).take({"by": "next"})


def test_going_back_goes_down_the_stack() -> None:
    def committed(*releases: str) -> list[dict[str, Any]]:
        return [
            {"outcome": "committed", "release": name, "run": f"run{at}", "at": at}
            for at, name in enumerate(releases)
        ]

    def names(history: list[dict[str, Any]], kept: str = "abc") -> str:
        return "".join(step["release"] for step in stack(history, list(kept)))

    assert names(committed("a", "b", "c")) == "abc"
    assert names(committed("a", "b", "c", "b")) == "ab"
    assert names(committed("a", "b", "c", "b", "c")) == "abc"
    assert names([*committed("a"), {"outcome": "reverted", "release": "b"}]) == "a"
    assert names(committed("a", "b", "c"), kept="ac") == "ac"
    assert stack(committed("a", "b", "a"), ["a"])[0]["run"] == "run0"
