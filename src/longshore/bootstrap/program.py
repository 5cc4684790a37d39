"""The host's program as it travels: its modules as text in one line of JSON, read by a starter of one line.

Nothing of it is written on the host, so a full disk can't stop it, and nothing of it is in an argument.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from longshore.agent import boot

PACKAGES = ("longshore", "longshore.agent", "longshore.bootstrap", "longshore.bootstrap.host")
MODULES = (
    *("say", "versions", "system", "apt", "found", "openpgp", "repository", "packages"),
    *("daemon", "service", "images", "keys", "user", "folder", "settings", "boot", "emulation", "main"),
)
"""The modules in :mod:`longshore.bootstrap.host`, each after those that it imports."""

STARTER = "import json,sys;sent=json.loads(sys.stdin.buffer.readline());exec(sent['start'])"
_START = """\
import types
for name in sent["packages"]:
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = []
for name, text in sent["modules"].items():
    module = sys.modules[name] = types.ModuleType(name)
    parent, _, short = name.rpartition(".")
    setattr(sys.modules[parent], short, module)
    exec(compile(text, name, "exec"), module.__dict__)
sys.modules["longshore.bootstrap.host.main"].main(sent["wish"])
"""

INSTALL_PYTHON = """\
say() { printf '{"type":"%s",%s}\\n' "$1" "$2"; }
if ! command -v apt-get >/dev/null 2>&1; then
    say error '"code":"unsupported","log":[],"message":"this host has neither python3 nor apt-get; '\\
'bootstrap knows Debian 12 and 13 and Ubuntu 22.04, 24.04 and 26.04",'\\
'"hint":"Install python3 by hand, and bootstrap again: it says what else is needed."'
    exit 0
fi
if [ "$1" = check ]; then
    say change '"text":"install python3"'
    say note '"text":"what else is needed can be told once python3 is there"'
    exit 0
fi
if [ "$(id -u)" != 0 ]; then
    say error '"code":"not_root","log":[],"message":"installing python3 takes root, and this user is not",'\\
'"hint":"Set `ansible_become: true` for this host, or connect as root."'
    exit 0
fi
say step '"text":"install python3"'
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 LC_ALL=C
net='-o Acquire::Retries=2 -o Acquire::http::Timeout=20 -o Acquire::https::Timeout=20'
ready() {
    apt-get -q $net update </dev/null
    apt-get -q $net -o DPkg::Lock::Timeout="$2" -y --no-install-recommends install python3 </dev/null
}
waited=0
until out=$(ready "$@" 2>&1); do
    case $out in *'Could not get lock'*) ;; *) break ;; esac
    [ "$waited" -lt "$2" ] || break
    sleep 5
    waited=$((waited + 5))
done
printf '%s\\n' "$out"
if command -v python3 >/dev/null 2>&1; then say change '"text":"install python3"'; fi
"""
"""For ``sh -s check|do SECONDS``, on a host without python3. Speaks the same lines as the program itself."""


@functools.cache
def _modules() -> dict[str, str]:
    folder = Path(__file__).parent / "host"
    # The one module that bootstrap shares with the agent: both have hosts recover at boot.
    shared = {"longshore.agent.boot": Path(boot.__file__).read_text()}
    own = {f"longshore.bootstrap.host.{name}": (folder / f"{name}.py").read_text() for name in MODULES}
    return shared | own


def command(python: str) -> list[str]:
    """The argument list that runs the program: always the same, whatever is asked of it."""
    return [python, "-I", "-S", "-c", STARTER]


def payload(wish: Mapping[str, Any]) -> bytes:
    """What goes to its standard input: the program and the request."""
    sent = {"start": _START, "packages": PACKAGES, "modules": _modules(), "wish": wish}
    return json.dumps(sent).encode() + b"\n"
