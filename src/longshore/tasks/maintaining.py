"""``maintenance``, ``pause`` and ``resume``: an app answers 503 for a while, or nothing for some seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from longshore.tasks.command import task

if TYPE_CHECKING:
    from collections.abc import Mapping

    from longshore.tasks.fleet import Fleet


@task(
    positional=["state"],
    iterable=["allow"],
    help={
        "state": "on or off",
        "allow": "an address or network that is let through; can be given again",
        "retry-after": "when a client should come again (Retry-After): 10m, 30s",
        "page": "an HTML file that is shown meanwhile",
        "why": "a sentence for those who look at the host meanwhile",
    },
)
def maintenance(
    context: Any,
    state: str,
    env: str = "",
    app: str = "",
    limit: str = "",
    allow: list[str] | None = None,
    retry_after: str = "",
    page: str = "",
    why: str = "",
    json: bool = False,
) -> None:
    """Answer requests with 503 and a page, at the proxy, until it is off; a deploy in between keeps it."""
    from longshore.agent import wire
    from longshore.errors import LongshoreError
    from longshore.tasks.acting import locked
    from longshore.tasks.fleet import open_fleet, raise_all
    from longshore.tasks.words import duration

    if state not in ("on", "off"):
        raise LongshoreError(f"{state!r} is neither on nor off", hint="Write `invoke maintenance on`.")
    if state == "off" and (allow or retry_after or page):
        raise LongshoreError(
            "--allow, --retry-after and --page are for `maintenance on`",
            hint="To change them while it is on, write `invoke maintenance on` again.",
        )
    asked: dict[str, Any] = {"allow": tuple(_network(text) for text in allow or ())}
    if retry_after:
        asked["retry_after"] = duration(retry_after, "--retry-after")
    if page:
        asked["page"] = page
    with open_fleet(env=env, app=app, limit=limit, json=json, why=why) as fleet:
        # What is wrong with a page is said before anything is turned on anywhere.
        wanted = {name: _wanted(fleet, name, asked) if state == "on" else {} for name in fleet.chosen}
        for name in fleet.chosen:

            def on(host: str, app: str = name) -> Any:
                args = {"on": state == "on", **wanted[app]}
                value = locked(fleet, app, host, wire.MAINTENANCE, args)
                fleet.output.step(host, f"maintenance {state}", app)
                return value

            values, errors = fleet.each(fleet.chosen[name], on)
            fleet.output.result({"app": name, "hosts": values})
            raise_all(errors)


def _wanted(fleet: Fleet, app: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What maintenance is, as the inventory says it and, where that was given, the command line."""
    from pathlib import Path

    from longshore.render.maintenance import page_text

    known = fleet.target(app, fleet.chosen[app][0]).app.maintenance
    return {
        "allow": [*known.allow, *asked["allow"]],
        "retry_after": int(asked.get("retry_after", known.retry_after)),
        "page": page_text(Path(asked["page"]) if "page" in asked else known.page),
    }


def _network(text: str) -> str:
    from ipaddress import ip_network

    from longshore.errors import LongshoreError

    try:
        return str(ip_network(text, strict=False))
    except ValueError:
        raise LongshoreError(f"{text!r} is no address or network", where="--allow") from None


@task(
    help={
        "for": "how long, at most 25s; `resume` ends it before",
        "why": "a sentence for those who look at the host meanwhile",
    }
)
def pause(
    context: Any,
    env: str = "",
    app: str = "",
    limit: str = "",
    for_: str = "20s",
    why: str = "",
    json: bool = False,
) -> None:
    """Hold new requests back at the proxy, until 'resume' or until the time is over: then they go on."""
    from longshore.agent import wire
    from longshore.errors import LongshoreError
    from longshore.tasks.acting import locked
    from longshore.tasks.fleet import open_fleet, raise_all
    from longshore.tasks.words import duration

    seconds = duration(for_, "--for")
    if not 0 < seconds <= wire.LONGEST_PAUSE:
        hint = "For longer there is `invoke maintenance on`."
        raise LongshoreError(
            f"requests can be held for up to {wire.LONGEST_PAUSE:g} s", where="--for", hint=hint
        )
    with open_fleet(env=env, app=app, limit=limit, json=json, why=why) as fleet:
        for name in fleet.chosen:

            def hold(host: str, app: str = name) -> Any:
                value = locked(fleet, app, host, wire.PAUSE, {"seconds": seconds})
                fleet.output.step(host, "paused", f"{app}, for up to {value['seconds']:g} s")
                return value

            values, errors = fleet.each(fleet.chosen[name], hold)
            if errors:  # some hosts that hold and some that don't is what nobody asked for
                fleet.ask(name, wire.RESUME, hosts=tuple(values))
            fleet.output.result({"app": name, "hosts": {} if errors else values})
            raise_all(errors)


@task()
def resume(context: Any, env: str = "", app: str = "", limit: str = "", json: bool = False) -> None:
    """End a pause: what was held goes on, and nothing is held any more."""
    from longshore.agent import wire
    from longshore.tasks.fleet import open_fleet, raise_all

    with open_fleet(env=env, app=app, limit=limit, json=json) as fleet:
        for name in fleet.chosen:
            values, errors = fleet.ask(name, wire.RESUME)
            for host, value in values.items():
                if value["paused"]:
                    fleet.output.step(host, "resumed", f"{name}, {value['held']} requests had been held")
                else:
                    fleet.output.step(host, "nothing to do", f"{name} is not paused")
            fleet.output.result({"app": name, "hosts": values})
            raise_all(errors)
