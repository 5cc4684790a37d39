"""Requests as users send them, at a steady rate, and what became of each.

A request fails when it is refused, reset, cut short, answered wrongly or with another status than 200, or
late (over ``late`` seconds more than it asked for). Nothing is tried again.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import select
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

DOWNLOAD = 1_000_000
HOST = "shop.test"


@dataclass(frozen=True)
class Outcome:
    """One request: its kind, when it began (monotonic, s), how long it took, what was wrong ("" for nothing),
    and the release that answered."""

    kind: str
    began: float
    took: float
    wrong: str
    release: str


@dataclass
class Load:
    """Sends ``rate`` requests a second to the proxies at ``places`` (address, port) until ``stop``."""

    places: list[tuple[str, int]]
    rate: float = 200.0
    slow: float = 6.0
    late: float = 5.0
    cuts: bool = True
    """Whether a WebSocket that ends without a goodbye is wrong: a proxy that goes can't say one."""
    outcomes: list[Outcome] = field(default_factory=list)
    stopping: bool = False
    _idle: dict[tuple[str, int], list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]] = field(
        default_factory=dict
    )

    async def run(self) -> None:
        """Until ``stopping`` is set; then what is under way is finished."""
        tasks: set[asyncio.Task[None]] = set()
        sockets = [asyncio.create_task(self._websockets(place)) for place in self.places]
        number = 0
        began = time.monotonic()
        while not self.stopping:
            due = began + number / self.rate
            pause = due - time.monotonic()
            if pause > 0:
                await asyncio.sleep(pause)
            task = asyncio.create_task(self._one(number))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            number += 1
        await asyncio.gather(*tasks, *sockets)
        for idle in self._idle.values():
            for _, writer in idle:
                writer.close()

    async def _one(self, number: int) -> None:
        place = self.places[number % len(self.places)]
        turn = number // len(self.places)
        if turn % 200 == 7:
            path = f"/slow?s={self.slow:g}"
            await self._timed("slow", place, lambda: self._request(place, "GET", path, b""), self.slow)
        elif turn % 200 == 107:
            path, wanted = f"/download?s={self.slow:g}", "x" * DOWNLOAD
            await self._timed(
                "download", place, lambda: self._request(place, "GET", path, b"", wanted), self.slow
            )
        elif turn % 10 == 3:
            body = os.urandom(64) * (1 + turn % 50)
            wanted = hashlib.sha256(body).hexdigest()
            await self._timed("post", place, lambda: self._request(place, "POST", "/", body, wanted))
        elif turn % 2:
            await self._timed("new connection", place, lambda: self._request(place, "GET", "/", b""))
        else:
            await self._timed("kept-alive", place, lambda: self._kept(place))

    async def _timed(
        self,
        kind: str,
        place: tuple[str, int],
        send: Callable[[], Awaitable[tuple[str, str]]],
        asked: float = 0,
    ) -> None:
        began = time.monotonic()
        wrong, release = "", ""
        try:
            wrong, release = await asyncio.wait_for(send(), asked + 30)
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError, ValueError) as error:
            wrong = f"{type(error).__name__}: {error}"
        took = time.monotonic() - began - asked
        if not wrong and took > self.late:
            wrong = f"late: {took:.1f} s"
        self.outcomes.append(Outcome(kind, began, took, f"{wrong} ({place[0]})" if wrong else "", release))

    async def _request(
        self, place: tuple[str, int], method: str, path: str, body: bytes, wanted: str = "hello"
    ) -> tuple[str, str]:
        reader, writer = await asyncio.open_connection(*place)
        try:
            wrong, release, _ = await self._exchange(reader, writer, method, path, body, wanted, close=True)
            return wrong, release
        finally:
            writer.close()

    async def _kept(self, place: tuple[str, int]) -> tuple[str, str]:
        """A connection that was used before, where there is one that the proxy has not closed since: by what
        the kernel knows, as HTTP clients do, and not by what this busy loop has come to hear of."""
        idle = self._idle.setdefault(place, [])
        while idle:
            reader, writer = idle.pop()
            if not (reader.at_eof() or writer.is_closing() or _is_readable(writer)):
                break
            writer.close()
        else:
            reader, writer = await asyncio.open_connection(*place)
        wrong, release, closes = await self._exchange(reader, writer, "GET", "/", b"", "hello", close=False)
        if closes or wrong:
            writer.close()
        else:
            idle.append((reader, writer))
        return wrong, release

    async def _exchange(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        method: str,
        path: str,
        body: bytes,
        wanted: str,
        *,
        close: bool,
    ) -> tuple[str, str, bool]:
        writer.write(
            f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {len(body)}\r\n"
            f"Connection: {'close' if close else 'keep-alive'}\r\n\r\n".encode()
            + body
        )
        await writer.drain()
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        text = (await reader.readexactly(int(headers["content-length"]))).decode()
        status = head.split(" ", 2)[1]
        release, _, rest = text.partition(" ")
        closes = headers.get("connection") == "close"
        if status != "200":
            return f"status {status}", headers.get("x-release", ""), closes
        return ("" if rest == wanted else f"wrong answer {text[:60]!r}"), release, closes

    async def _websockets(self, place: tuple[str, int]) -> None:
        """One WebSocket after another: a server that says goodbye is followed by the next connection."""
        while not self.stopping:
            began = time.monotonic()
            wrong = ""
            try:
                wrong = await self._websocket(place)
            except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError, ValueError) as error:
                ended = isinstance(error, (asyncio.IncompleteReadError, ConnectionError))
                wrong = "" if ended and not self.cuts else f"{type(error).__name__}: {error}"
            self.outcomes.append(
                Outcome("websocket", began, 0.0, f"{wrong} ({place[0]})" if wrong else "", "")
            )
            if wrong:
                await asyncio.sleep(0.2)

    async def _websocket(self, place: tuple[str, int]) -> str:
        reader, writer = await asyncio.open_connection(*place)
        try:
            key = base64.b64encode(os.urandom(16)).decode()
            writer.write(
                f"GET /ws HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
            )
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
            if b" 101 " not in head:
                return f"no WebSocket: {head[:30]!r}"
            while not self.stopping:
                writer.write(bytes([0x81, 0x85, 0, 0, 0, 0]) + b"hello")
                first, second = await asyncio.wait_for(reader.readexactly(2), 10)
                data = await reader.readexactly(second & 127)
                if first & 15 == 8:
                    return ""
                if not data.endswith(b" hello"):
                    return f"wrong echo {data!r}"
                await asyncio.sleep(0.2)
            return ""
        finally:
            writer.close()

    # What came of it

    # ``first``: how many outcomes there were when the window began. To look at all of them, of which there
    # are 100,000 in time, takes the requests' turn in Python, and then those that are due come in a burst.

    def failures(self, first: int = 0) -> Counter[str]:
        """What was wrong, and how often."""
        return Counter(f"{one.kind}: {one.wrong}" for one in self.outcomes[first:] if one.wrong)

    def percentile(
        self, share: float, since: float = 0.0, until: float = float("inf"), *, first: int = 0
    ) -> float:
        """Of the time that quick requests took which began in that window, in seconds."""
        return percentile(self.took(since, until, first=first), share)

    def took(self, since: float, until: float = float("inf"), *, first: int = 0) -> list[float]:
        """What quick requests took which began in that window, in seconds."""
        return [
            one.took
            for one in self.outcomes[first:]
            if one.kind not in ("slow", "download", "websocket") and since <= one.began < until
        ]

    def answered_by(self, since: float, until: float = float("inf"), *, first: int = 0) -> Counter[str]:
        """The releases that answered requests begun in that window, and how often."""
        return Counter(
            one.release for one in self.outcomes[first:] if one.release and since <= one.began < until
        )


def percentile(values: list[float], share: float) -> float:
    """The value that this share of them doesn't exceed; 0 of none."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else 0.0


def _is_readable(writer: asyncio.StreamWriter) -> bool:
    """Whether an idle connection has something to read: nothing but its end can be there."""
    poll = select.poll()
    poll.register(writer.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(poll.poll(0))
