"""Smoke tests: requests from the controller, as a user of the application would send them."""

from __future__ import annotations

import json
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from longshore.inventory.model import SmokeCheck

_PAUSE = 0.5
_MOST = 1 << 20
"""Bytes of an answer that are read at most."""


@dataclass(frozen=True)
class SmokeResult:
    """How a check went. ``why`` is empty when it is ``ok``; ``seconds`` is the last try's."""

    name: str
    ok: bool
    why: str
    seconds: float
    tries: int


class _Wrong(Exception):
    pass


def run_checks(checks: Iterable[SmokeCheck], *, deadline: float | None = None) -> tuple[SmokeResult, ...]:
    """Run every check at once, each with its retries, and return the results in the checks' order.

    Checks that say the same are run once. ``deadline`` (seconds) bounds all of it: no try begins later,
    and the last ones wait no longer.
    """
    until = None if deadline is None else time.monotonic() + deadline
    wanted = list({repr(check): check for check in checks}.values())
    if not wanted:
        return ()
    with ThreadPoolExecutor(max_workers=min(8, len(wanted))) as pool:
        return tuple(pool.map(lambda check: _run(check, until), wanted))


def _run(check: SmokeCheck, until: float | None) -> SmokeResult:
    why = "the deadline came before the first try"
    seconds = 0.0
    tries = 0
    for attempt in range(1, check.retries + 2):
        started = time.monotonic()
        if until is not None and started >= until:
            break
        tries = attempt
        longest = check.timeout if until is None else min(check.timeout, until - started)
        try:
            _once(check, longest)
            return SmokeResult(check.name, True, "", time.monotonic() - started, attempt)
        except _Wrong as wrong:
            why = str(wrong)
        except TimeoutError:
            why = f"no answer within {round(longest, 1):g} s"
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            why = str(getattr(reason, "strerror", None) or reason)
        seconds = time.monotonic() - started
        if attempt <= check.retries:
            time.sleep(_PAUSE if until is None else max(0.0, min(_PAUSE, until - time.monotonic())))
    return SmokeResult(check.name, False, why, seconds, tries)


def _once(check: SmokeCheck, timeout: float) -> None:
    if check.tcp is not None:
        host, _, port = check.tcp.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), timeout=timeout).close()
        return
    assert check.url is not None
    status, body = _get(check.url, timeout)
    if status != check.status:
        raise _Wrong(f"answered {status}, not {check.status}: {_short(body)}")
    text = body.decode("utf-8", "replace")
    if check.contains is not None and check.contains not in text:
        raise _Wrong(f"the answer has no {check.contains!r}: {_short(body)}")
    if check.json:
        try:
            answer = json.loads(text)
        except ValueError:
            raise _Wrong(f"the answer is not JSON: {_short(body)}") from None
        for path, expected in check.json.items():
            have = _at(answer, path)
            if have != expected:
                raise _Wrong(f"{path} is {have!r}, not {expected!r}")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer, to be compared with the expected status."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def _get(url: str, timeout: float) -> tuple[int, bytes]:
    if urlsplit(url).scheme not in ("http", "https"):
        raise _Wrong(f"{url} is neither http nor https")
    # No proxy of the environment: the check is of this server, not of what stands in between.
    opener = urllib.request.build_opener(
        _NoRedirect,
        urllib.request.ProxyHandler({}),
        urllib.request.HTTPSHandler(context=ssl.create_default_context()),
    )
    try:
        with opener.open(url, timeout=timeout) as answer:
            return answer.status, answer.read(_MOST)
    except urllib.error.HTTPError as error:
        return error.code, error.read(_MOST)


def _at(value: Any, path: str) -> Any:
    """What a dotted path points to (``checks.db``, ``items.0.id``), ``None`` when it is not there."""
    for part in path.split("."):
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


def _short(body: bytes) -> str:
    text = " ".join(body.decode("utf-8", "replace").split())
    return repr(text if len(text) <= 120 else text[:117] + "...")
