"""Running Docker Compose on a release's files."""

import json
import os
import re
import subprocess
import time
from typing import IO, Any, Callable, Dict, List, Optional, Tuple

from longshore.agent import wire
from longshore.agent.engine import socket_path
from longshore.agent.fail import Refusal
from longshore.agent.lock import HANDLES
from longshore.agent.store import read_json, write

OLDEST = (2, 24, 4)
"""The first with ``!override`` and ``required: false`` as our policy file needs them (compose-spec)."""

_NO_OTHERS = "--remove-orphans=false"
"""A sibling stack of the same project name stays, also where ``.env`` says COMPOSE_REMOVE_ORPHANS."""
_KEPT = 16 << 20
"""Bytes of what Compose has written that are kept, though they were read."""
_MOST = 64 << 20
"""Bytes that it may be ahead of us: there is nothing that would have it wait."""
_FOR_REMOVING = 60.0
"""Seconds."""
_GLANCE = 0.05
"""Seconds between two looks at what Compose has written."""


def clean_environment() -> Dict[str, str]:
    """What Compose may see of ours: a variable of the shell would win over ``.env``.

    It is told the engine that we ask ourselves: the user's current context (``docker context use``) may be
    another machine's.
    """
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    kept["DOCKER_HOST"] = f"unix://{socket_path()}"
    kept.setdefault("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    kept.setdefault("HOME", "/root")
    return kept


def program() -> List[str]:
    """How Compose is called: its own program, or the ``docker`` command where that isn't found.

    The command starts it three times: to learn what it is, once more for that, and to do the work.
    The folders, and what comes before them, are those of docker/cli (cli-plugins/manager).
    """
    environment = clean_environment()
    settings = os.path.join(environment["HOME"], ".docker")
    try:
        with open(os.path.join(settings, "config.json"), encoding="utf-8") as file:
            elsewhere = "cliPluginsExtraDirs" in file.read()
    except OSError:
        elsewhere = False
    folders = [os.path.join(settings, "cli-plugins")]
    folders += [
        f"/usr/{place}/docker/cli-plugins" for place in ("local/lib", "local/libexec", "lib", "libexec")
    ]
    for folder in folders:
        path = os.path.join(folder, "docker-compose")
        if os.access(path, os.X_OK) and not elsewhere:
            return [path]
    return ["docker", "compose"]


def version(note: str) -> Tuple[int, ...]:
    """The plugin's version. It costs a tenth of a second of CPU, so the answer is kept in the file ``note``
    for as long as the program is the same file.

    Raises ``Refusal`` when there is none, or one too old.
    """
    argv = program()
    which = _which(argv)
    known = read_json(note)
    if which and isinstance(known, dict) and known.get("program") == which:
        return tuple(known["version"])
    numbers = _asked_version(argv)
    if which:
        try:
            write(note, json.dumps({"program": which, "version": numbers}).encode())
        except OSError:
            pass  # a full disk is told by what needs room; this is asked again next time
    return numbers


def _which(argv: List[str]) -> List[Any]:
    """What tells a program from the next one at its place; nothing for one that is found by the shell."""
    if len(argv) > 1:
        return []
    try:
        status = os.stat(argv[0])
    except OSError:
        return []
    return [argv[0], status.st_ino, status.st_size, status.st_mtime_ns]


def _asked_version(argv: List[str]) -> Tuple[int, ...]:
    try:
        done = subprocess.run(
            [*argv, "version", "--short"],
            capture_output=True,
            text=True,
            env=clean_environment(),
            timeout=30,
            check=False,
        )
    except FileNotFoundError as error:
        raise Refusal(
            wire.NO_COMPOSE, "there is no `docker` command", "Install it with `invoke bootstrap`."
        ) from error
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", done.stdout)
    if done.returncode or not found:
        raise Refusal(
            wire.NO_COMPOSE,
            "Docker has no Compose plugin (`docker compose` is unknown)",
            "Install it with `invoke bootstrap`, or the package docker-compose-plugin.",
        )
    numbers = tuple(int(part) for part in found.groups())
    if numbers < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise Refusal(
            wire.OLD_COMPOSE,
            f"Docker Compose {found.group(0)} is too old; {oldest} or later is needed",
            "Upgrade it with `invoke bootstrap`.",
            {"version": found.group(0)},
        )
    return numbers


class Compose:
    """Compose for one release: the manifest's files, in the release's folder."""

    def __init__(self, manifest: Dict[str, Any], bundle: str) -> None:
        directory = os.path.normpath(os.path.join(bundle, manifest["project_directory"]))
        self.project: str = manifest["project"]
        self.directory = directory
        self.base: List[str] = [
            *program(), "--ansi", "never",
            "--project-name", self.project, "--project-directory", directory,
        ]  # fmt: skip
        env_file = os.path.join(directory, ".env")
        if os.path.exists(env_file):
            self.base += ["--env-file", env_file]
        for name in manifest["compose_files"]:
            self.base += ["--file", os.path.join(bundle, name)]
        pins = os.path.join(os.path.dirname(bundle), "pins.json")
        if os.path.exists(pins):
            self.base += ["--file", pins]
        for profile in manifest["profiles"]:
            self.base += ["--profile", profile]

    def up(
        self, on_line: Callable[[str], None], services: Tuple[str, ...] = (), *, anew: bool = False
    ) -> None:
        """Start or replace what differs, without building or pulling. Raises ``Refusal``.

        With ``anew`` the containers of these services are made anew, and no other service is touched.
        """
        words = ["up", _NO_OTHERS, "--detach", "--no-build", "--pull", "never", "--quiet-pull"]
        words += ["--force-recreate", "--no-deps"] if anew else []
        self._run([*words, *services], on_line, "start")

    def create_beside(self, on_line: Callable[[str], None], service: str, count: int) -> None:
        """Make containers of a service, up to ``count`` in all, and leave those that are there alone.

        What is new is only made, not started. Raises ``Refusal``.
        """
        words = ["up", _NO_OTHERS, "--no-start", "--no-recreate", "--no-build", "--pull", "never"]
        self._run([*words, "--quiet-pull", "--scale", f"{service}={count}", service], on_line, "make")

    def down(self, on_line: Callable[[str], None]) -> None:
        """Stop and remove the containers and networks. Volumes stay. Raises ``Refusal``."""
        self._run(["down", _NO_OTHERS], on_line, "remove")

    def one_off(
        self,
        service: str,
        command: List[str],
        name: str,
        on_output: Callable[[str], None],
        timeout: float,
        with_dependencies: bool = False,
        to_its_end: bool = False,
    ) -> int:
        """Run a command in a new container of a service and return its exit code. ``to_its_end``: whatever
        becomes of us, it isn't broken off, and nobody gets the lock meanwhile: so no second migration begins.

        Raises ``Refusal`` when it takes longer than ``timeout`` seconds; the container is removed then.
        """
        argv = [*self.base, "run", "--rm", "--no-TTY", "--name", name]
        if not with_dependencies:
            argv.append("--no-deps")
        run = _to_its_end if to_its_end else _lines
        code, _ = run([*argv, service, *command], on_output, timeout)
        if code is None:
            remove_container(name)
            raise Refusal(
                wire.MIGRATION_FAILED,
                f"`{' '.join(command)}` in {service} took longer than {timeout:g} s and was stopped",
            )
        return code

    def _run(self, words: List[str], on_line: Callable[[str], None], what: str) -> None:
        code, tail = _to_its_end([*self.base, "--progress", "plain", *words], on_line)
        if code == 0:
            return
        reason = _reason(tail)
        if "port is already allocated" in reason or "address already in use" in reason:
            raise Refusal(
                wire.PORT_TAKEN, reason, "Stop what uses the port, or publish another one.", {"output": tail}
            )
        raise Refusal(wire.COMPOSE_FAILED, f"Compose could not {what} it: {reason}", "", {"output": tail})


def remove_container(name: str) -> None:
    """Remove a container by its name, whatever it does, where there is one. An engine that doesn't answer is
    waited for no longer than ``_FOR_REMOVING``."""
    try:
        subprocess.run(
            ["docker", "rm", "--force", name],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=clean_environment(),
            timeout=_FOR_REMOVING,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        pass


def _to_its_end(
    argv: List[str], on_line: Callable[[str], None], timeout: Optional[float] = None
) -> Tuple[Optional[int], List[str]]:
    """Run Compose, hand on its lines, and return its code (``None``: out of time) and last 40 lines.

    It writes to memory of its own and not to a pipe: were we killed, the next line would kill it, too, and in
    the middle of a replacement nothing would run.
    """
    import threading

    with _memory() as written:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=subprocess.STDOUT,
            env=clean_environment(),
            start_new_session=True,
            pass_fds=tuple(HANDLES),  # nobody gets the lock before Compose has ended, whatever becomes of us
        )
        over = threading.Event()

        def wait() -> None:
            process.wait()
            over.set()

        threading.Thread(target=wait, daemon=True).start()
        reading = _Reading(written.fileno(), on_line)
        until = None if timeout is None else time.monotonic() + timeout
        late = more = False
        while True:
            ended = over.wait(0 if more else _GLANCE)
            if not (late or ended) and until is not None and time.monotonic() > until:
                late = True
                process.kill()
            more = reading.go_on()
            if ended and not more:
                break
        reading.end()
        code = process.wait()
        return (None if late else code), reading.tail


class _Reading:
    """Hands on what somebody else writes at the end of a file, line by line, and frees what it has read."""

    def __init__(self, handle: int, on_line: Callable[[str], None]) -> None:
        self.handle = handle
        self.on_line = on_line
        self.tail: List[str] = []
        self._rest = b""
        self._at = self._freed = 0

    def go_on(self) -> bool:
        """Read a piece. Whether there was something."""
        # Not through the file's own position: that is the one Compose writes at.
        data = os.pread(self.handle, 1 << 16, self._at)
        self._at += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            _told(line, self.tail, self.on_line)
        ahead = os.fstat(self.handle).st_size - self._at
        if ahead > _MOST:
            self._at += ahead
            self._rest = b""
            _told(b"(more was written than can be told, and is left out)", self.tail, self.on_line)
        if self._at - self._freed > _KEPT:
            self._freed = self._at
            _give_back(self.handle, self._at)
        return bool(data)

    def end(self) -> None:
        """There is nothing more: the rest is a line."""
        if self._rest:
            _told(self._rest, self.tail, self.on_line)


def _give_back(handle: int, size: int) -> None:
    """Free the memory of what has been read. The file is as long as before: somebody writes at its end."""
    import ctypes

    punch = getattr(ctypes.CDLL(None, use_errno=True), "fallocate", None)
    if punch is not None:
        keep_size_and_punch_hole = 3  # fallocate(2)
        punch(handle, keep_size_and_punch_hole, ctypes.c_int64(0), ctypes.c_int64(size))


def _memory() -> IO[bytes]:
    """A file in memory, or on the disk where Python doesn't know how to make one (on musl)."""
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("compose"), "r+b", buffering=0)
    import tempfile

    return tempfile.TemporaryFile(buffering=0)


def _told(line: bytes, tail: List[str], on_line: Callable[[str], None]) -> None:
    text = line.decode("utf-8", "replace").rstrip("\r")
    tail.append(text)
    del tail[:-40]
    on_line(text)


def _lines(
    argv: List[str], on_line: Callable[[str], None], timeout: Optional[float]
) -> Tuple[Optional[int], List[str]]:
    """Run a command, hand on its lines, and return its code (``None``: out of time) and last 40 lines."""
    import threading

    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=clean_environment(),
        start_new_session=True,  # a hang-up or Ctrl-C of the connection must not stop it halfway
    )
    late = threading.Event()

    def end() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(timeout, end) if timeout else None
    if timer:
        timer.daemon = True
        timer.start()
    tail: List[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        text = line.rstrip("\n")
        tail.append(text)
        del tail[:-40]
        on_line(text)
    code = process.wait()
    if timer:
        timer.cancel()
    return (None if late.is_set() else code), tail


def _reason(tail: List[str]) -> str:
    """The line of Compose's output that says why: its last one that isn't progress."""
    told = [line.strip() for line in tail if line.strip()]
    for line in reversed(told):
        if re.match(
            r"(?i)(error|failed|dependency failed|service .* (is|has|didn)|no such|validating)", line
        ):
            return line
    return told[-1] if told else "it said nothing"


def pins(images: Dict[str, str]) -> str:
    """A compose file (as JSON, which is YAML) that fixes each service's image."""
    return json.dumps({"services": {name: {"image": ref} for name, ref in sorted(images.items())}}, indent=1)
