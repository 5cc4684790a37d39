"""When a release is good, and how it is said that it isn't."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from longshore.agent import health, preflight
from longshore.agent.fail import Refusal
from longshore.agent.health import Watch, describe, still_running
from longshore.agent.masks import Masks
from longshore.agent.pulling import registry_of


class FakeEngine:
    """Reports containers from a script, a list for each look: who asks for the same again looks anew."""

    def __init__(self, *looks: list[dict[str, Any]], full: dict[str, Any] | None = None) -> None:
        self.looks = list(looks)
        self.full = full or {}
        self._asked: set[str] = set()

    def _look(self, at: str) -> list[dict[str, Any]]:
        if at in self._asked:
            self._asked.clear()
            del self.looks[: len(self.looks) > 1]
        self._asked.add(at)
        return self.looks[0]

    def containers(self, project: str | None = None, labels: tuple[str, ...] = ()) -> list[dict[str, Any]]:
        return self._look("the list")

    def container(self, ident: str) -> dict[str, Any] | None:
        raw = next((one for one in self._look(ident) if one["Id"] == ident), None)
        if raw is None:
            return None
        started = time.strftime("%Y-%m-%dT%H:%M:%S.5Z", time.gmtime(time.time() - 60))
        state = {"Status": raw["State"], "ExitCode": 0, "StartedAt": started, **self.full.get("State", {})}
        if found := re.search(r"\((?:health: )?(starting|healthy|unhealthy)\)", raw["Status"]):
            state["Health"] = {**state.get("Health", {}), "Status": found[1]}
        return {"RestartCount": 0, **self.full, "State": state}

    def connection(self) -> Any:
        def refused() -> None:
            raise ConnectionRefusedError

        return SimpleNamespace(open=refused, abort=lambda: None)

    def last_exit_code(self, ident: str) -> int:
        return 1

    def logs(self, ident: str, lines: int) -> str:
        return "starting\nKeyError: 'DATABASE_URL'\n"


def _raw(service: str, state: str = "running", status: str = "Up 3 seconds", **more: Any) -> dict[str, Any]:
    labels = {"com.docker.compose.service": service, "com.docker.compose.config-hash": "h"}
    return {
        "Id": service,
        "Names": [f"/x-{service}-1"],
        "State": state,
        "Status": status,
        "Labels": labels,
        **more,
    }


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.9Z", time.gmtime())


def _manifest(**services: dict[str, Any]) -> dict[str, Any]:
    plain = {"replicas": 1, "one_shot": False}
    return {
        "project": "x",
        "services": {name: {**plain, **facts} for name, facts in services.items()},
        "settings": {"health_timeout": 0.5, "stability": 1, "restarts": 0},
    }


def _watch(engine: FakeEngine, **services: dict[str, Any]) -> list[str]:
    told: list[str] = []

    def emit(kind: str, **facts: Any) -> None:
        told.append(f"{facts['service']} {facts['state']}")

    Watch(engine, _manifest(**services), emit).run()  # type: ignore[arg-type]
    return told


def test_it_waits_until_the_health_check_says_healthy() -> None:
    starting = [_raw("api", status="Up 1 second (health: starting)")]
    healthy = [_raw("api", status="Up 2 seconds (healthy)")]
    assert _watch(FakeEngine(starting, healthy), api={}) == ["api running, starting", "api running, healthy"]


def test_a_container_that_died_is_noticed_at_once_with_its_code_and_log() -> None:
    engine = FakeEngine(
        [_raw("api", "exited", "Exited (3)")], full={"State": {"Status": "exited", "ExitCode": 3}}
    )
    began = time.monotonic()
    with pytest.raises(Refusal, match="exited with code 3") as caught:
        _watch(engine, api={})
    assert time.monotonic() - began < 0.4
    assert caught.value.detail["log"][-1] == "KeyError: 'DATABASE_URL'"


def test_a_crash_loop_that_compose_calls_healthy_is_a_failure() -> None:
    full = {"RestartCount": 2, "State": {"ExitCode": 1, "StartedAt": _now()}}
    with pytest.raises(Refusal, match="keeps dying"):
        _watch(FakeEngine([_raw("worker")], full=full), worker={})


def test_a_health_check_that_passes_between_two_crashes_proves_nothing() -> None:
    full = {"RestartCount": 1, "State": {"ExitCode": 1, "StartedAt": _now()}}
    with pytest.raises(Refusal, match="keeps dying"):
        _watch(FakeEngine([_raw("worker", status="Up 1 second (healthy)")], full=full), worker={})


def test_what_a_container_went_through_before_this_run_is_not_held_against_it() -> None:
    full = {"RestartCount": 7}
    assert _watch(FakeEngine([_raw("db")], full=full), db={}) == ["db running"]
    healthy = [_raw("db", status="Up 3 weeks (healthy)")]
    assert _watch(FakeEngine(healthy, full=full), db={}) == ["db running, healthy"]


def test_without_a_health_check_it_must_have_run_for_the_stability_window() -> None:
    young = {"State": {"StartedAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 1))}}
    with pytest.raises(Refusal, match=r"not healthy after 0\.5 s"):
        _watch(FakeEngine([_raw("worker")], full=young), worker={})
    assert _watch(FakeEngine([_raw("worker")]), worker={}) == ["worker running"]


def test_a_stability_that_is_asked_for_holds_for_what_is_healthy_at_once_too() -> None:
    def watch(started: float) -> None:
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - started))
        engine = FakeEngine([_raw("api", status="Up (healthy)")], full={"State": {"StartedAt": at}})
        manifest = _manifest(api={})
        manifest["settings"]["steady"] = 60
        Watch(engine, manifest, lambda *_, **__: None).run()  # type: ignore[arg-type]

    watch(90)
    with pytest.raises(Refusal, match=r"not healthy after 0\.5 s"):
        watch(5)


def test_a_container_that_is_removed_while_it_is_watched_is_noticed_at_once() -> None:
    began = time.monotonic()
    with pytest.raises(Refusal, match="0 of 1 containers of api are there: one was removed"):
        _watch(FakeEngine([], [_raw("api", status="Up (health: starting)")], []), api={})
    assert time.monotonic() - began < 0.45


def test_what_was_stopped_after_it_was_good_is_not_committed() -> None:
    manifest = _manifest(api={}, init={"one_shot": True})
    found = still_running(FakeEngine([_raw("api")]), manifest, 0)  # type: ignore[arg-type]
    assert [one["service"] for one in found] == ["api"]
    again = FakeEngine([_raw("api", "exited", "Exited (137)")], [_raw("api")])
    assert still_running(again, manifest, 5)  # type: ignore[arg-type]
    for left in ([], [_raw("api", "exited", "Exited (137)")]):
        with pytest.raises(Refusal, match="api no longer runs"):
            still_running(FakeEngine(left), manifest, 0)  # type: ignore[arg-type]


def test_unhealthy_is_told_with_the_checks_output() -> None:
    full = {"State": {"Health": {"Log": [{"Output": "curl: (7) refused\n"}]}}}
    with pytest.raises(Refusal, match=r"unhealthy.*refused"):
        _watch(FakeEngine([_raw("api", status="Up (unhealthy)")], full=full), api={})


def test_a_secret_that_the_check_printed_in_quotes_of_its_own_is_masked_in_the_sentence() -> None:
    secret = '{"json":"0210zq","key":"v\\"alue"}'
    said = repr({"FIRST": "x" * 300, "SECRET": secret}) + "\n"
    full = {"State": {"Health": {"Log": [{"Output": said}]}}}
    with pytest.raises(Refusal, match=r"its check says.*…x+.*SECRET") as caught:
        _watch(FakeEngine([_raw("api", status="Up (unhealthy)")], full=full), api={})
    assert "0210zq" not in Masks([secret]).text(caught.value.message)


def test_a_one_shot_is_good_when_it_has_exited_with_0() -> None:
    shot = [_raw("init", "exited", "Exited (0)")]
    assert _watch(FakeEngine([_raw("init")], shot), init={"one_shot": True}) == [
        "init running",
        "init exited",
    ]
    failed = FakeEngine(shot, full={"State": {"Status": "exited", "ExitCode": 1}})
    with pytest.raises(Refusal, match="exited with code 1"):
        _watch(failed, init={"one_shot": True})


def test_too_few_replicas_are_not_good() -> None:
    with pytest.raises(Refusal, match="api"):
        _watch(FakeEngine([_raw("api", status="Up (healthy)")]), api={"replicas": 2})


def test_a_container_is_described_with_its_published_ports() -> None:
    raw = _raw(
        "api",
        Ports=[{"IP": "10.0.0.1", "PublicPort": 80, "PrivatePort": 8000, "Type": "tcp"}, {"PrivatePort": 1}],
    )
    assert describe(raw)["ports"] == ["10.0.0.1:80->8000/tcp"]


def _ports_engine(project: str, ip: str = "0.0.0.0") -> FakeEngine:
    port = {"IP": ip, "PublicPort": 65001, "PrivatePort": 80, "Type": "tcp"}
    raw = _raw("web", Ports=[port])
    raw["Labels"]["com.docker.compose.project"] = project
    return FakeEngine([raw])


def _check(engine: FakeEngine, port: str) -> None:
    preflight.check_ports(engine, "ours", {"api": {"ports": [port]}})  # type: ignore[arg-type]


def test_a_port_of_another_stack_is_taken_and_ours_is_not() -> None:
    with pytest.raises(Refusal, match=r"65001.*taken by the container x-web-1"):
        _check(_ports_engine("theirs"), ":65001/tcp")
    _check(_ports_engine("ours"), ":65001/tcp")


def test_the_same_port_on_another_address_or_protocol_is_free() -> None:
    _check(_ports_engine("theirs", "127.0.0.2"), "127.0.0.1:65001/tcp")
    _check(_ports_engine("theirs"), ":65001/udp")


def test_a_port_of_a_process_on_the_host_is_taken() -> None:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with pytest.raises(Refusal, match="by a process"):
            _check(FakeEngine([]), f"127.0.0.1:{listener.getsockname()[1]}/tcp")


def test_an_address_that_the_host_does_not_have_is_said() -> None:
    with pytest.raises(Refusal, match=r"no address 192\.0\.2\.1"):
        _check(FakeEngine([]), "192.0.2.1:65001/tcp")


def test_an_image_of_another_architecture_is_refused_unless_asked_for() -> None:
    image = {"Architecture": "amd64"}
    with pytest.raises(Refusal, match="built for amd64, this host is arm64"):
        preflight.check_architecture(image, "shop:1", "api", "arm64", False)
    preflight.check_architecture(image, "shop:1", "api", "arm64", True)
    preflight.check_architecture(image, "shop:1", "api", "amd64", False)


@pytest.mark.parametrize(
    ("ref", "registry"),
    [
        ("postgres:15", "docker.io"),
        ("team/app:1", "docker.io"),
        ("ghcr.io/team/app", "ghcr.io"),
        ("localhost/app", "localhost"),
        ("10.0.0.1:5000/app@sha256:0", "10.0.0.1:5000"),
    ],
)
def test_the_registry_of_a_reference(ref: str, registry: str) -> None:
    assert registry_of(ref) == registry


class TellingEngine(FakeEngine):
    """Tells of events, too: one a while after it is asked, and then nothing until that is aborted."""

    def __init__(self, *looks: list[dict[str, Any]], after: float) -> None:
        super().__init__(*looks)
        self.after = after
        self.aborted = threading.Event()
        self.asked: list[dict[str, str]] = []
        self.times: list[float] = []

    def container(self, ident: str) -> dict[str, Any] | None:
        self.times.append(time.monotonic())
        return super().container(ident)

    def connection(self) -> Any:
        return SimpleNamespace(open=lambda: None, abort=self.aborted.set)

    def stream(self, method: str, path: str, query: dict[str, str], **_: Any) -> Iterator[dict[str, Any]]:
        self.asked.append(query)
        time.sleep(self.after)
        yield {"Action": "health_status: healthy"}
        self.aborted.wait(10)
        raise Refusal("no-engine", "its answer ended too early")


def test_what_is_not_good_yet_is_looked_at_again_as_soon_as_the_engine_says_something(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health, "_POLL_FIRST", 20.0)
    engine = TellingEngine(
        [_raw("web", status="Up 1 second (health: starting)")],
        [_raw("web", status="Up 1 second (healthy)")],
        after=0.05,
    )
    Watch(engine, _manifest(web={}), lambda *_, **__: None).run()  # type: ignore[arg-type]
    assert len(engine.looks) == 1
    assert len(engine.times) == 2
    assert engine.times[1] - engine.times[0] < 10
    assert engine.aborted.is_set()
    filters = json.loads(engine.asked[0]["filters"])
    assert filters["label"] == ["com.docker.compose.project=x"]
    assert {"die", "start", "health_status"} <= set(filters["event"])


def test_an_engine_that_tells_of_nothing_is_asked_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_POLL_FIRST", 0.01)
    starting = [_raw("web", status="Up 1 second (health: starting)")]
    engine = FakeEngine(starting, starting, starting, [_raw("web", status="Up 1 second (healthy)")])
    Watch(engine, _manifest(web={}), lambda *_, **__: None).run()  # type: ignore[arg-type]
    assert len(engine.looks) == 1
