"""Logins for registries: what the inventory says, else what Docker on this machine knows.

Docker keeps them in ``~/.docker/config.json``, or has a credential helper keep them (docs.docker.com,
"docker login", and the protocol of docker/docker-credential-helpers). Nothing is written here.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from longshore.errors import LongshoreError
from longshore.images.reference import DOCKER_HUB
from longshore.inventory.model import Registry
from longshore.records import dataclass

HUB_KEY = "https://index.docker.io/v1/"
"""Docker Hub's name among logins."""
_TOKEN_USER = "<token>"  # noqa: S105 - the name that a helper gives for a token
_SECONDS = 30


@dataclass(frozen=True)
class Login:
    """Who logs in to a registry. With ``token`` (an identity token) there is no password."""

    username: str
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)

    def config(self) -> dict[str, str]:
        """The entry under ``auths`` in Docker's ``config.json``."""
        pair = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        return {"auth": pair, "identitytoken": self.token} if self.token else {"auth": pair}

    def engine(self, registry: str) -> dict[str, str]:
        """The engine's ``X-Registry-Auth`` (Docker Engine API, "Authentication")."""
        if self.token:
            return {"identitytoken": self.token, "serveraddress": registry}
        return {"username": self.username, "password": self.password, "serveraddress": registry}

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be shown."""
        return tuple(value for value in (self.password, self.token) if value)


def key_of(registry: str) -> str:
    """The registry's name in Docker's ``config.json``."""
    return HUB_KEY if registry == DOCKER_HUB else registry


def logins(names: Iterable[str], registries: Mapping[str, Registry]) -> dict[str, Login]:
    """The logins that are known for these registries. Raises ``LongshoreError`` when a helper fails."""
    found: dict[str, Login] = {}
    config = _config()
    for name in dict.fromkeys(names):
        said = registries.get(name)
        if said and said.username and said.password:
            found[name] = Login(said.username, said.password)
        elif login := _from_docker(name, config):
            found[name] = login
    return found


def auths(logins: Mapping[str, Login]) -> dict[str, dict[str, str]]:
    """The logins as ``auths`` of a ``config.json``."""
    return {key_of(name): login.config() for name, login in logins.items()}


def _config() -> dict[str, Any]:
    folder = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    try:
        value = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        return {}  # who uses no Docker here has none, and what Docker can't read is Docker's to say
    return value if isinstance(value, dict) else {}


def _from_docker(name: str, config: Mapping[str, Any]) -> Login | None:
    keys = (HUB_KEY, "index.docker.io", name) if name == DOCKER_HUB else (name, f"https://{name}")
    helpers = config.get("credHelpers")
    for key in keys:
        helper = helpers.get(key) if isinstance(helpers, dict) else None
        if helper:
            return _ask_helper(str(helper), key)
    entries = config.get("auths")
    entries = entries if isinstance(entries, dict) else {}
    store = config.get("credsStore")
    for key in keys:
        # Docker lists in auths what its store has; without that nobody need be asked.
        if store and key in entries and (login := _ask_helper(str(store), key)):
            return login
        if isinstance(entries.get(key), dict) and (login := _entry(entries[key])):
            return login
    return None


def _entry(entry: Mapping[str, Any]) -> Login | None:
    token = str(entry.get("identitytoken") or "")
    user, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if entry.get("auth"):
        try:
            pair = base64.b64decode(str(entry["auth"]), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return None
        user, _, password = pair.partition(":")
    if not user and not token:
        return None
    return Login(user, password.rstrip("\0"), token)


def _ask_helper(helper: str, key: str) -> Login | None:
    if not re.fullmatch(r"[A-Za-z0-9._-]+", helper):
        return None
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [program, "get"],
            input=key,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise LongshoreError(
            f"Docker's configuration names the credential helper {program}, which is not installed.",
            where=key,
            hint="Install it, or give the registry's username and password under `longshore.registries`.",
        ) from None
    except subprocess.TimeoutExpired:
        raise LongshoreError(f"{program} doesn't answer within {_SECONDS} s.", where=key) from None
    if done.returncode != 0:
        said = (done.stdout or done.stderr).strip()
        if "credentials not found" in said:
            return None
        raise LongshoreError(f"{program} gives no login: {said.splitlines()[-1] if said else ''}", where=key)
    try:
        answer = json.loads(done.stdout)
        user, secret = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, KeyError, TypeError):
        raise LongshoreError(f"{program} answers what can't be read.", where=key) from None
    return Login(user, token=secret) if user == _TOKEN_USER else Login(user, secret)
