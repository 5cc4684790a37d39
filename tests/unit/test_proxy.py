"""The proxy's settings and the configuration made of them: who answers what, in which order, and what is
refused before a host is touched."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.unit.inventory_project import loaded, problems
from tests.unit.render_factory import target, text_of

from longshore.errors import RenderError
from longshore.inventory.acme import Acme
from longshore.inventory.model import ServicePolicy
from longshore.inventory.proxying import ProxyPolicy, ProxySettings, RateLimit, Tls
from longshore.render import Renderer
from longshore.render.proxy import certificates_of, host_settings, proxy_file, rules

COMPOSE = "services: {web: {image: web:1}, api: {image: api:1}}\n"


def shop(services: str, *, host: str = "") -> dict[str, str]:
    """A project with these services in the inventory, and these settings of the host's proxy."""
    return {
        "compose.yml": COMPOSE,
        "inventory/prod.yml": f"""
            all:
              hosts: {{h1: }}
              vars:
                longshore:
                  proxy: {{{host}}}
                  apps:
                    shop:
                      compose: compose.yml
                      services:
                        {services}
            """,
    }


def rendered(root: Path, *, settings: ProxySettings | None = None, **policies: ProxyPolicy) -> dict[str, Any]:
    """What ``proxy.json`` holds for these services."""
    from dataclasses import replace

    one = replace(target(root, COMPOSE), proxy=settings or ProxySettings(secure=True))
    return proxy_file(one, policies, "traefik:v3")


def routers(config: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = config["dynamic"]["http"]["routers"]
    return found


def test_a_name_beats_a_wildcard_and_that_beats_any_name_whatever_the_paths() -> None:
    def best(policy: ProxyPolicy) -> int:
        return rules(policy)[0][1]

    exact = best(ProxyPolicy(8000, hosts=("a.test",)))
    wild = best(ProxyPolicy(8000, hosts=("*.test",), paths=("/a/rather/long/path",)))
    anyone = best(ProxyPolicy(8000, paths=("/an/even/longer/path/than/that",)))
    assert exact > wild > anyone
    deep, shallow = (priority for _, priority in rules(ProxyPolicy(8000, paths=("/api/v2", "/api"))))
    assert deep > shallow


def test_a_prefix_is_whole_segments_and_a_wildcard_is_one_label() -> None:
    ((rule, _),) = rules(ProxyPolicy(8000, hosts=("a.test", "*.b.test"), paths=("/api/",)))
    names = r"(Host(`a.test`) || HostRegexp(`^[^.]+\.b\.test$`))"
    assert rule == f"{names} && (Path(`/api`) || PathPrefix(`/api/`))"
    assert rules(ProxyPolicy(8000)) == [("PathPrefix(`/`)", 2)]


def test_a_request_meets_who_may_come_in_before_anything_is_done_for_it(tmp_path: Path) -> None:
    policy = ProxyPolicy(
        8000,
        paths=("/a", "/a/b"),
        strip=True,
        allow=("10.0.0.0/8",),
        rate=RateLimit(5),
        users=("ada:$2y$05$x",),
        body_limit=10,
        compress=True,
        response_headers={"X-A": "1"},
    )
    config = rendered(tmp_path, web=policy)
    found = routers(config)
    order = [name.rpartition(":")[2] for name in found["shop:web:0"]["middlewares"]]
    assert order == ["allow", "rate", "users", "headers", "compress", "strip", "retry"]
    # Deeper prefixes first: Traefik takes the first that fits.
    assert config["dynamic"]["http"]["middlewares"]["shop:web:strip"] == {
        "stripPrefix": {"prefixes": ["/a/b", "/a"]}
    }


def test_a_body_limit_holds_no_download_event_stream_or_websocket_back(tmp_path: Path) -> None:
    found = routers(rendered(tmp_path, web=ProxyPolicy(8000, body_limit=1000)))
    free, bound = found["shop:web:0"], found["shop:web:0:body"]
    assert "shop:web:body" not in free["middlewares"]
    assert bound["middlewares"][0] == "shop:web:body"
    assert bound["rule"].endswith("&& !Method(`GET`) && !Method(`HEAD`)")
    assert bound["priority"] == free["priority"] + 1


def test_no_two_apps_or_services_can_have_one_name_at_the_proxy(tmp_path: Path) -> None:
    names = routers(rendered(tmp_path, **{"a-b": ProxyPolicy(1, hosts=("a.test",)), "a": ProxyPolicy(2)}))
    assert sorted(names) == ["shop:a-b:0", "shop:a:0"]


def test_https_has_its_own_router_and_plain_http_is_sent_on_unless_said_otherwise(tmp_path: Path) -> None:
    acme = ProxyPolicy(8000, hosts=("*.a.test", "a.test"), tls=Tls(acme=True), hsts=3600.0)
    found = routers(rendered(tmp_path, web=acme))
    assert found["shop:web:0:plain"]["middlewares"] == ["shop:web:https"]
    assert found["shop:web:0"]["entryPoints"] == ["websecure"]
    assert found["shop:web:0"]["tls"] == {
        "certResolver": "acme",
        "domains": [{"main": "*.a.test", "sans": ["a.test"]}],
    }
    both = routers(rendered(tmp_path, web=ProxyPolicy(8000, tls=Tls(acme=True), redirect=False)))
    assert both["shop:web:0:plain"]["middlewares"] == both["shop:web:0"]["middlewares"]


def test_a_name_that_two_hosts_answer_is_not_proved_by_http_and_that_is_said_before_either_is_touched(
    tmp_path: Path,
) -> None:
    services = "web: {proxy: {port: 8000, hosts: [a.test, b.test], tls: {acme: true}}}"
    files = shop(services, host="acme: {email: a@b.c}")
    three = files["inventory/prod.yml"].replace("hosts: {h1: }", "hosts: {h1: , h2: , h3: }")
    said = "with challenge: http only the host that is asked for the name can prove it."
    found = problems(tmp_path, {**files, "inventory/prod.yml": three})
    for name, problem in zip(("a.test", "b.test"), found, strict=True):
        assert f"web of shop orders a certificate for {name} on h1 and h2, and {said}" in problem
    dns = three.replace("email: a@b.c", "email: a@b.c, challenge: dns, provider: hetzner")
    loaded(tmp_path, {**files, "inventory/prod.yml": dns})
    address = three.replace("[a.test, b.test]", "10.0.0.1")
    assert len(problems(tmp_path, {**files, "inventory/prod.yml": address})) == 2, "once, not for each host"


def test_each_name_has_a_certificate_of_its_own_but_those_that_a_star_covers() -> None:
    assert certificates_of(["a.test", "b.test"]) == [{"main": "a.test"}, {"main": "b.test"}]
    assert certificates_of(["www.a.test", "*.a.test", "x.y.a.test"]) == [
        {"main": "*.a.test"},
        {"main": "x.y.a.test"},
    ]
    assert certificates_of(["a.test", "*.a.test"]) == [{"main": "*.a.test", "sans": ["a.test"]}]


def test_behind_a_load_balancer_addresses_are_what_it_says_they_are(tmp_path: Path) -> None:
    trusting = ProxySettings(trusted=("10.0.0.0/8",))
    policy = ProxyPolicy(8000, allow=("1.2.3.4/32",), rate=RateLimit(5))
    made = rendered(tmp_path, settings=trusting, web=policy)["dynamic"]["http"]["middlewares"]
    strategy = {"ipStrategy": {"excludedIPs": ["10.0.0.0/8"]}}
    assert made["shop:web:allow"]["ipAllowList"] == {"sourceRange": ["1.2.3.4/32"], **strategy}
    assert made["shop:web:rate"]["rateLimit"]["sourceCriterion"] == strategy


def test_the_proxy_itself_takes_the_https_port_only_when_an_app_of_the_host_asks_for_it(
    tmp_path: Path,
) -> None:
    plain = loaded(tmp_path, shop("web: {proxy: {port: 8000}}")).targets["shop", "h1"]
    assert plain.proxy.ports == (80,)
    assert sorted(host_settings(plain.proxy, plain.root, "traefik:v3")["static"]["entryPoints"]) == ["web"]
    files = shop("web: {proxy: {port: 8000, hosts: a.test, tls: {acme: true}}}", host="acme: {email: a@b.c}")
    secure = loaded(tmp_path, files).targets["shop", "h1"]
    assert secure.proxy.ports == (80, 443)
    static = host_settings(secure.proxy, secure.root, "traefik:v3")["static"]
    assert sorted(static["entryPoints"]) == ["web", "websecure"]


def test_what_a_staging_server_gave_is_never_taken_for_a_certificate_of_the_real_one(tmp_path: Path) -> None:
    def storage(server: str) -> str:
        settings = ProxySettings(acme=Acme("a@b.c", server=server))
        static = rendered(tmp_path, settings=settings)["host"]["static"]
        return str(static["certificatesResolvers"]["acme"]["acme"]["storage"])

    servers = ["https://acme-v02.le.test/directory", "https://acme-staging-v02.le.test/directory"]
    assert [storage(one) for one in servers] == [
        "/acme/acme-v02-le-test-directory.json",
        "/acme/acme-staging-v02-le-test-directory.json",
    ]


def test_an_authority_of_your_own_says_when_to_renew_and_where_records_are_looked_for(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    acme = Acme(
        "a@b.c",
        server="https://ca.test/acme",
        challenge="dns",
        provider="httpreq",
        ca="ca.pem",
        lifetime=86400.0,
        resolvers=("10.0.0.53:53",),
        wait=30.0,
    )
    made = rendered(tmp_path, settings=ProxySettings(acme=acme))["host"]
    resolver = made["static"]["certificatesResolvers"]["acme"]["acme"]
    assert resolver["certificatesDuration"] == 24
    assert resolver["dnsChallenge"] == {
        "provider": "httpreq",
        "resolvers": ["10.0.0.53:53"],
        "propagation": {"disableChecks": True, "delayBeforeChecks": "30s"},
    }
    assert made["env"]["LEGO_CA_CERTIFICATES"] == "/etc/traefik/own/acme-ca.pem"
    assert list(made["files"]) == ["acme-ca.pem"]


def test_what_acme_needs_is_in_the_proxys_environment_and_no_argument(tmp_path: Path) -> None:
    acme = Acme("a@b.c", challenge="dns", provider="hetzner", env={"HETZNER_API_KEY": "hidden"})
    made = host_settings(ProxySettings(acme=acme), tmp_path, "traefik:v3")
    assert made["env"] == {"HETZNER_API_KEY": "hidden"}
    assert "hidden" not in json.dumps(made["static"])


@pytest.mark.parametrize(
    ("services", "host", "sentence"),
    [
        ("web: {proxy: {hosts: a.test}}", "", "needs port"),
        ("web: {proxy: {port: 8000, strip: true}}", "", "strip takes a prefix off, and there are no paths."),
        ("web: {proxy: {port: 8000, paths: [/a, /], strip: true}}", "", "and paths has /."),
        ("web: {proxy: {port: 8000, paths: api}}", "", "a path that begins with /"),
        ("web: {proxy: {port: 8000, hosts: 'a b'}}", "", "a host name (or *.example.org)"),
        ("web: {proxy: {port: 8000, hosts: 'x.*.test'}}", "", "a host name (or *.example.org)"),
        ("web: {proxy: {port: 8000, hsts: 1d}}", "", "hsts needs tls."),
        ("web: {proxy: {port: 8000, tls: {certificate: a.pem}}}", "", "has a certificate and no key."),
        ("web: {proxy: {port: 8000, tls: {key: a.pem}}}", "", "has a key and no certificate."),
        ("web: {proxy: {port: 8000, tls: {}}}", "", "says of no certificate where it comes from."),
        (
            "web: {proxy: {port: 8000, tls: {acme: true, certificate: a, key: b}}}",
            "",
            "has acme and certificate.",
        ),
        ("web: {proxy: {port: 8000, tls: {acme: true}}}", "acme: {email: a@b.c}", "hosts says no name"),
        (
            "web: {proxy: {port: 8000, hosts: a.test, tls: {acme: true}}}",
            "",
            "web of shop orders a certificate (tls.acme), and nothing says how: longshore.proxy.acme.",
        ),
        (
            "web: {proxy: {port: 8000, hosts: '*.a.test', tls: {acme: true}}}",
            "acme: {email: a@b.c}",
            "only given by challenge: dns.",
        ),
        ("web: {}", "acme: {email: a@b.c, challenge: dns}", "challenge: dns needs a provider."),
        ("web: {}", "acme: {server: 'https://a.test'}", "acme needs email"),
        ("web: {}", "acme: {email: a@b.c, wait: 1s}", "proxy.acme: wait is for challenge: dns."),
        (
            "web: {proxy: {port: 8000, hosts: 10.0.0.1, tls: {acme: true}}}",
            "acme: {email: a@b.c}",
            "orders a certificate for 10.0.0.1, and they are given for names, not addresses.",
        ),
        ("web: {}", "http: 8080, https: 8080", "http and https are both port 8080."),
        ("web: {}", "metrics: 8791", "the ports 8790 to 8799 are for the proxy's own API."),
        ("web: {proxy: {port: 8000, users: 'ada:secret'}}", "", "a line of htpasswd"),
        ("web: {proxy: {port: 8000, allow: 10.0.0.300}}", "", "is no address or network."),
        ("web: {proxy: {port: 8000, response_headers: {'a b': c}}}", "", "the name of an HTTP header"),
        (
            "{web: {proxy: {port: 8000, hosts: A.test}}, api: {proxy: {port: 1, hosts: a.test, paths: /}}}",
            "",
            "web of shop and api of shop both answer http://a.test/ (on h1).",
        ),
    ],
)
def test_a_mistake_is_a_sentence_with_its_place_and_once(
    tmp_path: Path, services: str, host: str, sentence: str
) -> None:
    (problem,) = problems(tmp_path, shop(services, host=host))
    assert sentence in problem
    assert problem.startswith("inventory/prod.yml:")


def test_two_apps_of_a_host_that_claim_the_same_are_told_and_on_two_hosts_they_may(tmp_path: Path) -> None:
    web = "{proxy: {port: 80}}"

    def files(blog: str) -> dict[str, str]:
        return {
            "inventory/prod.yml": f"""
                all:
                  hosts: {{h1: , h2: }}
                  vars:
                    longshore:
                      apps:
                        shop: {{compose: compose.yml, hosts: h1, services: {{web: {web}}}}}
                        blog: {{compose: compose.yml, hosts: {blog}, services: {{web: {web}}}}}
                """
        }

    (problem,) = problems(tmp_path, files("all"))
    assert "web of shop and web of blog both answer http://any host name/ (on h1)." in problem
    assert loaded(tmp_path, files("h2")).targets["blog", "h2"].proxy.ports == (80,)


def _pair(folder: Path, name: str) -> None:
    done = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-subj", "/CN=a.test", "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem"],
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (folder / f"{name}.key").chmod(0o600)


def test_a_certificate_that_is_not_for_its_key_or_a_key_that_others_can_read_is_refused(
    tmp_path: Path,
) -> None:
    _pair(tmp_path, "one")
    _pair(tmp_path, "two")

    def refused(certificate: str, key: str) -> str:
        with pytest.raises(RenderError) as raised:
            rendered(tmp_path, web=ProxyPolicy(8000, tls=Tls(certificate=certificate, key=key)))
        return str(raised.value)

    assert refused("one.pem", "two.key") == "one.pem: This certificate is not for the key two.key."
    assert "No such file" in refused("none.pem", "one.key")
    assert "This is no PEM file." in refused("compose.yml", "one.key")
    (tmp_path / "one.key").chmod(0o640)
    assert refused("one.pem", "one.key").endswith("Others can read this private key. chmod 600 one.key")
    (tmp_path / "one.key").chmod(0o600)
    config = rendered(tmp_path, web=ProxyPolicy(8000, tls=Tls(certificate="one.pem", key="one.key")))
    (pair,) = config["dynamic"]["tls"]["certificates"]
    assert "PRIVATE KEY" in pair["keyFile"]


def test_a_release_names_a_file_for_the_proxy_that_counts_as_a_secret(tmp_path: Path) -> None:
    policy = ProxyPolicy(8000, users=("ada:$2y$05$x",))
    bundle = Renderer().render(target(tmp_path, COMPOSE, services={"web": ServicePolicy(proxy=policy)}))
    (file,) = [one for one in bundle.files if one.path == "proxy.json"]
    assert (file.secret, file.mode) == (True, 0o600)
    said = json.loads(text_of(bundle, "proxy.json"))
    assert said["services"] == {"web": {"name": "shop:web", "port": 8000, "drain": 30.0}}


@pytest.mark.parametrize(
    ("compose", "more", "gap"),
    [
        ("{image: w}", {}, ""),
        ("{image: w, ports: ['8080:80']}", {}, "it publishes port 8080"),
        ("{image: w, container_name: web}", {}, "it has a fixed container_name"),
        ("{image: w, volumes: ['data:/data']}", {}, "it writes to /data (say overlap: true where two may)"),
        ("{image: w, volumes: ['data:/data:ro']}", {}, ""),
        (
            "{image: w, volumes: [{type: volume, source: data, target: /data, read_only: '${RO:-false}'}]}",
            {},
            "it writes to /data (say overlap: true where two may)",
        ),
        (
            "{image: w, volumes: [{type: volume, source: data, target: /data, read_only: '${RO:-true}'}]}",
            {},
            "",
        ),
        ("{image: w, volumes: ['data:/data']}", {"overlap": True}, ""),
        ("{image: w}", {"overlap": False}, "overlap is false"),
    ],
)
def test_what_keeps_a_service_from_running_twice_is_known_before_any_host_is_asked(
    tmp_path: Path, compose: str, more: dict[str, Any], gap: str
) -> None:
    policy = ServicePolicy(proxy=ProxyPolicy(8000), **more)
    text = f"services: {{web: {compose}}}\nvolumes: {{data: }}\n"
    facts = Renderer().render(target(tmp_path, text, services={"web": policy})).services["web"]
    assert (facts.twin, facts.gap) == (not gap, gap)


def test_a_service_that_takes_the_proxys_own_port_is_refused(tmp_path: Path) -> None:
    text = "services: {web: {image: w}, db: {image: d, ports: ['80:5432']}}\n"
    with pytest.raises(RenderError, match="db publishes port 80, which the host's proxy takes"):
        Renderer().render(target(tmp_path, text, services={"web": ServicePolicy(proxy=ProxyPolicy(8000))}))
