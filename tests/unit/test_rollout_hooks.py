"""The project's hooks: found before a host is touched, run in order, bounded in time, told no secret."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from longshore.agent import wire
from longshore.console import Masks, Output, make_output
from longshore.errors import DeployError, HookError, Problems
from longshore.remote.fake import FakeFleet, FakeSession
from longshore.roles import HookName, Role
from longshore.rollout import Facts, Move
from longshore.rollout.hookfiles import HookFiles, find_hooks
from longshore.rollout.hooks import run_hooks, run_role_checks, tell_hooks
from longshore.rollout.moves import Story


def _hook(root: Path, name: str, text: str = "#!/bin/sh\n", mode: int = 0o755) -> Path:
    path = root / "hooks" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def _story(root: Path, *hosts: str, timeout: float = 5.0, why: str = "because", **move: Any) -> Story:
    moves = tuple(
        Move(host, "a" * 12, "b" * 12, frozenset({"web", "db"}), url="https://shop.example", **move)
        for host in hosts or ("h1",)
    )
    facts = Facts("run1", "ann@laptop", "abc123", why)
    return Story("shop", moves, facts, "prod", hooks=find_hooks(root), hook_timeout=timeout)


def _run(name: HookName, story: Story, host: int = 0, *, secret: str = "", error: str = "") -> str:
    said = io.StringIO()
    output = make_output(stream=said)
    output.masks = Masks([secret])
    try:
        run_hooks(name, story.moves[host], story, None, output, error=error)
    finally:
        _run.said = said.getvalue()  # type: ignore[attr-defined]
    return said.getvalue()


def test_a_project_without_hooks_has_none(tmp_path: Path) -> None:
    assert find_hooks(tmp_path) == HookFiles(tmp_path)


def test_they_run_in_the_order_of_their_names_the_single_file_first_and_the_hosts_last(
    tmp_path: Path,
) -> None:
    for name in ("before_switch.d/20-b", "before_switch.d/10-a", "before_switch", "host/before_switch"):
        _hook(tmp_path, name)
    _hook(tmp_path, "before_switch.d/README.md", mode=0o644)
    _hook(tmp_path, "lib/common.sh", mode=0o644)
    _hook(tmp_path, ".hidden", mode=0o644)
    assert [file.label for file in find_hooks(tmp_path).of("before_switch")] == [
        "hooks/before_switch",
        "hooks/before_switch.d/10-a",
        "hooks/before_switch.d/20-b",
        "hooks/host/before_switch",
    ]


@pytest.mark.parametrize(
    ("name", "text", "mode", "sentence"),
    [
        ("before_swich", "#!/bin/sh\n", 0o755, "no hook 'before_swich'. Did you mean before_switch"),
        ("host/after_comit.d/x", "#!/bin/sh\n", 0o755, "hooks/host/after_comit.d: there is no hook"),
        ("deploy", "#!/bin/sh\n", 0o755, "A hook is one of: before_stage, before_switch"),
        (
            "before_switch.sh",
            "#!/bin/sh\n",
            0o755,
            "has an ending, which no hook has. Name it before_switch.",
        ),
        ("before_switch", "#!/bin/sh\n", 0o644, "is not executable. chmod +x hooks/before_switch"),
        ("before_switch", "echo hello\n", 0o755, "doesn't say what runs it. Begin it with"),
        ("before_switch", "#!/bin/sh\r\necho\r\n", 0o755, "line ends of Windows"),
        ("before_switch", "", 0o755, "is empty"),
        ("before_switch/x", "#!/bin/sh\n", 0o755, "is a folder, and must be a file. Name it before_switch.d"),
        ("before_switch.d/x/y", "#!/bin/sh\n", 0o755, "hooks/before_switch.d/x: is a folder"),
        ("on_failure.d", "#!/bin/sh\n", 0o755, "is a file, and must be a folder. Name it on_failure."),
        ("host/on_failure", "#!/bin/sh\n" + "#" * (1 << 20), 0o755, "is larger than 1 MiB"),
    ],
)
def test_what_cannot_be_run_is_a_sentence_before_any_host_is_touched(
    tmp_path: Path, name: str, text: str, mode: int, sentence: str
) -> None:
    _hook(tmp_path, name, text, mode)
    with pytest.raises(Problems) as caught:
        find_hooks(tmp_path)
    assert sentence in str(caught.value)


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    _hook(tmp_path, "before_swich")
    _hook(tmp_path, "after_switch", mode=0o644)
    with pytest.raises(Problems) as caught:
        find_hooks(tmp_path)
    assert len(caught.value.problems) == 2


def test_a_link_to_nowhere_and_a_file_called_hooks_are_sentences(tmp_path: Path) -> None:
    (tmp_path / "hooks").mkdir()
    (tmp_path / "hooks" / "on_failure").symlink_to("gone")
    with pytest.raises(Problems, match="link to nowhere"):
        find_hooks(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    (other / "hooks").write_text("")
    with pytest.raises(DeployError, match="not a folder"):
        find_hooks(other)


def test_an_executable_is_told_the_runs_facts_and_runs_in_the_projects_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(os.environ):
        if name.startswith("LONGSHORE_"):  # of who runs the tests: a hook has all of our environment
            monkeypatch.delenv(name)
    _hook(tmp_path, "after_switch", "#!/bin/sh\nenv | grep ^LONGSHORE_ | sort >facts\npwd\n")
    said = _run("after_switch", _story(tmp_path, "h1", "h2"), host=1)
    facts = dict(line.split("=", 1) for line in (tmp_path / "facts").read_text().splitlines())
    assert facts == {
        "LONGSHORE_APP": "shop",
        "LONGSHORE_BY": "ann@laptop",
        "LONGSHORE_ENVIRONMENT": "prod",
        "LONGSHORE_ERROR": "",
        "LONGSHORE_FIRST": "0",
        "LONGSHORE_GIT": "abc123",
        "LONGSHORE_HOST": "h2",
        "LONGSHORE_HOSTS": "h1 h2",
        "LONGSHORE_PREVIOUS": "b" * 12,
        "LONGSHORE_RELEASE": "a" * 12,
        "LONGSHORE_RUN": "run1",
        "LONGSHORE_SERVICES": "db web",
        "LONGSHORE_STEP": "after_switch",
        "LONGSHORE_URL": "https://shop.example",
        "LONGSHORE_WHY": "because",
    }
    assert said == f"h2 after_switch | {tmp_path}\n"


def test_no_secret_is_in_its_facts_and_none_that_it_prints_is_shown(tmp_path: Path) -> None:
    _hook(tmp_path, "on_failure", '#!/bin/sh\necho "$LONGSHORE_ERROR $LONGSHORE_WHY" >facts\necho hunter22\n')
    story = _story(tmp_path, why="the password is hunter22")
    said = _run("on_failure", story, secret="hunter22", error="login with hunter22 failed")
    assert (tmp_path / "facts").read_text() == "login with *** failed the password is ***\n"
    assert said == "h1 on_failure | ***\n"


def test_a_secret_is_masked_also_where_a_long_line_or_fact_is_cut(tmp_path: Path) -> None:
    secret = "hunter22-" + "0123456789" * 3
    line = f"printf %s {'x' * 3985}{secret}{'y' * 30}{secret} >&2; echo"
    _hook(tmp_path, "on_failure", f'#!/bin/sh\necho "$LONGSHORE_ERROR" >facts\n{line}\n')
    said = _run("on_failure", _story(tmp_path), secret=secret, error="x" * 4080 + secret)
    assert (tmp_path / "facts").read_text() == "x" * 4080 + "***\n"
    assert "hunter" not in said and "456789" not in said and "y" * 30 in said


def test_a_python_hook_is_told_no_secret_either(tmp_path: Path) -> None:
    heard: list[Any] = []
    role = Role("x", "…", hooks={"on_failure": lambda facts: heard.append(facts["error"])})
    _run("on_failure", _story(tmp_path, roles=(role,)), secret="hunter22", error="no hunter22")
    assert heard == ["no ***"]


def test_a_failing_executable_stops_the_run_with_its_last_lines_and_the_next_one_is_not_run(
    tmp_path: Path,
) -> None:
    _hook(tmp_path, "before_switch.d/1", "#!/bin/sh\necho no quorum >&2\nexit 4\n")
    _hook(tmp_path, "before_switch.d/2", "#!/bin/sh\ntouch ran\n")
    with pytest.raises(HookError, match=r"h1: the hook hooks/before_switch.d/1 exited with code 4") as caught:
        _run("before_switch", _story(tmp_path))
    assert caught.value.log == ("no quorum",)
    assert not (tmp_path / "ran").exists()


def test_out_of_time_an_executable_is_killed_and_a_function_left_behind(tmp_path: Path) -> None:
    _hook(tmp_path, "before_stage", "#!/bin/sh\necho waiting\nsleep 60\n")
    began = time.monotonic()
    with pytest.raises(HookError, match=r"took longer than 0\.3 s and was killed"):
        _run("before_stage", _story(tmp_path, timeout=0.3))
    role = Role("slow", "…", hooks={"before_switch": lambda facts: time.sleep(60)})
    with pytest.raises(HookError, match=r"the hook before_switch of the role slow was not done after 0\.3 s"):
        _run("before_switch", _story(tmp_path, timeout=0.3, roles=(role,)))
    assert time.monotonic() - began < 4


def test_what_a_function_prints_goes_through_the_runs_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def announce(facts: Mapping[str, Any]) -> None:
        print("the password is", "hunter22")
        print("no line end", end="")

    role = Role("shop", "…", hooks={"after_commit": announce})
    said = _run("after_commit", _story(tmp_path, roles=(role,)), secret="hunter22")
    assert said == "h1 after_commit | the password is ***\nh1 after_commit | no line end\n"
    assert capsys.readouterr().out == ""


def test_as_json_a_hooks_lines_are_events(tmp_path: Path) -> None:
    _hook(tmp_path, "before_stage", "#!/bin/sh\necho hello\n")
    said = io.StringIO()
    story = _story(tmp_path)
    run_hooks("before_stage", story.moves[0], story, None, make_output(as_json=True, stream=said))
    event = {"event": "log", "host": "h1", "service": "before_stage", "line": "hello"}
    assert json.loads(said.getvalue()) == event


def test_a_hook_for_hosts_is_sent_to_the_agent_and_not_run_without_a_session(tmp_path: Path) -> None:
    _hook(tmp_path, "host/before_switch", "#!/bin/sh\necho on the host\n")
    story = _story(tmp_path)
    asked: list[tuple[str, Mapping[str, Any], bytes]] = []

    class Session(FakeSession):
        def call(
            self, op: str, args: Any = None, *, payload: Any = b"", on_event: Any = None, **_: Any
        ) -> Any:
            asked.append((op, args, bytes(payload)))
            on_event({"kind": "hook", "line": "on the host"})

    said = io.StringIO()
    session = Session(FakeFleet("h1")["h1"])
    run_hooks("before_switch", story.moves[0], story, session, make_output(stream=said))
    [(op, args, payload)] = asked
    assert (op, args["hook"], args["timeout"]) == (wire.HOOK, "hooks/host/before_switch", 5.0)
    assert args["env"]["LONGSHORE_HOST"] == "h1"
    assert payload == b"#!/bin/sh\necho on the host\n"
    assert said.getvalue() == "h1 before_switch | on the host\n"
    assert _run("before_switch", story) == ""


def test_after_the_fact_a_failing_hook_is_told_and_the_other_hosts_still_run(tmp_path: Path) -> None:
    script = '#!/bin/sh\necho "$LONGSHORE_HOST $LONGSHORE_FIRST" >>ran\n[ "$LONGSHORE_HOST" != h1 ]\n'
    _hook(tmp_path, "after_commit", script)
    said = io.StringIO()
    story = _story(tmp_path, "h1", "h2", "h3")
    tell_hooks("after_commit", story.moves, story, {}, make_output(stream=said))
    assert sorted((tmp_path / "ran").read_text().splitlines()) == ["h1 1", "h2 0", "h3 0"]
    assert "warning: h1: the hook hooks/after_commit exited with code 1." in said.getvalue()


def _check(
    answer: Callable[[Mapping[str, Any]], Any], story: Story, output: Output | None = None
) -> list[str]:
    role = Role("shop", "…", checks={"converts": answer})
    move = replace(story.moves[0], roles=(role,))
    return [str(problem) for problem in run_role_checks(move, story, output)]


def test_a_roles_check_fails_by_a_sentence_an_exception_or_the_time(tmp_path: Path) -> None:
    story = _story(tmp_path, timeout=0.3)
    assert _check(lambda facts: None, story) == []
    assert _check(lambda facts: f"no page on {facts['host']}", story) == [
        "h1: the check 'converts' of the role shop failed: no page on h1."
    ]
    assert "KeyError: 'x'" in _check(lambda facts: {}["x"], story)[0]
    assert "was not done after 0.3 s" in _check(lambda facts: time.sleep(9), story)[0]
