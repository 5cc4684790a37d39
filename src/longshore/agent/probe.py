"""A request to a container as its users' requests come: through the port that the host publishes for it."""

import http.client
import socket
import time
from typing import Any, Callable, Dict, Optional, Tuple

from longshore.agent.shorten import first

_LONGEST_TRY = 5.0
_PAUSE = 0.2
_EVERYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - asked, not listened to


def probe(
    full: Dict[str, Any], wanted: Dict[str, Any], given_up: Optional[Callable[[], bool]] = None
) -> Tuple[str, str]:
    """Ask until the right status comes. ``full``: the container, from the engine; ``wanted``: ``port``,
    ``path``, ``status``, ``timeout`` (s).

    Gives where it was asked, and what was wrong with the last answer; empty when it was right.
    """
    host, port = address(full, int(wanted["port"]))
    shown = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    shown += wanted["path"]
    if not host:
        return f"port {wanted['port']}", "the container has no address and publishes nothing"
    until = time.monotonic() + float(wanted["timeout"])
    while True:
        left = until - time.monotonic()
        why = _ask(host, port, str(wanted["path"]), int(wanted["status"]), max(0.1, min(_LONGEST_TRY, left)))
        if not why or time.monotonic() + _PAUSE > until or (given_up is not None and given_up()):
            return shown, why
        time.sleep(_PAUSE)


def address(full: Dict[str, Any], port: int) -> Tuple[str, int]:
    """Where a container's port is reached from its host: as it is published, else at the container's own
    address. The host is empty when there is none."""
    settings = full.get("NetworkSettings") or {}
    published = (settings.get("Ports") or {}).get(f"{port}/tcp") or []
    for one in sorted(published, key=lambda binding: ":" in binding.get("HostIp", "")):
        if one.get("HostPort"):
            return _EVERYWHERE.get(one.get("HostIp", ""), one.get("HostIp", "")), int(one["HostPort"])
    if (full.get("HostConfig") or {}).get("NetworkMode") == "host":
        return "127.0.0.1", port
    for network in (settings.get("Networks") or {}).values():
        if network.get("IPAddress"):
            return str(network["IPAddress"]), port
        if network.get("GlobalIPv6Address"):
            return str(network["GlobalIPv6Address"]), port
    return "", port


def _ask(host: str, port: int, path: str, status: int, timeout: float) -> str:
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request("GET", path, headers={"User-Agent": "longshore", "Connection": "close"})
        answer = connection.getresponse()
        body = answer.read(200).decode("utf-8", "replace")
    except socket.timeout:  # noqa: UP041 - another class in Python 3.9
        return f"no answer within {timeout:.1f} s"
    except (OSError, http.client.HTTPException, ValueError) as error:
        return str(getattr(error, "strerror", None) or error or type(error).__name__)
    finally:
        connection.close()
    if answer.status == status:
        return ""
    said = first(" ".join(body.split()), 120)
    return f"answered {answer.status}, not {status}{f': {said}' if said else ''}"
