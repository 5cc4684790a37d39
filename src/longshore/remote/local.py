"""This machine as a host (``ansible_connection: local``): the same agent, as a child process."""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import subprocess
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from longshore.errors import HostError
from longshore.inventory.model import Host
from longshore.remote import program
from longshore.remote.become import Password, PasswordSource, announced, needs_sudo, with_sudo
from longshore.remote.conversation import AgentSession
from longshore.remote.deadline import left
from longshore.remote.whoami import login_name

if TYPE_CHECKING:
    import docker


class LocalLink:
    """A :class:`longshore.remote.session.Link` to the machine that Longshore runs on."""

    def __init__(
        self,
        host: Host,
        passwords: PasswordSource,
        *,
        state_dir: str,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """``environment``: variables that what runs here has besides our own."""
        self.host = host.name
        self._environment = {**os.environ, **(environment or {})}
        self._ssh = host.ssh
        self._passwords = passwords
        self._state_dir = state_dir
        self._sudo = needs_sudo(host.ssh, login_name())
        self._session: AgentSession | None = None
        self._engine: docker.DockerClient | None = None

    def session(self) -> AgentSession:
        """See :class:`longshore.remote.session.Link`."""
        if self._session is None:
            packed = program.agent()
            password, argv = self._argv(
                program.command(packed, state_dir=self._state_dir, python=self._ssh.python)
            )
            self._session = AgentSession.started(self.host, self._stream(argv), packed, password=password)
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
            # The person's own terminal is there already, and sudo asks on it by itself.
            inner = ["sudo", "-u", self._ssh.become_user, "--", *argv] if self._sudo else argv
            try:
                return subprocess.run(inner, timeout=timeout, check=False).returncode
            except OSError as error:
                return 127 if isinstance(error, FileNotFoundError) else 126
            except subprocess.TimeoutExpired:
                raise self._too_long(argv, timeout) from None
        password, command = self._argv(argv, announce=True)
        stream = self._stream(command, merged=True)
        end = None if timeout is None else time.monotonic() + timeout
        try:
            first = b"" if password is None else password.passed(self.host, stream, end)
            with contextlib.suppress(BrokenPipeError):
                stream.send(stdin)
            stream.end_input()
            chunk = first or stream.receive(left(end))
            while chunk:
                if on_output is not None:
                    on_output(chunk)
                chunk = stream.receive(left(end))
            return stream.wait(left(end))
        except (TimeoutError, subprocess.TimeoutExpired):
            stream.kill()
            raise self._too_long(argv, timeout) from None
        finally:
            stream.close()

    def docker(self) -> docker.DockerClient:
        """This machine's engine by the Docker SDK."""
        import docker

        if self._engine is None:
            try:
                self._engine = docker.from_env()
                self._engine.ping()
            except docker.errors.DockerException as error:
                self._engine = None
                raise HostError(f"the Docker engine doesn't answer: {error}", where=self.host) from error
        return self._engine

    def close(self) -> None:
        """End the session."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None
        if self._session is not None:
            self._session.close()
            self._session = None

    def _argv(self, argv: list[str], *, announce: bool = False) -> tuple[Password | None, list[str]]:
        if not self._sudo:
            return None, argv
        password = Password(self._passwords)
        inner = announced(argv, password.mark) if announce else argv
        return password, with_sudo(inner, self._ssh, password.prompt)

    def _stream(self, argv: list[str], *, merged: bool = False) -> _ProcessStream:
        try:
            return _ProcessStream(argv, merged=merged, environment=self._environment)
        except OSError as error:
            raise HostError(f"`{argv[0]}` can't be started: {error.strerror}.", where=self.host) from error

    def _too_long(self, argv: list[str], timeout: float | None) -> HostError:
        return HostError(f"`{shlex.join(argv)}` took longer than {timeout:g} s.", where=self.host)


class _ProcessStream:
    """A :class:`longshore.remote.conversation.Stream` over a child process."""

    def __init__(self, argv: list[str], *, merged: bool, environment: Mapping[str, str]) -> None:
        # A session of its own: Ctrl-C is for us, the agent learns of it by the end of its input.
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # One pipe keeps the order in which a command wrote; the agent's lines must stay apart.
            stderr=subprocess.STDOUT if merged else subprocess.PIPE,
            bufsize=0,
            env=environment,
            start_new_session=True,
        )
        assert self._process.stdin and self._process.stdout
        self._stdin = self._process.stdin
        self._stdout = self._process.stdout.fileno()
        self._stderr = self._process.stderr.fileno() if self._process.stderr else -1
        self._open = {self._stdout, self._stderr} - {-1}
        self._split = False
        self._errors = b""

    def send(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while len(view):
            view = view[self._stdin.write(view) or 0 :]

    def end_input(self) -> None:
        with contextlib.suppress(OSError):
            self._stdin.close()

    def receive(self, timeout: float | None) -> bytes:
        end = None if timeout is None else time.monotonic() + timeout
        while self._stdout in self._open or (self._open and not self._split):
            ready, _, _ = select.select(list(self._open), [], [], left(end))
            if not ready:
                raise TimeoutError
            for descriptor in ready:
                chunk = os.read(descriptor, 1 << 16)
                if not chunk:
                    self._open.discard(descriptor)
                elif descriptor == self._stderr and self._split:
                    self._errors = (self._errors + chunk)[-(1 << 16) :]
                else:
                    return chunk
        return b""

    def split_errors(self) -> None:
        self._split = True

    def errors(self) -> bytes:
        while self._split and self._stderr in self._open and select.select([self._stderr], [], [], 0)[0]:
            chunk = os.read(self._stderr, 1 << 16)
            if not chunk:
                self._open.discard(self._stderr)
            self._errors += chunk
        errors, self._errors = self._errors, b""
        return errors

    def exit_code(self) -> int | None:
        try:
            return self._process.wait(0.5)
        except subprocess.TimeoutExpired:
            return None

    def ended(self) -> bool:
        poll = select.poll()
        poll.register(self._stdout, select.POLLHUP)
        return any(event & select.POLLHUP for _, event in poll.poll(0))

    def wait(self, timeout: float | None) -> int:
        return self._process.wait(timeout)

    def kill(self) -> None:
        with contextlib.suppress(OSError):
            self._process.kill()

    def close(self) -> None:
        # The end of its input tells the agent; it may take its time to undo, and outlives us if it must.
        self.end_input()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.2)
