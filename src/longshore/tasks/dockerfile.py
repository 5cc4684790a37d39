"""``invoke dockerfile``: renders a service's Dockerfile, or looks over those that are there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from longshore.tasks.command import done, task

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from longshore.console import Output
    from longshore.dockerfile.finding import Finding
    from longshore.dockerfile.lint import Source
    from longshore.dockerfile.places import Place


@task(
    optional=["check"],
    iterable=["set"],
    help={
        "out": "write to this file or folder instead of the build's context; - prints it",
        "check": "look over Dockerfiles instead: one, or a folder's; more after --; default: the services'",
        "strict": "with --check: warnings are errors",
    },
)
def dockerfile(
    context: Any,
    env: str = "",
    app: str = "",
    service: str = "",
    limit: str = "",
    out: str = "",
    check: str = "",
    strict: bool = False,
    set: list[str] | None = None,
    json: bool = False,
) -> None:
    """Render a service's Dockerfile and .dockerignore; --check says what in one costs cache or safety."""
    from longshore.console import make_output
    from longshore.errors import LongshoreError

    if strict and not check:
        raise LongshoreError("--strict is for --check")
    output = make_output(as_json=json)
    try:
        if json and out == "-":
            raise LongshoreError("--out - prints the file itself, and --json what was done with one")
        if check:
            if out:
                raise LongshoreError("--check writes nothing: --out is for rendering")
            sources, texts = _to_check(_path(check), env, app, limit, service, set or ())
            code = _check(output, sources, texts, strict=strict)
        else:
            _render(output, env, app, limit, service, out, set or ())
            code = 0
    finally:
        output.close()
    done(code)


def _places(env: str, app: str, limit: str, service: str, overrides: Sequence[str]) -> tuple[Place, ...]:
    """The services of an environment, or the one that was named."""
    from pathlib import Path

    from longshore.dockerfile.places import places
    from longshore.errors import LongshoreError
    from longshore.inventory import find_root, load, select

    environment = load(find_root(Path.cwd()), env, overrides=overrides)
    chosen = dict(select(environment, limit or None, app or None))
    found = places(environment, chosen)
    if not service:
        return found
    named = tuple(one for one in found if one.service == service)
    if not named:
        known = ", ".join(dict.fromkeys(one.service for one in found))
        apps = " or ".join(chosen)
        raise LongshoreError(f"there is no service {service!r} in {apps}", hint=f"There are: {known}.")
    if len(named) > 1:
        apps = ", ".join(one.app for one in named)
        raise LongshoreError(
            f"several apps have a service {service!r}: {apps}", hint="Say which, with --app."
        )
    return named


# --check


def _path(check: str | bool) -> str:
    """The value of --check: Invoke gives ``True`` where it was given none."""
    return check if isinstance(check, str) else ""


def _to_check(
    path: str, env: str, app: str, limit: str, service: str, overrides: Sequence[str]
) -> tuple[list[Source], list[tuple[str, str, Source]]]:
    """The files to look at, and the texts that are in compose files: name, text, and whose they are."""
    from pathlib import Path

    from longshore.dockerfile.places import given, walk
    from longshore.errors import InventoryError, LongshoreError
    from longshore.inventory import environments, find_root
    from longshore.tasks.words import after_dashes

    here = Path.cwd()
    named = [one for one in (path, *after_dashes()) if one]
    if named:
        if env or app or limit or service:
            raise LongshoreError(
                "--check takes either paths, or the services of --env", hint="Leave one of them out."
            )
        return [source for one in named for source in given(one, here)], []
    try:
        root = find_root(here)
    except InventoryError:
        if env or service:
            raise
        sources = walk(here, here)
        if not sources:
            raise LongshoreError("There is no Dockerfile in this folder or below it") from None
        return list(sources), []
    names = [env] if env else list(environments(root))
    found: list[Place] = []
    errors: list[LongshoreError] = []
    for name in names:
        try:
            found += _places(name, app, limit, service, overrides)
        except LongshoreError as error:
            # An environment whose secrets aren't here can't be read; its services are mostly others', too.
            errors.append(error)
    if errors and len(errors) == len(names):
        raise errors[0]
    return _sources(found, root)


def _sources(found: Sequence[Place], root: Path) -> tuple[list[Source], list[tuple[str, str, Source]]]:
    from longshore.errors import LongshoreError

    sources: dict[Source, None] = {}
    texts: dict[tuple[str, str, Source], None] = {}
    for place in found:
        source = place.source(root)
        if not place.built or source is None:
            continue
        if place.inline:
            texts[(f"{place.app}.{place.service} (dockerfile_inline)", place.inline, source)] = None
        elif source.path.is_file():
            sources[source] = None
        else:
            raise LongshoreError(
                f"{place.service} is built from a Dockerfile that isn't there",
                where=source.name,
                hint=f"`invoke dockerfile --service {place.service}` renders one.",
            )
    if not sources and not texts:
        raise LongshoreError(
            "no service here is built from a Dockerfile", hint="Name one: `invoke dockerfile --check PATH`."
        )
    return list(sources), list(texts)


def _check(
    output: Output, sources: Sequence[Source], texts: Sequence[tuple[str, str, Source]], *, strict: bool
) -> int:
    from longshore.dockerfile import lint, lint_file

    found: dict[Finding, None] = {}
    for source in sources:
        found |= dict.fromkeys(lint_file(source))
    for name, text, source in texts:
        found |= dict.fromkeys(lint(text, name, source.context, contexts=source.contexts))
    for one in found:
        output.say(f"{one.file}:{one.line}: {one.severity}: {one.message} [{one.rule}]")
        if one.hint:
            output.say(f"    {one.hint}")
    errors = sum(one.severity == "error" for one in found)
    files = len({source.name for source in sources}) + len(texts)
    output.say(
        f"{_count(files, 'Dockerfile')}: {_count(errors, 'error')}, {_count(len(found) - errors, 'warning')}."
    )
    output.result(
        {
            "files": [*dict.fromkeys(source.name for source in sources), *(name for name, _, _ in texts)],
            "findings": [
                {
                    "file": one.file,
                    "line": one.line,
                    "rule": one.rule,
                    "level": one.severity,
                    "message": one.message,
                    "hint": one.hint,
                }
                for one in found
            ],
            "errors": errors,
            "warnings": len(found) - errors,
        }
    )
    return 1 if errors or (strict and found) else 0


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


# rendering


def _render(
    output: Output, env: str, app: str, limit: str, service: str, out: str, overrides: Sequence[str]
) -> None:
    from pathlib import Path

    from longshore.dockerfile.places import name_of
    from longshore.dockerfile.render import destination, render, write
    from longshore.errors import LongshoreError
    from longshore.inventory import find_root, load
    from longshore.inventory.dockerfiles import DockerfilePolicy

    root = find_root(Path.cwd())
    name = load(root, env, overrides=overrides).name
    found = _places(env, app, limit, service, overrides)
    if not service:
        found = tuple(place for place in found if place.policy is not None)
        if not found:
            raise LongshoreError(
                "no service has dockerfile settings",
                hint="Name one with --service, or say services.X.dockerfile in the inventory.",
            )
    if out and len(found) > 1:
        services = ", ".join(place.service for place in found)
        raise LongshoreError(f"--out is for one service, and these are {services}", hint="Add --service.")
    made = []
    for place in found:
        policy = place.policy or DockerfilePolicy()
        texts = render(policy, service=place.service, environment=name, root=root, where=place.where)
        if out == "-":
            print(texts.dockerfile, end="")
            continue
        paths = destination(place, policy, environment=name, out=out)
        for path, outcome in write(texts, paths, keep=not out):
            shown = name_of(path, root)
            made.append({"app": place.app, "service": place.service, "path": shown, "outcome": outcome})
            output.say(_SAID[outcome].format(service=place.service, path=shown))
    output.result(made)


_SAID = {
    "written": "{service}: {path} is written.",
    "same": "{service}: {path} is as the inventory says.",
    "kept": "{service} keeps its own {path}: nothing is written.",
}
