"""Practice hosts as privileged containers: on ``h1``, whose Docker engine a person may use who isn't root."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import invoke
import pytest

import longshore
from longshore.lab import Lab
from longshore.lab.commands import wait_until

CODE = "/srv/code"
PROGRAM = "from longshore.tasks import main; main()"
# The image that hosts are made from has all packages, since it isn't apt that is tried here, and not all of
# their files, since an engine packs what it imports.
PREPARE = """
set -e
usermod -aG docker deploy
tar -C / -c --one-file-system --exclude=./srv/code --exclude=./tmp/* --exclude=./var/lib/apt/lists/* \\
    --exclude=./usr/share/locale --exclude=./usr/share/doc --exclude=./usr/libexec/docker/cli-plugins/* . |
    docker import - base:1
"""
RUN = """
set -e
tar -C / -ch usr/bin/sleep usr/bin/echo $(ldd /usr/bin/sleep | grep -o '/[^ ]*' | cut -c2-) |
    docker import -c 'CMD ["/usr/bin/sleep","1000"]' - tiny:1 >/dev/null
docker run -d --name one --memory 64m --pids-limit 20 tiny:1 >/dev/null
docker exec one /usr/bin/echo it runs
docker inspect one -f '{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}} {{.State.Running}}'
docker info -f '{{.DriverStatus}} {{.RegistryConfig.Mirrors}}'
"""
LEFT = """
docker ps -aq; docker volume ls -q; docker network ls -q --filter type=custom; docker images -q longshore-lab
pgrep -fa 'docker-registry serve|docker-proxy'; find /home/deploy/.local/state/longshore-lab -mindepth 2
ls -d /sys/class/net/longshore* 2>/dev/null
true
"""
AS_DEPLOY = """
from longshore.lab import Lab
print(Lab().ssh("h1", ["sudo", "-S", "-p", "", "id", "-un"], user="deploy", stdin="practice\\n").stdout)
"""
# As with an engine in a virtual machine: its networks aren't here, and hosts are reached by published ports.
ELSEWHERE = """
from longshore.lab import Lab, LabError, network
network.exists = lambda link: False
lab = Lab("elsewhere")
lab.up(1, bare=["h1"])
(host,) = lab.status()
print(host.address, host.port != 22, lab.ssh("h1", ["hostname"]).stdout.strip(), lab.registry_possible())
try:
    lab.registry_up()
except LabError as error:
    print(error)
lab.down()
"""


class User:
    """Somebody on ``h1``: the user ``deploy``, in the group docker, with Longshore and no more."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def python(self, program: str, *words: str) -> subprocess.CompletedProcess[str]:
        env = ["env", f"PYTHONPATH={CODE}", "PYTHONDONTWRITEBYTECODE=1", "LONGSHORE_LAB_BASE=base:1"]
        return self.lab.ssh("h1", [*env, "python3", "-c", program, *words], user="deploy", check=False)

    def types(self, *words: str) -> str:
        """A command that must end well; what it said."""
        done = self.python(PROGRAM, *words)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def machine(self, script: str) -> str:
        """A script of the machine's root."""
        return self.lab.ssh("h1", ["bash", "-s"], stdin=script).stdout


def _code() -> bytes:
    """Longshore, and the one library that its practice hosts need."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for package in (longshore, invoke):
            folder = Path(str(package.__file__)).parent
            for path in sorted(folder.rglob("*")):
                if path.is_file() and "__pycache__" not in path.parts:
                    archive.add(path, arcname=str(path.relative_to(folder.parent)))
        for program in (Path("/usr/bin/docker-registry"),):
            if program.exists():
                archive.add(program, arcname="bin/docker-registry")
    return packed.getvalue()


@pytest.fixture
def user(lab: Lab, hosts: list[str]) -> Iterator[User]:
    made = User(lab)
    lab.ssh("h1", ["mkdir", "-p", CODE])
    lab.ssh("h1", ["tar", "-x", "-C", CODE], stdin=_code())
    made.machine(PREPARE)
    yield made
    made.machine("gpasswd -d deploy docker; rm -rf /home/deploy/.local; docker rmi -f base:1")


def test_somebody_who_is_not_root_has_practice_hosts_on_an_engine_and_nothing_of_them_stays(
    user: User,
) -> None:
    said = user.types("lab.up", "--hosts", "1")
    address = said.split("h1 ")[-1].split()[0]
    assert f"h1    {address}" in said
    assert "registry 10.78." in said
    assert user.types("lab.up", "--hosts", "1").count("on ") == 1
    ran = user.types("lab.ssh", "h1", "--run", RUN)
    assert ran.startswith("it runs\n67108864 20 true\n")
    assert "io.containerd.snapshotter.v1" in ran
    assert user.python(AS_DEPLOY).stdout.strip() == "root"

    user.types("lab.stop", "h1")
    assert " off " in user.types("lab.status")
    user.types("lab.start", "h1")
    assert "one\n" in user.types("lab.ssh", "h1", "--run", "docker ps -a --format '{{.Names}}'")
    user.types("lab.cut", "h1")
    assert " cut off " in user.types("lab.status")
    reach = f"timeout 2 bash -c '</dev/tcp/{address}/22' && echo reached || true"
    assert user.machine(reach) == ""
    user.types("lab.heal", "h1")
    assert wait_until(lambda: user.machine(reach) == "reached\n", timeout=10)

    elsewhere = user.python(ELSEWHERE)
    assert elsewhere.stdout.startswith("127.0.0.1 True h1 False\nThere can't be a registry: "), elsewhere
    user.types("lab.down", "--purge")
    assert user.machine(LEFT) == ""
