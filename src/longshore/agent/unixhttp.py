"""HTTP/1.1 over a Unix socket or on this host, as far as the engine and the proxy speak it (RFC 9112).

The standard library's client would be half of the agent's start: it brings the modules for mail and TLS.
"""

import socket
from typing import Dict, Iterator, Optional, Tuple, Union

_PIECE = 1 << 16
_LONGEST_LINE = 1 << 16
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


class HttpError(Exception):
    """What came is not HTTP, or ended too early."""


class Answer:
    """An answer whose head has been read. Its body is read once: by ``read`` or ``lines``."""

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        version, _, rest = connection.line().partition(" ")
        status, _, self.reason = rest.partition(" ")
        if not version.startswith("HTTP/1.") or not status.isdigit():
            raise HttpError(f"it answered {version[:40]!r}")
        self.status = int(status)
        self.headers: Dict[str, str] = {}
        """By name in small letters."""
        while True:
            line = connection.line()
            if not line:
                break
            name, _, value = line.partition(":")
            self.headers[name.strip().lower()] = value.strip()

    def read(self) -> bytes:
        """The whole body."""
        return b"".join(self._pieces())

    def lines(self) -> Iterator[bytes]:
        """The body line by line, as it comes."""
        rest = b""
        for piece in self._pieces():
            whole, newline, rest = (rest + piece).rpartition(b"\n")
            if newline:
                yield from whole.split(b"\n")
        if rest:
            yield rest

    def _pieces(self) -> Iterator[bytes]:
        length = self.headers.get("content-length")
        if self.status in (204, 304):
            pass
        elif self.headers.get("transfer-encoding", "").lower() == "chunked":
            yield from self._chunks()
        elif length is not None:
            left = int(length)
            while left:
                piece = self._connection.exactly(min(left, _PIECE))
                left -= len(piece)
                yield piece
        else:
            yield from self._connection.rest()
            self._connection.close()
        if self.headers.get("connection", "").lower() == "close":
            self._connection.close()

    def _chunks(self) -> Iterator[bytes]:
        while True:
            head = self._connection.line().partition(";")[0]
            try:
                size = int(head, 16)
            except ValueError:
                raise HttpError(f"a chunk begins with {head[:40]!r}") from None
            if size:
                yield self._connection.exactly(size)
            ended = self._connection.line()
            while size == 0 and ended:  # trailers
                ended = self._connection.line()
            if size == 0:
                return


class Connection:
    """One kept-alive connection, made when it is first needed and again after ``close``.

    ``place``: a socket's path, or an address and port.
    ``timeout``: seconds without a byte. Raises ``OSError`` and ``HttpError``; an engine that has hung up
    before it answered is a ``ConnectionResetError``.
    """

    def __init__(self, place: Union[str, Tuple[str, int]], timeout: float) -> None:
        self._place = place
        self._timeout = timeout
        self._socket: Optional[socket.socket] = None

    def ask(self, method: str, target: str, headers: Dict[str, str], body: Optional[bytes] = None) -> Answer:
        """Send a request and read the head of its answer. The answer before must have been read."""
        self.open()
        assert self._socket is not None
        lines = [f"{method} {target} HTTP/1.1", "Host: localhost"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if body is not None or method in ("POST", "PUT"):
            lines.append(f"Content-Length: {len(body or b'')}")
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode("ascii") + (body or b""))
        return Answer(self)

    def open(self) -> None:
        """Connect, where that is not done yet."""
        if self._socket is None:
            self._connect()

    def abort(self) -> None:
        """End what another thread reads here; to that it is an answer that ended too early."""
        reading = self._socket  # which that may be closing just now
        if reading is not None:
            try:
                reading.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self) -> None:
        if self._socket is not None:
            self._file.close()
            self._socket.close()
            self._socket = None

    def _connect(self) -> None:
        made = socket.socket(socket.AF_UNIX if isinstance(self._place, str) else socket.AF_INET)
        try:
            made.settimeout(self._timeout)
            made.connect(self._place)
        except OSError:
            made.close()
            raise
        self._socket = made
        self._file = made.makefile("rb")

    # What an answer reads itself from

    def line(self) -> str:
        found = self._file.readline(_LONGEST_LINE)
        if not found:
            raise ConnectionResetError("it closed the connection")
        return found.decode("latin-1").rstrip("\r\n")

    def exactly(self, count: int) -> bytes:
        found = self._file.read(count)
        if len(found) != count:
            raise HttpError("its answer ended too early")
        return found

    def rest(self) -> Iterator[bytes]:
        while True:
            piece = self._file.read(_PIECE)
            if not piece:
                return
            yield piece


def quoted(text: str, safe: str = "") -> str:
    """``text`` as a part of a URL; what is in ``safe`` stays as it is."""
    kept = _UNRESERVED | frozenset(safe.encode())
    return "".join(chr(one) if one in kept else f"%{one:02X}" for one in text.encode())
