"""Practice hosts as privileged containers, where a Docker engine runs and the person isn't root.

The same packages, pid 1 and settings as in namespaces, on the engine's own Debian image. What differs:
``cut`` takes the host's interface down, so its neighbours notice sooner than on a broken line.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from longshore.lab import roots
from longshore.lab.commands import LabError, run
from longshore.lab.machine import BINFMT, Say, native_arch
from longshore.lab.place import Network, Place, host_index
from longshore.lab.state import HostState

BASE = "debian:trixie-slim"
INIT = "/usr/local/lib/longshore-lab/init"


def refusal() -> str:
    """Why this machine can't hold hosts as containers; empty when it can."""
    if shutil.which("docker") is None:
        return "there is no 'docker' command"
    said = run(["docker", "version", "--format", "{{.Server.Version}}"], check=False, timeout=20)
    return "" if said.returncode == 0 else "no Docker engine answers"


class Containers:
    """The hosts of one lab on the engine that ``docker`` talks to."""

    def __init__(self, place: Place, net: Network, say: Say) -> None:
        self.place, self.net, self.say = place, net, say
        self.label = f"longshore.lab={place.group}"

    def prepare(self, hosts: Sequence[HostState]) -> None:
        """Make the image and the network that these hosts stand on. What is there stays."""
        if any(host.arch != native_arch() for host in hosts) and not (BINFMT / "qemu-aarch64").exists():
            raise LabError(
                "This machine doesn't run arm64 programs.", hint="Set QEMU up in binfmt_misc, or be root."
            )
        for bare in sorted({host.bare for host in hosts}):
            self._image(bare)
        if run(["docker", "network", "inspect", self._name("net")], check=False).returncode != 0:
            options = ["--subnet", str(self.net.subnet), "--gateway", self.net.gateway, "--label", self.label]
            options += ["--opt", f"com.docker.network.bridge.name={self.net.bridge}"]
            run(["docker", "network", "create", *options, self._name("net")])

    def _image(self, bare: bool) -> str:
        """The image of a host, built when the engine doesn't have it."""
        packages = " ".join(roots.BARE if bare else (*roots.BARE, *roots.ENGINE))
        base = os.environ.get("LONGSHORE_LAB_BASE") or BASE
        settings = r"PasswordAuthentication no\nPermitRootLogin prohibit-password\n"
        recipe = f"""\
FROM {base}
RUN printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d && chmod 755 /usr/sbin/policy-rc.d \\
 && apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends {packages} \\
 && rm -rf /etc/ssh/ssh_host_* \\
 && useradd --create-home --shell /bin/bash --groups sudo {roots.USER} \\
 && echo '{roots.USER}:{roots.PASSWORD}' | chpasswd \\
 && printf '{settings}' >/etc/ssh/sshd_config.d/longshore-lab.conf
"""
        tag = f"longshore-lab:{'bare' if bare else 'engine'}-{roots.short_hash(recipe)}"
        if run(["docker", "image", "inspect", tag], check=False).returncode != 0:
            self.say("Building the practice hosts' image (once).")
            run(["docker", "build", "-q", "-t", tag, "-"], stdin=recipe)
        return tag

    def create(self, host: HostState, content: Mapping[str, tuple[str, int]]) -> HostState:
        """Make the container with its disk, and put these files on it (path to text and mode)."""
        name = self._name(host.name)
        run(["docker", "rm", "-f", "-v", name], check=False)
        options = ["--name", name, "--hostname", host.name, "--label", self.label, "--privileged"]
        options += ["--cgroupns", "private", "--tmpfs", "/run", "--tmpfs", "/tmp:exec"]  # noqa: S108 - in there
        options += ["--network", self._name("net"), "--ip", self.net.address(host_index(host.name))]
        options += ["-v", "/var/lib/docker", "-v", "/var/lib/containerd", "-p", "127.0.0.1::22"]
        run(["docker", "create", *options, self._image(host.bare), INIT])
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for path, (text, mode) in content.items():
                if path in ("etc/hosts", "etc/hostname", "etc/resolv.conf"):
                    continue  # the engine's own
                entry = tarfile.TarInfo(path)
                entry.size, entry.mode = len(text.encode()), mode
                entry.uid = entry.gid = 1000 if path.startswith("home/") else 0
                tar.addfile(entry, io.BytesIO(text.encode()))
        run(["docker", "cp", "-", f"{name}:/"], stdin=packed.getvalue())
        return host

    def boot(self, host: HostState) -> HostState:
        """Start the container and return the host with the address that it is reached at."""
        name = self._name(host.name)
        run(["docker", "start", name])
        if sys.platform.startswith("linux"):
            return replace(host, address=self.net.address(host_index(host.name)))
        # Where the engine is in a virtual machine, only published ports are reached.
        port = run(["docker", "port", name, "22/tcp"]).stdout.split("\n")[0].rpartition(":")[2]
        return replace(host, address="127.0.0.1", port=int(port))

    def kill(self, host: HostState) -> None:
        """Take the power away; the disk stays."""
        if self.is_on(host):
            run(["docker", "kill", self._name(host.name)])

    def is_on(self, host: HostState) -> bool:
        said = run(["docker", "inspect", "-f", "{{.State.Running}}", self._name(host.name)], check=False)
        return said.stdout.strip() == "true"

    def cut(self, host: HostState) -> None:
        self._inside(host, ["ip", "link", "set", "eth0", "down"])

    def heal(self, host: HostState) -> None:
        self._inside(host, ["ip", "link", "set", "eth0", "up"])
        self._inside(host, ["ip", "route", "replace", "default", "via", self.net.gateway])

    def is_cut(self, host: HostState) -> bool:
        if not self.is_on(host):
            return False
        said = run(["docker", "exec", self._name(host.name), "ip", "-j", "link", "show", "eth0"])
        return "UP" not in json.loads(said.stdout)[0]["flags"]

    def join_files(self, name: str) -> list[Path]:
        return []

    def teardown(self, hosts: Sequence[str]) -> None:
        """Take the lab's containers, their disks and its network away, also what was left half made."""
        mine = ["--filter", f"label={self.label}", "-q"]
        for container in run(["docker", "ps", "-a", *mine]).stdout.split():
            run(["docker", "rm", "-f", "-v", container])
        for network in run(["docker", "network", "ls", *mine]).stdout.split():
            run(["docker", "network", "rm", network])

    def _inside(self, host: HostState, argv: Sequence[str]) -> None:
        run(["docker", "exec", self._name(host.name), *argv])

    def _name(self, what: str) -> str:
        return f"longshore-{self.place.group}-{what}"
