"""A service's health check, from the inventory: a test that works with whatever the image has."""

from __future__ import annotations

import re
import shlex
from typing import Any

from longshore.errors import RenderError, Where
from longshore.inventory.model import Health
from longshore.values import format_duration

_URL = re.compile(
    r"(?:(?P<scheme>https?)://(?P<host>127\.0\.0\.1|localhost|\[::1\]):)?"
    r"(?P<port>[0-9]{1,5})(?P<path>/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?"
)
_DEFAULT_TIMEOUT = 30.0

_PYTHON_HTTP = (
    "import ssl,sys,urllib.request as r;"
    "c=ssl.create_default_context();c.check_hostname=False;c.verify_mode=0;"
    "r.urlopen(sys.argv[1],timeout=float(sys.argv[2]),context=c)"
)
_NODE_HTTP = (
    "const u=process.argv[1];process.env.NODE_TLS_REJECT_UNAUTHORIZED=0;"
    "require(u.split(':')[0]).get(u,r=>process.exit(r.statusCode<400?0:1)).on('error',()=>process.exit(1))"
)
_BASH_HTTP = (
    r'exec 3<>"/dev/tcp/$0/$1" && printf "GET %s HTTP/1.0\r\nHost: $0\r\n\r\n" "$2" >&3'
    ' && read -r _ status _ <&3 && [ "$status" -lt 400 ]'
)


def healthcheck(health: Health, where: Where) -> dict[str, Any]:
    """Return the ``healthcheck`` mapping for a policy; raises ``RenderError`` for an unusable test."""
    if health.none:
        return {"disable": True}
    result: dict[str, Any] = {}
    test = _test(health, where)
    if test is not None:
        result |= {"test": test, "disable": False}
    for key in ("interval", "timeout", "start_period"):
        seconds = getattr(health, key)
        if seconds is not None:
            result[key] = format_duration(seconds)
    if health.retries is not None:
        result["retries"] = health.retries
    return result


def _test(health: Health, where: Where) -> list[str] | None:
    if isinstance(health.command, str):
        return ["CMD-SHELL", health.command]
    if health.command is not None:
        return ["CMD", *health.command]
    if health.tcp is not None:
        if not 1 <= health.tcp <= 65535:
            raise RenderError(f"{health.tcp} is not a port (1 to 65535).", where=where)
        return ["CMD-SHELL", tcp_script(health.tcp)]
    if health.http is not None:
        return ["CMD-SHELL", http_script(health.http, health.timeout or _DEFAULT_TIMEOUT, where)]
    return None


def http_script(address: str, timeout: float, where: Where) -> str:
    """Return a POSIX shell script that succeeds when ``address`` answers below 400.

    It uses the first of curl, wget, Python, Node, bash that the image has. Raises ``RenderError`` for an
    address that is neither ``PORT/PATH`` nor a URL of the container itself.
    """
    match = _URL.fullmatch(address)
    if match is None or not 1 <= int(match["port"]) <= 65535:
        raise RenderError(
            f"{address!r} is not something that a health check can ask.",
            where=where,
            hint="Write PORT/PATH, as 8000/health, or a URL on 127.0.0.1.",
        )
    scheme, host, port, path = (
        match["scheme"] or "http",
        match["host"] or "127.0.0.1",
        match["port"],
        match["path"] or "/",
    )
    url = shlex.quote(f"{scheme}://{host}:{port}{path}")
    seconds = max(1, round(timeout))
    ways = [
        ("curl", f"curl -fsSk -o /dev/null --max-time {seconds} {url}"),
        ("wget", f"wget -q -O /dev/null -T {seconds}{' --no-check-certificate' * (scheme == 'https')} {url}"),
        ("python3", f"python3 -c {shlex.quote(_PYTHON_HTTP)} {url} {seconds}"),
        ("python", f"python -c {shlex.quote(_PYTHON_HTTP)} {url} {seconds}"),
        ("node", f"node -e {shlex.quote(_NODE_HTTP)} {url}"),
    ]
    if scheme == "http":
        bare = shlex.quote(host.strip("[]"))
        ways.append(("bash", f"bash -c {shlex.quote(_BASH_HTTP)} {bare} {port} {shlex.quote(path)}"))
    branches = "; elif ".join(f"command -v {name} >/dev/null 2>&1; then {line}" for name, line in ways)
    sorry = "no curl, wget, python, node or bash in this image: use health.command"
    return f"if {branches}; else echo {shlex.quote(sorry)} >&2; exit 1; fi"


def tcp_script(port: int) -> str:
    """Return a POSIX shell script that succeeds when something listens on ``port`` in the container.

    It reads the kernel's own table (state 0A is LISTEN) and needs no tool: nc is missing in most images,
    and without ``-z`` in some.
    """
    return (
        "for table in /proc/net/tcp /proc/net/tcp6; do [ -r $table ] || continue; "
        "while read -r _ local _ state _; do "
        f'case "$local $state" in *:{port:04X}" 0A") exit 0;; esac; done <$table; done; '
        f"echo 'nothing listens on port {port}' >&2; exit 1"
    )
