"""``maintenance on`` and ``off``: an app answers 503 for a while, but for those who are let through."""

from __future__ import annotations

from typing import Any

from longshore.tasks.command import task


@task(
    positional=["state"],
    iterable=["allow"],
    help={
        "state": "on or off",
        "allow": "an address or network that is let through; can be given again",
        "retry-after": "when a client should come again (Retry-After): 10m, 30s",
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
    retry_after: str = "5m",
    why: str = "",
    json: bool = False,
) -> None:
    """Answer all requests with 503, at the proxy, until it is off; a deploy in between keeps it."""
    from longshore.agent import wire
    from longshore.errors import LongshoreError
    from longshore.tasks.acting import locked
    from longshore.tasks.fleet import open_fleet, raise_all
    from longshore.tasks.words import duration

    if state not in ("on", "off"):
        raise LongshoreError(f"{state!r} is neither on nor off", hint="Write `invoke maintenance on`.")
    args = {
        "on": state == "on",
        "allow": [_network(text) for text in allow or ()],
        "retry_after": int(duration(retry_after, "--retry-after")),
    }
    with open_fleet(env=env, app=app, limit=limit, json=json, why=why) as fleet:
        for name in fleet.chosen:

            def on(host: str, app: str = name) -> Any:
                value = locked(fleet, app, host, wire.MAINTENANCE, args)
                fleet.output.step(host, f"maintenance {state}", app)
                return value

            values, errors = fleet.each(fleet.chosen[name], on)
            fleet.output.result({"app": name, "hosts": values})
            raise_all(errors)


def _network(text: str) -> str:
    from ipaddress import ip_network

    from longshore.errors import LongshoreError

    try:
        return str(ip_network(text, strict=False))
    except ValueError:
        raise LongshoreError(f"{text!r} is no address or network", where="--allow") from None
