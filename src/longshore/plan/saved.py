"""A plan as a file: what was reviewed, so that a deploy does just that or nothing.

It holds ids of releases, the sentences that were shown, and no secret: of those only this run's fingerprints,
whose salt is kept nowhere. The hash in it finds what was edited or damaged; it is no signature.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from longshore.errors import DeployError, LongshoreError, Problems
from longshore.plan.model import HostPlan, Plan
from longshore.plan.words import lines
from longshore.records import dataclass

FORMAT = 1


@dataclass(frozen=True)
class SavedPlan:
    """A plan that was read from a file. ``apps``: app to host to what was planned for it."""

    path: str
    environment: str
    app: str
    limit: str
    variables: tuple[str, ...]
    """The names that were given with ``--set``; their values are in no file."""
    apps: Mapping[str, Mapping[str, Mapping[str, Any]]]

    @property
    def again(self) -> str:
        """What to do when it can't be applied."""
        return f"Look again, and save it again: `invoke plan --env {self.environment} --save {self.path}`."


def check_place(path: str) -> None:
    """Raises ``LongshoreError`` when :func:`save` can't write there: before hosts are asked for a plan."""
    folder = Path(path).parent
    if Path(path).is_dir():
        raise LongshoreError(
            "the plan can't be saved: this is a folder", where=path, hint="Name a file in it."
        )
    if not folder.is_dir():
        there = "this is no folder" if folder.exists() else "there is no such folder"
        raise LongshoreError(f"the plan can't be saved: {there}", where=str(folder))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise LongshoreError("the plan can't be saved: the folder can't be written to", where=str(folder))


def save(
    path: str,
    plans: Sequence[Plan],
    *,
    environment: str,
    app: str,
    limit: str,
    variables: Sequence[str],
    by: str,
) -> None:
    """Write a plan file, readable for its owner only, as a whole or not at all.

    Raises ``LongshoreError`` when it can't be written.
    """
    body = {
        "format": FORMAT,
        "environment": environment,
        "app": app,
        "limit": limit,
        "set": sorted(variables),
        "by": by,
        "at": round(time.time(), 3),
        "apps": {plan.app: {host: _planned(one) for host, one in plan.hosts.items()} for plan in plans},
    }
    text = json.dumps({**body, "sha256": _hash(body)}, indent=1, ensure_ascii=False) + "\n"
    folder = Path(path).parent
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(prefix=".plan-", dir=folder)  # mode 0600
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).replace(path)
    except OSError as error:
        with suppress(OSError):
            Path(temporary).unlink()
        raise LongshoreError(f"the plan can't be saved: {error.strerror}", where=path) from None


def load(path: str) -> SavedPlan:
    """Read a plan file. Raises ``LongshoreError`` when it is missing, damaged or was edited."""
    try:
        body = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LongshoreError(
            "there is no such plan", where=path, hint="`invoke plan --save FILE` writes one."
        ) from None
    except OSError as error:
        raise LongshoreError(f"the plan can't be read: {error.strerror}", where=path) from None
    except ValueError:
        body = None
    if not isinstance(body, dict) or "sha256" not in body:
        raise LongshoreError("this is no plan", where=path, hint="`invoke plan --save FILE` writes one.")
    said = body.pop("sha256")
    if said != _hash(body):
        raise LongshoreError(
            "this plan was edited or damaged since it was saved", where=path, hint="Save it again."
        )
    if body.get("format") != FORMAT:
        raise LongshoreError(
            "this plan is of another version of Longshore", where=path, hint="Save it again."
        )
    return SavedPlan(path, body["environment"], body["app"], body["limit"], tuple(body["set"]), body["apps"])


def check_choice(saved: SavedPlan, *, environment: str, app: str, limit: str, build: bool = False) -> None:
    """Refuse a plan that is for something else than what was typed; what wasn't typed is the plan's.

    Raises ``Problems``.
    """
    said = (
        ("environment", "--env", environment, saved.environment),
        ("app", "--app", app, saved.app),
        ("limit", "--limit", limit, saved.limit),
    )
    problems = [
        LongshoreError(
            f"this plan was made {f'with {option} {theirs}' if theirs else f'without {option}'}, not for the"
            f" {what} {mine}",
            where=saved.path,
            hint=f"Leave {option} out, or make another plan.",
        )
        for what, option, mine, theirs in said
        if mine and mine != theirs
    ]
    if build:
        problems.append(
            LongshoreError(
                "a plan names the images that it brings, so --build has no place", where=saved.path
            )
        )
    if problems:
        raise Problems(problems)


def check(saved: SavedPlan, now: Plan) -> None:
    """Refuse to go on when what would be done now isn't what was planned.

    Raises ``Problems`` with a sentence for every host; then nothing was changed.
    """
    planned = saved.apps.get(now.app, {})
    problems: list[LongshoreError] = []
    for host in {**planned, **now.hosts}:
        if host not in planned:
            problems.append(
                DeployError(f"{now.app} runs on this host now, and the plan has no such host", where=host)
            )
        elif host not in now.hosts:
            problems.append(
                DeployError(f"{now.app} doesn't run on this host any more, the plan has it", where=host)
            )
        else:
            problems += [
                DeployError(text, where=host) for text in _moved(planned[host], now.hosts[host], saved)
            ]
    if problems:
        raise Problems(
            [*problems, DeployError("nothing was changed: the plan doesn't hold any more", hint=saved.again)]
        )


def _moved(planned: Mapping[str, Any], now: HostPlan, saved: SavedPlan) -> list[str]:
    """How a host, or what it would get, differs from what was planned."""
    found = []
    if planned["to"] != now.bundle.id:
        also = f", or --set {' and '.join(saved.variables)} is not what it was" if saved.variables else ""
        found.append(
            f"{now.bundle.id} would be deployed now, the plan says {planned['to']}: the inventory, an env"
            f" file, a file or an image has changed since{also}"
        )
    if planned["from"] != now.current:
        found.append(
            f"it has moved on: {now.current or 'nothing'} is the current release, the plan starts from"
            f" {planned['from'] or 'nothing'}"
        )
    if planned["unfinished"] != now.seen["unfinished"]:
        found.append(
            f"release {now.seen['unfinished']} was begun since"
            if now.seen["unfinished"]
            else f"what was unfinished ({planned['unfinished']}) isn't any more"
        )
    drift = list(planned["drift"])
    found += [f"this was changed by hand since: {text}" for text in now.drift if text not in drift]
    found += [f"this isn't so any more: {text}" for text in drift if text not in now.drift]
    return found


def _planned(plan: HostPlan) -> dict[str, Any]:
    return {
        "from": plan.current,
        "to": plan.bundle.id,
        "action": plan.action,
        "unfinished": plan.seen["unfinished"],
        "drift": list(plan.drift),
        "says": lines(plan),
    }


def _hash(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
