"""What comes up beside what serves gets less of the CPU until it is good: on a small host, requests go first.

It is a weight, no limit: where there is CPU to spare, nothing is slower. It is written into the container's
control group and not by the engine's update, which can't give back "no share asked for"; a container that is
started again has the usual one. Sources: the kernel's sched-design-CFS (cpu.shares), cgroup-v2 (cpu.weight).
"""

import os
from typing import Dict, Optional

from longshore.agent.engine import Engine

_GROUPS = "/sys/fs/cgroup"
_PROC = "/proc"
_LESS = {"cpu.shares": "256", "cpu.weight": "25"}
_USUAL = {"cpu.shares": "1024", "cpu.weight": "100"}
"""The kernel's, which a container has that asks for none."""


def begin(engine: Engine, ident: str) -> None:
    """Have a container that was just started wait for others. One that asks for a share of its own is left
    alone, and so is one whose control group can't be written."""
    _change(engine, ident, _USUAL, _LESS)


def end(engine: Engine, ident: str) -> None:
    """It is one as all others again."""
    _change(engine, ident, _LESS, _USUAL)


def _change(engine: Engine, ident: str, before: Dict[str, str], after: Dict[str, str]) -> None:
    full = engine.container(ident) or {}
    pid = int((full.get("State") or {}).get("Pid") or 0)
    if not pid or (full.get("HostConfig") or {}).get("CpuShares"):
        return
    try:
        path = _file_of(pid)
        if path is None:
            return
        name = os.path.basename(path)
        with open(path, encoding="ascii") as file:
            as_expected = file.read().strip() == before[name]
        if as_expected:
            with open(path, "w", encoding="ascii") as file:
                file.write(after[name])
    except OSError:
        pass  # not root, or it has just ended


def _file_of(pid: int) -> Optional[str]:
    """Where the weight of a process's control group is written: with v1 where that has the CPU, else v2."""
    unified = None
    with open(f"{_PROC}/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            _, controllers, group = line.rstrip("\n").split(":", 2)
            if "cpu" in controllers.split(","):
                return os.path.join(_GROUPS, controllers, group.lstrip("/"), "cpu.shares")
            if not controllers:
                unified = os.path.join(_GROUPS, group.lstrip("/"), "cpu.weight")
    return unified
