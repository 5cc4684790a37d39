"""Which of two proxies on the same port gets new connections, while both listen (``SO_REUSEPORT``).

A Traefik that has just started listens before it has read its routes, and answers 404 until then. The kernel
lets a listener of the group say by a tiny program which of them a connection goes to (socket(7),
SO_ATTACH_REUSEPORT_CBPF): ours always says the first, which is the one that was there before. When that stops
listening the next one takes its place, so nothing has to be undone, whoever dies when.
"""

import ctypes
import os
import socket
import struct
from typing import Any, Dict, Iterable, List, Optional, Set

from longshore.agent.engine import Engine
from longshore.agent.sockets import LISTENING, sockets

_PIDFD_GETFD = 438  # the same number on every architecture; Linux 5.6
_ATTACH_CBPF = 51  # asm-generic/socket.h
_RETURN_FIRST = struct.pack("HBBI", 0x06, 0, 0, 0)  # BPF_RET | BPF_K: index 0


def keep(engine: Engine, running: List[Dict[str, Any]], points: Dict[str, Any]) -> None:
    """Have these containers of the proxy get the new connections on Traefik's entry points until they go.
    Where that can't be done, a request may meet a proxy without routes for some hundredths of a second."""
    ports = [int(point["address"].rpartition(":")[2]) for point in points.values()]
    for one in running:
        pid = int(((engine.container(one["Id"]) or {}).get("State") or {}).get("Pid") or 0)
        if pid:
            hold(pid, ports)


def hold(pid: int, ports: Iterable[int]) -> bool:
    """Have new connections on ``ports`` go to the process ``pid``, which listens there, as long as it does.

    Returns whether that could be done; where not (an older kernel, no permission), the kernel spreads them.
    """
    try:
        held = [_hold(pid, port) for port in ports]  # the rest, too, after one that could not be
    except (OSError, AttributeError, ValueError):
        return False
    return all(held)


def _hold(pid: int, port: int) -> bool:
    inodes = _listening(port)
    number = _descriptor(pid, inodes) if inodes else None
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
        program = ctypes.create_string_buffer(_RETURN_FIRST, len(_RETURN_FIRST))
        described = struct.pack("HP", 1, ctypes.addressof(program))
        listener.setsockopt(socket.SOL_SOCKET, _ATTACH_CBPF, described)
    return True


def _listening(port: int) -> Set[str]:
    """The inodes of sockets that listen on a port."""
    return {
        row.inode
        for row in sockets()
        if row.state == LISTENING and int(row.near.rpartition(":")[2], 16) == port
    }


def _descriptor(pid: int, inodes: Set[str]) -> Optional[int]:
    folder = f"/proc/{pid}/fd"
    for name in os.listdir(folder):
        try:
            target = os.readlink(os.path.join(folder, name))
        except OSError:
            continue
        if target.startswith("socket:[") and target[len("socket:[") : -1] in inodes:
            return int(name)
    return None
