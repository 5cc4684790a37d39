"""Errors of the Docker SDK as sentences with the host's name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from longshore.errors import ConnectionLostError, HostError


class GoneError(HostError):
    """The container that was meant isn't there any more, or doesn't run."""


@contextmanager
def told(host: str, what: str) -> Iterator[None]:
    """Turn what the SDK raises inside into a ``HostError``: ``what`` says what was being done."""
    from docker.errors import APIError, DockerException
    from paramiko.ssh_exception import SSHException
    from requests.exceptions import RequestException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except APIError as error:
        said = str(error.explanation or error).strip()
        kind = GoneError if error.status_code in (404, 409) else HostError
        raise kind(f"the engine can't {what}: {said}", where=host) from error
    except DockerException as error:
        raise HostError(f"can't {what}: {error}", where=host) from error
    except SSHException as error:
        raise HostError(
            f"the host opens no further channel to {what}: {error}",
            where=host,
            hint="Ask for fewer services at once (--service), or raise MaxSessions in its sshd_config.",
        ) from error
    except (RequestException, HTTPError, OSError, EOFError) as error:
        said = str(error) or type(error).__name__
        raise ConnectionLostError(
            f"the connection to the engine broke while we tried to {what}: {said}", where=host
        ) from error
