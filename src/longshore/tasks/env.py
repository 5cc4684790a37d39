"""``invoke env``: an environment's variables, what is wrong with its env files, two of them compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from invoke.parser.argument import Argument

from longshore.tasks.command import FleetTask, done, task

if TYPE_CHECKING:
    from pathlib import Path

    from longshore.console import Output
    from longshore.envcheck import Checked, Difference


class _Two(Argument):
    """An option that takes two words: ``--diff staging prod``."""

    def __init__(self, plain: Argument) -> None:
        super().__init__(names=plain.names, help=plain.help, default="")
        self._words: list[str] = []

    def __repr__(self) -> str:  # Invoke's complaint about a missing word shows it
        return "--diff LEFT RIGHT"

    def set_value(self, value: Any, cast: bool = True) -> None:
        self._words.append(str(value))
        # Invoke goes on to give it words as long as it has no raw value.
        if len(self._words) == 2:
            self.raw_value = self._words
            self._value = tuple(self._words)


class _EnvTask(FleetTask):
    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        found = super().get_arguments(ignore_unknown_help)
        return [_Two(one) if one.name == "diff" else one for one in found]


@task(
    klass=_EnvTask,
    iterable=["ignore"],
    help={
        "check": "look for what is wrong or doubtful; exit code 1 for what would break",
        "diff": "compare two environments key by key: --diff staging prod",
        "file": "with --check: this env file instead of an environment's",
        "example": "with --check: the example that says which keys there should be",
        "ignore": "with --check: leave these out, by their code in brackets; can be given again",
        "strict": "with --check: exit code 1 for warnings, too",
    },
)
def env(
    context: Any,
    env: str = "",
    app: str = "",
    check: bool = False,
    diff: str = "",
    file: str = "",
    example: str = "",
    ignore: list[str] | None = None,
    strict: bool = False,
    json: bool = False,
) -> None:
    """Show an environment's variables; --check env files, or --diff two environments."""
    from longshore.console import make_output
    from longshore.errors import LongshoreError

    only = {"--file": file, "--example": example, "--ignore": ignore, "--strict": strict}
    stray = [name for name, given in only.items() if given and not check]
    if stray:
        raise LongshoreError(f"{stray[0]} goes with --check")
    if check and diff:
        raise LongshoreError("--check and --diff are two commands", hint="Say one of them.")
    if diff and env:
        raise LongshoreError("--diff names both environments; --env is one too many", where="--env")
    if file and env:
        raise LongshoreError("--file is one file, --env all of an environment", hint="Say one of them.")
    if check and app and not env:
        raise LongshoreError("--app goes with --env: a file is no app's", where="--app")
    output = make_output(as_json=json)
    try:
        if check:
            ignored = _codes(ignore or [])
            found = _look(env, app=app, file=file, example=example)
            done(_tell(found, output, ignored=ignored, strict=strict))
        elif diff:
            done(_compare(diff[0], diff[1], app, output))
        else:
            _show(env, app, output)
    finally:
        output.close()


def _codes(ignore: list[str]) -> frozenset[str]:
    from longshore.envcheck import CODES
    from longshore.errors import LongshoreError
    from longshore.inventory.nearest import did_you_mean

    codes = [code.strip() for text in ignore for code in text.split(",")]
    for code in codes:
        if code not in CODES:
            hint = did_you_mean(code, CODES) or f"There are: {', '.join(CODES)}."
            raise LongshoreError(f"there is no finding of the kind {code!r}", where="--ignore", hint=hint)
    return frozenset(codes)


def _look(env: str, *, app: str, file: str, example: str) -> Checked:
    from pathlib import Path

    from longshore.envcheck import check_environment, check_file
    from longshore.errors import LongshoreError
    from longshore.inventory import find_root, load, select
    from longshore.secrets.keyring import Keyring

    given = Path(example).absolute() if example else None
    if given is not None and not given.is_file():
        raise LongshoreError("there is no such file", where=f"--example {example}")
    if not file and not env:
        file = _only_file()
    if file:
        return check_file(Path(file).absolute(), file, example=given)
    root = find_root(Path.cwd()).resolve()
    environment, problem = None, None
    try:
        environment = load(root, env, keyring=Keyring())
    except LongshoreError as error:
        if not _exists(root, env):
            raise
        problem = error
    if environment is not None and app:
        select(environment, None, app)  # refuses one that there isn't
    return check_environment(root, env, environment, problem, app=app, example=given)


def _only_file() -> str:
    """What there is to check where nothing was named: ``.env`` here."""
    from pathlib import Path

    from longshore.errors import LongshoreError

    if Path(".env").is_file():
        return ".env"
    raise LongshoreError("there is no .env here", hint="Say --env NAME or --file PATH.")


def _exists(root: Path, env: str) -> bool:
    from longshore.inventory import environments

    return env in environments(root)


def _tell(found: Checked, output: Output, *, ignored: frozenset[str], strict: bool) -> int:
    from longshore.console import Masks

    output.masks = Masks(found.secrets)
    findings = [one for one in found.findings if one.code not in ignored]
    errors = sum(one.level == "error" for one in findings)
    warnings = len(findings) - errors
    for one in findings:
        output.say(f"{one.level}: {one} [{one.code}]")
    for note in found.notes:
        output.say(f"note: {note}")
    files = ", ".join(found.files) or "no env file"
    left_out = len(found.findings) - len(findings)
    output.say(
        f"{_number(errors, 'error')}, {_number(warnings, 'warning')} in {files}."
        + (f" {left_out} left out by --ignore." if left_out else "")
    )
    output.result(
        {
            "files": list(found.files),
            "errors": errors,
            "warnings": warnings,
            "findings": [
                {
                    "level": one.level,
                    "code": one.code,
                    "key": one.key,
                    "file": one.where.file,
                    "line": one.where.line,
                    "column": one.where.column,
                    "message": one.message,
                    "hint": one.hint,
                    "readings": dict(one.readings),
                }
                for one in findings
            ],
            "notes": list(found.notes),
        }
    )
    return 1 if errors or (strict and warnings) else 0


def _number(count: int, what: str) -> str:
    return f"{count or 'no'} {what}{'' if count == 1 else 's'}"


def _compare(left: str, right: str, app: str, output: Output) -> int:
    from pathlib import Path

    from longshore.console import Masks
    from longshore.envcheck import compare
    from longshore.errors import LongshoreError, Problems
    from longshore.inventory import find_root, load, masked_values
    from longshore.secrets.keyring import Keyring

    root = find_root(Path.cwd())
    loaded = []
    problems: list[LongshoreError] = []
    for name in (left, right):
        try:
            loaded.append(load(root, name, keyring=Keyring()))
        except Problems as error:
            problems += error.problems
        except LongshoreError as error:
            problems.append(error)
    if problems:
        raise Problems(problems)
    one, other = loaded
    output.masks = Masks(masked_values(one) | masked_values(other))
    found = compare(one, other, app=app)
    for name in dict.fromkeys(difference.app for difference in found):
        _table([each for each in found if each.app == name], left, right, output)
    lonely = sum(each.state.startswith("only") for each in found)
    differ = sum(each.state == "differs" for each in found)
    same = len(found) - lonely - differ
    if any("a reference: " in text for each in found for text in (*each.left.shown, *each.right.shown)):
        output.say("References are compared as they are written: no store is asked.")
    output.say(f"{lonely} in one of them only, {differ} with another value, {same} the same.")
    output.result([_difference(each, left, right) for each in found])
    return 2 if lonely else 0


def _table(found: list[Difference], left: str, right: str, output: Output) -> None:
    def cell(shown: tuple[str, ...], places: tuple[str, ...]) -> str:
        return f"{' | '.join(shown)}  ({', '.join(places)})" if shown else "-"

    words = {"only left": f"only {left}", "only right": f"only {right}"}
    rows = [
        (
            each.key,
            words.get(each.state, each.state),
            cell(each.left.shown, each.left.places),
            cell(each.right.shown, each.right.places),
        )
        for each in found
    ]
    output.table(("variable", "", left, right), rows, title=found[0].app)


def _difference(each: Difference, left: str, right: str) -> dict[str, Any]:
    sides = {left: each.left, right: each.right}
    return {
        "app": each.app,
        "key": each.key,
        "state": {"only left": f"only {left}", "only right": f"only {right}"}.get(each.state, each.state),
        **{name: {"values": list(one.shown), "where": list(one.places)} for name, one in sides.items()},
    }


def _show(env: str, app: str, output: Output) -> None:
    from pathlib import Path

    from longshore.console import Masks
    from longshore.envcheck.compare import Prints, side, values
    from longshore.inventory import find_root, load, masked_values, select
    from longshore.secrets.keyring import Keyring

    environment = load(find_root(Path.cwd()), env, keyring=Keyring())
    output.masks = Masks(masked_values(environment))
    for warning in environment.warnings:
        output.say(f"warning: {warning}")
    prints = Prints()
    result = []
    for name, _ in select(environment, None, app or None):
        found = {key: side(prints, key, said) for key, said in sorted(values(environment, name).items())}
        rows = [(key, " | ".join(one.shown), ", ".join(one.places)) for key, one in found.items()]
        output.table(("variable", "value", "from"), rows, title=name)
        for key, one in found.items():
            result.append({"app": name, "key": key, "values": list(one.shown), "where": list(one.places)})
    output.result(result)
