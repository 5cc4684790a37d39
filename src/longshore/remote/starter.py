"""Runs on the host, before the agent: unpacks the agent when the host doesn't have it, then becomes it.

The controller sends this file's text as the argument of ``python3 -c`` (:mod:`longshore.remote.program`);
its arguments are the state folder and the agent's hash. It must parse on any Python 3, so that an old one
gets a sentence instead of a traceback, and it uses nothing but the standard library.

It reads standard input through ``os.read`` and never past the tar: what follows belongs to the agent.
"""

# ruff: noqa: PTH103, PTH104, PTH112, PTH116, PTH118, PTH120, PTH123, PTH208, UP031, UP036

import os
import sys


def refuse(code: str, message: str, hint: str) -> None:
    import json

    answer = {"type": "refused", "code": code, "message": message, "hint": hint}
    os.write(1, (json.dumps(answer) + "\n").encode())
    sys.exit(1)


def read_exactly(count: int) -> bytes:
    parts = []
    while count:
        part = os.read(0, min(count, 1 << 20))
        if not part:
            sys.exit(1)
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def read_number() -> int:
    digits = b""
    while digits[-1:] != b"\n":
        digits += read_exactly(1)
    return int(digits)


def name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return "user %d" % uid


def check_ours(path: str) -> None:
    """A folder that somebody else can write to would let them run code as us."""
    status = os.stat(path)
    if status.st_uid not in (0, os.geteuid()):
        refuse(
            "no-permission",
            "the folder %s belongs to %s, and this is %s." % (path, name(status.st_uid), name(os.geteuid())),
            "Deploy as its owner (`ansible_user`, without `ansible_become`), or give it to another user with"
            " `invoke bootstrap --user`.",
        )
    if status.st_mode & 0o022:
        refuse(
            "no-permission",
            "the folder %s can be written by others, so the agent in it can not be trusted." % path,
            "Run `chmod go-w %s` on the host." % path,
        )


def last_used(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:  # another run, which brings an agent as well, has just renamed or removed it
        return 0.0


def receive(agents: str, wanted: str) -> None:
    import hashlib
    import io
    import re
    import shutil
    import tarfile
    import tempfile
    import time
    import zlib

    os.write(1, b'{"type": "need"}\n')
    data = zlib.decompress(read_exactly(read_number()))
    if hashlib.sha256(data).hexdigest()[: len(wanted)] != wanted:
        refuse("bad-agent", "the agent arrived damaged.", "Run the command again.")
    fresh = tempfile.mkdtemp(prefix=".new-", dir=agents)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            if not member.isreg() or not re.match(r"[a-z_]+(/[a-z_0-9]+)*\.py\Z", member.name):
                refuse("bad-agent", "the agent holds %r, which is no module." % member.name, "")
            content = archive.extractfile(member)
            assert content is not None
            path = os.path.join(fresh, member.name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(content.read())
                file.flush()
                os.fsync(file.fileno())
    try:
        os.rename(fresh, os.path.join(agents, wanted))
    except OSError:
        # Another run was faster. Its content has the same hash.
        shutil.rmtree(fresh, ignore_errors=True)
    used = sorted(
        (last_used(os.path.join(agents, name)), name)
        for name in os.listdir(agents)
        if name not in (wanted, "recover")
    )
    whole = [name for _, name in used if not name.startswith(".")]
    broken = [name for at, name in used if name.startswith(".new-") and at < time.time() - 3600]
    for name in whole[:-2] + broken:
        shutil.rmtree(os.path.join(agents, name), ignore_errors=True)


def start(state_dir: str, wanted: str) -> int:
    if sys.version_info < (3, 9):
        refuse(
            "old-python",
            "python3 on the host is %d.%d; the agent needs 3.9 or newer." % sys.version_info[:2],
            "Upgrade it, or name a newer one with `ansible_python_interpreter`.",
        )
    os.umask(0o077)
    agents = os.path.join(state_dir, "agent")
    program = os.path.join(agents, wanted)
    try:
        os.makedirs(state_dir, mode=0o700, exist_ok=True)
        # Before anything is put there: root's folder in another's would lock them out.
        check_ours(state_dir)
        os.makedirs(agents, mode=0o700, exist_ok=True)
        check_ours(agents)
        if not os.path.isdir(program):
            receive(agents, wanted)
        check_ours(program)
        os.utime(program)
    except PermissionError:
        refuse(
            "no-permission",
            "%s can not write to %s." % (name(os.geteuid()), state_dir),
            "Set `ansible_become: true` for this host, or run `invoke bootstrap --user %s` as root."
            % name(os.geteuid()),
        )
    except OSError as error:
        refuse("no-space" if error.errno == 28 else "no-agent", "%s: %s." % (agents, error.strerror), "")
    sys.path.insert(0, program)
    sys.argv = ["longshore-agent", state_dir, wanted]
    import importlib

    # By name: what runs here is the host's copy, and nothing of the controller's.
    return int(importlib.import_module("longshore.agent.main").main(sys.argv[1:]))


if __name__ == "__main__":
    sys.exit(start(sys.argv[1], sys.argv[2]))
