"""What an inventory says about certificates that the proxy orders: the value, and the settings of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal

from longshore.errors import Where
from longshore.inventory.kinds import Choice, Reading, Text, duration
from longshore.inventory.sections import ListOf, MapOf, Section, Setting
from longshore.records import dataclass

PEM = Text("a path in the project", "env/tls/shop.pem", pattern=r"(?!/)[^\x00]+", rule="a path")


@dataclass(frozen=True)
class Acme:
    """How certificates are ordered. ``env`` is what the DNS provider's client needs; secrets."""

    email: str
    server: str = "https://acme-v02.api.letsencrypt.org/directory"
    challenge: Literal["http", "dns"] = "http"
    provider: str | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca: str | None = None
    """A PEM file of the project: who vouches for the ACME server itself."""
    lifetime: float | None = None
    """How long the server's certificates are valid (s); ``None``: 90 days. It says when to renew."""
    resolvers: tuple[str, ...] = ()
    """DNS servers (``address:port``) to look for the record; none: the host's."""
    wait: float | None = None
    """Seconds to wait for the record, in place of looking for it."""


ACME = Section(
    settings=(
        Setting("email", Text("an address", "ops@example.org"), "Whose account it is.", required=True),
        Setting(
            "server",
            Text(
                "a URL",
                "https://acme-staging-v02.api.letsencrypt.org/directory",
                pattern=r"https://\S+",
                rule="a URL that begins with https://",
            ),
            "The ACME server; Let's Encrypt's staging server for trials.",
            "Let's Encrypt",
        ),
        Setting(
            "challenge",
            Choice("http or dns", "dns", ("http", "dns")),
            "How the name is proved: port 80 answers, or a DNS record is made.",
            "http",
        ),
        Setting("provider", Text("a DNS provider", "hetzner"), "With dns: the provider's name at Traefik."),
        Setting(
            "env",
            MapOf(item=Text(example="…"), key=r"[A-Z][A-Z0-9_]*", key_rule="an environment variable"),
            "With dns: what the provider's client needs. Taken for secrets.",
        ),
        Setting("ca", PEM, "Who vouches for the ACME server itself, when it is your own."),
        Setting(
            "lifetime",
            duration("24h", minimum=3600, shortest="1h"),
            "How long the server's certificates are valid. It says when to renew: 30 days before the end of "
            "90, 6 hours before that of a day, 20 minutes before that of less.",
            "90d",
        ),
        Setting(
            "resolvers",
            ListOf(
                item=Text("a DNS server", "'10.0.0.53:53'", pattern=r"\S+:\d+", rule="address:port"),
                single=True,
            ),
            "With dns: who is asked whether the record is there.",
            "the host's",
        ),
        Setting(
            "wait",
            duration("30s"),
            "With dns: so long is waited for the record, instead of looking for it.",
            "none",
        ),
    )
)


def check_acme(acme: Mapping[str, Any], reading: Reading, where: Where) -> None:
    """Report what checked settings can't be together. ``where``: the proxy's place in the inventory."""
    by_dns = acme.get("challenge") == "dns"
    if by_dns and not acme.get("provider"):
        hint = "Write provider: hetzner (https://doc.traefik.io/traefik/https/acme/#providers has the names)"
        reading.problem("proxy.acme: challenge: dns needs a provider.", acme.get("", where), hint)
    for name in ("provider", "env", "resolvers", "wait"):
        if acme.get(name) and not by_dns:
            hint = f"Write challenge: dns, or take {name} out."
            reading.problem(f"proxy.acme: {name} is for challenge: dns.", acme.get("", where), hint)
