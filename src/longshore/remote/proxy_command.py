"""A connection that a program of the person's makes: ssh_config's ``ProxyCommand``."""

from __future__ import annotations

import shutil
import socket
import subprocess


class ProxySocket(socket.socket):
    """Our end of a ``ProxyCommand``: a real socket, which is what Paramiko handles well.

    Its own ProxyCommand waits for full buffers on a pipe.
    """

    _process: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(cls, command: str) -> ProxySocket:
        """Run ``command`` by the shell, as OpenSSH does (pipes and variables are common in it)."""
        ours, theirs = socket.socketpair()
        with theirs:
            sock = cls(fileno=ours.detach())
            sock._process = subprocess.Popen(
                [shutil.which("sh") or "/bin/sh", "-c", f"exec {command.removeprefix('exec ')}"],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C ends our work in order, not the connection under it
            )
        return sock

    def close(self) -> None:
        """Close our end, and end the command."""
        super().close()
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(1)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
