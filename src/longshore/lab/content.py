"""What a new practice host has on its disk beside Debian: its name, keys, settings and pid 1."""

from __future__ import annotations

import json
from pathlib import Path

from longshore.lab.commands import run
from longshore.lab.machine import native_arch
from longshore.lab.place import Network, Place, host_index
from longshore.lab.roots import USER, script
from longshore.lab.state import HostState

SYSTEMD_RESOLVED = Path("/run/systemd/resolve/resolv.conf")


def make_key(key: Path) -> None:
    """The key pair that opens every host of a lab, made once."""
    if not key.exists():
        key.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "longshore-lab", "-f", key])


def daemon_settings(net: Network) -> dict[str, object]:
    """The engine's ``daemon.json``: the lab's registry as Docker Hub's mirror, logs that rotate."""
    return {
        "features": {"containerd-snapshotter": True},
        "insecure-registries": [net.registry],
        "registry-mirrors": [f"http://{net.registry}"],
        "log-driver": "json-file",
        "log-opts": {"max-size": "10m", "max-file": "3"},
    }


def host_files(host: HostState, place: Place, net: Network) -> dict[str, tuple[str, int]]:
    """Every file of a new host: path to text and mode. Makes its ssh host key on the way."""
    folder = place.host(host.name)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    host_key = folder / "host_key"
    if not host_key.exists():
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", host.name, "-f", host_key])
    own_key = place.key.with_suffix(".pub").read_text()
    content = {
        "etc/hostname": (f"{host.name}\n", 0o644),
        "etc/hosts": (f"127.0.0.1 localhost\n{net.address(host_index(host.name))} {host.name}\n", 0o644),
        "etc/resolv.conf": (pick_resolver(Path("/etc/resolv.conf").read_text()), 0o644),
        "etc/ssh/ssh_host_ed25519_key": (host_key.read_text(), 0o600),
        "etc/ssh/ssh_host_ed25519_key.pub": (host_key.with_suffix(".pub").read_text(), 0o644),
        "root/.ssh/authorized_keys": (own_key, 0o600),
        f"home/{USER}/.ssh/authorized_keys": (own_key, 0o600),
        "usr/local/lib/longshore-lab/init": (script("init"), 0o755),
        "usr/local/sbin/service": (script("service"), 0o755),
    }
    if host.arch != native_arch():
        content["usr/local/lib/longshore-lab/front.py"] = (script("front.py"), 0o644)
        # The clients choose the platform of a build.
        content["etc/environment"] = (f"DOCKER_DEFAULT_PLATFORM=linux/{host.arch}\n", 0o644)
    if not host.bare:
        content["etc/docker/daemon.json"] = (json.dumps(daemon_settings(net), indent=2) + "\n", 0o644)
    return content


def pick_resolver(text: str) -> str:
    """The machine's ``resolv.conf``, or what systemd-resolved asks itself: a host can't reach its stub."""
    servers = [line.split()[1] for line in text.splitlines() if line.startswith("nameserver ")]
    if servers and all(server.startswith("127.") for server in servers) and SYSTEMD_RESOLVED.exists():
        return SYSTEMD_RESOLVED.read_text()
    return text


def learn_host_key(place: Place, host: HostState) -> None:
    """Put a host into the lab's ``known_hosts`` (we made its key, so nothing is taken on trust)."""
    where = host.address if host.port == 22 else f"[{host.address}]:{host.port}"
    kind, key, *_ = (place.host(host.name) / "host_key.pub").read_text().split()
    line = f"{where} {kind} {key}"
    known = place.known_hosts.read_text().splitlines() if place.known_hosts.exists() else []
    if line not in known:
        kept = [other for other in known if other.split()[0] != where]
        place.known_hosts.write_text("\n".join([*kept, line]) + "\n")
