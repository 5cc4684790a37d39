"""A release that was edited on its host doesn't run again unasked, and status says who keeps others off."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.rollout_factory import deployed, problems, release, run, running, story

from longshore.agent import wire
from longshore.agent.edited import check_whole, edited, put_right
from longshore.agent.engine import CONFIG_HASH, SERVICE
from longshore.agent.explain import explain
from longshore.agent.fail import Refusal
from longshore.agent.hidden import Hidden
from longshore.agent.store import AppStore, write
from longshore.tasks.lock import held_words

OLD, NEW = "0123456789ab", "ba9876543210"
FILES = {"compose.yml": "release", ".env": "release", "aa11/page.txt": "content"}


class _Engine:
    """One container, which mounts the content."""

    def __init__(self, store: AppStore, *, writable: bool) -> None:
        source = f"{store.content}/aa11/page.txt"
        self.mounts = [{"Source": source, "RW": writable}]

    def containers(self, project: str) -> list[dict[str, Any]]:
        return [{"Id": "c1", "Labels": {SERVICE: "web", CONFIG_HASH: "x"}}]

    def container(self, ident: str) -> Mapping[str, Any]:
        return {"Mounts": self.mounts}


@pytest.fixture
def store(tmp_path: Path) -> AppStore:
    """A host that keeps the release OLD."""
    made = AppStore(str(tmp_path), "shop")
    made.make()
    files = {}
    for path, kind in FILES.items():
        place = Path(made.content if kind == "content" else made.bundle_dir(OLD), path)
        place.parent.mkdir(parents=True, exist_ok=True)
        write(str(place), b"as it came")
        digest = hashlib.sha256(b"as it came").hexdigest()
        files[path] = {"sha256": digest, "mode": "0600", "kind": kind}
    manifest = {"id": OLD, "project": "shop", "services": {"web": {}}, "files": files}
    Path(made.release_dir(OLD), "manifest.json").write_text(json.dumps(manifest))
    return made


def check(store: AppStore, *, writable: bool = False) -> None:
    check_whole(_Engine(store, writable=writable), store, OLD)  # type: ignore[arg-type]


def test_a_release_as_it_came_may_run_again(store: AppStore) -> None:
    check(store)
    Path(store.content, "aa11/added.txt").write_text("by the container")
    check(store)


def test_a_release_that_was_edited_is_refused_with_the_files_and_what_to_type(store: AppStore) -> None:
    Path(store.bundle_dir(OLD), "compose.yml").write_text("edited")
    Path(store.bundle_dir(OLD), ".env").unlink()
    with pytest.raises(Refusal) as caught:
        check(store)
    assert caught.value.code == wire.EDITED
    assert ".env is missing on the host, compose.yml was edited on the host" in caught.value.message
    assert "--as-it-is" in caught.value.hint


def test_what_a_service_may_write_itself_does_not_keep_anybody_from_going_back(store: AppStore) -> None:
    Path(store.content, "aa11/page.txt").write_text("by the container")
    check(store, writable=True)
    with pytest.raises(Refusal, match=r"page\.txt was edited"):
        check(store, writable=False)


def _tar() -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path in FILES:
            member = tarfile.TarInfo(path)
            member.size = len(b"as it came")
            archive.addfile(member, io.BytesIO(b"as it came"))
    buffer.seek(0)
    return buffer


def test_a_release_that_was_edited_before_another_one_was_committed_is_put_right(store: AppStore) -> None:
    store.write_committed(OLD, {"at": 1.0, "seen": time.time() + 0.05, "containers": []})
    time.sleep(0.1)
    Path(store.bundle_dir(OLD), "compose.yml").write_text("edited")
    Path(store.content, "aa11/page.txt").write_text("edited, too")
    os.makedirs(store.release_dir(NEW))
    store.write_committed(NEW, {"at": 2.0, "seen": time.time() + 0.05, "containers": []})
    store.set_current(NEW)
    engine: Any = _Engine(store, writable=False)
    assert put_right(engine, store, store.manifest(OLD), _tar()) == ["aa11/page.txt", "compose.yml"]
    assert Path(store.bundle_dir(OLD), "compose.yml").read_text() == "as it came"


def test_nothing_is_written_through_a_link_that_a_container_has_put_in_the_way(
    store: AppStore, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "page.txt").write_text("the host's own")
    folder = Path(store.content, "aa11")
    (folder / "page.txt").unlink()
    folder.rmdir()
    folder.symlink_to(outside)
    engine: Any = _Engine(store, writable=False)
    assert put_right(engine, store, store.manifest(OLD), _tar()) == ["aa11/page.txt"]
    assert (outside / "page.txt").read_text() == "the host's own"
    assert not folder.is_symlink()
    assert (folder / "page.txt").read_text() == "as it came"
    assert folder.stat().st_mode & 0o777 == 0o755
    assert os.listdir(store.content) == ["aa11"]


def test_a_release_that_never_was_committed_is_put_right_whenever_it_was_edited(store: AppStore) -> None:
    Path(store.bundle_dir(OLD), "compose.yml").write_text("edited")
    os.makedirs(store.release_dir(NEW))
    store.write_committed(NEW, {"at": 2.0, "seen": time.time() + 0.05, "containers": []})
    store.set_current(NEW)
    engine: Any = _Engine(store, writable=False)
    assert put_right(engine, store, store.manifest(OLD), _tar()) == ["compose.yml"]


@pytest.mark.parametrize("what", ["a pipe", "a link to what never ends"])
def test_what_a_container_has_put_in_a_files_place_keeps_nobody_waiting(store: AppStore, what: str) -> None:
    page = Path(store.content, "aa11/page.txt")
    page.unlink()
    os.mkfifo(page) if what == "a pipe" else page.symlink_to("/dev/zero")
    manifest = json.loads(Path(store.release_dir(OLD), "manifest.json").read_text())
    manifest["files"]["aa11/page.txt"]["secret"] = True
    manifest["compose_files"] = []
    Path(store.release_dir(OLD), "manifest.json").write_text(json.dumps(manifest))
    found: list[Any] = []

    def look() -> None:
        found.extend(edited(store, manifest, 0.0))
        found.append(Hidden(str(Path(store.root).parent)).masks("shop").text("all is told"))
        manifest["files"]["aa11/page.txt"]["secret"] = False
        for one in manifest["files"].values():
            one.setdefault("secret", False)
        manifest["project_directory"] = "."
        asked = {"salt": "s", "have": {}, "content": True, "names": "x", "plain": "x"}
        found.append(explain(store, manifest, asked, ["aa11/page.txt"])["files"]["aa11/page.txt"])

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(5)
    assert [str(one.how) for one in found[:1]] == ["was edited on the host"]
    assert found[1:] == ["all is told", {"missing": True}]


def test_a_rollback_asks_for_a_whole_release_before_anything_is_done_and_not_when_it_is_told_not_to() -> None:
    for as_it_is in (False, True):
        fleet = deployed("2")
        wanted = story(fleet, "1")
        moves = tuple(replace(move, bundle=None, as_it_is=as_it_is) for move in wanted.moves)
        run(fleet, replace(wanted, moves=moves))
        first = next(call for call in fleet["h1"].calls if call.op == wire.LOCK)
        assert first.args.get("whole") == (None if as_it_is else release("1"))


def test_a_host_with_an_edited_release_leaves_all_hosts_as_they_are() -> None:
    fleet = deployed("2")
    wanted = story(fleet, "1")
    fleet["h2"].refuse(wire.LOCK, wire.EDITED, "release 1 of shop is not what it was")
    report, _ = run(fleet, replace(wanted, moves=tuple(replace(move, bundle=None) for move in wanted.moves)))
    assert not report.ok
    assert "not what it was" in problems(report)
    assert set(running(fleet).values()) == {release("2")}
    assert not any(wire.SWITCH in host.ops() for host in fleet.hosts.values())


def test_a_deploy_brings_its_own_files_and_asks_for_none() -> None:
    fleet = deployed("1")
    run(fleet, story(fleet, "2"))
    assert all("whole" not in call.args for host in fleet.hosts.values() for call in host.calls)


def test_a_hold_is_told_with_its_reason_and_its_end() -> None:
    hold = {"by": "ann@laptop", "why": "moving the database", "since": 1_700_000_000.0, "until": 0}
    words = held_words(hold)
    assert words.startswith("ann@laptop holds it since ")
    assert words.endswith("until `invoke lock.release`: moving the database")
    assert "lock.release" not in held_words({**hold, "until": 1_700_003_600.0})
