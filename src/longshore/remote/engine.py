"""The Docker SDK over an SSH connection that is already there: each of its HTTP connections is a channel.

For conversation only: logs, exec, stats, events, disk usage. What changes a host is the agent's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import docker
from docker.constants import DEFAULT_DOCKER_API_VERSION, MINIMUM_DOCKER_API_VERSION
from docker.errors import DockerException
from docker.transport.sshconn import SSHConnection, SSHConnectionPool, SSHHTTPAdapter
from docker.utils import version_lt
from requests.exceptions import RequestException

from longshore.errors import HostError, LongshoreError

_SECONDS = 60

OpenChannel = Callable[[], Any]


def client(host: str, open_channel: OpenChannel) -> docker.DockerClient:
    """A client whose connections are made by ``open_channel``, each a channel to the engine's socket.

    Raises ``HostError`` when the engine doesn't answer.
    """
    # The SDK's own ssh:// would open a second SSH connection, with its own idea of host keys.
    made = docker.DockerClient(
        base_url="tcp://localhost:2375", version=MINIMUM_DOCKER_API_VERSION, timeout=_SECONDS
    )
    adapter = _Adapter(open_channel)
    api: Any = made.api
    api._custom_adapter = adapter
    api.mount("http+docker://ssh", adapter)
    api.base_url = "http+docker://ssh"
    try:
        newest = api.version(api_version=False)["ApiVersion"]
    except LongshoreError:
        made.close()
        raise
    except (DockerException, RequestException, OSError, EOFError, KeyError) as error:
        made.close()
        raise HostError(
            f"the Docker engine doesn't answer: {error}",
            where=host,
            hint="Is it installed and running, and may this user use it? `invoke bootstrap` sets it up.",
        ) from error
    api._version = newest if version_lt(newest, DEFAULT_DOCKER_API_VERSION) else DEFAULT_DOCKER_API_VERSION
    return made


class _Connection(SSHConnection):  # type: ignore[misc, unused-ignore]
    def __init__(self, open_channel: OpenChannel) -> None:
        super().__init__(ssh_transport=None, timeout=_SECONDS, host="localhost")
        self._open_channel = open_channel

    def connect(self) -> None:
        channel = self._open_channel()
        channel.settimeout(self.timeout)
        self.sock = channel


class _Pool(SSHConnectionPool):  # type: ignore[misc, unused-ignore]
    def __init__(self, open_channel: OpenChannel) -> None:
        super().__init__(ssh_client=None, timeout=_SECONDS, maxsize=4, host="localhost")
        self._open_channel = open_channel

    def _new_conn(self) -> Any:
        return _Connection(self._open_channel)


class _Adapter(SSHHTTPAdapter):  # type: ignore[misc, unused-ignore]
    def __init__(self, open_channel: OpenChannel) -> None:
        super().__init__("ssh://localhost", timeout=_SECONDS, max_pool_size=4, shell_out=True)
        self._pool = _Pool(open_channel)

    def get_connection(self, url: Any, proxies: Any = None) -> _Pool:
        return self._pool

    def close(self) -> None:
        self._pool.close()
        super().close()
