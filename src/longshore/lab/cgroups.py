"""A host's own control group, below ``longshore-lab/<lab>/<host>``, on machines with cgroup v1 or v2.

A host gets a cgroup namespace, sees its own group as the root, and can't leave it; what its engine makes
there goes with the host.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from longshore.lab.commands import LabError, wait_until
from longshore.records import dataclass

TOP = "longshore-lab"


@dataclass(frozen=True)
class Hierarchy:
    """One mounted tree of control groups. ``options`` mount it again; v2 has none."""

    path: Path
    options: str
    v2: bool


def hierarchies(mountinfo: str | None = None) -> list[Hierarchy]:
    """The trees of this machine: the single v2 one, or those of v1 with their controllers.

    ``mountinfo`` is the text of ``/proc/self/mountinfo`` (see proc(5)). On a machine with both, v1
    counts, as it does for the Docker engine. Raises ``LabError`` when there is none.
    """
    found: list[Hierarchy] = []
    for line in (mountinfo or Path("/proc/self/mountinfo").read_text()).splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        path = Path(before.split()[4])
        if kind == "cgroup2":
            found.append(Hierarchy(path, "", v2=True))
        elif kind == "cgroup":
            kept = [one for one in options.split(",") if one not in ("rw", "ro", "xattr", "clone_children")]
            kept = [one for one in kept if not one.startswith(("release_agent=", "noprefix"))]
            # A tree with a name only needs "none" to be mounted again.
            if all(one.startswith("name=") for one in kept):
                kept.insert(0, "none")
            found.append(Hierarchy(path, ",".join(kept), v2=False))
    first = [one for one in found if not one.v2] or found[:1]
    if not first:
        raise LabError(
            "This machine has no control groups mounted at /sys/fs/cgroup.",
            hint="Mount cgroup2 there: 'mount -t cgroup2 cgroup2 /sys/fs/cgroup'.",
        )
    return list({one.path: one for one in first}.values())


def create(lab: str, host: str, trees: list[Hierarchy]) -> list[Path]:
    """Make the host's group in every tree and return their folders."""
    return [_create(tree, (TOP, lab, host)) for tree in trees]


def leaf(trees: list[Hierarchy], groups: list[Path]) -> Path | None:
    """The ``cgroup.procs`` of the group for the host's own processes, below its own where CPU is shared out.

    A v2 group that hands controllers down may hold no process. With v1 it may, and then each of the engine's
    threads would count as much as all containers together: under systemd, a service counts as one.
    """
    for tree, group in zip(trees, groups, strict=True):
        if tree.v2 or "cpu" in tree.options.split(","):
            (group / "init").mkdir(exist_ok=True)
            return group / "init" / "cgroup.procs"
    return None


def _create(tree: Hierarchy, steps: tuple[str, ...]) -> Path:
    # Another lab that goes down removes the group above when it is empty, perhaps just now.
    for left in range(20, -1, -1):
        path = tree.path
        try:
            for step in steps:
                if tree.v2:
                    _delegate(path)
                path = path / step
                path.mkdir(exist_ok=True)
                if not tree.v2:
                    _inherit_cpuset(path)
            return path
        except OSError as gone:
            # A group removed between the open and the read of its file answers "no such device"; one that was
            # there when it was to be made, and then isn't, "file exists".
            if not left or gone.errno not in (errno.ENOENT, errno.ENODEV, errno.EEXIST):
                raise
    raise AssertionError("unreachable")


def _delegate(path: Path) -> None:
    """Let the children of a v2 group use every controller it has itself."""
    available = (path / "cgroup.controllers").read_text().split()
    on = (path / "cgroup.subtree_control").read_text().split()
    for controller in available:
        if controller in on:
            continue
        try:
            (path / "cgroup.subtree_control").write_text(f"+{controller}")
        except OSError as refused:
            if refused.errno != errno.EBUSY:
                continue  # some controllers can't be handed down; the engine says what it misses
            # A group with processes can't hand controllers down (unless it is the machine's own root):
            # they move into a leaf beside our groups, as in a container.
            leaf = path / "init"
            leaf.mkdir(exist_ok=True)
            for pid in (path / "cgroup.procs").read_text().split():
                with contextlib.suppress(OSError):
                    (leaf / "cgroup.procs").write_text(pid)
            with contextlib.suppress(OSError):
                (path / "cgroup.subtree_control").write_text(f"+{controller}")


def _inherit_cpuset(path: Path) -> None:
    """A new v1 cpuset is empty and takes no process until it has processors and memory nodes."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        if (path / name).exists() and not (path / name).read_text().strip():
            (path / name).write_text((path.parent / name).read_text())


def pin(lab: str, host: str, trees: list[Hierarchy], processor: int) -> None:
    """Hold a host, and what its engine starts, to one of this machine's processors.

    Raises ``LabError`` where it has no such processor, or where this isn't ours to say.
    """
    for tree in trees:
        if not tree.v2 and "cpuset" not in tree.options.split(","):
            continue
        group = tree.path / TOP / lab / host
        # With v1 a group's processors are its own, and must be among those of the group above.
        groups = [group] if tree.v2 else [Path(at) for at, _, _ in os.walk(group, topdown=False)]
        for each in groups:
            try:
                (each / "cpuset.cpus").write_text(f"{processor}\n")
            except OSError as refused:
                raise LabError(f"{host} can't be held to processor {processor}: {refused.strerror}") from None


def remove(lab: str, host: str | None, trees: list[Hierarchy]) -> None:
    """Remove the group of a host, or with ``None`` the lab's, and the groups above when they are empty.

    The processes in it are gone already; the kernel may need a moment to notice. Raises ``LabError``
    when a group still holds processes after 5 seconds.
    """
    for tree in trees:
        lab_group = tree.path / TOP / lab
        group = lab_group / host if host else lab_group
        if not wait_until(lambda group=group: _remove_tree(group), timeout=5):  # type: ignore[misc]
            raise LabError(f"The control group {group} still holds processes.")
        for above in (lab_group, tree.path / TOP):
            with contextlib.suppress(OSError):
                above.rmdir()


def _remove_tree(group: Path) -> bool:
    for folder, _, _ in os.walk(group, topdown=False):
        with contextlib.suppress(OSError):
            Path(folder).rmdir()
    return not group.exists()
