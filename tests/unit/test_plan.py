"""What would be done, and why, from a bundle and what a host reports."""

from __future__ import annotations

from typing import Any

from longshore.plan import make_plan
from longshore.render.bundle import Bundle, BundleFile, ServiceFacts


def _bundle(image: str = "shop:1", page: bytes = b"one", policy: bytes = b"p", **more: Any) -> Bundle:
    files = (
        BundleFile("compose.yml", b"services: {}"),
        BundleFile("longshore.yml", policy + page),
        BundleFile(f"{page.hex()}/www/index.html", page, kind="content"),
    )
    services = {"web": ServiceFacts("web", image, 1, False, True), **more}
    return Bundle("shop", "h1", "shop", files, ("compose.yml",), ".", (), services)


def _seen(bundle: Bundle | None, **more: Any) -> dict[str, Any]:
    return {
        "current": bundle.id if bundle else None,
        "unfinished": None,
        "drift": [],
        "staged": False,
        "manifest": bundle.manifest() if bundle else None,
        "containers": [],
        **more,
    }


def _changes(new: Bundle, seen: dict[str, Any]) -> list[tuple[str | None, str]]:
    host = make_plan("shop", {"h1": new}, {"h1": seen}).hosts["h1"]
    return [(change.service, change.why) for change in host.changes]


def test_the_same_release_has_nothing_to_do() -> None:
    plan = make_plan("shop", {"h1": _bundle()}, {"h1": _seen(_bundle())})
    assert plan.todo == ()
    assert plan.hosts["h1"].action == "nothing"


def test_a_release_that_runs_otherwise_than_committed_is_repaired() -> None:
    plan = make_plan("shop", {"h1": _bundle()}, {"h1": _seen(_bundle(), drift=["web is exited"])})
    assert [host.action for host in plan.todo] == ["repair"]
    assert plan.todo[0].changes[0].why == "web is exited"


def test_a_switch_that_was_never_finished_is_recovered_even_to_the_same_release() -> None:
    plan = make_plan("shop", {"h1": _bundle()}, {"h1": _seen(_bundle(), unfinished="abc")})
    assert plan.todo[0].action == "recover"


def test_a_new_image_is_named_with_what_it_was() -> None:
    assert _changes(_bundle("shop:2"), _seen(_bundle("shop:1"))) == [("web", "image shop:1 → shop:2")]


def test_mounted_content_is_named_without_its_hash() -> None:
    changes = _changes(_bundle(page=b"two"), _seen(_bundle(page=b"one")))
    assert (None, "www/index.html differs") in changes


def test_a_change_of_policy_alone_is_named() -> None:
    assert _changes(_bundle(policy=b"q"), _seen(_bundle(policy=b"p"))) == [(None, "longshore.yml differs")]


def test_services_that_come_and_go_are_named() -> None:
    worker = {"worker": ServiceFacts("worker", "shop:1", 1, False, False)}
    assert _changes(_bundle(**worker), _seen(_bundle())) == [("worker", "it is new in this release")]
    assert _changes(_bundle(), _seen(_bundle(**worker))) == [("worker", "it is not in this release")]


def test_on_a_new_host_every_service_starts() -> None:
    assert _changes(_bundle(), _seen(None)) == [("web", "it is new on this host")]


def test_a_bundles_id_is_its_content_and_nothing_else() -> None:
    assert _bundle().id == _bundle().id
    assert _bundle().id != _bundle(page=b"two").id
    assert _bundle().id != _bundle("shop:2").id
    other_host = Bundle(**{**vars(_bundle()), "host": "h2"})
    assert other_host.id == _bundle().id


def test_a_release_that_another_run_is_bringing_just_now_is_not_called_unfinished() -> None:
    seen = _seen(_bundle(), unfinished="abc", lock={"by": "ann@laptop"})
    [first, *_] = make_plan("shop", {"h1": _bundle()}, {"h1": seen}).todo[0].changes
    assert first.why == "release abc is being brought by ann@laptop"
