"""``invoke trust``: the fingerprints of hosts that are not known yet, and recording them after a yes."""

from __future__ import annotations

import sys
from typing import Any

from longshore.tasks.command import done, task


@task(
    help={
        "accept": "record without asking: for keys that were compared before, or a network you trust",
        "accept_new": "the same, by the name that it has with OpenSSH and the other commands",
    }
)
def trust(
    context: Any,
    env: str = "",
    limit: str = "",
    accept: bool = False,
    accept_new: bool = False,
    json: bool = False,
) -> None:
    """Show the host keys that are not known yet, and record them after a yes.

    A key that has changed is never recorded: that host is reported, and the exit code is 1.
    """
    from pathlib import Path

    from longshore.console import make_output
    from longshore.errors import LongshoreError
    from longshore.inventory import find_root, load
    from longshore.inventory.patterns import match
    from longshore.remote import each
    from longshore.remote.connection import Opener
    from longshore.remote.route import Route, Routes
    from longshore.remote.trust import ShownKey, look, record, servers

    accept = accept or accept_new
    environment = load(find_root(Path.cwd()), env)
    names = match(limit or "all", hosts=environment.hosts, groups=environment.groups, where="--limit")
    output = make_output(as_json=json)
    opener = Opener()
    routes = Routes(connect_timeout=environment.connect_timeout)
    asked: dict[tuple[str, bytes], bool] = {}

    def settle(shown: ShownKey) -> bool:
        """Whether the way may go on through this server."""
        if shown.verdict == "known":
            return True
        if shown.verdict != "unknown":
            return False
        key = (shown.name, shown.blob)
        if key not in asked:
            output.say(f"{shown.host}: {shown.name} shows {shown.kind} {shown.fingerprint}")
            if not accept and not sys.stdin.isatty():
                output.say("  Nobody is there to ask; --accept records it.")
            asked[key] = accept or _yes(f"Record it in {shown.file}?")
            if asked[key]:
                record(opener, shown)
        return asked[key]

    good = True
    try:
        ssh = [name for name in names if environment.hosts[name].ssh.connection == "ssh"]
        results: dict[str, str] = {}
        prints: dict[str, str] = {}
        ways: dict[str, list[Route]] = {}
        for name in ssh:
            try:
                ways[name] = list(servers(routes.to(environment.hosts[name])))
            except LongshoreError as error:
                good = False
                results[name] = "unreachable"
                output.error(error)
        while ways:
            # One server a host and round: a hop must be trusted before what lies behind it is asked.
            outcomes = each(ways, lambda name: look(opener, ways[name][0]), parallel=environment.parallel)
            for name, outcome in outcomes.items():
                way = ways.pop(name)
                if outcome.error is not None:
                    good = False
                    results[name] = "unreachable"
                    output.error(outcome.error)
                    continue
                shown = outcome.get()
                prints[name] = shown.fingerprint
                go_on = settle(shown)
                results[name] = (
                    shown.verdict if shown.verdict != "unknown" else ("recorded" if go_on else "unknown")
                )
                if shown.verdict in ("changed", "revoked"):
                    output.error(_bad(shown))
                good = good and go_on
                if go_on and way[1:]:
                    ways[name] = way[1:]
        for name in names:
            output.say(f"{name}: {results.get(name, 'local')}")
        states = {name: results.get(name, "local") for name in names}
        output.result(
            {"hosts": {name: {"state": states[name], "fingerprint": prints.get(name)} for name in names}}
        )
    finally:
        opener.close()
        output.close()
    done(0 if good else 1)


def _bad(shown: Any) -> Any:
    from longshore.errors import HostError

    if shown.verdict == "revoked":
        return HostError(
            f"{shown.name} shows {shown.kind} {shown.fingerprint}, which {shown.where} calls revoked.",
            where=shown.host,
            hint="Someone may be in between. Find out before you go on.",
        )
    return HostError(
        f"{shown.name} shows {shown.kind} {shown.fingerprint}, and {shown.where} has another key.",
        where=shown.host,
        hint="Someone may be in between, or the host was set up anew. If it was, remove the old key with "
        f"`ssh-keygen -R '{shown.name}' -f {shown.where.rpartition(':')[0]}` and run this again.",
    )


def _yes(question: str) -> bool:
    if not sys.stdin.isatty():
        return False
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes", "j", "ja")
