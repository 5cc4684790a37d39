"""What the rest of Longshore needs of a host: one small interface, whatever carries it.

SSH (:mod:`longshore.remote.ssh`), this machine (:mod:`longshore.remote.local`) and the fake host of the
unit tests (:mod:`longshore.remote.fake`) are interchangeable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import docker

Event = Mapping[str, Any]
"""An event line of the agent; ``kind`` says what it is (:mod:`longshore.agent.wire`)."""


class Session(Protocol):
    """A conversation with the agent of one host. Not thread-safe: one thread per session."""

    host: str

    def call(
        self,
        op: str,
        args: Mapping[str, Any] | None = None,
        *,
        payload: bytes | memoryview = b"",
        on_event: Callable[[Event], None] | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Send one request and return the result's value.

        ``timeout`` (seconds) bounds the silence between two lines of the agent, not the whole call.
        Raises ``AgentError`` when the agent refuses or fails, ``ConnectionLostError`` when the
        connection breaks, both with the host's name.
        """

    def beat(self) -> None:
        """Tell the agent that the controller lives. May be called from another thread, also during a call;
        nothing is answered. An agent with a lock that hears nothing for its lease takes back what was begun.
        """

    def alive(self) -> bool:
        """Whether the conversation goes on, as far as is known here; no request is sent for it."""

    def close(self) -> None:
        """End the session. The agent then finishes or undoes what it had begun."""


class Link(Protocol):
    """A way to a host: opens the agent's session, and runs single commands for conversation."""

    host: str

    def session(self) -> Session:
        """The agent's session, opened on first use.

        Raises ``HostError`` with a sentence: down, key refused, unknown or changed host key, no
        python3, no sudo.
        """

    def run(
        self,
        argv: list[str],
        *,
        stdin: bytes = b"",
        pty: bool = False,
        on_output: Callable[[bytes], None] | None = None,
        timeout: float | None = None,
    ) -> int:
        """Run one command (as root where the host has ``ansible_become``) and return its exit code.

        With ``pty`` the person's terminal is attached, for ``shell`` and ``psql``. Arguments are
        quoted, never joined by hand; a secret has no place in ``argv``.
        """

    def docker(self) -> docker.DockerClient:
        """The host's engine by the Docker SDK: logs, exec, stats, events, disk usage. Closed with the link.

        Raises ``HostError`` when the engine doesn't answer.
        """

    def close(self) -> None:
        """Close the session and the connection."""


class Connector(Protocol):
    """Opens links: ``connect(host)`` in :mod:`longshore.remote`, or a fake one in tests."""

    def __call__(self, host: Any) -> Link: ...
