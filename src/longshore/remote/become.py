"""Becoming root on a host: sudo, and the password that it may ask for, which is asked of the person once."""

from __future__ import annotations

import getpass
import os
import secrets
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from longshore.errors import HostError
from longshore.inventory.model import SshSettings
from longshore.remote.deadline import left

if TYPE_CHECKING:
    from longshore.remote.conversation import Stream

VARIABLE = "LONGSHORE_BECOME_PASSWORD"
_PATIENCE = 60.0
"""Seconds in which sudo says something, or starts the command."""


def ask_person(prompt: str) -> str:
    """Ask on the terminal, without echo. Raises ``HostError`` where there is no terminal to ask on."""
    if not sys.stdin.isatty():
        raise HostError(f"{prompt.strip().rstrip(':')} is needed, and there is no terminal to ask on.")
    return getpass.getpass(prompt)


class PasswordSource:
    """The sudo password of a run: from ``LONGSHORE_BECOME_PASSWORD``, else asked once for all hosts.

    A password that one host refused isn't offered to the next: ten hosts would lock ten accounts.
    """

    def __init__(self, ask: Callable[[str], str] = ask_person) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._known: str | None = None
        self._refused_by = ""

    def get(self, host: str) -> str:
        """The password, for the host that wants it. Other threads wait while the person types."""
        with self._lock:
            if self._refused_by:
                raise HostError(
                    f"sudo wants a password, and {self._refused_by} refused the one that was given.",
                    where=host,
                )
            if self._known is None:
                self._known = os.environ.get(VARIABLE)
            if self._known is None:
                try:
                    self._known = self._ask(f"sudo password ({host} and others): ")
                except HostError as error:
                    raise HostError(
                        "sudo wants a password, and there is no terminal to ask on.",
                        where=host,
                        hint=f"Set {VARIABLE}, or allow this user sudo without a password.",
                    ) from error
            return self._known

    def refused(self, host: str) -> None:
        """Remember that ``host`` said no."""
        with self._lock:
            self._refused_by = self._refused_by or host


class Password:
    """What one sudo command needs: its own prompt, unlike anything a program prints, and the answer to it.

    sudo gets the password only when it asks with that prompt, so it can never end up as the program's input.
    """

    def __init__(self, source: PasswordSource) -> None:
        token = secrets.token_hex(8)
        self.prompt = f"[longshore-sudo-{token}]"
        self.mark = f"longshore-started-{token}"
        self._source = source
        self._answered = False

    def prompted(self, output: bytes | bytearray) -> bool:
        """Whether sudo waits for the password."""
        return output.endswith(self.prompt.encode())

    def answer(self, host: str) -> bytes:
        """The password as a line. Raises ``HostError`` when it is asked for twice: it was wrong."""
        if self._answered:
            self._source.refused(host)
            raise HostError(
                "the sudo password is wrong.", where=host, hint=f"Check {VARIABLE} or type it again."
            )
        self._answered = True
        return self._source.get(host).encode() + b"\n"

    def passed(self, host: str, stream: Stream, end: float | None) -> bytes:
        """Let sudo have the password if it asks; return what the command has written since it was started.

        ``end`` (monotonic) is when ``TimeoutError`` is raised. Raises ``HostError`` when sudo gives up, or
        waits for something else than the password.
        """
        mark = self.mark.encode()
        output = b""
        # On a terminal the line ends with "\r\n".
        while mark not in output or b"\n" not in output.partition(mark)[2]:
            if self.prompted(output):
                stream.send(self.answer(host))
                output = b""
            seconds = left(end)
            try:
                chunk = stream.receive(_PATIENCE if seconds is None else min(seconds, _PATIENCE))
            except TimeoutError:
                if seconds is not None and seconds <= _PATIENCE:
                    raise
                last = output.decode(errors="replace").strip().splitlines()[-1:]
                raise HostError(
                    f"sudo waits for something that it can't be given{f': {last[0]}' if last else ''}",
                    where=host,
                    hint="Another factor, a prompt of PAM's own? Allow this user sudo without a password.",
                ) from None
            if not chunk:
                said = output.decode(errors="replace")
                message, hint = self.explain(said) or (f"sudo failed: {said.strip()}", "")
                raise HostError(message, where=host, hint=hint)
            output += chunk
        return output.partition(mark)[2].partition(b"\n")[2]

    def explain(self, said: str) -> tuple[str, str] | None:
        """Message and hint for a sudo that gave up with these words, or None."""
        last = said.strip().splitlines()[-1].strip() if said.strip() else ""
        if "sudo: not found" in said or "sudo: command not found" in said:
            return "no sudo on the host.", "Install it, or connect as root without `ansible_become`."
        if (
            "not in the sudoers file" in said
            or "not allowed to execute" in said
            or "may not run sudo" in said
        ):
            return f"this user may not use sudo: {last}", "Allow it in /etc/sudoers.d on the host."
        if "incorrect password" in said or "no password was provided" in said:
            return "the sudo password is wrong.", f"Check {VARIABLE} or type it again."
        if "must have a tty" in said:
            return "sudo on the host insists on a terminal.", "Remove `requiretty` from its sudoers."
        return None


def needs_sudo(ssh: SshSettings, user: str) -> bool:
    """Whether commands go through sudo: asked for, and not already that user."""
    return ssh.become and user != ssh.become_user


def with_sudo(argv: list[str], ssh: SshSettings, prompt: str) -> list[str]:
    """``argv`` as the host's ``become_user``. The password, if any, is read from standard input."""
    return ["sudo", "-S", "-p", prompt, "-u", ssh.become_user, "--", *argv]


def announced(argv: list[str], mark: str) -> list[str]:
    """``argv`` with a line before its output, which says that sudo is done with standard input."""
    return ["sh", "-c", 'printf "%s\\n" "$0"; exec "$@"', mark, *argv]
