"""Practice hosts as privileged containers, where a Docker engine runs and the person isn't root.

The same packages, pid 1 and settings as in namespaces, on the engine's own Debian image. What differs:
``cut`` takes the host's interface down, so its neighbours notice sooner than on a broken line.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from longshore.lab import network, roots
from longshore.lab.commands import LabError, run
from longshore.lab.content import pick_resolver
from longshore.lab.machine import Say, native_arch, runs_arm64
from longshore.lab.place import Network, Place, host_index
from longshore.lab.state import HostState

BASE = "debian:trixie-slim"
IMAGES = "longshore-lab"
RESOLVER = Path("/etc/resolv.conf")
UID = 1000
"""The user's on a host (``roots.USER``)."""
INIT = "/usr/local/lib/longshore-lab/init"


def refusal() -> str:
    """Why this machine can't hold hosts as containers; empty when it can."""
    if shutil.which("docker") is None:
        return "there is no 'docker' command"
    said = run(["docker", "version", "--format", "{{.Server.Version}}"], check=False, timeout=20)
    if said.returncode == 0:
        return ""
    if "permission denied" in said.stderr:
        return "you may not use the Docker engine here (its group is 'docker')"
    return "no Docker engine answers"


def forget_images() -> None:
    """Remove the images that hosts are made from, where there is an engine and no lab uses them."""
    if not refusal():
        for image in run(["docker", "images", "-q", IMAGES], check=False).stdout.split():
            run(["docker", "rmi", image], check=False)


class Containers:
    """The hosts of one lab on the engine that ``docker`` talks to."""

    def __init__(self, place: Place, net: Network, say: Say) -> None:
        self.place, self.net, self.say = place, net, say
        self.label = f"longshore.lab={place.group}"

    def prepare(self, hosts: Sequence[HostState]) -> None:
        """Make the image and the network that these hosts stand on. What is there stays."""
        if run(["docker", "network", "inspect", self._name("net")], check=False).returncode != 0:
            options = ["--subnet", str(self.net.subnet), "--gateway", self.net.gateway, "--label", self.label]
            options += ["--opt", f"com.docker.network.bridge.name={self.net.bridge}"]
            run(["docker", "network", "create", *options, self._name("net")])
        if any(host.arch != native_arch() for host in hosts):
            self.emulate()
        for bare in sorted({host.bare for host in hosts}):
            self._image(bare)

    def emulate(self) -> None:
        """See that arm64 programs run, which only root could change."""
        if self.is_here() and not runs_arm64():
            raise LabError(
                "This machine doesn't run arm64 programs.",
                hint="Have qemu-user-static and binfmt-support installed on it.",
            )

    def _image(self, bare: bool) -> str:
        """The image of a host, built when the engine doesn't have it."""
        packages = " ".join(roots.BARE if bare else (*roots.BARE, *roots.ENGINE))
        user = f"--uid {UID} --create-home --shell /bin/bash --groups sudo {roots.USER}"
        base, mirror = (os.environ.get(f"LONGSHORE_LAB_{what}") for what in ("BASE", "MIRROR"))
        recipe = f"""\
FROM {base or BASE}
ARG DEBIAN_FRONTEND=noninteractive
COPY root/ /
RUN {"rm -f /etc/apt/sources.list.d/debian.sources; " if mirror else ""}dpkg -s {packages} >/dev/null 2>&1 \\
 || {{ apt-get update && apt-get install -y --no-install-recommends {packages}; }} \\
 && update-ca-certificates && rm -rf /etc/ssh/ssh_host_* /var/cache/apt/archives/*.deb \\
 && {{ id {roots.USER} || useradd {user}; }} \\
 && echo '{roots.USER}:{roots.PASSWORD}' | chpasswd
"""
        settings = roots.settings_files()
        if mirror:
            settings["etc/apt/sources.list"] = (f"deb {mirror} {roots.SUITE} main\n", 0o644)
        tag = f"{IMAGES}:{'bare' if bare else 'engine'}-{roots.short_hash(recipe + repr(settings))}"
        if run(["docker", "image", "inspect", tag], check=False).returncode != 0:
            self.say("Building the practice hosts' image (once; the engine keeps it).")
            context = {"Dockerfile": (recipe, 0o644)}
            context |= {f"root/{path}": content for path, content in settings.items()}
            done = run(["docker", "build", "-t", tag, "-"], stdin=_packed(context), check=False)
            if done.returncode != 0:
                raise LabError(f"The practice hosts' image can't be built: {_why(done.stderr)}")
        return tag

    def create(self, host: HostState, content: Mapping[str, tuple[str, int]]) -> HostState:
        """Make the container with its disk, and put these files on it (path to text and mode)."""
        name = self._name(host.name)
        run(["docker", "rm", "-f", "-v", name], check=False)
        options = ["--name", name, "--hostname", host.name, "--label", self.label, "--privileged"]
        options += ["--cgroupns", "private", "--tmpfs", "/run", "--tmpfs", "/tmp:exec"]  # noqa: S108 - in there
        options += ["--network", self._name("net"), "--ip", self.net.address(host_index(host.name))]
        options += ["-v", "/var/lib/docker", "-v", "/var/lib/containerd"]
        options += [] if self.is_here() else ["-p", "127.0.0.1::22"]
        run(["docker", "create", *options, self._image(host.bare), INIT])
        engines_own = ("etc/hosts", "etc/hostname", "etc/resolv.conf")
        kept = {path: made for path, made in content.items() if path not in engines_own}
        run(["docker", "cp", "-", f"{name}:/"], stdin=_packed(kept))
        return host

    def boot(self, host: HostState) -> HostState:
        """Start the container and return the host with the address that it is reached at."""
        name = self._name(host.name)
        run(["docker", "start", name])
        if self.is_here():
            self._resolve(name)
            return replace(host, address=self.net.address(host_index(host.name)))
        # Where the engine is in a virtual machine, only published ports are reached.
        port = run(["docker", "port", name, "22/tcp"]).stdout.split("\n")[0].rpartition(":")[2]
        return replace(host, address="127.0.0.1", port=int(port))

    def _resolve(self, name: str) -> None:
        """Give a host this machine's resolver. The engine's own is at an address that the host's containers
        can't reach, so that its engine would give them a public one."""
        text = pick_resolver(RESOLVER.read_text()) if RESOLVER.exists() else ""
        servers = [line.split()[1] for line in text.splitlines() if line.startswith("nameserver ")]
        if any(not server.startswith("127.") for server in servers):
            run(["docker", "exec", "-i", name, "tee", "/etc/resolv.conf"], stdin=text)

    def kill(self, host: HostState) -> None:
        """Take the power away; the disk stays."""
        if self.is_on(host):
            run(["docker", "kill", self._name(host.name)])

    def is_on(self, host: HostState) -> bool:
        said = run(["docker", "inspect", "-f", "{{.State.Running}}", self._name(host.name)], check=False)
        return said.stdout.strip() == "true"

    def pin(self, host: HostState, processor: int) -> None:
        run(["docker", "update", "--cpuset-cpus", str(processor), self._name(host.name)])

    def cut(self, host: HostState) -> None:
        self._inside(host, ["ip", "link", "set", "eth0", "down"])

    def heal(self, host: HostState) -> None:
        self._inside(host, ["ip", "link", "set", "eth0", "up"])
        self._inside(host, ["ip", "route", "replace", "default", "via", self.net.gateway])
        # Who has looked for it meanwhile takes it for gone for some seconds, unless they hear of it.
        run(["docker", "exec", self._name(host.name), "ping", "-c1", "-W2", self.net.gateway], check=False)

    def is_cut(self, host: HostState) -> bool:
        if not self.is_on(host):
            return False
        said = run(["docker", "exec", self._name(host.name), "ip", "-j", "link", "show", "eth0"])
        return "UP" not in json.loads(said.stdout)[0]["flags"]

    def is_here(self) -> bool:
        """Whether the engine's networks are this machine's: not with Docker Desktop, a rootless engine or one
        on another machine."""
        return network.exists(self.net.bridge)

    def join_files(self, name: str) -> list[Path]:
        return []

    def teardown(self, hosts: Sequence[str]) -> None:
        """Take the lab's containers, their disks and its network away, also what was left half made."""
        why = refusal()
        if why:
            raise LabError(f"The lab's containers can't be removed: {why}.", hint="Start it, and again.")
        mine = ["--filter", f"label={self.label}", "-q"]
        for container in run(["docker", "ps", "-a", *mine]).stdout.split():
            run(["docker", "rm", "-f", "-v", container])
        for net in run(["docker", "network", "ls", *mine]).stdout.split():
            run(["docker", "network", "rm", net])

    def _inside(self, host: HostState, argv: Sequence[str]) -> None:
        run(["docker", "exec", self._name(host.name), *argv])

    def _name(self, what: str) -> str:
        return f"longshore-{self.place.group}-{what}"


def _why(said: str) -> str:
    """The end of what a step of a build wrote, without BuildKit's numbers; else the end of all."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    of_step = [line.split(" ", 2)[2] for line in lines if re.match(r"#\d+ \d+\.\d+ \S", line)]
    return " / ".join((of_step or lines)[-3:])


def _packed(content: Mapping[str, tuple[str, int]]) -> bytes:
    """A tar of files (path to text and mode). What is in a home is its user's, as sshd wants it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path, (text, mode) in content.items():
            owner = UID if path.startswith("home/") else 0
            if path.endswith("/.ssh/authorized_keys"):
                folder = tarfile.TarInfo(str(Path(path).parent))
                folder.type, folder.mode, folder.uid, folder.gid = tarfile.DIRTYPE, 0o700, owner, owner
                tar.addfile(folder)
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode, entry.uid, entry.gid = len(text.encode()), mode, owner, owner
            tar.addfile(entry, io.BytesIO(text.encode()))
    return packed.getvalue()
