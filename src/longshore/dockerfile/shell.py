"""Splits a shell script of a RUN into its commands, well enough to see which programs it calls, with what.

No shell: nothing is expanded, and of what can't be understood the words are given as they stand.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from longshore.records import dataclass

_OPERATORS = ("&&", "||", ";;", "|&", ";", "|", "&", "\n", "(", ")")
_KEYWORDS = ("if", "then", "elif", "else", "fi", "for", "while", "until", "do", "done", "in", "{", "}", "!")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*\+?=")
_WRAPPERS = ("exec", "command", "env", "nohup", "nice", "time", "xargs", "eatmydata", "chronic")


@dataclass(frozen=True)
class Command:
    """One command: its words without quotes, what it sets for itself, where it is in the script."""

    words: tuple[str, ...]
    assignments: tuple[str, ...]
    offset: int
    piped: bool = False
    """Whether it reads what the command before it writes."""

    @property
    def program(self) -> str:
        """The program's name without its folder; empty when only variables are set."""
        return self.words[0].rpartition("/")[2] if self.words else ""

    @property
    def arguments(self) -> tuple[str, ...]:
        """What follows the program."""
        return self.words[1:]

    def has(self, *flags: str) -> bool:
        """Whether one of these options is among the arguments; ``-y`` is also found in ``-qqy``."""
        for word in self.arguments:
            name = word.partition("=")[0]
            if name in flags:
                return True
            if re.fullmatch(r"-[A-Za-z]{2,}", word) and any(
                len(flag) == 2 and flag[1] in word for flag in flags
            ):
                return True
        return False

    def plain(self) -> tuple[str, ...]:
        """The arguments that are no options."""
        return tuple(word for word in self.arguments if not word.startswith("-"))


def commands(script: str) -> tuple[Command, ...]:
    """The commands of a script, in order, those inside ``$(…)`` and ``sh -c '…'`` after the one around."""
    return tuple(_commands(script, 0, 0))


def _commands(script: str, base: int, depth: int) -> list[Command]:
    found: list[Command] = []
    words: list[tuple[str, int]] = []
    inner: list[tuple[str, int]] = []
    piped = False

    def end(operator: str) -> None:
        nonlocal words, piped
        if words:
            found.append(_command(words, base, piped))
            found.extend(_inside(found[-1], depth))
        words = []
        piped = operator in ("|", "|&")

    at = 0
    while at < len(script):
        operator = next((one for one in _OPERATORS if script.startswith(one, at)), "")
        if operator:
            end(operator)
            at += len(operator)
        elif script[at].isspace():
            at += 1
        elif script[at] == "#":
            newline = script.find("\n", at)
            at = len(script) if newline < 0 else newline
        else:
            word, after = _word(script, at, inner)
            words.append((word, at))
            at = after
    end("")
    if depth < 4:
        for text, offset in inner:
            found.extend(_commands(text, base + offset, depth + 1))
    return found


def _inside(command: Command, depth: int) -> Sequence[Command]:
    """The commands of a script that is given to a shell as an argument."""
    if depth < 4 and command.program in ("sh", "bash", "ash", "dash") and command.has("-c"):
        scripts = command.plain()
        if scripts:
            return [
                Command(one.words, one.assignments, command.offset, one.piped)
                for one in _commands(scripts[0], 0, depth + 1)
            ]
    return ()


def _command(words: list[tuple[str, int]], base: int, piped: bool) -> Command:
    assignments: list[str] = []
    at = 0
    while at < len(words) - 1 and words[at][0] in _KEYWORDS:
        at += 1
    first = words[at][1]
    while at < len(words) and (_ASSIGNMENT.match(words[at][0]) or words[at][0] in _WRAPPERS):
        if words[at][0] not in _WRAPPERS:
            assignments.append(words[at][0])
        elif at == len(words) - 1:
            break
        at += 1
    return Command(tuple(word for word, _ in words[at:]), tuple(assignments), base + first, piped)


def _word(script: str, at: int, inner: list[tuple[str, int]]) -> tuple[str, int]:
    """The word that begins at ``at``, and where it ends. Scripts in ``$(…)`` and backquotes: ``inner``."""
    word: list[str] = []  # joined once: a long word would be copied with each character
    quote = ""
    while at < len(script):
        char = script[at]
        if char == "\\" and quote != "'":
            word.append(script[at + 1 : at + 2].strip("\n"))
            at += 2
        elif script.startswith(("$(", "<(", ">("), at) and quote != "'" and (char == "$" or not quote):
            close = _close(script, at + 2)
            inner.append((script[at + 2 : close], at + 2))
            word.append(script[at : close + 1])
            at = close + 1
        elif script.startswith("${", at) and quote != "'":
            close = script.find("}", at)
            close = len(script) if close < 0 else close
            word.append(script[at : close + 1])
            at = close + 1
        elif char == "`" and quote != "'":
            close = script.find("`", at + 1)
            close = len(script) if close < 0 else close
            inner.append((script[at + 1 : close], at + 1))
            word.append(script[at : close + 1])
            at = close + 1
        elif quote:
            if char == quote:
                quote = ""
            else:
                word.append(char)
            at += 1
        elif char in "\"'":
            quote = char
            at += 1
        elif char.isspace() or char in ";|()" or (char == "&" and word[-1:] not in ([">"], ["<"])):
            break
        else:
            word.append(char)
            at += 1
    return "".join(word), at


def _close(script: str, at: int) -> int:
    """Where the bracket that was opened before ``at`` is closed; the script's end when it isn't."""
    depth, quote = 1, ""
    while at < len(script):
        char = script[at]
        if char == "\\":
            at += 1
        elif quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char == "(":
            depth += 1
        elif char == ")":
            depth -= 1
            if depth == 0:
                return at
        at += 1
    return len(script)
