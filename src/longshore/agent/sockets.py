"""The host's TCP sockets, as the kernel tells them.

By netlink (sock_diag(7)), which looks for the state that is asked for. ``/proc/net/tcp`` (proc(5)) has a line
for each connection that was closed in the last minute, too, thousands on a busy host; it is read where the
kernel doesn't answer otherwise.
"""

import socket
import struct
from typing import Iterator, NamedTuple

ESTABLISHED = 1
LISTENING = 10  # include/net/tcp_states.h

_NETLINK_SOCK_DIAG = 4
_BY_FAMILY = 20
_ROOT_AND_MATCH = 0x300  # NLM_F_DUMP: all of them
_REQUEST = 0x1
_ERROR, _DONE = 2, 3
_HEADER = struct.Struct("=IHHII")
_QUESTION = struct.Struct("=BBBBI48x")  # struct inet_diag_req_v2
_ANSWER = struct.Struct("=BBBB2s2s16s16s12xIIIII")  # struct inet_diag_msg
_ANSWERS = 1 << 16


class Row(NamedTuple):
    """A socket: its own port, the address (4 bytes, or 16 of IPv6) and port at its other end, its inode."""

    port: int
    far: bytes
    far_port: int
    inode: str


def sockets(state: int) -> Iterator[Row]:
    """Those in this state, of this network namespace, of IPv4 and IPv6."""
    for family, table in ((socket.AF_INET, "/proc/net/tcp"), (socket.AF_INET6, "/proc/net/tcp6")):
        try:
            rows = list(_asked(family, state))
        except OSError:
            rows = list(_read(table, state))
        yield from rows


def _asked(family: int, state: int) -> Iterator[Row]:
    """Raises ``OSError`` where the kernel was built without it, or somebody forbids it."""
    kind = getattr(socket, "AF_NETLINK", None)
    if kind is None:
        raise OSError("there is no netlink")
    question = _QUESTION.pack(family, socket.IPPROTO_TCP, 0, 0, 1 << state)
    header = _HEADER.pack(_HEADER.size + len(question), _BY_FAMILY, _REQUEST | _ROOT_AND_MATCH, 0, 0)
    size = 4 if family == socket.AF_INET else 16
    with socket.socket(kind, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as asking:
        asking.settimeout(5)
        asking.sendto(header + question, (0, 0))
        while True:
            data, at = asking.recv(_ANSWERS), 0
            while at + _HEADER.size <= len(data):
                length, what, _, _, _ = _HEADER.unpack_from(data, at)
                if what == _DONE:
                    return
                if what == _ERROR or length < _HEADER.size + _ANSWER.size:
                    raise OSError("the kernel does not say")
                found = _ANSWER.unpack_from(data, at + _HEADER.size)
                port, far_port = (int.from_bytes(one, "big") for one in found[4:6])
                yield Row(port, found[7][:size], far_port, str(found[12]))
                at += (length + 3) & ~3


def _read(table: str, state: int) -> Iterator[Row]:
    try:
        with open(table, encoding="ascii") as file:
            lines = list(file)[1:]
    except FileNotFoundError:
        return
    for line in lines:
        words = line.split()
        if int(words[3], 16) == state:
            far, _, far_port = words[2].partition(":")
            yield Row(int(words[1].partition(":")[2], 16), _bytes(far), int(far_port, 16), words[9])


def _bytes(address: str) -> bytes:
    """An address of the table, whose 32-bit words are in the machine's own byte order."""
    words = [int(address[at : at + 8], 16) for at in range(0, len(address), 8)]
    return struct.pack(f"={len(words)}I", *words)
