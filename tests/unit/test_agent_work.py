"""Two sessions at once on a host that builds: neither takes the other's files away."""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from longshore.agent import images
from longshore.agent.work import Work


def test_a_session_that_begins_takes_no_folder_away_that_is_just_being_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock = fcntl.flock
    others: list[threading.Thread] = []

    def meanwhile(file: Any, operation: int) -> None:
        if operation == fcntl.LOCK_EX and not others and str(getattr(file, "name", "")).endswith("lock"):
            others.append(threading.Thread(target=lambda: Work(str(tmp_path)).remove(), daemon=True))
            others[0].start()
            others[0].join(0.5)
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", meanwhile)
    work = Work(str(tmp_path))
    others[0].join(5)
    assert work.put("layer", b"x", False) == 1
    work.remove()
    assert os.listdir(tmp_path / "work") == []


def _built(folder: Path, name: str) -> str:
    """An OCI layout as buildx writes one."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    (blobs / name).write_text("{}")
    top = {"mediaType": "m", "digest": f"sha256:{name}", "size": 2}
    (folder / "index.json").write_text(json.dumps({"manifests": [top]}))
    return str(folder)


def test_two_builds_that_end_at_the_same_moment_are_both_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = images.Layout(str(tmp_path))
    built = images.Layout.built

    def slow(self: images.Layout) -> dict[str, list[dict[str, Any]]]:
        found = built(self)
        time.sleep(0.3)
        return found

    monkeypatch.setattr(images.Layout, "built", slow)
    folders = {name: _built(tmp_path / name, name) for name in ("a" * 64, "b" * 64)}
    threads = [
        threading.Thread(target=images._keep, args=(layout, folder, [f"shop:{name[0]}"]))
        for name, folder in folders.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(built(layout)) == ["shop:a", "shop:b"]
    assert sorted(os.listdir(layout.blobs)) == sorted(folders)
