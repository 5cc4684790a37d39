"""The threads of a rollout: one step on many hosts at once, and what Ctrl-C does meanwhile."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from longshore.console import Output
from longshore.errors import LongshoreError


class Crew:
    """Threads that are made once and used for every step. ``parallel``: so many hosts at once."""

    def __init__(self, parallel: int, output: Output) -> None:
        self.abandoned = False
        """After a second Ctrl-C: steps still wait for the hosts' answers, so nothing else may be asked."""
        self._output = output
        self._pool = ThreadPoolExecutor(max_workers=max(1, parallel), thread_name_prefix="host")

    def each(
        self,
        hosts: Iterable[str],
        step: Callable[[str], Any],
        *,
        before: set[str] | None = None,
        note: set[str] | None = None,
        then: str = "then all goes back",
    ) -> dict[str, LongshoreError]:
        """Do a step on these hosts at once, wait for all of them, and return what went wrong, by host.

        ``before`` gets a host as soon as the step may have changed it, ``note`` when it has succeeded.
        Ctrl-C is kept until the step has ended on all hosts, which would finish it all the same; then it is
        raised, unless ``then``, what follows, is empty: a commit or a way back isn't stopped halfway. A
        second one is raised at once.
        """
        done: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
        futures: dict[Future[Any], str] = {}
        errors: dict[str, LongshoreError] = {}
        for host in hosts:
            if before is not None:
                before.add(host)
            future = self._pool.submit(step, host)
            futures[future] = host
            future.add_done_callback(done.put)
        interrupted = False
        left = len(futures)
        while left:
            try:
                future = self._next(done)
            except KeyboardInterrupt:
                if interrupted:
                    self.abandoned = True
                    self._output.say("The hosts go back alone now; `invoke status` shows when they have.")
                    raise
                interrupted = True
                comes = f", {then}" if then else ""
                self._output.say(f"Ctrl-C: the step is finished{comes}. Again: the hosts do that alone.")
                continue
            left -= 1
            error = future.exception()
            host = futures[future]
            if error is None:
                if note is not None:
                    note.add(host)
            elif isinstance(error, LongshoreError):
                errors[host] = error
                self._output.step(host, "failed", error.message)
            else:
                raise error
        if interrupted and then:
            raise KeyboardInterrupt
        return errors

    def _next(self, done: queue.SimpleQueue[Future[Any]]) -> Future[Any]:
        return done.get()

    def close(self) -> None:
        """No more steps. Threads under way end with their sessions."""
        self._pool.shutdown(wait=False, cancel_futures=True)
