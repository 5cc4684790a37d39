"""Docker's own settings for what a session runs: its logins, and of the user's only plug-ins and contexts."""

import json
import os
from typing import Any, Dict

from longshore.agent.work import Work

_KEPT = ("cli-plugins", "contexts")


def environment_of(work: Work, state_dir: str, auths: Dict[str, Any]) -> Dict[str, str]:
    """The environment of ``docker`` in this session, with ``auths`` for logins (registry to what
    ``~/.docker/config.json`` has of one)."""
    theirs = _docker_config()
    ours = os.path.join(work.private, "docker")
    os.makedirs(ours, mode=0o700, exist_ok=True)
    config: Dict[str, Any] = {"auths": auths}
    try:
        with open(os.path.join(theirs, "config.json"), encoding="utf-8") as file:
            said = json.load(file)
        config.update({key: said[key] for key in ("currentContext", "cliPluginsExtraDirs") if key in said})
    except (OSError, ValueError, TypeError):
        pass
    write(os.path.join(ours, "config.json"), json.dumps(config))
    for name in _KEPT:
        source, link = os.path.join(theirs, name), os.path.join(ours, name)
        if os.path.isdir(source) and not os.path.lexists(link):
            os.symlink(source, link)
    environment = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "DOCKER_HOST")}
    environment.setdefault("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    return {
        **environment,
        "DOCKER_CONFIG": ours,
        "BUILDX_CONFIG": buildx_config(state_dir),
        "BUILDX_NO_DEFAULT_ATTESTATIONS": "1",
        "DOCKER_CLI_HINTS": "false",
    }


def buildx_config(state_dir: str) -> str:
    """Where buildx keeps its own notes between runs; there is no login among them."""
    folder = os.path.join(state_dir, "buildx")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    return folder


def theirs_of_buildx() -> str:
    """Where the user's own builders are noted (docs.docker.com, "BUILDX_CONFIG")."""
    return os.environ.get("BUILDX_CONFIG") or os.path.join(_docker_config(), "buildx")


def _docker_config() -> str:
    return os.environ.get("DOCKER_CONFIG") or os.path.join(os.path.expanduser("~"), ".docker")


def write(path: str, text: str) -> None:
    """Write a file that nobody else may read."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(text.encode("utf-8", "surrogateescape"))
