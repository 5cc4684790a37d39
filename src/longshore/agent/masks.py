"""Masking secrets by their value, in the forms in which programs print them.

Here, and not with the console, because both sides need the same: the agent masks what it tells of a
container before it leaves the host, with the values of the releases that the host has.
"""

import base64
import html
import json
import re
from typing import Any, Dict, Iterable, List, Set
from urllib.parse import quote, quote_plus

MASK = "***"
SHORTEST = 4
"""Shorter values are not masked: they would blank out half of every text, and protect nothing."""
WHOLE_WORDS = 8
"""Shorter values are masked only where they stand alone, so that ``shop`` doesn't blank out ``shopping``."""
_COMMON = """
true false none null yes no on off enabled disabled default info debug warning warn error
critical admin root user guest test prod production staging stage development dev local
localhost main master postgres postgresql mysql mariadb redis mongo mongodb rabbitmq docker
public utf8 utf-8 http https 127.0.0.1 0.0.0.0
"""
COMMON = frozenset(_COMMON.split())
"""Words that are in every output. As a secret they protect nothing, and their mask would hide the text."""
_CUTS = re.compile("\ufffd*(?:…|\\.\\.\\.)\ufffd*")
"""Where a text was shortened, by us (:mod:`longshore.agent.shorten`) or by the engine, which may do it in the
middle of a character. A piece of a secret is known beside it, from ``_HEAD`` characters on."""
_HEAD = 6
_LINE = 8
_MUCH = 4096
_BY_SHELLS = re.compile(r"[^\w@%+=:,./-]", re.ASCII)
"""What ``printf %q`` puts a backslash before."""


class Masks:
    """Replaces every known secret in what goes out. Frozen; ``plus`` makes one that knows more."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self.secrets = frozenset(secret for secret in secrets if maskable(secret))
        self._known: Dict[str, List[str]] = {}
        self._ends: Dict[str, List[str]] = {}
        found: Set[str] = set()
        for secret in self.secrets:
            found |= _forms(secret)
        # The longest first, so that a secret that contains another one goes as a whole.
        for form in sorted(found, key=lambda form: (-len(form), form)):
            self._known.setdefault(form[:_HEAD], []).append(form)
            self._ends.setdefault(form[-_HEAD:], []).append(form)
        self._longest = max(map(len, found), default=0)
        # Only the heads are in the pattern: it stays small whatever the secrets are.
        self._pattern = re.compile(_tree(sorted(self._known))) if self._known else None

    def plus(self, secrets: Iterable[str]) -> "Masks":
        """These and more."""
        more = frozenset(secrets)
        return self if more <= self.secrets else Masks(self.secrets | more)

    def text(self, text: str) -> str:
        """The text with secrets masked."""
        if self._pattern is None:
            return text
        whole = self._whole(text)
        return self._pieces(whole) if _CUTS.search(whole) else whole

    def _whole(self, text: str) -> str:
        assert self._pattern is not None
        parts: List[str] = []
        start = at = 0
        while True:
            match = self._pattern.search(text, at)
            if match is None:
                break
            at = match.start()
            end = self._end(text, at)
            if end:
                parts += (text[start:at], MASK)
                start = at = end
            else:
                at += 1
        return "".join([*parts, text[start:]]) if parts else text

    def _end(self, text: str, at: int) -> int:
        """Where a secret that begins here ends; 0 when none does."""
        best = 0
        for length in range(SHORTEST, _HEAD + 1):
            for form in self._known.get(text[at : at + length], ()):
                end = at + len(form)
                if (
                    end > best
                    and text.startswith(form, at)
                    and (len(form) >= WHOLE_WORDS or _alone(text, at, end))
                ):
                    best = end
                    break
        return best

    def _pieces(self, text: str) -> str:
        """What is left of a secret before and after each place where the text was shortened."""
        parts, cuts = _CUTS.split(text), _CUTS.findall(text)
        for at, part in enumerate(parts):
            if 0 < at < len(cuts) and self._is_inside(part):
                part = MASK
            elif at > 0:
                part = self._without_end_of_one(part)
            if at < len(cuts):
                part = self._without_begin_of_one(part) + cuts[at]
            parts[at] = part
        return "".join(parts)

    def _is_inside(self, part: str) -> bool:
        return len(part) >= _HEAD and any(part in form for some in self._known.values() for form in some)

    def _without_begin_of_one(self, part: str) -> str:
        assert self._pattern is not None
        at = max(0, len(part) - self._longest)
        while True:
            match = self._pattern.search(part, at)
            if match is None or len(part) - match.start() < _HEAD:
                return part
            at = match.start()
            if any(form.startswith(part[at:]) for form in self._known.get(part[at : at + _HEAD], ())):
                return part[:at] + MASK
            at += 1

    def _without_end_of_one(self, part: str) -> str:
        for end in range(min(len(part), self._longest), _HEAD - 1, -1):
            if any(form.endswith(part[:end]) for form in self._ends.get(part[end - _HEAD : end], ())):
                return MASK + part[end:]
        return part

    def value(self, value: Any) -> Any:
        """A JSON value with secrets masked in every string, keys included."""
        if self._pattern is None:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(str(key)): self.value(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.value(item) for item in value]
        return value


def of_file(text: str) -> str:
    """What to mask of a file that is mounted as a secret: a private key, or the one line that it is. Of any
    other, lines would be masked that are in every log."""
    told = text.strip()
    return told if "PRIVATE KEY-----" in told or "\n" not in told else ""


def maskable(secret: str) -> bool:
    """Whether a value can be masked by what it is: long enough, and not a word that is everywhere."""
    plain = secret.strip()
    return len(plain) >= SHORTEST and plain.lower() not in COMMON and not (plain.isdigit() and len(plain) < 6)


def _alone(text: str, start: int, end: int) -> bool:
    before, after = text[start - 1 : start], text[end : end + 1]
    return not (before.isalnum() and text[start].isalnum()) and not (
        after.isalnum() and text[end - 1].isalnum()
    )


def _tree(words: List[str]) -> str:
    """A pattern that matches any of the words, by their first character first: that is much faster."""
    groups: Dict[str, List[str]] = {}
    for word in words:
        groups.setdefault(word[0], []).append(word[1:])
    parts = []
    for first, rests in groups.items():
        inner = "" if "" in rests else _tree(rests)
        parts.append(re.escape(first) + inner)
    return parts[0] if len(parts) == 1 else "(?:" + "|".join(parts) + ")"


def _forms(secret: str) -> Set[str]:
    forms = {secret, secret.strip(), json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    if len(secret) <= _MUCH:
        data = secret.encode("utf-8", "surrogateescape")
        forms |= {
            repr(secret)[1:-1],
            repr(data)[2:-1],
            _safe_quote(secret, ""),
            _safe_quote(secret, "/"),
            quote_plus(secret, errors="surrogateescape"),
            html.escape(secret),
            html.escape(secret, quote=False),
            secret.replace("$", "$$"),
            secret.replace("$", "\\$"),
            json.dumps(secret)[1:-1].replace("$", "\\$"),
            json.dumps(secret, ensure_ascii=False)[1:-1].replace("$", "\\$"),
            json.dumps(json.dumps(secret)[1:-1])[1:-1],
            json.dumps(secret)[1:-1].replace("/", "\\/"),
            json.dumps(secret, ensure_ascii=False)[1:-1].replace("$", "$$"),
            _go_json(json.dumps(secret)[1:-1]),
            _go_json(json.dumps(secret, ensure_ascii=False)[1:-1]),
            quote(secret, safe="!'()*", errors="surrogateescape"),
            quote(secret, safe="!'()*;,/?:@&=+$#", errors="surrogateescape"),
            html.escape(secret).replace("&#x27;", "&#39;"),
            html.escape(secret).replace("&#x27;", "&#39;").replace("&quot;", "&#34;"),
            html.escape(secret).replace("&#x27;", "&apos;"),
            " ".join(secret.split()),  # what is put on one line
            secret.replace("'", "''"),
            secret.replace("\\", "\\\\").replace("'", "\\'"),
            _BY_SHELLS.sub(r"\\\g<0>", secret),
            secret.replace("'", "'\\''"),
            secret.replace("'", "'\"'\"'"),
            secret.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$").replace("`", "\\`"),
            data.hex(),
            data.hex().upper(),
        }
        forms |= {_lower_escapes(form) for form in tuple(forms) if "%" in form}
        forms |= _base64(data)
    # A secret of several lines (a key file) is printed line by line.
    lines = secret.splitlines()
    if len(lines) > 1:
        for line in lines:
            line = line.strip()
            if len(line) >= _LINE and not line.startswith("-----"):
                forms |= {line, json.dumps(line)[1:-1], line.replace("$", "$$"), line.replace("$", "\\$")}
    return {form for form in forms if len(form) >= SHORTEST}


def _go_json(text: str) -> str:
    """As Go's encoder writes it, and with it Docker, Compose and Traefik: safe to stand in HTML."""
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _safe_quote(secret: str, safe: str) -> str:
    return quote(secret, safe=safe, errors="surrogateescape")


def _lower_escapes(text: str) -> str:
    return re.sub(r"%[0-9A-F]{2}", lambda match: match.group().lower(), text)


def _base64(data: bytes) -> Set[str]:
    """The value in base64: alone, and in the middle of something longer, where it can begin in three ways."""
    whole = base64.b64encode(data).decode()
    found = {whole, whole.rstrip("=")}
    if len(data) >= WHOLE_WORDS:
        for before in range(3):
            shifted = base64.b64encode(b"\0" * before + data).decode().rstrip("=")
            # The characters at both ends also depend on what stands beside the secret.
            first = (before * 8 + 5) // 6
            last = (before + len(data)) * 8 // 6
            found.add(shifted[first:last])
    return found | {form.replace("+", "-").replace("/", "_") for form in found}
