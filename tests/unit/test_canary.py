"""A canary's parts: what the proxy is told, what is counted, what is judged, and the story over the fleet."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.inventory_project import loaded, problems
from tests.unit.render_factory import target
from tests.unit.rollout_factory import deployed, release, run, running, states, story
from tests.unit.rollout_factory import problems as told

from longshore.agent import metrics, sharing, wire
from longshore.agent.sharing import Part
from longshore.errors import AgentError, LongshoreError
from longshore.inventory.model import RolloutPolicy
from longshore.inventory.proxying import ProxyPolicy
from longshore.inventory.traffic import Traffic
from longshore.plan import HostPlan, Plan, ServiceStep
from longshore.remote.fake import FakeFleet
from longshore.render.bundle import Bundle, ServiceFacts
from longshore.render.proxy import host_settings, proxy_file
from longshore.rollout import canary
from longshore.rollout.judging import Counts, Pair, chance, line, together, worse
from longshore.tasks.traffic import Asked, asked, for_plan

# What the inventory says

INVENTORY = """
all:
  hosts: {{h1: }}
  vars:
    longshore:
      apps:
        shop: {{compose: compose.yml, rollout: {{{rollout}}}}}
"""


def _traffic(root: Path, rollout: str) -> RolloutPolicy:
    files = {"inventory/prod.yml": INVENTORY.format(rollout=rollout)}
    return loaded(root, files).targets["shop", "h1"].app.rollout


def test_shares_a_mirror_and_what_may_be_worse_are_read_with_their_units(tmp_path: Path) -> None:
    said = "share: [5%, 25%], mirror: 2%, for: 90s, errors: 0.5%, latency: 2x, min_requests: 9"
    policy = _traffic(tmp_path, f"canary: h1, traffic: {{{said}}}")
    assert policy.canary == "h1"
    assert policy.traffic == Traffic((5, 25), 2, 90.0, 0.005, 2.0, 9)
    assert _traffic(tmp_path, "traffic: {share: 10%, latency: none}").traffic == Traffic((10,), latency=None)
    assert not _traffic(tmp_path, "traffic: {for: 5m}").traffic.wanted


@pytest.mark.parametrize(
    ("rollout", "sentence"),
    [
        ("canary: 10%", "traffic: {share: 10%} is a share of the requests"),
        ("traffic: {share: 100%}", "'100%' is not a percentage from 1% to 99%"),
        ("traffic: {share: [25%, 5%]}", "share: 25%, 5% doesn't rise"),
        ("traffic: {share: 10}", "'10' is not a percentage"),
        ("traffic: {latency: 0.5x}", "'0.5x' is not a factor from 1x on"),
        ("traffic: {for: 0s}", "must be at least 1s"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(tmp_path: Path, rollout: str, sentence: str) -> None:
    found = problems(tmp_path, {"inventory/prod.yml": INVENTORY.format(rollout=rollout)})
    assert any(sentence in one and "inventory/prod.yml:" in one for one in found), found


# What was typed


def test_the_command_line_wins_over_the_inventory_and_none_takes_both_away() -> None:
    here = Traffic((10,), mirror=5, each=30.0, errors=0.02)
    assert asked(canary="5%,25%", canary_for="2m", mirror="").over(here) == replace(
        here, shares=(5, 25), each=120.0
    )
    assert not asked(canary="none", canary_for="", mirror="").over(here).wanted
    only_copies = asked(canary="none", canary_for="", mirror="3%").over(here)
    assert (only_copies.shares, only_copies.mirror) == ((), 3)
    assert asked(canary="", canary_for="", mirror="none").over(here) == replace(here, mirror=None)


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ({"canary": "10"}, "--canary: '10' is not a percentage from 1% to 99%"),
        ({"canary": "100%"}, "--canary: '100%' is not a percentage"),
        ({"canary": "25%,5%"}, "--canary: 25%,5% doesn't rise"),
        ({"canary": "10%,"}, "--canary: '' is not a percentage"),
        ({"mirror": "0%"}, "--mirror: '0%' is not a percentage from 1% to 100%"),
        ({"canary": "10%", "canary_for": "soon"}, "--canary-for: "),
        ({"canary": "10%", "canary_for": "0s"}, "--canary-for: 0s is too short"),
    ],
)
def test_what_was_typed_wrong_is_a_sentence(typed: dict[str, str], sentence: str) -> None:
    with pytest.raises(LongshoreError) as raised:
        asked(**{"canary": "", "canary_for": "", "mirror": "", **typed})
    assert str(raised.value).startswith(sentence)


def test_a_time_without_a_canary_is_refused() -> None:
    with pytest.raises(LongshoreError, match="there is no canary"):
        Asked(each=60.0).over(Traffic())


def _plan(action: str = "release", current: str | None = "old", **facts: Any) -> Plan:
    web = ServiceFacts("web", "web:2", 1, False, True, **{"routed": True, "twin": True, **facts})
    bundle = Bundle("shop", "h1", "shop", (), ("compose.yml",), ".", (), {"web": web})
    host = HostPlan(
        "h1", bundle, {"current": current, "drift": ()}, action, (), (ServiceStep("web", "recreate"),)
    )  # type: ignore[arg-type]
    return Plan("shop", {"h1": host})


def test_a_plan_says_which_service_has_a_canary_and_a_first_deploy_or_a_repair_has_none() -> None:
    wanted = Traffic((5, 25), mirror=2, each=60.0)
    traffic, sentence = for_plan(_plan(), wanted)
    assert traffic == wanted
    assert sentence == (
        "canary of web: copies of 2 % of the requests for 1 min 0 s, then 5 % of the requests for 1 min 0 s,"
        " then 25 % of the requests for 1 min 0 s, then all"
    )
    for plan in (_plan(current=None), _plan(action="repair")):
        traffic, sentence = for_plan(plan, wanted)
        assert (traffic.wanted, sentence[:10]) == (False, "no canary:")
    assert for_plan(_plan(), Traffic()) == (Traffic(), "")


def test_an_app_that_can_have_no_canary_is_refused_and_why_is_said() -> None:
    gap = {"twin": False, "gap": "it publishes port 8080"}
    for facts, why in (
        (gap, "web is replaced in place, for it publishes port 8080"),
        ({"routed": False}, "none of its services is behind the proxy"),
    ):
        with pytest.raises(LongshoreError) as raised:
            for_plan(_plan(**facts), Traffic((10,)))
        assert f"nothing was changed: shop can't have a canary: {why}" in str(raised.value)


# What the proxy is told


def _release(root: Path, **policies: ProxyPolicy) -> dict[str, Any]:
    return proxy_file(target(root, "services: {web: {image: web:1}}\n"), policies, "traefik:v3")


def test_the_routes_stay_the_old_releases_and_the_new_one_gets_its_share_behind_them(tmp_path: Path) -> None:
    before = _release(tmp_path, web=ProxyPolicy(8000, paths=("/a",), health="/h"), api=ProxyPolicy(1))
    after = _release(tmp_path, web=ProxyPolicy(9000, paths=("/b",), health="/new", timeout=3.0))
    untouched = copy.deepcopy(before)
    http = sharing.shared(before, after, ["web"], Part(10, 0))["http"]
    assert before == untouched
    assert http["routers"] == before["dynamic"]["http"]["routers"]
    services = http["services"]
    assert services["shop:web"] == {
        "weighted": {
            "services": [{"name": "shop:web:old", "weight": 90}, {"name": "shop:web:new", "weight": 10}],
            "healthCheck": {},
        }
    }
    assert services["shop:web:old"]["loadBalancer"]["healthCheck"]["path"] == "/h"
    assert services["shop:web:new"]["loadBalancer"]["healthCheck"]["path"] == "/new"
    transport = services["shop:web:new"]["loadBalancer"]["serversTransport"]
    assert http["serversTransports"][transport]["forwardingTimeouts"]["responseHeaderTimeout"] == "3s"
    assert services["shop:api"] == before["dynamic"]["http"]["services"]["shop:api"]


def test_a_client_of_a_sticky_service_stays_with_its_release_and_in_there_with_its_container(
    tmp_path: Path,
) -> None:
    both = _release(tmp_path, web=ProxyPolicy(8000, sticky=True))
    services = sharing.shared(both, both, ["web"], Part(5, 0))["http"]["services"]
    inner = services["shop:web:new"]["loadBalancer"]["sticky"]["cookie"]
    outer = services["shop:web"]["weighted"]["sticky"]["cookie"]
    assert inner == services["shop:web:old"]["loadBalancer"]["sticky"]["cookie"]
    assert outer == {**inner, "name": f"{inner['name']}_release"}


def test_copies_are_of_requests_that_change_nothing_and_the_new_release_answers_none(tmp_path: Path) -> None:
    both = _release(tmp_path, web=ProxyPolicy(8000, body_limit=10))
    http = sharing.shared(both, both, ["web"], Part(0, 5))["http"]
    assert http["services"]["shop:web"]["weighted"]["services"] == [{"name": "shop:web:old", "weight": 100}]
    assert http["services"]["shop:web:copies"]["mirroring"]["mirrors"] == [
        {"name": "shop:web:new", "percent": 5}
    ]
    copied = http["routers"]["shop:web:0:copies"]
    assert copied["service"] == "shop:web:copies"
    assert "(Method(`GET`) || Method(`HEAD`)) && !HeaderRegexp(`Upgrade`" in copied["rule"]
    assert copied["priority"] > http["routers"]["shop:web:0"]["priority"]
    assert http["routers"]["shop:web:0"]["service"] == "shop:web"


@pytest.mark.parametrize("part", [Part(10, 0), Part(0, 5)])
def test_that_the_old_release_serves_alone_again_is_read_from_the_file_alone(
    tmp_path: Path, part: Part
) -> None:
    both = _release(
        tmp_path, web=ProxyPolicy(8000, sticky=True, health="/h"), api=ProxyPolicy(1, hosts=("a.b",))
    )
    config = sharing.shared(both, both, ["web", "api"], part)
    assert sharing.shares(config) == {"shop:web": part, "shop:api": part}
    assert sharing.unshared(config) == both["dynamic"]
    assert sharing.unshared(both["dynamic"]) == both["dynamic"]


def test_the_proxy_always_counts_and_only_this_machine_can_ask_it(tmp_path: Path) -> None:
    one = target(tmp_path, "services: {web: {image: web:1}}\n")
    static = host_settings(one.proxy, one.root, "traefik:v3")["static"]
    assert "entryPoint" not in static["metrics"]["prometheus"]  # Traefik's own: the API's, on 127.0.0.1
    assert {0.1, 0.3, 1.2, 5.0} < set(static["metrics"]["prometheus"]["buckets"])
    named = host_settings(replace(one.proxy, metrics=9100), one.root, "traefik:v3")["static"]
    assert named["metrics"]["prometheus"]["entryPoint"] == "metrics"
    assert named["entryPoints"]["metrics"]["address"] == "127.0.0.1:9100"


# What is counted


def _text(started: str, *rows: tuple[str, str, str, int], protocol: str = "http") -> str:
    """Service, method and code, and how many; each took 3 ms."""
    lines = ["# HELP x y", f"process_start_time_seconds {started}"]
    for service, method, code, count in rows:
        labels = f'code="{code}",method="{method}",protocol="{protocol}",service="{service}@file"'
        lines.append(f"traefik_service_requests_total{{{labels}}} {count}")
        name = "traefik_service_request_duration_seconds_bucket"
        lines += [f'{name}{{{labels},le="0.002"}} 0', f'{name}{{{labels},le="0.005"}} {count}']
        lines.append(f'{name}{{{labels},le="+Inf"}} {count}')
    return "\n".join(lines)


def test_what_grew_since_is_counted_by_service_and_other_services_are_not() -> None:
    meter = metrics.Meter(["shop:web:new"])
    meter.add(_text("1", ("shop:web:new", "GET", "200", 100), ("shop:web:old", "GET", "500", 50)))
    meter.add(
        _text(
            "1",
            ("shop:web:new", "GET", "200", 130),
            ("shop:web:new", "POST", "502", 4),
            ("x", "GET", "500", 9),
        )
    )
    assert meter.of("shop:web:new") == {"requests": 34, "errors": 4, "within": [[0.002, 0], [0.005, 34]]}


def test_a_new_proxy_counts_from_nothing_also_when_its_numbers_are_higher() -> None:
    meter = metrics.Meter(["a"])
    meter.add(_text("1", ("a", "GET", "200", 10)))
    meter.add(_text("1", ("a", "GET", "200", 15)))
    meter.add(_text("2", ("a", "GET", "200", 20)))
    meter.add(_text("2", ("a", "GET", "200", 21)))
    assert meter.of("a")["requests"] == 5 + 20 + 1


def test_copies_are_compared_with_requests_of_the_same_methods_and_websockets_with_none() -> None:
    text = _text("1", ("a", "GET", "200", 3), ("a", "POST", "500", 5))
    sockets = _text("1", ("a", "GET", "101", 7), protocol="websocket")
    _, found = metrics.read(f"{text}\n{sockets}\nnonsense{{", ["a"], ("GET", "HEAD"))
    assert (found["a"]["requests"], found["a"]["errors"]) == (3, 0)


# What is judged


def _counts(requests: int, errors: int = 0, *, within: int | None = None) -> Counts:
    """All took 10 ms, but for those that are not ``within`` it: these took 100 ms."""
    fast = requests if within is None else within
    return Counts(requests, errors, ((0.005, 0), (0.01, fast), (0.03, fast), (0.1, requests)))


def test_one_failure_among_three_decides_nothing_and_many_among_twenty_do() -> None:
    old = _counts(180)
    assert not worse(Pair(old, _counts(3, 1)), Traffic())
    assert not worse(Pair(old, _counts(20, 2)), Traffic())
    why = worse(Pair(old, _counts(20, 12)), Traffic())
    assert why == "60 % of 20 requests failed (of the old release 0 % of 180; 1 % more may)"


def test_a_release_that_fails_as_often_as_the_old_one_is_not_worse() -> None:
    for failing in (0.01, 0.1, 0.5):
        old, new = _counts(1800, int(1800 * failing)), _counts(200, int(200 * failing))
        assert not worse(Pair(old, new), Traffic())
    assert worse(Pair(_counts(1800, 18), _counts(200, 20)), Traffic())
    assert not worse(Pair(_counts(1800, 18), _counts(200, 20)), Traffic(errors=0.1))


def test_without_a_request_of_the_old_release_nothing_can_be_said() -> None:
    assert not worse(Pair(Counts(), _counts(10, 10)), Traffic())


def test_a_slower_release_is_worse_once_it_is_warm_and_not_when_its_time_is_not_looked_at() -> None:
    pair = Pair(_counts(900), _counts(100, within=60))
    why = worse(pair, Traffic())
    assert why.startswith("95 % of 100 requests took up to 9")
    assert not worse(pair, Traffic(), warm=False)
    assert not worse(pair, Traffic(latency=None))
    assert not worse(pair, Traffic(latency=12.0))
    assert not worse(Pair(_counts(99), pair.new), Traffic()), (
        "the old release's time is not known well enough"
    )
    assert not worse(Pair(_counts(900, within=500), _counts(100, within=55)), Traffic())


def test_some_milliseconds_more_are_no_difference() -> None:
    old = Counts(900, 0, ((0.002, 900), (0.005, 900), (0.01, 900)))
    new = Counts(100, 0, ((0.002, 0), (0.005, 50), (0.01, 90), (0.015, 100)))
    assert not worse(Pair(old, new), Traffic())


def test_chance_is_the_binomial_tail() -> None:
    assert chance(1, 3, 0.01) == pytest.approx(1 - 0.99**3)
    assert chance(2, 2, 0.5) == pytest.approx(0.25)
    exact = sum(math.comb(50, k) * 0.05**k * 0.95 ** (50 - k) for k in range(10, 51))
    assert chance(10, 50, 0.05) == pytest.approx(exact)
    assert chance(0, 10, 0.1) == chance(5, 10, 0.9) == chance(3, 3, 1.0) == 1.0
    assert chance(3000, 100_000, 0.01) < 1e-9


def test_equal_releases_are_almost_never_called_worse_though_they_are_looked_at_each_second() -> None:
    import random

    chances = random.Random(7)
    wrong = 0
    for _ in range(200):
        old = new = old_errors = new_errors = 0
        for _ in range(60):
            old, new = old + 90, new + 10
            old_errors += sum(chances.random() < 0.02 for _ in range(90))
            new_errors += sum(chances.random() < 0.02 for _ in range(10))
            if worse(Pair(Counts(old, old_errors), Counts(new, new_errors)), Traffic(latency=None)):
                wrong += 1
                break
    assert wrong <= 4


def test_hosts_are_added_up_and_a_line_says_what_came_of_it() -> None:
    pair = together([Pair(_counts(90, 1), _counts(10)), Pair(_counts(60), _counts(5, 1)), Pair()])
    assert (pair.old.requests, pair.new.requests) == (150, 15)
    assert pair.new.within[-1] == (0.1, 15)
    assert line(pair) == "15 requests, 6.7 % errors (old 0.7 %), p95 10 ms (old 10 ms)"
    assert line(Pair()) == "0 requests, 0 % errors (old 0 %), p95 - (old -)"
    assert Counts(10, 0, ((1.0, 2),)).percentile() == math.inf


# The story over the fleet


def _said(requests: int, errors: int = 0) -> dict[str, Any]:
    return {"requests": requests, "errors": errors, "within": [[0.01, requests]]}


def _answers(new: int, errors: int = 0) -> Mapping[str, Any]:
    return {"api": {"old": _said(new * 9), "new": _said(new, errors)}}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look each hundredth of a second."""
    monkeypatch.setattr(canary, "_LOOK", 0.01)


def _fleet(*names: str) -> FakeFleet:
    fleet = deployed("1", *names)
    for host in fleet.hosts.values():
        host.shares = lambda: _answers(100)
    return fleet


def _policy(**more: Any) -> RolloutPolicy:
    traffic = Traffic(**{"shares": (10,), "each": 0.05, **more.pop("traffic", {})})
    return RolloutPolicy(traffic=traffic, **more)


def test_every_host_gives_the_copies_then_each_share_then_switches() -> None:
    fleet = _fleet()
    policy = _policy(traffic={"shares": (5, 25), "mirror": 2})
    report, said = run(fleet, story(fleet, "2", policy=policy))
    assert report.ok
    assert set(running(fleet).values()) == {release("2")}
    for host in fleet.hosts.values():
        given = [
            (call.args["share"], call.args["mirror"]) for call in host.calls if call.args.get("do") == "give"
        ]
        assert given == [(0, 2), (5, 0), (25, 0)]
        assert host.ops()[-3:] == [wire.SWITCH, wire.COMMIT, wire.UNLOCK]
    assert "api: canary 25 %: good; 300 requests" in said


def test_a_host_whose_release_is_worse_takes_all_back_and_its_share_goes_back_first() -> None:
    fleet = _fleet()
    fleet["h2"].shares = lambda: _answers(100, 30)
    report, _ = run(fleet, story(fleet, "2", policy=_policy()))
    assert states(report) == {"h1": "taken back", "h2": "failed", "h3": "taken back"}
    assert "h2: the canary 10 % of api was stopped: 30 % of 100 requests failed" in told(report)
    assert set(running(fleet).values()) == {release("1")}
    for host in fleet.hosts.values():
        after = [call.args.get("share") for call in host.calls if call.op in (wire.CANARY, wire.REVERT)]
        assert after[-2:] == [0, None], "the share is taken away before anything else is done"
        assert wire.SWITCH not in host.ops()
    assert "was stopped: 30 %" in fleet["h2"].app("shop").history[-1]["why"]


def test_what_is_too_little_on_each_host_is_seen_on_all_together() -> None:
    names = tuple(f"h{number}" for number in range(1, 13))
    fleet = _fleet(*names)
    for host in fleet.hosts.values():
        host.shares = lambda: _answers(20, 2)
    assert not worse(Pair(_counts(180), _counts(20, 2)), Traffic())
    report, _ = run(fleet, story(fleet, "2", policy=_policy()))
    assert set(states(report).values()) == {"taken back"}
    assert "the canary 10 % of api was stopped: 10 % of 240 requests failed" in told(report)


def test_one_host_may_fail_its_canary_where_max_fail_allows_it_and_the_rest_goes_on() -> None:
    fleet = _fleet()
    fleet["h2"].refuse(wire.CANARY, wire.UNHEALTHY, "api has stopped")
    report, _ = run(fleet, story(fleet, "2", policy=_policy(max_fail=1)))
    assert states(report) == {"h1": "deployed", "h2": "failed", "h3": "deployed"}
    assert running(fleet)["h2"] == release("1")


def test_too_few_requests_are_said_and_are_no_reason_unless_so_many_were_asked_for() -> None:
    fleet = _fleet("h1")
    fleet["h1"].shares = lambda: _answers(3, 1)
    report, said = run(fleet, story(fleet, "2", policy=_policy()))
    assert report.ok
    assert "api: canary 10 %: 3 requests in 0.05 s are too few to judge by; the deploy goes on" in said
    fleet = _fleet("h1")
    report, _ = run(fleet, story(fleet, "2", policy=_policy(traffic={"min_requests": 500})))
    assert "proves nothing: 100 requests in 0.05 s, and min_requests is 500" in told(report)
    assert set(running(fleet).values()) == {release("1")}


def test_a_host_with_nothing_to_share_is_switched_only_when_the_others_have_proved_it() -> None:
    fleet = _fleet("h1", "h2")
    fleet["h2"].shares = None
    report, _ = run(fleet, story(fleet, "2", policy=_policy()))
    assert report.ok
    assert [call.args["do"] for call in fleet["h2"].calls if call.op == wire.CANARY] == ["begin"]
    fleet = _fleet("h1", "h2")
    fleet["h1"].shares = lambda: _answers(100, 30)
    fleet["h2"].shares = None
    report, _ = run(fleet, story(fleet, "2", policy=_policy()))
    assert not report.ok
    assert wire.SWITCH not in fleet["h2"].ops()


def test_ctrl_c_in_a_canary_takes_the_share_away_and_then_all_back(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = _fleet("h1")

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(canary.time, "sleep", interrupted)
    report, _ = run(fleet, story(fleet, "2", policy=_policy()))
    assert "stopped by Ctrl-C" in told(report)
    assert fleet["h1"].calls[-3].args["share"] == 0
    assert set(running(fleet).values()) == {release("1")}


def test_a_host_that_is_lost_in_a_canary_takes_the_others_back() -> None:
    from longshore.errors import ConnectionLostError

    fleet = _fleet()
    looks = iter([_answers(5), AgentError("gone", code=wire.INTERNAL, where="h3")])

    def dies() -> Mapping[str, Any]:
        found = next(looks, ConnectionLostError("the connection broke", where="h3"))
        if isinstance(found, LongshoreError):
            raise found
        return found

    fleet["h3"].shares = dies
    report, _ = run(fleet, story(fleet, "2", policy=_policy()))
    assert states(report)["h1"] == "taken back"
    assert set(running(fleet).values()) == {release("1")}
