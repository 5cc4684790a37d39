"""``invoke inventory``, ``explain`` and ``schema``: what the inventory says, who says it, what it can say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from longshore.tasks.command import task

if TYPE_CHECKING:
    from longshore.inventory import Environment, Variable


@task(iterable=["set"])
def inventory(
    context: Any,
    env: str = "",
    limit: str = "",
    app: str = "",
    set: list[str] | None = None,
    json: bool = False,
) -> None:
    """Show the groups, hosts and apps of an environment, checked."""
    from pathlib import Path

    from longshore.inventory import find_root, load, patterns

    environment = load(find_root(Path.cwd()), env, overrides=set or ())
    chosen = patterns.match(
        limit or "all", hosts=environment.hosts, groups=environment.groups, where="--limit"
    )
    apps = _chosen_apps(environment, app)
    if json:
        _print_json(_inventory_data(environment, chosen, apps))
        return
    _print_tree(environment, chosen, apps)


@task(
    positional=["name"],
    iterable=["set"],
    help={
        "name": "a variable, a setting (longshore.apps.shop.keep), or env.KEY",
        "reveal": "show secrets, too",
    },
)
def explain(
    context: Any,
    name: str,
    env: str = "",
    host: str = "",
    app: str = "",
    set: list[str] | None = None,
    reveal: bool = False,
    json: bool = False,
) -> None:
    """Show a variable's value on a host, where it is said, and what it overrode."""
    from pathlib import Path

    from longshore.console import Masks
    from longshore.errors import InventoryError
    from longshore.inventory import explain as explain_variable
    from longshore.inventory import find_root, load, masked_values
    from longshore.secrets.keyring import Keyring

    keyring = Keyring() if name.startswith("env.") else None
    environment = load(find_root(Path.cwd()), env, overrides=set or (), keyring=keyring)
    if not host:
        if len(environment.hosts) != 1:
            raise InventoryError(
                "Whose value?", hint=f"Add --host: {', '.join(list(environment.hosts)[:12])}."
            )
        host = next(iter(environment.hosts))
    variable = explain_variable(environment, name, host=host, app=app or None, reveal=reveal)
    _check_service(environment, name, host)
    masks = Masks() if reveal else Masks(masked_values(environment))
    if json:
        _print_json(masks.value(_variable_data(variable, host)))
        return
    for line in _variable_lines(variable):
        print(masks.text(line))


def _check_service(environment: Environment, name: str, host: str) -> None:
    """Raises ``LongshoreError`` for a setting of a service that the app's compose files don't have."""
    from longshore.errors import LongshoreError
    from longshore.inventory.nearest import did_you_mean
    from longshore.render import Renderer

    for app in environment.apps:
        service = name.removeprefix(f"longshore.apps.{app}.services.")
        target = environment.targets.get((app, host))
        if service == name or target is None:
            continue
        try:
            known = Renderer().services(target)
        except LongshoreError:
            return  # what is wrong with the files is for `render` to say
        if not any(f"{service}.".startswith(f"{one}.") for one in known):
            service = service.partition(".")[0]
            raise LongshoreError(
                f"{app} has no service {service!r}.", hint=did_you_mean(service, known, list_all="It has")
            )


@task(
    help={
        "vars": "the schema of files in group_vars/ and host_vars/ instead",
        "docs": "the reference tables of docs/inventory.md instead",
    }
)
def schema(context: Any, vars: bool = False, docs: bool = False) -> None:
    """Print the JSON Schema of an inventory, for editors."""
    from longshore.inventory.reference import json_schema, markdown

    if docs:
        print(markdown())
        return
    _print_json(json_schema(variables_file=vars))


def _chosen_apps(environment: Environment, app: str) -> dict[str, tuple[str, ...]]:
    from longshore.inventory import select

    return dict(select(environment, None, app)) if app else dict(environment.apps)


def _print_json(data: Any) -> None:
    import json

    print(json.dumps(data, indent=2, ensure_ascii=False, default=str))


def _inventory_data(
    environment: Environment, chosen: tuple[str, ...], apps: dict[str, tuple[str, ...]]
) -> dict[str, Any]:
    return {
        "environment": environment.name,
        "hosts": {
            name: {
                "address": environment.hosts[name].ssh.address,
                "user": environment.hosts[name].ssh.user,
                "port": environment.hosts[name].ssh.port,
                "connection": environment.hosts[name].ssh.connection,
                "groups": list(environment.hosts[name].groups),
                "apps": [app for app, hosts in apps.items() if name in hosts],
            }
            for name in chosen
        },
        "groups": {
            name: {"hosts": list(group.hosts), "children": list(group.children)}
            for name, group in environment.groups.items()
        },
        "apps": {app: [host for host in hosts if host in chosen] for app, hosts in apps.items()},
        "files": list(environment.files),
        "warnings": list(environment.warnings),
    }


def _print_tree(environment: Environment, chosen: tuple[str, ...], apps: dict[str, tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.text import Text
    from rich.tree import Tree

    tree = Tree(Text(environment.name, style="bold"))
    groups = tree.add(Text("groups", style="dim"))
    children = [*environment.groups["all"].children] if "all" in environment.groups else []
    for name in children:
        _add_group(groups, environment, name, chosen)
    placed = tree.add(Text("apps", style="dim"))
    for app, hosts in apps.items():
        branch = placed.add(Text(app, style="bold"))
        for host in hosts:
            if host in chosen:
                branch.add(Text(f"{host}{_services(environment, app, host)}"))
    console = Console(highlight=False)
    # Not straight out: Rich would end the process with code 1 where the reader has seen enough (`| head`).
    with console.capture() as shown:
        console.print(tree)
    print(shown.get(), end="")
    errors = Console(stderr=True, highlight=False)
    for warning in environment.warnings:
        errors.print(Text(f"Warning: {warning}", style="yellow"))


def _add_group(parent: Any, environment: Environment, name: str, chosen: tuple[str, ...]) -> None:
    from rich.text import Text

    group = environment.groups[name]
    branch = parent.add(Text(name, style="cyan"))
    below = {host for child in group.children for host in environment.groups[child].hosts}
    for child in group.children:
        _add_group(branch, environment, child, chosen)
    for host in group.hosts:
        if host in chosen and host not in below:
            branch.add(Text(_host_line(environment, host)))


def _host_line(environment: Environment, name: str) -> str:
    ssh = environment.hosts[name].ssh
    if ssh.connection == "local":
        return f"{name} (this machine)"
    address = ssh.address if ssh.address != name else ""
    user = f"{ssh.user}@" if ssh.user else ""
    port = f":{ssh.port}" if ssh.port else ""
    return f"{name} {user}{address or name}{port}" if user or address or port else name


def _services(environment: Environment, app: str, host: str) -> str:
    """Which of the services that have hosts of their own run here."""
    target = environment.targets.get((app, host))
    here = [service for service, hosts in (target.placed if target else {}).items() if host in hosts]
    return f" ({', '.join(here)})" if here else ""


def _variable_data(variable: Variable, host: str) -> dict[str, Any]:
    def said(value: Any, source: Any) -> dict[str, Any]:
        return {
            "value": value,
            "level": source.level,
            "name": source.name,
            "file": source.where.file,
            "line": source.where.line,
        }

    return {
        "variable": variable.name,
        "host": host,
        **said(variable.value, variable.source),
        "overrode": [said(value, source) for value, source in variable.overrode],
    }


def _variable_lines(variable: Variable) -> list[str]:
    def line(value: Any, source: Any) -> str:
        import json

        shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        level = source.level if source.level in ("all", "command line") else f"{source.level} {source.name}"
        return (
            f"{shown}   {source.where.file}{f':{source.where.line}' if source.where.line else ''} ({level})"
        )

    lines = [f"{variable.name} = {line(variable.value, variable.source)}"]
    return [*lines, *(f"  overrode {line(value, source)}" for value, source in variable.overrode)]
