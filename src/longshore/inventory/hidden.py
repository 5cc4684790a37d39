"""Which values are secrets, told by their name or by credentials in a URL, and which texts give one away."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from longshore.secrets.keyring import keys_here

if TYPE_CHECKING:
    from longshore.inventory.model import Environment, Target
    from longshore.inventory.proxying import ProxyPolicy

_NAME = re.compile(
    r"(^|[_.-])(PASS(WORD|WD|PHRASE)?|PWD|SECRETS?|TOKENS?|CREDENTIALS?|DSN|SALT|PRIVATE|AUTH|"
    r"(API|ACCESS|SECRET|PRIVATE|SIGNING|ENCRYPTION|MASTER|JWT|SSH|LICENSE)?[_.-]?KEYS?)($|[_.-])"
    r"|PASSWORD|SECRET|APIKEY|PASSWD",
    re.IGNORECASE,
)
# From the colon on: a pattern that begins with the scheme takes minutes for a long text that has none.
_HTPASSWD = re.compile(r"[^\s:]+:(\$2[aby]\$|\$apr1\$|\{SHA\})")
_URL_WITH_PASSWORD = re.compile(r"(?<=[a-z0-9+.-])://[^/\s@:]*:[^/\s@]+@", re.IGNORECASE)


def looks_secret(name: str, value: str = "") -> bool:
    """Whether a variable of this name and value should be masked when shown.

    Names like ``DB_PASSWORD``, ``API_KEY``, ``SENTRY_DSN``; values like ``postgres://app:pw@db/app``, and the
    URL of a webhook: who has it can post there; and lines of htpasswd.
    """
    if "webhook" in name.lower() and value.startswith(("https://", "http://")):
        return True
    if _HTPASSWD.match(value):
        return True
    return bool(_NAME.search(name)) or bool(value and _URL_WITH_PASSWORD.search(value))


_PLAIN = re.compile(
    r"[\d.,:+-]*"  # numbers, versions, times
    r"|[a-z]{1,11}|[A-Z]{1,11}|[A-Z][a-z]{1,10}"  # a word
    r"|(https?://)?[a-z0-9-]+(\.[a-z0-9-]+)+(:\d+)?(/[a-z0-9._/-]*)?"  # a host, or a URL without a password
    r"|(\.{1,2}|~)?/[A-Za-z0-9._/-]*",  # a path
)


def may_be_secret(name: str, value: str) -> bool:
    """Whether a value is to be hidden: it looks like a secret, or isn't plainly none."""
    return looks_secret(name, value) or not _PLAIN.fullmatch(value)


def rules() -> dict[str, str]:
    """The patterns of :func:`may_be_secret`, for the agent: ``names`` (searched, in any case) and ``plain``
    (matched in full)."""
    return {"names": _NAME.pattern, "plain": _PLAIN.pattern}


def masked_values(environment: Environment) -> frozenset[str]:
    """The values to mask in whatever is shown: every secret, but those that no mask could hide.

    A value of an env file is masked unless it is plainly none (a number, a word, a host, a path); one that is
    also a name of the inventory (``POSTGRES_USER=shop`` for the app ``shop``) is public already, and masking
    it would blank out the text. What is kept encrypted or in a store is masked whatever it looks like. So is
    what opens those here: a hook that prints its environment has that, too.
    """
    found = set()
    for target in environment.targets.values():
        for key, entry in target.env.items():
            if entry.secret and entry.known:
                found |= set(_telling(key, entry.value))
                found |= {entry.value} if entry.sealed else set()
        for check in target.app.smoke:
            found |= {value for name, value in check.headers.items() if secret_header(name)}
        for service in target.app.services.values():
            found |= set(service.build.secrets.values()) if service.build else set()
            if service.proxy:
                found |= _private_key(target, service.proxy)
                found |= {line.partition(":")[2] for line in service.proxy.users}
                headers = {**service.proxy.request_headers, **service.proxy.response_headers}
                found |= {value for name, value in headers.items() if secret_header(name)}
        if target.proxy.acme is not None:
            found |= {value for value in target.proxy.acme.env.values() if len(value) > 5}
        for hook in target.app.notify:
            found |= {hook.url, urlsplit(hook.url).path.lstrip("/"), *hook.headers.values()}
    found |= {registry.password for registry in environment.registries.values() if registry.password}
    return frozenset((found - public_names(environment)) | keys_here())


def _private_key(target: Target, policy: ProxyPolicy) -> set[str]:
    if policy.tls is None or not policy.tls.key:
        return set()
    try:
        return {(target.root / policy.tls.key).read_text("utf-8", "replace")}
    except OSError:
        return set()  # whoever needs it says so


def public_names(environment: Environment) -> frozenset[str]:
    """What the inventory calls things: it is in every line that is shown, and masking it would hide that."""
    names = {environment.name, *environment.hosts, *environment.groups, *environment.apps}
    return frozenset(names | {name for one in environment.targets.values() for name in one.app.services})


def secret_header(name: str) -> bool:
    """Whether a header of this name holds what must not be shown."""
    return looks_secret(name) or name.lower() in ("authorization", "proxy-authorization", "cookie")


def _telling(key: str, value: str) -> Iterator[str]:
    """The value, and the password alone where it is a URL with one."""
    if looks_secret(key, value) or not _PLAIN.fullmatch(value):
        yield value
    credentials = re.match(r"[a-z][a-z0-9+.-]*://[^/\s@:]*:([^/\s@]+)@", value, re.IGNORECASE)
    if credentials:
        yield credentials.group(1)
        yield unquote(credentials.group(1))


def is_telling(key: str, value: str) -> bool:
    """Whether this value of an env file must be masked when it is shown: unless it is plainly no secret."""
    return bool(value) and any(True for _ in _telling(key, value))
