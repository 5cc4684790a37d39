"""A pull through a line that breaks: when it is tried again, and when it is given up."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from tests.unit.upstream import Upstream

from longshore.agent import pulling, resuming, unbroken
from longshore.agent.engine import EngineError
from longshore.agent.fail import Refusal
from longshore.agent.pulling import bring

REF = "r.test/shop/api@sha256:" + "1" * 64
EOF = "failed to copy: httpReadSeeker: unexpected EOF"
REFUSED = 'failed to do request: Head "https://r.test/v2/": dial tcp: connect: connection refused'
MB = 1_000_000


class FakeEngine:
    """An engine whose pulls come so far (MB of 30) and then say this, one after the other. One that brings
    nothing tells of what is ``kept``."""

    def __init__(self, *pulls: tuple[int, str], kept: int = 0) -> None:
        self.pulls = iter(pulls)
        self.count = 0
        self.there = False
        self.kept = kept

    def info(self) -> dict[str, Any]:
        """It says nothing of registries: nobody can ask one in its place."""
        return {}

    def image(self, ref: str) -> Any:
        return {"Id": "sha256:1"} if self.there else None

    def pull(self, ref: str, platform: str | None, auth: Any) -> Iterator[dict[str, Any]]:
        self.count += 1
        came, error = next(self.pulls)
        yield {"status": "Pulling from shop/api"}
        for now in (came // 2, came) if came else (self.kept,):
            progress = {"current": now * MB, "total": 30 * MB}
            yield {"id": "a1", "status": "Downloading", "progressDetail": progress}
        if error:
            raise EngineError(500, error)
        self.there = True


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is said of it. Nobody sleeps; ``time.monotonic`` goes on by a second each time."""
    seconds = itertools.count()
    monkeypatch.setattr(pulling, "time", type("Time", (), {"monotonic": lambda: next(seconds), "sleep": int}))
    return []


def _bring(engine: FakeEngine, told: list[str], given_up: Callable[[], bool] | None = None) -> Any:
    def emit(kind: str, **facts: Any) -> None:
        if kind == "note":
            told.append(facts["message"])

    return bring(cast("Any", engine), REF, None, None, emit, given_up)


def test_a_pull_that_breaks_off_goes_on_when_the_registry_is_back(told: list[str]) -> None:
    engine = FakeEngine((12, EOF), (0, REFUSED), (0, REFUSED), (20, "i/o timeout"), (30, ""))
    assert _bring(engine, told)["Id"] == "sha256:1"
    assert engine.count == 5
    assert [one.split("r.test/shop/api")[1].split(" ", 1)[1] for one in told] == [
        "broke off after 12.0 MB of 30.0 MB (unexpected EOF); it goes on by itself",
        "broke off after 20.0 MB of 30.0 MB (i/o timeout); it goes on by itself",
    ]


class PatientEngine(FakeEngine):
    """The older image store's: it counts down before it tries again, each layer for itself."""

    def pull(self, ref: str, platform: str | None, auth: Any) -> Iterator[dict[str, Any]]:
        for line in super().pull(ref, platform, auth):
            yield line
            for left in (3, 2, 1) if line["status"] == "Downloading" else ():
                yield {"id": "a1", "status": f"Retrying in {left} seconds"}
                yield {"id": "b2", "status": "Downloading", "progressDetail": {"current": left, "total": 9}}


def test_an_engine_that_tries_again_by_itself_is_told_of_once_for_each_time(told: list[str]) -> None:
    _bring(PatientEngine((12, "")), told)
    assert [one.rpartition("; ")[2] for one in told] == ["the engine tries again"] * 2


@pytest.mark.parametrize("kept", [0, 12])
def test_a_registry_that_stays_away_is_said_with_how_far_it_came(told: list[str], kept: int) -> None:
    engine = FakeEngine((12, EOF), *[(0, REFUSED)] * 99, kept=kept)
    with pytest.raises(Refusal) as raised:
        _bring(engine, told)
    assert raised.value.code == "registry-down" and 8 < engine.count < 30 and len(told) == 1
    assert "broke off after 12.0 MB of 30.0 MB (connection refused)" in raised.value.message
    assert raised.value.detail["done"] == 12 * MB


def test_one_that_breaks_off_again_and_again_is_given_up(told: list[str]) -> None:
    engine = FakeEngine(*[(12, EOF)] * 99)
    with pytest.raises(Refusal, match="broke off after"):
        _bring(engine, told)
    assert engine.count == 6


@pytest.mark.parametrize(
    ("pulls", "code"),
    [
        ([(0, REFUSED)], "registry-down"),  # never began
        ([(12, "write /var/lib/docker/tmp: no space left on device")], "no-space"),
        ([(12, EOF), (0, "401 Unauthorized")], "login"),
        ([(12, EOF), (0, "r.test/shop/api: not found")], "no-image"),
        ([(12, "failed to register layer: no such file or directory")], "registry-down"),
    ],
)
def test_what_will_not_pass_by_itself_is_said_at_once(
    told: list[str], pulls: list[tuple[int, str]], code: str
) -> None:
    engine = FakeEngine(*pulls)
    with pytest.raises(Refusal) as raised:
        _bring(engine, told)
    assert (raised.value.code, engine.count) == (code, len(pulls))


def test_nobody_goes_on_for_a_controller_that_has_gone(told: list[str]) -> None:
    engine = FakeEngine((12, EOF), (30, ""))
    with pytest.raises(Refusal):
        _bring(engine, told, lambda: True)
    assert engine.count == 1


# Through the relay


class RealEngine:
    """An engine that really fetches, by HTTP, from whom it is told to. What it fetches from the upstream
    itself (the image ``ref``) comes as far as ``breaks`` says, and isn't kept then.

    With the older store (``patient``) it says itself that it tries again, and does so until it is cut short.
    """

    def __init__(self, upstream: Upstream, root: Path, breaks: int, *, patient: bool = False) -> None:
        self.upstream, self.root, self.breaks, self.patient = upstream, root, breaks, patient
        self.ref = f"{upstream.address}/shop/api@{upstream.index}"
        self.has: set[str] = set()
        self.pulled: list[str] = []
        self.untagged: list[str] = []
        self.cut_short = False
        self.aborted = threading.Event()
        self.reaches = True
        self.facts: dict[str, Any] = {}

    def info(self) -> dict[str, Any]:
        return {**self.upstream.info, "DockerRootDir": str(self.root), **self.facts}

    def images(self) -> Any:
        return []

    def image(self, ref: str) -> Any:
        return {"Id": "sha256:1"} if ref in self.has else None

    def connection(self) -> Any:
        return type("Connection", (), {"abort": lambda _: self.aborted.set()})()

    def request(self, method: str, path: str, query: Any = None) -> Any:
        if path.startswith("/distribution/"):
            self._get(path[len("/distribution/") : -len("/json")].replace("@", "/manifests/"))
        elif method == "DELETE":
            self.untagged.append(path[len("/images/") :])
            self.has.discard(self.untagged[-1])
        return []

    def pull(self, ref: str, platform: Any, auth: Any, connection: Any = None) -> Iterator[dict[str, Any]]:
        self.pulled.append(ref)
        if not ref.startswith("127.0.0.1") or "relay" not in ref:
            if self.has:
                self.has.add(ref)
                return
            yield from self._broken()
        if not self.reaches:
            raise EngineError(500, "dial tcp: connect: connection refused")
        top = json.loads(self._get(ref.replace("@", "/manifests/")))
        place = ref.partition("@")[0]
        manifest = json.loads(self._get(f"{place}/manifests/{top['manifests'][0]['digest']}"))
        for number, layer in enumerate(manifest["layers"]):
            data = self._get(f"{place}/blobs/{layer['digest']}")
            assert data == self.upstream.blobs[layer["digest"]]
            told = {"current": len(data), "total": len(data)}
            yield {"id": f"a{number}", "status": "Downloading", "progressDetail": told}
            yield {"id": f"a{number}", "status": "Download complete"}
        self.has.add(ref)

    def _broken(self) -> Iterator[dict[str, Any]]:
        (layer,) = self.upstream.layers
        data, file = self.upstream.blobs[layer], self.root / "tmp/GetImageBlob1"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"")
        try:
            for came in range(self.breaks // 4, self.breaks + 1, self.breaks // 4):
                file.write_bytes(data[:came])
                told = {"current": came, "total": len(data)}
                yield {"id": "a0", "status": "Downloading", "progressDetail": told}
                pulling.time.sleep(0.05)
            while self.patient:
                full = {"current": len(data), "total": len(data)}
                yield {"id": "a0", "status": "Downloading", "progressDetail": full}  # as it really says
                yield {"id": "a0", "status": "Retrying in 5 seconds"}
        except GeneratorExit:
            self.cut_short = True
            raise
        finally:
            file.unlink()
        raise EngineError(500, EOF)

    def _get(self, address: str) -> bytes:
        place, _, path = address.partition("/")
        connection = http.client.HTTPConnection(place, timeout=20)
        try:
            connection.request("GET", f"/v2/{path}")
            data = connection.getresponse().read()
        except (OSError, http.client.HTTPException) as error:
            raise EngineError(500, f"failed to copy: {error}") from error
        finally:
            connection.close()
        return data


LAYER = bytes(range(256)) * 4000


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch) -> Iterator[Upstream]:
    monkeypatch.setattr(resuming, "_REHEARSED", 0.0)
    monkeypatch.setattr(pulling, "_CANCELLED", 0.05)
    monkeypatch.setattr(unbroken, "_PAUSES", (0.0, 0.05))
    with Upstream(LAYER) as made:
        yield made


class Told(list[tuple[str, dict[str, Any]]]):
    """Events."""

    def __call__(self, kind: str, **facts: Any) -> None:
        self.append((kind, facts))

    @property
    def notes(self) -> list[str]:
        return [facts["message"] for kind, facts in self if kind == "note"]


@pytest.mark.parametrize("patient", [False, True])
def test_after_a_break_only_what_is_missing_is_fetched(
    upstream: Upstream, tmp_path: Path, patient: bool
) -> None:
    engine, told = RealEngine(upstream, tmp_path, 400_000, patient=patient), Told()
    upstream.breaks, upstream.outage = [64, 200_000], 3
    assert bring(cast("Any", engine), engine.ref, None, None, told)["Id"] == "sha256:1"
    first, second, third = engine.pulled
    assert first == third == engine.ref and engine.cut_short == patient
    assert second.startswith("127.0.0.1:") and second.endswith(upstream.index)
    assert engine.untagged == [second] and engine.has == {engine.ref}
    assert 0 < upstream.sent - (len(LAYER) - 400_000) < 200  # by which the beginning was known again
    # The engine's own break, and one or both of the relay's: one that is over at once is not told.
    assert {one.rpartition("; ")[2] for one in told.notes} == {"it goes on by itself"}
    assert len(told.notes) in (2, 3)
    assert "broke off after 0.4 MB of 1.0 MB (unexpected EOF)" in told.notes[0]
    progress = [facts["done"] for kind, facts in told if kind == "pull"]
    assert progress == sorted(progress) and progress[-1] == len(LAYER)
    with pytest.raises(EngineError, match="refused"):
        engine._get(second.replace("@", "/manifests/"))


@pytest.mark.parametrize(
    "facts",
    [{"HttpsProxy": "http://p.test"}, {"SecurityOptions": ["name=rootless"]}, {"RegistryConfig": None}],
)
def test_where_there_is_no_relay_the_engine_tries_again_as_ever(
    upstream: Upstream, tmp_path: Path, told: list[str], facts: dict[str, Any]
) -> None:
    engine = RealEngine(upstream, tmp_path, 400_000)
    engine.facts = facts
    with pytest.raises(Refusal, match=r"broke off after 0\.4 MB of 1\.0 MB") as raised:
        bring(cast("Any", engine), engine.ref, None, None, lambda *_, **__: None)
    assert engine.pulled == [engine.ref] * 6
    assert raised.value.code == "registry-down" and raised.value.detail["relay"]


def test_an_engine_that_does_not_find_its_way_to_the_relay_tries_again_as_ever(
    upstream: Upstream, tmp_path: Path, told: list[str]
) -> None:
    engine = RealEngine(upstream, tmp_path, 400_000)
    engine.reaches = False
    with pytest.raises(Refusal, match=r"broke off after 0\.4 MB of 1\.0 MB"):
        bring(cast("Any", engine), engine.ref, None, None, lambda *_, **__: None)
    assert len([ref for ref in engine.pulled if "relay" in ref]) == 1
    assert engine.pulled.count(engine.ref) == 6


def test_when_the_registry_stays_away_the_pull_is_cancelled_and_said_to_have_broken_off(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled, not failed: of that containerd keeps what it had."""
    monkeypatch.setattr(pulling, "PATIENCE", 0.3)
    engine, told = RealEngine(upstream, tmp_path, 400_000), Told()
    upstream.breaks, upstream.outage = [64, 100_000], 1_000_000
    with pytest.raises(Refusal, match=r"broke off after .* of 1.0 MB") as raised:
        bring(cast("Any", engine), engine.ref, None, None, told)
    assert raised.value.code == "registry-down"
    assert engine.aborted.is_set() and not engine.has
