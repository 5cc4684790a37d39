"""``python -m tests.bench``: how long things take, and whether the goals of docs/performance.md are reached.

Nothing here fails because it was slow: the figures are for people to judge.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable

from tests.bench import fleet, many, startup
from tests.bench.ground import Ground, ground
from tests.bench.timing import Figure, ten_million

ALONE: dict[str, Callable[[int], list[Figure]]] = {
    "list": lambda rounds: [startup.invoke_list(rounds)],
    "inventory": lambda rounds: [startup.big_inventory(rounds)],
}
ON_HOSTS: dict[str, Callable[[Ground, int], list[Figure]]] = {
    "nothing": lambda on, rounds: fleet.nothing_to_do(on, rounds),
    "new": lambda on, rounds: [fleet.new_version(on, rounds)],
    "many": lambda on, rounds: many.cpu_per_host(on, rounds),
}


def main() -> int:
    """Take the measurements that were asked for, and print them."""
    parser = argparse.ArgumentParser(prog="bin/test bench", description=__doc__)
    parser.add_argument("only", nargs="*", help=f"of {', '.join([*ALONE, *ON_HOSTS])} (default: all)")
    parser.add_argument("--rounds", type=int, default=7, help="times that each is run (at least 5 say much)")
    parser.add_argument("--hosts", type=int, default=4, help="practice hosts to deploy to")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    parser.add_argument("--keep", action="store_true", help="leave the practice hosts running (lab 'bench')")
    asked = parser.parse_args()
    wanted = asked.only or [*ALONE, *ON_HOSTS]
    unknown = [name for name in wanted if name not in ALONE and name not in ON_HOSTS]
    if unknown:
        parser.error(f"there is no measurement {', '.join(unknown)}")

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    figures: list[Figure] = []

    def take(found: list[Figure]) -> None:
        figures.extend(found)
        for figure in found:
            if not asked.json:
                print(figure.line(), flush=True)

    # A user's Python keeps what it has compiled; this variable, set on many build machines, forbids it.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    load = os.getloadavg()[0]
    speed = ten_million()
    say(
        f"{os.cpu_count()} CPUs, load {load:.1f}, ten million additions in Python take {speed:.2f} s;"
        f" medians of {asked.rounds} rounds each."
    )
    for name in wanted:
        if name in ALONE:
            take(ALONE[name](asked.rounds))
    rest = [name for name in wanted if name in ON_HOSTS]
    if rest:
        # Each round of a new version takes one for us and one for the floor; the rest begins with a few.
        versions = 2 * asked.rounds + 8
        with ground(hosts=asked.hosts, versions=versions, keep=asked.keep, say=say) as on:
            for name in rest:
                take(ON_HOSTS[name](on, asked.rounds))
    if asked.json:
        facts = {"cpus": os.cpu_count(), "load": load, "additions": speed, "rounds": asked.rounds}
        print(json.dumps({**facts, "figures": [figure.as_json() for figure in figures]}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
