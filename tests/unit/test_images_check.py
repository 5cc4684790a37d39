"""Before a host is touched: architecture, room, and the turns in which hosts pull."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from longshore.agent import wire
from longshore.agent.present import present as present_there
from longshore.errors import AgentError
from longshore.images.check import Present, Want, check, fits
from longshore.images.pulling import Pulls
from longshore.images.registry import OCI_INDEX, Clients, NotThereError, RefusedError
from longshore.inventory.model import Environment, Registry
from longshore.render.bundle import Bundle, ServiceFacts
from longshore.tasks import readying

REF = "r.test/shop@sha256:" + "1" * 64
MB = 1000 * 1000


class FakeClient:
    """A registry with one image of two layers, for these platforms."""

    base = "https://r.test"
    registry = Registry("r.test")

    def __init__(self, *platforms: str, error: Exception | None = None) -> None:
        self.platforms, self.error = platforms, error
        self.asked: list[str] = []

    def manifest(self, repository: str, tag: str) -> dict[str, Any]:
        self.asked.append(tag)
        if self.error:
            raise self.error
        if tag in self.platforms:
            layers = [{"digest": "sha256:base", "size": 100 * MB}, {"digest": "sha256:app", "size": 10 * MB}]
            return {"mediaType": "m", "config": {"digest": f"config {tag}"}, "layers": layers}
        entries = [
            {
                "digest": one,
                "platform": dict(zip(("os", "architecture", "variant"), one.split("/"), strict=False)),
            }
            for one in self.platforms
        ]
        attestation = {"digest": "a", "platform": {"os": "unknown", "architecture": "unknown"}}
        return {"mediaType": OCI_INDEX, "manifests": [*entries, attestation]}

    def blob(self, repository: str, digest: str) -> dict[str, Any]:
        os_name, _, rest = digest.removeprefix("config ").partition("/")
        return {
            "os": os_name,
            "architecture": rest.split("/")[0],
            "rootfs": {"diff_ids": ["base", "app"]},
        }


def clients(client: FakeClient) -> Clients:
    class Made(Clients):
        def of(self, reference: Any) -> Any:
            return client

    return Made({})


def present(
    arch: str = "amd64", *, has: bool = False, free: int = 10**10, chain: tuple[str, ...] = ()
) -> Present:
    chains = frozenset({chain} if chain else set())
    return Present(arch, True, "/var/lib/docker", free, {REF: has}, chains)


WANT = {"web1": [Want("api", REF)]}


def test_an_image_for_another_architecture_is_refused_with_what_to_write() -> None:
    found = check(WANT, {"web1": present("arm64")}, clients(FakeClient("linux/amd64")))
    (error,) = cast("list[AgentError]", found.problems)
    assert error.code == "wrong-architecture" and error.where == "web1"
    assert "built for linux/amd64, and this host is linux/arm64" in str(error)
    assert "platforms: [linux/amd64, linux/arm64]" in str(error)


def test_each_host_gets_its_own_architecture_of_a_manifest_list() -> None:
    client = FakeClient("linux/amd64", "linux/arm64/v8")
    wants = {"web1": WANT["web1"], "arm1": WANT["web1"]}
    found = check(wants, {"web1": present(), "arm1": present("arm64")}, clients(client))
    assert found.problems == []
    assert found.pulls == {"web1": 110 * MB, "arm1": 110 * MB}
    assert {"linux/amd64", "linux/arm64/v8"} <= set(client.asked)


def test_a_service_that_asks_for_a_platform_gets_it_on_any_host() -> None:
    wants = {"web1": [Want("api", REF, "linux/arm64")]}
    assert check(wants, {"web1": present()}, clients(FakeClient("linux/arm64"))).problems == []


def test_layers_that_a_host_has_are_not_counted_and_others_above_them_are() -> None:
    found = check(WANT, {"web1": present(chain=("base", "other"))}, clients(FakeClient("linux/amd64")))
    assert found.pulls == {"web1": 10 * MB}
    # The same layer on top of another is another layer to the engine.
    found = check(WANT, {"web1": present(chain=("other", "base", "app"))}, clients(FakeClient("linux/amd64")))
    assert found.pulls == {"web1": 110 * MB}


def test_a_disk_without_room_is_refused_with_the_numbers() -> None:
    found = check(WANT, {"web1": present(free=400 * MB)}, clients(FakeClient("linux/amd64")))
    (error,) = cast("list[AgentError]", found.problems)
    assert error.code == "no-space"
    assert "api needs about 385.0 MB (110.0 MB to pull" in str(error) and "400.0 MB are free" in str(error)
    roomy = check(WANT, {"web1": present(free=400 * MB, chain=("base",))}, clients(FakeClient("linux/amd64")))
    assert roomy.problems == []


def test_an_image_that_a_host_has_is_not_asked_for() -> None:
    client = FakeClient(error=RefusedError("down"))
    found = check(WANT, {"web1": present(has=True)}, clients(client))
    assert (found.problems, client.asked) == ([], [])


def test_a_registry_that_cannot_be_asked_is_a_note_and_an_image_that_is_gone_an_error() -> None:
    found = check(
        WANT, {"web1": present()}, clients(FakeClient(error=ConnectionRefusedError(111, "refused")))
    )
    assert found.problems == [] and "refused" in next(iter(found.notes))
    found = check(WANT, {"web1": present()}, clients(FakeClient(error=NotThereError("no"))))
    assert "is not in the registry" in str(found.problems[0])


@pytest.mark.parametrize(
    ("have", "want", "good"),
    [
        ("linux/arm64", "linux/arm64/v8", True),
        ("linux/arm64/v8", "linux/arm64", True),
        ("linux/arm/v6", "linux/arm/v7", False),
        ("linux/amd64", "linux/arm64", False),
        ("windows/amd64", "linux/amd64", False),
    ],
)
def test_a_variant_counts_where_both_name_one(have: str, want: str, good: bool) -> None:
    assert fits(have, want) is good


class FakeFleet:
    """Two hosts with so much room, which have the lower of the image's two layers."""

    def __init__(self, free: int) -> None:
        self.environment = Environment("try", Path(), {}, {}, {}, {}, {})
        self.output = SimpleNamespace(say=lambda text: None)
        self.free = free
        self.asked: list[tuple[str, bool]] = []

    def each(self, hosts: Iterable[str], do: Callable[[str], Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        return {host: do(host) for host in hosts}, {}

    def session(self, host: str) -> Any:
        def call(op: str, args: Mapping[str, Any], **_: Any) -> dict[str, Any]:
            assert op == wire.PRESENT
            self.asked.append((host, bool(args.get("layers"))))
            return {
                "architecture": "amd64",
                "containerd": True,
                "root": "/var/lib/docker",
                "free": self.free,
                "refs": dict.fromkeys(args["refs"], False),
                "chains": [["base"]] if args.get("layers") else [],
            }

        return SimpleNamespace(call=call)


@pytest.fixture
def make_ready(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., readying.Ready]:
    """What a deploy does before it touches a host."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setattr(readying, "Clients", lambda registries: clients(FakeClient("linux/amd64")))
    facts = {"api": ServiceFacts("api", REF, 1, False, True)}
    bundles = {
        host: Bundle("shop", host, "shop", (), ("compose.yml",), ".", (), facts) for host in ("web1", "web2")
    }
    return lambda fleet, seen=None: readying.make_ready(cast("Any", fleet), "shop", bundles, seen or {})


def test_hosts_with_room_are_not_asked_for_the_layers_that_they_have(
    make_ready: Callable[..., readying.Ready],
) -> None:
    fleet = FakeFleet(free=10**10)
    make_ready(fleet)
    assert fleet.asked == [("web1", False), ("web2", False)]


def test_a_host_that_has_said_what_it_has_is_not_asked_again(
    make_ready: Callable[..., readying.Ready],
) -> None:
    fleet = FakeFleet(free=10**10)
    said = fleet.session("web1").call(wire.PRESENT, {"refs": [REF]})
    fleet.asked.clear()
    make_ready(fleet, {"web1": {"present": {**said, "refs": {REF: True}}}, "web2": {"present": None}})
    assert fleet.asked == [("web2", False)]


def test_where_the_room_is_short_the_layers_that_a_host_has_are_asked_for_and_count(
    make_ready: Callable[..., readying.Ready],
) -> None:
    fleet = FakeFleet(free=400 * MB)  # for 10 of the image's 110 MB, and not for all
    make_ready(fleet)
    assert fleet.asked == [("web1", False), ("web2", False), ("web1", True), ("web2", True)]
    with pytest.raises(Exception, match="needs about") as told:
        make_ready(FakeFleet(free=100 * MB))
    assert "10.0 MB to pull" in str(told.value)


@pytest.mark.parametrize(
    ("refs", "layers", "chains", "questions"),
    [([REF], False, [], 0), ([REF], True, [("base",)], 2), ([], True, [], 0)],
    ids=["not asked", "asked", "nothing lacks"],
)
def test_a_host_looks_into_its_images_only_when_it_is_asked_to_and_lacks_one(
    refs: list[str], layers: bool, chains: list[tuple[str, ...]], questions: int
) -> None:
    asked: list[str] = []

    def image(ref: str) -> dict[str, Any] | None:
        asked.append(ref)
        return {"RootFS": {"Layers": ["base"]}} if ref.startswith("id") else None

    engine: Any = SimpleNamespace(
        info=lambda: {"Architecture": "x86_64"},
        images=lambda: [{"Id": "id1"}, {"Id": "id2"}],
        image=image,
    )
    assert present_there(engine, refs, layers)["chains"] == chains
    assert len(asked) - len(refs) == questions


def _pull_all(pulls: Pulls, hosts: list[str]) -> tuple[int, list[str]]:
    """The most at once, and the order in which they began."""
    lock, now, most = threading.Lock(), 0, 0
    begun: list[str] = []

    def one(host: str) -> None:
        nonlocal now, most
        with pulls.turn(host):
            with lock:
                begun.append(host)
                now += 1
                most = max(most, now)
                if len(begun) == 1:
                    assert now == 1
            time.sleep(0.03)
            with lock:
                now -= 1

    threads = [threading.Thread(target=one, args=(host,)) for host in hosts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    return most, begun


def test_no_more_hosts_than_allowed_pull_at_once() -> None:
    hosts = [f"h{number}" for number in range(8)]
    most, begun = _pull_all(Pulls(hosts, at_once=3), hosts)
    assert most == 3 and sorted(begun) == hosts


def test_with_a_mirror_one_host_pulls_alone_first() -> None:
    hosts = [f"h{number}" for number in range(4)]
    pulls = Pulls(hosts, at_once=4, one_first=True)
    alone = threading.Event()

    def first() -> None:
        with pulls.turn("h0"):
            alone.set()
            time.sleep(0.1)
            ended.append("h0")

    ended: list[str] = []
    thread = threading.Thread(target=first)
    thread.start()
    alone.wait(5)
    with pulls.turn("h1"):
        assert ended == ["h0"]
    thread.join(5)


def test_the_first_ones_failure_does_not_hold_the_others_and_who_needs_nothing_never_waits() -> None:
    pulls = Pulls(["h0", "h1"], at_once=1, one_first=True)
    with pytest.raises(RuntimeError), pulls.turn("h0"):
        with pulls.turn("h9"):
            pass
        raise RuntimeError
    with pulls.turn("h1"):
        pass
