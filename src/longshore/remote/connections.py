"""Opens the links of one run, and holds what they share: passwords, keys, known hosts, bastions.

Importing this costs nothing; Fabric and Paramiko are imported when the first host is reached.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from longshore.errors import HostError
from longshore.remote.route import Routes
from longshore.remote.session import Link
from longshore.remote.sockets import Early, Handshakes

if TYPE_CHECKING:
    from longshore.inventory.model import Environment, Host
    from longshore.remote.become import PasswordSource
    from longshore.remote.connection import Opener


_accepting = threading.Event()


def accept_new_keys() -> None:
    """From now on, all connections of this process record unknown host keys: ``--accept-new``."""
    _accepting.set()


class Connections:
    """A :class:`~longshore.remote.session.Connector`: opens the links of one run. Safe to use from threads.

    ``state_dirs`` are those of hosts that have one of their own, by name. ``connect_timeout`` is seconds.
    ``accept_new`` records unknown host keys, as OpenSSH's setting of that name. ``handshakes`` bounds the
    handshakes that one sshd sees from us at once. ``ask`` asks the person for a password; by default on the
    terminal, without echo.
    """

    def __init__(
        self,
        *,
        state_dir: str = "/var/lib/longshore",
        state_dirs: Mapping[str, str] | None = None,
        connect_timeout: float = 10.0,
        accept_new: bool = False,
        handshakes: int = 8,
        ssh_config: Path | None = None,
        ask: Callable[[str], str] | None = None,
    ) -> None:
        self._state_dir = state_dir
        self._state_dirs = state_dirs or {}
        self._handshakes = Handshakes(handshakes)
        self._routes = Routes(
            connect_timeout=connect_timeout,
            accept_new=accept_new or _accepting.is_set(),
            config=ssh_config,
        )
        self._ask = ask
        self._lock = threading.Lock()
        self._source: PasswordSource | None = None
        self._opener: Opener | None = None
        self._links: list[Link] = []

    @classmethod
    def of(cls, environment: Environment, *, accept_new: bool = False) -> Connections:
        """For the hosts of an environment, with its settings."""
        return cls(
            state_dir=environment.state_dir,
            state_dirs={host: target.state_dir for (_, host), target in environment.targets.items()},
            connect_timeout=environment.connect_timeout,
            accept_new=accept_new,
        )

    def __call__(self, host: Host) -> Link:
        """A link to ``host``, already connected. Raises ``HostError`` with a sentence."""
        link: Link
        state_dir = self._state_dirs.get(host.name, self._state_dir)
        if host.ssh.connection == "local":
            from longshore.remote.local import LocalLink

            link = LocalLink(host, self._passwords(), state_dir=state_dir)
        else:
            early = self._early(host)
            try:
                from longshore.remote.ssh import SshLink

                route = self._routes.to(host)
                ssh = SshLink(host, route, self._opens(), self._passwords(), state_dir=state_dir)
                ssh.open(early)
            finally:
                if early is not None:
                    early.close()
            link = ssh
        with self._lock:
            self._links.append(link)
        return link

    def _early(self, host: Host) -> Early | None:
        """A connection that its sshd gets ready for while Paramiko is imported here."""
        if self._opener is not None:  # it is imported
            return None
        place = self._routes.place(host)
        return Early.to(place, self._handshakes) if place is not None else None

    def _passwords(self) -> PasswordSource:
        from longshore.remote.become import PasswordSource, ask_person

        with self._lock:
            if self._source is None:
                self._source = PasswordSource(self._ask or ask_person)
            return self._source

    def _opens(self) -> Opener:
        from longshore.remote.become import ask_person
        from longshore.remote.connection import Opener

        with self._lock:
            if self._opener is None:
                self._opener = Opener(handshakes=self._handshakes, ask=self._ask or ask_person)
            return self._opener

    def close(self) -> None:
        """Close every link that was opened, and the bastions under them."""
        with self._lock:
            links, self._links = self._links, []
        for link in links:
            with contextlib.suppress(HostError):
                link.close()
        if self._opener is not None:
            self._opener.close()

    def __enter__(self) -> Connections:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
