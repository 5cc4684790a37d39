"""From an environment with references to one with values: only what the chosen hosts need is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from longshore.console import Masks
from longshore.errors import Where
from longshore.inventory.hidden import masked_values
from longshore.inventory.model import Environment, EnvValue, Target
from longshore.secrets import Asked, Reference, resolve


def wanted(
    environment: Environment, chosen: Mapping[str, Iterable[str]], *, key: str = ""
) -> tuple[Asked, ...]:
    """Every reference in the env of the chosen apps and hosts, and for the registries, with its place.

    ``key``: only that variable of the env.
    """
    asked: dict[tuple[Reference, str, str], Asked] = {}
    for app, hosts in chosen.items():
        for host in hosts:
            for variable, value in environment.targets[app, host].env.items():
                if value.known or (key and variable != key):
                    continue
                for part in value.parts:
                    if isinstance(part, Reference):
                        asked.setdefault(
                            (part, variable, app), Asked(part, variable, app, value.source.where)
                        )
    for name, registry in environment.registries.items():
        reference = registry.password_from
        if reference is not None and registry.password is None and not key:
            what = f"The password of the registry {name}"
            asked.setdefault((reference, what, ""), Asked(reference, what, "", registry.where or Where(name)))
    return tuple(asked.values())


def resolve_secrets(
    environment: Environment, chosen: Mapping[str, Iterable[str]], *, key: str = ""
) -> Environment:
    """The environment with the values of everything that the chosen apps and hosts refer to.

    ``key``: only that variable of their env, and nothing else.

    Runs the stores' own tools, each reference once. Raises ``InventoryError`` or ``Problems`` that name every
    value that can't be had. Other targets stay as they are.
    """
    chosen = {app: tuple(hosts) for app, hosts in chosen.items()}
    asked = wanted(environment, chosen, key=key)
    if not asked:
        return environment
    values = resolve(asked, root=environment.root, masks=Masks(masked_values(environment)))
    # Hosts that hear the same share their env, and go on to.
    done: dict[int, Mapping[str, EnvValue]] = {}

    def filled(target: Target) -> Target:
        if id(target.env) not in done:
            done[id(target.env)] = {name: _filled(value, values) for name, value in target.env.items()}
        return replace(target, env=done[id(target.env)])

    keys = {(app, host) for app, hosts in chosen.items() for host in hosts}
    return replace(
        environment,
        targets={key: filled(one) if key in keys else one for key, one in environment.targets.items()},
        registries={
            name: replace(one, password=values[one.password_from])
            if one.password is None and one.password_from in values
            else one
            for name, one in environment.registries.items()
        },
    )


def _filled(value: EnvValue, values: Mapping[Reference, str]) -> EnvValue:
    if value.known or any(isinstance(part, Reference) and part not in values for part in value.parts):
        return value
    text = "".join(values[part] if isinstance(part, Reference) else part for part in value.parts)
    return replace(value, value=text, known=True)
