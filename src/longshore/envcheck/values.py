"""Secrets that protect nothing: left as in the example, known to everybody, guessable, or used twice.

Only the last words of a name decide whether it is one (``DB_PASSWORD``, ``API_KEY``, ``TOKEN``): of
``TOKEN_EXPIRE_MINUTES`` nobody expects that it is hard to guess.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import unquote

from longshore.envcheck.finding import Finding
from longshore.envcheck.said import Said

_SECRET = re.compile(
    r"(^|[_.-])(PASS(WORD|WD|PHRASE)?|PWD|SECRETS?|TOKEN|CREDENTIALS?|SALT|PEPPER|AUTH|"
    r"(API|ACCESS|SECRET|PRIVATE|SIGNING|ENCRYPTION|MASTER|JWT|APP|LICENSE)?[_-]?KEY([_-]BASE)?)([_-]?\d+)?$"
    r"|(PASSWORD|SECRET|APIKEY|PASSWD)$",
    re.IGNORECASE,
)
_PUBLIC = re.compile(
    r"(^|[_.-])(PUBLIC|PUBLISHABLE|SITE|CACHE|SORT|PRIMARY|FOREIGN|PARTITION)([_.-]|$)", re.I
)
_URL = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s@:]*:([^/\s@]+)@", re.IGNORECASE)
_PLACEHOLDER = re.compile(
    r"(.*[^a-z])?(change|replace)[_ -]?(this|me|it|in[_ -]?production)([^a-z].*)?"
    r"|changeme.*|replaceme.*|<[^<>]+>|\[[a-z _-]+\]|\{\{.*\}\}"
    r"|your[_ -].*|(insert|put|add|enter)[_ -](your|the|a)[_ -].*|.*[_ -](goes[_ -])?here"
    r"|(sk|pk|ghp|xoxb|key|token)[_-](test[_-]|live[_-]|proj[_-])?(x{3,}|\*{3,}|\.{3,}).*|x{4,}|\*{3,}|\.{3,}|…"
    r"|todo|fixme|tbd|placeholder|dummy|to[_ -]be[_ -](set|filled|done|replaced).*",
    re.IGNORECASE | re.DOTALL,
)
# No word may be made of others, else a long text of them is tried in ever more ways.
_WORDS = (
    "password|passwd|passwort|pass|secret|admin|administrator|root|user|guest|test|testing|demo|default"
    "|example|postgres|postgresql|mysql|mariadb|redis|mongo|mongodb|minio|rabbitmq|django|flask|laravel|my"
    "|changeit|letmein|welcome|qwerty|qwertz|abc|abcd|abcdef|hello|master|dev|development|local|docker|foo"
    "|bar|super|top|insecure|toor|sa|token|key|api|dragon|monkey|iloveyou|only|practice|not|the|this|is"
)
_KNOWN = re.compile(
    rf"(?:(?:{_WORDS})[_.!@#-]*)+\d{{0,8}}[!@#.]?|\d{{1,8}}|p[a@][s$]{{2}}w[o0]rd.{{0,4}}", re.IGNORECASE
)
_KNOWN_LENGTH = 40
_INSECURE = re.compile(r"django-insecure-.*", re.DOTALL)
_FEWEST_BITS = 50.0
"""A random text of 9 letters and digits has 54; guessing offline, that is days of work."""
_SHORTEST_REUSED = 6


def is_secret_key(key: str) -> bool:
    """Whether a variable of this name is one that must be hard to guess."""
    return bool(_SECRET.search(key)) and not _PUBLIC.search(key)


def is_placeholder(value: str) -> bool:
    """Whether the value is one that an example has for people to change."""
    return bool(_PLACEHOLDER.fullmatch(value.strip()))


def judge(said: Said) -> Finding | None:
    """What is wrong with one value as a secret, or as something that must have been filled in."""
    key, value = said.key, said.value.strip()
    if not value:
        return None
    url = _URL.match(value)
    secret = unquote(url[1]) if url else value
    what = f"the password in {key}" if url else key
    if is_placeholder(value) or is_placeholder(secret):
        return Finding(
            "error",
            "placeholder",
            f"{_upper(what)} still has the example's value.",
            said.where,
            "Set it.",
            key,
        )
    if not url and (not is_secret_key(key) or _is_no_secret(key, value)):
        return None
    if (len(secret) <= _KNOWN_LENGTH and _KNOWN.fullmatch(secret)) or _INSECURE.fullmatch(secret):
        message = f"{_upper(what)} has a value that everybody knows or tries first."
        return Finding("error", "default", message, said.where, _MAKE_ONE, key)
    if bits(secret) < _FEWEST_BITS:
        message = f"{_upper(what)} is short or easily guessed (about {bits(secret):.0f} bits at the most)."
        return Finding("warning", "weak", message, said.where, _MAKE_ONE, key)
    return None


_MAKE_ONE = "`openssl rand -hex 24` makes one."


def _upper(text: str) -> str:
    return f"The{text[3:]}" if text.startswith("the ") else text


def _is_no_secret(key: str, value: str) -> bool:
    """A switch (``PROXY_AUTH=0``, too) or a path to a file that has the secret."""
    if value in ("0", "1") and key.upper().endswith("AUTH"):
        return True
    return value.lower() in ("true", "false", "yes", "no", "on", "off", "none", "null") or bool(
        re.fullmatch(r"(\.{0,2}/)[\w./-]+", value)
    )


def bits(value: str) -> float:
    """The most that guessing a text like this can cost, in bits: its length times what each character tells.

    A character tells as much as its kinds allow (digits 3.3, small letters 4.7, …) and no more than the
    text's own variety does, so that ``aaaaaaaaaaaaaaaa`` has next to none.
    """
    kinds = (("0123456789", 10), ("abcdefghijklmnopqrstuvwxyz", 26), ("ABCDEFGHIJKLMNOPQRSTUVWXYZ", 26))
    alphabet = sum(size for chars, size in kinds if any(char in chars for char in value))
    if any(not (char.isascii() and char.isalnum()) for char in value):
        alphabet += 20
    if set(value.lower()) <= set("0123456789abcdef") and any(char.isdigit() for char in value):
        alphabet = min(alphabet, 16)
    variety = len(set(value))
    return len(value) * min(math.log2(alphabet or 1), 2 * math.log2(variety)) if variety > 1 else 0.0


def reused(here: Iterable[Said], elsewhere: Iterable[Said] = ()) -> Iterator[Finding]:
    """The same secret under two keys of ``here``, and in ``elsewhere``: other environments."""
    by_value: dict[str, dict[str, Said]] = {}
    for said in here:
        if _counts(said):
            by_value.setdefault(said.value, {}).setdefault(said.key, said)
    for same in by_value.values():
        first, *others = same.values()
        for other in others:
            yield Finding(
                "warning",
                "reused",
                f"{other.key} is the same secret as {first.key} ({first.where}): who learns one has both.",
                other.where,
                _MAKE_ONE,
                other.key,
            )
    outside: dict[str, Said] = {}
    for said in elsewhere:
        if said.value in by_value and _counts(said):
            outside.setdefault(said.value, said)
    for value, said in outside.items():
        mine = next(iter(by_value[value].values()))
        name = "" if said.key == mine.key else f"{said.key} of "
        yield Finding(
            "warning",
            "reused",
            f"{mine.key} is the same secret as {name}{said.environment} ({said.where}): who works there "
            "has it.",
            mine.where,
            _MAKE_ONE,
            mine.key,
        )


def _counts(said: Said) -> bool:
    return (
        is_secret_key(said.key)
        and len(said.value) >= _SHORTEST_REUSED
        and not _is_no_secret(said.key, said.value)
        and not is_placeholder(said.value)
    )


def holds_secrets(values: Mapping[str, str]) -> bool:
    """Whether there is anything in it that others must not read: a secret that isn't an example's."""
    return any(
        value
        and not is_placeholder(value)
        and (bool(_URL.match(value)) or (is_secret_key(key) and not _is_no_secret(key, value)))
        for key, value in values.items()
    )
