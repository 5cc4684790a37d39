"""What roles add to a rollout: hooks at its steps, and checks of what came out. Python, on the controller."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from longshore.console import Output
from longshore.errors import DeployError, LongshoreError
from longshore.remote.session import Session
from longshore.roles import HookName
from longshore.rollout.moves import Move, Story


def run_hooks(name: HookName, move: Move, story: Story, session: Session | None, output: Output) -> None:
    """Run a host's hooks of that name, in the order of its roles. Raises ``DeployError`` when one fails."""
    for role in move.roles:
        hook = role.hooks.get(name)
        if hook is not None:
            _guarded(f"the hook {name} of the role {role.name}", move, hook, hook_facts(move, story))


def tell_hooks(
    name: HookName,
    moves: Sequence[Move],
    story: Story,
    sessions: Mapping[str, Session],
    output: Output,
    *,
    error: str = "",
) -> None:
    """Hooks after the fact, on these hosts: one that fails is told, and changes nothing."""
    for move in moves:
        try:
            run_hooks(name, move, story, sessions.get(move.host), output)
        except LongshoreError as problem:
            output.say(f"warning: {problem}")


def run_role_checks(move: Move, story: Story) -> list[DeployError]:
    """Run a host's checks, and return what is wrong, a sentence each."""
    problems = []
    for role in move.roles:
        for name, check in role.checks.items():
            what = f"the check {name!r} of the role {role.name}"
            try:
                answer = _guarded(what, move, check, hook_facts(move, story))
            except DeployError as error:
                problems.append(error)
                continue
            if answer is not None:
                problems.append(DeployError(f"{what} failed: {answer}", where=move.host))
    return problems


def hook_facts(move: Move, story: Story) -> dict[str, Any]:
    """What a hook or check is told. No secret is among it."""
    return {
        "environment": story.environment,
        "app": story.app,
        "host": move.host,
        "url": move.url,
        "release": move.release,
        "previous": move.expect,
        "services": sorted(move.services),
        **story.facts.args(),
    }


def _guarded(
    what: str, move: Move, function: Callable[[Mapping[str, Any]], Any], facts: Mapping[str, Any]
) -> Any:
    try:
        return function(facts)
    except (Exception, SystemExit) as error:
        # The project's own code: its failure is the rollout's, not a defect of ours.
        raise DeployError(f"{what} failed: {type(error).__name__}: {error}", where=move.host) from error
