"""What the daily commands make of what a person typed."""

from __future__ import annotations

import io
import os
import socket
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from invoke.program import Program

from longshore.agent import wire
from longshore.console import Masks, make_output
from longshore.errors import AgentError, HostError, LongshoreError, Where
from longshore.inventory.model import App, Environment, Host, SmokeCheck, SshSettings, Target
from longshore.remote import Links
from longshore.remote.fake import FakeFleet
from longshore.rollout import Facts
from longshore.tasks import ns
from longshore.tasks.acting import locked
from longshore.tasks.fleet import Fleet, make_facts
from longshore.tasks.services import choose, choose_one, drop_strangers, mask_also, smoke_checks
from longshore.tasks.talk import _since, _tail
from longshore.tasks.upkeep import junit_xml
from longshore.tasks.words import after_dashes, command_words, duration
from longshore.verify import run_checks
from longshore.verify.smoke import SmokeResult

COMPOSE = "services:\n  api: {image: shop}\n  db: {image: postgres}\n"
OWN_FLAGS = {"--list", "--dry", "--hide", "--help", "--version", "--debug", "--echo", "--pty", "--config"}


def _fleet(root: Path, hosts: dict[str, FakeFleet] | None = None, compose: str = COMPOSE) -> Fleet:
    """Two hosts; ``db`` runs on the first only. The app ``blog`` has an ``api``, too."""
    (root / "compose.yml").write_text(compose)
    (root / "blog.yml").write_text("services:\n  api: {image: blog}\n")
    where = Where("inventory/try.yml", 1)
    known = {name: Host(name, SshSettings(name), (), {}, where) for name in ("h1", "h2")}
    apps = {
        "shop": App("shop", "all", (root / "compose.yml",), "shop"),
        "blog": App("blog", "all", (root / "blog.yml",), "blog"),
    }
    placed = {"shop": {"db": ("h1",)}, "blog": {}}
    targets = {
        (app.name, host.name): Target("try", root, app, host, {}, {}, placed[app.name], "/var/lib/longshore")
        for app in apps.values()
        for host in known.values()
    }
    environment = Environment("try", root, known, {}, dict.fromkeys(apps, tuple(known)), targets, {})
    connector = FakeFleet(*known)
    return Fleet(
        environment,
        dict.fromkeys(apps, tuple(known)),
        make_output(stream=io.StringIO()),
        Links(environment, connector),
        Facts("run1", "ann@laptop"),
    )


def test_a_service_is_looked_for_only_where_it_runs(tmp_path: Path) -> None:
    fleet = _fleet(tmp_path)
    assert choose(fleet, "db") == {"shop": ("h1",)}
    assert choose(fleet, "api", app="shop") == {"shop": ("h1", "h2")}
    assert choose_one(fleet, "db") == ("shop", ("h1",))


def test_an_unknown_service_is_refused_with_the_known_ones_before_any_host_is_asked(tmp_path: Path) -> None:
    fleet = _fleet(tmp_path)
    with pytest.raises(LongshoreError, match=r"no service 'wbe' in shop or blog.* There are: api, db\."):
        choose(fleet, "wbe")
    assert all(not host.calls for host in fleet.links._connector.hosts.values())  # type: ignore[attr-defined]


def test_broken_compose_files_do_not_stop_a_command_for_an_emergency(tmp_path: Path) -> None:
    fleet = _fleet(tmp_path, compose="services: [")
    assert choose(fleet, "anything", app="shop") == {"shop": ("h1", "h2")}


def test_a_service_of_two_apps_needs_the_apps_name_and_a_host_must_run_it(tmp_path: Path) -> None:
    fleet = _fleet(tmp_path)
    with pytest.raises(LongshoreError, match=r"several apps have a service 'api': shop, blog\. Say which"):
        choose_one(fleet, "api")
    with pytest.raises(LongshoreError, match=r"db of shop does not run on 'h2'. It runs on: h1\."):
        choose_one(fleet, "db", host="h2")


def test_a_host_without_the_service_is_no_failure_unless_none_has_it() -> None:
    stranger = AgentError("no service", code=wire.NO_SERVICE, where="h2")
    down = HostError("down", where="h3")
    assert drop_strangers({"h2": stranger, "h3": down}, "api", last=False) == {"h3": down}
    assert drop_strangers({"h2": stranger}, "api", last=True) == {"h2": stranger}


def test_what_acts_takes_the_lock_and_gives_it_back_also_when_it_fails(tmp_path: Path) -> None:
    fleet = _fleet(tmp_path)
    host = fleet.links._connector.hosts["h1"]  # type: ignore[attr-defined]
    host.refuse(wire.RESTART, wire.UNHEALTHY, "api keeps dying")
    with pytest.raises(AgentError, match="keeps dying"):
        locked(fleet, "shop", "h1", wire.RESTART, {"service": "api"})
    assert host.ops() == [wire.LOCK, wire.RESTART, wire.UNLOCK]
    assert host.app("shop").lock is None


def test_the_words_after_two_dashes_keep_their_ends() -> None:
    assert after_dashes(["exec", "api", "--", "sh", "-c", "echo 'a  b'", "--", ""]) == (
        "sh", "-c", "echo 'a  b'", "--", "",
    )  # fmt: skip
    assert after_dashes(["ps"]) == ()


def test_a_missing_command_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["invoke", "exec", "api"])
    with pytest.raises(LongshoreError, match="there is no command"):
        command_words("invoke exec api -- ls")


@pytest.mark.usefixtures("nameless")
def test_who_runs_it_can_be_told_of_a_user_without_a_name(tmp_path: Path) -> None:
    assert make_facts(tmp_path).by == f"user {os.geteuid()}@{socket.gethostname()}"


def test_secrets_that_two_hosts_tell_at_once_are_both_masked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = _fleet(tmp_path)
    plus = Masks.plus

    def slowly(masks: Masks, values: Iterable[str]) -> Masks:
        more = plus(masks, values)
        time.sleep(0.1)
        return more

    monkeypatch.setattr(Masks, "plus", slowly)
    fleet.each(("h1", "h2"), lambda host: mask_also(fleet, {host: {"secrets": [f"planted-secret-{host}"]}}))
    assert fleet.output.masks.text("planted-secret-h1 planted-secret-h2") == "*** ***"


def test_since_and_tail_say_what_is_wrong_with_them() -> None:
    found = _since("10m")
    assert found is not None
    assert abs(time.time() - 600 - found) < 5
    assert _since("1970-01-01T00:01:00+00:00") == 60.0
    assert _since("") is None
    assert (_tail("", False), _tail("", True), _tail("all", False), _tail("7", True)) == (100, None, None, 7)
    for wrong in ("10", "yesterday"):
        with pytest.raises(LongshoreError, match=r"--since: .*2026-01-31T08:00"):
            _since(wrong)
    with pytest.raises(LongshoreError, match="--tail: '-1' is not a number of lines"):
        _tail("-1", False)
    with pytest.raises(LongshoreError, match="--tail: '²' is not a number of lines"):
        _tail("²", False)
    with pytest.raises(LongshoreError, match="--deadline: 60 has no unit"):
        duration("60", "--deadline")


def test_no_task_takes_a_flag_of_invokes_own() -> None:
    for name in ns.task_names:
        flags = {flag for one in ns[name].get_arguments() for flag in (f"--{one.name.replace('_', '-')}",)}
        assert not flags & OWN_FLAGS, name


def test_help_after_a_task_with_a_positional_argument_is_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    Program(namespace=ns).run(["invoke", "pip-list", "--help"], exit=False)
    assert "List the Python packages" in capsys.readouterr().out


def test_checks_of_one_name_that_look_at_each_host_say_which(tmp_path: Path) -> None:
    fleet = _fleet(tmp_path)
    targets = dict(fleet.environment.targets)
    for host in ("h1", "h2"):
        target = targets[("shop", host)]
        checks = (SmokeCheck("health", url=f"http://{host}/health"), SmokeCheck("front", url="http://shop/"))
        targets[("shop", host)] = replace(target, app=replace(target.app, smoke=checks))
    fleet.environment = replace(fleet.environment, targets=targets)
    assert [check.name for check in smoke_checks(fleet, "shop")] == [
        "health http://h1/health",
        "front",
        "health http://h2/health",
    ]


def test_junit_names_every_failure_masked_and_can_be_read() -> None:
    results = {
        "shop": (SmokeResult("up", True, "", 0.2, 1), SmokeResult("login", False, "hunter22 \x1b", 1.5, 3))
    }
    suite = ElementTree.fromstring(junit_xml(results, Masks(["hunter22"]).text))[0]
    assert (suite.get("name"), suite.get("tests"), suite.get("failures")) == ("shop", "2", "1")
    assert [case.get("name") for case in suite] == ["up", "login"]
    failure = suite[1].find("failure")
    assert failure is not None
    assert failure.get("message") == "*** \ufffd"


def _silent() -> tuple[socket.socket, int]:
    """A port that takes connections and never answers."""
    listener = socket.create_server(("127.0.0.1", 0))
    return listener, int(listener.getsockname()[1])


def test_a_deadline_ends_a_check_that_would_wait_and_try_for_longer() -> None:
    listener, port = _silent()
    check = SmokeCheck("slow", url=f"http://127.0.0.1:{port}/", timeout=30, retries=50)
    with listener:
        began = time.monotonic()
        (result,) = run_checks([check], deadline=0.4)
    assert time.monotonic() - began < 3
    assert not result.ok
    assert result.why.startswith("no answer within 0.")
    assert result.tries == 1


def test_without_a_deadline_every_retry_is_used() -> None:
    listener, port = _silent()
    listener.close()  # now nobody listens there
    check = SmokeCheck("refused", tcp=f"127.0.0.1:{port}", retries=1)
    (result,) = run_checks([check, replace(check)])
    assert (result.ok, result.tries) == (False, 2)
    assert "refused" in result.why.lower()
