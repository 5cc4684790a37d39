"""What a person is told when a rollout has not left the fleet as it should: what each host runs, what is
recorded there, and what to type."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from longshore.agent import wire
from longshore.errors import AgentError, DeployError, HostError, LongshoreError
from longshore.rollout.moves import Move, Story


def not_taken_back(error: LongshoreError, move: Move, story: Story) -> LongshoreError:
    """A host that should have gone back and hasn't."""
    command = _command("deploy", story)
    if not isinstance(error, AgentError):
        return HostError(
            f"could not be taken back from here: {error.message.rstrip('.')}. Its agent goes back to"
            f" {move.expect or 'nothing'} by itself when it has heard nothing for {story.lease:g} s, or when"
            " the host comes up again",
            where=move.host,
            hint=f"`{_command('status', story)}` shows what runs; `{command}` makes it whole.",
        )
    state = error.detail.get("state")
    found = (
        f"{error.message.rstrip('.')}. {found_words(state)}" if isinstance(state, Mapping) else error.message
    )
    start = _command("start", story, move.host)
    return AgentError(
        found,
        code=error.code,
        where=move.host,
        hint=f"When that is mended, `{start}` tries to go back again, and `{command}` goes on.",
        detail=error.detail,
    )


def found_words(state: Mapping[str, Any]) -> str:
    """The agent's ``condition`` in words: what runs, and what is recorded as current."""
    containers = state.get("containers")
    recorded = f"recorded as current: {state.get('current') or 'nothing'}"
    if containers is None:
        return f"What runs is not known, the engine doesn't say; {recorded}"
    if not containers:
        return f"Nothing runs; {recorded}"
    runs = ", ".join(
        f"{one['service']} ({one['status']}, {one['release'] or 'not of ' + str(state.get('back'))})"
        if state.get("back")
        else f"{one['service']} ({one['status']})"
        for one in containers
    )
    return f"What runs: {runs}; {recorded}"


def lost_at_commit(error: LongshoreError, move: Move, story: Story) -> LongshoreError:
    """A host that was lost at the commit and could not be reached again."""
    return HostError(
        f"was lost while it committed {move.release}, and not reached again ({error.message.rstrip('.')})."
        f" It runs {move.release} if it had committed, else it goes back to {move.expect or 'nothing'} by"
        " itself; the other hosts keep the new release",
        where=move.host,
        hint=f"When it is back, `{_command('deploy', story)}` makes the fleet whole.",
    )


def stays_closed(story: Story, hosts: Iterable[str]) -> DeployError:
    """After a breaking migration the release didn't come, and the old one isn't started on its schema."""
    old = sorted({move.expect for move in story.moves if move.expect})
    before = old[0] if len(old) == 1 else "the release before"
    names = [move.host for move in story.moves if move.host in set(hosts)]
    return DeployError(
        f"the breaking migration had begun, so {before} is not started on what may be the new schema:"
        f" {', '.join(names)} answer 503 (maintenance), and only what the migration needs runs there",
        hint=f"Mend the release and `{_command('deploy', story)}`; or make the schema the old one again"
        f" (a backup), then `{_command('rollback', story)} --breaking --to {old[0] if old else 'ID'}`.",
    )


def not_opened(error: LongshoreError, story: Story) -> LongshoreError:
    """A host that has the new release, and still answers 503."""
    return HostError(
        f"the release is committed, and maintenance is still on: {error.message.rstrip('.')}",
        where=error.where,
        hint=f"`{_command('maintenance off', story)}` ends it.",
    )


def mixed(story: Story, deployed: Iterable[str], behind: Iterable[str]) -> DeployError:
    """The fleet runs two releases, as ``max_fail`` allows."""
    return DeployError(
        f"the fleet is mixed: {', '.join(deployed)} run the new release, {', '.join(behind)} could not"
        f" (rollout.max_fail is {story.policy.max_fail})",
        hint=f"Mend what failed there; then `{_command('deploy', story)}` makes it whole, or"
        f" `{_command('rollback', story)}` takes the others back, too.",
    )


def is_locked(error: LongshoreError) -> bool:
    """Whether somebody else has the app there, or the plan is void: no rollout may go past that."""
    return isinstance(error, AgentError) and error.code in (wire.LOCKED, wire.HELD, wire.MOVED_ON)


def _command(task: str, story: Story, limit: str = "") -> str:
    words = ["invoke", task]
    if story.environment:
        words += ["--env", story.environment]
    if story.app:
        words += ["--app", story.app]
    if limit:
        words += ["--limit", limit]
    return " ".join(words)
