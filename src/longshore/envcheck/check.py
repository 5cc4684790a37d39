"""The story of ``env --check``: files, who uses their variables, the example, secrets, who can read them."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from pathlib import Path

from longshore import dotenv
from longshore.envcheck.example import against, against_examples, example_of, without_unset
from longshore.envcheck.finding import Finding, order
from longshore.envcheck.said import Said
from longshore.envcheck.text import read_env_text
from longshore.envcheck.usage import Usage, as_error, usage_beside, usage_of_target
from longshore.envcheck.values import holds_secrets, is_secret_key, judge, reused
from longshore.errors import LongshoreError, Problems, Where
from longshore.inventory import environments
from longshore.inventory.envnames import misplaced
from longshore.inventory.model import Environment, Target
from longshore.inventory.nearest import did_you_mean
from longshore.records import dataclass
from longshore.secrets.files import in_git


@dataclass(frozen=True)
class Checked:
    """What was looked at, and all there is to say about it, in the order of the files."""

    files: tuple[str, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()
    """What could not be looked at, and why."""
    secrets: frozenset[str] = field(default=frozenset(), repr=False)
    """Values that nothing may show."""


def check_file(path: Path, name: str, *, example: Path | None = None) -> Checked:
    """Check one env file by itself, with the example and the compose files that lie beside it.

    ``name`` is what people see of it. Never raises for what is in the files.
    """
    text = read_env_text(path, name)
    findings = list(text.findings)
    notes: list[str] = []
    values = {entry.key: entry.value for entry in text.entries}
    said = text.said()
    findings += _secrets(said, findings)
    findings += _exposed(path, name, values)
    usage = usage_beside(path.parent, values) if text.readable else None
    if usage is not None:
        findings += _usage([usage], values, {one.key: one.where for one in said}, name)
    elif text.readable:
        notes.append(f"No compose file lies beside {name}: which keys are used was not looked at.")
    found = example or example_of(path)
    if found is not None and text.readable:
        asked = against(found, values, {one.key: one.where for one in said}, name, findings, notes)
        findings += without_unset(asked, findings)
    return _checked([name], findings, notes, said)


def check_environment(
    root: Path,
    name: str,
    environment: Environment | None,
    problem: LongshoreError | None = None,
    *,
    app: str = "",
    example: Path | None = None,
) -> Checked:
    """Check all env files of an environment, which is ``None`` where it can't be loaded (``problem``).

    Secrets are judged wherever they are said, in the inventory, too. References that a vendor's tool resolves
    are not resolved. Other environments are compared by their env files in clear.
    """
    apps = tuple(name for name in (environment.apps if environment else ()) if not app or name == app)
    findings: list[Finding] = []
    notes: list[str] = []
    errors, warnings = misplaced(root, name, environment.apps if environment else ())
    findings += [Finding("error", "misplaced", one.message, _where(one), one.hint) for one in errors]
    findings += [_warned(one) for one in warnings]
    texts = {path: read_env_text(path, shown) for path, shown in _files(root, name, app)}
    for path, text in texts.items():
        findings += text.findings
        findings += _exposed(path, text.name, {entry.key: entry.value for entry in text.entries})
    findings += _loading(problem, findings)
    if environment is None:
        said = [one for text in texts.values() for one in text.said()]
        notes.append("The environment can't be loaded: which keys are used was not looked at.")
    else:
        said = list(_said_by_targets(environment, apps))
        findings += _used_by_targets(environment, apps, findings)
    findings += _secrets(said, findings, _elsewhere(root, name))
    findings += against_examples(root, name, texts, environment, apps, example, findings, notes)
    return _checked([text.name for text in texts.values()], findings, notes, said)


def _checked(names: Sequence[str], findings: list[Finding], notes: list[str], said: list[Said]) -> Checked:
    once = {(one.code, one.key, one.where, one.message): one for one in findings}
    hidden = frozenset(
        one.value for one in said if is_secret_key(one.key) and len(one.value) >= 8 and judge(one) is None
    )
    return Checked(tuple(names), tuple(sorted(once.values(), key=order)), tuple(notes), hidden)


def _where(problem: LongshoreError) -> Where:
    return problem.where if isinstance(problem.where, Where) else Where(str(problem.where or ""))


def _warned(sentence: str) -> Finding:
    name, _, rest = sentence.partition(" ")
    return Finding("warning", "misplaced", f"This {rest}", Where(name))


def _files(root: Path, name: str, app: str) -> Iterator[tuple[Path, str]]:
    """The env files in clear that are there."""
    own = root / "env" / name
    paths = [root / "env" / f"{name}.env"]
    if own.is_dir():
        paths += [path for path in sorted(own.glob("*.env")) if not app or path.stem == app]
    for path in paths:
        if (path.exists() or path.is_symlink()) and not path.is_dir() and not path.name.startswith("."):
            if path.name.endswith(".sops.env"):
                continue
            yield path, str(path.relative_to(root))


def _loading(problem: LongshoreError | None, known: Sequence[Finding]) -> Iterator[Finding]:
    """Why the environment can't be loaded, but for what was said about its env files already."""
    places = {(one.where.file, one.where.line) for one in known if one.level == "error"}
    for one in (problem.problems if isinstance(problem, Problems) else (problem,)) if problem else ():
        where = _where(one)
        if (where.file, where.line) not in places:
            yield Finding("error", "inventory", one.message, where, one.hint)


# values


def _said_by_targets(environment: Environment, apps: Iterable[str]) -> Iterator[Said]:
    seen: set[tuple[str, str, Where]] = set()
    for app in apps:
        for host in environment.apps[app]:
            target = environment.targets[app, host]
            for key, entry in target.env.items():
                place = (key, entry.value, entry.source.where)
                if place not in seen and entry.known:
                    seen.add(place)
                    yield Said(key, entry.value, entry.source.where)


def _elsewhere(root: Path, name: str) -> Iterator[Said]:
    """The variables of the other environments' env files in clear; what can't be read says nothing here."""
    for other in environments(root):
        if other == name:
            continue
        for path, shown in _files(root, other, ""):
            try:
                parsed = dotenv.parse(path.read_bytes().decode("utf-8-sig"), shown)
            except (OSError, UnicodeDecodeError):
                continue
            for entry in parsed.entries:
                yield Said(entry.key, entry.value, Where(shown, entry.line, entry.column), other)


def _secrets(
    said: Sequence[Said], known: Sequence[Finding], elsewhere: Iterable[Said] = ()
) -> Iterator[Finding]:
    lost = {(one.where.file, one.where.line) for one in known if one.code == "lost"}
    for one in said:
        finding = judge(one)
        # What is left of a value says nothing about the value.
        if finding is not None and (one.where.file, one.where.line) not in lost:
            yield finding
    yield from reused(said, elsewhere)


def _exposed(path: Path, name: str, values: Mapping[str, str]) -> Iterator[Finding]:
    """Who else can read the secrets: this machine's users, and everybody who has the repository."""
    if not holds_secrets(values):
        return
    mode = path.stat().st_mode
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        message = f"It holds secrets, and every user of this machine can read it (mode {mode & 0o777:04o})."
        yield Finding("warning", "public", message, Where(name), f"`chmod 600 {name}`.")
    if in_git(path):
        yield Finding(
            "warning",
            "public",
            "It holds secrets and is in git: everybody who has the repository has them, for ever.",
            Where(name),
            f"`git rm --cached {name}`, ignore it, and change the secrets; or encrypt it.",
        )


# who uses what


def _used_by_targets(
    environment: Environment, apps: Sequence[str], known: Sequence[Finding]
) -> Iterator[Finding]:
    """By app, over its hosts; a variable of a file for all apps is used if one of them uses it."""
    by_app: dict[str, list[Usage]] = {}
    places: dict[Where, tuple[str, list[str]]] = {}
    for app in apps:
        seen: set[tuple[object, ...]] = set()
        usages = by_app[app] = []
        for host in environment.apps[app]:
            target = environment.targets[app, host]
            for key, entry in target.env.items():
                users = places.setdefault(entry.source.where, (key, []))[1]
                if app not in users:
                    users.append(app)
            same = (target.app.compose, *((key, entry.value) for key, entry in target.env.items()))
            if same not in seen:
                seen.add(same)
                usages.append(usage_of_target(target))
                yield from _missing(usages[-1], target, known)
    if set(apps) != set(environment.apps):
        places = {where: found for where, found in places.items() if "/" in where.file.removeprefix("env/")}
    for where, (key, users) in places.items():
        usages = [usage for app in users for usage in by_app[app]]
        yield from _unused(key, where, usages, set(_keys(environment, users)))


def _keys(environment: Environment, apps: Iterable[str]) -> Iterator[str]:
    """Every variable that these apps have on some host."""
    for app in apps:
        for host in environment.apps[app]:
            yield from environment.targets[app, host].env


def _missing(usage: Usage, target: Target, known: Sequence[Finding]) -> Iterator[Finding]:
    said = {(one.where, one.message) for one in known}
    for problem in usage.problems:
        error = as_error(problem)
        if (_where(error), error.message) not in said:
            code = "unset" if "is required and not set" in error.message else "inventory"
            yield Finding("error", code, error.message, _where(error), error.hint)
    for key, where in usage.unset:
        yield _unset(key, where, target.env)


def _unset(key: str, where: Where, env: Iterable[str]) -> Finding:
    near = did_you_mean(key, env)
    hint = near or f"Set it, or give it a default: ${{{key}:-…}}."
    return Finding(
        "error", "unset", f"The variable {key} has no default, and nobody sets it.", where, hint, key
    )


def _unused(key: str, where: Where, usages: Sequence[Usage], keys: set[str]) -> Iterator[Finding]:
    if not usages or any(usage.uses(key) for usage in usages):
        return
    asked = {name for usage in usages for name in usage.names} - keys
    message = f"{key} is used by no compose file, no env_file: .env and no template."
    hint = did_you_mean(key, asked) or "Remove it, or pass it on: environment: or env_file:."
    yield Finding("warning", "unused", message, where, hint, key)


def _usage(
    usages: Sequence[Usage], values: Mapping[str, str], places: Mapping[str, Where], name: str
) -> Iterator[Finding]:
    for usage in usages:
        for problem in usage.problems:
            error = as_error(problem)
            code = "unset" if "is required and not set" in error.message else "inventory"
            yield Finding("error", code, error.message, _where(error), error.hint)
        for key, where in usage.unset:
            yield _unset(key, where, values)
    for key in values:
        yield from _unused(key, places.get(key, Where(name)), usages, set(values))
