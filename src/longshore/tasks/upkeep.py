"""``smoke`` and ``cleanup``: what runs by itself, in CI and from a timer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from longshore.tasks.command import done, task

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from longshore.errors import LongshoreError
    from longshore.tasks.fleet import Fleet
    from longshore.verify.smoke import SmokeResult


@task(
    help={
        "junit": "also write the outcome to this file, as JUnit XML",
        "retries": "try each check so many times more (default: what the inventory says)",
        "deadline": "nothing may take longer than this, with all its retries (60s, 5m)",
    }
)
def smoke(
    context: Any,
    env: str = "",
    app: str = "",
    limit: str = "",
    junit: str = "",
    retries: str = "",
    deadline: str = "",
    json: bool = False,
) -> None:
    """Run the inventory's smoke checks and the roles', from here; exit code 1 when one fails.

    No host is logged in to.
    """
    from dataclasses import replace
    from pathlib import Path

    from longshore.console import seconds_text
    from longshore.errors import LongshoreError
    from longshore.tasks.fleet import open_fleet
    from longshore.tasks.services import smoke_checks
    from longshore.tasks.words import duration, whole
    from longshore.verify import run_checks

    with open_fleet(env=env, app=app, limit=limit, json=json) as fleet:
        longest = duration(deadline, "--deadline") if deadline else None
        again = whole(retries, "--retries") if retries else None
        checks = {name: smoke_checks(fleet, name) for name in fleet.chosen}
        if not any(checks.values()) and not any(_has_role_checks(fleet, name) for name in checks):
            raise LongshoreError(
                f"{' and '.join(checks)} has no smoke checks in the inventory, and none by its hosts' roles",
                hint="Declare them under the app: smoke: [{url: /health}].",
            )
        if again is not None:
            checks = {name: [replace(one, retries=again) for one in all_] for name, all_ in checks.items()}
        results: dict[str, Sequence[SmokeResult]] = {}
        for name, all_ in checks.items():
            both = (*run_checks(all_, deadline=longest), *_role_checks(fleet, name, longest))
            if both:
                results[name] = both
        for name, found in results.items():
            rows = [
                (
                    one.name,
                    "ok" if one.ok else "FAILED",
                    seconds_text(one.seconds),
                    str(one.tries),
                    one.why,
                )
                for one in found
            ]
            fleet.output.table(("check", "", "took", "tries", "why"), rows, title=name)
            fleet.output.result({"app": name, "checks": [vars(one) for one in found]})
        if junit:
            path = Path(junit)
            try:
                path.write_bytes(junit_xml(results, fleet.output.masks.text))
            except OSError as error:
                raise LongshoreError(f"can't be written: {error.strerror}", where=junit) from None
        done(0 if all(one.ok for found in results.values() for one in found) else 1)


def _has_role_checks(fleet: Fleet, app: str) -> bool:
    return any(role.checks for host in fleet.chosen[app] for role in fleet.target(app, host).roles)


def _role_checks(fleet: Fleet, app: str, deadline: float | None) -> list[SmokeResult]:
    """The checks of the hosts' roles, one after another. There is no run: no release is known."""
    if not _has_role_checks(fleet, app):
        return []
    from functools import partial

    from longshore.tasks.services import services_of
    from longshore.verify.role_checks import run_role_check

    placed = services_of(fleet, app)
    results = []
    for host in fleet.chosen[app]:
        target = fleet.target(app, host)
        facts = {
            "environment": fleet.environment.name,
            "app": app,
            "host": host,
            "url": target.app.url,
            "release": None,
            "previous": None,
            "services": sorted(placed[host] or ()),
            **fleet.facts.args(),
        }
        timeout = min(target.app.hooks.timeout, deadline or target.app.hooks.timeout)
        for role in target.roles:
            for name in role.checks:
                tell = partial(fleet.output.log, host, name)
                results.append(run_role_check(role, name, facts, timeout=timeout, tell=tell))
    return results


def junit_xml(results: Mapping[str, Sequence[SmokeResult]], mask: Any) -> bytes:
    """The results as JUnit XML: a test suite for each app, a test case for each check."""
    import re
    from xml.etree import ElementTree

    def clean(text: str) -> str:
        # What XML can't hold, not even escaped (XML 1.0, section 2.2), would make the file unreadable.
        return re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", str(mask(text)))

    root = ElementTree.Element("testsuites")
    for app, found in results.items():
        failures = sum(not one.ok for one in found)
        suite = ElementTree.SubElement(
            root, "testsuite", name=clean(app), tests=str(len(found)), failures=str(failures), errors="0"
        )
        for one in found:
            case = ElementTree.SubElement(
                suite,
                "testcase",
                classname=clean(f"smoke.{app}"),
                name=clean(one.name),
                time=f"{one.seconds:.3f}",
            )
            if not one.ok:
                failure = ElementTree.SubElement(case, "failure", message=clean(one.why))
                failure.text = clean(f"{one.why} (after {one.tries} tries)")
    ElementTree.indent(root)
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


@task(
    help={
        "preview": "only say what would go",
        "cache_hours": "builder cache that was not used for so many hours goes, too",
        "quiet": "say nothing but errors: for cron",
    }
)
def cleanup(
    context: Any,
    env: str = "",
    app: str = "",
    limit: str = "",
    preview: bool = False,
    cache_hours: str = "",
    quiet: bool = False,
    json: bool = False,
) -> None:
    """Remove images that no container and no kept release needs, and old builder cache. Never a volume."""
    from longshore.agent import wire
    from longshore.tasks.acting import locked
    from longshore.tasks.fleet import open_fleet, raise_all
    from longshore.tasks.words import whole

    with open_fleet(env=env, app=app, limit=limit, json=json) as fleet:
        hours = whole(cache_hours, "--cache-hours", least=1) if cache_hours else None
        errors: dict[str, LongshoreError] = {}
        for name, hosts in fleet.chosen.items():
            args = {"preview": preview, "cache_hours": hours}

            def on(host: str, app: str = name, args: Any = args) -> Any:
                if preview:  # changes nothing, so it need not wait for anybody
                    return fleet.session(host).call(wire.CLEANUP, {"app": app, **args})
                return locked(fleet, app, host, wire.CLEANUP, args)

            values, failed = fleet.each(hosts, on)
            if not quiet:
                _tell(fleet, name, values, preview=preview)
            fleet.output.result({"app": name, "preview": preview, "hosts": values})
            errors |= {f"{name} on {host}": error for host, error in failed.items()}
        raise_all(errors)


def _tell(fleet: Fleet, app: str, values: Mapping[str, Any], *, preview: bool) -> None:
    from longshore.console import bytes_text

    rows = [
        (host, image["image"], image["id"].removeprefix("sha256:")[:12], bytes_text(image["size"]))
        for host, value in values.items()
        for image in value["images"]
    ]
    if rows:
        fleet.output.table(("host", "image", "id", "size"), rows, title=app)
    for host, value in values.items():
        cache = f", {bytes_text(value['cache_bytes'])} of builder cache" if value["cache_bytes"] else ""
        count = len(value["images"])
        what = f"{count} image{'' if count == 1 else 's'} of {app}, {bytes_text(value['bytes'])}{cache}"
        if not count and not cache:
            fleet.output.say(f"{host}: nothing of {app} to clean up")
        else:
            fleet.output.say(f"{host}: {'would remove up to' if preview else 'removed'} {what}")
