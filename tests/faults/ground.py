"""What faults are done to: a fleet of practice hosts with one application, and the ways into it from outside.

Hosts are looked at through their pid 1 (``/proc/<pid>/root``, ``nsenter``), which works while they are cut
off too. So the practice hosts must be namespaces on this machine.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults import app, gates

from longshore.lab import Lab, LabError
from longshore.lab.commands import wait_until

APP = "shop"
LEASE = 5.0
"""Seconds, instead of 30: the lease of every run here."""
LONGEST_RUN = 75.0
"""Seconds that a command has to end by itself; one that takes longer hangs."""
TOP = Path(__file__).parents[2]


@dataclass
class Run:
    """A command of Longshore that is under way."""

    process: subprocess.Popen[str]
    folder: Path
    words: tuple[str, ...]
    output: Path

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    @property
    def reached(self) -> bool:
        """It has come to its gate."""
        return self.folder.joinpath("reached").exists()

    def open(self) -> None:
        """Let it go on."""
        self.folder.joinpath("open").touch()

    def signal(self, number: int) -> None:
        if not self.ended:
            os.kill(self.process.pid, number)

    def wait(self, timeout: float = LONGEST_RUN) -> int | None:
        """Its exit code (negative: the signal that ended it); ``None`` when it hangs, and is killed."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None

    @property
    def said(self) -> str:
        """All that it has said."""
        return self.output.read_text(errors="replace")


@dataclass
class Ground:
    """``hosts`` of a lab that is up, with an app at ``version`` on all of them."""

    lab: Lab
    root: Path
    hosts: tuple[str, ...]
    version: int = 0
    """The last one that was given away."""
    good: set[int] = field(default_factory=set)
    """Versions that can be served."""
    runs: list[Run] = field(default_factory=list)
    precious: dict[str, bytes] = field(default_factory=dict)

    def prepare(self) -> None:
        """Write the project, and have the image."""
        self.lab.stand_in([app.PYTHON])
        self.root.joinpath("inventory").mkdir(parents=True, exist_ok=True)
        self.root.joinpath("roles").mkdir(exist_ok=True)
        self.root.joinpath("compose.yml").write_text(app.COMPOSE)
        self.root.joinpath("server.py").write_text(app.SERVER)
        self.root.joinpath("roles/faults.py").write_text(app.ROLE)
        text = app.inventory(
            addresses={host: self.lab.addresses[host] for host in self.hosts},
            key=str(self.lab.key),
            ssh_options=self.lab.ssh_options(),
            registry=self.lab.registry,
        )
        self.root.joinpath("inventory/try.yml").write_text(text)

    def next_version(self, *, good: bool = True) -> int:
        """A version that was never deployed."""
        self.version += 1
        if good:
            self.good.add(self.version)
        return self.version

    # Commands

    def start(
        self,
        words: Sequence[str],
        *,
        version: int | None = None,
        variables: dict[str, str] | None = None,
        gate: str = "",
        environment: dict[str, str] | None = None,
    ) -> Run:
        """Begin ``longshore WORDS --env try``; it stops at ``gate`` (:mod:`tests.faults.controller`)."""
        folder = Path(tempfile.mkdtemp(prefix="run-", dir=self.root))
        given = dict(variables or {})
        if version is not None:
            given["VERSION"] = f'"{version}"'
        sets = [f"--set=longshore.apps.{APP}.env.{name}={value}" for name, value in given.items()]
        how = {"at": gate, "folder": str(folder), "lease": LEASE}
        output = folder / "output"
        with output.open("w") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.controller", *words, "--env", "try", *sets],
                cwd=self.root,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join([str(TOP), os.environ.get("PYTHONPATH", "")]),
                    "LONGSHORE_FAULTS": json.dumps(how),
                    **(environment or {}),
                },
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                text=True,
            )
        run = Run(process, folder, tuple(words), output)
        self.runs.append(run)
        return run

    def deploy(self, version: int) -> Run:
        """Deploy a good version, and wait."""
        run = self.start(["deploy"], version=version)
        run.wait()
        return run

    # Hosts from outside

    def pid(self, host: str) -> int | None:
        """A host's pid 1, as this machine counts; ``None`` while it is off."""
        held = self.lab.state.hosts[host].process
        if held is None or not held.alive():
            return None
        try:
            found = Path(f"/proc/{held.pid}/task/{held.pid}/children").read_text().split()
        except OSError:
            return None
        return int(found[0]) if found else None

    def disk(self, host: str) -> Path:
        """A host's file system, as the host sees it."""
        return Path(f"/proc/{self.pid(host)}/root")

    def state(self, host: str) -> Path:
        """The app's folder on a host."""
        return self.disk(host) / "var/lib/longshore" / APP

    def inside(self, host: str, argv: Sequence[str], *, check: bool = True) -> str:
        """Run a command on a host, cut off or not, and return what it printed."""
        enter = ["nsenter", "--target", str(self.pid(host)), "--mount", "--uts", "--ipc", "--net", "--pid"]
        done = subprocess.run(
            [*enter, "--wd=/", "--", *argv],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
            check=False,
        )
        if check and done.returncode:
            raise LabError(
                f"{' '.join(argv)} ended with {done.returncode}: {done.stderr.strip()}", where=host
            )
        return done.stdout

    def is_on(self, host: str) -> bool:
        return self.pid(host) is not None

    # The agent's gates

    def _gates(self, host: str) -> Path:
        return self.disk(host) / gates.FOLDER.lstrip("/")

    def arm(self, host: str, gate: str) -> None:
        """The next agent that comes to this gate stops there."""
        self.disarm(host)
        folder = self._gates(host)
        folder.mkdir(exist_ok=True)
        folder.joinpath("at").write_text(gate)

    def stopped_agent(self, host: str) -> int | None:
        """The agent that has come to its gate (its id on the host)."""
        try:
            return int(self._gates(host).joinpath("reached").read_text())
        except (OSError, ValueError):
            return None

    def let_go(self, host: str) -> None:
        """Open the host's gate."""
        if self.is_on(host):
            self._gates(host).joinpath("at").unlink(missing_ok=True)

    def disarm(self, host: str) -> None:
        """No gate, no moved clock, no note of one that was reached."""
        if self.is_on(host):
            shutil.rmtree(self._gates(host), ignore_errors=True)

    def set_clock(self, host: str, seconds: float) -> None:
        """From now on, agents on the host read a clock that is so many seconds ahead (or behind)."""
        self._gates(host).mkdir(exist_ok=True)
        self._gates(host).joinpath("clock").write_text(str(seconds))

    def agents(self, host: str) -> list[int]:
        """The agents that run on a host now (their ids on this machine), what recovers at boot among them."""
        first = self.pid(host)
        if first is None:
            return []
        theirs = os.readlink(f"/proc/{first}/ns/pid")
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                words = path.joinpath("cmdline").read_bytes().split(b"\0")
                ours = any(word.startswith(b"/var/lib/longshore") for word in words)
                ours = ours and words[0].endswith(b"python3")
                if ours and os.readlink(path / "ns/pid") == theirs:
                    found.append(int(path.name))
            except OSError:
                continue
        return found

    @staticmethod
    def parent(pid: int) -> int:
        """The parent of a process of this machine; 0 when it is gone."""
        try:
            return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return 0

    # In order again

    def calm(self, timeout: float = LEASE + 40) -> bool:
        """Wait until no agent works any more: the runs are over, or the hosts have given them up."""
        return wait_until(lambda: not any(map(self.agents, self.hosts)), timeout=timeout, pause=0.2)

    def power_on(self) -> None:
        """Every host runs and is connected, and every engine answers."""
        for host in self.lab.status():
            if host.name not in self.hosts:
                continue
            if not host.on:
                self.lab.start(host.name)
            if host.cut:
                self.lab.heal(host.name)
        for name in self.hosts:
            if not wait_until(functools.partial(self._engine_answers, name), timeout=40, pause=0.1):
                raise LabError("Its engine doesn't answer.", where=name)
            # cron writes that down when it has begun what is to be run at boot.
            begun = self.disk(name) / "run/crond.reboot"
            if not wait_until(begun.exists, timeout=40, pause=0.1):
                raise LabError("Its cron doesn't come up.", where=name)

    def _engine_answers(self, host: str) -> bool:
        return bool(self.inside(host, ["docker", "version", "--format", "{{.Server.Version}}"], check=False))

    def end_runs(self) -> None:
        """No command of ours is left, whatever happened."""
        for run in self.runs:
            if not run.ended:
                run.signal(signal.SIGCONT)
                run.process.kill()
                run.process.wait()
            shutil.rmtree(run.folder, ignore_errors=True)
        self.runs.clear()

    def reset(self) -> None:
        """A fleet as new: nothing of the app on any host, then a good release everywhere."""
        self.end_runs()
        self.power_on()
        self.lab.registry_up()
        for host in self.hosts:
            self.disarm(host)
        self.calm()
        for host in self.hosts:
            self.inside(host, ["sh", "-c", CLEAN])
        self.good.clear()
        version = self.next_version()
        run = self.deploy(version)
        if run.process.returncode != 0:
            raise LabError(f"The first release could not be deployed: {run.said}")
        self.calm()
        self.end_runs()
        self.fill_volumes()

    def fill_volumes(self) -> None:
        """Something in every host's volume that must stay as it is."""
        for host in self.hosts:
            self.precious[host] = os.urandom(100_000)
            self.volume(host).joinpath("precious").write_bytes(self.precious[host])

    def volume(self, host: str) -> Path:
        """The content of the app's named volume on a host."""
        return self.disk(host) / "var/lib/docker/volumes" / f"{APP}_data" / "_data"

    def migrations(self, host: str) -> Path:
        """Where the migrations of the cases write down that they were begun, and ended."""
        return self.volume(host) / "migrations"


CLEAN = """
for one in $(docker ps -aq); do docker rm -f -v "$one"; done
for one in $(docker volume ls -q); do docker volume rm -f "$one"; done
for one in $(docker network ls -q --filter type=custom); do docker network rm "$one"; done
rm -rf /var/lib/longshore/shop
"""
