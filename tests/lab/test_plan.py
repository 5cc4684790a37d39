"""Plans on real hosts: what they say is what then happens, and planning itself changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.lab.project import PYTHON, Done, Project

from longshore.lab import Lab

pytestmark = pytest.mark.lab

# Six services that do nothing, in every relation that decides about who is made anew.
COMPOSE = """
x-idle: &idle
  image: {image}
  command: ["sleep", "1000"]
  init: true
  stop_grace_period: 1s
services:
  page: {{<<: *idle, volumes: ["./page.txt:/srv/page.txt:ro"]}}
  uses_config: {{<<: *idle, configs: [app.conf]}}
  uses_secret: {{<<: *idle, secrets: [token]}}
  limited: {{<<: *idle, environment: {{LEVEL: "${{LEVEL:-info}}", DB_PASSWORD: "${{DB_PASSWORD:-}}"}}}}
  behind: {{<<: *idle, depends_on: [limited]}}
  lonely: {{<<: *idle}}
configs: {{app.conf: {{file: ./app.conf}}}}
secrets: {{token: {{file: ./token}}}}
"""
LIMITS = "services: {limited: {memory: 64M}}\nstability: 200ms\n"
SECRETS = ("hunter2-old", "hunter3-new", "s3cret-t0ken")

# Everything that a plan could change: of the engine, and of files, with content and times.
STATE = r"""
docker ps -aq --no-trunc | sort | xargs -r docker inspect
docker volume ls -q | sort | xargs -r docker volume inspect
docker network ls -q --no-trunc | sort | xargs -r docker network inspect
docker images -aq --no-trunc | sort
find /var/lib/longshore /tmp /srv /root /etc -path /var/lib/longshore/agent -prune -o \
  ! -type s -printf '%p %m %U %s %T@ %y %l\n' | sort
find /var/lib/longshore /srv -path /var/lib/longshore/agent -prune -o -type f -print0 \
  | sort -z | xargs -0 -r sha256sum
"""


@pytest.fixture
def project(tmp_path: Path, lab: Lab, stand_ins: Callable[..., None], clean_hosts: None) -> Project:
    """Idle services on h1."""
    stand_ins(PYTHON)
    made = Project(tmp_path, lab)
    made.write("compose.yml", COMPOSE.format(image=PYTHON))
    made.write("page.txt", "hello\n")
    made.write("app.conf", "workers = 1\n")
    made.write("token", SECRETS[2])
    made.inventory("h1", app=LIMITS)
    return made


def plan(project: Project, *words: str) -> Done:
    return project.run("plan", "--env", "try", *words)


def host_plan(project: Project) -> dict[str, Any]:
    (line,) = [one for one in plan(project, "--json").json() if one["event"] == "result"]
    found: dict[str, Any] = line["value"]["hosts"]["h1"]
    return found


def idents(project: Project) -> dict[str, str]:
    return {
        one["Config"]["Labels"]["com.docker.compose.service"]: one["Id"] for one in project.containers("h1")
    }


def sh(project: Project, script: str) -> str:
    return project.lab.ssh("h1", ["sh", "-ec", script]).stdout


def test_what_the_plan_says_is_what_then_happens(project: Project) -> None:
    first = host_plan(project)
    assert {name: step["deed"] for name, step in first["services"].items()} == dict.fromkeys(
        ("page", "uses_config", "uses_secret", "limited", "behind", "lonely"), "start"
    )
    assert project.deploy().code == 0

    def change(what: str) -> None:
        if what == "a mounted file":
            project.write("page.txt", "goodbye\n")
        elif what == "a config and a secret":
            project.write("app.conf", "workers = 2\n")
            project.write("token", "another")
        elif what == "a limit":
            project.inventory("h1", app=LIMITS.replace("64M", "48M"))
        elif what == "a setting of ours and a comment":
            project.inventory("h1", app=LIMITS.replace("64M", "48M") + "keep: 3\n")
            project.write("compose.yml", "# as before\n" + COMPOSE.format(image=PYTHON))

    for what, recreated, sentence in (
        ("a mounted file", {"page"}, "page.txt, mounted at /srv/page.txt, differs"),
        ("a config and a secret", {"uses_config", "uses_secret"}, "config app.conf differs"),
        ("a limit", {"limited", "behind"}, "memory 64M → 48M"),
        ("a setting of ours and a comment", set(), "keep 5 → 3"),
    ):
        change(what)
        said = host_plan(project)
        assert {name for name, step in said["services"].items() if step["deed"] == "recreate"} == recreated, (
            what
        )
        assert sentence in [one["text"] for one in said["changes"]], what
        before = idents(project)
        done = project.deploy()
        assert done.code == 0, done.all
        after = idents(project)
        assert {name for name in after if after[name] != before[name]} == recreated, what
        assert sentence in done.out, "deploy says the same"
    assert plan(project).code == 0


def test_planning_changes_nothing_on_the_host_and_tells_no_secret(project: Project) -> None:
    assert project.deploy(LEVEL="info", DB_PASSWORD=SECRETS[0]).code == 0
    # As much to find as there can be: a new release, and things changed by hand.
    sh(project, "docker update --memory 32m --memory-swap 64m shop-limited-1; docker stop -t 0 shop-lonely-1")
    sh(project, "echo x >> /var/lib/longshore/shop/current/bundle/compose.yml")
    project.write("env/try.env", f"LEVEL=debug\nDB_PASSWORD={SECRETS[1]}\n").chmod(0o600)
    project.write("token", "n3w-t0ken")
    before = sh(project, STATE)
    done = plan(project)
    saved = project.root / "release.plan"
    as_json = plan(project, "--json", "--save", str(saved))
    assert sh(project, STATE) == before
    assert (done.code, as_json.code) == (2, 2), done.all
    assert "limited: memory limit is 32M, the release says 64M" in done.out
    assert "lonely is exited" in done.out
    assert "compose.yml was edited on the host" in done.out
    assert saved.stat().st_mode & 0o777 == 0o600
    for secret in (*SECRETS, "n3w-t0ken"):
        assert secret not in done.all + as_json.all + saved.read_text()
    old, new = next(
        line.split("environment DB_PASSWORD ")[1].split(" → ")
        for line in done.out.splitlines()
        if "environment DB_PASSWORD" in line
    )
    assert old.startswith("***")
    assert new.startswith("***")
    assert old != new
    assert "uses_secret: secret token differs" in done.out


def test_everything_that_was_changed_by_hand_is_said_and_repaired(project: Project) -> None:
    assert project.deploy(DB_PASSWORD=SECRETS[0]).code == 0
    image = project.containers("h1")[0]["Config"]["Image"]
    sh(
        project,
        f"""
        docker update --memory 32m --memory-swap 64m shop-limited-1
        docker network disconnect shop_default shop-lonely-1
        docker stop -t 0 shop-uses_config-1
        docker rm -f shop-uses_secret-1
        label=com.docker.compose
        hash=$(docker inspect shop-behind-1 -f "{{{{index .Config.Labels \\"$label.config-hash\\"}}}}")
        docker rm -f shop-behind-1
        docker run -d --init --name shop-behind-1 --network shop_default -e EVIL=1 \
          --label longshore.app=shop --label $label.project=shop --label $label.service=behind \
          --label $label.oneoff=False --label $label.container-number=1 \
          --label $label.config-hash=$hash {image} sleep 999
        docker run -d --init --name guest --label $label.project=shop --label $label.service=guest \
          {image} sleep 999
        echo 'DB_PASSWORD="mine"' > /var/lib/longshore/shop/current/bundle/.env
        chmod 644 /var/lib/longshore/shop/current/bundle/longshore.yml
        echo evil > "$(echo /var/lib/longshore/shop/content/*/page.txt)"
        """,
    )
    done = plan(project)
    assert done.code == 2, done.all
    for sentence in (
        "limited: memory limit is 32M, the release says 64M",
        "lonely: network shop_default is missing",
        "uses_config is exited",
        "uses_secret has no container",
        "behind: command is sleep 999, the release says sleep 1000",
        "behind: the variable EVIL is not the release's",
        ".env was edited on the host",
        "longshore.yml has the mode 0644 on the host, the release says 0600",
        "page.txt, which page mounts, was edited on the host",
    ):
        assert f"changed by hand: {sentence}" in done.out, sentence
    assert "note: guest has the app's project name, but Longshore did not make it" in done.out
    assert "hunter2" not in done.all
    deployed = project.deploy(DB_PASSWORD=SECRETS[0])
    assert deployed.code == 0, deployed.all
    assert "h1: repair" in deployed.out
    left = plan(project)
    assert left.code == 0, left.all
    containers = {one["Name"]: one for one in project.containers("h1")}
    assert containers["/shop-limited-1"]["HostConfig"]["Memory"] == 64 * 2**20
    assert containers["/shop-behind-1"]["Config"]["Cmd"] == ["sleep", "1000"]
    assert "shop_default" in containers["/shop-lonely-1"]["NetworkSettings"]["Networks"]
    assert containers["/guest"]["State"]["Running"], "what isn't ours is left alone"
    assert sh(project, "docker exec shop-page-1 cat /srv/page.txt") == "hello\n"
    assert SECRETS[0] in sh(project, "cat /var/lib/longshore/shop/current/bundle/.env")


def test_a_saved_plan_is_applied_as_it_was_reviewed_or_not_at_all(project: Project) -> None:
    saved = project.root / "release.plan"

    def refused(*words: str) -> str:
        before = idents(project)
        done = project.run("deploy", "--plan", str(saved), *words)
        assert done.code == 1, done.all
        assert idents(project) == before
        return done.err

    assert plan(project, "--save", str(saved)).code == 2
    assert "not for the app blog" in refused("--app", "blog")
    applied = project.run("deploy", "--plan", str(saved))
    assert applied.code == 0, applied.all
    assert "h1: it has moved on:" in refused()

    project.write("page.txt", "goodbye\n")
    assert plan(project, "--save", str(saved)).code == 2
    project.write("page.txt", "never reviewed\n")
    assert "would be deployed now, the plan says" in refused()
    project.write("page.txt", "goodbye\n")
    sh(project, "docker update --memory 32m --memory-swap 64m shop-limited-1")
    assert "h1: this was changed by hand since: limited: memory limit is 32M" in refused()

    assert plan(project, "--save", str(saved)).code == 2
    body = json.loads(saved.read_text())
    body["apps"]["shop"]["h1"]["drift"] = []
    text = saved.read_text()
    saved.write_text(json.dumps(body))
    assert "was edited or damaged" in refused()
    saved.write_text(text)
    applied = project.run("deploy", "--plan", str(saved))
    assert applied.code == 0, applied.all
    limited = next(one for one in project.containers("h1") if one["Name"] == "/shop-limited-1")
    assert limited["HostConfig"]["Memory"] == 64 * 2**20, "what was changed by hand went with the new release"
    assert plan(project).code == 0
