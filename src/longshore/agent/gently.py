"""What comes up beside what serves gets less of the CPU until it is good: on a small host, requests go first.

For some seconds it gets what nobody else wants, then a quarter of a container's usual weight: where others
never rest, it comes up all the same. It is no limit: where there is CPU to spare, nothing is slower. It is
written into the container's control group and not by the engine's update, which can't give back "no share
asked for"; a container that is started again has the usual one. Sources: the kernel's sched-design-CFS
(cpu.shares), cgroup-v2 (cpu.weight), kernel/sched/core.c (cpu.idle; Linux 5.15).
"""

import os
import threading
from typing import Dict, Optional

from longshore.agent.engine import Engine

_GROUPS = "/sys/fs/cgroup"
_PROC = "/proc"
_LESS = {"cpu.shares": "256", "cpu.weight": "25"}
_USUAL = {"cpu.shares": "1024", "cpu.weight": "100"}
"""The kernel's, which a container has that asks for none."""
_IDLE = "cpu.idle"
_POLITE = 10.0
"""Seconds in which it only gets what nobody else wants."""
_waiting: Dict[str, threading.Timer] = {}
_alone = threading.RLock()


def begin(engine: Engine, ident: str) -> None:
    """Have a container that was just started wait for others. One that asks for a share of its own is left
    alone, and so is one whose control group can't be written."""
    path = _weight_of(engine, ident)
    if path is None or _read(path) != _USUAL[os.path.basename(path)]:
        return
    if not _write(_idle(path), "1"):
        _write(path, _LESS[os.path.basename(path)])
        return
    timer = _waiting[path] = threading.Timer(_POLITE, _insist, [path])
    timer.daemon = True
    timer.start()


def end(engine: Engine, ident: str) -> None:
    """It is one as all others again."""
    path = _weight_of(engine, ident)
    if path is None:
        return
    with _alone:
        timer = _waiting.pop(path, None)
        if timer is not None:
            timer.cancel()
        if _read(_idle(path)) == "1":
            _write(_idle(path), "0")  # which gives it the usual weight, too
        elif _read(path) == _LESS[os.path.basename(path)]:
            _write(path, _USUAL[os.path.basename(path)])


def _insist(path: str) -> None:
    with _alone:
        if _waiting.pop(path, None) is not None and _write(_idle(path), "0"):
            _write(path, _LESS[os.path.basename(path)])


def _idle(path: str) -> str:
    return os.path.join(os.path.dirname(path), _IDLE)


def _weight_of(engine: Engine, ident: str) -> Optional[str]:
    full = engine.container(ident) or {}
    pid = int((full.get("State") or {}).get("Pid") or 0)
    if not pid or (full.get("HostConfig") or {}).get("CpuShares"):
        return None
    try:
        return _file_of(pid)
    except OSError:
        return None  # it has just ended


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


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def _write(path: str, text: str) -> bool:
    """Whether it could be written: we may not be root, the kernel too old, the container gone."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(handle, text.encode())
    except OSError:
        return False
    finally:
        os.close(handle)
    return True
