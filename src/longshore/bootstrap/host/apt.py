"""apt: what it offers, what it installs, how far it is, and its failures as sentences."""

from __future__ import annotations

import os
import re
import selectors
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from longshore.bootstrap.host.say import Refusal, step
from longshore.bootstrap.host.system import run

INSTALL_TIMEOUT = 1500.0
UPDATE_TIMEOUT = 300.0
READ_LISTS = "read the package lists"
RETRY_PAUSE = 2.0
KEPT = 64 * 1024
NETWORK_HINT = (
    "Check the host's network, DNS and proxy (/etc/apt/apt.conf.d), or point it to a mirror that it reaches."
)

_NETWORK = ("-o", "Acquire::Retries=2", "-o", "Acquire::http::Timeout=20", "-o", "Acquire::https::Timeout=20")
_LOCKED = re.compile(r"Could not get lock (\S+?)\.?(?: It is held by process (\d+) \(([^)]*)\))?(?=\s|$)")
_UNREACHED = re.compile(
    r"Temporary failure resolving|Could not resolve|Could not connect|Unable to connect|onnection timed out"
    r"|Network is unreachable|No route to host|Connection refused|Failed to fetch|Connection failed"
)


class Apt:
    """apt-get and apt-cache. ``lock_timeout`` is how long another package manager may take, in seconds.

    With ``lists`` (a folder) the package lists are read into it and from it, and the host's stay as they are.
    """

    def __init__(self, *, lock_timeout: float, lists: str = "") -> None:
        self._lock_timeout = lock_timeout
        self._lists: list[str] = []
        self._own = bool(lists)
        if lists:
            for part in ("lists/partial", "archives/partial"):
                Path(lists, part).mkdir(parents=True, exist_ok=True)
            self._lists = ["-o", f"Dir::State::lists={lists}/lists", "-o", f"Dir::Cache={lists}"]
            # The sandbox's user can't write to a folder that only root may enter.
            self._lists += ["-o", "APT::Sandbox::User=root"]
        self.complaints = ""
        """What the last ``update`` could not fetch, in apt's words."""

    def update(self) -> None:
        """Read the package lists. Sources that fail are remembered: others may offer all that is needed."""
        step(READ_LISTS)
        code, output = self._run(["update", "-q", *_NETWORK], UPDATE_TIMEOUT, READ_LISTS)
        problems = [line for line in output.splitlines() if line.startswith(("E:", "W:", "Err:"))]
        self.complaints = "\n".join(problems) if code else _only_unreached(problems)

    def candidates(self, names: Sequence[str]) -> dict[str, str]:
        """The version that apt would install, by package; packages without one are left out."""
        _, output = run(["apt-cache", *self._lists, "policy", *names])
        return parse_policy(output)

    def install(self, packages: Sequence[str], *, replace: bool = False) -> None:
        """Install or upgrade packages. Nothing is removed for them unless ``replace``."""
        argv = ["install", "-y", "-q", "--no-install-recommends", *_NETWORK]
        # A configuration file that a person changed stays as it is.
        argv += ["-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold"]
        argv += [*([] if replace else ["--no-remove"]), *packages]
        code, output = self._run(argv, INSTALL_TIMEOUT, "download packages")
        if code:
            raise explain(f"{output}\n{self.complaints}", f"installing {', '.join(packages)}")

    def _run(self, arguments: Sequence[str], timeout: float, loading: str) -> tuple[int, str]:
        """Run apt-get, again while another package manager holds a lock. ``loading``: what it downloads."""
        end = time.monotonic() + self._lock_timeout
        while True:
            left = max(0, int(end - time.monotonic()))
            lock = ["-o", f"DPkg::Lock::Timeout={left}"]
            code, output = _watched(["apt-get", *lock, *self._lists, *arguments], timeout + left, loading)
            # apt itself waits for dpkg's lock, but not for that of the lists.
            locked = _LOCKED.search(output) if code else None
            if not locked:
                return code, output
            if time.monotonic() >= end:
                raise _lock_held(locked, self._lock_timeout)
            step("wait for another package manager", locked[3] or "")
            time.sleep(RETRY_PAUSE)


def parse_policy(output: str) -> dict[str, str]:
    """``apt-cache policy``'s output as package to candidate."""
    found: dict[str, str] = {}
    name = ""
    for line in output.splitlines():
        if line and not line[0].isspace():
            name = line.rstrip(":")
        elif line.strip().startswith("Candidate:"):
            version = line.split(":", 1)[1].strip()
            if version != "(none)":
                found[name] = version
    return found


def explain(output: str, doing: str) -> Refusal:
    """apt's last words as a sentence. ``doing`` is what was tried: ``installing docker.io``."""
    errors = [line[2:].strip() for line in output.splitlines() if line.startswith("E:")]
    log = [line for line in output.splitlines() if line.strip()][-12:]
    for code, pattern, message, hint in _FAILURES:
        match = re.search(pattern, output)
        if match:
            said = match.groupdict().get("said") or (errors[0] if errors else "")
            return Refusal(code, message.format(doing=doing, said=said.strip()), hint, log)
    said = errors[0] if errors else (log[-1] if log else "it said nothing")
    return Refusal("apt_failed", f"{doing} failed: {said}", "Try the same on the host by hand.", log)


_FAILURES = (
    (
        "no_space",
        r"No space left on device|don't have enough free space in (?P<said>\S+)",
        "the disk is full, so {doing} failed: {said}",
        "Free some space, run `dpkg --configure -a`, and bootstrap again.",
    ),
    (
        "apt_locked",
        r"(?P<said>Could not get lock[^\n]*)",
        "{doing} failed: {said}",
        "Another package manager is at work; try again when it is done.",
    ),
    (
        "apt_broken",
        r"dpkg was interrupted",
        "an earlier installation on this host was interrupted, and apt does nothing until it is finished",
        "Run `dpkg --configure -a` on the host and bootstrap again.",
    ),
    (
        "apt_conflict",
        r"Packages need to be removed but remove is disabled",
        "{doing} would remove packages that are installed, and bootstrap removes nothing",
        "`apt-get install` on the host shows which; remove them yourself if they may go.",
    ),
    (
        "apt_broken",
        r"(?i)(?P<said>unmet dependencies|held broken packages)",
        "the packages on this host don't fit together ({said}), so {doing} failed",
        "Run `apt-get --fix-broken install` on the host and bootstrap again.",
    ),
    (
        "apt_sources",
        r"(?P<said>(?:Malformed (?:entry|line|stanza)|Type '\S*' is not known on line)[^\n]*)",
        "apt's list of sources is broken: {said}",
        "Correct that file on the host.",
    ),
    (
        "apt_untrusted",
        r"(?P<said>[^\n]*(?:NO_PUBKEY|EXPKEYSIG|not signed|Release file .*(?:expired|not valid yet))[^\n]*)",
        "apt doesn't trust a package source: {said}",
        "Correct its key, or the host's clock, or remove the source.",
    ),
    (
        "no_network",
        rf"(?P<said>[^\n]*(?:{_UNREACHED.pattern})[^\n]*)",
        "a package source can't be reached, so {doing} failed: {said}",
        NETWORK_HINT,
    ),
)


def _only_unreached(problems: Sequence[str]) -> str:
    return "\n".join(line for line in problems if _UNREACHED.search(line))


def _lock_held(match: re.Match[str], waited: float) -> Refusal:
    path, pid, name = match.groups()
    who = f"{name} (process {pid})" if name else "another package manager"
    return Refusal(
        "apt_locked",
        f"{who} has held {path} for {waited:.0f} s",
        "Wait until it is done, or see what it is stuck on, and bootstrap again.",
    )


def _watched(argv: Sequence[str], timeout: float, loading: str) -> tuple[int, str]:
    """Run apt-get, and tell how far it is (APT::Status-Fd: ``dlstatus:1:34.5:…``, ``pmstatus:NAME:60:…``)."""
    reading, writing = os.pipe()
    command = [*argv[:1], "-o", f"APT::Status-Fd={writing}", *argv[1:]]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=[writing],
        start_new_session=True,
    )
    os.close(writing)
    assert process.stdout is not None
    output = bytearray()
    progress = Progress(step, loading)
    end = time.monotonic() + timeout
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout.fileno(), selectors.EVENT_READ, output)
        selector.register(reading, selectors.EVENT_READ, None)
        while process.stdout.fileno() in selector.get_map():
            if time.monotonic() > end:
                process.terminate()
                output += b"\nE: it took longer than %d s" % timeout
                break
            for key, _ in selector.select(1.0):
                chunk = os.read(key.fd, 1 << 16)
                if not chunk:
                    selector.unregister(key.fd)
                elif key.fd == reading:
                    progress.feed(chunk.decode(errors="replace"))
                else:
                    output += chunk
                    del output[:-KEPT]
                    if b"Waiting for cache lock" in chunk:
                        held = re.search(rb"process \d+ \(([^)]*)\)", chunk)
                        name = held[1].decode(errors="replace") if held else ""
                        step("wait for another package manager", name)
    os.close(reading)
    process.stdout.close()
    return process.wait(), output.decode(errors="replace")


class Progress:
    """Turns apt's status lines into steps, one for every ten per cent."""

    def __init__(self, tell: Callable[[str, str], None], loading: str) -> None:
        self._tell = tell
        self._names = {"dlstatus": loading, "pmstatus": "install packages"}
        self._rest = ""
        self._last = ("", -1)

    def feed(self, text: str) -> None:
        """Some more of what apt wrote; a line may come in pieces."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            kind, _, rest = line.partition(":")
            what = self._names.get(kind)
            percent = re.search(r":(\d+)(?:\.\d+)?:(?!\d)", f":{rest}")
            if what and percent:
                now = (what, int(percent[1]) // 10)
                if now != self._last:
                    self._last = now
                    self._tell(what, f"{percent[1]} %")
