"""The proxy's part of a release: Traefik's configuration for one app on one host, as ``proxy.json``.

Everything is decided here but the containers' addresses, which only the host knows: the agent fills them in.
Traefik's options are those of its reference for version 3 (file provider, static configuration).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from longshore.errors import RenderError, Where
from longshore.inventory.model import Target
from longshore.inventory.proxying import ProxyPolicy, ProxySettings

FILE = "proxy.json"
_INSIDE = "/etc/traefik/own"
_IDLE = 2.0
"""Seconds that the proxy keeps an idle connection to a container. Shorter than servers' own keep-alive
(uvicorn: 5), so that no request meets a connection that the server is just closing; and draining waits for
these connections to end."""


def duration(seconds: float) -> str:
    """A duration as Traefik reads it."""
    return f"{round(seconds * 1000)}ms" if seconds % 1 else f"{int(seconds)}s"


def proxy_file(target: Target, policies: Mapping[str, ProxyPolicy], image: str) -> dict[str, Any]:
    """What ``proxy.json`` holds, for these services: ``host``, ``dynamic``, ``services``. ``image`` is the
    proxy's, pinned where that was possible."""
    app = target.app.name
    dynamic = _Dynamic(target)
    services = {}
    for service, policy in sorted(policies.items()):
        name = f"{app}-{service}"
        dynamic.add(name, policy)
        services[service] = {"name": name, "port": policy.port, "drain": policy.drain}
    return {"host": host_settings(target, image), "dynamic": dynamic.config, "services": services}


def host_settings(target: Target, image: str) -> dict[str, Any]:
    """The proxy itself: what the agent's ``Proxy.ensure`` takes."""
    settings = target.proxy
    static: dict[str, Any] = {
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
        "log": {"level": "WARN"},
        "api": {"insecure": True, "dashboard": False},
        "providers": {
            "providersThrottleDuration": "100ms",
            "file": {"directory": "/etc/traefik/dynamic", "watch": True},
        },
        "entryPoints": {
            "web": _entry_point(settings, settings.http),
            "websecure": _entry_point(settings, settings.https),
        },
    }
    files: dict[str, str] = {}
    env: dict[str, str] = {}
    if settings.access_log:
        static["accessLog"] = {"format": "json"}
    if settings.metrics:
        static["metrics"] = {"prometheus": {"entryPoint": "metrics", "addServicesLabels": True}}
        static["entryPoints"]["metrics"] = {"address": f"127.0.0.1:{settings.metrics}", "reusePort": True}
    acme = settings.acme
    if acme is not None:
        resolver: dict[str, Any] = {
            "email": acme.email,
            "caServer": acme.server,
            "storage": "/acme/acme.json",
        }
        if acme.challenge == "dns":
            resolver["dnsChallenge"] = {"provider": acme.provider or ""}
        else:
            resolver["httpChallenge"] = {"entryPoint": "web"}
        static["certificatesResolvers"] = {"acme": {"acme": resolver}}
        env |= acme.env
        if acme.ca:
            files["acme-ca.pem"] = _pem(target, acme.ca)
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


class _Dynamic:
    """Builds the app's dynamic configuration, service by service."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.http: dict[str, dict[str, Any]] = {"routers": {}, "services": {}, "serversTransports": {}}
        self.config: dict[str, Any] = {"http": self.http}

    def add(self, name: str, policy: ProxyPolicy) -> None:
        middlewares = self.middlewares(name, policy)
        for number, (rule, priority) in enumerate(rules(policy)):
            router: dict[str, Any] = {"rule": rule, "priority": priority, "service": name}
            router["entryPoints"] = ["websecure" if policy.tls else "web"]
            if middlewares:
                router["middlewares"] = middlewares
            label = f"{name}-{number}" if number else name
            if policy.tls is not None:
                router["tls"] = {"certResolver": "acme"} if policy.tls.acme else {}
                plain = {**router, "entryPoints": ["web"]}
                del plain["tls"]
                if policy.redirect:
                    plain["middlewares"] = [self.middleware(f"{name}-https", _REDIRECT)]
                self.http["routers"][f"{label}-plain"] = plain
            self.http["routers"][label] = router
        if policy.tls is not None and policy.tls.certificate and policy.tls.key:
            self.certificate(policy.tls.certificate, policy.tls.key)
        balancer: dict[str, Any] = {"servers": [], "serversTransport": name}
        if policy.health:
            balancer["healthCheck"] = {
                "path": policy.health,
                "interval": duration(policy.health_interval),
                "timeout": duration(policy.health_timeout),
            }
        if policy.sticky:
            cookie = {"name": f"longshore_{_short(name)}", "httpOnly": True, "sameSite": "lax"}
            balancer["sticky"] = {"cookie": {**cookie, "secure": policy.tls is not None}}
        self.http["services"][name] = {"loadBalancer": balancer}
        timeouts = {"dialTimeout": "5s", "idleConnTimeout": duration(_IDLE)}
        if policy.timeout is not None:
            timeouts["responseHeaderTimeout"] = duration(policy.timeout)
        self.http["serversTransports"][name] = {"forwardingTimeouts": timeouts, "maxIdleConnsPerHost": 200}

    def middlewares(self, name: str, policy: ProxyPolicy) -> list[str]:
        """The middlewares of a service, in the order in which a request meets them."""
        found = []
        if policy.allow:
            found.append(self.middleware(f"{name}-allow", {"ipAllowList": {"sourceRange": [*policy.allow]}}))
        if policy.rate is not None:
            rate = {
                "average": policy.rate.average,
                "burst": policy.rate.burst,
                "period": duration(policy.rate.period),
            }
            found.append(self.middleware(f"{name}-rate", {"rateLimit": rate}))
        if policy.users:
            found.append(
                self.middleware(
                    f"{name}-users", {"basicAuth": {"users": [*policy.users], "removeHeader": True}}
                )
            )
        if policy.body_limit is not None:
            limit = {"buffering": {"maxRequestBodyBytes": policy.body_limit}}
            found.append(self.middleware(f"{name}-body", limit))
        headers: dict[str, Any] = {}
        if policy.request_headers:
            headers["customRequestHeaders"] = dict(sorted(policy.request_headers.items()))
        if policy.response_headers:
            headers["customResponseHeaders"] = dict(sorted(policy.response_headers.items()))
        if policy.hsts and policy.tls is not None:
            headers["stsSeconds"] = int(policy.hsts)
        if headers:
            found.append(self.middleware(f"{name}-headers", {"headers": headers}))
        if policy.compress:
            found.append(self.middleware(f"{name}-compress", {"compress": {}}))
        if policy.strip and policy.paths:
            prefixes = [path.rstrip("/") for path in policy.paths if path != "/"]
            found.append(self.middleware(f"{name}-strip", {"stripPrefix": {"prefixes": prefixes}}))
        # A container that is gone is no answer: another one gets the request, as long as nothing was sent.
        found.append(self.middleware(f"{name}-retry", {"retry": {"attempts": 3, "initialInterval": "50ms"}}))
        return found

    def middleware(self, name: str, value: Mapping[str, Any]) -> str:
        self.http.setdefault("middlewares", {})[name] = dict(value)
        return name

    def certificate(self, certificate: str, key: str) -> None:
        """Traefik takes a certificate's text in the place of a path."""
        pair = {"certFile": _pem(self.target, certificate), "keyFile": _pem(self.target, key)}
        certificates = self.config.setdefault("tls", {}).setdefault("certificates", [])
        if pair not in certificates:
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
        found.append((rule, rank + len(path)))
    return found


def _short(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:8]


def _pem(target: Target, path: str) -> str:
    file = target.root / Path(path)
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not a text"
        raise RenderError(f"This PEM file can't be read: {why}.", where=Where(path)) from None
    if "-----BEGIN " not in text:
        raise RenderError("This is no PEM file.", where=Where(path), hint="It begins with -----BEGIN.")
    return text
