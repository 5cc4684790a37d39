"""A command's run over an environment: what was chosen, how it is reached, and who is running it."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from longshore.console import Masks, Output, make_output
from longshore.errors import LongshoreError, Problems
from longshore.inventory import find_root, load, masked_values, resolve_secrets, select
from longshore.inventory.model import Environment, Target
from longshore.records import dataclass
from longshore.remote import Links
from longshore.remote.fleet import each
from longshore.remote.session import Session
from longshore.secrets.keyring import Keyring

if TYPE_CHECKING:
    from longshore.rollout import Facts
    from longshore.rollout.hookfiles import HookFiles

Value = TypeVar("Value")


@dataclass
class Fleet:
    """The chosen apps and hosts of one environment, and the links to them."""

    environment: Environment
    chosen: Mapping[str, tuple[str, ...]]
    """App to the names of its chosen hosts."""
    output: Output
    links: Links
    facts: Facts = field(default_factory=lambda: make_facts(Path()))
    limit: str = ""
    """The pattern of hosts that was given; empty for all."""
    built: Mapping[str, str] = field(default_factory=dict)
    """What this run has built: image as written to its reference by digest."""

    @property
    def hosts(self) -> tuple[str, ...]:
        """Every chosen host once, in the inventory's order."""
        wanted = {host for hosts in self.chosen.values() for host in hosts}
        return tuple(name for name in self.environment.hosts if name in wanted)

    @cached_property
    def hooks(self) -> HookFiles:
        """The project's hooks as executables. Raises ``Problems`` with what is wrong with them."""
        from longshore.rollout.hookfiles import find_hooks

        return find_hooks(self.environment.root)

    def target(self, app: str, host: str) -> Target:
        return self.environment.targets[(app, host)]

    def recovery(self, app: str) -> float:
        """How long a host that has given its lock may take to undo what a run before has left (s): two
        releases may have to become healthy, or fail to."""
        return max(300.0, 60.0 + 2 * self.target(app, self.chosen[app][0]).app.health_timeout)

    def session(self, host: str) -> Session:
        return self.links.link(host).session()

    def reopen(self, host: str) -> Session:
        """A new session with a host whose connection broke."""
        return self.links.again(host).session()

    def each(
        self, hosts: Iterable[str], do: Callable[[str], Value]
    ) -> tuple[dict[str, Value], dict[str, LongshoreError]]:
        """Do it for every host at once; what came out of it, and what went wrong, by host."""
        values: dict[str, Value] = {}
        errors: dict[str, LongshoreError] = {}
        for host, outcome in each(tuple(hosts), do, parallel=self.environment.parallel).items():
            if outcome.error is not None:
                errors[host] = outcome.error
            else:
                values[host] = outcome.get()
        return values, errors

    def ask(
        self, app: str, op: str, args: Mapping[str, Any] | None = None, *, hosts: Sequence[str] | None = None
    ) -> tuple[dict[str, Any], dict[str, LongshoreError]]:
        """Send one request about an app to the agents of its hosts."""
        wanted = self.chosen[app] if hosts is None else hosts
        return self.each(wanted, lambda host: self.session(host).call(op, {"app": app, **(args or {})}))


@contextmanager
def open_fleet(
    *,
    env: str,
    app: str = "",
    limit: str = "",
    json: bool = False,
    overrides: Sequence[str] = (),
    why: str = "",
    ahead: bool = False,
    values: bool = False,
) -> Iterator[Fleet]:
    """Load the environment, choose, and prepare links. Closes everything at the end.

    With ``ahead`` the chosen hosts' sessions are opened while the command prepares; else on first use. With
    ``values`` encrypted env files are opened and stores are asked, before a connection is: for commands that
    need what the apps find in their ``.env``.
    """
    root = find_root(Path.cwd())
    output = make_output(as_json=json)
    try:
        environment = load(root, env, overrides=tuple(overrides), keyring=Keyring() if values else None)
        output.masks = Masks(masked_values(environment))
        for warning in environment.warnings:
            output.say(f"warning: {warning}")
        chosen = dict(select(environment, limit or None, app or None))
        if values:
            environment = resolve_secrets(environment, chosen)
            output.masks = output.masks.plus(masked_values(environment))
        with Links(environment) as links:
            if ahead:
                links.open_ahead(host for hosts in chosen.values() for host in hosts)
            yield Fleet(
                environment, chosen, output, links, make_facts(root, why=output.masks.text(why)), limit
            )
    except LongshoreError as error:
        # Said by the run's own output: it knows the secrets to mask, and clears the live rows first.
        output.error(error)
        from invoke.exceptions import Exit

        raise Exit(code=1) from None
    finally:
        output.close()


def make_facts(root: Path, *, why: str = "") -> Facts:
    """Who runs this, from where, at which commit."""
    from longshore.remote.whoami import login_name
    from longshore.rollout import Facts

    by = f"{login_name() or f'user {os.geteuid()}'}@{socket.gethostname()}"
    return Facts(run=secrets.token_hex(6), by=by, git=git_commit(root), why=why)


def git_commit(root: Path) -> str:
    """The project's commit, short, ``-dirty`` with changes that are not committed; empty without git."""
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def raise_all(errors: Mapping[str, LongshoreError]) -> None:
    """Raise every host's error at once, when there are any."""
    if errors:
        raise Problems(errors.values())
