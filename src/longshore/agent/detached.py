"""Processes of ours on the host that go on when the agent's session is over."""

import os
import socket
import subprocess
import sys
from typing import List

from longshore.agent.compose import clean_environment

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
"""Where this package is imported from: the agent's own folder."""
_STARTED: List["subprocess.Popen[bytes]"] = []
"""Kept, for nobody here waits for their end."""
_RUN = (
    "import sys, importlib; sys.path.insert(0, sys.argv[1]);"
    " importlib.import_module('longshore.agent.' + sys.argv[2]).main(sys.argv[3:])"
)


def start(module: str, argv: List[str], listener: socket.socket) -> None:
    """Run ``main(argv)`` of this module of the agent in a session of its own, with the listening socket under
    the number that it has here."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _RUN, _ROOT, module, *argv],
        cwd="/",
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=[listener.fileno()],
        start_new_session=True,
    )
    _STARTED.append(process)
