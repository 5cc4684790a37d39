"""``build``, ``push`` and ``images``: from the services' build sections to what the hosts run."""

from __future__ import annotations

from typing import Any

from longshore.tasks.command import task

_HELP = {
    "service": "only this service's image",
    "dirty": "also in production: build what is not committed",
    "fresh": "build every step anew",
    "pull": "ask the registry for newer base images",
}


@task(help=_HELP)
def build(
    context: Any,
    env: str = "",
    app: str = "",
    limit: str = "",
    service: str = "",
    dirty: bool = False,
    fresh: bool = False,
    pull: bool = False,
    json: bool = False,
) -> None:
    """Build the images of the services that have a `build`, for every platform; nothing is pushed."""
    _run("image", env, app, limit, service, dirty=dirty, fresh=fresh, pull=pull, json=json)


@task(
    help={
        **_HELP,
        "provenance": "attach how it was built",
        "sbom": "attach a list of what is in it",
    }
)
def push(
    context: Any,
    env: str = "",
    app: str = "",
    limit: str = "",
    service: str = "",
    dirty: bool = False,
    fresh: bool = False,
    pull: bool = False,
    provenance: bool = False,
    sbom: bool = False,
    json: bool = False,
) -> None:
    """Build the images, and when all are built, push them: to the registry, or without one to the hosts."""
    changes: dict[str, bool] = {}
    if provenance:
        changes["provenance"] = True
    if sbom:
        changes["sbom"] = True
    _run(
        "push",
        env,
        app,
        limit,
        service,
        dirty=dirty,
        fresh=fresh,
        pull=pull,
        json=json,
        changes=changes,
    )


def _run(
    way: Any,
    env: str,
    app: str,
    limit: str,
    service: str,
    *,
    dirty: bool,
    fresh: bool,
    pull: bool,
    json: bool,
    changes: dict[str, bool] | None = None,
) -> None:
    from longshore.tasks.building import build_images, tell, with_settings
    from longshore.tasks.fleet import open_fleet
    from longshore.tasks.readying import bring_built

    with open_fleet(env=env, app=app, limit=limit, json=json, values=True) as opened:
        fleet = with_settings(opened, **changes) if changes else opened
        built = build_images(fleet, way, service=service, dirty=dirty, no_cache=fresh, pull=pull)
        if not built:
            fleet.output.say("No service here has a build section: there is nothing to build.")
        elif way == "push" and fleet.environment.registry == "none":
            bring_built(fleet, built)
        tell(fleet, built)


@task()
def images(
    context: Any, env: str = "", app: str = "", limit: str = "", service: str = "", json: bool = False
) -> None:
    """List the images that run: tags, digest, platforms, size, age, and on which hosts."""
    from longshore.agent import wire
    from longshore.images.running import Running, running, tags_and_platforms
    from longshore.tasks.fleet import open_fleet, raise_all
    from longshore.tasks.services import ask, choose

    with open_fleet(env=env, app=app, limit=limit, json=json) as fleet:
        errors: dict[str, Any] = {}
        for name, hosts in choose(fleet, service).items():
            values, failed = ask(fleet, name, wire.IMAGES, hosts=hosts, service=service)
            errors |= {f"{name} on {host}": error for host, error in failed.items()}
            found: list[Running] = running(values)
            known = tags_and_platforms(found, fleet.environment.registries)
            columns = ("service", "image", "tags", "digest", "platforms", "size", "age", "hosts")
            rows = [one.row(known.get(one.ref)) for one in found]
            if rows:
                fleet.output.table(columns, rows, title=name)
            elif values:
                fleet.output.say(f"{name}: nothing runs on {', '.join(values)}")
            listed = [one.as_json(known.get(one.ref)) for one in found]
            fleet.output.result({"app": name, "hosts": values, "images": listed})
        raise_all(errors)
