"""``invoke render``: what each host would get, as files to look at. No host is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from longshore.tasks.command import task

if TYPE_CHECKING:
    from collections.abc import Mapping

    from longshore.console import Output
    from longshore.inventory.model import Environment
    from longshore.render import Bundle


@task(
    iterable=["set"],
    help={
        "out": "the folder to write to: OUT/<app>/<host>/",
        "pin": "ask the registries for digests, as a deploy does",
    },
)
def render(
    context: Any,
    env: str = "",
    app: str = "",
    host: str = "",
    limit: str = "",
    out: str = "rendered",
    set: list[str] | None = None,
    json: bool = False,
    pin: bool = True,
) -> None:
    """Write .env, compose files and all that goes with them, as each host would get them."""
    from pathlib import Path

    from longshore.console import Masks, make_output
    from longshore.inventory import find_root, load, masked_values, one_host, resolve_secrets, select
    from longshore.render.write import write_bundle
    from longshore.secrets.keyring import Keyring

    environment = load(find_root(Path.cwd()), env, overrides=set or (), keyring=Keyring())
    if host:
        limit = f"{limit or 'all'}:&{one_host(environment, host).name}"
    chosen = dict(select(environment, limit or None, app or None))
    output = make_output(as_json=json)
    output.masks = Masks(masked_values(environment))
    try:
        environment = resolve_secrets(environment, chosen)
        output.masks = output.masks.plus(masked_values(environment))
        for warning in environment.warnings:
            output.say(f"warning: {warning}")
        bundles = _bundles(environment, chosen, output, pin=pin)
        folder = Path(out)
        for (name, where), bundle in bundles.items():
            write_bundle(bundle, folder / name / where)
        _show(bundles, output, out)
    finally:
        output.close()


def _bundles(
    environment: Environment, chosen: Mapping[str, tuple[str, ...]], output: Output, *, pin: bool
) -> dict[tuple[str, str], Bundle]:
    from dataclasses import replace

    from longshore.render import Renderer
    from longshore.tasks.pinning import pin as pin_images

    renderer = Renderer()
    keys = [(name, host) for name, hosts in chosen.items() for host in hosts]
    # To look at a release must be possible without a registry, so a missing digest is no error here.
    targets = {key: environment.targets[key] for key in keys}
    targets = {
        key: replace(one, app=replace(one.app, pin="when-possible")) if one.app.pin == "always" else one
        for key, one in targets.items()
    }
    digests: Mapping[str, str] = {}
    if pin:
        resolved = pin_images(
            environment, [one for one in targets.values() if one.app.pin != "never"], renderer
        )
        digests = resolved.digests
        for ref, why in resolved.unpinned.items():
            output.say(f"note: {ref} is not pinned here ({why})")
    return {key: renderer.render(one, digests=digests) for key, one in targets.items()}


def _show(bundles: Mapping[tuple[str, str], Bundle], output: Output, out: str) -> None:
    rows = [
        (
            name,
            host,
            bundle.id,
            ", ".join(bundle.services),
            str(sum(file.kind == "release" for file in bundle.files)),
            str(sum(file.kind == "content" for file in bundle.files)),
        )
        for (name, host), bundle in bundles.items()
    ]
    output.table(("app", "host", "release", "services", "files", "mounted"), rows)
    notes = dict.fromkeys(note for bundle in bundles.values() for note in bundle.notes)
    for note in notes:
        place = f"{note.where}: " if note.where else ""
        output.say(f"{note.level}: {place}{note.message}")
    output.say(f"Written to {out}/. The .env files hold secrets in clear.")
    output.result(
        [
            {
                "app": name,
                "host": host,
                "release": bundle.id,
                "path": f"{out}/{name}/{host}",
                "files": [file.path for file in bundle.files],
                "notes": [
                    {"level": note.level, "message": note.message, "where": str(note.where or "")}
                    for note in bundle.notes
                ],
            }
            for (name, host), bundle in bundles.items()
        ]
    )
