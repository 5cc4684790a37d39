"""The containers' logs of many hosts as one stream of lines, in the order in which they were written.

Every line carries the engine's own time of it, so what several containers wrote is put in order by the hosts'
clocks. Following goes on when a container is replaced: each host is asked for new ones every two seconds.
"""

from __future__ import annotations

import heapq
import queue
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from longshore.daily.engine import GoneError, told
from longshore.errors import ConnectionLostError, LongshoreError
from longshore.records import dataclass
from longshore.remote import Link

if TYPE_CHECKING:
    import docker

_LOOK_AGAIN = 2.0
_TIME = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)) ")
_LONGEST = 1 << 20
"""Bytes of a line that are waited for: a container that never ends its line must not fill our memory."""
_AHEAD = 10_000
"""Lines read ahead of what was shown."""


@dataclass(frozen=True)
class LogLine:
    """A line that a container has written. ``at`` is the engine's time (RFC 3339, to the nanosecond)."""

    at: str
    host: str
    service: str
    container: str
    text: str


@dataclass(frozen=True)
class Wanted:
    """Which lines: of a project's services (none: all), since a time (seconds since the epoch), and at most
    ``tail`` of each container (``None``: all)."""

    project: str
    services: tuple[str, ...] = ()
    since: float | None = None
    tail: int | None = None


@dataclass(frozen=True)
class _Container:
    ident: str
    name: str
    service: str
    running: bool


def read(link: Link, wanted: Wanted) -> list[LogLine]:
    """The lines that are there, in their order. Raises ``HostError``."""
    client = link.docker()
    found = _containers(client, link.host, wanted)
    return list(heapq.merge(*(_whole(client, link.host, one, wanted) for one in found), key=_when))


def merge(lists: Iterable[list[LogLine]]) -> Iterator[LogLine]:
    """Several hosts' lines as one, in their order."""
    return heapq.merge(*lists, key=_when)


@dataclass
class Follower:
    """Follows the logs of several hosts until :meth:`stop`, from threads that don't keep Python from ending.

    ``seen`` is what :func:`read` gave: following goes on behind it, without a gap and without doubles.
    """

    jobs: Sequence[tuple[Link, Wanted]]
    """A host may be there several times, for several apps."""
    seen: Iterable[LogLine] = ()
    _queue: queue.Queue[LogLine | LongshoreError | None] = field(
        default_factory=lambda: queue.Queue(maxsize=_AHEAD)
    )
    _over: threading.Event = field(default_factory=threading.Event)

    def lines(self) -> Iterator[LogLine | LongshoreError]:
        """Lines as they come, and the error of each host that is lost. Ends when no host is left."""
        last: dict[tuple[str, str], str] = {}
        for line in self.seen:
            last[(line.host, line.container)] = line.at
        left = len(self.jobs)
        for link, wanted in self.jobs:
            threading.Thread(target=self._host, args=(link, wanted, last), daemon=True).start()
        while left:
            item = self._next()
            if item is None:
                left -= 1
            else:
                yield item

    def stop(self) -> None:
        """Begin nothing more. Streams end with their connections."""
        self._over.set()

    def _next(self) -> LogLine | LongshoreError | None:
        while True:
            try:
                # In turns: a wait without an end can't be ended by Ctrl-C on every platform.
                return self._queue.get(timeout=1.0)
            except queue.Empty:
                continue

    def _host(self, link: Link, wanted: Wanted, last: dict[tuple[str, str], str]) -> None:
        following: set[str] = set()
        read: set[str] = set()  # what has stopped, and was read to its end
        try:
            client = link.docker()
            while not self._over.is_set():
                for one in _containers(client, link.host, wanted):
                    if one.running:
                        read.discard(one.ident)
                    elif one.ident in read:
                        continue
                    if one.ident not in following:
                        following.add(one.ident)
                        read.add(one.ident)
                        job = (client, link.host, one, wanted, last, following)
                        threading.Thread(target=self._container, args=job, daemon=True).start()
                # A container that comes later is shown from its first line on; one that is back had others.
                wanted = Wanted(wanted.project, wanted.services, wanted.since)
                self._over.wait(_LOOK_AGAIN)
        except LongshoreError as error:
            if not self._over.is_set():
                self._queue.put(error)
        self._queue.put(None)

    def _container(
        self,
        client: docker.DockerClient,
        host: str,
        one: _Container,
        wanted: Wanted,
        last: dict[tuple[str, str], str],
        following: set[str],
    ) -> None:
        try:
            before = last.get((host, one.name), "")
            if not before and wanted.tail == 0:
                # Where its log ends now, for when it is followed again after a restart.
                for line in _stream(client, host, one, since=None, tail=1, follow=False):
                    before = last[(host, one.name)] = line.at
            since = _seconds(before) if before else wanted.since
            tail = None if before else wanted.tail or None
            for line in _stream(client, host, one, since=since, tail=tail, follow=one.running):
                if self._over.is_set():
                    return
                if line.at > before:
                    last[(host, one.name)] = line.at
                    self._queue.put(line)
        except (GoneError, ConnectionLostError):
            following.discard(one.ident)  # the host's own thread finds out which of them it was
        except LongshoreError as error:
            self._queue.put(error)  # said once: it stays in ``following``, so it is not tried again
        else:
            following.discard(one.ident)


def _whole(client: docker.DockerClient, host: str, one: _Container, wanted: Wanted) -> list[LogLine]:
    return list(_stream(client, host, one, since=wanted.since, tail=wanted.tail, follow=False))


def _containers(client: docker.DockerClient, host: str, wanted: Wanted) -> list[_Container]:
    with told(host, "list the containers"):
        found: list[dict[str, Any]] = client.api.containers(
            all=True,
            filters={"label": [f"com.docker.compose.project={wanted.project}"]},
        )
    result = []
    for raw in found:
        labels = raw.get("Labels") or {}
        service = labels.get("com.docker.compose.service", "")
        one_off = labels.get("com.docker.compose.oneoff", "").lower() == "true"
        if not one_off and (not wanted.services or service in wanted.services):
            name = (raw.get("Names") or ["/?"])[0].lstrip("/")
            running = raw.get("State") in ("running", "paused", "restarting")
            result.append(_Container(raw["Id"], name, service, running))
    return sorted(result, key=lambda one: one.name)


def _stream(
    client: docker.DockerClient,
    host: str,
    one: _Container,
    *,
    since: float | None,
    tail: int | None,
    follow: bool,
) -> Iterator[LogLine]:
    with told(host, f"read the log of {one.name}"):
        pieces = client.api.logs(
            one.ident,
            stdout=True,
            stderr=True,
            stream=True,
            follow=follow,
            timestamps=True,
            # The engine takes whole seconds; what is older within the first one is left out by the caller.
            since=int(since) if since and since >= 1 else None,
            tail="all" if tail is None else tail,
        )
        for at, text in lines_of(pieces):
            if since is None or not at or _seconds(at) >= since:
                yield LogLine(at, host, one.service, one.name, text)


class Lines:
    """Takes pieces of output and gives whole lines to ``on_line``."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._rest = b""

    def write(self, data: bytes) -> None:
        *whole, self._rest = (self._rest + data).split(b"\n")
        for line in whole:
            self._on_line(line.rstrip(b"\r").decode("utf-8", "replace"))

    def close(self) -> None:
        """Hand on what has no newline at its end."""
        if self._rest:
            self._on_line(self._rest.decode("utf-8", "replace"))
            self._rest = b""


def lines_of(pieces: Iterable[bytes]) -> Iterator[tuple[str, str]]:
    """The engine's pieces as lines with their times.

    The engine cuts lines of more than 16 KiB, and puts the same time before each part. What a container was
    killed in the middle of has no end either, but another time follows: the next line's.
    """
    rest = b""
    for piece in pieces:
        if rest and (timed := _TIME.match(piece)):
            if rest.startswith(timed[0]):
                piece = piece[timed.end() :]
            else:
                yield _parse(rest)
                rest = b""
        rest += piece
        *whole, rest = rest.split(b"\n")
        if len(rest) > _LONGEST:
            whole, rest = [*whole, rest], b""
        for line in whole:
            yield _parse(line)
    if rest:
        yield _parse(rest)


def _parse(line: bytes) -> tuple[str, str]:
    found = _TIME.match(line)
    at, text = (found[1].decode(), line[found.end() :]) if found else ("", line)
    return _comparable(at), text.rstrip(b"\r").decode("utf-8", "replace")


def _comparable(at: str) -> str:
    """Times of one length, so that they compare as text: nine digits after the point (Go leaves out
    zeros at the end)."""
    if not at.endswith("Z"):
        return at
    whole, _, fraction = at[:-1].partition(".")
    return f"{whole}.{fraction:0<9}Z"


def _seconds(at: str) -> float:
    """The engine's time in seconds since the epoch."""
    whole = datetime.strptime(at[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
    fraction = at[19:].rstrip("Z")
    return whole.timestamp() + (float(f"0{fraction}") if fraction.startswith(".") else 0.0)


def _when(line: LogLine) -> str:
    return line.at
