"""A pull through a line that breaks: when it is tried again, and when it is given up."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from longshore.agent import pulling
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
