"""What an inventory says about the proxy in front of services: the values, and the settings that they are
read from."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from longshore.errors import Where
from longshore.inventory.acme import ACME, PEM, Acme, check_acme
from longshore.inventory.kinds import CPUS, Flag, Reading, Text, Whole, duration, size
from longshore.inventory.nodes import Node
from longshore.inventory.sections import ListOf, Section, Setting, headers, own
from longshore.records import dataclass

_LABEL = r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)"


@dataclass(frozen=True)
class RateLimit:
    """``average`` requests a ``period`` (s) from one address, ``burst`` at once."""

    average: int
    burst: int = 1
    period: float = 1.0


@dataclass(frozen=True)
class Tls:
    """Where a route's certificate comes from: ACME, or files of the project (PEM)."""

    acme: bool = False
    certificate: str | None = None
    key: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Behind:
    """That a balancer of ours stands before a service, and does its ``tls``, ``redirect`` and ``hsts``."""

    addresses: tuple[str, ...]
    """The networks of the balancer's hosts, one for each: who may ask for ``health``."""
    health: str
    """The path by which a container says that it is well."""
    secure: bool = False
    """The balancer lets HTTPS in only."""


@dataclass(frozen=True)
class ProxyPolicy:
    """How requests come to a service. Times in seconds, sizes in bytes; ``None``: no such bound."""

    port: int
    hosts: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    """Prefixes; empty for everything."""
    strip: bool = False
    health: str | None = None
    """A path that the proxy asks of each container; one that fails gets no requests."""
    health_interval: float = 5.0
    health_timeout: float = 3.0
    timeout: float | None = None
    """For the beginning of an answer. How long an answer then takes is its own affair."""
    body_limit: int | None = None
    sticky: bool = False
    compress: bool = False
    request_headers: Mapping[str, str] = field(default_factory=dict)
    response_headers: Mapping[str, str] = field(default_factory=dict)
    users: tuple[str, ...] = field(default=(), repr=False)
    """Lines of htpasswd (``name:hash``)."""
    rate: RateLimit | None = None
    allow: tuple[str, ...] = ()
    """Networks that may come in; empty for all."""
    tls: Tls | None = None
    redirect: bool = True
    """With ``tls``: plain HTTP is sent on to HTTPS."""
    hsts: float | None = None
    drain: float = 30.0
    behind: Behind | None = None
    where: Where = field(default=Where(""), compare=False)
    """The place in the inventory."""


@dataclass(frozen=True)
class ProxySettings:
    """The proxy of a host, one for all of its applications."""

    image: str = "traefik:v3"
    http: int = 80
    https: int = 443
    acme: Acme | None = None
    access_log: bool = False
    metrics: int | None = None
    """A port on 127.0.0.1 with Prometheus metrics."""
    trusted: tuple[str, ...] = ()
    """Networks of load balancers whose ``X-Forwarded-*`` headers are believed."""
    cpus: float | None = None
    memory: int | None = None
    grace: float = 10.0
    """How long an old proxy finishes what it has when a new one has taken over."""
    secure: bool = False
    """An app of the host asks for HTTPS: the port for it is taken."""

    @property
    def ports(self) -> tuple[int, ...]:
        """The host's ports that it takes."""
        return (
            self.http,
            *((self.https,) if self.secure else ()),
            *((self.metrics,) if self.metrics else ()),
        )


class Networks(Text):
    """An address, or a network in CIDR notation."""

    def read(self, node: Node, name: str, reading: Reading) -> str | None:
        text = super().read(node, name, reading)
        if text is None:
            return None
        try:
            return str(ipaddress.ip_network(text, strict=False))
        except ValueError:
            hint = self.hint(name)
            reading.problem(f"{name}: {text[:60]!r} is no address or network.", node.where, hint)
            return None


_NETWORKS = ListOf(item=Networks("a network", "10.0.0.0/8"), single=True, example="[10.0.0.0/8]")


POLICY = Section(
    settings=(
        Setting(
            "port",
            Whole("a port", "8000", minimum=1, maximum=65535),
            "The container's port that answers HTTP.",
            required=True,
        ),
        Setting(
            "hosts",
            ListOf(
                item=Text(
                    "a host name",
                    "shop.example.org",
                    pattern=rf"(\*\.)?{_LABEL}(\.{_LABEL})*",
                    rule="a host name (or *.example.org)",
                ),
                single=True,
                example="[shop.example.org]",
            ),
            "Host names that are answered; any, when not said.",
        ),
        Setting(
            "paths",
            ListOf(
                item=Text("a path", "/api", pattern=r"/[^\s`\x00]*", rule="a path that begins with /"),
                single=True,
                example="[/api]",
            ),
            "Path prefixes that are answered (whole segments: /api is not /apiary); all, when not said.",
        ),
        Setting("strip", Flag(), "Whether the prefix is taken off before the service sees it.", "false"),
        Setting(
            "health",
            Text("a path", "/health", pattern=r"/[^\s\x00]*", rule="a path that begins with /"),
            "The proxy asks each container for it, and leaves one out that doesn't answer well.",
        ),
        Setting(
            "health_interval",
            duration("5s", minimum=0.1, shortest="100ms"),
            "How often.",
            "5s",
        ),
        Setting(
            "health_timeout",
            duration("3s", minimum=0.1, shortest="100ms"),
            "When that is taken for no answer.",
            "3s",
        ),
        Setting(
            "timeout",
            duration("30s", minimum=0.1, shortest="100ms"),
            "The time in which an answer must begin; the request gets a 504 then.",
            "none",
        ),
        Setting(
            "body_limit",
            size("10M", minimum=1, shortest="1"),
            "The largest body of a request (not of GET and HEAD); more gets a 413.",
            "none",
        ),
        Setting("sticky", Flag(), "Whether a client stays with one container, by a cookie.", "false"),
        Setting("compress", Flag(), "Whether answers are compressed for clients that take it.", "false"),
        Setting("request_headers", headers("v1"), "Headers that the service gets."),
        Setting("response_headers", headers("nosniff"), "Headers that the client gets."),
        Setting(
            "users",
            ListOf(
                item=Text(
                    "a line of htpasswd",
                    "'ada:$2y$05$…'",
                    pattern=r"[^\s:]+:(\$2[aby]\$|\$apr1\$|\{SHA\})\S+",
                    rule="a line of htpasswd (name:hash, bcrypt)",
                    secret=True,
                ),
                single=True,
            ),
            "Who may come in, by name and password (`htpasswd -nB NAME`). Taken for secrets.",
        ),
        Setting(
            "rate",
            Section(
                settings=(
                    Setting(
                        "average",
                        Whole("a whole number", "100", minimum=1),
                        "Requests a period from one address.",
                        required=True,
                    ),
                    Setting("burst", Whole("a whole number", "50", minimum=1), "So many at once.", "1"),
                    Setting("period", duration("1s", minimum=0.001, shortest="1ms"), "The period.", "1s"),
                )
            ),
            "A bound for each address; what is over it gets a 429.",
        ),
        Setting("allow", _NETWORKS, "Networks that may come in; all others get a 403.", "all"),
        Setting(
            "tls",
            Section(
                settings=(
                    Setting("acme", Flag(), "A certificate is ordered (proxy.acme).", "false"),
                    Setting("certificate", PEM, "A PEM file of the project, with its chain."),
                    Setting("key", PEM, "Its private key; a PEM file that only you can read."),
                ),
                one_of=("acme", "certificate"),
            ),
            "HTTPS, and where the certificate comes from.",
        ),
        Setting("redirect", Flag(), "With tls: whether plain HTTP is sent on to HTTPS.", "true"),
        Setting("hsts", duration("365d"), "With tls: for how long browsers ask for HTTPS only.", "none"),
        Setting(
            "drain",
            duration("30s"),
            "What requests that are under way have to finish, before the old container stops.",
            "30s",
        ),
    )
)

_PORT = Whole("a port", "8080", minimum=1, maximum=65535)

PROXY = Section(
    settings=(
        Setting(
            "image",
            Text("an image", "traefik:v3.7", pattern=r"\S+", rule="an image"),
            "Traefik's image, version 3.",
            "traefik:v3",
        ),
        Setting("http", _PORT, "The port for plain HTTP.", "80"),
        Setting("https", _PORT, "The port for HTTPS; taken when a service asks for tls.", "443"),
        Setting("acme", ACME, "How certificates are ordered."),
        Setting("access_log", Flag(), "Whether each request is logged (as the container's log).", "false"),
        Setting("metrics", _PORT, "A port on 127.0.0.1 with Prometheus metrics.", "none"),
        Setting(
            "trusted", _NETWORKS, "Load balancers in front, whose X-Forwarded-* headers are believed.", "none"
        ),
        Setting("cpus", CPUS, "Its CPU limit."),
        Setting("memory", size("256M", minimum=6 * 1024 * 1024, shortest="6M"), "Its memory limit."),
        Setting(
            "grace",
            duration("10s"),
            "How long the old proxy finishes what it has, when a new one has taken over.",
            "10s",
        ),
    )
)


def proxy_policy(found: Mapping[str, Any] | None, reading: Reading) -> ProxyPolicy | None:
    """The value of checked settings; ``None`` without any. What they can't be together is reported."""
    if not found or "port" not in found:
        return None
    values = own(found)
    rate, tls = values.pop("rate", None), values.pop("tls", None)
    if not reading.failed:
        _check(found, tls, reading)
    values["hosts"] = tuple(host.lower() for host in values.get("hosts", ()))
    return ProxyPolicy(
        where=found.get("", Where("")),
        **values,
        rate=RateLimit(**own(rate)) if rate and "average" in rate else None,
        tls=None if tls is None else Tls(**own(tls)),
    )


def _check(found: Mapping[str, Any], tls: Mapping[str, Any] | None, reading: Reading) -> None:
    where = found.get("", Where(""))
    paths = found.get("paths", ())
    if found.get("strip") and (not paths or any(not path.strip("/") for path in paths)):
        why = "there are no paths" if not paths else "paths has /"
        hint = "Write paths: [/api], or take strip out. / goes to a service of its own."
        reading.problem(f"proxy: strip takes a prefix off, and {why}.", where, hint)
    if tls is None:
        if found.get("hsts"):
            reading.problem("proxy: hsts needs tls.", where, "Browsers believe it over HTTPS only.")
        return
    where = tls.get("", where)
    for one, other in (("certificate", "key"), ("key", "certificate")):
        if tls.get(one) and not tls.get(other):
            reading.problem(f"proxy.tls has a {one} and no {other}.", where, "Name both files.")
    if not (tls.get("acme") or tls.get("certificate") or tls.get("key")):
        hint = "Write tls: {acme: true}, or tls: {certificate: env/tls/shop.pem, key: env/tls/shop.key}"
        reading.problem("proxy.tls says of no certificate where it comes from.", where, hint)
    if tls.get("acme") and not found.get("hosts"):
        reading.problem("proxy.tls orders a certificate, and hosts says no name for it.", where)


_APIS = range(8790, 8800)
"""Ports on 127.0.0.1 where the agent asks the proxy (``agent.proxy``)."""


def _check_settings(found: Mapping[str, Any], reading: Reading) -> None:
    where = found.get("", Where(""))
    ports = {"http": found.get("http", 80), "https": found.get("https", 443), "metrics": found.get("metrics")}
    for name, port in ports.items():
        if port in _APIS:
            message = (
                f"proxy.{name}: the ports {_APIS.start} to {_APIS.stop - 1} are for the proxy's own API."
            )
            reading.problem(message, where)
        for other, taken in ports.items():
            if name < other and port is not None and port == taken:
                reading.problem(f"proxy: {name} and {other} are both port {port}.", where)
    if found.get("acme"):
        check_acme(found["acme"], reading, where)


def proxy_settings(found: Mapping[str, Any] | None, reading: Reading) -> ProxySettings:
    """The value of checked settings of a host. What they can't be together is reported."""
    if found and not reading.failed:
        _check_settings(found, reading)
    values = own(found)
    acme = values.pop("acme", None)
    return ProxySettings(**values, acme=Acme(**own(acme)) if acme and "email" in acme else None)
