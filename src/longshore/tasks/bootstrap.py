"""``invoke bootstrap``: bare Debian and Ubuntu hosts get an engine, Compose, settings and folders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from longshore.tasks.command import done, task

if TYPE_CHECKING:
    from longshore.bootstrap import Outcome
    from longshore.console import Output
    from longshore.inventory.model import Environment
    from longshore.remote.fleet import Outcome as Reached


@task(
    help={
        "check": "only say what would be done; exit code 2 when there is something",
        "user": "make this user, who then deploys without root login and sudo (as good as root)",
        "docker-group": "let the login user use the engine without sudo (as good as root)",
    }
)
def bootstrap(
    context: Any,
    env: str = "",
    limit: str = "",
    user: str = "",
    check: bool = False,
    docker_group: bool = False,
    json: bool = False,
) -> None:
    """Prepare hosts: Docker engine, Compose, buildx, the engine's settings, user, folders. Again is fine."""
    from pathlib import Path

    from longshore.bootstrap import BootstrapOptions, bootstrap_host, user_name, wish
    from longshore.console import Masks, make_output
    from longshore.errors import LongshoreError, Problems
    from longshore.inventory import find_root, load, masked_values
    from longshore.remote import Links
    from longshore.remote.fleet import each

    output = make_output(as_json=json)
    try:
        # Not by `open_fleet`: a host is prepared before any app is meant for it.
        environment = load(find_root(Path.cwd()), env)
        output.masks = Masks(masked_values(environment))
        for warning in environment.warnings:
            output.say(f"warning: {warning}")
        hosts = _hosts(environment, limit)
        settings = BootstrapOptions(docker_group=docker_group, user=user_name(user) if user else "")
        requests = {name: wish(environment, settings, check=check, host=name) for name in hosts}
        with Links(environment) as links:

            def one(name: str) -> Outcome:
                output.step(name, "connect")
                return bootstrap_host(
                    links.link(name),
                    requests[name],
                    python=environment.hosts[name].ssh.python,
                    tell=lambda text, detail: output.step(name, text, detail),
                )

            def finished(name: str, item: Reached[Outcome]) -> None:
                if item.error is not None:
                    output.step(name, "failed")
                else:
                    _show(output, item.get(), check=check)

            reached = each(hosts, one, parallel=environment.parallel, on_done=finished)
        outcomes = {name: item.get() for name, item in reached.items() if item.error is None}
        errors = {name: item.error for name, item in reached.items() if item.error is not None}
        output.result({"check": check, "hosts": {name: _json(item) for name, item in outcomes.items()}})
        if user and outcomes and not check:
            output.say(
                f"To deploy as {user}, say `ansible_user: {user}` in the inventory, without `ansible_become`."
            )
        if errors:
            raise Problems(errors.values())
    except LongshoreError as error:
        # Said by the run's own output: it knows the secrets to mask, and clears the live rows first.
        output.error(error)
        done(1)
    finally:
        output.close()
    done(2 if check and any(outcome.changes for outcome in outcomes.values()) else 0)


def _hosts(environment: Environment, limit: str) -> tuple[str, ...]:
    """The chosen hosts, in the inventory's order."""
    from longshore.errors import InventoryError
    from longshore.inventory import patterns

    if not limit:
        return tuple(environment.hosts)
    hosts = patterns.match(limit, hosts=environment.hosts, groups=environment.groups, where="--limit")
    if not hosts:
        raise InventoryError(f"{limit!r} matches no host of {environment.name}.", where="--limit")
    return hosts


def _show(output: Output, outcome: Outcome, *, check: bool) -> None:
    state = ("would change" if check else "bootstrapped") if outcome.changes else "unchanged"
    versions = outcome.versions
    parts = [f"{part} {versions[part]}" for part in ("engine", "compose", "buildx") if versions.get(part)]
    output.step(outcome.host, state, ", ".join(parts), changes=list(outcome.changes))
    for change in outcome.changes:
        output.say(f"{outcome.host}: {'would ' if check else ''}{change}")
    for note in outcome.notes:
        output.say(f"{outcome.host}: {note}")


def _json(outcome: Outcome) -> dict[str, Any]:
    return {
        "changes": list(outcome.changes),
        "notes": list(outcome.notes),
        "engine": outcome.engine,
        "versions": dict(outcome.versions),
    }
