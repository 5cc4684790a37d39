"""A random walk over the cases: fault after fault on the same fleet, and nothing is put in order between."""

from __future__ import annotations

import random
import secrets
from collections.abc import Sequence

from tests.faults import judge, observe
from tests.faults.cases import Case
from tests.faults.ground import Ground
from tests.faults.run import BadCaseError, do_fault, put_right

from longshore.lab import LabError


def walk(ground: Ground, cases: Sequence[Case], *, runs: int, seed: int | None) -> int:
    """Take ``runs`` steps; say the seed and the step that broke. Returns the exit code.

    A step is a fault, a look at the hosts, and what comes next by chance: a deploy, a rollback, or at once
    the next fault. A deploy ends the walk when it fails, or when any host is not whole after it.
    """
    seed = secrets.randbelow(1_000_000) if seed is None else seed
    chance = random.Random(seed)
    walked = [case for case in cases if not case.small_disk and case.next == "deploy"]
    print(f"A walk of {runs} faults, seed {seed}.", flush=True)
    ground.reset()
    for number in range(1, runs + 1):
        case = chance.choice(walked)
        then = chance.choices(("deploy", "rollback", "fault"), (6, 2, 2))[0]
        print(f"[{number}/{runs}] {case.name}, then {then}", flush=True)
        try:
            wrong = _one(ground, case, "deploy" if number == runs else then)
        except LabError as problem:
            wrong = [f"the practice hosts failed: {problem}"]
        if wrong:
            print(f"Broken at step {number}, with --runs {runs} --seed {seed}:", flush=True)
            print("".join(f"    {text}\n" for text in wrong), flush=True)
            print("\n".join(run.said for run in ground.runs[-3:]), flush=True)
            return 1
        ground.end_runs()
    print(f"{runs} faults, every promise was kept. Seed {seed}.")
    return 0


def _one(ground: Ground, case: Case, then: str) -> list[str]:
    wrong: list[str] = []
    try:
        fault = do_fault(ground, case)
    except BadCaseError as skipped:
        # After another fault a run may end before it comes to the place: then that was the step.
        print(f"    not reached: {skipped}", flush=True)
        for host in ground.hosts:
            ground.let_go(host)
        for run in ground.runs:
            run.open()
            run.wait()
        ground.power_on()
        ground.calm()
    else:
        wrong += fault.wrong
        if not case.mixed:
            wrong += judge.after_the_fault(fault.after, ground.good)
    put_right(ground)
    for host in ground.hosts:
        ground.disarm(host)
    if then == "fault" or wrong:
        return wrong
    if then == "rollback":
        ground.start(["rollback"]).wait()
        ground.calm()
        seen = observe.look(ground, ground.hosts)
        return [f"after rollback, {text}" for text in judge.after_the_fault(seen, ground.good)]
    version = ground.next_version()
    run = ground.deploy(version)
    if run.process.returncode != 0:
        return [f"the next deploy ended with {run.process.returncode}"]
    ground.calm()
    seen = observe.look(ground, ground.hosts)
    return [f"after the next deploy, {text}" for text in judge.after_the_next(seen, version)]
