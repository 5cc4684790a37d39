"""``python -m tests.faults``: the fault matrix, and a random walk over it. See docs/reliability.md."""

from __future__ import annotations

import argparse
import fnmatch
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

from tests.faults import disk, table
from tests.faults.cases import CASES, HOST, Case
from tests.faults.ground import Ground
from tests.faults.run import BadCaseError, Outcome, run_case
from tests.faults.walk import walk

from longshore.lab import Lab, LabError

IN_A_ROW = 3
"""So many cases that did not come to pass, one after the other, end the run."""


def main() -> int:
    """Run what was asked for; 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="bin/test faults", description=__doc__)
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="PATTERN",
        help="cases whose name holds this text, or fits this pattern; may be given again",
    )
    parser.add_argument("--runs", type=int, default=0, help="instead: a random walk of so many faults")
    parser.add_argument("--seed", type=int, default=None, help="the walk's seed, to repeat one")
    parser.add_argument("--list", action="store_true", help="the cases' names, and nothing is done")
    parser.add_argument("--no-write", action="store_true", help="leave docs/reliability.md as it is")
    parser.add_argument("--lab", default="faults", help="the practice hosts' name")
    parser.add_argument("--keep", action="store_true", help="leave the practice hosts running afterwards")
    parser.add_argument("--verbose", action="store_true", help="show what the commands said")
    asked = parser.parse_args()
    # A shell's `&` has it ignored, and what is started here would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    chosen = choose(asked.only)
    if asked.list:
        print("\n".join(case.name for case in chosen))
        return 0
    if not chosen:
        parser.error(f"no case has a name with {' or '.join(asked.only)}")
    lab = Lab(asked.lab, say=lambda text: print(text, flush=True))
    with tempfile.TemporaryDirectory(prefix="longshore-faults-") as folder:
        ground = Ground(lab, Path(folder), ("h1", "h2"))
        try:
            lab.up(len(ground.hosts))
            lab.registry_up()
            ground.prepare()
            if asked.runs:
                return walk(ground, chosen, runs=asked.runs, seed=asked.seed)
            outcomes = run_all(ground, chosen, write=not asked.no_write, verbose=asked.verbose)
        except LabError as problem:
            print(f"error: {problem}", file=sys.stderr)
            return 1
        finally:
            ground.end_runs()
            if not asked.keep:
                lab.down()
    broken = [one for one in outcomes if one.wrong]
    print(f"{len(outcomes)} cases, {len(broken)} with a promise that was not kept.")
    return 1 if broken or len(outcomes) < len(chosen) else 0


def choose(patterns: Sequence[str]) -> list[Case]:
    """The cases that fit one of the patterns; all of them without one."""

    def fits(name: str) -> bool:
        return any(one in name or fnmatch.fnmatch(name, one) for one in patterns)

    return [case for case in CASES if not patterns or fits(case.name)]


def run_all(ground: Ground, cases: Sequence[Case], *, write: bool, verbose: bool = False) -> list[Outcome]:
    """Run these cases one after the other, each on a fleet that is whole. Rows are written as they come: a
    run that is ended early was not for nothing."""
    outcomes: list[Outcome] = []
    whole = False
    missed = 0
    for number, case in enumerate(cases, 1):
        if case.small_disk != disk.is_small(ground, HOST):
            disk.shrink(ground, HOST) if case.small_disk else disk.restore(ground, HOST)
            whole = False
        try:
            if not whole:
                ground.reset()
            outcome = run_case(ground, case)
        except (BadCaseError, LabError, OSError) as problem:
            whole = False
            missed += 1
            print(f"[{number}/{len(cases)}] {case.name}: it did not come to pass: {problem}", flush=True)
            if verbose:
                traceback.print_exc()
                print("\n".join(run.said for run in ground.runs if run.output.exists()), flush=True)
            if missed == IN_A_ROW:
                print("error: so it is no use to go on.", file=sys.stderr)
                break
            continue
        missed = 0
        whole = not outcome.wrong
        outcomes.append(outcome)
        if write:
            table.write([outcome])
        print(f"[{number}/{len(cases)}] {table.line(outcome)}", flush=True)
        if verbose or outcome.wrong:
            print("    " + outcome.said.replace("\n", "\n    "), flush=True)
    return outcomes


if __name__ == "__main__":
    sys.exit(main())
