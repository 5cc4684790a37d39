"""What a project adds to a rollout: hooks at its steps, and checks of what came out.

A hook is Python in a role, an executable on the controller, or one that the agent runs on the host. They run
in this order, for each host.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from longshore.agent import wire
from longshore.agent.shorten import first as first_of
from longshore.console import Masks, Output
from longshore.errors import DeployError, HookError, LongshoreError
from longshore.remote.session import Event, Session
from longshore.roles import HookName
from longshore.roles.calling import CallFailed
from longshore.rollout.hookfiles import HookFile
from longshore.rollout.moves import Move, Story
from longshore.verify.apart import call_role
from longshore.verify.program import how_it_ended, run_program

_LOG = 20
"""Lines of a hook's output that its error holds."""
_LONGEST = 4096
"""Characters of a fact in a hook's environment."""


def run_hooks(
    name: HookName,
    move: Move,
    story: Story,
    session: Session | None,
    output: Output,
    *,
    error: str = "",
    first: bool | None = None,
) -> None:
    """Run a host's hooks of that name, one after another. The first one that fails ends it.

    Without a ``session`` nothing is run on the host. ``error`` is what went wrong, for ``on_failure``.
    Raises ``HookError``, or what the session raises.
    """
    for role in move.roles:
        if name in role.hooks:
            what = f"the hook {name} of the role {role.name}"
            # It waits in a file of the call's, which a killed run leaves.
            facts = {**hook_facts(move, story), "step": name, "error": output.masks.text(error)}
            said = _Said(output, move.host, name)
            try:
                call_role(role, "hooks", name, facts, timeout=story.hook_timeout, tell=said)
            except CallFailed as failure:
                raise HookError(f"{what} {failure}", where=move.host, log=said.last, hook=name) from failure
    files = story.hooks.of(name)
    if not files:
        return
    is_first = move.host == story.moves[0].host if first is None else first
    told = hook_environment(name, move, story, output.masks, error=error, first=is_first)
    for file in files:
        if not file.on_host:
            _on_controller(file, move, story, told, output)
        elif session is not None:
            _on_host(file, move, story, told, session, output)


def tell_hooks(
    name: HookName,
    moves: Sequence[Move],
    story: Story,
    sessions: Mapping[str, Session],
    output: Output,
    *,
    error: str = "",
) -> None:
    """Hooks after the fact, on these hosts at once: one that fails is told, and changes nothing."""
    if not moves or not (
        story.hooks.of(name) or any(name in role.hooks for move in moves for role in move.roles)
    ):
        return

    def one(move: Move) -> None:
        try:
            session = sessions.get(move.host)
            first = move is moves[0]
            run_hooks(name, move, story, session, output, error=error, first=first)
        except LongshoreError as problem:
            output.say(f"warning: {problem}")
            for line in problem.log if isinstance(problem, HookError) else ():
                output.say(f"  | {line}")

    with ThreadPoolExecutor(max_workers=min(len(moves), story.parallel)) as pool:
        list(pool.map(one, moves))


def run_role_checks(move: Move, story: Story, output: Output | None = None) -> list[DeployError]:
    """Run a host's checks, and return what is wrong, a sentence each."""
    from longshore.verify.role_checks import run_role_check  # late: with it comes all that smoke tests need

    problems = []
    for role in move.roles:
        for name in role.checks:
            said = _Said(output, move.host, name) if output is not None else None
            facts = hook_facts(move, story)
            result = run_role_check(role, name, facts, timeout=story.hook_timeout, tell=said)
            if not result.ok:
                what = f"the check {name!r} of the role {role.name}"
                problems.append(DeployError(f"{what} failed: {result.why}", where=move.host))
    return problems


def hook_facts(move: Move, story: Story) -> dict[str, Any]:
    """What a hook or check in Python is told. No secret is among it."""
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


def hook_environment(
    name: HookName, move: Move, story: Story, masks: Masks, *, error: str = "", first: bool = False
) -> dict[str, str]:
    """The same for an executable: ``LONGSHORE_…`` variables. No secret is among it."""
    values = {
        "STEP": name,
        "RUN": story.facts.run,
        "APP": story.app,
        "ENVIRONMENT": story.environment,
        "HOST": move.host,
        "HOSTS": " ".join(one.host for one in story.moves),
        "FIRST": "1" if first else "0",
        "RELEASE": move.release,
        "PREVIOUS": move.expect or "",
        "SERVICES": " ".join(sorted(move.services)),
        "URL": move.url or "",
        "BY": story.facts.by,
        "GIT": story.facts.git,
        "WHY": story.facts.why,
        "ERROR": error,
    }
    return {
        f"LONGSHORE_{key}": first_of(masks.text(text).replace("\0", ""), _LONGEST)
        for key, text in values.items()
    }


class _Said:
    """Shows what a hook says, and keeps the last of it. Called with each line."""

    def __init__(self, output: Output, host: str, hook: str) -> None:
        self.output = output
        self.host = host
        self.hook = hook
        self.last: list[str] = []

    def __call__(self, line: str) -> None:
        self.last.append(line)
        del self.last[:-_LOG]
        self.output.log(self.host, self.hook, line)

    def event(self, event: Event) -> None:
        """A line of a hook on the host."""
        if event["kind"] == "hook":
            self(str(event["line"]))


def _on_controller(file: HookFile, move: Move, story: Story, told: Mapping[str, str], output: Output) -> None:
    said = _Said(output, move.host, file.hook)
    timeout = story.hook_timeout
    try:
        ended = run_program([str(file.path)], cwd=story.hooks.root, timeout=timeout, env=told, on_line=said)
    except OSError as error:
        why = f"can't be run: {error.strerror or error}"
        raise HookError(f"the hook {file.label} {why}", where=move.host, hook=file.label) from None
    how = how_it_ended(ended, timeout)
    if how:
        raise HookError(
            f"the hook {file.label} {how}", where=move.host, log=ended.tail[-_LOG:], hook=file.label
        )


def _on_host(
    file: HookFile, move: Move, story: Story, told: Mapping[str, str], session: Session, output: Output
) -> None:
    args = {"app": story.app, "hook": file.label, "env": told, "timeout": story.hook_timeout}
    said = _Said(output, move.host, file.hook)
    session.call(wire.HOOK, args, payload=file.data, on_event=said.event, timeout=story.hook_timeout + 60)
