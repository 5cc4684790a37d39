"""Certificates that the proxy orders (ACME): which it has, and that a person hears of those it has not.

Traefik orders in the background, and after a failure not again by itself: only when routes change, or when
it starts. So who needs a certificate asks for it, waits for some seconds, and passes on what the ACME server
said.
"""

import json
import re
import time
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional

from longshore.agent.health import Emit
from longshore.agent.proxy import Proxy

_PATIENCE = 15.0
"""Seconds to wait for a certificate. A public server gives one in 2 to 10 s, where HTTP proves the name."""
_SILENCE = 3.0
"""After so many seconds without a word a certificate is asked for again."""
_POLL = 0.25
_METRIC = re.compile(
    r'^traefik_tls_certs_not_after\{cn="(?P<cn>[^"]*)",sans="(?P<sans>[^"]*)".*\} (?P<at>\S+)$', re.M
)
_ERROR = re.compile(r'Unable to obtain ACME certificate for domains error=("(?:[^"\\]|\\.)*")')
_DOMAINS = re.compile(r'domains=(\["[^]]*"\]|\S+)')
_SHORT = 300


class Ordered(NamedTuple):
    """A name that a service has a certificate ordered for."""

    service: str
    name: str


def ordered(config: Dict[str, Any]) -> List[Ordered]:
    """What an app's part of Traefik's configuration orders."""
    routers = config.get("http", {}).get("routers", {})
    return sorted(
        {
            Ordered(str(router["service"]), str(name))
            for router in routers.values()
            if (router.get("tls") or {}).get("certResolver")
            for domain in router["tls"].get("domains", ())
            for name in (domain["main"], *domain.get("sans", ()))
        }
    )


def held(proxy: Proxy) -> Optional[Dict[str, float]]:
    """The names that the proxy has a certificate for, and its end (s since the epoch); ``None`` where the
    proxy doesn't say."""
    text = proxy.metrics()
    if text is None:
        return None
    ends: Dict[str, float] = {}
    for found in _METRIC.finditer(text):
        for name in {found["cn"], *found["sans"].split(",")} - {""}:
            ends[name] = max(ends.get(name, 0.0), float(found["at"]))
    return ends


def end_of(name: str, ends: Dict[str, float]) -> Optional[float]:
    """When the certificate for a name ends; ``None`` without one. One with a star is for each name below."""
    found = [ends[one] for one in (name, f"*.{name.partition('.')[2]}") if one in ends]
    return max(found) if found else None


def missing(proxy: Proxy, apps: Iterable[str]) -> List[str]:
    """The names of these apps that the proxy has no certificate for that is valid now, sorted."""
    names = {one.name for app in apps for one in ordered(proxy.file_of(app))}
    ends = held(proxy) if names else None
    if ends is None:
        return []
    return sorted(name for name in names if (end_of(name, ends) or 0.0) < time.time())


def settle(
    proxy: Proxy,
    apps: Iterable[str],
    emit: Emit,
    since: float,
    given_up: Optional[Callable[[], bool]] = None,
) -> None:
    """Wait some seconds for the certificates of these apps, and note which don't come and why.

    ``since``: when what is going on began (s since the epoch); of failures before it nothing is said. A
    certificate that isn't there keeps nobody from serving: the proxy answers with one of its own meanwhile.
    """
    apps = list(apps)
    names = missing(proxy, apps)
    if not names:
        return
    emit("compose", line=f"proxy waits for the certificate of {_and(names)}")
    began, asked = time.monotonic(), False
    failed: Dict[str, str] = {}
    while names and time.monotonic() < began + _PATIENCE and not (given_up is not None and given_up()):
        failed = failures(proxy, names, max(since, proxy.ordered_again()))
        if len(failed) == len(names):
            break
        # Where nobody says anything it is being ordered, which asking doesn't disturb, or nobody has asked.
        if not asked and not failed and time.monotonic() > began + _SILENCE:
            asked = True
            proxy.order_again()
        time.sleep(_POLL)
        names = missing(proxy, apps)
    for name in names:
        emit("note", message=sentence(name, failed.get(name)))


def tell(proxy: Proxy, routes: List[Dict[str, Any]]) -> None:
    """Add to routes (``app``, ``service``, ``problem``, ``certificates``) what there is of certificates."""
    wanted = {app: ordered(proxy.file_of(app)) for app in {route["app"] for route in routes}}
    ends = held(proxy) if any(wanted.values()) else None
    if ends is None:
        return
    absent = missing(proxy, wanted)
    failed = failures(proxy, absent, 0.0) if absent else {}
    for route in routes:
        names = [
            one.name for one in wanted[route["app"]] if one.service == f"{route['app']}:{route['service']}"
        ]
        route["certificates"] = [{"name": name, "until": end_of(name, ends)} for name in names]
        told = [route["problem"], *(sentence(name, failed.get(name)) for name in names if name in absent)]
        route["problem"] = "; ".join(text for text in told if text)


def sentence(name: str, why: Optional[str]) -> str:
    """That a certificate isn't there, and what to do."""
    meanwhile = "the proxy answers with one of its own, which browsers warn of"
    if why is None:
        return f"there is no certificate for {name} yet: it is being ordered, and {meanwhile} until it comes"
    hint = "`proxy.restart` orders it again"
    return f"there is no certificate for {name}: {why}; {meanwhile}; {hint}"


def failures(proxy: Proxy, names: Iterable[str], since: float) -> Dict[str, str]:
    """Of these names those that the proxy could not order since then (s since the epoch), and the reason."""
    one = proxy.current()
    log = proxy.engine.logs(one["Id"], 200, since) if one is not None else ""
    found: Dict[str, str] = {}
    for line in log.splitlines():
        error, domains = _ERROR.search(line), _DOMAINS.search(line)
        if error and domains:
            for name in names:
                if re.search(rf"(^|[^\w.*-]){re.escape(name)}($|[^\w.-])", domains[1]):
                    found[name] = _reason(error[1])
    return found


def _reason(quoted: str) -> str:
    """What the ACME server, or the way to it, said; the last line of what lego makes of it."""
    try:
        text = str(json.loads(quoted))
    except ValueError:
        text = quoted.strip('"')
    text = [line for line in text.splitlines() if line.strip()][-1].strip()
    text = re.sub(
        r"^(cannot get ACME client |unable to generate a certificate for the domains \[[^]]*\]: )", "", text
    )
    text = re.sub(r"^(error: one or more domains had a problem: ?)?(\[[^]]*\] )?", "", text)
    return text[:_SHORT].rstrip(". ")


def _and(names: List[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
