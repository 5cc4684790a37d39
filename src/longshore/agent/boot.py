"""What has a host recover by itself when it comes up: a systemd unit, or a line for cron.

What is run is :mod:`longshore.agent.recovery`, out of one file at a path that never changes: agents come and
go. The agent puts all of it in place before it begins a switch. This module imports nothing of the agent, for
bootstrap sends it to hosts alone: there it writes the unit for the user who will deploy.
"""

import hashlib
import os
import re
import subprocess
import sys
from typing import Callable, List, NamedTuple, Optional

Write = Callable[[str, bytes, int], None]
"""Writes a file (path, content, mode) as a whole or not at all."""

USUAL = "/var/lib/longshore"
_SAFE = re.compile(r"/[A-Za-z0-9/_.+@=,-]+")
"""What means nothing special to systemd, to cron, or to the shell that cron runs. Other paths are refused,
and not quoted: three languages would have to agree."""
_USER = re.compile(r"[a-z_][a-z0-9_-]*")

SYSTEMD = "systemd"
CRON = "cron"
CRONTAB = "crontab"
DISABLED = "disabled"


class Found(NamedTuple):
    """How a host recovers at boot. ``by``: ``systemd``, ``cron`` (a file in /etc/cron.d), ``crontab`` (the
    user's own), ``disabled`` (a person has switched the unit off), or empty, with a sentence in ``why``."""

    by: str
    why: str = ""


class Boot:
    """How one state folder is tied into its host's boot. ``root`` is for tests: the host's ``/``."""

    def __init__(self, state_dir: str, *, root: str = "/") -> None:
        self.state_dir = state_dir
        self.program = os.path.join(state_dir, "agent", "recover")
        own = "" if state_dir == USUAL else "-" + hashlib.sha256(state_dir.encode()).hexdigest()[:8]
        self.name = f"longshore-recover{own}"
        self.root = root
        self.units = os.path.join(root, "etc/systemd/system")
        self.unit = os.path.join(self.units, f"{self.name}.service")
        self.wanted = os.path.join(self.units, "multi-user.target.wants", f"{self.name}.service")
        self.cron = os.path.join(root, "etc/cron.d", self.name)

    # What is there

    def found(self) -> Found:
        """Looks at files only, but for a user who isn't root: their crontab takes a process to be read."""
        if self.mechanism() == SYSTEMD and os.path.lexists(self.unit):
            return Found(SYSTEMD if os.path.lexists(self.wanted) and self._is_file() else DISABLED)
        if os.path.isfile(self.cron):
            return Found(CRON)
        if os.geteuid() != 0 and any(self.program in line for line in _crontab() or ()):
            return Found(CRONTAB)
        return Found("", self.obstacle() or "nothing has set it up yet; the next deploy does")

    def _is_file(self) -> bool:
        """A masked unit is a link to nowhere."""
        return os.path.isfile(self.unit) and not os.path.islink(self.unit)

    def obstacle(self) -> str:
        """Why it can't be set up by this user; empty when it can."""
        if not _SAFE.fullmatch(self.program) or ".." in self.program:
            return f"the path {self.state_dir} has characters that cron and systemd take for more than a path"
        if os.geteuid() != 0:
            return "" if _is_there("crontab") else "this user isn't root, and there is no `crontab`"
        if self.mechanism():
            return ""
        return "neither systemd nor cron runs on this host"

    def mechanism(self) -> str:
        """What would start it, where root sets it up: ``systemd``, ``cron``, or empty."""
        if os.path.isdir(os.path.join(self.root, "run/systemd/system")):
            return SYSTEMD
        folder = os.path.isdir(os.path.dirname(self.cron))
        return CRON if folder and (_is_there("cron") or _is_there("crond")) else ""

    # Setting it up, as root

    def due(self, user: str = "root", python: str = "") -> bool:
        """Whether ``install`` has something to do. What a person has switched off stays so."""
        if self.obstacle() or not _USER.fullmatch(user):
            return False
        if self.mechanism() == CRON:
            return _text(self.cron) != self.cron_text(user, python)
        if self.found().by == DISABLED:
            return False
        return _text(self.unit) != self.unit_text(user, python)

    def install(self, write: Write, user: str = "root", python: str = "") -> None:
        """Have the host run the program at boot, as ``user``. Raises ``OSError``."""
        if not self.due(user, python):
            return
        if self.mechanism() == CRON:
            write(self.cron, self.cron_text(user, python).encode(), 0o644)
            return
        os.makedirs(os.path.dirname(self.wanted), mode=0o755, exist_ok=True)
        # The link first: a unit without it is one that somebody has disabled.
        if not os.path.lexists(self.wanted):
            os.symlink(f"../{self.name}.service", self.wanted)
        write(self.unit, self.unit_text(user, python).encode(), 0o644)
        _unlink(self.cron)

    def remove(self) -> bool:
        """Leave it out from now on. Whether there was something. Raises ``OSError``."""
        there = [path for path in (self.wanted, self.unit, self.cron) if os.path.lexists(path)]
        for path in there:
            _unlink(path)
        return bool(there)

    def unit_text(self, user: str = "root", python: str = "") -> str:
        """The unit. No value in it needs quoting (``obstacle``)."""
        run_as = "" if user == "root" else f"User={user}\n"
        return f"""\
# Written by Longshore. `systemctl disable {self.name}` switches it off for good.
[Unit]
Description=Undo what Longshore had begun when this host lost its power
After=docker.service docker.socket local-fs.target
RequiresMountsFor={self.state_dir}
ConditionPathExists={self.program}

[Service]
Type=oneshot
# The page of an app in maintenance goes on being served.
KillMode=process
ExecStart={interpreter(python)} -I -S {self.program}
TimeoutStartSec=infinity
{run_as}
[Install]
WantedBy=multi-user.target
"""

    def cron_text(self, user: str = "root", python: str = "") -> str:
        """The file for /etc/cron.d."""
        says = "# Written by Longshore: undoes what it had begun when this host lost its power."
        return f"{says}\n{self._line(f'{user} ', python)}\n"

    def _line(self, user: str, python: str) -> str:
        # Without the folder there is nothing to do, and nothing to mail to anybody.
        return f"@reboot {user}test ! -e {self.program} || exec {interpreter(python)} -I -S {self.program}"

    # Setting it up, as anybody else

    def into_crontab(self, python: str = "") -> bool:
        """Put a line into this user's own crontab. Whether it is there now; other lines stay."""
        if self.obstacle():
            return False
        lines = _crontab()
        mine = self._line("", python)
        if lines is None or mine in lines:
            return lines is not None
        kept = [line for line in lines if self.program not in line]
        return _write_crontab([*kept, mine])

    def out_of_crontab(self, user: str = "") -> bool:
        """Take the line out again; of another user's, as root. Whether there was one."""
        lines = _crontab(user) or []
        kept = [line for line in lines if self.program not in line]
        return len(kept) < len(lines) and _write_crontab(kept, user)


def interpreter(python: str = "") -> str:
    """The Python that a host's boot is to use: this one, where its path is an ordinary one."""
    python = python or sys.executable
    return python if _SAFE.fullmatch(python or "") else "/usr/bin/python3"


def _is_there(program: str) -> bool:
    return any(
        os.access(os.path.join(folder, program), os.X_OK)
        for folder in ("/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin")
    )


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _crontab(user: str = "") -> Optional[List[str]]:
    """A user's own lines; ``None`` where they can't be read: whoever wrote them anew would lose them."""
    code, told, why = _run_crontab(["-l"], "", user)
    if code == 0:
        # Not splitlines(): what Python takes for the end of a line as well may be in the middle of a command.
        return told[:-1].split("\n") if told.endswith("\n") else told.split("\n") if told else []
    return [] if "no crontab" in why or "No such file" in why else None


def _write_crontab(lines: List[str], user: str = "") -> bool:
    return _run_crontab(["-"], "".join(f"{line}\n" for line in lines), user)[0] == 0


def _run_crontab(words: List[str], stdin: str, user: str) -> "tuple[int, str, str]":
    """Its exit code, its output, and what it says on standard error."""
    of = ["-u", user] if user else []
    try:
        done = subprocess.run(
            ["crontab", *of, *words],
            input=stdin.encode("utf-8", "surrogateescape"),
            capture_output=True,
            env={**os.environ, "LC_ALL": "C"},
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return 127, "", ""
    # A person's lines may be in any encoding; they come back as they were.
    said = [text.decode("utf-8", "surrogateescape") for text in (done.stdout, done.stderr)]
    return done.returncode, said[0], said[1]
