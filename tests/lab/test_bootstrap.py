"""Bootstrap on bare practice hosts: what it installs and sets, what it leaves alone, and how it fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.lab.project import PYTHON, Project

from longshore.bootstrap import BootstrapOptions, Outcome, bootstrap_host, wish
from longshore.errors import AgentError
from longshore.inventory import load
from longshore.inventory.model import EnginePolicy
from longshore.lab import Lab
from longshore.remote import Links

PROGRAM = "from longshore.tasks import main; main()"
MIRROR = "mirror.test:5000"
APP = """
set -e
tar -C / -ch usr/bin/sleep usr/bin/echo $(ldd /usr/bin/sleep | grep -o '/[^ ]*' | cut -c2-) |
    docker import -c 'CMD ["/usr/bin/sleep","1000"]' - tiny:1 >/dev/null
mkdir -p /srv/app
printf 'services: {web: {image: "tiny:1"}}' >/srv/app/compose.yml
docker compose -f /srv/app/compose.yml up -d --wait
docker run --rm tiny:1 /usr/bin/echo it runs
"""
SNAPSHOT = """
dpkg-query -W; cat /etc/group; find /etc /srv /usr /var/lib -xdev -printf '%p %m %u %s %T@\\n' | sort
"""
HOLD_LOCK = """
import fcntl, struct, sys, time
file = open("/var/lib/dpkg/lock-frontend", "w")
fcntl.fcntl(file, fcntl.F_SETLK, struct.pack("hhqqi", fcntl.F_WRLCK, 0, 0, 0, 0))
print("held", flush=True)
time.sleep(float(sys.argv[1]))
"""
REPOSITORY = """
set -e
export GNUPGHOME=/root/keys DEBIAN_FRONTEND=noninteractive
mkdir -m 700 $GNUPGHOME
gpg --batch --quiet --passphrase '' --quick-generate-key practice rsa2048 sign never 2>/dev/null
here=/srv/repository/linux/debian
mkdir -p $here/pool $here/dists/trixie/stable/binary-amd64 /root/debs
cd /root/debs
apt-get -q update >/dev/null
apt-get -q download docker.io docker-cli docker-compose docker-buildx >/dev/null
for pair in docker.io:docker-ce docker-cli:docker-ce-cli docker-compose:docker-compose-plugin \
    docker-buildx:docker-buildx-plugin; do
    old=${pair%:*} new=${pair#*:}
    dpkg-deb -R $old_*.deb tree 2>/dev/null || dpkg-deb -R "$(ls ${old}_*.deb)" tree
    sed -i "s/^Package: .*/Package: $new/; /^\\(Conflicts\\|Breaks\\|Replaces\\|Recommends\\|Source\\)/d" \
        tree/DEBIAN/control
    dpkg-deb -b -Znone tree $here/pool/$new.deb >/dev/null
    rm -rf tree
done
cd $here
for deb in pool/*.deb; do
    dpkg-deb -f $deb
    sum=$(sha256sum $deb | cut -d' ' -f1)
    printf 'Filename: %s\\nSize: %s\\nSHA256: %s\\n\\n' $deb $(stat -c %s $deb) $sum
done >dists/trixie/stable/binary-amd64/Packages
cd dists/trixie
list=stable/binary-amd64/Packages
printf 'Suite: trixie\\nCodename: trixie\\nArchitectures: amd64\\nComponents: stable\\n' >Release
echo "Date: $(date -Ru)" >>Release
printf 'SHA256:\\n %s %s %s\\n' $(sha256sum $list | cut -d' ' -f1) $(stat -c %s $list) $list >>Release
gpg --batch --quiet --local-user practice --clearsign -o InRelease Release
gpg --batch --quiet --armor --export practice >$here/gpg
gpg --batch --with-colons --fingerprint practice 2>/dev/null | awk -F: '/^fpr/ {print $10; exit}'
cd /srv/repository
setsid python3 -m http.server --bind 127.0.0.1 8000 >/dev/null 2>&1 </dev/null &
sleep 1
"""
# Somebody answers in the repository's place: signed by a key of theirs, which comes along with the true one.
FORGE = """
set -e
export GNUPGHOME=/root/keys
cd /srv/repository/linux/debian/dists/trixie
mv InRelease /root/InRelease
gpg --batch --quiet --passphrase '' --quick-generate-key forger rsa2048 sign never 2>/dev/null
gpg --batch --quiet --local-user forger --clearsign -o InRelease Release
gpg --batch --quiet --armor --export practice forger >../../gpg
"""
TOO_OLD = "printf 'Package: docker.io\\nPin: version *\\nPin-Priority: -1\\n' >/etc/apt/preferences.d/old"


class Site:
    """A project with an inventory of bare hosts, and bootstrap run on them."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.folder = lab, folder
        self.steps: list[str] = []
        (folder / "inventory").mkdir()
        self.inventory()

    def inventory(self, *, engine: dict[str, Any] | None = None, **variables: Any) -> None:
        """Write the inventory: h1 as root, h2 (where there is one) with these variables."""
        hosts: dict[str, Any] = {
            name: {"ansible_host": address, **({} if name == "h1" else variables)}
            for name, address in self.lab.addresses.items()
        }
        common = {
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(self.lab.key),
            "ansible_ssh_common_args": self.lab.ssh_options(),
            "longshore": {
                "registries": {"docker.io": {"mirror": MIRROR, "insecure": True}},
                **({"engine": engine} if engine else {}),
            },
        }
        text = json.dumps({"all": {"vars": common, "hosts": hosts}})
        (self.folder / "inventory" / "practice.yml").write_text(text)

    def command(self, *words: str) -> tuple[int, list[dict[str, Any]]]:
        """``invoke bootstrap --json`` as a program: its exit code and JSON lines."""
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, "bootstrap", "--env", "practice", "--json", *words],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env={
                **os.environ,
                "LONGSHORE_BECOME_PASSWORD": "practice",
                "PYTHONPATH": str(Path(__file__).parents[2] / "src"),
            },
        )
        assert "Traceback" not in done.stdout + done.stderr
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]

    def run(self, *, check: bool = False, lock_timeout: float = 300.0, **engine: Any) -> Outcome:
        """Bootstrap h1 with options and engine settings of the test's own."""
        environment = replace(load(self.folder, "practice"), engine=EnginePolicy(**engine))
        request = wish(environment, BootstrapOptions(lock_timeout=lock_timeout), check=check)
        self.steps = []
        with Links(environment) as links:
            return bootstrap_host(
                links.link("h1"),
                request,
                python="python3",
                tell=lambda text, detail: self.steps.append(f"{text} {detail}".strip()),
            )

    def refusal(self, **settings: Any) -> AgentError:
        """Bootstrap h1, which must refuse; h1 has no engine afterwards."""
        with pytest.raises(AgentError) as caught:
            self.run(**settings)
        assert caught.value.where == "h1"
        return caught.value

    def on(self, script: str, host: str = "h1") -> str:
        """Run a script on a host as root."""
        return self.lab.ssh(host, ["bash", "-s"], stdin=script, timeout=180).stdout


def _lab(tmp_path: Path, count: int) -> Iterator[Site]:
    lab = Lab("bootstrap")
    lab.down()
    try:
        lab.up(count, bare=[f"h{index}" for index in range(1, count + 1)])
        yield Site(lab, tmp_path)
    finally:
        lab.down()


@pytest.fixture
def site(lab_wanted: None, tmp_path: Path) -> Iterator[Site]:
    """One bare host as its provider handed it out."""
    yield from _lab(tmp_path, 1)


@pytest.fixture
def two(lab_wanted: None, tmp_path: Path) -> Iterator[Site]:
    """Two bare hosts: the first is reached as root, the second as a user with sudo and a password."""
    for made in _lab(tmp_path, 2):
        made.inventory(ansible_user="deploy", ansible_become=True)
        yield made


def results(lines: list[dict[str, Any]]) -> dict[str, Any]:
    (value,) = [line["value"] for line in lines if line["event"] == "result"]
    hosts: dict[str, Any] = value["hosts"]
    return hosts


def test_bare_hosts_run_compose_apps_afterwards_and_a_second_run_changes_nothing(two: Site) -> None:
    code, lines = two.command("--docker-group")
    assert code == 0, lines
    assert set(results(lines)) == {"h1", "h2"}
    for host, said in results(lines).items():
        assert said["engine"] and said["versions"]["compose"] and said["versions"]["buildx"], host
        assert "it runs" in two.on(APP, host)
        logs = json.loads(two.on("docker inspect app-web-1 -f '{{json .HostConfig.LogConfig}}'", host))
        wanted = {"max-size": "10m", "max-file": "3", "compress": "true"}
        assert logs == {"Type": "json-file", "Config": wanted}
        seen = json.loads(two.on("docker info -f '{{json .}}'", host))
        assert seen["LiveRestoreEnabled"] is True
        assert seen["RegistryConfig"]["Mirrors"] == [f"http://{MIRROR}/"]
        assert two.on("stat -c '%a %U' /var/lib/longshore", host).strip() == "700 root"
    # A practice host starts dockerd the moment it is unpacked, before there is a group for its socket.
    two.on("service docker restart", "h2")
    two.lab.ssh("h2", ["docker", "ps"], user="deploy")
    pids = {host: two.on("docker inspect app-web-1 -f '{{.State.Pid}}'", host) for host in ("h1", "h2")}
    before = {host: two.on(SNAPSHOT, host) for host in ("h1", "h2")}

    code, lines = two.command("--docker-group")
    assert code == 0
    assert {host: said["changes"] for host, said in results(lines).items()} == {"h1": [], "h2": []}
    assert two.command("--check")[0] == 0
    assert {host: two.on(SNAPSHOT, host) for host in ("h1", "h2")} == before
    after = {host: two.on("docker inspect app-web-1 -f '{{.State.Pid}}'", host) for host in ("h1", "h2")}
    assert after == pids


def test_new_settings_reach_an_engine_in_use_and_its_containers_stay_up(site: Site) -> None:
    site.run()
    site.on(APP)
    pid = site.on("docker inspect app-web-1 -f '{{.State.Pid}}'")
    engine = site.on("cat /run/docker.pid")

    # Mirrors are taken over by a signal; a person's own keys and their order stay.
    site.on("""echo '{"debug": true, "log-driver": "json-file", "log-opts": {"max-size": "10m",
        "max-file": "7", "compress": "true"}, "live-restore": true}' >/etc/docker/daemon.json""")
    outcome = site.run()
    assert outcome.changes[-1] == "reload the engine's settings (nothing stops)"
    assert any("max-file" in note for note in outcome.notes)
    kept = json.loads(site.on("cat /etc/docker/daemon.json"))
    assert list(kept)[:4] == ["debug", "log-driver", "log-opts", "live-restore"]
    assert kept["log-opts"]["max-file"] == "7"
    assert f"http://{MIRROR}/" in site.on("docker info -f '{{json .RegistryConfig.Mirrors}}'")
    assert site.on("cat /run/docker.pid") == engine

    # Log options need a restart, which a container survives even if live-restore was off until now.
    site.on("""echo '{"live-restore": false}' >/etc/docker/daemon.json
        kill -HUP $(cat /run/docker.pid); sleep 1; echo '{}' >/etc/docker/daemon.json""")
    assert site.on("docker info -f '{{.LiveRestoreEnabled}}'").strip() == "false"
    outcome = site.run()
    assert outcome.changes[-1] == "restart the engine; 1 running containers stay up (live-restore)"
    assert site.on("cat /run/docker.pid") != engine
    assert site.on("docker inspect app-web-1 -f '{{.State.Pid}}'") == pid
    assert site.run().changes == ()

    # Where a person wants no live-restore, nothing is stopped behind their back.
    site.on("""echo '{"live-restore": false}' >/etc/docker/daemon.json
        kill -HUP $(cat /run/docker.pid); sleep 1""")
    outcome = site.run()
    assert any("stops 1 running containers" in note for note in outcome.notes)
    assert site.on("docker inspect app-web-1 -f '{{.State.Pid}}'") == pid
    assert any("stops 1 running containers" in note for note in site.run().notes)

    # A file that is no JSON is shown by its line, and left.
    site.on("printf '{\\n  \"debug\": true,\\n}' >/etc/docker/daemon.json")
    error = site.refusal()
    assert error.code == "daemon_json"
    assert "/etc/docker/daemon.json:3" in error.message or "/etc/docker/daemon.json:2" in error.message
    assert site.on("cat /etc/docker/daemon.json") == '{\n  "debug": true,\n}'


def test_check_says_what_would_be_done_and_does_none_of_it(site: Site) -> None:
    before = site.on(SNAPSHOT)
    code, lines = site.command("--check")
    assert code == 2
    changes = results(lines)["h1"]["changes"]
    assert any("docker.io 2" in change for change in changes)
    assert any("daemon.json" in change for change in changes)
    assert site.on(SNAPSHOT) == before


def test_one_host_that_fails_does_not_stop_the_others(two: Site) -> None:
    two.on("mkdir -p /etc/docker; echo '[' >/etc/docker/daemon.json", "h2")
    code, lines = two.command("--check")
    assert code == 1
    assert set(results(lines)) == {"h1"}
    (error,) = [line for line in lines if line["event"] == "error"]
    assert (error["where"], error["code"]) == ("h2", "daemon_json")


def test_a_user_who_is_not_root_is_told_so(two: Site) -> None:
    two.inventory(ansible_user="deploy")
    code, lines = two.command("--limit", "h2")
    assert code == 1
    (error,) = [line for line in lines if line["event"] == "error"]
    assert error["code"] == "not_root"
    assert "ansible_become" in error["hint"]


def test_a_host_without_python_gets_it_first(site: Site) -> None:
    site.on(
        "apt-get -q purge -y python3 python3-minimal 'libpython3*' >/dev/null 2>&1; rm -f /usr/bin/python3*"
    )
    outcome = site.run(check=True)
    assert outcome.changes == ("install python3",)
    site.on("apt-get -q update >/dev/null; command -v python3 && exit 1; true")
    outcome = site.run()
    assert outcome.changes[0] == "install python3"
    assert outcome.engine


def test_another_package_manager_is_waited_for_and_named(site: Site) -> None:
    site.on(
        f"cat >/root/hold.py <<'END'\n{HOLD_LOCK}END\n"
        "setsid python3 /root/hold.py 60 >/dev/null 2>&1 &\nsleep 1"
    )
    began = time.monotonic()
    error = site.refusal(lock_timeout=6)
    assert error.code == "apt_locked"
    assert "python3" in error.message
    assert time.monotonic() - began >= 6
    assert any(step.startswith("wait for another package manager") for step in site.steps)


@pytest.mark.parametrize(
    ("prepare", "code", "words"),
    [
        ("rm -f /etc/apt/sources.list.d/*; echo 'deb http://127.0.0.1:9/debian trixie main'"
         " >/etc/apt/sources.list; rm -rf /var/lib/apt/lists/*", "no_network", "127.0.0.1:9"),
        ("echo nonsense >/etc/apt/sources.list", "apt_sources", "/etc/apt/sources.list"),
        ("mount -t tmpfs -o size=20m tmpfs /var/cache/apt", "no_space", "disk is full"),
        ("mkdir -p /etc/docker; echo '{\"storage-driver\": \"nope\"}' >/etc/docker/daemon.json",
         "engine_down", "doesn't come up"),
        ("printf '#!/bin/sh\\nexec podman \"$@\"\\n' >/usr/bin/docker; chmod +x /usr/bin/docker",
         "podman", "Podman"),
        ("mkdir -p /snap/bin; touch /snap/bin/docker", "snap", "snap"),
        ("printf 'ID=alpine\\nPRETTY_NAME=\"Alpine Linux v3.22\"\\n' >/etc/os-release",
         "unsupported", "Alpine Linux v3.22"),
        ("touch /var/lib/longshore", "state_dir", "/var/lib/longshore"),
    ],
    ids=lambda value: value if value.isidentifier() else "",
)  # fmt: skip
def test_what_is_wrong_with_a_host_is_a_sentence(site: Site, prepare: str, code: str, words: str) -> None:
    site.on(prepare)
    error = site.refusal()
    assert error.code == code, (error.code, str(error), error.detail)
    assert words in str(error)
    if code == "engine_down":
        assert "nope" in "\n".join(map(str, error.detail["log"]))  # type: ignore[call-overload]


def test_dockers_own_repository_is_trusted_by_its_key_only(site: Site) -> None:
    key = site.on(REPOSITORY).split()[-1]
    where: dict[str, Any] = {"source": "docker", "repository": "http://127.0.0.1:8000"}

    def refused() -> dict[str, Any]:
        code, lines = site.command()
        assert code == 1, lines
        assert "longshore-docker" not in site.on("ls /etc/apt/sources.list.d /etc/apt/keyrings")
        assert "docker" not in site.on("dpkg-query -W -f '${Package}\\n'")
        (error,) = [line for line in lines if line["event"] == "error"]
        return error

    # Without a word in the inventory it is Docker's own key that is expected.
    site.inventory(engine=where)
    error = refused()
    assert (error["code"], error["where"]) == ("key", "h1")
    assert key in error["message"]
    assert EnginePolicy().key in error["message"]
    site.on(FORGE)
    site.inventory(engine={**where, "key": key.lower()})
    assert refused()["code"] == "apt_untrusted"

    # The true one, on a system whose own packages are too old, as Debian 12's are.
    site.on(f"mv /root/InRelease /srv/repository/linux/debian/dists/trixie/; {TOO_OLD}")
    site.inventory(engine={"repository": where["repository"], "key": key})
    code, lines = site.command("--check")
    assert code == 2
    assert any("add Docker's apt repository" in change for change in results(lines)["h1"]["changes"])
    code, lines = site.command()
    assert code == 0, lines
    said = results(lines)["h1"]
    assert said["engine"]
    assert any("add Docker's apt repository" in change for change in said["changes"])
    assert "docker-ce " in site.on("dpkg-query -W -f '${Package} ${Version}\\n'")
    policy = site.on("apt-cache policy docker-ce")
    assert "http://127.0.0.1:8000/linux/debian" in policy
    assert "it runs" in site.on(APP)
    code, lines = site.command()
    assert (code, results(lines)["h1"]["changes"]) == (0, [])


@pytest.fixture
def project(lab_wanted: None, tmp_path: Path) -> Iterator[Project]:
    """The test server and one bare host, which is reached as root; images come from the lab's registry."""
    lab = Lab("bootuser")
    lab.down()
    try:
        lab.up(1, bare=["h1"])
        lab.registry_up()
        lab.stand_in([PYTHON])
        made = Project(tmp_path, lab)
        made.server()
        yield made
    finally:
        lab.down()


def _as(project: Project, user: str) -> None:
    """The inventory with this user, who becomes nobody else."""
    project.inventory("h1", app="stability: 1s")
    file = project.root / "inventory/try.yml"
    file.write_text(file.read_text().replace("ansible_user: root", f"ansible_user: {user}"))


def test_the_user_it_makes_deploys_without_root_login_and_without_sudo(project: Project) -> None:
    _as(project, "root")
    words = ("bootstrap", "--env", "try", "--user", "deployer", "--json")
    first = project.run(*words)
    assert first.code == 0, first.all
    assert "1 key of root" in " ".join(results(first.json())["h1"]["changes"])
    again = project.run(*words)
    assert (again.code, results(again.json())["h1"]["changes"]) == (0, [])
    assert project.run(*words, "--check").code == 0

    script = """
        stat -c '%a %U' /var/lib/longshore ~deployer/.ssh ~deployer/.ssh/authorized_keys
        cmp /root/.ssh/authorized_keys ~deployer/.ssh/authorized_keys
        getent passwd deployer | cut -d: -f7; getent shadow deployer | cut -d: -f2; id -Gn deployer
        su deployer -c 'sudo -n true' 2>/dev/null || echo no sudo
    """
    said = project.lab.ssh("h1", ["bash", "-s"], stdin=script).stdout.splitlines()
    assert said == [
        *("700 deployer", "700 deployer", "600 deployer", "/bin/bash", "*", "deployer docker", "no sudo")
    ]

    _as(project, "deployer")
    deployed = project.deploy()
    assert deployed.code == 0, deployed.all
    assert project.page("h1") == "1 hello"
    (container,) = project.containers("h1")
    assert container["State"]["Health"]["Status"] == "healthy"
    seen = project.status()["h1"]
    assert seen["good"] is True, seen

    # With releases in it, the folder goes to another user whole, and the one before is told so.
    _as(project, "root")
    handed = project.run("bootstrap", "--env", "try", "--user", "second", "--json")
    assert handed.code == 0, handed.all
    refused = project.deploy(VERSION="2")
    assert refused.code == 1
    assert "belongs to second, and this is root" in refused.all
    _as(project, "second")
    deployed = project.deploy(VERSION="2")
    assert deployed.code == 0, deployed.all
    assert project.page("h1") == "2 hello"
    assert len(project.containers("h1")) == 1
