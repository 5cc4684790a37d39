"""The main job on real hosts: from an inventory to a healthy application, and every way in which it fails."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.lab.project import COMPOSE, PYTHON, SERVER, Project

from longshore.lab import Lab

pytestmark = pytest.mark.lab

POLICY = """
services:
  web:
    cpus: 0.5
    memory: 96M
    pids: 64
    reserve: {memory: 32M}
    restart: on-failure
"""


@pytest.fixture
def project(tmp_path: Path, lab: Lab, stand_ins: Callable[..., None], clean_hosts: None) -> Project:
    """The test server on h1 and h2."""
    stand_ins(PYTHON)
    made = Project(tmp_path, lab)
    made.server()
    made.inventory("h1", "h2", app=POLICY)
    return made


def test_a_deploy_ends_with_the_application_healthy_on_every_host(project: Project) -> None:
    done = project.deploy(VERSION="1")
    assert done.code == 0, done.all
    assert [project.page(host) for host in ("h1", "h2")] == ["1 hello", "1 hello"]
    assert "2 deployed" in done.out


def test_limits_rotation_volumes_and_restart_are_what_the_engine_reports(project: Project) -> None:
    assert project.deploy().code == 0
    (web,) = project.containers("h1")
    host = web["HostConfig"]
    assert host["NanoCpus"] == 500_000_000
    assert host["Memory"] == 96 * 1000 * 1000 or host["Memory"] == 96 * 1024 * 1024
    assert host["MemoryReservation"] in (32 * 1000 * 1000, 32 * 1024 * 1024)
    assert host["PidsLimit"] == 64
    assert host["RestartPolicy"]["Name"] == "on-failure"
    assert host["LogConfig"]["Type"] == "json-file"
    assert host["LogConfig"]["Config"]["max-size"] == "10m"
    assert host["LogConfig"]["Config"]["max-file"] == "3"
    assert host["LogConfig"]["Config"]["compress"] == "true"
    mounts = {mount["Destination"]: mount for mount in web["Mounts"]}
    assert mounts["/data"]["Name"] == "shop_data"
    assert not mounts["/srv/page.txt"]["RW"]


def test_a_second_deploy_has_nothing_to_do_and_does_not_run_compose(project: Project) -> None:
    assert project.deploy().code == 0
    before = [one["Id"] for one in project.containers("h1")]
    # Compose that fails when it is run: had it been, the deploy would have failed.
    plugin = "/usr/libexec/docker/cli-plugins/docker-compose"
    project.lab.ssh("h1", ["sh", "-c", f"mv {plugin} {plugin}.away"])
    try:
        done = project.deploy()
    finally:
        project.lab.ssh("h1", ["sh", "-c", f"mv {plugin}.away {plugin}"])
    assert done.code == 0, done.all
    assert "2 nothing to do" in done.out
    assert [one["Id"] for one in project.containers("h1")] == before


def test_a_changed_file_recreates_its_user_and_an_unchanged_one_nobody(project: Project) -> None:
    assert project.deploy().code == 0
    before = project.containers("h1")[0]["Id"]
    project.write("page.txt", "goodbye")
    assert project.deploy().code == 0
    assert project.page("h1") == "1 goodbye"
    middle = project.containers("h1")[0]["Id"]
    assert middle != before
    project.inventory("h1", "h2", app=POLICY + "keep: 4\n")
    assert project.deploy().code == 0
    assert project.containers("h1")[0]["Id"] == middle


def test_what_is_mounted_can_be_read_by_a_container_and_a_migration_that_are_not_root(
    project: Project,
) -> None:
    project.write("site/deep/page.txt", "from a folder in a folder")
    project.write("server.py", SERVER.replace("/srv/page.txt", "/srv/site/deep/page.txt"))
    compose = COMPOSE.format(image=PYTHON).replace("./page.txt:/srv/page.txt:ro", "./site:/srv/site:ro")
    project.write("compose.yml", compose.replace("    stop_signal", '    user: "1000:1000"\n    stop_signal'))
    reads = "print('it reads', open('/srv/site/deep/page.txt').read())"
    project.inventory("h1", "h2", app=f'migrate: {{service: web, command: [python3, -c, "{reads}"]}}\n')
    done = project.deploy(VERSION="1")
    assert done.code == 0, done.all
    assert "it reads from a folder in a folder" in done.out
    assert project.page("h1") == "1 from a folder in a folder"


def test_a_release_that_exits_at_once_is_taken_back_with_its_log(project: Project) -> None:
    assert project.deploy(VERSION="1").code == 0
    done = project.deploy(VERSION="2", EXIT_AT_ONCE="yes")
    assert done.code == 1
    assert "exited with code 1" in done.err
    assert "KeyError: 'DATABASE_URL'" in done.err
    assert [project.page(host) for host in ("h1", "h2")] == ["1 hello", "1 hello"]
    assert all(seen["good"] for seen in project.status().values())


def test_a_release_that_is_broken_on_one_host_is_taken_back_on_all(project: Project) -> None:
    assert project.deploy(VERSION="1").code == 0
    project.write("inventory/host_vars/h2.yml", "longshore: {apps: {shop: {env: {SICK: 'yes'}}}}\n")
    done = project.deploy(VERSION="2")
    assert done.code == 1
    assert "h2: web is unhealthy" in done.err
    assert [project.page(host) for host in ("h1", "h2")] == ["1 hello", "1 hello"]


def test_a_first_release_that_never_gets_healthy_leaves_nothing_but_volumes(project: Project) -> None:
    project.inventory("h1", app="health_timeout: 4s")
    done = project.deploy(START_AFTER="60")
    assert done.code == 1
    assert "unhealthy" in done.err or "not healthy after 4 s" in done.err
    assert project.containers("h1") == []
    assert "shop_data" in project.lab.ssh("h1", ["docker", "volume", "ls", "-q"]).stdout


def test_rollback_goes_to_the_release_before_exactly_as_it_was(project: Project) -> None:
    assert project.deploy(VERSION="1").code == 0
    project.write("page.txt", "goodbye")
    assert project.deploy(VERSION="2").code == 0
    assert project.page("h2") == "2 goodbye"
    done = project.run("rollback", "--env", "try")
    assert done.code == 0, done.all
    assert [project.page(host) for host in ("h1", "h2")] == ["1 hello", "1 hello"]


def test_rollback_to_a_release_that_is_not_kept_says_which_are(project: Project) -> None:
    assert project.deploy(VERSION="1").code == 0
    done = project.run("rollback", "--env", "try", "--to", "0123456789ab")
    assert done.code == 1
    assert "h1: release 0123456789ab of shop is not kept here. There are:" in done.err
    assert project.page("h1") == "1 hello"


def test_history_tells_what_happened_and_why(project: Project) -> None:
    assert project.deploy("--why", "first try", VERSION="1").code == 0
    assert project.deploy(VERSION="2", EXIT_AT_ONCE="yes").code == 1
    lines = project.run("history", "--env", "try", "--json").json()[0]["value"]["hosts"]["h1"]
    assert [line["outcome"] for line in lines] == ["reverted", "committed"]
    assert "exited with code 1" in lines[0]["why"]
    assert lines[1]["why"] == "first try"


def test_a_container_that_was_stopped_by_hand_is_drift_and_the_next_deploy_repairs_it(
    project: Project,
) -> None:
    assert project.deploy().code == 0
    project.lab.ssh("h1", ["docker", "stop", "shop-web-1"])
    assert project.run("status", "--env", "try").code == 1
    done = project.deploy()
    assert done.code == 0, done.all
    assert "h1: repair" in done.out
    assert project.page("h1") == "1 hello"


def test_an_image_that_does_not_exist_stops_the_deploy_before_anything_is_touched(project: Project) -> None:
    assert project.deploy(VERSION="1").code == 0
    project.write(
        "compose.yml", project.root.joinpath("compose.yml").read_text().replace("bookworm", "nowhere")
    )
    done = project.deploy(VERSION="2")
    assert done.code == 1
    assert "there is no image" in done.err
    assert project.page("h1") == "1 hello"


def test_a_port_that_is_taken_is_said_and_nothing_changes(project: Project) -> None:
    project.lab.ssh(
        "h2",
        [
            "docker",
            "run",
            "-d",
            "--name",
            "squatter",
            "-p",
            "8080:80",
            PYTHON,
            "sleep",
            "60",
        ],
    )
    done = project.deploy()
    assert done.code == 1
    assert "h2: port 8080/tcp, which web publishes, is taken by the container squatter" in done.err
    assert project.containers("h1") == []


def test_a_host_that_is_down_stops_the_deploy_and_the_others_are_reported(project: Project) -> None:
    assert project.deploy(VERSION="1").code == 0
    project.lab.cut("h2")
    try:
        done = project.deploy("--set", "longshore.connect_timeout=2s", VERSION="2")
    finally:
        project.lab.heal("h2")
    assert done.code == 1
    assert "h2:" in done.err
    assert "nothing was changed on any host" in done.err
    assert project.page("h1") == "1 hello"


def test_a_host_without_an_engine_is_told_how_to_get_one(project: Project) -> None:
    project.lab.ssh("h2", ["sh", "-c", "mv /var/run/docker.sock /var/run/docker.sock.away"])
    try:
        done = project.deploy()
    finally:
        project.lab.ssh("h2", ["sh", "-c", "mv /var/run/docker.sock.away /var/run/docker.sock"])
    assert done.code == 1
    assert "h2: no Docker engine answers at /var/run/docker.sock" in done.err
    assert "invoke bootstrap" in done.err


def test_an_old_compose_is_refused_with_the_version_that_is_needed(project: Project) -> None:
    plugin = "/usr/libexec/docker/cli-plugins/docker-compose"
    old = (
        "#!/bin/sh\n"
        'if [ "$1" = docker-cli-plugin-metadata ]; then\n'
        """  echo '{"SchemaVersion":"0.1.0","Vendor":"x","Version":"v2.10.0"}'\n"""
        "else echo 2.10.0; fi\n"
    )
    project.lab.ssh("h1", ["sh", "-c", f"mv {plugin} {plugin}.away"])
    project.lab.ssh("h1", ["sh", "-c", f"cat > {plugin} && chmod 755 {plugin}"], stdin=old)
    try:
        done = project.deploy()
    finally:
        project.lab.ssh("h1", ["sh", "-c", f"mv {plugin}.away {plugin}"])
    assert done.code == 1
    assert "h1: Docker Compose 2.10.0 is too old; 2.24.4 or later is needed" in done.err
    assert project.containers("h1") == project.containers("h2") == []


def test_a_full_disk_is_said_before_anything_runs(project: Project) -> None:
    small = "mkdir -p /var/lib/longshore && mount -t tmpfs -o size=8m,mode=700 t /var/lib/longshore"
    project.lab.ssh("h1", ["sh", "-c", small])
    try:
        done = project.deploy()
    finally:
        project.lab.ssh("h1", ["umount", "-l", "/var/lib/longshore"])
    assert done.code == 1
    assert "h1: only" in done.err
    assert "MB are free on the disk of /var/lib/longshore" in done.err
    assert project.containers("h2") == []


def test_a_host_without_python_is_told_what_to_do(project: Project) -> None:
    project.lab.ssh("h1", ["sh", "-c", "mv /usr/bin/python3 /usr/bin/python3.away"])
    try:
        done = project.deploy()
    finally:
        project.lab.ssh("h1", ["sh", "-c", "mv /usr/bin/python3.away /usr/bin/python3"])
    assert done.code == 1
    assert "h1:" in done.err
    assert "python3" in done.err


def test_a_controller_that_is_killed_in_the_switch_leaves_the_old_release_and_no_lock(
    project: Project,
) -> None:
    import os
    import signal
    import subprocess
    import sys

    assert project.deploy(VERSION="1").code == 0
    project.write("env/try.env", "VERSION=2\nSTART_AFTER=3\n")
    controller = subprocess.Popen(
        [sys.executable, "-c", "from longshore.tasks import main; main()", "deploy", "--env", "try"],
        cwd=project.root,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert controller.stdout is not None
    for line in controller.stdout:
        if "verifying" in line:
            break
    os.kill(controller.pid, signal.SIGKILL)
    controller.wait()
    controller.stdout.close()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and {project.page(host) for host in ("h1", "h2")} != {"1 hello"}:
        time.sleep(0.5)
    assert [project.page(host) for host in ("h1", "h2")] == ["1 hello", "1 hello"]
    done = project.deploy(VERSION="3")
    assert done.code == 0, done.all
    assert project.page("h1") == "3 hello"


def test_secrets_are_in_a_closed_file_and_nowhere_that_is_shown(project: Project) -> None:
    secret = "s3cr$t 'quoted\" \\value#"
    project.write("compose.yml", (project.root / "compose.yml").read_text() + "\nx-unused: 1\n")
    project.write("env/try.env", f"VERSION={shlex.quote('v')}\n")
    project.inventory("h1", app=f"env: {{API_TOKEN: {__import__('json').dumps(secret)}}}")
    done = project.deploy("--json")
    assert done.code == 0, done.all
    assert "s3cr" not in done.all
    found = project.lab.ssh("h1", ["sh", "-c", "find /var/lib/longshore/shop -name .env | xargs stat -c %a"])
    assert set(found.stdout.split()) == {"600"}
    held = project.lab.ssh("h1", ["sh", "-c", "grep -rl s3cr /var/lib/longshore || true"]).stdout.split()
    assert held, "the .env holds it"
    assert all(name.endswith("/.env") for name in held)


def test_a_user_with_sudo_and_a_password_deploys_as_root_does(project: Project) -> None:
    project.inventory("h1", ansible_user="deploy", ansible_become="true")
    text = (project.root / "inventory" / "try.yml").read_text().replace("    ansible_user: root\n", "")
    project.write("inventory/try.yml", text)
    project.write("env/try.env", "VERSION=1\n")
    done = project.run("deploy", "--env", "try", env={"LONGSHORE_BECOME_PASSWORD": "practice"})
    assert done.code == 0, done.all
    assert project.page("h1") == "1 hello"
    wrong = project.run("deploy", "--env", "try", env={"LONGSHORE_BECOME_PASSWORD": "no"})
    assert wrong.code == 1
    assert "h1:" in wrong.err
    assert "password" in wrong.err


def test_a_host_whose_key_is_unknown_or_changed_is_not_talked_to(project: Project) -> None:
    known = project.lab.known_hosts.read_text().splitlines()
    h1, h2 = project.lab.addresses["h1"], project.lab.addresses["h2"]
    key = {line.split()[0]: line.split(maxsplit=1)[1] for line in known if not line.startswith("#")}
    text = (project.root / "inventory" / "try.yml").read_text()
    own = project.root / "known_hosts"
    project.write("inventory/try.yml", text.replace(str(project.lab.known_hosts), str(own)))
    own.write_text(f"{h1} {key[h1]}\n")
    unknown = project.deploy()
    assert unknown.code == 1
    assert "h2:" in unknown.err
    assert "invoke trust" in unknown.err
    own.write_text(f"{h1} {key[h1]}\n{h2} {key[h1]}\n")
    changed = project.deploy()
    assert changed.code == 1
    assert "h2:" in changed.err
    assert "changed" in changed.err or "another" in changed.err or "differ" in changed.err
    assert project.containers("h1") == project.containers("h2") == []


def test_a_key_that_the_host_does_not_take_is_a_sentence(project: Project) -> None:
    import subprocess

    key = project.root / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    text = (project.root / "inventory" / "try.yml").read_text()
    project.write("inventory/try.yml", text.replace(str(project.lab.key), str(key)))
    done = project.deploy()
    assert done.code == 1
    assert "h1:" in done.err
    assert "refuse" in done.err or "accept" in done.err


def test_a_host_can_have_a_state_folder_of_its_own(project: Project) -> None:
    project.write("inventory/host_vars/h2.yml", "longshore: {state_dir: /srv/longshore}\n")
    assert project.deploy().code == 0
    ours = project.lab.ssh("h2", ["sh", "-c", "ls /srv/longshore; ls -d /var/lib/longshore || true"]).stdout
    assert ours.split() == ["agent", "shop"]
    assert project.page("h2") == "1 hello"
