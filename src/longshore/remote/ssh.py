"""A host over SSH: one connection, on it the agent's session, single commands, and the engine's socket."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import fabric
from paramiko.channel import Channel
from paramiko.ssh_exception import SSHException

from longshore.errors import ConnectionLostError, HostError
from longshore.inventory.model import Host
from longshore.remote import program, quoting
from longshore.remote.become import Password, PasswordSource, announced, needs_sudo, with_sudo
from longshore.remote.connection import Opener
from longshore.remote.conversation import AgentSession
from longshore.remote.deadline import left
from longshore.remote.route import Route
from longshore.remote.sockets import Early

if TYPE_CHECKING:
    import docker

CHANNEL_TIMEOUT = 15.0
ENGINE_SOCKET = "/var/run/docker.sock"


class SshLink:
    """A :class:`longshore.remote.session.Link` over SSH. One thread at a time."""

    def __init__(
        self, host: Host, route: Route, opener: Opener, passwords: PasswordSource, *, state_dir: str
    ) -> None:
        self.host = host.name
        self.route = route
        self._ssh = host.ssh
        self._opener = opener
        self._passwords = passwords
        self._state_dir = state_dir
        self._sudo = needs_sudo(host.ssh, route.user)
        self._connection: fabric.Connection | None = None
        self._session: AgentSession | None = None
        self._engine: docker.DockerClient | None = None

    def open(self, early: Early | None = None) -> None:
        """Connect now rather than on first use; over ``early``, where that is there. Raises ``HostError``."""
        if self._connection is None:
            self._connection = self._opener.open(self.route, early)

    def session(self) -> AgentSession:
        """See :class:`longshore.remote.session.Link`."""
        if self._session is None:
            packed = program.agent()
            argv = program.command(packed, state_dir=self._state_dir, python=self._ssh.python)
            password, command = self._command(argv)
            with self._broken("the connection broke while the agent was started"):
                stream = _ChannelStream(self._channel(command))
                self._session = AgentSession.started(self.host, stream, packed, password=password)
        return self._session

    def run(
        self,
        argv: list[str],
        *,
        stdin: bytes = b"",
        pty: bool = False,
        on_output: Callable[[bytes], None] | None = None,
        timeout: float | None = None,
    ) -> int:
        """See :class:`longshore.remote.session.Link`. Standard error comes with standard output."""
        if pty:
            return self._run_on_terminal(argv)
        password, command = self._command(argv, announce=True)
        end = None if timeout is None else time.monotonic() + timeout
        with self._broken(f"the connection broke while `{argv[0]}` ran"):
            channel = self._channel(command)
            try:
                stream = _ChannelStream(channel)
                first = self._pass_sudo(stream, password, end)
                stream.send(memoryview(stdin))
                channel.shutdown_write()
                self._forward(stream, first, on_output, end)
                return _exit_code(channel)
            except TimeoutError:
                raise HostError(
                    f"`{shlex.join(argv)}` took longer than {timeout:g} s.", where=self.host
                ) from None
            finally:
                channel.close()

    def docker(self) -> docker.DockerClient:
        """The host's engine by the Docker SDK, over this connection: logs, exec, stats, events."""
        from longshore.remote import engine

        if self._engine is None:
            self._engine = engine.client(self.host, self._engine_channel)
        return self._engine

    def close(self) -> None:
        """Close the session and the connection."""
        if self._engine is not None:
            with contextlib.suppress(Exception):
                self._engine.close()
            self._engine = None
        if self._session is not None:
            self._session.close()
            self._session = None
        if self._connection is not None:
            connection, self._connection = self._connection, None
            with contextlib.suppress(Exception):
                connection.close()

    def __enter__(self) -> SshLink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _connected(self) -> Any:
        if self._connection is None:
            self._connection = self._opener.open(self.route)
        elif not self._connection.is_connected:
            raise ConnectionLostError("the connection is gone.", where=self.host)
        return self._connection

    @contextlib.contextmanager
    def _broken(self, what: str) -> Any:
        try:
            yield
        except (SSHException, EOFError, OSError) as error:
            said = str(error) or type(error).__name__
            raise ConnectionLostError(f"{what}: {said}.", where=self.host) from error

    def _command(self, argv: list[str], *, announce: bool = False) -> tuple[Password | None, str]:
        if not self._sudo:
            return None, quoting.join(argv)
        password = Password(self._passwords)
        inner = announced(argv, password.mark) if announce else argv
        return password, quoting.join(with_sudo(inner, self._ssh, password.prompt))

    def _channel(self, command: str) -> Any:
        channel = self._connected().transport.open_session(timeout=CHANNEL_TIMEOUT)
        # Apart from the start, when "python3: not found" and sudo's prompt are awaited like output.
        channel.set_combine_stderr(True)
        channel.exec_command(command)
        return channel

    def _pass_sudo(self, stream: _ChannelStream, password: Password | None, end: float | None) -> bytes:
        """Let sudo have its password; returns what the command itself has written since."""
        return b"" if password is None else password.passed(self.host, stream, end)

    def _forward(
        self,
        stream: _ChannelStream,
        first: bytes,
        on_output: Callable[[bytes], None] | None,
        end: float | None,
    ) -> None:
        chunk = first or stream.receive(left(end))
        while chunk:
            if on_output is not None:
                on_output(chunk)
            chunk = stream.receive(left(end))

    def _run_on_terminal(self, argv: list[str]) -> int:
        from longshore.remote import terminal

        password, command = self._command(argv, announce=True)
        columns, rows = terminal.size()
        with self._broken(f"the connection broke while `{argv[0]}` ran"):
            channel = self._connected().transport.open_session(timeout=CHANNEL_TIMEOUT)
            try:
                channel.get_pty(terminal.name(), columns, rows)
                channel.exec_command(command)
                terminal.attach(channel, self._pass_sudo(_ChannelStream(channel), password, None))
                return _exit_code(channel)
            finally:
                channel.close()

    def _engine_channel(self) -> Any:
        """A channel to the engine's socket: forwarded by sshd where that may be, else through docker."""
        transport = self._connected().transport
        if not self._sudo:
            with contextlib.suppress(SSHException):
                return transport.open_unix_socket(ENGINE_SOCKET, timeout=CHANNEL_TIMEOUT)
        password, command = self._command(["docker", "system", "dial-stdio"], announce=True)
        channel = transport.open_session(timeout=CHANNEL_TIMEOUT)
        if password is None:
            channel.exec_command(command)
            return channel
        channel.set_combine_stderr(True)
        channel.exec_command(command)
        self._pass_sudo(_ChannelStream(channel), password, None)
        channel.set_combine_stderr(False)
        return channel


def _exit_code(channel: Any) -> int:
    """The ended command's exit code; -1 when a signal ended it. Raises when the connection did."""
    code = int(channel.recv_exit_status())
    transport = channel.get_transport()
    if code < 0 and not transport.is_active():
        raise transport.get_exception() or EOFError("end of file")
    return code


class _ChannelStream:
    """A :class:`longshore.remote.conversation.Stream` over an SSH channel."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def send(self, data: bytes | memoryview) -> None:
        # sendall() of bytes copies the rest again for every packet; a view only moves.
        self._channel.settimeout(None)
        try:
            self._channel.sendall(memoryview(data))  # type: ignore[arg-type, unused-ignore]
        except EOFError as error:  # Paramiko's, of a connection that breaks at just this moment
            raise ConnectionResetError("the connection is closed") from error

    def receive(self, timeout: float | None) -> bytes:
        self._channel.settimeout(timeout)
        return bytes(self._channel.recv(1 << 16))

    def split_errors(self) -> None:
        self._channel.set_combine_stderr(False)

    def errors(self) -> bytes:
        parts = []
        while self._channel.recv_stderr_ready():
            parts.append(self._channel.recv_stderr(1 << 15))
        return b"".join(parts)

    def exit_code(self) -> int | None:
        if self._channel.exit_status_ready() or self._channel.status_event.wait(0.5):
            code = self._channel.recv_exit_status()
            return code if code >= 0 else None
        return None

    def ended(self) -> bool:
        return bool(self._channel.closed or self._channel.eof_received)

    def close(self) -> None:
        with contextlib.suppress(EOFError):  # there is nobody any more to be told
            self._channel.close()
