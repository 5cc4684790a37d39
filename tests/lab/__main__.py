"""``python -m tests.lab``: all tests on practice hosts, in two processes with a lab each.

Most of these tests wait, for health checks, drains and leases, so two at once take little more than half of
the time. Not pytest-xdist: interrupted, it ends its workers before they have taken their hosts down.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from tests.lab import ready

from longshore.lab.machine import native_arch

HERE = Path(__file__).parent
LANES = 2
# Seconds that a file took beside others; only their order and proportion matter. Unknown ones: 60.
TOOK = {
    "test_bootstrap.py": 270,
    "test_examples.py": 210,
    "test_proxy.py": 190,
    "test_deploy.py": 180,
    "test_dockerfile.py": 170,
    "test_images.py": 160,
    "test_images_trouble.py": 150,
    "test_maintenance.py": 140,
    "test_faults.py": 140,
    "test_rollout.py": 130,
    "test_canary.py": 110,
    "test_acme.py": 100,
    "test_daily.py": 90,
    "test_practice_hosts.py": 90,
    "test_balancer.py": 80,
    "test_limits.py": 80,
    "test_hooks.py": 70,
    "test_compose_merge.py": 50,
    "test_remote.py": 40,
    "test_recovery.py": 40,
    "test_images_local.py": 40,
    "test_secrets.py": 40,
    "test_bootstrap_live.py": 30,
    "test_env.py": 30,
    "test_doctor.py": 20,
    "test_ssh.py": 10,
    "test_remote_ways.py": 10,
    "test_remote_login.py": 5,
}
# The last in their lanes: where a machine is slow, time may be over before they are begun.
LAST = (
    "test_dockerfile.py",
    "test_images_trouble.py",
    "test_acme.py",
    "test_practice_hosts.py",
    "test_images_local.py",
)
# A minute and a half for what seldom changes; `bin/test lab -k '…'` runs them, as `bin/test` says.
LEFT_OUT = ("test_lab_containers.py", "test_bootstrap_emulation.py")


def lanes(files: list[str]) -> list[list[str]]:
    """The files in lanes that take about as long, the longest first, ``LAST`` at the end."""
    found: list[list[str]] = [[] for _ in range(LANES)]
    loads = [0] * LANES
    for file in sorted(files, key=lambda name: -TOOK.get(name, 60)):
        lane = loads.index(min(loads))
        found[lane].append(file)
        loads[lane] += TOOK.get(file, 60)
    return [sorted(lane, key=lambda file: file in LAST) for lane in found]


def _files() -> list[str]:
    return [path.name for path in sorted(HERE.glob("test_*.py")) if path.name not in LEFT_OUT]


def _make_foreign() -> subprocess.Popen[str] | None:
    """Make the images for the other architecture meanwhile, where they are missing: under QEMU that takes
    as long as the first tests, and those that need them wait."""
    other = "amd64" if native_arch() == "arm64" else "arm64"
    if not ready.wanted(other):
        return None
    print(f"The images for {other} are made meanwhile, under QEMU: once, some minutes.", flush=True)
    return subprocess.Popen(
        [sys.executable, "-m", "tests.lab.ready", other],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def main() -> int:
    """Run them. What is given besides goes to pytest. 1 when a test failed."""
    started = time.monotonic()
    running: list[subprocess.Popen[str]] = []
    printing = threading.Lock()
    tails: list[list[str]] = [[] for _ in range(LANES)]
    until = float(os.environ.get("LONGSHORE_TESTS_UNTIL") or "inf")
    left: list[str] = []

    def follow(lane: int, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            tails[lane].append(line)
            if "::" in line and any(word in line for word in ("PASSED", "FAILED", "ERROR", "SKIPPED")):
                if "SKIPPED" in line and time.time() > until:
                    left.append(line)
                with printing:
                    print(f"{time.monotonic() - started:5.0f} s  {line}", end="", flush=True)

    def end(number: int, _: object) -> None:
        for process in running:
            process.send_signal(signal.SIGINT)  # each takes its hosts down
        print(f"ended by signal {number}: the practice hosts are taken down", flush=True)

    ready.make(native_arch())
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    followers = []
    foreign = _make_foreign()
    if foreign is not None:
        running.append(foreign)
    for lane, files in enumerate(lanes(_files())):
        # Twice, for pyproject.toml asks for one less: a line for each test.
        argv = [sys.executable, "-m", "pytest", "-vv", "--color=no", *sys.argv[1:]]
        process = subprocess.Popen(
            [*argv, *(str(HERE / file) for file in files)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,  # a terminal's Ctrl-C comes once, from here
        )
        running.append(process)
        followers.append(threading.Thread(target=follow, args=(lane, process)))
        followers[-1].start()
    for follower in followers:
        follower.join()
    codes = [process.wait() for process in running]
    for lane, code in enumerate(codes[-LANES:]):
        said = "".join(tails[lane])
        report = said.find("= ERRORS =") if "= ERRORS =" in said else said.find("= FAILURES =")
        print(f"== lane {lane + 1}: {said.strip().splitlines()[-1] if said.strip() else 'nothing'}")
        if code and report >= 0:
            print(said[report:])
        elif code:
            print(said[-5000:])
    if left:
        print(f"OUT OF TIME: {len(left)} tests were not begun. `bin/test lab` runs all of them.")
    print(f"{time.monotonic() - started:.0f} s in all")
    return 1 if any(codes) else 0


if __name__ == "__main__":
    sys.exit(main())
