"""Which of two proxies on the same port gets new connections, while both listen (``SO_REUSEPORT``).

A Traefik that has just started listens before it has read its routes, and answers 404 until then. The kernel
lets a listener of the group say by a tiny program which of them a connection goes to (socket(7),
SO_ATTACH_REUSEPORT_CBPF). Ours says the first, which was there before, until the new one knows its routes;
then the last. When one stops listening the other is the first; where there is no such last one any more, the
kernel takes one that there is. So nothing has to be undone, whoever dies when.
"""

import ctypes
import os
import socket
import struct
from typing import Callable, Dict, Iterable, Set

from longshore.agent.sockets import LISTENING, sockets

_PIDFD_GETFD = 438  # the same number on every architecture; Linux 5.6
_ATTACH_CBPF = 51  # asm-generic/socket.h
_RETURN = 0x06  # BPF_RET | BPF_K: a constant


def hold(pid: int, ports: Iterable[int]) -> bool:
    """Have new connections on ``ports`` go to the process ``pid``, which listens there, as long as it does.

    Returns whether that could be done; where not (an older kernel, no permission), the kernel spreads them.
    """
    return _steer(pid, ports, lambda listeners: 0)


def turn(pid: int, ports: Iterable[int]) -> bool:
    """Have new connections on ``ports`` go to the process ``pid``, the last that came to listen there.
    Returns as ``hold`` does."""
    return _steer(pid, ports, lambda listeners: listeners - 1)


def _steer(pid: int, ports: Iterable[int], index: Callable[[int], int]) -> bool:
    """``index``: which of so many listeners."""
    try:
        held = [_attach(pid, port, index) for port in ports]  # the rest, too, after one that could not be
    except (OSError, AttributeError, ValueError):
        return False
    return all(held)


def _attach(pid: int, port: int, index: Callable[[int], int]) -> bool:
    inodes = _listening(port)
    held = descriptors(pid) if inodes else {}
    number = next((held[inode] for inode in inodes if inode in held), None)
    if number is None:
        return not inodes  # nobody listens there yet
    process = os.pidfd_open(pid)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        copied = libc.syscall(_PIDFD_GETFD, process, number, 0)
    finally:
        os.close(process)
    if copied < 0:
        return False
    with socket.socket(fileno=copied) as listener:
        returns = struct.pack("HBBI", _RETURN, 0, 0, index(len(inodes)))
        program = ctypes.create_string_buffer(returns, len(returns))
        described = struct.pack("HP", 1, ctypes.addressof(program))
        listener.setsockopt(socket.SOL_SOCKET, _ATTACH_CBPF, described)
    return True


def _listening(port: int) -> Set[str]:
    """The inodes of sockets that listen on a port."""
    return {row.inode for row in sockets(LISTENING) if row.port == port}


def descriptors(pid: int) -> Dict[str, int]:
    """A process's sockets: inode to the number of the file descriptor. Empty where it can't be looked at."""
    folder = f"/proc/{pid}/fd"
    found: Dict[str, int] = {}
    try:
        names = os.listdir(folder)
    except OSError:
        return found
    for name in names:
        try:
            target = os.readlink(os.path.join(folder, name))
        except OSError:
            continue
        if target.startswith("socket:["):
            found[target[len("socket:[") : -1]] = int(name)
    return found
