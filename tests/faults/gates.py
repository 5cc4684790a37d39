"""Stops the agent at an exact place, until the runner lets it go on.

The runner's controller sends this module along with the agent (:mod:`tests.faults.controller`); nothing of it
is in Longshore itself. It runs on the host, so it uses the standard library only, and Python 3.9's.

A gate is armed by the file ``at`` (its text is the gate's name) in ``FOLDER``, which is in the host's
``/run`` and so gone after a power cut. The first agent that comes by writes its process id to ``reached``
and waits until ``at`` is gone. The file ``clock`` (seconds) moves the clock that the agent reads.
"""

import functools
import os
import time
from collections.abc import Callable
from typing import Any, Union

FOLDER = "/run/longshore-faults"
Gate = Union[str, Callable[..., str]]  # noqa: UP007 - the host's Python may be 3.9
LONGEST = 90.0
"""Seconds: a runner that died must not leave an agent waiting for ever."""


def stop_at(name: str) -> None:
    """Wait here if this gate is armed. Each is passed by one agent, once."""
    at = os.path.join(FOLDER, "at")
    try:
        with open(at) as file:
            if file.read().strip() != name:
                return
        handle = os.open(os.path.join(FOLDER, "reached"), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError:
        return
    os.write(handle, b"%d\n" % os.getpid())
    os.close(handle)
    until = time.monotonic() + LONGEST
    while os.path.exists(at) and time.monotonic() < until:
        time.sleep(0.01)


def before(owner: Any, method: str, gate: Gate) -> None:
    """Stop before ``owner.method`` runs; ``gate`` is a name, or gives one from the arguments."""
    real = getattr(owner, method)

    @functools.wraps(real)
    def stopping(self: Any, *args: Any, **kwargs: Any) -> Any:
        stop_at(gate(*args) if callable(gate) else gate)
        return real(self, *args, **kwargs)

    setattr(owner, method, stopping)


def after(owner: Any, method: str, gate: Gate) -> None:
    """Stop when ``owner.method`` has done its work."""
    real = getattr(owner, method)

    @functools.wraps(real)
    def stopping(self: Any, *args: Any, **kwargs: Any) -> Any:
        value = real(self, *args, **kwargs)
        stop_at(gate(*args) if callable(gate) else gate)
        return value

    setattr(owner, method, stopping)


def in_the_middle_of_compose(owner: Any) -> None:
    """Stop at the first word that Compose says of a container, while it works on."""
    real = owner.up

    @functools.wraps(real)
    def up(self: Any, on_line: Callable[[str], None], *args: Any, **kwargs: Any) -> Any:
        def look(line: str) -> None:
            if "Container" in line:
                stop_at("switching")
            on_line(line)

        return real(self, look, *args, **kwargs)

    owner.up = up


def in_the_middle_of_a_migration(owner: Any) -> None:
    """Stop at the first word of a one-off container, while that works on."""
    real = owner.one_off

    @functools.wraps(real)
    def one_off(self: Any, service: str, words: Any, name: str, on_line: Any, *more: Any, **rest: Any) -> Any:
        def look(line: str) -> None:
            if "migrating" in line:
                stop_at("migrating")
            on_line(line)

        return real(self, service, words, name, look, *more, **rest)

    owner.one_off = one_off


def move_the_clock() -> None:
    """``time.time()`` of the agent is what the file ``clock`` says; monotonic time is the kernel's."""
    real = time.time

    def moved() -> float:
        try:
            with open(os.path.join(FOLDER, "clock")) as file:
                return real() + float(file.read())
        except (OSError, ValueError):
            return real()

    time.time = moved


def install() -> None:
    """Put the gates in. A name that is no longer there fails at once: a gate that is never reached is told
    by the runner, but not why."""
    from longshore.agent import compose, engine, health, journal, main, store

    after(main.Agent, "lock", "locked")
    before(store.AppStore, "_keep_content", "staging")
    before(engine.Engine, "pull", "pulling")
    before(journal.Journal, "begin", "not begun")
    after(journal.Journal, "begin", "begun")
    in_the_middle_of_compose(compose.Compose)
    in_the_middle_of_a_migration(compose.Compose)
    before(health.Watch, "run", "verifying")
    before(store.AppStore, "write_committed", "committing")
    after(store.AppStore, "write_committed", "written")
    after(store.AppStore, "set_current", "moved")
    before(journal.Journal, "end", lambda step, *_: "ending: " + step)
    after(journal.Journal, "end", lambda step, *_: "ended: " + step)
    move_the_clock()
