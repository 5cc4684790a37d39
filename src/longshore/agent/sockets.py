"""The host's TCP sockets, as the kernel lists them (proc(5), ``/proc/net/tcp``)."""

from typing import Iterator, NamedTuple

ESTABLISHED = "01"
LISTENING = "0A"


class Row(NamedTuple):
    """A socket. Its ends are ``ADDRESS:PORT`` in hexadecimal, an address in the machine's own byte order."""

    near: str
    far: str
    state: str
    inode: str


def sockets() -> Iterator[Row]:
    """All of this network namespace, of IPv4 and IPv6."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table, encoding="ascii") as file:
                for line in list(file)[1:]:
                    words = line.split()
                    yield Row(words[1], words[2], words[3], words[9])
        except FileNotFoundError:
            continue
