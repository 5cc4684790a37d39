"""Errors of the Docker SDK as sentences with the host's name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from longshore.errors import ConnectionLostError, HostError


@contextmanager
def told(host: str, what: str) -> Iterator[None]:
    """Turn what the SDK raises inside into a ``HostError``: ``what`` says what was being done."""
    from docker.errors import APIError, DockerException
    from requests.exceptions import RequestException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except APIError as error:
        said = str(error.explanation or error).strip()
        raise HostError(f"the engine can't {what}: {said}", where=host) from error
    except DockerException as error:
        raise HostError(f"can't {what}: {error}", where=host) from error
    except (RequestException, HTTPError, OSError, EOFError) as error:
        said = str(error) or type(error).__name__
        raise ConnectionLostError(
            f"the connection to the engine broke while we tried to {what}: {said}", where=host
        ) from error
