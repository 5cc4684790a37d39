"""The balancer: what an inventory can't say of it, which routes are made of it, and what is changed in which
order at the host that it runs on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.inventory_project import loaded, problems

from longshore.agent import balancing, maintenance, overlays, pausing
from longshore.agent.fail import Refusal
from longshore.doctor.want import Wishes
from longshore.inventory.model import Environment
from longshore.render.balancer import balancer_file
from longshore.render.proxy import proxy_file
from longshore.tasks.balancing import balancers

WEB = "web: {proxy: {port: 8000, hosts: shop.test, health: /health}}"


def project(
    services: str = WEB,
    *,
    balancer: str = "{hosts: lb}",
    lb: str = "lb1: {ansible_host: 10.0.0.9}",
    more: str = "",
) -> dict[str, str]:
    """Two hosts with the app shop, and a balancer. ``more``: further lines of ``apps``."""
    return {
        "compose.yml": "services: {web: {image: web:1}, api: {image: api:1}}\n",
        "inventory/prod.yml": f"""
            all:
              vars:
                longshore:
                  balancer: {balancer}
                  apps:
                    shop: {{hosts: web, compose: compose.yml, services: {{{services}}}}}
                    {more}
              children:
                lb: {{hosts: {{{lb}}}}}
                web: {{hosts: {{h1: {{ansible_host: 10.0.0.1}}, h2: {{ansible_host: h2.test}}}}}}
                old: {{hosts: {{h3: {{ansible_host: 10.0.0.3}}}}}}
            """,
    }


def file_of(environment: Environment, host: str = "lb1") -> dict[str, Any]:
    """What the balancer on a host is to do."""
    assert environment.balancer is not None
    return balancer_file(environment.balancer, host, environment.root, "traefik:v3")


# The inventory


WRONG: list[tuple[dict[str, str], int, str]] = [
    (project(balancer="{hosts: lbs}"), 5, "There is no host or group named 'lbs'. Did you mean lb"),
    (project(balancer="{hosts: 'lb:!lb1'}"), 5, "The balancer has no host: lb:!lb1 matches none."),
    (project(balancer="{interval: 1s}"), 5, "The balancer has no host. Write hosts: lb, or give a host"),
    (project(balancer="{hosts: lb, apps: blog}"), 5, "balancer: there is no app named 'blog'."),
    (project(balancer="{hosts: lb, every: 1s}"), 5, "longshore.balancer has no setting 'every'."),
    (project("web: {memory: 1G}"), 5, "The balancer has nothing to stand before: no service of its apps"),
    (
        project("web: {proxy: {port: 8000}}"),
        7,
        "web of shop is behind the balancer, and no path is said that it answers when it is well.",
    ),
    (
        project(balancer="{hosts: h1}"),
        5,
        "h1 is a balancer, and runs web of shop behind a proxy of its own. A balancer has a host of its own."
        " Leave it out of the app: hosts: 'web:!h1'",
    ),
    (
        project(lb="lb1: {ansible_host: lb.example.org}"),
        10,
        "The hosts must know from which address the balancer lb1 asks: lb.example.org is a name. Write"
        " balancer_address: 10.0.0.5 at lb1.",
    ),
    (
        project(lb="lb1: {ansible_host: 10.0.0.9, balancer_address: [1]}"),
        10,
        "balancer_address of lb1 is no address: '[1]'. Write balancer_address: 10.0.0.5",
    ),
    (
        project(more="blog: {hosts: old, compose: compose.yml, services: {" + WEB + "}}"),
        8,
        "web of shop and web of blog both answer http://shop.test/ (at the balancer).",
    ),
    (
        project("web: {proxy: {port: 8000, hosts: shop.test, health: /, tls: {acme: true}}}"),
        7,
        "web of shop orders a certificate (tls.acme), and nothing says how: longshore.proxy.acme.",
    ),
]


@pytest.mark.parametrize(("files", "line", "sentence"), WRONG)
def test_what_a_balancer_cannot_be_is_said_with_its_place(
    tmp_path: Path, files: dict[str, str], line: int, sentence: str
) -> None:
    found = problems(tmp_path, files)
    assert len(found) == 1, found
    assert found[0].startswith(f"inventory/prod.yml:{line}:")
    assert sentence in found[0]


def test_two_balancers_cannot_both_prove_a_name_by_http(tmp_path: Path) -> None:
    services = "web: {proxy: {port: 8000, hosts: shop.test, health: /, tls: {acme: true}}}"
    lb = "lb1: {ansible_host: 10.0.0.9}, lb2: {ansible_host: 10.0.0.10}"
    files = project(services, lb=lb)
    text = files["inventory/prod.yml"].replace(
        "balancer:", "proxy: {acme: {email: a@b.c}}\n" + " " * 18 + "balancer:"
    )
    found = problems(tmp_path, {**files, "inventory/prod.yml": text})
    assert len(found) == 1
    assert "orders a certificate for shop.test on lb1 and lb2" in found[0]


def test_hosts_of_one_service_that_answer_different_things_are_refused(tmp_path: Path) -> None:
    files = project()
    own = "{ansible_host: h2.test, longshore: {apps: {shop: {services: {web: {proxy: {hosts: x.test}}}}}}}"
    text = files["inventory/prod.yml"].replace("{ansible_host: h2.test}", own)
    found = problems(tmp_path, {**files, "inventory/prod.yml": text})
    assert "web of shop is behind one balancer, and h1 and h2 answer different things." in found[0]


def test_a_host_with_the_role_is_a_balancer_without_another_word(tmp_path: Path) -> None:
    files = project(balancer="", lb="lb1: {ansible_host: 10.0.0.9, longshore: {roles: [balancer]}}")
    made = loaded(tmp_path, files).balancer
    assert made is not None
    assert (made.hosts, made.apps, made.interval) == (("lb1",), ("shop",), 1.0)


def test_an_environment_without_a_balancer_is_as_it_was(tmp_path: Path) -> None:
    made = loaded(tmp_path, project(balancer=""))
    assert made.balancer is None
    target = made.targets["shop", "h1"]
    policy = target.app.services["web"].proxy
    assert policy is not None
    assert (policy.behind, target.proxy.trusted, target.app.balanced) == (None, (), None)


def test_hosts_believe_just_the_balancers_addresses_and_leave_https_to_it(tmp_path: Path) -> None:
    tls = "hsts: 1d, tls: {certificate: a, key: b}"
    services = f"web: {{proxy: {{port: 8000, hosts: shop.test, health: /, sticky: true, {tls}}}}}"
    lb = "lb1: {ansible_host: lb.example.org, balancer_address: 10.9.0.1}, lb2: {ansible_host: 'fd00::2'}"
    made = loaded(tmp_path, project(services, lb=lb))
    target = made.targets["shop", "h1"]
    policy = target.app.services["web"].proxy
    assert policy is not None and policy.behind is not None
    assert target.proxy.trusted == policy.behind.addresses == ("10.9.0.1/32", "fd00::2/128")
    assert (policy.tls, policy.hsts, target.proxy.secure) == (None, None, False)
    routes = proxy_file(target, {"web": policy}, "traefik:v3")["dynamic"]["http"]
    assert routes["routers"]["shop:web:0"]["entryPoints"] == ["web"]
    assert routes["services"]["shop:web"]["loadBalancer"]["sticky"]["cookie"]["secure"]
    assert made.balancer is not None
    assert made.balancer.proxies["lb1"].secure
    # A host out of it is noticed after two questions and the time of one.
    assert target.app.balanced is not None
    assert target.app.balanced.seconds == 5.0


# What is rendered


def test_the_balancers_routes_are_just_these(tmp_path: Path) -> None:
    made = file_of(loaded(tmp_path, project()))
    assert made["apps"]["shop"]["backends"] == {
        "shop:web": {"http://10.0.0.1:80": "h1", "http://h2.test:80": "h2"}
    }
    assert made["apps"]["shop"]["dynamic"] == {
        "http": {
            "routers": {
                "shop:web:0": {
                    "rule": "(Host(`shop.test`))",
                    "priority": 40002,
                    "service": "shop:web",
                    "entryPoints": ["web"],
                    "middlewares": ["shop:web:check", "shop:web:retry"],
                }
            },
            "middlewares": {
                "shop:web:check": {"headers": {"customRequestHeaders": {"X-Longshore-Check": ""}}},
                "shop:web:retry": {"retry": {"attempts": 3, "initialInterval": "50ms"}},
            },
            "services": {
                "shop:web": {
                    "loadBalancer": {
                        "servers": [],
                        "serversTransport": "shop:web",
                        "healthCheck": {
                            "path": "/.longshore/check/shop/web",
                            "hostname": "shop.test",
                            "headers": {"X-Longshore-Check": "shop:web"},
                            "interval": "1s",
                            "timeout": "3s",
                            "followRedirects": False,
                        },
                    }
                }
            },
            "serversTransports": {
                "shop:web": {
                    "forwardingTimeouts": {"dialTimeout": "2s", "idleConnTimeout": "2s"},
                    "maxIdleConnsPerHost": 200,
                }
            },
        }
    }


def test_what_is_the_hosts_own_affair_is_not_done_twice(tmp_path: Path) -> None:
    services = (
        "web: {proxy: {port: 8000, hosts: ['*.shop.test'], paths: /api, strip: true,"
        " health: '/well?deep=1', sticky: true, allow: 10.0.0.0/8, rate: {average: 1}, body_limit: 1k,"
        " timeout: 1s, compress: true, request_headers: {A: b}}}"
    )
    environment = loaded(tmp_path, project(services))
    front = file_of(environment)["apps"]["shop"]["dynamic"]["http"]
    assert sorted(front["middlewares"]) == ["shop:web:check", "shop:web:retry"]
    # Only a host that has died doesn't say itself that its service is late, also after a pause.
    transport = front["serversTransports"]["shop:web"]["forwardingTimeouts"]
    assert transport["responseHeaderTimeout"] == "31s"
    service = front["services"]["shop:web"]["loadBalancer"]
    assert service["healthCheck"]["path"] == "/.longshore/check/shop/web?deep=1"
    assert service["healthCheck"]["hostname"] == "balancer.shop.test"
    target = environment.targets["shop", "h1"]
    policy = target.app.services["web"].proxy
    assert policy is not None
    own = proxy_file(target, {"web": policy}, "traefik:v3")["dynamic"]["http"]
    asked = own["routers"]["shop:web:balancer:check"]
    assert asked["rule"] == (
        "Path(`/.longshore/check/shop/web`) && Header(`X-Longshore-Check`, `shop:web`)"
        " && (ClientIP(`10.0.0.9/32`))"
    )
    assert asked["middlewares"] == ["shop:web:balancer:path"]
    assert own["middlewares"]["shop:web:balancer:path"] == {"replacePath": {"path": "/well"}}
    # Whoever else asks there doesn't reach the app, which might say yes to anything.
    others = own["routers"]["shop:web:balancer:others"]
    assert (others["rule"], others["priority"]) == (
        "Path(`/.longshore/check/shop/web`)",
        asked["priority"] - 1,
    )
    nobody = {"ipAllowList": {"sourceRange": ["255.255.255.255/32"]}}
    assert [own["middlewares"][name] for name in others["middlewares"]] == [nobody]
    # A client has a cookie of each: of the host, and of the container there.
    names = {one["services"]["shop:web"]["loadBalancer"]["sticky"]["cookie"]["name"] for one in (front, own)}
    assert len(names) == 2


def test_a_path_of_the_app_is_asked_of_a_service_as_its_containers_see_it(tmp_path: Path) -> None:
    strips = "web: {proxy: {port: 8000, paths: [/api, /api/v2], strip: true}}"
    services = strips + ", api: {proxy: {port: 8000, hosts: a.test}}"
    files = project(services)
    text = files["inventory/prod.yml"].replace(
        "{hosts: web,", "{balanced: {path: /api/v2/up, wait: 20s}, hosts: web,"
    )
    app = loaded(tmp_path, {**files, "inventory/prod.yml": text}).targets["shop", "h1"].app
    asked = {
        name: one.proxy.behind.health for name, one in app.services.items() if one.proxy and one.proxy.behind
    }
    assert asked == {"web": "/up", "api": "/api/v2/up"}
    # What is said of it by a person holds.
    assert app.balanced is not None
    assert app.balanced.seconds == 20.0


def test_neither_maintenance_nor_a_pause_takes_a_host_out(tmp_path: Path) -> None:
    target = loaded(tmp_path, project()).targets["shop", "h1"]
    policy = target.app.services["web"].proxy
    assert policy is not None
    routes = proxy_file(target, {"web": policy}, "traefik:v3")["dynamic"]
    closed = {"by": "", "why": "", "at": 0.0, "retry_after": 60, "allow": [], "page": None, "pass": "x"}
    paused = {"by": "", "why": "", "at": 0.0, "until": 0.0, "token": "t", "port": 1, "entry": 80}
    laid = maintenance.over(pausing.over(routes, paused, "shop", hold=True), closed, "shop")
    name = "shop:web:balancer:check"
    assert laid["http"]["routers"][name] == routes["http"]["routers"][name]
    assert laid["http"]["routers"]["shop:web:0"] != routes["http"]["routers"]["shop:web:0"]
    assert not [one for one in laid["http"]["routers"] if one.endswith(f":{name}")]
    assert overlays.bare(laid, "shop") == routes


# What is changed


class Traefik:
    """In the place of ``agent.proxy.Proxy``. ``down``: the URLs that don't answer."""

    def __init__(self, root: Path) -> None:
        self.root = str(root / "_proxy")
        self.dynamic = str(root / "_proxy" / "dynamic")
        Path(self.dynamic).mkdir(parents=True)
        self.engine = self
        self.runs: dict[str, Any] | None = None
        self.files: dict[str, Any] = {}
        self.down: set[str] = set()
        self.done: list[str] = []

    def image(self, ref: str) -> dict[str, Any]:
        return {"Id": ref.partition("@")[0]}

    def current(self) -> dict[str, Any] | None:
        return {"Id": "1"} if self.runs else None

    def wanted(self) -> dict[str, Any] | None:
        return self.runs

    def ensure(self, wanted: dict[str, Any]) -> None:
        self.runs = wanted
        self.done.append("ensure")

    def apps(self) -> list[str]:
        return sorted(path.stem for path in Path(self.dynamic).glob("*.yml"))

    def file_of(self, app: str) -> dict[str, Any]:
        path = Path(self.dynamic, f"{app}.yml")
        found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return found

    def put(self, app: str, config: dict[str, Any]) -> None:
        Path(self.dynamic, f"{app}.yml").write_text(json.dumps(config))
        self.done.append("put")

    def routed(self, app: str) -> dict[str, list[str]]:
        config = self.file_of(app)
        return {name: balancing.servers(config, name) for name in config["http"]["services"]}

    def metrics(self) -> None:
        return None

    def ask(self, path: str) -> dict[str, Any]:
        name = path.rpartition("/")[2].partition("@")[0]
        urls = next(urls for app in self.apps() for one, urls in self.routed(app).items() if one == name)
        return {"serverStatus": {url: "DOWN" if url in self.down else "UP" for url in urls}}


Step = Callable[..., dict[str, Any]]


@pytest.fixture
def traefik(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Traefik:
    made = Traefik(tmp_path / "state")
    monkeypatch.setattr(balancing, "Proxy", lambda *_: made)
    monkeypatch.setattr(balancing.time, "sleep", lambda _: None)
    return made


@pytest.fixture
def step(tmp_path: Path, traefik: Traefik) -> Step:
    """``step("widen", files, hosts=…)``: one step with what such a project says."""

    def take(which: str, files: dict[str, str], *, hosts: str = "h1 h2", env: str = "prod") -> dict[str, Any]:
        file = {**file_of(loaded(tmp_path / "project", files)), "interval": 0.01, "timeout": 0.01}
        args = {"do": "balance", "step": which, "environment": env, "file": file, "apps": [*file["apps"]],
                "whole": True, "hosts": hosts.split()}  # fmt: skip
        return balancing.handle(None, "", args, lambda *_, **__: None)  # type: ignore[arg-type]

    return take


def servers_of(traefik: Traefik) -> list[str]:
    return balancing.servers(traefik.file_of("shop"), "shop:web")


def test_a_plan_touches_nothing_and_says_what_a_deploy_then_does_once(step: Step, traefik: Traefik) -> None:
    said = ["the balancer starts (traefik:v3)", "web of shop: answers (Host(`shop.test`)), by h1 and h2"]
    assert step("plan", project())["changes"] == said
    assert traefik.done == []
    assert step("widen", project())["changes"] == said
    assert step("settle", project())["up"] == {"shop:web": {"h1": True, "h2": True}}
    assert traefik.done == ["ensure", "put"]
    for which in ("plan", "widen", "settle"):
        assert step(which, project())["changes"] == []
    assert traefik.done == ["ensure", "put"]


def test_a_new_host_comes_in_when_it_is_deployed_and_one_that_left_goes_then(
    step: Step, traefik: Traefik
) -> None:
    step("widen", project())
    step("settle", project())
    new = {name: text.replace("hosts: web,", "hosts: 'old:h1',") for name, text in project().items()}
    assert step("widen", new, hosts="h1 h3")["changes"] == [
        "web of shop: h3 comes in",
        "web of shop: h2.test:80 goes out",
    ]
    assert servers_of(traefik) == ["http://10.0.0.1:80"]
    step("settle", new, hosts="h1 h3")
    assert servers_of(traefik) == ["http://10.0.0.1:80", "http://10.0.0.3:80"]


def test_a_host_that_is_not_deployed_to_yet_stays_outside(step: Step, traefik: Traefik) -> None:
    step("widen", project(), hosts="h1")
    assert step("settle", project(), hosts="h1")["up"] == {"shop:web": {"h1": True}}
    assert step("plan", project(), hosts="h1")["changes"] == []
    assert step("plan", project())["changes"] == ["web of shop: h2 comes in"]


def test_names_that_go_are_answered_until_the_deploy_is_through(step: Step, traefik: Traefik) -> None:
    step("widen", project())
    step("settle", project())
    moved = project(WEB.replace("shop.test", "new.test"))
    assert step("widen", moved)["changes"] == [
        "web of shop: answers (Host(`new.test`)), too",
        "web of shop: no longer answers (Host(`shop.test`))",
    ]

    def rules() -> set[str]:
        return {one["rule"] for one in traefik.file_of("shop")["http"]["routers"].values()}

    both = {"(Host(`shop.test`))", "(Host(`new.test`))"}
    assert rules() == both
    # That deploy was taken back, and the next one begins in the same way.
    step("widen", moved)
    assert rules() == both
    step("settle", moved)
    assert rules() == {"(Host(`new.test`))"}
    assert step("plan", moved)["changes"] == []


def test_an_app_that_left_the_inventory_is_no_longer_answered(step: Step, traefik: Traefik) -> None:
    blog = "blog: {hosts: old, compose: compose.yml, services: {" + WEB.replace("shop.", "blog.") + "}}"
    step("widen", project(more=blog), hosts="h1 h2 h3")
    assert traefik.apps() == ["blog", "shop"]
    assert step("widen", project())["changes"] == ["blog is no longer answered"]
    assert traefik.apps() == ["shop"]
    assert step("widen", project())["changes"] == []


def test_another_environments_balancer_and_a_hosts_own_proxy_are_left_alone(
    step: Step, traefik: Traefik, tmp_path: Path
) -> None:
    step("widen", project())
    with pytest.raises(Refusal, match="this host is the balancer of the environment prod"):
        step("plan", project(), env="staging")
    Path(traefik.root, "balancer.json").unlink()
    release = tmp_path / "state/shop/releases/0123456789ab"
    release.mkdir(parents=True)
    (tmp_path / "state/shop/current").symlink_to("releases/0123456789ab")
    with pytest.raises(Refusal, match="this host's proxy serves shop here"):
        step("widen", project())


def test_a_tag_in_the_place_of_its_digest_is_no_other_image(step: Step, traefik: Traefik) -> None:
    step("widen", project())
    assert traefik.runs is not None
    traefik.runs["image"] += "@sha256:0"
    assert step("plan", project())["changes"] == []
    traefik.runs["image"] = "traefik:v2"
    assert step("plan", project())["changes"] == [
        "its Traefik is replaced, for its image is another one (traefik:v3)"
    ]
    traefik.runs["grace"] = 1
    assert "for its settings are other ones" in step("plan", project())["changes"][0]


def test_a_limit_that_does_not_name_the_balancer_leaves_it_alone(tmp_path: Path) -> None:
    environment = loaded(tmp_path, project())
    for limit, hosts in (
        ("", ("lb1",)),
        ("web", ()),
        ("all:!h1", ("lb1",)),
        ("all:!lb", ()),
        ("lb1", ("lb1",)),
    ):
        assert balancers(environment, limit) == hosts


def test_doctor_looks_at_a_balancers_host_as_at_one_with_a_proxy(tmp_path: Path) -> None:
    environment = loaded(tmp_path, project())
    wishes = Wishes(environment, environment.apps, here=lambda: True)
    assert wishes.hosts == ("lb1", "h1", "h2")
    wanted = wishes.of("lb1")
    assert (wanted.ports, wishes.images["lb1"], wanted.apps) == ((80,), ("traefik:v3",), ())


def test_a_host_that_does_not_answer_is_named(step: Step, traefik: Traefik) -> None:
    step("widen", project())
    traefik.down = {"http://h2.test:80"}
    assert step("settle", project())["up"] == {"shop:web": {"h1": True, "h2": False}}
