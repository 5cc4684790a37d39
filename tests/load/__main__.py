"""``python -m tests.load``: deploys, failures and rollbacks under load, and a table of what was seen."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from tests.lab.project import PYTHON
from tests.load.changes import changes
from tests.load.generator import percentile
from tests.load.ground import prepare, under_load

from longshore.lab import Lab

HOSTS = ("h1", "h2")
_WINDOW = 2.5
"""Seconds: about what is looked at around a switch."""


def main() -> int:
    """Make the changes; 1 when a request failed."""
    parser = argparse.ArgumentParser(prog="bin/test load", description=__doc__)
    parser.add_argument("--changes", type=int, default=50, help="deploys and rollbacks (default: 50)")
    parser.add_argument("--rate", type=float, default=200.0, help="requests a second over both hosts")
    parser.add_argument("--quiet", type=float, default=60.0, help="seconds of load before the first change")
    parser.add_argument("--name", default="load", help="the lab's name")
    asked = parser.parse_args()
    lab = Lab(asked.name, say=lambda text: print(text, file=sys.stderr, flush=True))
    try:
        lab.up(2)
        lab.registry_up()
        # Servers don't share processors: what one host's deploy takes must not slow the other's requests.
        for number, host in enumerate(HOSTS):
            lab.pin(host, number % (os.cpu_count() or 1))
        lab.stand_in([PYTHON, "traefik:v3"])
        with tempfile.TemporaryDirectory(prefix="longshore-load-") as folder:
            return _measure(Path(folder), lab, asked)
    finally:
        lab.down()


def _measure(root: Path, lab: Lab, asked: argparse.Namespace) -> int:
    os.nice(10)  # the controller, which is not on the hosts' machine; they run already
    ground = prepare(root, lab, HOSTS, rate=asked.rate)
    first = ground.deploy("r0")
    if first.code:
        print(first.all)
        return 1
    print("| change | ended | s | requests | p99 ms | moved s | p99 ms then | wrong |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    with under_load(ground) as load:
        began = time.monotonic()
        time.sleep(asked.quiet)
        quiet = load.percentile(0.99, began)
        # Chance alone makes the slowest hundredth of a short time slower now and then.
        pieces = int(asked.quiet // _WINDOW)
        starts = [began + piece * _WINDOW for piece in range(pieces)]
        by_chance = max((load.percentile(0.99, start, start + _WINDOW) for start in starts), default=0.0)
        print(f"| quiet | | {asked.quiet:.0f} | | {quiet * 1000:.0f} | | | |", flush=True)
        rows = []
        for row in changes(ground, asked.changes):
            rows.append(row)
            wrong = "; ".join(row.wrong)
            moved = "" if row.moved is None else f"{row.moved:.2f}"
            cells = [row.what, row.ended, f"{row.seconds:.1f}", row.requests, f"{row.p99 * 1000:.0f}"]
            then = f"{percentile(list(row.around), 0.99) * 1000:.0f}" if row.around else ""
            cells += [moved, then, wrong]
            print(f"| {' | '.join(map(str, cells))} |", flush=True)
    failures = load.failures()
    total = len(load.outcomes)
    during = sorted(row.p99 for row in rows)
    print(f"\n{total} requests, {sum(failures.values())} failed.")
    for what, count in failures.most_common(20):
        print(f"  {count} times: {what}")
    if during and quiet:
        middle, worst = during[len(during) // 2] / quiet, during[-1] / quiet
        moved = [row.moved for row in rows if row.moved is not None]
        if moved:
            print(
                f"All requests went to the new containers {max(moved):.2f} s after they were good, at most."
            )
        print(
            f"p99 in quiet: {quiet * 1000:.1f} ms; of its worst {_WINDOW:g} s: {by_chance / quiet:.1f} times."
        )
        then = sorted(percentile(list(row.around), 0.99) for row in rows if row.around)
        if then:
            every = percentile([took for row in rows for took in row.around], 0.99) / quiet
            middle_then, worst_then = then[len(then) // 2] / quiet, then[-1] / quiet
            print(
                f"p99 around the switches, as a multiple of quiet: {every:.1f} of all of them together;"
                f" of each alone: median {middle_then:.1f}, worst {worst_then:.1f}."
            )
        print(f"p99 during a change, as a multiple of quiet: median {middle:.1f}, worst {worst:.1f}.")
    return 1 if failures or any(row.wrong for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
