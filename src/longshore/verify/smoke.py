"""Smoke tests: requests from the controller, as a user of the application would send them.

What an answer must be is decided in :mod:`longshore.verify.expect`.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from longshore.inventory.model import SmokeCheck
from longshore.records import dataclass
from longshore.verify.expect import Answer, Wrong, expect_answer, expect_text
from longshore.verify.program import how_it_ended, run_program

_PAUSE = 0.5
_MOST = 1 << 20
"""Bytes of an answer, or characters of a command's output, that are looked at at most."""
_DAY = 86400.0


@dataclass(frozen=True)
class SmokeResult:
    """How a check went. ``why`` is empty when it is ``ok``; ``seconds`` is the last try's."""

    name: str
    ok: bool
    why: str
    seconds: float
    tries: int


def distinct(checks: Iterable[SmokeCheck]) -> list[SmokeCheck]:
    """The checks, each once. Those of one name that look at different places (one for each host) have the
    place in their names."""
    once = list({repr(check): check for check in checks}.values())
    names = Counter(check.name for check in once)
    return [
        replace(check, name=f"{check.name} {check.place}") if names[check.name] > 1 else check
        for check in once
    ]


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
    if check.deadline is not None:
        own = time.monotonic() + check.deadline
        until = own if until is None else min(own, until)
    for attempt in range(1, check.retries + 2):
        started = time.monotonic()
        if until is not None and started >= until:
            break
        tries = attempt
        longest = check.timeout if until is None else min(check.timeout, until - started)
        try:
            _once(check, longest)
            return SmokeResult(check.name, True, "", time.monotonic() - started, attempt)
        except Wrong as wrong:
            why = str(wrong)
        except TimeoutError:
            why = f"no answer within {round(longest, 1):g} s"
        except ssl.SSLCertVerificationError as error:
            why = f"the certificate is not good: {error.verify_message}"
        except (OSError, ValueError, http.client.HTTPException) as error:
            why = _reason(error, longest)
        seconds = time.monotonic() - started
        if attempt <= check.retries:
            time.sleep(_PAUSE if until is None else max(0.0, min(_PAUSE, until - time.monotonic())))
    return SmokeResult(check.name, False, why, seconds, tries)


def _reason(error: Exception, longest: float) -> str:
    reason = getattr(error, "reason", error)
    if isinstance(reason, TimeoutError):  # of the connecting itself, as urllib wraps it
        return f"no answer within {round(longest, 1):g} s"
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"the certificate is not good: {reason.verify_message}"
    return str(getattr(reason, "strerror", None) or reason)


def _once(check: SmokeCheck, timeout: float) -> None:
    """One try. Raises ``Wrong`` with what is wrong, or an ``OSError``."""
    if check.tcp is not None:
        socket.create_connection(_address(check.tcp), timeout=timeout).close()
    elif check.tls is not None:
        _certificate(check.tls, check.days, timeout)
    elif check.command:
        _command(check, timeout)
    else:
        expect_answer(check, _request(check, timeout))


def _address(place: str) -> tuple[str, int]:
    host, _, port = place.rpartition(":")
    return host.strip("[]"), int(port)


def _certificate(place: str, days: int, timeout: float) -> None:
    """The server's certificate must be one that this machine trusts, and be valid for so many days more."""
    host, port = _address(place)
    until = time.monotonic() + timeout
    with socket.create_connection((host, port), timeout=timeout) as plain:
        plain.settimeout(max(0.001, until - time.monotonic()))
        with ssl.create_default_context().wrap_socket(plain, server_hostname=host) as wrapped:
            certificate = wrapped.getpeercert() or {}
    ends = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
    left = (ends - time.time()) / _DAY
    if left < days:
        day = time.strftime("%Y-%m-%d", time.gmtime(ends))
        raise Wrong(f"the certificate ends on {day}, in {int(left)} days; {days} are wanted")


def _command(check: SmokeCheck, timeout: float) -> None:
    printed = io.StringIO()

    def keep(text: str) -> None:
        if printed.tell() < _MOST:
            printed.write(text)

    try:
        ended = run_program(check.command, cwd=check.root, timeout=timeout, on_text=keep)
    except OSError as error:
        raise Wrong(f"{check.command[0]} can't be run: {error.strerror or error}") from None
    how = how_it_ended(ended, timeout)
    if how:
        said = "; ".join(line for line in ended.tail[-3:] if line.strip())
        raise Wrong(f"{check.command[0]} {how}{f': {said}' if said else ''}")
    expect_text(check, printed.getvalue())


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer, to be compared with the expected status."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def _request(check: SmokeCheck, timeout: float) -> Answer:
    assert check.url is not None
    if urlsplit(check.url).scheme not in ("http", "https"):
        raise Wrong(f"{check.url} is neither http nor https")
    # No proxy of the environment: the check is of this server, not of what stands in between.
    opener = urllib.request.build_opener(
        _NoRedirect,
        urllib.request.ProxyHandler({}),
        urllib.request.HTTPSHandler(context=ssl.create_default_context()),
    )
    data = None if check.body is None else check.body.encode()
    request = urllib.request.Request(  # noqa: S310 - the scheme is looked at above
        check.url,
        data=data,
        headers=dict(check.headers),
        method=check.method or ("GET" if data is None else "POST"),
    )
    started = time.monotonic()
    try:
        answer = opener.open(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        body = _read(answer, started + timeout)
        return Answer(int(answer.status), answer.headers, body, time.monotonic() - started)


def _read(answer: Any, until: float) -> bytes:
    """The body, as far as it is looked at. A server that only dribbles must not outlast the try."""
    parts: list[bytes] = []
    size = 0
    while size < _MOST and (part := answer.read1(1 << 16)):
        parts.append(part)
        size += len(part)
        if time.monotonic() > until:
            raise TimeoutError
    return b"".join(parts)
