"""Asks the stores for the values of references: each once, in parallel, none longer than its timeout.

A value comes over the tool's standard output and stays in memory. What a tool says on standard error may be
shown, masked; what it printed on standard output never is.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from longshore.agent.shorten import first
from longshore.console import Masks
from longshore.errors import InventoryError, LongshoreError, Problems, Where
from longshore.records import dataclass
from longshore.secrets.adapters import ADAPTERS, Adapter
from longshore.secrets.references import Reference

_AT_ONCE = 8
_LARGEST = 1 << 20
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")
_STAMP = re.compile(r"^(\[ERROR\]|error:|Error:|ERROR:)\s*(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d )?", re.IGNORECASE)


@dataclass(frozen=True)
class Asked:
    """A reference, and for whom: ``key`` of ``app``, said at ``where``."""

    reference: Reference
    key: str
    app: str
    where: Where


def resolve(asked: Iterable[Asked], *, root: Path, masks: Masks | None = None) -> dict[Reference, str]:
    """The value of every reference that is asked for, each fetched once.

    Commands run in ``root``. Raises ``InventoryError`` with key and place for a value that can't be had, and
    ``Problems`` for several.
    """
    wanted: dict[Reference, list[Asked]] = {}
    for one in asked:
        wanted.setdefault(one.reference, []).append(one)
    values: dict[Reference, str] = {}
    failures: dict[Reference, LongshoreError] = {}
    # What two references get from one call (two fields of an item) is one call.
    calls: dict[tuple[str, ...], list[Reference]] = {}
    for reference in wanted:
        if reference.store in ("env", "literal"):
            _try(values, failures, reference, _plain)
        else:
            calls.setdefault(command_of(reference), []).append(reference)

    def call(item: tuple[tuple[str, ...], list[Reference]]) -> None:
        argv, references = item
        adapter = ADAPTERS[references[0].store]
        try:
            text = run(adapter, argv, root=root, timeout=max(one.timeout for one in references))
        except LongshoreError as error:
            failures.update(dict.fromkeys(references, error))
            return
        for one in references:
            _try(values, failures, one, lambda reference: _read(adapter, reference, text))

    if calls:
        with ThreadPoolExecutor(min(_AT_ONCE, len(calls))) as pool:
            list(pool.map(call, calls.items()))
    if failures:
        told = (masks or Masks()).plus(values.values())
        # A call that failed is said once, with all that it was for.
        alike: dict[tuple[int, str], list[Asked]] = {}
        for reference, error in failures.items():
            for one in wanted[reference]:
                alike.setdefault((id(error), one.app), []).append(one)
        problems = [_problem(group, failures[group[0].reference], told) for group in alike.values()]
        raise problems[0] if len(problems) == 1 else Problems(problems)
    return values


def _try(
    values: dict[Reference, str], failures: dict[Reference, LongshoreError], reference: Reference, get: Any
) -> None:
    try:
        values[reference] = get(reference)
    except LongshoreError as error:
        failures[reference] = error


def _problem(group: Sequence[Asked], error: LongshoreError, masks: Masks) -> InventoryError:
    one = group[0]
    keys = ", ".join(dict.fromkeys(one.key for one in group))
    of = f" of {one.app}" if one.app else ""
    asked = str(one.reference)
    if len({one.reference for one in group}) > 1:
        asked = asked.partition("#")[0]
    message = f"{keys}{of} ({asked}): {error.message}"
    return InventoryError(masks.text(message), where=one.where, hint=masks.text(error.hint))


def _plain(reference: Reference) -> str:
    if reference.store == "literal":
        return reference.ref
    value = os.environ.get(reference.ref)
    if not value:
        what = "is empty" if value == "" else "is not set"
        raise LongshoreError(f"the variable {reference.ref} {what} here.", hint=f"export {reference.ref}=…")
    return value


def command_of(reference: Reference) -> tuple[str, ...]:
    """The words of the command that reads a reference."""
    if reference.store == "command":
        return reference.command
    adapter = ADAPTERS[reference.store]
    words = list(adapter.argv)
    for name, value in {**adapter.defaults, **dict(reference.options)}.items():
        words += [word.replace("{value}", value) for word in adapter.options[name]]
    if adapter.fields:
        words += adapter.fields.get(reference.field, adapter.fields["*"])
    words += adapter.last
    return (
        adapter.program,
        *(word.replace("{ref}", reference.ref).replace("{field}", reference.field) for word in words),
    )


def run(adapter: Adapter, argv: Sequence[str], *, root: Path, timeout: float) -> str:
    """What the tool prints. Raises ``LongshoreError`` with a sentence for everything else that can happen."""
    program = shutil.which(argv[0], path=os.environ.get("PATH", os.defpath))
    if program is None and "/" in argv[0] and (root / argv[0]).is_file():
        program = str(root / argv[0])
    if program is None:
        hint = f"Install it: {adapter.install}" if adapter.install else "Check its name and PATH."
        raise LongshoreError(f"the program {argv[0]} of {adapter.title} is not on PATH.", hint=hint)
    try:
        process = subprocess.Popen(
            [program, *argv[1:]],
            cwd=root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **adapter.environment},
            start_new_session=True,
        )
    except OSError as error:
        raise LongshoreError(f"{argv[0]} can't be started: {error.strerror}.") from None
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        _end(process)
        raise LongshoreError(
            f"{argv[0]} gave no answer within {timeout:g} s.",
            hint="It may be waiting for a login or an unlock: run it yourself once.",
        ) from None
    except BaseException:
        _end(process)
        raise
    said = _words(err)
    if process.returncode:
        raise _failure(adapter, argv[0], process.returncode, said)
    if len(out) > _LARGEST:
        raise LongshoreError(f"{argv[0]} printed more than 1 MB, which is no secret.")
    try:
        return out.decode()
    except UnicodeDecodeError:
        raise LongshoreError(f"what {argv[0]} printed is not text.", hint="Store it in base64.") from None


def _end(process: subprocess.Popen[bytes]) -> None:
    """Stop the tool and what it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def _failure(adapter: Adapter, program: str, code: int, said: str) -> LongshoreError:
    words = f" {program} said: {said}" if said else ""
    for pattern, sentence, hint in adapter.errors:
        if re.search(pattern, said):
            return LongshoreError(f"{sentence}.{words}", hint=hint)
    how = f"was ended by signal {-code}" if code < 0 else f"failed with code {code}"
    return LongshoreError(f"{program} {how}.{words or ' It said nothing.'}")


def _words(err: bytes) -> str:
    """What a tool says about its failure, as one line of at most 300 characters."""
    lines = [_ESCAPES.sub("", line).strip() for line in err.decode("utf-8", "replace").splitlines()]
    text = " ".join(line for line in lines if line)
    return first(_STAMP.sub("", text), 300)


def _read(adapter: Adapter, reference: Reference, text: str) -> str:
    try:
        value = adapter.read(text, reference.ref, reference.field)
    except LookupError as error:
        raise LongshoreError(f"{adapter.title}: {error.args[0]}.") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise LongshoreError(
            f"what {command_of(reference)[0]} printed is not what {adapter.title}'s tool prints.",
            hint="Run it yourself once, and check which program that is.",
        ) from None
    if not value and not adapter.may_be_empty:
        raise LongshoreError("the secret is empty there.")
    if "\0" in value:
        raise LongshoreError("the secret holds a NUL character, which no environment variable can.")
    return value
