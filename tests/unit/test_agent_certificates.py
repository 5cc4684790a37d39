"""What the agent makes of what Traefik says of its certificates, and of those that it could not get."""

from __future__ import annotations

import time
from typing import Any

from longshore.agent import certificates
from longshore.agent.proxy import Proxy

LATER = time.time() + 86400
METRICS = f"""# TYPE traefik_tls_certs_not_after gauge
traefik_tls_certs_not_after{{cn="a.test",sans="a.test",serial="1"}} {LATER:e}
traefik_tls_certs_not_after{{cn="a.test",sans="a.test",serial="0"}} 1.5e+09
traefik_tls_certs_not_after{{cn="",sans="*.b.test,b.test",serial="2"}} {LATER:e}
traefik_tls_certs_not_after{{cn="old.test",sans="old.test",serial="3"}} 1.5e+09
"""
# As Traefik 3.7 writes them.
REFUSED = (
    '2026-11-22T21:39:33Z ERR Unable to obtain ACME certificate for domains error="unable to generate a '
    "certificate for the domains [c.test]: error: one or more domains had a problem:\\n[c.test] acme: error: "
    '403 :: urn:ietf:params:acme:error:unauthorized :: http://c.test/ returned \\"404\\"." '
    'acmeCA=https://ca/dir domains=["c.test"] providerName=acme.acme'
)
DOWN = (
    '2026-11-22T21:39:33Z ERR Unable to obtain ACME certificate for domains error="cannot get ACME client '
    "get directory at 'https://ca/dir': dial tcp 10.0.0.1:443: connect: connection refused\" "
    'domains=["*.d.test","d.test"] providerName=acme.acme'
)


class Told(Proxy):
    """A proxy that says what it is told to say."""

    def __init__(self, log: str = "", metrics: str | None = METRICS, **names: str) -> None:
        self.log, self.said, self.engine = log, metrics, self  # type: ignore[assignment]
        self.names = names

    def metrics(self) -> str | None:
        return self.said

    def current(self) -> dict[str, Any]:
        return {"Id": "1"}

    def logs(self, ident: str, lines: int, since: float) -> str:
        return self.log

    def file_of(self, app: str) -> dict[str, Any]:
        domains = [{"main": name} for name in self.names.values()]
        routers = {"shop:web:0": {"service": "shop:web", "tls": {"certResolver": "acme", "domains": domains}}}
        return {"http": {"routers": routers}}


def test_a_name_is_served_by_its_own_certificate_or_by_one_with_a_star_while_it_is_valid() -> None:
    def missing(name: str) -> bool:
        return certificates.missing(Told(name=name), ["shop"]) == [name]

    assert [missing(name) for name in ("a.test", "b.test", "x.b.test", "*.b.test")] == [False] * 4
    assert [missing(name) for name in ("old.test", "c.test", "x.y.b.test", "*.a.test")] == [True] * 4


def test_where_the_proxy_counts_nothing_no_certificate_is_said_to_be_missing() -> None:
    assert certificates.missing(Told(metrics=None, name="c.test"), ["shop"]) == []


def test_what_the_server_said_is_passed_on_without_what_surrounds_it() -> None:
    said = certificates.failures(Told(f"{REFUSED}\n{DOWN}"), ["c.test", "d.test", "*.d.test", "test"], 0)
    assert said["c.test"] == (
        'acme: error: 403 :: urn:ietf:params:acme:error:unauthorized :: http://c.test/ returned "404"'
    )
    down = "get directory at 'https://ca/dir': dial tcp 10.0.0.1:443: connect: connection refused"
    assert said["d.test"] == said["*.d.test"] == down
    assert "test" not in said


def test_a_route_without_its_certificate_has_a_problem_that_says_what_to_do() -> None:
    route: dict[str, Any] = {"app": "shop", "service": "web", "problem": "", "certificates": []}
    certificates.tell(Told(REFUSED, one="a.test", two="c.test"), [route])
    assert [one["name"] for one in route["certificates"] if one["until"]] == ["a.test"]
    assert route["problem"].startswith("there is no certificate for c.test: acme: error: 403")
    assert route["problem"].endswith("`proxy.restart` orders it again")
