"""One case: a good fleet, a fault, a look at every host, the next deploy, and another look."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from tests.faults import actions, disk, judge, observe
from tests.faults.cases import HOST, OUT_OF_REACH, STEP, Case
from tests.faults.ground import Ground, Run
from tests.faults.observe import Seen

from longshore.lab import LabError
from longshore.lab.commands import wait_until

TO_COME = 60.0
"""Seconds that a run has to come to its place."""


@dataclass(frozen=True)
class Outcome:
    """How a case went. ``wrong`` is empty when every promise was kept."""

    case: Case
    old: int
    new: int
    code: int | None
    """The command's exit code; negative: the signal that ended it; ``None``: it hung."""
    after: Mapping[str, Seen]
    following: Mapping[str, Seen]
    last: int
    """The version of the deploy that came next."""
    seconds: float
    wrong: tuple[str, ...]
    said: str
    """What the command said, for whoever mends what is wrong."""


class BadCaseError(Exception):
    """The case itself did not come to pass: its place was never reached."""


def run_case(ground: Ground, case: Case) -> Outcome:
    """Carry out a case on a fleet whose hosts all serve a good release."""
    started = time.monotonic()
    before = observe.look(ground, ground.hosts)
    if any(one.version is None for one in before.values()) or judge.mixed(before):
        raise BadCaseError("the fleet was not whole before it began")
    old = next(iter(before.values())).version or 0
    fault = do_fault(ground, case)
    wrong = list(fault.wrong)
    wrong += judge.after_the_fault(fault.after, ground.good)
    wrong += _as_expected(case, fault, old, ground)
    wrong += judge.settled(fault.after)
    put_right(ground)
    if case.next != "deploy":
        wrong += _next_word(ground, case.next)
    last = ground.next_version()
    run = ground.deploy(last)
    if run.process.returncode != 0:
        wrong.append(f"the next deploy ended with {run.process.returncode}: {_last_words(run)}")
    ground.calm()
    following = observe.look(ground, ground.hosts)
    wrong += [f"after the next deploy, {text}" for text in judge.after_the_next(following, last)]
    for host in ground.hosts:
        ground.disarm(host)
    ground.end_runs()
    return Outcome(
        case=case,
        old=old,
        new=fault.new,
        code=fault.code,
        after=fault.after,
        following=following,
        last=last,
        seconds=time.monotonic() - started,
        wrong=tuple(wrong),
        said=fault.said,
    )


@dataclass(frozen=True)
class Fault:
    """What came of the fault alone."""

    new: int
    code: int | None
    after: Mapping[str, Seen]
    wrong: tuple[str, ...]
    said: str


def do_fault(ground: Ground, case: Case) -> Fault:
    """Type the case's command, do to it what the case says, and look at the hosts when all is over."""
    step = STEP[case.at] if case.at else None
    variables = dict(case.variables)
    if case.image == "pinned":
        variables["IMAGE"] = actions.pinned(ground)
    elif case.image:
        actions.have_images(ground)
        variables["IMAGE"] = actions.image(ground, case.image)
    if case.words[0] == "rollback":  # to what was seen before the case
        ground.deploy(ground.next_version())
        ground.calm()
        ground.end_runs()
    for host in ground.hosts:
        ground.disarm(host)
        ground.migrations(host).unlink(missing_ok=True)
    deploys = case.words[0] == "deploy"
    new = ground.next_version(good=case.good) if deploys else 0
    if step is not None and step.agent:
        ground.arm(case.host, step.agent)
    if case.before is not actions.nothing:
        case.before(ground, _no_run(), case.host)
    run = ground.start(
        case.words,
        version=new if deploys else None,
        variables=variables,
        gate=step.controller if step else "",
        environment=dict(case.environment),
    )
    if step is not None:
        _wait_for(ground, run, case)
    case.do(ground, run, case.host)
    for host in ground.hosts:
        ground.let_go(host)
    run.open()
    code = run.wait()
    wrong = [] if code is not None else ["the controller hangs"]
    for other in ground.runs:
        if other.wait() is None and other is not run:
            wrong.append("the other command hangs")
    if not ground.calm():
        wrong.append("agents are still at work long after the lease")
    ground.power_on()
    ground.calm()
    if case.migrates:  # with nobody left who waits for it, it has the lock until it ends
        wait_until(lambda: not observe.any_locked(ground), timeout=30, pause=0.2)
    after = observe.look(ground, ground.hosts)
    said = "\n".join(f"$ {' '.join(one.words)}\n{one.said}" for one in ground.runs)
    return Fault(new, code, after, tuple(wrong), said)


def put_right(ground: Ground) -> None:
    """What only a person can: room on the disk, a registry that runs."""
    disk.free(ground, HOST)
    ground.lab.registry_up()


def _wait_for(ground: Ground, run: Run, case: Case) -> None:
    def there() -> bool:
        return run.reached or ground.stopped_agent(case.host) is not None or run.ended

    wait_until(there, timeout=TO_COME, pause=0.01)
    if not run.reached and ground.stopped_agent(case.host) is None:
        raise BadCaseError(f"the run never came to '{case.at}': {_last_words(run)}")


def _as_expected(case: Case, fault: Fault, old: int, ground: Ground) -> list[str]:
    wrong = []
    versions = {one.version for one in fault.after.values()}
    if not case.mixed and len(versions) > 1:
        wrong.append("the fleet is mixed: " + ", ".join(f"{h} {s.version}" for h, s in fault.after.items()))
    if case.end == "old" and not versions <= {old}:
        wrong.append(f"not every host serves the old release, {old}")
    if case.end == "new" and versions != {fault.new}:
        wrong.append(f"not every host serves the new release, {fault.new}")
    alone = len(ground.runs) == 1 and case.words[0] == "deploy"
    if alone and fault.code == 0 and versions != {fault.new}:
        wrong.append("the command ended with 0, and the new release is not everywhere")
    if alone and fault.code == 1 and versions == {fault.new} and case.do not in OUT_OF_REACH:
        wrong.append("the command ended with 1, and the new release is everywhere")
    if case.code is not None and fault.code != case.code:
        wrong.append(f"the command ended with {fault.code}, not {case.code}")
    if case.migrates:
        wrong += judge.of_the_migration(fault.after, broken_off=case.broken_off)
    if case.because not in fault.said:
        wrong.append(f"the command did not say: {case.because}")
    meant = case.words[0] != "deploy" or case.at == "lock" or case.small_disk or case.because
    if not meant and len(ground.runs) == 1 and "staging" not in fault.said:
        wrong.append(f"the command never came to do anything: {fault.said[-200:]}")
    if "Longshore itself failed" in fault.said or "the agent failed:" in fault.said:
        wrong.append(f"a defect was shown to the person: {_defect(fault.said)}")
    if "Traceback" in fault.said:
        wrong.append("a traceback was shown to the person")
    return wrong


def _defect(said: str) -> str:
    found = [line for line in said.splitlines() if "itself failed" in line or "the agent failed:" in line]
    return found[0][:200]


def _next_word(ground: Ground, word: str) -> list[str]:
    run = ground.start([word])
    run.wait()
    ground.calm()
    if run.process.returncode != 0:
        return [f"{word} ended with {run.process.returncode}: {_last_words(run)}"]
    seen = observe.look(ground, ground.hosts)
    wrong = [f"after {word}, {text}" for text in judge.after_the_fault(seen, ground.good)]
    return wrong + (["after " + word + ", the fleet is mixed"] if judge.mixed(seen) else [])


def _last_words(run: Run) -> str:
    lines = [line for line in run.said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error")]
    return " / ".join((errors or lines)[-2:])[:300]


def _no_run() -> Run:
    """Before the command there is no run; what is done then has no use for one."""
    import subprocess
    import sys
    from pathlib import Path

    ended = subprocess.Popen([sys.executable, "-c", ""], text=True)
    ended.wait()
    return Run(ended, Path("/nonexistent"), (), Path("/dev/null"))


__all__ = ["BadCaseError", "LabError", "Outcome", "run_case"]
