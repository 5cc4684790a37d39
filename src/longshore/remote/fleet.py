"""Doing one thing on many hosts at once, with an outcome for each."""

from __future__ import annotations

import atexit
import concurrent.futures
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Generic, TypeVar

from longshore.errors import LongshoreError
from longshore.records import dataclass
from longshore.remote.connections import Connections
from longshore.remote.session import Connector, Link

if TYPE_CHECKING:
    from longshore.inventory.model import Environment

T = TypeVar("T")

_SETTLING = 1.0
"""Seconds that threads under way have at Python's end."""

PARALLEL = 20
"""Hosts at once. Over about 64 threads Python gets slower, not faster."""


class DefectError(Exception):
    """Something of ours broke while it worked for ``host``; ``__cause__`` is what."""

    def __init__(self, host: str, error: BaseException) -> None:
        super().__init__(f"{host}: {type(error).__name__}: {error}")
        self.host = host


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """What came of one host: a value, or the error with its sentence."""

    value: T | None = None
    error: LongshoreError | None = None

    @property
    def ok(self) -> bool:
        """Whether there is a value (which may be None)."""
        return self.error is None

    def get(self) -> T:
        """The value. Raises the host's error when there is none."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]


def each(
    hosts: Iterable[str],
    fn: Callable[[str], T],
    *,
    parallel: int = PARALLEL,
    on_done: Callable[[str, Outcome[T]], None] | None = None,
) -> dict[str, Outcome[T]]:
    """Run ``fn`` for every host's name, at most ``parallel`` at once; outcomes are in the names' order.

    A ``LongshoreError`` is that host's outcome and stops no other. Anything else is a defect: hosts that
    haven't begun are left alone, those under way are waited for, and ``DefectError`` is raised. Ctrl-C
    likewise begins nothing more and is raised at once: threads under way end with their connections.
    ``on_done`` is called in the caller's thread.
    """
    wanted = list(dict.fromkeys(hosts))
    outcomes: dict[str, Outcome[T]] = {}
    if not wanted:
        return outcomes
    pool = _DaemonPool(max(1, min(parallel, len(wanted))))
    defect: tuple[str, BaseException] | None = None
    futures = {pool.submit(fn, host): host for host in wanted}
    # ``as_completed`` takes every future's lock for each that is done.
    done: queue.SimpleQueue[concurrent.futures.Future[T]] = queue.SimpleQueue()
    for future in futures:
        future.add_done_callback(done.put)
    try:
        for _ in wanted:
            future = done.get()
            host = futures[future]
            if future.cancelled():
                continue
            error = future.exception()
            if error is None:
                outcome = Outcome(value=future.result())
            elif isinstance(error, LongshoreError):
                outcome = Outcome(error=error)
            else:
                defect = defect or (host, error)
                pool.cancel()
                continue
            outcomes[host] = outcome
            if on_done is not None:
                on_done(host, outcome)
    finally:
        pool.cancel()
    if defect is not None:
        raise DefectError(defect[0], defect[1]) from defect[1]
    return {host: outcomes[host] for host in wanted}


class Links:
    """The links of one run over an environment, opened when a host is first worked on and then kept.

    A context manager: leaving it closes every link, which is how agents learn that the run is over.
    ``connector`` is for tests; without one, hosts are reached as the inventory says.
    """

    def __init__(
        self, environment: Environment, connector: Connector | None = None, *, accept_new: bool = False
    ) -> None:
        self._environment = environment
        self._connections = None if connector else Connections.of(environment, accept_new=accept_new)
        self._connector: Connector = connector or self._connections  # type: ignore[assignment]
        self._lock = threading.Lock()
        self._links: dict[str, Link] = {}
        self._ahead: _DaemonPool | None = None
        self._coming: dict[str, concurrent.futures.Future[Link]] = {}
        self._closed = False

    def open_ahead(self, hosts: Iterable[str]) -> None:
        """Begin to connect and to start the agents, and return at once.

        What a command still has to prepare is done meanwhile. A host that can't be reached is told of by
        :meth:`link`, as if it were tried then.
        """
        wanted = list(dict.fromkeys(hosts))
        self._ahead = _DaemonPool(max(1, min(self._environment.parallel, len(wanted))))
        with self._lock:
            self._coming = {host: self._ahead.submit(self._with_session, host) for host in wanted}

    def link(self, host: str) -> Link:
        """The link of the host with this name, connected on first use. Raises ``HostError``."""
        with self._lock:
            found = self._links.get(host)
            coming = self._coming.get(host)
        if found is not None:
            return found
        if coming is None:
            return self._keep(host, self._made(host))
        try:
            return coming.result()
        except concurrent.futures.CancelledError:
            raise LongshoreError("the run is over.", where=host) from None

    def again(self, host: str) -> Link:
        """A new link to a host whose old one broke. Raises ``HostError``."""
        with self._lock:
            old = self._links.pop(host, None)
            self._coming.pop(host, None)
        if old is not None:
            with contextlib.suppress(LongshoreError):
                old.close()
        return self._keep(host, self._made(host))

    def _made(self, host: str) -> Link:
        return self._connector(self._environment.hosts[host])

    def _with_session(self, host: str) -> Link:
        made = self._made(host)
        try:
            made.session()
        except BaseException:
            made.close()
            raise
        return self._keep(host, made)

    def _keep(self, host: str, made: Link) -> Link:
        with self._lock:
            closed = self._closed
            kept = made if closed else self._links.setdefault(host, made)
        if closed or kept is not made:
            made.close()
        if closed:
            raise LongshoreError("the run is over.", where=host)
        return kept

    def each(
        self,
        hosts: Iterable[str],
        fn: Callable[[Link], T],
        *,
        on_done: Callable[[str, Outcome[T]], None] | None = None,
    ) -> dict[str, Outcome[T]]:
        """:func:`each` with the host's link. One that can't be reached has its error as outcome."""
        return each(
            hosts, lambda host: fn(self.link(host)), parallel=self._environment.parallel, on_done=on_done
        )

    def close(self) -> None:
        """Close every link."""
        if self._ahead is not None:
            self._ahead.cancel()
        with self._lock:
            self._closed = True
            links = list(self._links.values())
            self._links.clear()
        for link in links:
            with contextlib.suppress(LongshoreError):
                link.close()
        if self._connections is not None:
            self._connections.close()

    def __enter__(self) -> Links:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@atexit.register
def _settle() -> None:
    """Let threads end that are about to.

    One that comes back from a handshake while Python is going away takes the process with it, as it is
    unwound through code that isn't Python's: "FATAL: exception not rethrown" and exit code 134.
    """
    until = time.monotonic() + _SETTLING
    for thread in threading.enumerate():
        if thread.daemon and thread is not threading.current_thread():
            thread.join(max(0.0, until - time.monotonic()))


class _DaemonPool:
    """A thread pool whose threads don't keep Python from ending: after Ctrl-C nobody waits for a dead host.

    ``ThreadPoolExecutor`` joins its threads at exit.
    """

    def __init__(self, threads: int) -> None:
        self._lock = threading.Lock()
        self._todo: list[tuple[concurrent.futures.Future[object], Callable[[], object]]] = []
        self._left = threads

    def submit(self, fn: Callable[[str], T], host: str) -> concurrent.futures.Future[T]:
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        with self._lock:
            self._todo.append((future, lambda: fn(host)))  # type: ignore[arg-type]
            start = self._left > 0
            self._left -= start
        if start:
            threading.Thread(target=self._work, daemon=True, name=f"host-{host}").start()
        return future

    def cancel(self) -> None:
        with self._lock:
            todo, self._todo = self._todo, []
        for future, _ in todo:
            future.cancel()
            future.set_running_or_notify_cancel()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._todo:
                    self._left += 1
                    return
                future, call = self._todo.pop(0)
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(call())
            except BaseException as error:  # the future carries it to the caller's thread
                future.set_exception(error)
