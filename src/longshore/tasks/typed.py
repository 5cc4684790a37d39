"""What was typed and is no task or option: Invoke's "No idea what 'rendr' is!", with what is near."""

from __future__ import annotations

import re
from collections.abc import Iterable

from invoke.exceptions import Exit, ParseError
from invoke.program import Program

_NO_IDEA = re.compile(r"No idea what (['\"])(.*)\1 is!", re.DOTALL)
_MISSING = re.compile(r"'(.+)' did not receive required positional arguments: (.+)", re.DOTALL)


class TypedProgram(Program):
    """Invoke's program, which says what may have been meant."""

    def create_config(self) -> None:
        """Raises ``Exit`` with a sentence for settings of Invoke (``~/.invoke.yaml``) that can't be read."""
        try:
            super().create_config()
        except OSError as error:
            said = f"error: {error.filename}: Invoke's settings can't be read: {error.strerror}."
            raise Exit(said, code=1) from None
        except Exception as error:  # of Invoke's own YAML, or of a Python file
            told = " ".join(str(error).split())
            raise Exit(f"error: Invoke's settings can't be read: {told}.", code=1) from None

    def parse_tasks(self) -> None:
        """Raises ``ParseError`` with a sentence."""
        try:
            super().parse_tasks()
        except ParseError as error:
            context = error.context
            if missing := _MISSING.fullmatch(str(error)):
                task, names = missing[1], missing[2].replace("'", "")
                said = f"error: {task} needs: {names}. `longshore {task} --help` shows how."
                raise ParseError(said, context) from None
            found = _NO_IDEA.fullmatch(str(error))
            if found is None:
                raise
            task = context.name if context is not None and context.name else ""
            flags = dict(context.flags) if context is not None and task else {}
            if "--env" in flags and flags["--env"].got_value:
                del flags["--env"]
            raise ParseError(sentence(found[2], task, flags, self.collection.task_names), context) from None


def sentence(word: str, task: str, options: Iterable[str], tasks: Iterable[str]) -> str:
    """What is wrong with ``word``, typed behind ``task`` (empty: the first word), and what to type."""
    from longshore.inventory.nearest import did_you_mean

    if word.startswith("-"):
        what = f"{task} has no option {word}." if task else f"There is no option {word}."
        help_ = f"`longshore {task} --help` lists them." if task else "`longshore --help` lists them."
        return f"error: {what} {did_you_mean(word, options) or help_}"
    if task and "--env" in options:
        return f"error: {task} takes no word {word!r}. An environment is given as --env {word}."
    what = f"{word!r} is no task, and {task} takes no such word." if task else f"There is no task {word!r}."
    return f"error: {what} {did_you_mean(word, tasks) or '`longshore --list` shows all.'}"
