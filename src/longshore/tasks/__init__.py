"""The tasks, as Invoke lists them, and the program ``longshore`` over the same ones.

Only thin functions here and in the modules beside: what they do is imported when they do it.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from importlib import import_module
from types import ModuleType

import longshore.bytecode
import longshore.lean  # isort: split

from invoke.collection import Collection
from invoke.tasks import Task

from longshore.tasks.typed import TypedProgram

_MODULES = (
    "inventory",
    "env",
    "render",
    "dockerfile",
    "trust",
    "bootstrap",
    "doctor",
    "images",
    "plan",
    "deploy",
    "status",
    "balancer",
    "audit",
    "looking",
    "acting",
    "maintaining",
    "draining",
    "talk",
    "databases",
    "upkeep",
)
_NAMESPACES = ("lab", "lock", "proxy", "secrets")


def _tasks_of(module: ModuleType) -> list[Task]:  # type: ignore[type-arg]
    return [value for value in vars(module).values() if isinstance(value, Task)]


def _collect() -> Collection:
    collection = Collection()
    for name in _MODULES:
        for one in _tasks_of(import_module(f"longshore.tasks.{name}")):
            collection.add_task(one)
    for name in _NAMESPACES:
        inner = Collection(name)
        for one in _tasks_of(import_module(f"longshore.tasks.{name}")):
            inner.add_task(one)
        collection.add_collection(inner)
    return collection


ns = _collect()
longshore.bytecode.as_before()

# Python's last act is to look for garbage among everything that was imported: a fifth of a short run's CPU.
# What is frozen isn't looked at; files are flushed and threads ended all the same.
atexit.register(gc.freeze)
# What is imported stays, so that looking through it every 700 objects finds nothing.
gc.set_threshold(20_000, 20, 20)


def main() -> None:
    """The console script ``longshore``: the same tasks, without a tasks.py."""
    try:
        version = longshore.__version__
        TypedProgram(name="longshore", binary="longshore", namespace=ns, version=version).run()
    except BrokenPipeError:  # `longshore --list | head`: Invoke's own listing is no task of ours
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
