"""What ``docs/practice-hosts.md`` promises, on real practice hosts."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from longshore.lab import Lab, LabError
from longshore.lab.commands import run, wait_until
from longshore.lab.machine import RECORD

GONE = f"gone{os.getpid()}"


def left(name: str, number: int | None) -> dict[str, list[str]]:
    """What there is on this machine of the lab with this name and network."""
    group, processes = Lab(name).place.group, []
    for path in Path("/proc").glob("[0-9]*/cgroup"):
        try:
            if f"/longshore-lab/{group}/" in path.read_text():
                processes.append((path.parent / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    rules = run(["iptables-save"]).stdout.splitlines()
    found = {
        "processes": processes,
        "mounts": [line for line in Path("/proc/mounts").read_text().splitlines() if f"labs/{name}/" in line],
        "groups": [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/longshore-lab/{group}")],
        "home": [str(path) for path in Lab(name).place.home.parent.glob(name)],
        "record": re.findall(f":{name}\\b", RECORD.read_text()) if RECORD.exists() else [],
    }
    if number is not None:
        names = [path.name for path in Path("/sys/class/net").iterdir()]
        found["links"] = [
            one for one in names if one == f"longshore{number}" or one.startswith(f"lsh{number}-")
        ]
        found["rules"] = [one for one in rules if f"longshore{number} " in one or f"10.78.{number}." in one]
    return {what: things for what, things in found.items() if things}


def start_and_kill(program: str, seconds: float) -> None:
    """Run a program with the lab's API in another process, and kill that after some seconds."""
    quiet = subprocess.DEVNULL
    child = subprocess.Popen(
        [sys.executable, "-c", f"from longshore.lab import Lab; {program}"], stdout=quiet, stderr=quiet
    )
    time.sleep(seconds)
    child.send_signal(signal.SIGKILL)
    child.wait()


@pytest.fixture
def other() -> Iterator[Callable[[str], Lab]]:
    """Makes further labs, and takes them down at the end of the test."""
    made: list[Lab] = []

    def make(name: str) -> Lab:
        made.append(Lab(name))
        return made[-1]

    yield make
    for one in made:
        one.down()


def test_each_host_has_an_engine_with_compose_and_buildx(lab: Lab, hosts: list[str]) -> None:
    for host in hosts:
        said = json.loads(lab.ssh(host, ["docker", "info", "--format", "{{json .}}"]).stdout)
        assert said["Name"] == host
        assert said["DriverStatus"] == [["driver-type", "io.containerd.snapshotter.v1"]]
        assert lab.ssh(host, ["docker", "compose", "version", "--short"]).stdout.startswith("2.")
        lab.ssh(host, ["docker", "buildx", "version"])


def test_hosts_are_reached_by_their_inventory_with_checked_host_keys(lab: Lab, hosts: list[str]) -> None:
    assert list(lab.addresses) == hosts
    for host in hosts:
        assert f'{host}: {{"ansible_host": "{lab.addresses[host]}"}}' in lab.inventory()
        assert lab.ssh(host, ["hostname"]).stdout.strip() == host
        assert lab.ssh(host, ["id", "-un"], user="deploy").stdout.strip() == "deploy"
    wrong = ["-o", "UserKnownHostsFile=/dev/null"]
    line = lab.ssh_argv("h1", ["true"])
    assert subprocess.run([line[0], *wrong, *line[1:]], capture_output=True).returncode == 255


def test_words_of_a_command_arrive_as_they_are(lab: Lab, hosts: list[str]) -> None:
    words = ["a b", "$HOME", "'", '"', "x;y", "*", "ü\n"]
    said = lab.ssh("h1", ["python3", "-c", "import sys, json; print(json.dumps(sys.argv[1:]))", *words])
    assert json.loads(said.stdout) == words


def test_up_twice_is_one_lab(lab: Lab, hosts: list[str]) -> None:
    before = lab.state
    begun = time.monotonic()
    lab.up(3)
    lab.registry_up()
    assert time.monotonic() - begun < 2
    assert lab.state == before


def test_a_host_that_is_there_is_not_turned_into_another_kind(lab: Lab, hosts: list[str]) -> None:
    with pytest.raises(LabError, match=r"h2: It is there already, as amd64\."):
        lab.up(3, bare=["h2"])


def test_power_off_and_on_keeps_the_disk_and_ends_every_process(lab: Lab, hosts: list[str]) -> None:
    lab.ssh("h2", ["sh", "-c", "echo kept >/var/lib/longshore-mark; echo lost >/run/mark"])
    lab.stop("h2")
    assert not next(host for host in lab.status() if host.name == "h2").on
    with pytest.raises(LabError, match="h2: It is switched off"):
        lab.cut("h2")
    lab.start("h2")
    assert lab.ssh("h2", ["cat", "/var/lib/longshore-mark"]).stdout == "kept\n"
    assert lab.ssh("h2", ["cat", "/run/mark"], check=False).returncode != 0
    lab.ssh("h2", ["docker", "info"])


def test_a_cut_host_is_silent_until_it_is_healed(lab: Lab, hosts: list[str]) -> None:
    begun = time.monotonic()
    lab.cut("h2")
    with pytest.raises(TimeoutError):
        socket.create_connection((lab.addresses["h2"], 22), timeout=5)
    assert time.monotonic() - begun >= 5
    # Its neighbours don't reach it either.
    reach = ["python3", "-c", f"import socket; socket.create_connection(('{lab.addresses['h2']}', 22), 2)"]
    assert lab.ssh("h1", reach, check=False).returncode != 0
    assert next(host for host in lab.status() if host.name == "h2").cut
    lab.heal("h2")
    lab.ssh("h2", ["docker", "info"])
    # A neighbour remembers for a moment that nobody had the address.
    assert wait_until(lambda: lab.ssh("h1", reach, check=False).returncode == 0, timeout=10)


def test_a_connection_survives_a_short_cut(lab: Lab, hosts: list[str]) -> None:
    with subprocess.Popen(
        lab.ssh_argv("h3", ["sh", "-c", "sleep 2; echo whole"]), stdout=subprocess.PIPE
    ) as open_one:
        time.sleep(0.7)
        lab.cut("h3")
        time.sleep(2)
        lab.heal("h3")
        assert open_one.communicate(timeout=60)[0] == b"whole\n"


def test_an_engine_that_is_killed_comes_back(lab: Lab, hosts: list[str]) -> None:
    before = lab.ssh("h1", ["cat", "/run/docker.pid"]).stdout
    lab.ssh("h1", ["sh", "-c", "kill -9 $(cat /run/docker.pid)"])
    assert wait_until(lambda: lab.ssh("h1", ["docker", "info"], check=False).returncode == 0, timeout=30)
    assert lab.ssh("h1", ["cat", "/run/docker.pid"]).stdout != before


def test_the_service_command_stops_starts_and_restarts_the_engine(lab: Lab, hosts: list[str]) -> None:
    lab.ssh("h1", ["service", "docker", "stop"])
    time.sleep(2)
    assert lab.ssh("h1", ["service", "docker", "status"], check=False).returncode == 3
    assert lab.ssh("h1", ["docker", "info"], check=False).returncode != 0
    lab.ssh("h1", ["service", "docker", "start"])
    lab.ssh("h1", ["docker", "info"])
    lab.ssh("h1", ["service", "docker", "restart"])
    lab.ssh("h1", ["service", "docker", "reload"])
    lab.ssh("h1", ["docker", "info"])


def test_orphans_are_collected(lab: Lab, hosts: list[str]) -> None:
    lab.ssh("h1", ["sh", "-c", "for i in 1 2 3; do (sleep 0.1 &) ; done; sleep 0.5"])
    time.sleep(1.5)
    assert "Z" not in lab.ssh("h1", ["ps", "-eo", "stat="]).stdout


def test_containers_have_their_own_root_and_their_limits_count(
    lab: Lab, hosts: list[str], stand_ins: Callable[..., None]
) -> None:
    stand_ins("redis:7")
    limits = ["--memory", "64m", "--cpus", "0.5", "--pids-limit", "50"]
    lab.ssh("h1", ["docker", "run", "-d", "--name", "redis", *limits, "redis:7"])
    inside = lab.ssh("h1", ["docker", "exec", "redis", "sh", "-c", "cat /etc/os-release; ls /data"]).stdout
    assert 'VERSION_ID="12"' in inside  # the image's Debian, not the host's
    groups = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max"
    assert lab.ssh("h1", ["docker", "exec", "redis", "sh", "-c", groups]).stdout.strip() == str(64 << 20)
    assert wait_until(
        lambda: (
            lab.ssh("h1", ["docker", "exec", "redis", "redis-cli", "ping"], check=False).stdout == "PONG\n"
        ),
        timeout=10,
    )


def test_stand_ins_say_what_is_really_inside(
    lab: Lab, hosts: list[str], stand_ins: Callable[..., None]
) -> None:
    stand_ins("redis:7")
    lab.ssh("h2", ["docker", "pull", "-q", "redis:7"])
    labels = json.loads(
        lab.ssh("h2", ["docker", "inspect", "-f", "{{json .Config.Labels}}", "redis:7"]).stdout
    )
    real = lab.ssh("h2", ["docker", "run", "--rm", "redis:7", "redis-server", "--version"]).stdout
    assert f"v={labels['longshore.stand-in']} " in real
    assert labels["org.opencontainers.image.description"].startswith("stand-in: Redis 7.")


def test_the_postgres_stand_in_behaves_as_the_original(
    lab: Lab, hosts: list[str], stand_ins: Callable[..., None]
) -> None:
    stand_ins("postgres:15")
    lab.ssh("h1", ["sh", "-c", "mkdir -p /srv/init; echo 'CREATE TABLE t (n int);' >/srv/init/1.sql"])
    password = 'it\'s $HOME "x"'
    mounts = ["-v", "/srv/init:/docker-entrypoint-initdb.d", "-v", "d:/var/lib/postgresql/data"]
    settings = ["-e", "POSTGRES_USER=me", "-e", f"POSTGRES_PASSWORD={password}", "-e", "POSTGRES_DB=mine"]
    lab.ssh("h1", ["docker", "run", "-d", "--name", "pg", *mounts, *settings, "postgres:15"])
    query = [
        "docker",
        "exec",
        "-e",
        f"PGPASSWORD={password}",
        "pg",
        "psql",
        "-h",
        "pg-host",
        "-U",
        "me",
        "-d",
        "mine",
        "-tAc",
    ]
    query[query.index("pg-host")] = lab.ssh(
        "h1", ["docker", "inspect", "-f", "{{.NetworkSettings.IPAddress}}", "pg"]
    ).stdout.strip()
    asked = [*query, "SELECT count(*), current_setting('server_version_num')::int / 10000 FROM t"]
    assert wait_until(lambda: lab.ssh("h1", asked, check=False).stdout == "0|15\n", timeout=60)
    lab.ssh("h1", [*query, "INSERT INTO t VALUES (7)"])
    lab.ssh("h1", ["docker", "restart", "pg"])
    assert wait_until(lambda: lab.ssh("h1", [*query, "TABLE t"], check=False).stdout == "7\n", timeout=60)
    wrong = [word.replace(password, "wrong") for word in query]
    assert lab.ssh("h1", [*wrong, "SELECT 1"], check=False).returncode != 0
    assert lab.ssh("h1", ["docker", "run", "--rm", "postgres:15"], check=False).returncode == 1


def test_an_image_pushed_on_one_host_runs_on_another(
    lab: Lab, hosts: list[str], stand_ins: Callable[..., None]
) -> None:
    stand_ins("redis:7")
    image = f"{lab.registry}/team/app:1"
    lab.ssh("h1", ["docker", "build", "-q", "-t", image, "-"], stdin="FROM redis:7\nRUN echo built >/mark\n")
    lab.ssh("h1", ["docker", "push", "-q", image])
    assert lab.ssh("h2", ["docker", "run", "--rm", image, "cat", "/mark"]).stdout == "built\n"


def test_a_bare_host_has_sudo_and_no_docker(other: Callable[[str], Lab]) -> None:
    bare = other(f"{GONE}-bare")
    bare.up(1, bare=["h1"])
    assert "docker" not in bare.ssh("h1", ["ls", "/usr/bin", "/usr/sbin", "/etc"]).stdout
    asked = bare.ssh("h1", ["sudo", "-S", "-p", "", "id", "-u"], user="deploy", stdin="practice\n")
    assert asked.stdout == "0\n"
    assert bare.ssh("h1", ["sudo", "-n", "true"], user="deploy", check=False).returncode != 0
    # What is installed as the engine is started at once, when its group is there: here, a stand-in for it.
    bare.ssh("h1", ["groupadd", "docker"])
    bare.ssh(
        "h1",
        ["install", "-m", "755", "/dev/stdin", "/usr/sbin/dockerd"],
        stdin="#!/bin/sh\nexec sleep 1000\n",
    )
    assert wait_until(
        lambda: bare.ssh("h1", ["service", "docker", "status"], check=False).returncode == 0, timeout=5
    )


@pytest.mark.timeout(2400)  # the first time, a whole Debian is unpacked and set up under QEMU
def test_an_arm64_host_runs_arm64_images_and_says_so(other: Callable[[str], Lab], lab: Lab) -> None:
    arm = other(f"{GONE}-arm")
    arm.up(1, arch={"h1": "arm64"})
    arm.stand_in(["redis:7"], platforms=["amd64", "arm64"])
    assert arm.ssh("h1", ["docker", "version", "-f", "{{.Server.Arch}}"]).stdout == "arm64\n"
    assert arm.ssh("h1", ["docker", "info", "-f", "{{.Architecture}}"]).stdout == "aarch64\n"
    assert arm.ssh("h1", ["docker", "run", "--rm", "-i", "redis:7", "uname", "-m"]).stdout == "aarch64\n"
    arm.ssh("h1", ["docker", "run", "-d", "--name", "redis", "redis:7"])
    ping = ["docker", "exec", "redis", "redis-cli", "ping"]
    assert wait_until(lambda: arm.ssh("h1", ping, check=False).stdout == "PONG\n", timeout=30)
    through = arm.ssh("h1", ["docker", "exec", "-i", "redis", "cat"], stdin="x" * 300_000).stdout
    assert through == "x" * 300_000


def test_nothing_survives_down(other: Callable[[str], Lab]) -> None:
    gone = other(GONE)
    gone.up(2)
    gone.registry_up()
    gone.cut("h2")
    number = gone.state.number
    there = left(GONE, number)
    assert {"processes", "groups", "home", "record", "links", "rules"} == set(there)
    gone.down()
    assert left(GONE, number) == {}
    gone.down()
    assert gone.status() == []


def test_two_labs_do_not_meet(other: Callable[[str], Lab], lab: Lab) -> None:
    two = other(f"{GONE}-two")
    two.up(1)
    assert not set(two.addresses.values()) & set(lab.addresses.values())
    two.down()
    assert all(host.on for host in lab.status())
    lab.ssh("h1", ["docker", "info"])


@pytest.mark.parametrize("seconds", [0.15, 0.5, 0.9, 1.4])
def test_down_clears_up_after_an_up_that_was_killed(other: Callable[[str], Lab], seconds: float) -> None:
    gone = other(GONE)
    start_and_kill(f"lab = Lab('{GONE}'); lab.up(2); lab.registry_up()", seconds)
    number = gone.state.number
    gone.down()
    assert wait_until(lambda: not left(GONE, number), timeout=5), left(GONE, number)


def test_an_up_after_a_killed_one_makes_a_whole_lab(other: Callable[[str], Lab]) -> None:
    gone = other(GONE)
    start_and_kill(f"Lab('{GONE}').up(2)", 0.6)
    gone.up(2)
    assert [host.on for host in gone.status()] == [True, True]
    gone.ssh("h2", ["docker", "info"])
