"""The engine's API over its socket: what the agent needs of it, and no more.

Source of the calls: the Docker Engine API reference, v1.41 (Docker 20.10) and later.
"""

import json
import os
import re
import time
from typing import Any, Dict, Iterator, List, Optional, Tuple

from longshore.agent import wire
from longshore.agent.fail import Refusal
from longshore.agent.unixhttp import Answer, Connection, HttpError, quoted

SOCKET = "/var/run/docker.sock"
PROJECT = "com.docker.compose.project"
SERVICE = "com.docker.compose.service"
CONFIG_HASH = "com.docker.compose.config-hash"
ONE_OFF = "com.docker.compose.oneoff"
APP = "longshore.app"
_PATIENCE = 3600.0
"""Seconds for the engine to stop a container: its grace period is the compose file's to say."""


class EngineError(Exception):
    """The engine answered with an error. ``status`` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def socket_path() -> str:
    """Where the engine listens: ``DOCKER_HOST`` when it names a socket, else the usual place."""
    host = os.environ.get("DOCKER_HOST", "")
    return host[len("unix://") :] if host.startswith("unix://") else SOCKET


def _refuse(error: OSError, path: str) -> Refusal:
    if isinstance(error, PermissionError):
        return Refusal(
            wire.NO_PERMISSION,
            f"the user may not use the Docker engine ({path})",
            "Add the user to the group docker, or set `ansible_become: true`.",
        )
    return Refusal(
        wire.NO_ENGINE,
        f"no Docker engine answers at {path} ({error.strerror or error})",
        "Install it with `invoke bootstrap`, or start it with `systemctl start docker`.",
    )


def _no_answer(error: Exception) -> Refusal:
    return Refusal(
        wire.NO_ENGINE, f"the Docker engine did not answer ({error})", "Look at `journalctl -u docker`."
    )


class Engine:
    """One kept-alive connection to the engine. Not thread-safe."""

    def __init__(self, path: Optional[str] = None, timeout: float = 60.0) -> None:
        self.path = path or socket_path()
        self.timeout = timeout
        self._kept: Optional[Connection] = None
        self._info: Optional[Dict[str, Any]] = None

    def request(
        self,
        method: str,
        path: str,
        query: Optional[Dict[str, str]] = None,
        body: Any = None,
        headers: Optional[Dict[str, str]] = None,
    ) -> Any:
        """Call the API and return the decoded JSON (``None`` without a body).

        Raises ``EngineError`` for an error status, ``Refusal`` when no engine answers.
        """
        connection = self._connection()
        response = self._send(connection, method, path, query, body, headers)
        try:
            data = response.read()
        except (OSError, HttpError) as error:
            connection.close()
            raise _no_answer(error) from error
        if response.status >= 400:
            raise EngineError(response.status, _message(data, response.reason))
        if not data:
            return None
        if "json" in response.headers.get("content-type", ""):
            return json.loads(data)
        return data

    def connection(self) -> Connection:
        """A new connection, for a call that gives its answer bit by bit."""
        return Connection(self.path, timeout=300.0)

    def stream(
        self,
        method: str,
        path: str,
        query: Dict[str, str],
        headers: Optional[Dict[str, str]] = None,
        connection: Optional[Connection] = None,
    ) -> Iterator[Dict[str, Any]]:
        """Call the API and give the JSON values of the answer as they come, on a connection of its own, or on
        one by which the caller can abort it."""
        connection = connection or self.connection()
        try:
            response = self._send(connection, method, path, query, None, headers)
            if response.status >= 400:
                raise EngineError(response.status, _message(response.read(), response.reason))
            for line in response.lines():
                if line.strip():
                    yield json.loads(line)
        except (OSError, HttpError) as error:
            raise _no_answer(error) from error
        finally:
            connection.close()

    def _connection(self) -> Connection:
        if self._kept is None:
            self._kept = Connection(self.path, self.timeout)
        return self._kept

    def _send(
        self,
        connection: Connection,
        method: str,
        path: str,
        query: Optional[Dict[str, str]],
        body: Any,
        headers: Optional[Dict[str, str]],
    ) -> Answer:
        target = path
        if query:
            target += "?" + "&".join(f"{name}={quoted(value)}" for name, value in query.items())
        data = None if body is None else json.dumps(body).encode()
        sent = dict(headers or {})
        if data is not None:
            sent["Content-Type"] = "application/json"
        # The engine may have closed a connection that was idle, or been restarted: try once afresh.
        for attempt in (1, 2):
            try:
                return connection.ask(method, target, sent, data)
            except (BrokenPipeError, ConnectionResetError) as error:
                connection.close()
                if attempt == 2 or method != "GET":
                    raise _refuse(error, self.path) from error
            except (FileNotFoundError, ConnectionRefusedError, PermissionError) as error:
                connection.close()
                raise _refuse(error, self.path) from error
            except (OSError, HttpError) as error:
                connection.close()
                raise _no_answer(error) from error
        raise AssertionError("unreachable")

    # What is asked of it, by name.

    def wait(self, seconds: float) -> None:
        """Wait until it answers: it may be being restarted. Raises ``Refusal`` when it doesn't by then."""
        until = time.monotonic() + seconds
        while True:
            try:
                self.request("GET", "/_ping")
                return
            except (Refusal, EngineError):
                if time.monotonic() >= until:
                    raise
                time.sleep(0.25)

    def version(self) -> Dict[str, Any]:
        answer: Dict[str, Any] = self.request("GET", "/version")
        return answer

    def info(self) -> Dict[str, Any]:
        """What the engine is, asked once: it starts three programs to answer."""
        if self._info is None:
            self._info = self.request("GET", "/info")
        return self._info

    def containers(
        self, project: Optional[str] = None, labels: Tuple[str, ...] = (), network: Optional[str] = None
    ) -> List[Dict[str, Any]]:
        """All containers, stopped ones too, of a compose project, with these labels (``key=value``), in this
        network. The engine looks up the image of each: with the containerd store that is 10 ms of CPU, where
        ``container`` is 0.5."""
        wanted = list(labels) + ([f"{PROJECT}={project}"] if project else [])
        query = {"all": "1"}
        filters = {**({"label": wanted} if wanted else {}), **({"network": [network]} if network else {})}
        if filters:
            query["filters"] = json.dumps(filters)
        found: List[Dict[str, Any]] = self.request("GET", "/containers/json", query)
        return found

    def container(self, ident: str) -> Optional[Dict[str, Any]]:
        """One container in full, or ``None`` when there is none of that id or name."""
        return self._or_none(f"/containers/{quoted(ident)}/json")

    def image(self, ref: str) -> Optional[Dict[str, Any]]:
        """A local image by reference, digest or id, or ``None``."""
        return self._or_none(f"/images/{quoted(ref, safe='/:@')}/json")

    def _or_none(self, path: str) -> Optional[Dict[str, Any]]:
        try:
            found: Dict[str, Any] = self.request("GET", path)
        except EngineError as error:
            if error.status == 404:
                return None
            raise
        return found

    def images(self) -> List[Dict[str, Any]]:
        found: List[Dict[str, Any]] = self.request("GET", "/images/json")
        return found

    def logs(self, ident: str, lines: int, since: float = 0.0) -> str:
        """The last lines of a container's output since then (s since the epoch), both streams, as text."""
        query = {"stdout": "1", "stderr": "1", "tail": str(lines), "since": f"{since:.3f}"}
        data = self.request("GET", f"/containers/{ident}/logs", query)
        return _demultiplex(data or b"").decode("utf-8", "replace") if isinstance(data, bytes) else ""

    def last_exit_code(self, ident: str) -> Optional[int]:
        """How a container ended last, from the engine's last events; ``None`` when they don't say."""
        filters = json.dumps({"container": [ident], "event": ["die"]})
        query = {"since": "0", "until": str(int(time.time()) + 1), "filters": filters}
        codes = [
            event["Actor"]["Attributes"].get("exitCode") for event in self.stream("GET", "/events", query)
        ]
        return int(codes[-1]) if codes and codes[-1] else None

    def stop(self, ident: str, seconds: Optional[int] = None) -> None:
        """Stop a container; without ``seconds`` its own grace period holds, however long that is. One that is
        gone meanwhile is as good."""
        query = {"t": str(seconds)} if seconds is not None else None
        try:
            Engine(self.path, timeout=_PATIENCE).request("POST", f"/containers/{ident}/stop", query)
        except EngineError as error:
            if error.status != 404:
                raise

    def restart(self, ident: str) -> None:
        """Restart a container; stopping it, its own grace period holds."""
        Engine(self.path, timeout=_PATIENCE).request("POST", f"/containers/{ident}/restart")

    def remove(self, ident: str, *, unused: bool = False) -> None:
        """Remove a container, never its named volumes. One that was ``unused``, never started, takes the ones
        without a name along, which the engine has filled for it from its image."""
        try:
            self.request("DELETE", f"/containers/{ident}", {"force": "1", **({"v": "1"} if unused else {})})
        except EngineError as error:
            if error.status not in (404, 409):  # gone, or another one is removing it
                raise

    def pull(
        self,
        ref: str,
        platform: Optional[str],
        auth: Optional[Dict[str, str]],
        connection: Optional[Connection] = None,
    ) -> Iterator[Dict[str, Any]]:
        """Pull an image and give the engine's progress lines. Raises ``EngineError``, also for an error
        that comes in the stream, after status 200. The engine gives it up when ``connection`` is aborted."""
        query = {"fromImage": ref}
        if platform:
            query["platform"] = platform
        headers = {}
        if auth:
            import base64

            headers["X-Registry-Auth"] = base64.urlsafe_b64encode(json.dumps(auth).encode()).decode()
        for line in self.stream("POST", "/images/create", query, headers, connection):
            if "error" in line:
                raise EngineError(500, str(line["error"]))
            yield line


def _message(data: bytes, reason: str) -> str:
    try:
        return str(json.loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        return data.decode("utf-8", "replace").strip() or reason


_MOMENT = re.compile(r"(\d+)-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(\.\d+)?(?:Z|([+-]\d\d):(\d\d))?")


def moment(text: Optional[str]) -> float:
    """The engine's time (``2026-01-02T03:04:05.678901234Z``, ``…+01:00``) in seconds since the epoch; 0 for
    what is none."""
    import calendar  # late: a look at a host asks for no times

    found = _MOMENT.fullmatch(text or "")
    if found is None:
        return 0.0
    *whole, fraction, hours, minutes = found.groups()
    zone = int(hours or 0) * 3600 + int(minutes or 0) * (-60 if (hours or "").startswith("-") else 60)
    return calendar.timegm(tuple(map(int, whole))) + float(fraction or 0) - zone


def _demultiplex(data: bytes) -> bytes:
    """Take the frames' headers out of a log stream (8 bytes: stream, 0, 0, 0, length).

    A container with a terminal has none; then the first byte is not 0, 1 or 2 followed by zeros.
    """
    parts = []
    at = 0
    while at + 8 <= len(data):
        if data[at] > 2 or data[at + 1 : at + 4] != b"\0\0\0":
            return data
        size = int.from_bytes(data[at + 4 : at + 8], "big")
        parts.append(data[at + 8 : at + 8 + size])
        at += 8 + size
    return b"".join(parts)
