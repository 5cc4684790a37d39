"""Practice hosts in Linux namespaces: root is all it takes, no Docker on this machine.

A host has its own mount, network, process, UTS, IPC and cgroup namespaces. Everything it mounts is in
its own mount namespace, so ending its pid 1 takes all of it away.
"""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path

from longshore.lab import cgroups, machine, network, roots
from longshore.lab.commands import LabError, Process, wait_until
from longshore.lab.machine import Say
from longshore.lab.place import Network, Place, host_index
from longshore.lab.state import HostState

PROGRAMS = {"ip": "iproute2", "iptables": "iptables", "ssh": "openssh-client", "unshare": "util-linux"}


def refusal() -> str:
    """Why this machine can't hold hosts in namespaces; empty when it can."""
    if not sys.platform.startswith("linux"):
        return "this is not Linux"
    if os.geteuid() != 0:
        return "you are not root"
    return ""


class Namespaces:
    """The hosts of one lab on this machine."""

    name = "namespaces"

    def __init__(self, place: Place, net: Network, say: Say) -> None:
        self.place, self.net, self.say = place, net, say
        self.owner = place.owner

    def prepare(self, hosts: Sequence[HostState]) -> None:
        """Make what the hosts stand on: programs, roots, the network. What is there stays."""
        machine.install(PROGRAMS, self.say)
        for bare in sorted({host.bare for host in hosts}):
            roots.layers(self.place.cache / "roots", bare=bare, say=self.say)
        machine.claim(self.owner)
        network.up(self.net)
        if any(host.arch != machine.native_arch() for host in hosts):
            self.emulate()

    def emulate(self) -> None:
        """Have arm64 programs run in hosts, by QEMU."""
        machine.emulate_arm64(self.owner, self.say)

    def is_here(self) -> bool:
        return True

    def create(self, host: HostState, content: Mapping[str, tuple[str, int]]) -> HostState:
        """Give a new host its disk, with these files on it (path to text and mode)."""
        folder = self.place.host(host.name)
        for part in ("upper", "work", "root", "docker", "containerd"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        for relative, (text, mode) in content.items():
            target = folder / "upper" / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
            target.chmod(mode)
        upper = folder / "upper"
        for part in ("root", "root/.ssh"):
            (upper / part).chmod(0o700)
        home = upper / "home" / roots.USER
        for path in (home, home / ".ssh", home / ".ssh/authorized_keys"):
            os.chown(path, 1000, 1000)
        (home / ".ssh").chmod(0o700)
        return replace(host, address=self.net.address(host_index(host.name)))

    def boot(self, host: HostState) -> HostState:
        """Switch a host on and return it with its process. Raises ``LabError`` with its log's end."""
        # A lab that was killed at the wrong moment may have switched it on without taking note.
        self.kill(host)
        folder, index = self.place.host(host.name), host_index(host.name)
        lower = roots.layers(self.place.cache / "roots", bare=host.bare, say=self.say)
        trees = cgroups.hierarchies()
        groups = cgroups.create(self.place.group, host.name, trees)
        leaf = cgroups.leaf(trees, groups)
        env = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LAB_JOIN": " ".join(str(group / "cgroup.procs") for group in groups),
            "LAB_LEAF": str(leaf or ""),
            "LAB_CGROUPS": "v2"
            if trees[0].v2
            else " ".join(f"{tree.path.name}={tree.options}" for tree in trees),
            "LAB_LOWER": ":".join(map(str, lower)),
            "LAB_DISK": str(folder),
            "LAB_NAME": host.name,
            "LAB_ADDRESS": self.net.address(index),
            "LAB_GATEWAY": self.net.gateway,
        }
        with (
            as_file(files("longshore.lab") / "files" / "enter.sh") as program,
            (folder / "log").open("a") as log,
        ):
            child = subprocess.Popen(
                ["sh", str(program)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=env,
                cwd="/",
                start_new_session=True,
            )
            assert child.stdin and child.stdout
            ready, _, _ = select.select([child.stdout], [], [], 20)
            if not ready or child.stdout.readline() != b"ready\n":
                child.kill()
                child.wait()
                raise LabError(f"It didn't start: {_tail(folder / 'log')}", where=host.name)
            process = Process.of(child.pid)
            network.plug_in(self.net, index, child.pid)
            child.stdin.write(b"go\n")
            child.stdin.close()
            child.stdout.close()
        if process is None:
            raise LabError(f"It ended at once: {_tail(folder / 'log')}", where=host.name)
        return replace(host, process=process)

    def kill(self, host: HostState) -> None:
        """Take the power away: SIGKILL for everything that runs on the host. Its disk stays."""
        if host.process is not None:
            host.process.kill()
        self._end(f"/{cgroups.TOP}/{self.place.group}/{host.name}", host.name)
        network.unplug(self.net, host_index(host.name))
        cgroups.remove(self.place.group, host.name, cgroups.hierarchies())

    def _end(self, group: str, whose: str) -> None:
        """End what runs in a control group; the first to go is a pid 1, and takes the rest along."""

        def empty() -> bool:
            for process in _members(group):
                process.kill()
            return not _members(group)

        if not wait_until(empty, timeout=15):
            raise LabError("Some of its processes can't be ended.", where=whose)

    def is_on(self, host: HostState) -> bool:
        return host.process is not None and host.process.alive()

    def pin(self, host: HostState, processor: int) -> None:
        cgroups.pin(self.place.group, host.name, cgroups.hierarchies(), processor)

    def cut(self, host: HostState) -> None:
        network.cut(self.net, host_index(host.name))

    def heal(self, host: HostState) -> None:
        network.heal(self.net, host_index(host.name))

    def is_cut(self, host: HostState) -> bool:
        return network.is_cut(self.net, host_index(host.name))

    def join_files(self, name: str) -> list[Path]:
        """The ``cgroup.procs`` files of a group in the lab's own, where ``teardown`` finds its members."""
        return [
            group / "cgroup.procs" for group in cgroups.create(self.place.group, name, cgroups.hierarchies())
        ]

    def teardown(self, hosts: Sequence[str]) -> None:
        """Take the lab and these hosts' disks away, also what was left half made."""
        self._end(f"/{cgroups.TOP}/{self.place.group}", self.place.name)
        network.down(self.net)
        cgroups.remove(self.place.group, None, cgroups.hierarchies())
        machine.release(self.owner)
        for name in hosts:
            _remove_folder(self.place.host(name))


def _members(group: str) -> list[Process]:
    """The processes in and below a control group, by what the kernel says of each; oldest first."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cgroup"):
        try:
            text = path.read_text()
        except OSError:
            continue
        paths = [line.split(":", 2)[2] + "/" for line in text.splitlines()]
        process = Process.of(int(path.parent.name))
        if process is not None and any(f"{group}/" in one for one in paths):
            found.append(process)
    return sorted(found, key=lambda process: (process.started, process.pid))


def _tail(log: Path) -> str:
    return " / ".join(log.read_text(errors="replace").strip().splitlines()[-3:]) or "it said nothing"


def _remove_folder(folder: Path) -> None:
    def gone() -> bool:
        shutil.rmtree(folder, ignore_errors=True)
        return not folder.exists()

    # The kernel lets go of an ended host's mounts a moment after its processes.
    if not wait_until(gone, timeout=10):
        raise LabError(f"{folder} can't be removed.")
