"""Hooks, probes, the audit and webhooks with the commands that a person types, on practice hosts."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.lab.project import PYTHON, Project

from longshore.lab import Lab

NAMES = ("before_stage", "before_switch", "after_switch", "after_commit", "on_failure", "on_rollback")
TELL = '#!/bin/sh\necho "$LONGSHORE_STEP $LONGSHORE_HOST ${LONGSHORE_ERROR:-fine}" >>ran.txt\n'


@pytest.fixture
def project(lab: Lab, stand_ins: Any, hosts: list[str], tmp_path: Path) -> Project:
    stand_ins(PYTHON)
    made = Project(tmp_path, lab)
    made.inventory("h1", "h2")
    made.server()
    return made


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A webhook's URL, and what was posted there."""
    got: list[dict[str, Any]] = []

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/services/T0/B0/xyzzy", got
    server.shutdown()
    server.server_close()


def _hook(project: Project, name: str, text: str) -> None:
    project.write(f"hooks/{name}", text).chmod(0o755)


def _on(lab: Lab, host: str, *command: str) -> str:
    return lab.ssh(host, list(command), check=False).stdout.strip()


def test_hooks_run_here_and_on_each_host_and_leave_nothing_behind(project: Project, lab: Lab) -> None:
    for name in (
        "before_stage",
        "before_switch",
        "after_switch",
        "after_commit",
        "on_failure",
        "on_rollback",
    ):
        _hook(project, name, TELL)
    _hook(
        project, "host/after_switch.d/10-look", "#!/bin/sh\ndocker ps --format '{{.Names}}'\npwd >/srv/cwd\n"
    )
    done = project.deploy(VERSION="1", DB_PASSWORD="hunter22-very-secret")
    assert done.code == 0, done.all
    for host in ("h1", "h2"):
        assert f"{host} after_switch | shop-web-1" in done.out
        assert _on(lab, host, "cat", "/srv/cwd") == "/var/lib/longshore/shop"
        assert _on(lab, host, "sh", "-c", "ls -a /var/lib/longshore/shop | grep hook") == ""
    ran = [line.split() for line in (project.root / "ran.txt").read_text().splitlines()]
    for host in ("h1", "h2"):
        steps = [step for step, where, *_ in ran if where == host]
        assert steps == ["before_stage", "before_switch", "after_switch", "after_commit"]


def test_a_hook_that_fails_before_the_switch_stops_it_and_after_it_takes_it_back(
    project: Project, lab: Lab
) -> None:
    assert project.deploy(VERSION="1").code == 0
    good = project.status()["h1"]["current"]

    _hook(
        project,
        "host/before_switch",
        '#!/bin/sh\n[ "$LONGSHORE_HOST" = h1 ] && exit 0\necho no room\nexit 3\n',
    )
    done = project.deploy(VERSION="2")
    assert done.code == 1
    assert "h2: the hook hooks/host/before_switch exited with code 3" in done.err
    assert "  | no room" in done.err
    assert {project.page(host) for host in ("h1", "h2")} == {"1 hello"}

    (project.root / "hooks/host/before_switch").unlink()
    _hook(project, "after_switch", '#!/bin/sh\n[ "$LONGSHORE_HOST" = h1 ] || sleep 30\n')
    for name in ("on_failure", "on_rollback", "after_commit"):
        _hook(project, name, TELL)
    project.inventory("h1", "h2", app="hooks: {timeout: 1s}")
    done = project.deploy(VERSION="2")
    assert done.code == 1
    assert "h2: the hook hooks/after_switch took longer than 1 s and was killed" in done.err
    assert {project.page(host) for host in ("h1", "h2")} == {"1 hello"}
    assert {state["current"] for state in project.status().values()} == {good}
    ran = (project.root / "ran.txt").read_text()
    assert {line.split()[0] for line in ran.splitlines()} == {"on_failure", "on_rollback"}
    assert "took longer than 1 s" in ran

    # A hook after the fact that fails is told, and changes nothing; a name that is none touches no host.
    _hook(project, "after_switch", "#!/bin/sh\n")
    _hook(project, "after_commit", "#!/bin/sh\nexit 9\n")
    done = project.deploy(VERSION="3")
    assert (done.code, done.out.count("warning: ")) == (0, 2)
    assert "the hook hooks/after_commit exited with code 9" in done.out
    _hook(project, "after_comit", "#!/bin/sh\n")
    done = project.deploy(VERSION="4")
    assert done.code == 1
    assert "hooks/after_comit: there is no hook 'after_comit'. Did you mean after_commit" in done.err
    assert {project.page(host) for host in ("h1", "h2")} == {"3 hello"}
    # The run that failed left no lock: the same again, mended, goes through.
    (project.root / "hooks/after_comit").unlink()
    assert project.deploy(VERSION="4").code == 0


def test_a_release_that_does_not_answer_through_its_port_is_taken_back(
    project: Project, receiver: tuple[str, list[dict[str, Any]]]
) -> None:
    url, got = receiver
    project.inventory(
        "h1",
        app="""
        services:
          web: {probe: {http: 8000/health, timeout: 2s}, health: {command: ["true"], interval: 200ms}}
        notify: [{webhook: "{{ lookup('env', 'HOOK_URL') }}", format: json}]
        """,
    )
    project.write("env/try.env", "VERSION=1\n").chmod(0o600)
    done = project.run("deploy", "--env", "try", env={"HOOK_URL": url})
    assert done.code == 0, done.all
    assert "answers its probe" in done.out

    project.write("env/try.env", "VERSION=2\nSICK=1\n").chmod(0o600)
    done = project.run("deploy", "--env", "try", "--why", "a try", env={"HOOK_URL": url})
    assert done.code == 1
    assert "doesn't answer its probe at http://127.0.0.1:8080/health (answered 503, not 200" in done.err
    assert project.page("h1") == "1 hello"

    assert "xyzzy" not in done.all
    assert [(one["outcome"], one["host"]) for one in got] == [("deployed", ""), ("taken back", "h1")]
    assert "doesn't answer its probe" in got[1]["error"]
    assert (got[1]["why"], got[1]["environment"]) == ("a try", "try")

    done = project.run("deploy", "--env", "try", env={"HOOK_URL": "http://127.0.0.1:9/xyzzy"})
    assert "warning: a webhook at 127.0.0.1 was not told: Connection refused" in done.out
    assert "xyzzy" not in done.all


def test_the_audit_names_the_host_and_the_line_that_somebody_changed(project: Project, lab: Lab) -> None:
    secret = "hunter22-very-secret"
    for version in ("1", "2", "3"):
        done = project.deploy("--why", f"{version} with {secret}", VERSION=version, DB_PASSWORD=secret)
        assert done.code == 0, done.all
    log = "/var/lib/longshore/shop/history.jsonl"
    for host in ("h1", "h2"):
        assert secret not in _on(lab, host, "cat", log)
    done = project.run("audit", "--env", "try")
    assert done.code == 0
    assert done.out.count("committed") == 6
    assert "h1: shop: 3 lines, all as written" in done.out

    lab.ssh("h2", ["sed", "-i", '3s/"why": "2 with/"why": "9 with/', log])
    done = project.run("audit", "--env", "try", "--verify")
    assert done.code == 1
    assert "h1: shop: 3 lines, all as written" in done.out
    assert "h2: the history of shop, line 3: was changed" in done.err
    lab.ssh("h1", ["sed", "-i", "$d", log])
    done = project.run("audit", "--env", "try", "--verify", "--json")
    assert done.code == 1
    [value] = [line["value"]["hosts"] for line in done.json() if line["event"] == "result"]
    assert [one["message"] for one in value["h1"]["problems"]] == ["1 line after this one was removed"]
    # It stays found, and deploying goes on.
    assert project.deploy(VERSION="4").code == 0
    assert project.run("audit", "--env", "try", "--verify").code == 1
