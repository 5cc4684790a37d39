"""An env file against its example: what the example has and nobody sets, and what it doesn't know."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from longshore.envcheck.finding import Finding
from longshore.envcheck.text import EnvText, read_env_text
from longshore.envcheck.values import is_placeholder, is_secret_key
from longshore.errors import Where
from longshore.inventory.model import Environment
from longshore.inventory.nearest import did_you_mean

_EXAMPLES = (".env.example", ".env.sample", ".env.template", ".env.dist", "env.example")


def example_of(path: Path) -> Path | None:
    """The example that belongs to an env file: of its own name, or the folder's."""
    own = [path.with_name(f"{path.name}{end}") for end in (".example", ".sample", ".template", ".dist")]
    folder = [path.with_name(name) for name in _EXAMPLES] if path.name.startswith(".env") else []
    return next((one for one in (*own, *folder) if one.is_file() and one != path), None)


def against_examples(
    root: Path,
    name: str,
    texts: Mapping[Path, EnvText],
    environment: Environment | None,
    apps: Sequence[str],
    given: Path | None,
    known: list[Finding],
    notes: list[str],
) -> Iterator[Finding]:
    """Each env file against its own example, each app's variables against that of its compose file."""
    for path, text in texts.items():
        found = example_of(path) if given is None else None
        if found is not None and text.readable:
            places = {one.key: one.where for one in text.said()}
            values = {entry.key: entry.value for entry in text.entries}
            asked = against(found, values, places, text.name, known, notes, root)
            yield from without_unset(asked, known)
    for app in apps if environment is not None else ():
        target = environment.targets[app, environment.apps[app][0]] if environment else None
        if target is None or not target.app.compose:
            continue
        folder = target.app.compose[0].parent
        found = given or next((folder / one for one in _EXAMPLES if (folder / one).is_file()), None)
        if found is None:
            continue
        values = {key: entry.value for key, entry in target.env.items()}
        asked = against(found, values, {}, f"{app} in {name}", known, notes, root)
        # What the example of an app doesn't know, another app may; its compose file has the last word.
        yield from (one for one in without_unset(asked, known) if one.code != "unknown")


def against(
    path: Path,
    values: Mapping[str, str],
    places: Mapping[str, Where],
    name: str,
    known: Sequence[Finding],
    notes: list[str],
    root: Path | None = None,
) -> list[Finding]:
    """What the example at ``path`` has and ``values`` don't, and the other way round."""
    shown = str(path.relative_to(root)) if root is not None and path.is_relative_to(root) else str(path)
    if root is None and path.is_relative_to(Path.cwd()):
        shown = str(path.relative_to(Path.cwd()))
    example = read_env_text(path, shown)
    wrong = next((one for one in example.findings if one.code in ("file", "syntax")), None)
    if wrong is not None:
        notes.append(f"The example can't be read: {wrong}")
        return []
    wanted = {entry.key: entry for entry in example.entries}
    found: list[Finding] = []
    for key, entry in wanted.items():
        if key in values:
            continue
        must = is_placeholder(entry.value) or (is_secret_key(key) and not entry.value)
        found.append(
            Finding(
                "error" if must else "warning",
                "missing",
                f"{key} is not set in {name}; the example has it"
                + (", with a value to be filled in." if must else "."),
                Where(shown, entry.line, entry.column),
                did_you_mean(key, set(values) - set(wanted)),
                key,
            )
        )
    for key, where in places.items():
        if key not in wanted:
            hint = did_you_mean(key, set(wanted) - set(values)) or "Add it to the example."
            found.append(Finding("warning", "unknown", f"{key} is not in {shown}.", where, hint, key))
    return found


def without_unset(found: Iterable[Finding], known: Iterable[Finding]) -> Iterator[Finding]:
    """What the compose file misses was said already."""
    unset = {one.key for one in known if one.code == "unset" and one.key}
    return (one for one in found if one.code != "missing" or one.key not in unset)
