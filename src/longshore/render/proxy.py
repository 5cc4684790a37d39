"""The proxy's part of a release: Traefik's configuration for one app on one host, as ``proxy.json``.

Everything is decided here but the containers' addresses, which only the host knows: the agent fills them in.
Traefik's options are those of its reference for version 3 (file provider, static configuration).
"""

from __future__ import annotations

import hashlib
import re
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from longshore.agent import wire
from longshore.errors import RenderError, Where
from longshore.inventory.acme import Acme
from longshore.inventory.model import Target
from longshore.inventory.proxying import Behind, ProxyPolicy, ProxySettings, Tls
from longshore.inventory.routing import one_answer

FILE = "proxy.json"
_INSIDE = "/etc/traefik/own"
IDLE = 2.0
"""Seconds that the proxy keeps an idle connection to a container. Shorter than servers' own keep-alive
(uvicorn: 5), so that no request meets a connection that the server is just closing; and draining waits for
these connections to end."""

CHECK = "X-Longshore-Check"
"""The header of a balancer's question, with the name of the service. It takes it from its own clients."""
_FIRST = 30_000_000
"""The priority of the routes by which it asks: before all of any app."""
_NOBODY = "255.255.255.255/32"
"""No request comes from there."""

_BUCKETS = (
    0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.2, 2.0, 3.0,
    5.0, 10.0, 30.0,
)  # fmt: skip
"""Bounds of the times that the proxy counts (s): finer than Traefik's four, which are among them."""


def duration(seconds: float) -> str:
    """A duration as Traefik reads it."""
    return f"{round(seconds * 1000)}ms" if seconds % 1 else f"{int(seconds)}s"


def proxy_file(target: Target, policies: Mapping[str, ProxyPolicy], image: str) -> dict[str, Any]:
    """What ``proxy.json`` holds, for these services: ``host``, ``dynamic``, ``services``. ``image`` is the
    proxy's, pinned where that was possible. Raises ``RenderError``."""
    app = target.app.name
    twice = one_answer(policies)
    if twice is not None:
        raise RenderError(
            f"{twice[0]} and {twice[1]} of {app} both answer {twice[2]}.",
            where=target.app.where,
            hint="Give them different hosts or paths.",
        )
    dynamic = Dynamic(target.root, target.proxy.trusted)
    services = {}
    for service, policy in sorted(policies.items()):
        name = named(app, service)
        dynamic.add(name, policy)
        services[service] = {"name": name, "port": policy.port, "drain": policy.drain}
    return {
        "host": host_settings(target.proxy, target.root, image),
        "dynamic": dynamic.config,
        "services": services,
    }


def named(*parts: str) -> str:
    """A name at Traefik. Apps share one proxy, and neither an app's nor a service's name has a colon."""
    return ":".join(parts)


def check_path(name: str) -> str:
    """Where a balancer asks for a service, whatever its health path is: so both can change in one deploy."""
    return f"/.longshore/check/{name.replace(':', '/')}"


def is_secure(policy: ProxyPolicy) -> bool:
    """Whether clients come by HTTPS only, here or at the balancer in front."""
    return (policy.tls is not None and policy.redirect) or (
        policy.behind is not None and policy.behind.secure
    )


def host_settings(settings: ProxySettings, root: Path, image: str) -> dict[str, Any]:
    """The proxy itself: what the agent's ``Proxy.ensure`` takes. ``root``: the project's folder."""
    static: dict[str, Any] = {
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
        "log": {"level": "WARN", "noColor": True},
        "api": {"insecure": True, "dashboard": False},
        "providers": {
            "providersThrottleDuration": "100ms",
            "file": {"directory": "/etc/traefik/dynamic", "watch": True},
        },
        "entryPoints": {
            "web": _entry_point(settings, settings.http),
            **({"websecure": _entry_point(settings, settings.https)} if settings.secure else {}),
        },
    }
    files: dict[str, str] = {}
    env: dict[str, str] = {}
    if settings.access_log:
        static["accessLog"] = {"format": "json"}
    # A canary is judged by them, on the API's own port of 127.0.0.1 where the inventory names none.
    static["metrics"] = {"prometheus": {"addServicesLabels": True, "buckets": [*_BUCKETS]}}
    if settings.metrics:
        static["metrics"]["prometheus"]["entryPoint"] = "metrics"
        static["entryPoints"]["metrics"] = {"address": f"127.0.0.1:{settings.metrics}", "reusePort": True}
    if settings.acme is not None:
        static["certificatesResolvers"] = {"acme": {"acme": _resolver(settings.acme)}}
        env |= settings.acme.env
        if settings.acme.ca:
            files["acme-ca.pem"] = _pem(root, settings.acme.ca)
            env["LEGO_CA_CERTIFICATES"] = f"{_INSIDE}/acme-ca.pem"
    return {
        "image": image,
        "static": static,
        "env": env,
        "files": files,
        "memory": settings.memory,
        "cpus": settings.cpus,
        "grace": settings.grace,
    }


def _resolver(acme: Acme) -> dict[str, Any]:
    # A file for each server: what a staging server gave must not be taken for a certificate of the real one.
    storage = re.sub(r"[^a-z0-9]+", "-", acme.server.partition("://")[2].lower()).strip("-")
    resolver: dict[str, Any] = {
        "email": acme.email,
        "caServer": acme.server,
        "storage": f"/acme/{storage[:100]}.json",
        "keyType": "EC256",
    }
    if acme.lifetime is not None:
        resolver["certificatesDuration"] = max(1, int(acme.lifetime // 3600))
    if acme.challenge == "http":
        resolver["httpChallenge"] = {"entryPoint": "web"}
        return resolver
    dns: dict[str, Any] = {"provider": acme.provider or ""}
    if acme.resolvers:
        dns["resolvers"] = list(acme.resolvers)
    if acme.wait is not None:
        dns["propagation"] = {"disableChecks": True, "delayBeforeChecks": duration(acme.wait)}
    resolver["dnsChallenge"] = dns
    return resolver


def _entry_point(settings: ProxySettings, port: int) -> dict[str, Any]:
    point: dict[str, Any] = {
        "address": f":{port}",
        "reusePort": True,
        "transport": {
            "lifeCycle": {"graceTimeOut": duration(settings.grace)},
            # Traefik's own 60 s would cut every upload that takes longer.
            "respondingTimeouts": {"readTimeout": "0s"},
        },
    }
    if settings.trusted:
        point["forwardedHeaders"] = {"trustedIPs": list(settings.trusted)}
    return point


class Dynamic:
    """Builds an app's dynamic configuration, service by service. ``root``: the project's folder;
    ``trusted``: networks of load balancers in front."""

    def __init__(self, root: Path, trusted: Sequence[str] = ()) -> None:
        self.root = root
        self.trusted = trusted
        self.http: dict[str, dict[str, Any]] = {"routers": {}, "services": {}, "serversTransports": {}}
        self.config: dict[str, Any] = {"http": self.http}

    def add(self, name: str, policy: ProxyPolicy) -> None:
        middlewares = self.middlewares(name, policy)
        for number, (rule, priority) in enumerate(rules(policy)):
            label = named(name, str(number))
            self.router(label, rule, priority, name, policy, middlewares)
            if policy.body_limit is not None:
                limit = {"buffering": {"maxRequestBodyBytes": policy.body_limit}}
                limited = [self.middleware(named(name, "body"), limit), *middlewares]
                # Traefik's bound holds request and answer back until each is whole. So it is for what has a
                # body, and downloads, event streams and WebSockets (all GET) go past it.
                self.router(
                    named(label, "body"),
                    f"({rule}) && !Method(`GET`) && !Method(`HEAD`)",
                    priority + 1,
                    name,
                    policy,
                    limited,
                )
        if policy.tls is not None and policy.tls.certificate and policy.tls.key:
            self.certificate(policy.tls)
        if policy.behind is not None:
            self.check(name, policy.behind)
        self.balancer(name, policy)

    def check(self, name: str, behind: Behind) -> None:
        """The way by which the balancer asks whether the service is well. Nobody else can ask, and nothing is
        in front that turns requests away or holds them: in maintenance a host is not out."""
        label = name + wire.ASKED
        asking = " || ".join(f"ClientIP(`{network}`)" for network in behind.addresses)
        path = {"replacePath": {"path": behind.health.partition("?")[0]}}
        rule = f"Path(`{check_path(name)}`)"
        router = {"service": name, "entryPoints": ["web"]}
        self.http["routers"][label] = {
            **router,
            "rule": f"{rule} && Header(`{CHECK}`, `{name}`) && ({asking})",
            "priority": _FIRST,
            "middlewares": [self.middleware(named(name, "balancer", "path"), path)],
        }
        # An app that answers every path with its front page would say yes to whoever may not ask.
        nobody = {"ipAllowList": {"sourceRange": [_NOBODY]}}
        self.http["routers"][named(name, "balancer", "others")] = {
            **router,
            "rule": rule,
            "priority": _FIRST - 1,
            "middlewares": [self.middleware(named(name, "balancer", "nobody"), nobody)],
        }

    def router(
        self,
        label: str,
        rule: str,
        priority: int,
        service: str,
        policy: ProxyPolicy,
        middlewares: list[str],
    ) -> None:
        router: dict[str, Any] = {"rule": rule, "priority": priority, "service": service}
        if policy.tls is None:
            self.http["routers"][label] = {**router, "entryPoints": ["web"], "middlewares": middlewares}
            return
        plain = [self.middleware(named(service, "https"), _REDIRECT)] if policy.redirect else middlewares
        self.http["routers"][named(label, "plain")] = {**router, "entryPoints": ["web"], "middlewares": plain}
        tls: dict[str, Any] = {}
        if policy.tls.acme:
            tls["certResolver"] = "acme"
            tls["domains"] = certificates_of(policy.hosts)
        router = {**router, "entryPoints": ["websecure"], "middlewares": middlewares, "tls": tls}
        self.http["routers"][label] = router

    def balancer(self, name: str, policy: ProxyPolicy) -> None:
        balancer: dict[str, Any] = {"servers": [], "serversTransport": name}
        if policy.health:
            balancer["healthCheck"] = {
                "path": policy.health,
                "interval": duration(policy.health_interval),
                "timeout": duration(policy.health_timeout),
            }
        if policy.sticky:
            balancer["sticky"] = {"cookie": cookie(name, secure=is_secure(policy))}
        self.http["services"][name] = {"loadBalancer": balancer}
        timeouts = {"dialTimeout": "5s", "idleConnTimeout": duration(IDLE)}
        if policy.timeout is not None:
            timeouts["responseHeaderTimeout"] = duration(policy.timeout)
        self.http["serversTransports"][name] = {"forwardingTimeouts": timeouts, "maxIdleConnsPerHost": 200}

    def middlewares(self, name: str, policy: ProxyPolicy) -> list[str]:
        """The middlewares of a service, in the order in which a request meets them."""
        found = []
        # With load balancers in front, the address is what they say it is (Traefik's ipStrategy).
        strategy = {"ipStrategy": {"excludedIPs": [*self.trusted]}} if self.trusted else {}
        if policy.allow:
            allow = {"sourceRange": [*policy.allow], **strategy}
            found.append(self.middleware(named(name, "allow"), {"ipAllowList": allow}))
        if policy.rate is not None:
            rate: dict[str, Any] = {
                "average": policy.rate.average,
                "burst": policy.rate.burst,
                "period": duration(policy.rate.period),
            }
            if strategy:
                rate["sourceCriterion"] = strategy
            found.append(self.middleware(named(name, "rate"), {"rateLimit": rate}))
        if policy.users:
            users = {"users": [*policy.users], "removeHeader": True}
            found.append(self.middleware(named(name, "users"), {"basicAuth": users}))
        headers: dict[str, Any] = {}
        if policy.request_headers:
            headers["customRequestHeaders"] = dict(sorted(policy.request_headers.items()))
        if policy.response_headers:
            headers["customResponseHeaders"] = dict(sorted(policy.response_headers.items()))
        if policy.hsts and policy.tls is not None:
            headers["stsSeconds"] = int(policy.hsts)
        if headers:
            found.append(self.middleware(named(name, "headers"), {"headers": headers}))
        if policy.compress:
            found.append(self.middleware(named(name, "compress"), {"compress": {}}))
        if policy.strip and policy.paths:
            # Traefik takes the first that fits.
            prefixes = sorted((path.rstrip("/") for path in policy.paths), key=len, reverse=True)
            strip = {"stripPrefix": {"prefixes": prefixes}}
            found.append(self.middleware(named(name, "strip"), strip))
        # A container that is gone is no answer: another one gets the request, as long as nothing was sent.
        retry = {"retry": {"attempts": 3, "initialInterval": "50ms"}}
        found.append(self.middleware(named(name, "retry"), retry))
        return found

    def middleware(self, name: str, value: Mapping[str, Any]) -> str:
        self.http.setdefault("middlewares", {})[name] = dict(value)
        return name

    def certificate(self, tls: Tls) -> None:
        """Traefik takes a certificate's text in the place of a path."""
        certificate, key = str(tls.certificate), str(tls.key)
        pair = {"certFile": _pem(self.root, certificate), "keyFile": _pem(self.root, key, secret=True)}
        certificates = self.config.setdefault("tls", {}).setdefault("certificates", [])
        if pair not in certificates:
            _check_pair(self.root, certificate, key)
            certificates.append(pair)


_REDIRECT = {"redirectScheme": {"scheme": "https", "permanent": True}}


def rules(policy: ProxyPolicy) -> list[tuple[str, int]]:
    """A router's rule and priority for each path: a host's own beats a wildcard's, and that beats none; of
    the same, the longer path."""
    exact = [f"Host(`{name}`)" for name in policy.hosts if not name.startswith("*.")]
    wild = [
        "HostRegexp(`^[^.]+{}$`)".format(name[1:].replace(".", r"\."))
        for name in policy.hosts
        if name.startswith("*.")
    ]
    names = " || ".join([*exact, *wild])
    rank = 20000 if exact else 10000 if wild else 0
    found = []
    for path in policy.paths or ("/",):
        bare = path.rstrip("/")
        # PathPrefix alone would take /apiary for /api.
        where = f"(Path(`{bare}`) || PathPrefix(`{bare}/`))" if bare else "PathPrefix(`/`)"
        rule = f"({names}) && {where}" if names and bare else f"({names})" if names else where
        found.append((rule, 2 * (rank + len(path))))
    return found


def certificates_of(hosts: Sequence[str]) -> list[dict[str, Any]]:
    """The certificates to order for these names, as Traefik's ``domains``.

    One for each name: a name that can't be proved (yet) costs the others nothing. Names below one with a star
    have that one's, and the name above is proved by the same DNS record, so it is ordered with it.
    """
    above = {host[2:] for host in hosts if host.startswith("*.")}
    found: list[dict[str, Any]] = []
    for host in dict.fromkeys(hosts):
        if host.startswith("*."):
            found.append({"main": host, **({"sans": [host[2:]]} if host[2:] in hosts else {})})
        elif host not in above and host.partition(".")[2] not in above:
            found.append({"main": host})
    return found


def cookie(name: str, *, secure: bool) -> dict[str, Any]:
    """The cookie by which a client stays with a server of a service."""
    short = hashlib.sha256(name.encode()).hexdigest()[:8]
    return {"name": f"longshore_{short}", "httpOnly": True, "sameSite": "lax", "secure": secure}


def _pem(root: Path, path: str, *, secret: bool = False) -> str:
    file = root / Path(path)
    try:
        text = file.read_text()
        open_to_others = bool(file.stat().st_mode & 0o077)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not a text"
        raise RenderError(f"This PEM file can't be read: {why}.", where=Where(path)) from None
    if "-----BEGIN " not in text:
        raise RenderError("This is no PEM file.", where=Where(path), hint="It begins with -----BEGIN.")
    if secret and open_to_others:
        raise RenderError("Others can read this private key.", where=Where(path), hint=f"chmod 600 {path}")
    return text


def _check_pair(root: Path, certificate: str, key: str) -> None:
    """Traefik would leave out a pair that doesn't fit, and answer with a certificate of its own."""

    def no_password() -> str:
        raise RenderError("This key has a password, which nobody could type on the host.", where=Where(key))

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            root / certificate, root / key, password=no_password
        )
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise RenderError(
                f"This certificate is not for the key {key}.", where=Where(certificate)
            ) from None
        message = f"This certificate and its key {key} can't be read: {error.reason or 'no valid PEM'}."
        raise RenderError(message, where=Where(certificate)) from None
