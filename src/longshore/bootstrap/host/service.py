"""The engine as a service: systemd where it runs, the init scripts' ``service`` elsewhere."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from longshore.bootstrap.host.say import Refusal
from longshore.bootstrap.host.system import run

PATIENCE = 90.0
"""Seconds for an engine to answer; with many containers and live-restore it takes its time."""
PATIENCE_REFUSED = 5.0
"""Seconds when its start has failed already, and only a restart by its supervisor could help."""
PIDFILES = ("/run/docker.pid", "/var/run/docker.pid")
LOGS = ("/var/log/docker.log", "/var/log/upstart/docker.log")


class Service:
    """docker.service, whatever runs it."""

    def __init__(self) -> None:
        self.systemd = Path("/run/systemd/system").is_dir()
        self._refused = False

    def enabled(self) -> bool:
        """Whether it starts with the host. Init scripts are enabled by their package."""
        if not self.systemd:
            return True
        code, output = run(["systemctl", "is-enabled", "docker.service"])
        return code == 0 or output.strip() in ("static", "indirect", "generated")

    def enable(self) -> None:
        """Have it started with the host."""
        _checked(["systemctl", "enable", "docker.service"], "the service can't be enabled")

    def answers(self) -> str:
        """The running engine's version; empty when none answers."""
        code, output = run(["docker", "version", "--format", "{{.Server.Version}}"], timeout=20)
        return output.strip() if code == 0 else ""

    def start(self) -> None:
        """Start it and wait until it answers. Raises ``Refusal`` with the end of its log."""
        self._control("start")
        self.await_answer()

    def restart(self) -> None:
        """Restart it and wait until it answers. Raises ``Refusal`` with the end of its log."""
        self._control("restart")
        self.await_answer()

    def reload(self) -> None:
        """Have it read its settings again (SIGHUP)."""
        pid = self.pid()
        if pid is None:
            raise Refusal("engine_down", "the engine's process isn't found, so it can't reload its settings")
        os.kill(pid, signal.SIGHUP)

    def await_answer(self) -> None:
        """Wait until the engine answers. Raises ``Refusal`` with the end of its log."""
        if not until(lambda: bool(self.answers()), PATIENCE_REFUSED if self._refused else PATIENCE):
            raise Refusal(
                "engine_down",
                "the engine doesn't come up",
                "Its log says why; `journalctl -u docker` has more." if self.systemd else "Its log says why.",
                self.log(),
            )

    def log(self) -> list[str]:
        """The last lines that the engine wrote."""
        if self.systemd:
            _, output = run(["journalctl", "-u", "docker.service", "-n", "15", "--no-pager", "-o", "cat"])
            return output.splitlines()[-15:]
        for name in LOGS:
            try:
                return Path(name).read_text(errors="replace").splitlines()[-15:]
            except OSError:
                continue
        return []

    def pid(self) -> int | None:
        """dockerd's process id, by its own pid file or by systemd."""
        for name in (*PIDFILES, "systemd"):
            try:
                pid = self._main_pid() if name == "systemd" else int(Path(name).read_text())
                if Path(f"/proc/{pid}/comm").read_text().strip() == "dockerd":
                    return pid
            except (OSError, ValueError):
                continue
        return None

    def birth(self) -> str:
        """One engine process told from every other: its id and start time (proc(5)); empty if none runs."""
        pid = self.pid()
        if pid is None:
            return ""
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return f"{pid}:{fields[19]}"

    def command_line(self) -> list[str]:
        """The arguments that dockerd runs with, or would be started with."""
        pid = self.pid()
        if pid is not None:
            return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        if self.systemd:
            return run(["systemctl", "show", "-p", "ExecStart", "--value", "docker.service"])[1].split()
        try:
            lines = Path("/etc/default/docker").read_text().splitlines()
        except OSError:
            return []
        return " ".join(line for line in lines if line.startswith("DOCKER_OPTS")).replace('"', " ").split()

    def _main_pid(self) -> int:
        if not self.systemd:
            return 0
        return int(run(["systemctl", "show", "-p", "MainPID", "--value", "docker.service"])[1])

    def _control(self, verb: str) -> None:
        if self.systemd:
            # After several quick failures systemd refuses to start it at all.
            run(["systemctl", "reset-failed", "docker.service"])
            code, output = run(["systemctl", verb, "docker.service"], timeout=180)
        else:
            code, output = run(["service", "docker", verb], timeout=60)
        if code == 127:
            raise Refusal("engine_down", f"nothing on this host can {verb} the engine: {output.strip()}")
        # Any other failure shows by the engine not answering, and its log says more than systemctl.
        self._refused = code != 0


def info() -> dict[str, Any]:
    """What the running engine says of itself; {} when it doesn't answer."""
    code, output = run(["docker", "info", "--format", "{{json .}}"])
    try:
        value = json.loads(output.strip().splitlines()[-1]) if code == 0 else {}
    except (ValueError, IndexError):
        return {}
    return value if isinstance(value, dict) else {}


def running_containers() -> frozenset[str]:
    """The ids of the containers that run now."""
    code, output = run(["docker", "ps", "-q", "--no-trunc"])
    return frozenset(output.split()) if code == 0 else frozenset()


def until(true: Callable[[], bool], seconds: float) -> bool:
    """Wait until it is true, at most so long."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() >= end:
            return False
        time.sleep(0.25)
    return True


def _checked(argv: list[str], what: str) -> None:
    code, output = run(argv)
    if code != 0:
        said = output.strip().splitlines() or [f"exit code {code}"]
        raise Refusal("service", f"{what}: {said[-1]}")
