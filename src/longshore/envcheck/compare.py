"""Two environments side by side, key by key, with secrets as fingerprints."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from typing import Literal

from longshore.errors import InventoryError
from longshore.inventory.hidden import is_telling, looks_secret
from longshore.inventory.model import Environment, EnvValue
from longshore.inventory.nearest import did_you_mean
from longshore.records import dataclass

State = Literal["same", "differs", "only left", "only right"]


@dataclass(frozen=True)
class Side:
    """What one environment has for a key: shown so that no secret is seen, and where each is said."""

    shown: tuple[str, ...]
    """One text for each different value of the app's hosts; mostly one. Empty: not there."""
    places: tuple[str, ...]


@dataclass(frozen=True)
class Difference:
    """One key of one app in two environments."""

    app: str
    key: str
    state: State
    left: Side
    right: Side


class Prints:
    """Shows values: a secret as ``***`` and a fingerprint with a salt of this run.

    Equal fingerprints mean equal values within the run; with the salt gone they can't be tried out later.
    """

    def __init__(self) -> None:
        self._salt = secrets.token_bytes(32)

    def show(self, key: str, entry: EnvValue) -> str:
        """The value, or its mark and fingerprint."""
        if not entry.known:
            return f"a reference: {entry.value}"
        plain = not entry.sealed and not looks_secret(key, entry.value)
        if not plain or (entry.secret and is_telling(key, entry.value)):
            if not entry.value:
                return "(empty)"
            digest = hmac.new(self._salt, entry.value.encode("utf-8", "surrogatepass"), hashlib.sha256)
            return f"*** {digest.hexdigest()[:8]}"
        return entry.value or "(empty)"


def compare(left: Environment, right: Environment, *, app: str = "") -> tuple[Difference, ...]:
    """Every variable of every app that one of them has, sorted by app and key.

    Raises ``InventoryError`` for an app that neither has.
    """
    apps = sorted({*left.apps, *right.apps})
    if app and app not in apps:
        raise InventoryError(
            f"There is no app named {app!r} in {left.name} or {right.name}.",
            where="--app",
            hint=did_you_mean(app, apps, list_all="There are"),
        )
    prints = Prints()
    result: list[Difference] = []
    for name in [app] if app else apps:
        ours, theirs = values(left, name), values(right, name)
        for key in sorted({*ours, *theirs}):
            one, other = ours.get(key, ()), theirs.get(key, ())
            result.append(
                Difference(name, key, _state(one, other), side(prints, key, one), side(prints, key, other))
            )
    return tuple(result)


def _state(one: Iterable[EnvValue], other: Iterable[EnvValue]) -> State:
    left, right = {entry.value for entry in one}, {entry.value for entry in other}
    if not left or not right:
        return "only left" if left else "only right"
    return "same" if left == right else "differs"


def values(environment: Environment, app: str) -> dict[str, tuple[EnvValue, ...]]:
    """Key to its different values over the app's hosts, in the hosts' order."""
    found: dict[str, dict[str, EnvValue]] = {}
    for host in environment.apps.get(app, ()):
        for key, entry in environment.targets[app, host].env.items():
            found.setdefault(key, {}).setdefault(entry.value, entry)
    return {key: tuple(by_value.values()) for key, by_value in found.items()}


def side(prints: Prints, key: str, entries: Iterable[EnvValue]) -> Side:
    """One environment's values of a key, as they may be shown."""
    entries = tuple(entries)
    return Side(
        tuple(prints.show(key, entry) for entry in entries),
        tuple(dict.fromkeys(str(entry.source.where) for entry in entries)),
    )
