"""This machine's pip settings, as far as they mean something inside a container."""

from __future__ import annotations

import ast
import re
import shutil
from pathlib import Path

from longshore.lab.commands import run

BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
KEPT = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "default-timeout", "retries")


def settings() -> str:
    """A ``pip.conf``: the machine's indexes and proxy, and the system's CA bundle."""
    pip = shutil.which("pip3") or shutil.which("pip")
    listed = run([pip, "config", "list"], check=False).stdout if pip else ""
    return translate(listed)


def translate(listed: str) -> str:
    """A ``pip.conf`` from what ``pip config list`` prints.

    What points to a folder of this machine is left out, since a container doesn't have it, and so is a
    password in an index's address: whoever gets the image could read it.
    """
    found = {}
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        name = key.rpartition(".")[2]
        words = [
            re.sub(r"//[^/@]*@", "//", word)
            for word in str(_text(value)).split()
            if not word.startswith(("file:", "/"))
        ]
        if name in KEPT and words:
            found[name] = " ".join(words)
    found["cert"] = str(BUNDLE)
    return "[global]\n" + "".join(f"{name} = {value}\n" for name, value in sorted(found.items()))


def _text(value: str) -> object:
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value
