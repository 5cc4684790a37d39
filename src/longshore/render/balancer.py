"""The balancer's configuration: Traefik before the proxies of the hosts, for all apps that are behind it.

As for a host's proxy, everything is decided here, and the agent brings it about
(:mod:`longshore.agent.balancing`). Traefik's options are those of its reference for version 3.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from longshore.agent import wire
from longshore.inventory.balancer import Balancer, Front
from longshore.inventory.proxying import ProxyPolicy
from longshore.render.proxy import (
    CHECK,
    IDLE,
    Dynamic,
    check_path,
    cookie,
    duration,
    host_settings,
    is_secure,
    named,
)

_DIAL = 2.0
"""Seconds after which a host that doesn't take a connection is given up, and the next one asked."""
_LATER = wire.LONGEST_PAUSE + 5
"""Seconds by which a host may answer later than it should: it may hold requests back for a pause."""


def balancer_file(balancer: Balancer, host: str, root: Path, image: str) -> dict[str, Any]:
    """What the balancer on ``host`` is to do: ``host``, the Traefik itself (see ``Proxy.ensure``); ``apps``,
    by name Traefik's configuration (``dynamic``, its services without servers) and ``backends``, by the name
    of Traefik's service the hosts' names by URL. ``image``: pinned where that was possible.

    Raises ``RenderError`` for a certificate that can't be read.
    """
    apps: dict[str, Any] = {}
    for app in balancer.apps:
        dynamic = _Fronts(root, balancer)
        backends = {}
        for front in (one for one in balancer.fronts if one.app == app):
            name = named(app, front.service)
            dynamic.front(name, front)
            backends[name] = {backend.url: backend.host for backend in front.backends}
        apps[app] = {"dynamic": dynamic.config, "backends": backends}
    return {
        "host": host_settings(balancer.proxies[host], root, image),
        "apps": apps,
        "interval": balancer.interval,
        "timeout": balancer.timeout,
    }


class _Fronts(Dynamic):
    """The services of one app, each with the hosts' proxies as its servers."""

    def __init__(self, root: Path, balancer: Balancer) -> None:
        super().__init__(root)
        self.asked = balancer

    def front(self, name: str, front: Front) -> None:
        """Add a service; only what is the balancer's of its policy counts."""
        mine = ProxyPolicy(
            port=front.policy.port,
            hosts=front.policy.hosts,
            paths=front.policy.paths,
            health=front.policy.health,
            tls=front.policy.tls,
            redirect=front.policy.redirect,
            hsts=front.policy.hsts,
            sticky=front.policy.sticky,
            timeout=front.policy.timeout,
        )
        self.add(name, mine)

    def middlewares(self, name: str, policy: ProxyPolicy) -> list[str]:
        """Those of a host's proxy that are left, after what a client may not say."""
        # Only we may ask as the balancer does: past the allow-list, the passwords and maintenance.
        closed = self.middleware(named(name, "check"), {"headers": {"customRequestHeaders": {CHECK: ""}}})
        return [closed, *super().middlewares(name, policy)]

    def balancer(self, name: str, policy: ProxyPolicy) -> None:
        query = (policy.health or "").partition("?")[2]
        headers = {CHECK: name}
        if policy.tls is not None:  # else an app that insists on HTTPS would send the question there
            headers["X-Forwarded-Proto"] = "https"
        health: dict[str, Any] = {
            "path": check_path(name) + (f"?{query}" if query else ""),
            "interval": duration(self.asked.interval),
            "timeout": duration(self.asked.timeout),
            "headers": headers,
            "followRedirects": False,
        }
        if policy.hosts:
            health["hostname"] = policy.hosts[0].replace("*", "balancer")
        service: dict[str, Any] = {"servers": [], "serversTransport": name, "healthCheck": health}
        if policy.sticky:
            service["sticky"] = {"cookie": cookie(named(name, "host"), secure=is_secure(policy))}
        self.http["services"][name] = {"loadBalancer": service}
        timeouts = {"dialTimeout": duration(_DIAL), "idleConnTimeout": duration(IDLE)}
        if policy.timeout is not None:  # the host's own answer comes first, unless it has died
            timeouts["responseHeaderTimeout"] = duration(policy.timeout + _LATER)
        self.http["serversTransports"][name] = {"forwardingTimeouts": timeouts, "maxIdleConnsPerHost": 200}
