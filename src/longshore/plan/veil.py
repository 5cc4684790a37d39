"""Secrets in a plan: every one is shown as ``***`` and a fingerprint, so that a change of it can be seen.

The agent sends no value of its ``.env``, only fingerprints with this run's salt
(:mod:`longshore.agent.explain`). Where today's value has the same one, the old text is known again; where it
hasn't, the fingerprint is all that anybody here learns of the old value.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from functools import cached_property

from longshore.agent import wire
from longshore.console.masks import MASK, SHORTEST
from longshore.inventory.hidden import looks_secret, may_be_secret

_STANDS = re.compile(f"{wire.OPEN}([^ {wire.CLOSE}]+) ([0-9]+) ([0-9a-f]{{16}}){wire.CLOSE}")
_MARK = re.compile(re.escape(MASK) + "[0-9a-f]{8}")
_PASSWORD_IN_URL = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s@:]*:([^/\s@]+)@", re.IGNORECASE)
_SETS = re.compile(r"""^(\s*(?:-\s+)?["']?([A-Za-z_][A-Za-z0-9_.-]*)["']?\s*[:=]\s*)(\S.*)$""")
_INSIDE = re.compile(
    r"""(?<![\w.-])(["']?([A-Za-z_][A-Za-z0-9_.-]*)["']?\s*[:=]\s*)("(?:[^"\\]|\\.)*"|'[^']*'|[^\s,{}\[\]]+)"""
)
_REFERENCE = re.compile(r"""["']?\$\{?[A-Za-z_][A-Za-z0-9_]*\}?["']?,?""")


def new_salt() -> str:
    """A salt for one run. It is written nowhere: with it, short secrets could be found by trying."""
    return secrets.token_hex(16)


class Veil:
    """Knows the values of one bundle's ``.env``, and which of them may not be shown."""

    def __init__(self, salt: str, env: Mapping[str, str]) -> None:
        self.salt = salt
        self.env = env

    def mark(self, value: str) -> str:
        """What is shown instead of a secret: ``***1a2b3c4d``."""
        return MASK + wire.fingerprint(self.salt, value)[:8]

    def old_env(self, prints: Mapping[str, str]) -> dict[str, str]:
        """The old release's variables, from their fingerprints: today's value where it is the same."""
        return {
            name: self.env[name]
            if name in self.env and wire.fingerprint(self.salt, self.env[name]) == known
            else MASK + known[:8]
            for name, known in prints.items()
        }

    def restore(self, text: str) -> str:
        """An old text with what stands for values in it replaced: today's value, or the mark."""

        def value(match: re.Match[str]) -> str:
            known = self._parts.get(match[1])
            if known is not None and wire.fingerprint(self.salt, known) == match[3]:
                return wire.forms(known)[int(match[2])]
            return MASK + match[3][:8]

        return _STANDS.sub(value, text)

    def shown(self, name: str, value: str) -> str:
        """A value of a setting or variable of this name, as it may be shown."""
        if _MARK.fullmatch(value) or not value:
            return value
        return self.mark(value) if looks_secret(name, value) else self.hide(value)

    def hide(self, text: str) -> str:
        """A text with every secret of today's ``.env`` in it replaced by its mark."""
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda match: self._marks[match.group()], text)

    def hide_line(self, line: str) -> str:
        """A line of a file, also with what is set there under a secret's name, wherever it came from."""
        match = _SETS.match(line)
        # A mapping in braces is looked into below.
        if match and match[3][0] not in "{[":
            return self.hide(self._hide_set(match))
        return self.hide(_INSIDE.sub(self._hide_set, line))

    def _hide_set(self, match: re.Match[str]) -> str:
        """``NAME: value``, with the value's mark where the name is a secret's."""
        name, value = match[2], match[3].strip()
        if (
            not looks_secret(name, value)
            or _REFERENCE.fullmatch(value)
            or _MARK.fullmatch(value.strip("\"'"))
        ):
            return match[0]
        return match[1] + self.mark(value)

    @cached_property
    def _parts(self) -> dict[str, str]:
        """Every value, and what the agent names apart: a URL's password, the lines of a key."""
        parts = dict(self.env)
        for name, value in self.env.items():
            password = _PASSWORD_IN_URL.match(value)
            if password:
                parts[f"{name}@"] = password.group(1)
            if "\n" in value:
                parts |= {f"{name}#{number}": line for number, line in enumerate(value.splitlines())}
        return parts

    @cached_property
    def _marks(self) -> dict[str, str]:
        marks: dict[str, str] = {}
        for name, value in self._parts.items():
            key = name.rstrip("@").partition("#")[0]
            if name.endswith("@") or "#" in name or may_be_secret(key, value):
                for form in wire.forms(value):
                    if len(form.strip()) >= SHORTEST:
                        marks.setdefault(form, self.mark(value))
        return marks

    @cached_property
    def _pattern(self) -> re.Pattern[str] | None:
        forms = sorted(self._marks, key=lambda form: (-len(form), form))
        return re.compile("|".join(map(re.escape, forms))) if forms else None
