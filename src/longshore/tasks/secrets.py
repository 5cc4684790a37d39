"""``secrets.*``: env files that are encrypted at rest, who can open them, and what is in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from longshore.tasks.command import task

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from longshore.inventory.model import Environment, EnvValue
    from longshore.secrets.vault import Vault

_IDENTITY = "the private key to open with: an age or OpenSSH key file"
_APP = "the file of this application only, env/E/APP.env.age"


def _vault(identity: str) -> Vault:
    from pathlib import Path

    from longshore.inventory import find_root
    from longshore.secrets.keyring import Keyring
    from longshore.secrets.vault import Vault

    return Vault(find_root(Path.cwd()), Keyring(identity))


def _known(vault: Vault, env: str, app: str = "") -> None:
    """Raises ``InventoryError`` for an environment that there isn't, and an app that it doesn't have."""
    from longshore.inventory import load, select
    from longshore.inventory.files import inventory_files

    inventory_files(vault.root, env)
    if app:
        select(load(vault.root, env), None, app)


@task(help={"identity": _IDENTITY, "app": _APP})
def edit(context: Any, env: str = "", app: str = "", identity: str = "") -> None:
    """Open an encrypted env file in your editor, and encrypt what you leave there."""
    from functools import partial

    from longshore.secrets.editing import edit as in_editor

    vault = _vault(identity)
    _known(vault, env, app)

    def change(text: str, name: str) -> str:
        return in_editor(text, name, partial(vault.checked, name=name))

    print(vault.edit(env, app, change))


@task(
    help={
        "app": "only this application (default: all of the environment)",
        "key": "only this variable",
        "reveal": "show the values; references are asked for at their stores",
        "identity": _IDENTITY,
    }
)
def show(
    context: Any,
    env: str = "",
    app: str = "",
    key: str = "",
    reveal: bool = False,
    identity: str = "",
    json: bool = False,
) -> None:
    """Show which secrets the apps get and where each is kept; values are masked unless --reveal."""
    from longshore.console import make_output
    from longshore.errors import LongshoreError
    from longshore.inventory import load, resolve_secrets, select

    vault = _vault(identity)
    environment = load(vault.root, env, keyring=vault.keyring)
    chosen = dict(select(environment, None, app or None))
    found = _secrets(environment, chosen, key)
    if not found:
        what = f"no variable {key!r}" if key else "no secret"
        raise LongshoreError(f"There is {what} in the env of {', '.join(chosen)}.")
    if reveal:
        environment = resolve_secrets(environment, chosen, key=key)
        found = _secrets(environment, chosen, key)
    rows = [
        {
            "app": name,
            "host": "" if everywhere else host,
            "key": variable,
            "value": value.value if reveal else "***",
            "kept": _kept(value),
            "where": str(value.source.where),
        }
        for name, host, variable, value, everywhere in found
    ]
    if key and reveal and not json and len({row["value"] for row in rows}) == 1:
        print(rows[0]["value"])
        return
    output = make_output(as_json=json)
    columns = ["app", "host", "key", "value", "kept", "where"]
    if not any(row["host"] for row in rows):
        columns.remove("host")
    output.table(columns, [[_one_line(row[column]) for column in columns] for row in rows])
    output.result(rows)
    output.close()


def _secrets(
    environment: Environment, chosen: dict[str, tuple[str, ...]], key: str
) -> list[tuple[str, str, str, EnvValue, bool]]:
    """App, host, variable, value, and whether all its hosts have the same; each different one once."""
    found = []
    for app, hosts in chosen.items():
        envs = {host: environment.targets[app, host].env for host in hosts}
        for name in dict.fromkeys(name for env in envs.values() for name in env):
            values = {host: env[name] for host, env in envs.items() if name in env}
            if (key and name != key) or not any(value.secret for value in values.values()):
                continue
            same = len({(value.value, value.source) for value in values.values()}) == 1
            for host, value in list(values.items())[: 1 if same else None]:
                found.append((app, host, name, value, same))
    return found


def _kept(value: EnvValue) -> str:
    stores = [str(part) for part in value.parts if not isinstance(part, str)]
    if stores:
        return ", ".join(stores)
    return "encrypted" if value.sealed else "in clear"


def _one_line(text: str) -> str:
    return text.replace("\n", "\\n")


@task(help={"app": _APP, "keep": "leave the file in clear where it is"})
def encrypt(context: Any, env: str = "", app: str = "", keep: bool = False) -> None:
    """Encrypt env/E.env to env/E.env.age, and remove the file in clear."""
    vault = _vault("")
    _known(vault, env, app)
    print(vault.encrypt(env, app, keep=keep))


@task(
    iterable=["key"],
    help={
        "app": _APP,
        "key": "give this variable a new random value; can be given again",
        "length": "characters of a new value (default: 32; letters, digits, - and _)",
        "identity": _IDENTITY,
    },
)
def rotate(
    context: Any,
    env: str = "",
    app: str = "",
    key: list[str] | None = None,
    length: str = "",
    identity: str = "",
) -> None:
    """Encrypt anew, to the recipients as they are now; with --key, give variables new values."""
    from longshore.errors import LongshoreError
    from longshore.secrets.files import age_file, age_files
    from longshore.tasks.words import whole

    if length and not key:
        raise LongshoreError("--length goes with --key: without it no value is changed.", where="--length")
    vault = _vault(identity)
    _known(vault, env, app)
    to = vault.recipients(env)
    if key:
        path = age_file(vault.root, env, app)
        vault.new_values(path, key, whole(length or "32", "--length", least=8), to)
        print(f"{vault.name(path)}: {', '.join(dict.fromkeys(key))} changed.")
        print("`invoke deploy` brings it to the hosts; what checks it (a database) has to be told, too.")
        return
    paths = [age_file(vault.root, env, app)] if app else list(age_files(vault.root, env))
    if not paths:
        raise LongshoreError(f"{env} has no encrypted env file.", hint="`invoke secrets.edit` makes one.")
    vault.again(paths, to)
    _told_again(vault, paths, len(to), print)


@task(
    help={
        "env": "the environment; without it: the list that all environments share",
        "add": "let this public key open the files: age1…, ssh-ed25519 …, or the path of a .pub file",
        "remove": "no longer this one: its key, its start, or its comment",
        "own": "with --add: begin a list of this environment's own, env/E.recipients.txt",
        "identity": _IDENTITY,
    }
)
def recipients(
    context: Any,
    env: str = "",
    add: str = "",
    remove: str = "",
    own: bool = False,
    identity: str = "",
    json: bool = False,
) -> None:
    """List who can open the encrypted env files; add and remove one, and encrypt them anew."""
    from longshore.errors import LongshoreError
    from longshore.secrets import recipients as people

    vault = _vault(identity)
    if env:
        _known(vault, env)
    if own and not (env and add):
        raise LongshoreError("--own needs --env and --add.")
    path = people.recipients_file(vault.root, env)
    if own and not path.name.startswith(f"{env}."):
        path = path.with_name(f"{env}.recipients.txt")
    if add or remove:
        say: Callable[[str], None] = (lambda text: None) if json else print
        _change(vault, path, env if path.name != "recipients.txt" else "", add, remove, say)
    to = people.read_recipients(path, vault.name(path))
    if json:
        from longshore.console import make_output

        output = make_output(as_json=True)
        output.result([{"key": one.key, "comment": one.comment, "line": one.line} for one in to])
        return
    if not (add or remove):
        print(f"{vault.name(path)}:")
        for one in to:
            print(f"  {one}")
        for file in vault.files(env):
            if why := vault.outdated(file, to):
                told = f"--env {vault.environment_of(file)}"
                print(f"{vault.name(file)} {why}: `invoke secrets.rotate {told}` mends that.")


def _change(vault: Vault, path: Path, env: str, add: str, remove: str, say: Callable[[str], None]) -> None:
    from longshore.errors import LongshoreError
    from longshore.secrets import recipients as people
    from longshore.secrets.files import age_files

    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    now = people.read_recipients(path, vault.name(path)) if before else ()
    text, after = before, list(now)
    added = people.given(add) if add else None
    if added is not None and added.key not in {one.key for one in now}:
        text = people.with_added(text, added)
        after.append(added)
    elif added is not None and not remove:
        say(f"{added} can open them already.")
        return
    gone = people.find(now, remove) if remove else None
    if gone is not None:
        text = people.without(text, gone)
        after = [one for one in after if one.key != gone.key]
        if not after:
            raise LongshoreError("That would leave nobody who can open the files.", hint="Add another first.")
    paths = age_files(vault.root, env) if env else vault.files()
    # Opened before anything is written: who can't open them can't change who can.
    vault.again(paths, after)
    people.write_recipients(path, text)
    if added is not None:
        say(f"{added} can open them now.")
    _told_again(vault, paths, len(after), say)
    if gone is not None:
        say(
            f"{gone} can't open what is encrypted from now on, but knows the values that are in use, and "
            "can open the files in git's history: change the values (`invoke secrets.rotate --key …`)."
        )


def _told_again(vault: Vault, paths: Sequence[Path], count: int, say: Callable[[str], None]) -> None:
    keys = f"{count} {'key' if count == 1 else 'keys'}"
    for path in paths:
        say(f"{vault.name(path)} is encrypted anew, for {keys}.")


@task(help={"out": "where the private key goes (default: ~/.config/longshore/age.txt)"})
def keygen(context: Any, out: str = "") -> None:
    """Make an age key of your own, and print its public half: that is what --add takes."""
    import os
    from datetime import datetime, timezone
    from pathlib import Path

    import pyrage

    from longshore.errors import LongshoreError
    from longshore.secrets.keyring import default_identity

    try:
        path = Path(out).expanduser() if out else default_identity()
    except RuntimeError:
        raise LongshoreError("There is no such user here.", where=f"--out {out}") from None
    key = pyrage.x25519.Identity.generate()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise LongshoreError("There is a key already; it is left as it is.", where=str(path)) from None
    with os.fdopen(handle, "w") as file:
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        file.write(f"# created: {now}\n# public key: {key.to_public()}\n{key}\n")
    print(f"{key.to_public()}")
    print(f"The private key is in {path}. Whoever loses it needs another recipient to open the files.")
