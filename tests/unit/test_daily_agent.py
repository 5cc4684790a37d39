"""The daily commands' part on the host: order, figures, health, and what cleaning up leaves alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from longshore.agent.cleanup import cleanup, repository
from longshore.agent.daily import Daily, ailment, usage
from longshore.agent.order import in_order
from longshore.agent.store import AppStore

OLD, NEW, OTHER = "a" * 12, "b" * 12, "c" * 12


def _release(state: Path, app: str, release: str, *, committed: bool = True, **images: str) -> None:
    folder = state / app / "releases" / release
    folder.mkdir(parents=True)
    services = {name: {"image": ref} for name, ref in images.items()}
    (folder / "manifest.json").write_text(json.dumps({"id": release, "project": app, "services": services}))
    if committed:
        (folder / "committed.json").write_text(json.dumps({"at": 1.0}))


class FakeEngine:
    """Images by reference; ``used`` are the ids that containers have."""

    def __init__(self, images: dict[str, str], used: set[str] = frozenset()) -> None:  # type: ignore[assignment]
        self.by_ref = images
        self.used = used
        self.removed: list[str] = []

    def containers(self) -> list[dict[str, Any]]:
        return [{"ImageID": ident} for ident in self.used]

    def image(self, ref: str) -> dict[str, Any] | None:
        return {"Id": self.by_ref[ref]} if ref in self.by_ref else None

    def images(self) -> list[dict[str, Any]]:
        return [
            {"Id": ident, "RepoTags": [ref], "RepoDigests": [], "Size": 100}
            for ref, ident in self.by_ref.items()
        ]

    def request(self, method: str, path: str, query: Any = None) -> Any:
        if method == "DELETE":
            self.removed.append(path.removeprefix("/images/"))
            return None
        return {"LayersSize": 1000 - 70 * len(self.removed)}


def _clean(engine: FakeEngine, state: Path, **args: Any) -> dict[str, Any]:
    daily = Daily(engine, AppStore(str(state), "shop"), lambda *_, **__: None)  # type: ignore[arg-type]
    return cleanup(daily, args)


def test_only_images_of_the_app_that_no_release_and_no_container_needs_go(tmp_path: Path) -> None:
    _release(tmp_path, "shop", NEW, api="r/shop:3", db="postgres:15")
    _release(tmp_path, "shop", OLD, committed=False, api="r/shop:4")  # is being deployed
    _release(tmp_path, "blog", OTHER, db="postgres:14")  # can be gone back to
    engine = FakeEngine(
        {
            "r/shop:1": "i1",
            "r/shop:2": "i2",  # a stopped container has it
            "r/shop:3": "i3",
            "r/shop:4": "i4",
            "postgres:13": "p13",
            "postgres:14": "p14",
            "postgres:15": "p15",
            "nginx:1": "n1",  # not ours
        },
        used={"i2"},
    )
    value = _clean(engine, tmp_path)
    assert sorted(engine.removed) == ["postgres:13", "r/shop:1"]
    assert value["bytes"] == 140  # of layers, as the engine counts them after


def test_a_preview_removes_nothing(tmp_path: Path) -> None:
    _release(tmp_path, "shop", NEW, api="r/shop:3")
    engine = FakeEngine({"r/shop:1": "i1", "r/shop:3": "i3"})
    value = _clean(engine, tmp_path, preview=True)
    assert engine.removed == []
    assert [one["image"] for one in value["images"]] == ["r/shop:1"]
    assert value["bytes"] == 100


def test_repositories_are_compared_without_tag_digest_and_docker_hubs_name() -> None:
    assert repository("docker.io/library/redis:7") == repository("redis@sha256:00") == "redis"
    assert repository("10.0.0.1:5000/shop/api:1") == "10.0.0.1:5000/shop/api"


def test_services_come_after_what_they_depend_on_also_in_a_ring() -> None:
    services: dict[str, dict[str, Any]] = {
        "api": {"depends_on": ["db", "elsewhere"]},
        "db": {"depends_on": []},
        "worker": {"depends_on": ["api"]},
    }
    assert in_order(services) == ("db", "api", "worker")
    ring: dict[str, dict[str, Any]] = {"a": {"depends_on": ["b"]}, "b": {"depends_on": ["a"]}}
    assert sorted(in_order(ring)) == ["a", "b"]


def test_what_is_not_well_is_said_in_words() -> None:
    row = {"state": "running", "health": "", "exit_code": None, "out_of_memory": False}
    assert ailment(row, False) == ""
    assert ailment({**row, "health": "unhealthy"}, False) == "unhealthy"
    assert ailment({**row, "health": "starting"}, False) == "starting"
    died = {**row, "state": "exited", "exit_code": 137, "out_of_memory": True}
    assert ailment(died, False) == "exited with code 137, out of memory"
    assert ailment({**row, "state": "exited", "exit_code": 0}, True) == ""
    assert ailment({**row, "state": "exited", "exit_code": 0}, False) == "exited with code 0"


def _reading(cpu: int, system: int, **stats: int) -> dict[str, Any]:
    return {
        "cpu_stats": {"cpu_usage": {"total_usage": cpu}, "system_cpu_usage": system, "online_cpus": 4},
        "memory_stats": {"usage": 500, "limit": 1000, "stats": stats},
        "pids_stats": {"current": 7, "limit": 1 << 63},
    }


def test_figures_are_between_two_readings_and_without_page_cache() -> None:
    now = usage(_reading(100, 1000), _reading(200, 1400, inactive_file=120))
    assert now == {"cpus": 1.0, "memory": 380, "memory_limit": 1000, "pids": 7, "pids_limit": 0}
    assert usage(_reading(0, 5), _reading(9, 5, total_inactive_file=100))["memory"] == 400
