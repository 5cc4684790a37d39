"""What every task has in common: errors that are sentences, exit codes, and the options of a fleet.

Tasks import what they need inside: `invoke --list` must not pay for SSH, Jinja2 or Rich.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import PurePath
from typing import Any, TypeVar

from invoke.exceptions import Exit, ParseError
from invoke.parser.argument import Argument
from invoke.tasks import Task
from invoke.tasks import task as invoke_task

from longshore import bytecode
from longshore.errors import LongshoreError

Body = TypeVar("Body", bound=Callable[..., Any])

OPTIONS = {
    "env": "the environment: the name of a file in inventory/",
    "app": "only this application (default: all of the environment)",
    "limit": "only these hosts: a pattern, as in Ansible ('web:!web2')",
    "json": "JSON lines instead of text",
    "set": "a variable that wins over the inventory: name=value; can be given again",
    "service": "only this service",
    "host": "only this host",
}
"""Help for the options that many tasks share."""


_NARROWING = {
    "env": "Say which.",
    "app": "Leave it out for all of them.",
    "limit": "Leave it out for all hosts.",
    "service": "Leave it out for all of them.",
    "host": "Leave it out for all hosts.",
}
"""What to say of options that are empty: a shell variable that isn't set would mean every host."""

_MAY_BE_EMPTY = frozenset({"why"})
"""All others must not: `deploy --plan "$PLAN"` would deploy what nobody has reviewed."""


ACCEPT_NEW = "accept_new"
"""The option that every task with ``limit`` has, without a parameter of its own for it."""


class _Single(Argument):
    """An option with one value: Invoke takes a second one for the name of a task."""

    def __init__(self, plain: Argument) -> None:
        self._plain_kind = plain.kind
        super().__init__(names=plain.names, default=plain.default, help=plain.help, attr_name=plain.attr_name)

    @property
    def kind(self) -> Any:
        """Once it has a value, that of an option which takes another: so that we hear of it."""
        return self._plain_kind if getattr(self, "raw_value", None) is None else list

    @kind.setter
    def kind(self, kind: Any) -> None:
        pass

    def set_value(self, value: Any, cast: bool = True) -> None:
        flag = f"--{self.names[0]}"
        if self.raw_value is not None:
            more = f" Both patterns together: {flag} '{self.raw_value}:{value}'." if flag == "--limit" else ""
            raise ParseError(f"error: {flag} is given twice.{more}")
        if not str(value).strip() and self.names[0] not in _MAY_BE_EMPTY:
            hint = _NARROWING.get(self.names[0], "Give it a value, or leave it out.")
            raise ParseError(f"error: {flag} is empty. {hint}")
        self.raw_value = value
        self._value = self._plain_kind(value) if cast else value

    @property
    def got_value(self) -> bool:
        return self._value is not None

    def __repr__(self) -> str:
        """As it is typed: Invoke puts this into its message about a value that is missing."""
        return f"--{self.names[0]}"


class FleetTask(Task):  # type: ignore[type-arg]
    """Invoke's, with options that are given once, and ``--accept-new`` where hosts are chosen."""

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        """Invoke's arguments for the task's parameters."""
        found = [
            _Single(one) if one.kind in (str, int) and not (one.positional or one.optional) else one
            for one in super().get_arguments(ignore_unknown_help)
        ]
        names = {one.attr_name or one.name for one in found}
        if "limit" in names and ACCEPT_NEW not in names:
            help_ = "record the keys of hosts that are not known yet; a changed key is refused all the same"
            found.append(
                Argument(names=("accept-new",), attr_name=ACCEPT_NEW, kind=bool, default=False, help=help_)
            )
        return found


def task(**settings: Any) -> Callable[[Body], Any]:
    """Invoke's ``@task`` for ours: no short flags made up (they can take ``-h``), errors as sentences.

    A ``LongshoreError`` is printed and ends the run with code 1; with Invoke's ``--debug`` it is a
    traceback.
    """

    def decorate(body: Body) -> Any:
        @functools.wraps(body)
        def run(context: Any, *args: Any, **kwargs: Any) -> Any:
            if any(value in ("--help", "-h") for value in kwargs.values()):
                return show_help(name)
            if logging.getLogger("invoke").isEnabledFor(logging.DEBUG):
                _mask_logs()
            if not takes_accept_new and kwargs.pop(ACCEPT_NEW, False):
                from longshore.remote import connections

                connections.accept_new_keys()
            try:
                with bytecode.kept():
                    return body(context, *args, **kwargs)
            except Exit:
                raise
            except BrokenPipeError:
                # Who read has seen enough (`| head`); Python's own last flush must not complain, either.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                raise Exit(code=0) from None
            except Exception as error:
                if logging.getLogger("invoke").isEnabledFor(logging.DEBUG):
                    from longshore.console.masks import masked_traceback

                    sys.stderr.write(masked_traceback(error))
                    raise Exit(code=1) from None
                show(_sentence(error), as_json=bool(kwargs.get("json")))
                raise Exit(code=1) from None
            except KeyboardInterrupt:
                raise Exit("stopped by Ctrl-C.", code=130) from None

        name = settings.get("name") or body.__name__.replace("_", "-")
        code = body.__code__
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        takes_accept_new = ACCEPT_NEW in names
        shared = {name: text for name, text in OPTIONS.items() if name in names}
        settings["help"] = {**shared, **settings.get("help", {})}
        settings.setdefault("auto_shortflags", False)
        settings.setdefault("klass", FleetTask)
        return invoke_task(run, **settings)

    return decorate


def _mask_logs() -> None:
    """``--debug`` logs to standard error, also what libraries say."""
    import threading

    from longshore.console.masks import MaskedRecords, masked_traceback

    def tell(failed: threading.ExceptHookArgs) -> None:
        if failed.exc_value is not None:
            sys.stderr.write(masked_traceback(failed.exc_value))

    threading.excepthook = tell
    for handler in logging.getLogger().handlers:
        if not any(isinstance(one, MaskedRecords) for one in handler.filters):
            handler.addFilter(MaskedRecords())


def _sentence(error: Exception) -> LongshoreError:
    if isinstance(error, LongshoreError):
        return error
    if isinstance(error, OSError):
        # A file that may not be read, a disk that is full: whoever runs this can mend it.
        where = str(error.filename) if error.filename else None
        return LongshoreError(error.strerror or str(error), where=where)
    # A defect of ours. Not its message: that can hold what must not be shown.
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{type(error).__name__} in {PurePath(frame.filename).name}:{frame.lineno}"
    return LongshoreError(
        f"Longshore itself failed ({place}); what had been begun on hosts is taken back there",
        hint="Please report it with what --debug shows: `invoke --debug TASK …`.",
    )


def show(error: LongshoreError, *, as_json: bool = False) -> None:
    """Print an error that no run's own output has been opened for."""
    from longshore.console import make_output
    from longshore.console.masks import known

    output = make_output(as_json=as_json)
    output.masks = known()
    output.error(error)
    output.close()


def show_help(name: str) -> None:
    """Print a task's help, as ``invoke --help NAME`` does.

    In ``invoke NAME --help`` Invoke takes the word for the first positional argument that is missing.
    """
    from invoke.program import Program

    from longshore.tasks import ns

    Program(namespace=ns).run(["invoke", "--help", name], exit=False)


def done(code: int) -> None:
    """End the task with this exit code; nothing for 0."""
    if code:
        raise Exit(code=code)
