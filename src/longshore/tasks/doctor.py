"""``invoke doctor``: what of the hosts and of this machine is good, what isn't, and what to type then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from longshore.tasks.command import done, task

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from longshore.console import Output
    from longshore.doctor import Finding, Wanted
    from longshore.doctor.want import Wishes
    from longshore.inventory.model import Environment
    from longshore.tasks.fleet import Fleet

HERE = "this machine"


@task(help={"quiet": "only warnings and errors"})
def doctor(
    context: Any, env: str = "", app: str = "", limit: str = "", quiet: bool = False, json: bool = False
) -> None:
    """Look at each host and at this machine, changing nothing: what is good, what isn't, and what to do."""
    from longshore.images.builders import trouble_here
    from longshore.tasks.fleet import open_fleet

    # Not by its limit: that is about hosts which run something, and not those that only build.
    with open_fleet(env=env, app=app, json=json) as fleet:
        environment, unread = _with_values(fleet)
        from longshore.doctor.want import Wishes

        trouble = trouble_here()
        wishes = Wishes(environment, fleet.chosen, here=lambda: not trouble)
        found: dict[str, list[Finding]] = {HERE: [*unread, *_here(environment, fleet, wishes, trouble)]}
        found |= _hosts(fleet, wishes, _limited(environment, wishes.hosts, limit))
        for name, findings in found.items():
            _show(fleet.output, name, findings, quiet=quiet)
        counts = {level: sum(one.level == level for some in found.values() for one in some) for level in
                  ("good", "warning", "error")}  # fmt: skip
        fleet.output.say(_sum(counts))
        fleet.output.result(
            {
                "hosts": {name: [one.as_json() for one in some] for name, some in found.items()},
                "counts": counts,
            }
        )
        done(1 if counts["error"] else 0)


def _with_values(fleet: Fleet) -> tuple[Environment, list[Finding]]:
    """The environment with its secrets, which logins may need; without them, and why, where that can't be."""
    from longshore.console import Masks
    from longshore.doctor import Finding
    from longshore.errors import LongshoreError, Problems
    from longshore.inventory import load, masked_values, resolve_secrets
    from longshore.secrets.keyring import Keyring

    try:
        opened = load(fleet.environment.root, fleet.environment.name, keyring=Keyring())
        environment = resolve_secrets(opened, fleet.chosen)
    except LongshoreError as error:
        several = error.problems if isinstance(error, Problems) else (error,)
        return fleet.environment, [Finding("error", "secrets", _sentence(one), one.hint) for one in several]
    fleet.output.masks = Masks(masked_values(environment))
    return environment, []


def _here(environment: Environment, fleet: Fleet, wishes: Wishes, trouble: str) -> list[Finding]:
    from longshore.doctor import here
    from longshore.images.builders import HERE as OWN_ENGINE
    from longshore.images.reference import parse
    from longshore.images.spec import read_git

    targets = [environment.targets[app, host] for app, hosts in fleet.chosen.items() for host in hosts]
    built = {spec.image for spec in wishes.specs} if environment.registry == "none" else set()
    images: dict[str, str] = {}
    for image in sorted({one for some in wishes.images.values() for one in some} - built):
        images.setdefault(parse(image).registry, image)
    return [
        *wishes.findings,
        *here.commit(environment, read_git(environment.root), bool(wishes.specs)),
        *here.builds((spec.name for spec in wishes.builders.get(OWN_ENGINE, ())), trouble),
        *here.registries(images.values(), environment),
        *here.certificates(environment, targets),
    ]


def _limited(environment: Environment, hosts: Sequence[str], limit: str) -> tuple[str, ...]:
    from longshore.errors import InventoryError
    from longshore.inventory import patterns

    if not limit:
        return tuple(hosts)
    matched = patterns.match(limit, hosts=environment.hosts, groups=environment.groups, where="--limit")
    if not set(matched) & set(hosts):
        raise InventoryError(
            f"{limit!r} matches no host that an app runs or is built on.",
            where="--limit",
            hint=f"Those are {', '.join(hosts) or 'none'}.",
        )
    return tuple(host for host in hosts if host in matched)


def _hosts(fleet: Fleet, wishes: Wishes, names: Sequence[str]) -> dict[str, list[Finding]]:
    """Every host at once; then what its findings are, which for builders depends on the others, too."""
    from longshore.doctor import Finding
    from longshore.doctor.ask import examine
    from longshore.doctor.judge import judge
    from longshore.doctor.want import only_emulated
    from longshore.remote.fleet import each

    wanted: dict[str, Wanted] = {host: wishes.of(host) for host in names}
    hosts = fleet.environment.hosts

    def one(name: str) -> Any:
        fleet.output.step(name, "looking")
        return examine(fleet.links.link(name), wanted[name], python=hosts[name].ssh.python)

    outcomes = each(wanted, one, parallel=fleet.environment.parallel)
    fleet.output.close()
    seen = {name: outcome.get() for name, outcome in outcomes.items() if outcome.error is None}
    native = {
        name: f"linux/{engine['architecture']}"
        for name, one_seen in seen.items()
        if (engine := one_seen.of("engine"))
    }
    wanted = only_emulated(wanted, native)
    found: dict[str, list[Finding]] = {}
    for name, outcome in outcomes.items():
        if outcome.error is not None:
            found[name] = [Finding("error", "unreached", outcome.error.message, outcome.error.hint)]
        else:
            found[name] = list(judge(wanted[name], outcome.get()))
    return found


def _sentence(error: Any) -> str:
    return f"{error.where}: {error.message}" if error.where else str(error.message)


def _show(output: Output, name: str, findings: Sequence[Finding], *, quiet: bool) -> None:
    rows: list[tuple[str, str]] = []
    for one in findings:
        if quiet and one.level == "good":
            continue
        rows.append((one.level, one.text))
        if one.hint and one.level != "good":
            rows.append(("", f"→ {one.hint}"))
    if rows:
        output.say(name)
    for level, text in rows:
        output.say(f"  {level:<7}  {text}")


def _sum(counts: Mapping[str, int]) -> str:
    parts = [f"{counts['good']} good"]
    parts += [
        f"{counts[name]} {name}{'s' if counts[name] > 1 else ''}"
        for name in ("warning", "error")
        if counts[name]
    ]
    return ", ".join(parts)
