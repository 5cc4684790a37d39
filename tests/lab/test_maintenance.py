"""Maintenance, pauses and breaking migrations on practice hosts: what clients see meanwhile, and then."""

from __future__ import annotations

import http.client
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.lab.project import PYTHON, Done, Project
from tests.load.generator import HOST, Load
from tests.load.ground import prepare, under_load

from longshore.lab import Lab

pytestmark = pytest.mark.lab

RATE = 60.0
"""Requests a second; the figures in docs/proxy.md are of 200."""


@pytest.fixture
def images(stand_ins: Callable[..., None], clean_hosts: None) -> None:
    """What the tests deploy, in the registry; and clean hosts."""
    stand_ins(PYTHON, "traefik:v3")


def _ask(lab: Lab, *, accept: str = "*/*", method: str = "GET") -> tuple[int, dict[str, str], str]:
    """A request to the proxy of ``h1``: status, headers (small letters), body."""
    connection = http.client.HTTPConnection(lab.addresses["h1"], 80, timeout=30)
    try:
        connection.request(method, "/", headers={"Host": HOST, "Accept": accept})
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, found, answer.read().decode()
    finally:
        connection.close()


def _holders(lab: Lab, module: str = "holding") -> list[str]:
    """The processes that hold requests back, or serve a page, on ``h1``; the oldest first."""
    found = lab.ssh("h1", ["pgrep", "-f", f" {module} /var/lib/longshore shop "], check=False)
    return found.stdout.split()


def _routes(lab: Lab) -> str:
    return lab.ssh("h1", ["cat", "/var/lib/longshore/_proxy/dynamic/shop.yml"]).stdout


def _held(load: Load, since: float, until: float) -> list[float]:
    """How long the quick requests took that were begun in that window, in their order."""
    quick = ("new connection", "kept-alive", "post")
    return [one.took for one in load.outcomes if one.kind in quick and since <= one.began < until]


def _answered_between(load: Load, since: float, until: float) -> int:
    quick = ("new connection", "kept-alive", "post")
    return len([one for one in load.outcomes if one.kind in quick and since < one.began + one.took < until])


def _page_and_503(project: Project, lab: Lab) -> None:
    """Maintenance shows a page of one's own or ours; without its server it is a 503 all the same."""
    project.write("soon.html", "<!doctype html><title>soon</title><p>Wir sind gleich zurück")
    wrong = project.run("maintenance", "on", "--env", "try", "--page", "there-is-none.html")
    assert (wrong.code, _ask(lab)[0]) == (1, 200), wrong.all
    done = project.run("maintenance", "on", "--env", "try", "--page", "soon.html", "--retry-after", "90s")
    assert done.code == 0, done.all
    status, headers, body = _ask(lab)
    assert (status, headers["retry-after"], body) == (503, "90", (project.root / "soon.html").read_text())
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert _ask(lab, method="POST")[0] == 503
    status, headers, body = _ask(lab, accept="application/json")
    assert (status, headers["content-type"], body) == (503, "application/json", '{"error": "maintenance"}')
    lab.ssh("h1", ["kill", "-9", *_holders(lab, "pages")])
    status, headers, body = _ask(lab)
    assert (status, headers["retry-after"]) == (503, "90")
    assert "soon" not in body
    # Who is let through meets the app, and its own 503 with it; ours is shown where none is said.
    allowed = lab.addresses["h1"].rpartition(".")[0] + ".1"
    assert project.run("maintenance", "on", "--env", "try", "--allow", allowed).code == 0
    assert _ask(lab)[0] == 200
    assert project.run("maintenance", "on", "--env", "try").code == 0
    assert "back soon" in _ask(lab)[2]
    assert project.run("maintenance", "off", "--env", "try").code == 0
    assert _ask(lab)[0] == 200
    _until(lambda: not _holders(lab, "pages"))


def test_a_pause_holds_requests_and_loses_none_whoever_is_killed_meanwhile(
    tmp_path: Path, lab: Lab, images: None
) -> None:
    ground = prepare(tmp_path, lab, ("h1",), rate=RATE, slow=2.0, grace=4.0)
    ground.load.late = 25.0
    project = ground.project
    assert ground.deploy("r0").code == 0
    _page_and_503(project, lab)
    with under_load(ground) as load:
        # Ended by hand: what came meanwhile has waited for that, and nothing was answered before.
        done = project.run("pause", "--env", "try", "--why", "the database restarts")
        assert done.code == 0, done.all
        began = time.monotonic()
        assert re.search(
            r"requests are held for another \d+ s, by .+: the database restarts", _status(project)
        )
        time.sleep(max(0.0, began + 3 - time.monotonic()))
        ended = time.monotonic()
        done = project.run("resume", "--env", "try")
        assert done.code == 0, done.all
        assert int(re.search(r"(\d+) requests had been held", done.out).group(1)) > RATE  # type: ignore[union-attr]
        time.sleep(1)
        assert _answered_between(load, began + 0.1, ended) == 0
        waited = _held(load, began, began + 0.5)
        assert min(waited) > 2.5, sorted(waited)[:5]
        # By itself, with one of its two processes killed: as if nothing was.
        assert project.run("pause", "--env", "try", "--for", "4s").code == 0
        began = time.monotonic()
        lab.ssh("h1", ["kill", "-9", _holders(lab)[-1]])
        time.sleep(5)
        waited = _held(load, began, began + 0.5)
        assert 1 < min(waited) < 10, sorted(waited)[:5]
        # With both of them killed requests go on at once, and none fails.
        assert project.run("pause", "--env", "try").code == 0
        lab.ssh("h1", ["kill", "-9", *_holders(lab)])
        killed = time.monotonic()
        time.sleep(2)
        assert max(_held(load, killed, killed + 1)) < 10  # a machine that is busy; the pause has 20 s
        assert project.run("resume", "--env", "try").code == 0
        # A deploy in the middle of one: what is held knows the old containers, so they wait for it.
        assert project.run("pause", "--env", "try", "--for", "6s").code == 0
        done = ground.deploy("r1")
        assert done.code == 0, done.all
        time.sleep(1)
        assert not load.failures(), load.failures()
        # So does a proxy that goes.
        assert project.run("pause", "--env", "try", "--for", "3s").code == 0
        load.cuts = False
        assert project.run("proxy.restart", "--env", "try").code == 0
        time.sleep(1)
    # What is sent at the very moment when an idle connection is closed is lost: docs/proxy.md, "Limits".
    lost = load.failures()
    assert sum(lost.values()) <= 1, lost
    assert all(what.startswith("kept-alive: IncompleteReadError: 0 bytes") for what in lost), lost
    assert load.answered_by(time.monotonic() - 2).keys() <= {"r1"}
    _until(lambda: "::" not in _routes(lab))
    assert project.run("resume", "--env", "try").out.count("is not paused") == 1


def _until(what: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.2)


def _status(project: Project) -> str:
    return project.run("proxy.status", "--env", "try").out


# Alembic in ten lines: a table with the schema's number, and a step for each.
MIGRATE = """
set -e
export PGPASSWORD=pw PGHOST=$DB PGUSER=postgres
until psql -qc 'select 1' >/dev/null 2>&1; do sleep 0.2; done
case "$1" in
1) psql -q -c 'create table beats (name text)' -c 'create table trouble (release text)' ;;
2) psql -q -c 'alter table beats rename column name to label' ;;
bad) psql -q -c 'alter table beats add column half int'; echo 'the second half fails'; exit 3 ;;
good) psql -q -c 'alter table beats drop column if exists half' ;;
3) psql -q -c 'alter table beats rename column label to title'; sleep "$SLOW" ;;
back) psql -qc 'alter table beats rename column title to label' ;;
esac
echo "the schema is $1"
"""
# What a release knows of the schema is the name of a column. One that meets another schema leaves a trace.
WORK = """
export PGPASSWORD=pw PGHOST=$DB PGUSER=postgres
while true; do
  psql -qc "insert into beats ($COLUMN) values ('$RELEASE')" ||
    psql -qc "insert into trouble values ('$RELEASE')"
  sleep 0.1
done
"""
DATABASE_APP = f"""
services:
  db:
    image: postgres:15
    environment: {{POSTGRES_PASSWORD: pw}}
    ports: ["5432:5432"]
    volumes: ["db:/var/lib/postgresql/data"]
    healthcheck: {{test: ["CMD", "pg_isready", "-h", "127.0.0.1"], interval: 500ms, retries: 60}}
  worker:
    image: postgres:15
    init: true
    command: ["sh", "/srv/work.sh"]
    environment: {{DB: "${{DB}}", COLUMN: "${{COLUMN}}", RELEASE: "${{RELEASE}}", SLOW: "${{SLOW:-0}}"}}
    volumes: ["./work.sh:/srv/work.sh:ro", "./migrate.sh:/srv/migrate.sh:ro"]
    depends_on: {{db: {{condition: service_healthy}}}}
  web:
    image: {PYTHON}
    init: true
    command: ["python3", "-u", "/srv/server.py"]
    environment: {{RELEASE: "${{RELEASE}}", EXIT_AT_ONCE: "${{EXIT_AT_ONCE:-}}"}}
    volumes: ["./server.py:/srv/server.py:ro"]
volumes: {{db: }}
"""


class Database:
    """The app with a database on h1, whose web and worker run on both hosts."""

    def __init__(self, root: Path, lab: Lab) -> None:
        self.project = Project(root, lab)
        self.lab = lab
        self.project.write("compose.yml", DATABASE_APP)
        self.project.write("server.py", (Path(__file__).parents[1] / "load/server.py").read_text())
        self.project.write("migrate.sh", MIGRATE)
        self.project.write("work.sh", WORK)

    def deploy(self, release: str, step: str, column: str, *words: str, more: str = "", **env: str) -> Done:
        self.write(step, more)
        variables = {"RELEASE": release, "COLUMN": column, "DB": self.lab.addresses["h1"], **env}
        return self.project.deploy(*words, **variables)

    def write(self, step: str, more: str) -> None:
        checks = [
            f"  - {{name: {host}, url: 'http://{self.lab.addresses[host]}/check', headers: {{Host: {HOST}}},"
            " contains: works, retries: 1}"
            for host in ("h1", "h2")
        ]
        migrate = f"{{service: worker, command: [sh, /srv/migrate.sh, '{step}']{more}}}"
        services = f"{{db: {{hosts: h1}}, web: {{proxy: {{port: 8000, hosts: [{HOST}], drain: 3s}}}}}}"
        lines = [f"migrate: {migrate}", f"services: {services}", "smoke:", *checks]
        self.project.inventory("h1", "h2", app="\n".join(lines) + "\n")

    def query(self, text: str) -> list[str]:
        words = [
            "docker",
            "exec",
            "-e",
            "PGPASSWORD=pw",
            "shop-db-1",
            "psql",
            "-h",
            "127.0.0.1",
            "-U",
            "postgres",
        ]
        return self.lab.ssh("h1", [*words, "-tAc", text]).stdout.split()

    def running(self) -> dict[str, list[str]]:
        """Host to the services that run there."""
        return {
            host: sorted(
                one["Config"]["Labels"]["com.docker.compose.service"]
                for one in self.project.containers(host)
                if one["State"]["Running"]
            )
            for host in ("h1", "h2")
        }

    def answers(self) -> list[str]:
        """What clients get from each host: the release, or the status."""
        return [_answer(self.lab.addresses[host]) for host in ("h1", "h2")]


def _answer(address: str) -> str:
    connection = http.client.HTTPConnection(address, 80, timeout=30)
    try:
        connection.request("GET", "/", headers={"Host": HOST})
        answer = connection.getresponse()
        body = answer.read().decode()
        return body.split()[0] if answer.status == 200 else str(answer.status)
    except OSError as error:
        return type(error).__name__
    finally:
        connection.close()


class Watcher:
    """Asks a host again and again, once more at the end, and keeps what it answered, without repetitions."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.seen: list[str] = []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Watcher:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()

    def _watch(self) -> None:
        last = False
        while not last:
            last = self.over.is_set()
            found = _answer(self.address)
            if self.seen[-1:] != [found]:
                self.seen.append(found)
            time.sleep(0.02)


OLD_AND_NEW = {"h1": ["db", "web", "worker"], "h2": ["web", "worker"]}


def test_the_old_release_never_meets_a_breaking_migrations_schema(
    tmp_path: Path, lab: Lab, images: None, stand_ins: Callable[..., None]
) -> None:
    stand_ins("postgres:15")
    app = Database(tmp_path, lab)
    project = app.project
    first = app.deploy("r0", "1", "name")
    assert first.code == 0, first.all

    # It goes well: requests get the old release, then 503, then the new one, and the checks got through.
    app.write("2", ", breaking: true")
    project.write(
        "env/try.env", (tmp_path / "env/try.env").read_text().replace("r0", "r1").replace("name", "label")
    )
    assert "its migration is a breaking one" in project.run("plan", "--env", "try").out
    refused = project.run("deploy", "--env", "try", "--limit", "h1")
    assert (refused.code, app.answers()) == (1, ["r0", "r0"])
    assert "h2 can't be left out" in refused.err
    with Watcher(lab.addresses["h1"]) as one, Watcher(lab.addresses["h2"]) as other:
        done = project.run("deploy", "--env", "try")
        assert done.code == 0, done.all
    assert (one.seen, other.seen) == (["r0", "503", "r1"], ["r0", "503", "r1"])
    assert done.out.count("smoke test h") == 2
    assert app.query("select release from trouble") == []
    assert app.running() == OLD_AND_NEW
    refused = project.run("rollback", "--env", "try")
    assert refused.code == 1
    assert "doesn't work on its schema" in refused.err

    # The migration fails half-way: nothing but the database runs, on any host, and nobody is answered.
    done = app.deploy("r2", "bad", "label", more=", breaking: true")
    assert done.code == 1
    assert "the second half fails" in done.all
    assert "had begun, so" in done.err
    assert app.running() == {"h1": ["db"], "h2": []}
    assert app.answers() == ["503", "503"]
    assert "the schema may be that of" in project.run("proxy.status", "--env", "try").out
    # The next deploy brings it, though nobody says any more that it is breaking.
    done = app.deploy("r3", "good", "label")
    assert done.code == 0, done.all
    assert app.answers() == ["r3", "r3"]
    assert app.running() == OLD_AND_NEW

    # With a way back for the schema, a release that can't run leaves the old one on the old schema.
    more = ", breaking: true, back: [sh, /srv/migrate.sh, back]"
    done = app.deploy("r4", "3", "title", more=more, EXIT_AT_ONCE="1")
    assert done.code == 1
    assert "the schema is back" in done.all or app.query("select label from beats limit 1")
    assert app.answers() == ["r3", "r3"]
    assert app.running() == OLD_AND_NEW
    assert app.query("select release from trouble") == []

    # The controller dies in the middle of the migration: closed, until the next deploy.
    app.write("3", ", breaking: true")
    values = {"RELEASE": "r5", "COLUMN": "title", "DB": lab.addresses["h1"], "SLOW": "8"}
    project.write("env/try.env", "".join(f"{name}={value}\n" for name, value in values.items())).chmod(0o600)
    command = [sys.executable, "-c", "from longshore.tasks import main; main()", "deploy", "--env", "try"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as dying:
        _until(lambda: bool(_migrating(lab)), 60)
        dying.kill()
    _until(lambda: "nobody has it" in project.run("lock.status", "--env", "try").out, 90)
    assert app.running() == {"h1": ["db"], "h2": []}
    assert app.answers() == ["503", "503"]
    done = app.deploy("r6", "good", "title")
    assert done.code == 0, done.all
    assert app.answers() == ["r6", "r6"]
    assert app.query("select release from trouble") == []


def _migrating(lab: Lab) -> str:
    return lab.ssh("h1", ["pgrep", "-f", "migrate.sh 3"], check=False).stdout
