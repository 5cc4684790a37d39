"""Secrets that tests plant, the forms in which they could be seen, and where it is looked for them."""

from __future__ import annotations

import base64
import json
import re
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from tests.lab.project import Project

from longshore.lab import Lab

OP = """#!/bin/sh
# As 1Password's own: prints one secret, without a newline.
[ "$1" = read ] && [ "$2" = --no-newline ] || exit 2
cat "%s/$(basename "$3")"
"""
LOOK = """
import json, os, stat, sys

secrets = json.loads(sys.stdin.buffer.read())
for top in ("/var/lib/longshore", "/tmp", "/run", "/var/log", "/etc", "/root", "/home", "/srv", "/dev/shm"):
    for folder, inner, names in os.walk(top):
        for name in names:
            path = os.path.join(folder, name)
            try:
                if not stat.S_ISREG(os.lstat(path).st_mode) or os.path.getsize(path) > 1 << 24:
                    continue
                data = open(path, "rb").read()
            except OSError:
                continue  # it went while we looked
            if not any(secret.encode() in data for secret in secrets):
                continue
            parts = path.split("/")
            above = ["/".join(parts[:end]) or "/" for end in range(1, len(parts))]
            closed = any(not os.stat(one).st_mode & stat.S_IXOTH for one in above)
            open_file = bool(os.stat(path).st_mode & stat.S_IROTH)
            print(json.dumps([path, open_file and not closed]))
"""


def planted(start: int) -> dict[str, str]:
    """25 secrets of all kinds; none is in another one or in anything that is said anyway."""
    mark = f"{start:02d}"
    kinds = [
        "short{0}!",
        "Qu'o{0}te\"d",
        "$do{0}llar$$s${{X}}",
        "tick`{0}`back\\slash\\n",
        "spaces  {0}  in it ",
        "ünïcödé{0}→☃",
        "first{0}line\nsecond{0}line of it\nthird{0}line",
        "-----BEGIN KEY-----\nMIIEv{0}QIBADANBgkqhkiG9w0\n8s7d{0}f6g5h4j3k2\n-----END KEY-----\n",
        "p@ss/w:or?d&{0}=%40+",
        "<tag>&amp;{0}</tag>",
        '{{"json":"{0}","key":"v\\"alue"}}',
        "tab\tand{0}more",
        "#hash{0}#tag",
        "long{0}" + "".join(chr(97 + at * 7 % 26) for at in range(3000)),
        "sunshine{0}",
    ]
    values = [kinds[at % len(kinds)].format(f"{mark}{at:02d}zq") for at in range(25)]
    return {f"SECRET_{at:02d}": value for at, value in enumerate(values)}


OLD, NEW = planted(1), planted(2)
ALL = [*OLD.values(), *NEW.values()]


def forms(secret: str) -> set[str]:
    """How a secret could be seen."""
    lines = {line for line in secret.splitlines() if len(line) >= 8 and not line.startswith("-----")}
    return {
        secret,
        *lines,
        json.dumps(secret)[1:-1],
        repr(secret)[1:-1],
        quote(secret, safe=""),
        base64.b64encode(secret.encode()).decode().rstrip("="),
        base64.b64encode(b"user:" + secret.encode())[8:-4].decode(),
        # A piece tells it as well: what was cut, and some of a long one.
        secret[: len(secret) * 3 // 4],
        secret[len(secret) // 4 :],
        *(secret[at : at + 80] for at in range(0, len(secret) - 80, 40)),
    }


def seen(text: str) -> list[str]:
    """The planted secrets that are in a text, in any form."""
    return [secret for secret in ALL if any(form in text for form in forms(secret))]


class Processes(threading.Thread):
    """Reads the arguments and the environment of every process, again and again; hosts' processes are there,
    too. What runs in a container has its own environment by right."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.found: dict[str, list[str]] = {}
        self.samples = 0
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.is_set():
            for folder in Path("/proc").iterdir():
                if folder.name.isdigit():
                    self.look(folder)
            self.samples += 1
            time.sleep(0.1)

    def look(self, folder: Path) -> None:
        try:
            words = (folder / "cmdline").read_bytes().decode("utf-8", "replace")
            around = (folder / "environ").read_bytes().decode("utf-8", "replace")
            group = (folder / "cgroup").read_text()
        except OSError:
            return
        if re.search(r"docker[/-][0-9a-f]{64}", group):
            around = ""
        for text in (words, around):
            if found := [secret for secret in ALL if secret in text]:
                self.found.setdefault(f"{words[:80]!r}", []).extend(found)


def write_secrets(project: Project, values: dict[str, str], key: str) -> None:
    """A third is encrypted with age, a third in a store, a third in clear."""
    import pyrage

    from longshore import dotenv

    names = list(values)
    store = project.root / "store"
    store.mkdir(mode=0o700, exist_ok=True)
    for name in names[8:16]:
        (store / name).write_text(values[name], newline="")
        (store / name).chmod(0o600)
    sealed = dotenv.render({name: values[name] for name in names[:8]}).encode()
    to = pyrage.x25519.Identity.from_str(key).to_public()
    project.write("env/try.env.age", "")
    (project.root / "env/try.env.age").write_bytes(pyrage.encrypt(sealed, [to], armored=True))
    clear = dotenv.render({name: values[name] for name in names[16:]})
    clear += "".join(f"{name}=op://prod/app/{name}\n" for name in names[8:16])
    path = project.root / "env/try.env"
    path.write_text(clear)
    path.chmod(0o600)


def open_files(lab: Lab, host: str = "h1", *, has_env: bool = True) -> list[str]:
    """The files of a host that hold a secret and that others can read."""
    done = subprocess.run(
        lab.ssh_argv(host, ["python3", "-c", LOOK]),
        input=json.dumps(ALL).encode(),
        capture_output=True,
        check=True,
        timeout=60,
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    told = [path for path, _ in rows if path.endswith((".jsonl", "manifest.json", "longshore.yml", "lock"))]
    assert any(path.endswith("/.env") for path, _ in rows) is has_env, "it looks in the right place"
    return [path for path, exposed in rows if exposed] + told


def open_here(root: Path) -> Iterator[Path]:
    """The files of the project that hold a secret and that others can read, but for its own folder's mode."""
    for path in root.rglob("*"):
        if path.is_file() and any(secret.encode() in path.read_bytes() for secret in ALL):
            above = [one for one in path.parents if one.is_relative_to(root) and one != root]
            closed = any(not one.stat().st_mode & stat.S_IXOTH for one in above)
            if path.stat().st_mode & stat.S_IROTH and not closed:
                yield path
