"""In which order a release goes over the fleet. Decides; touches nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from longshore.rollout.moves import Story


def before_migration(story: Story) -> tuple[str, ...]:
    """The hosts that switch before the migration, because it needs what runs there."""
    return tuple(move.host for move in story.moves if move.host in story.first)


def batches(story: Story) -> tuple[tuple[str, ...], ...]:
    """The hosts of every batch, in the order in which they switch: the canary's, then by ``serial``.

    Those before the migration are in none of them. A percentage is of all hosts that have something to do,
    rounded down, at least one (as Ansible's ``serial``); the last size repeats until none is left. Where
    hosts leave a load balancer, a batch that would take too many of them is several.
    """
    rest = [move for move in story.moves if move.host not in story.first]
    canary = tuple(move.host for move in rest if move.host in story.canary)
    others = [move.host for move in rest if move.host not in story.canary]
    sizes = [_size(text, len(story.moves)) for text in story.policy.serial] or [len(others)]
    found = (canary, *_cut(others, sizes))
    return tuple(part for batch in found for part in parts(story, batch))


def parts(story: Story, hosts: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """These hosts in groups of which each may be out of the load balancer at once; as they are without
    one."""
    if story.balancing is not None:
        return story.balancing.parts(hosts)
    return (tuple(hosts),) if hosts else ()


def _size(text: str, hosts: int) -> int:
    if text.endswith("%"):
        return max(1, hosts * int(text[:-1]) // 100)
    return int(text)


def _cut(hosts: Sequence[str], sizes: Sequence[int]) -> Iterable[tuple[str, ...]]:
    at = 0
    number = 0
    while at < len(hosts):
        size = sizes[min(number, len(sizes) - 1)]
        yield tuple(hosts[at : at + size])
        at += size
        number += 1


def smokes_after(number: int, count: int) -> bool:
    """Whether smoke tests follow batch ``number`` (from 1) of ``count``: the first, and the last."""
    return number in (1, count)
