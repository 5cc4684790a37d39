"""Running a command in a container that runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from longshore.daily.engine import told

if TYPE_CHECKING:
    from longshore.remote import Link

OnOutput = Callable[[bytes, bool], None]
"""Takes a piece of output, and whether it came on standard error."""


def execute(
    link: Link,
    container: str,
    command: Sequence[str],
    *,
    on_output: OnOutput,
    user: str = "",
    environment: Mapping[str, str] | None = None,
) -> int:
    """Run ``command`` in ``container`` (a name or an id), without a terminal, and return its exit code.

    It goes to the engine's socket, so neither the command nor ``environment`` is in an argument on the host.
    Raises ``HostError``. A command that isn't in the image ends with 126 or 127, as with ``docker exec``.
    """
    client = link.docker()
    with told(link.host, f"run a command in {container}"):
        made = client.api.exec_create(
            container,
            list(command),
            stdout=True,
            stderr=True,
            stdin=False,
            user=user,
            environment=dict(environment or {}),
        )
        for out, err in client.api.exec_start(made["Id"], stream=True, demux=True):
            if out:
                on_output(out, False)
            if err:
                on_output(err, True)
        code = client.api.exec_inspect(made["Id"])["ExitCode"]
    return 1 if code is None else int(code)


def output_of(
    link: Link, container: str, command: Sequence[str], *, environment: Mapping[str, str] | None = None
) -> tuple[int, str, str]:
    """Run a command and return its exit code, standard output and standard error."""
    parts: dict[bool, list[bytes]] = {False: [], True: []}
    code = execute(
        link,
        container,
        command,
        on_output=lambda data, is_error: parts[is_error].append(data),
        environment=environment,
    )
    out, err = (b"".join(parts[which]).decode("utf-8", "replace") for which in (False, True))
    return code, out, err
