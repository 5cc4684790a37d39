"""``invoke lab.*``: practice hosts to deploy to, break and throw away."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from invoke.collection import Collection
from invoke.context import Context

from longshore.tasks.command import task

if TYPE_CHECKING:
    from longshore.lab import Lab

NAME = {"name": "Which lab, when there are several (default: 'default')."}

HOST = {**NAME, "host": "Which host: h1 to hN."}


def _lab(name: str) -> Lab:
    from longshore.lab import Lab

    return Lab(name, say=lambda text: print(text, flush=True))


@task(
    iterable=["arch", "bare", "image"],
    help={
        **NAME,
        "hosts": "How many: h1 to hN.",
        "arch": "HOST=arm64: that host runs arm64 images (under QEMU); may be repeated.",
        "bare": "HOST: without Docker, to try 'bootstrap'; may be repeated.",
        "images": "Also build the stand-ins for Docker Hub's images, where the cache doesn't have them.",
        "image": "Only this stand-in (postgres:15); may be repeated.",
    },
)
def up(
    c: Context,
    hosts: str = "3",
    arch: list[str] | None = None,
    bare: list[str] | None = None,
    images: bool = False,
    image: list[str] | None = None,
    name: str = "default",
) -> None:
    """Start practice hosts and the registry; what runs already is left alone."""
    from longshore.lab import LabError, standins
    from longshore.tasks.words import whole

    standins.known(image or [])
    count, kinds = whole(hosts, "--hosts", least=1), {}
    for word in arch or []:
        host, _, kind = word.partition("=")
        if not kind:
            raise LabError(f"--arch {word} doesn't say which architecture.", hint="Write it as h3=arm64.")
        kinds[host] = kind
    lab = _lab(name)
    lab.up(count, arch=kinds, bare=bare or [])
    if lab.registry_possible():
        lab.registry_up()
    if images or image:
        lab.stand_in(image or (), platforms=sorted({"amd64", *(host.arch for host in lab.status())}))
    _show(lab)


@task(help=NAME)
def status(c: Context, name: str = "default") -> None:
    """Show the practice hosts, and how to reach them."""
    _show(_lab(name))


def _show(lab: Lab) -> None:
    hosts = lab.status()
    if not hosts:
        print(f"The lab '{lab.place.name}' isn't up. 'invoke lab.up' starts it.")
        return
    for host in hosts:
        power = "off" if not host.on else "cut off" if host.cut else "on"
        kind = f"{host.arch}, bare" if host.bare else host.arch
        port = f":{host.port}" if host.port != 22 else ""
        print(f"{host.name:<5} {host.address + port:<16} {power:<8} {kind}")
    if not lab.registry_possible():
        print("no registry: the engine's networks aren't on this machine")
    else:
        print(f"registry {lab.registry}" if lab.registry_on() else "registry is off")


@task(
    positional=["host"],
    help={**NAME, "host": "Which host.", "run": "A command for it."},
)
def ssh(c: Context, host: str, run: str = "", name: str = "default") -> None:
    """Open a shell on a practice host."""
    command = _lab(name).ssh_argv(host, ["sh", "-c", run] if run else [])
    os.execvp(command[0], command)  # noqa: S606 - the person's terminal becomes the host's


@task(positional=["host"], help=HOST)
def stop(c: Context, host: str, name: str = "default") -> None:
    """Take the power from a host; its disk stays."""
    _lab(name).stop(host)


@task(positional=["host"], help=HOST)
def start(c: Context, host: str, name: str = "default") -> None:
    """Switch a host on again."""
    _lab(name).start(host)


@task(positional=["host"], help=HOST)
def cut(c: Context, host: str, name: str = "default") -> None:
    """Cut a host off the network, silently."""
    _lab(name).cut(host)


@task(positional=["host"], help=HOST)
def heal(c: Context, host: str, name: str = "default") -> None:
    """Connect a host that was cut off."""
    _lab(name).heal(host)


@task(help=NAME)
def inventory(c: Context, name: str = "default") -> None:
    """Print an Ansible inventory of the practice hosts."""
    print(_lab(name).inventory(), end="")


@task(
    help={
        **NAME,
        "folder": "The application's folder, with its Dockerfile.",
        "image": "NAME:TAG in the practice registry.",
        "host": "On which host (default: h1).",
        "platform": "linux/arm64: for another architecture than the host's (under QEMU).",
    }
)
def build(
    c: Context, folder: str, image: str, host: str = "h1", platform: str = "", name: str = "default"
) -> None:
    """Build an application's image on a practice host, into the practice registry."""
    from pathlib import Path

    from longshore.lab.building import build as build_image

    print(build_image(_lab(name), Path(folder), image, host=host, platform=platform))


@task(help={**NAME, "purge": "Also remove the cached roots and images, of all labs."})
def down(c: Context, purge: bool = False, name: str = "default") -> None:
    """Remove the practice hosts and everything they did to this machine."""
    lab = _lab(name)
    there = lab.state.number is not None
    lab.down(purge=purge)
    gone = f"The lab '{name}' is gone." if there else f"There is no lab '{name}'."
    print(f"{gone} So is the cache." if purge else gone)


ns = Collection("lab", up, status, ssh, stop, start, cut, heal, inventory, build, down)
