"""The project at the top of the repository deploys the two worked systems, and keeps its promises."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from longshore.inventory import Environment, load
from longshore.render import Renderer, render
from longshore.roles import find_role

ROOT = Path(__file__).parents[2]
SYSTEMS = ("excel2doc", "universal_bi")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as a person has it who copied every ``.env.example``."""
    root = tmp_path_factory.mktemp("project")
    for name in ("inventory", "env", "roles", "templates", "examples"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for example in (root / "env").rglob("*.env.example"):
        shutil.copy(example, example.with_suffix(""))
    return root


@pytest.fixture(scope="module", params=["demo", "demo-bi", "staging", "prod"])
def environment(project: Path, request: pytest.FixtureRequest) -> Environment:
    return load(project, request.param)


def keys(path: Path) -> set[str]:
    return set(re.findall(r"^([A-Z0-9_]+)=", path.read_text(), re.MULTILINE))


def compose(system: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "examples" / system / "compose.yml").read_text())
    return loaded


def test_every_environment_renders_for_every_host(environment: Environment) -> None:
    renderer = Renderer()
    for target in environment.targets.values():
        bundle = render(target, renderer=renderer)
        assert bundle.services, f"{target.host.name} runs nothing of {target.app.name}"
        assert {"compose.yml", "longshore.yml", ".env"} <= {file.path for file in bundle.files}


def test_every_service_of_every_environment_has_all_limits_and_rotation(environment: Environment) -> None:
    for target in environment.targets.values():
        for name in compose(target.app.name)["services"]:
            policy = target.app.services[name]
            assert policy.cpus and policy.memory and policy.pids, f"{target.app.name}.{name}"
            assert policy.logging is not None
            assert policy.logging.max_size and policy.logging.max_file


def test_the_demo_has_its_databases_on_the_first_host_only() -> None:
    demo = load(ROOT, "demo")
    first, second = (render(demo.targets["excel2doc", host]) for host in ("h1", "h2"))
    assert set(first.services) == {"api", "postgres", "redis"}
    assert set(second.services) == {"api"}
    for host in ("h1", "h2"):
        target = demo.targets["excel2doc", host]
        assert target.env["POSTGRES_HOST"].value == demo.hosts["h1"].ssh.address
        assert target.env["REDIS_HOST"].value == demo.hosts["h1"].ssh.address


def test_every_service_of_the_demo_has_limits() -> None:
    """Not which ones: the README asks people to change them."""
    services = load(ROOT, "demo").targets["excel2doc", "h1"].app.services
    assert set(services) == {"api", "postgres", "redis"}
    assert all(policy.cpus and policy.memory and policy.pids for policy in services.values())


def test_databases_are_published_on_an_inner_address_only(environment: Environment) -> None:
    for target in environment.targets.values():
        bundle = render(target)
        for name, facts in bundle.services.items():
            if name != "api":
                for port in facts.ports:
                    assert port.startswith(str(target.vars["private_address"])), f"{name}: {port}"


def test_production_reaches_its_database_over_the_inner_network(project: Path) -> None:
    prod = load(project, "prod")
    assert prod.targets["excel2doc", "doc1"].env["POSTGRES_HOST"].value == "198.51.100.20"
    assert set(render(prod.targets["excel2doc", "docdb1"]).services) == {"postgres", "redis"}
    assert render(prod.targets["excel2doc", "doc2"]).services["api"].platform == "linux/arm64"


@pytest.mark.parametrize("system", SYSTEMS)
def test_no_secret_gets_into_a_command(system: str) -> None:
    for name, service in compose(system)["services"].items():
        said = json.dumps([service.get("command"), service.get("healthcheck", {}).get("test")])
        assert not re.search(r"(?<!\$)\$\{?\w*(PASSWORD|SECRET|KEY)", said), f"{system}.{name}"


def test_excel2doc_has_an_example_of_every_key_that_its_compose_file_reads() -> None:
    text = (ROOT / "examples/excel2doc/compose.yml").read_text()
    read = set(re.findall(r"(?<!\$)\$\{([A-Z0-9_]+)", text))
    assert keys(ROOT / "examples/excel2doc/.env.example") == read


@pytest.mark.parametrize("system", SYSTEMS)
def test_env_files_give_only_keys_that_the_system_reads(project: Path, system: str) -> None:
    known = keys(ROOT / "examples" / system / ".env.example")
    for name in ("demo", "demo-bi", "staging", "prod"):
        environment = load(project, name)
        for host in environment.apps.get(system, ()):
            given = set(environment.targets[system, host].env)
            assert given <= known, f"{name}: {sorted(given - known)}"
            if system == "universal_bi":
                assert given == known, f"{name} lacks {sorted(known - given)}"


def test_no_secret_of_a_real_environment_is_committed() -> None:
    listed = subprocess.run(["git", "ls-files", "env"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    for name in listed.stdout.split():
        if not name.endswith((".example", ".gitignore")):
            assert name.split("/")[1].startswith("demo"), name
            secrets = re.findall(r"^\w*(?:PASSWORD|SECRET_KEY)=(.+)", (ROOT / name).read_text(), re.MULTILINE)
            assert all(value.startswith("practice_only") for value in secrets), name


class _Excel2Doc(BaseHTTPRequestHandler):
    """Answers a conversion as the real one does, or with ``page`` when the test says so."""

    page = "<tr><td>answer</td><td>42</td></tr>"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        good = self.path == "/api/v1/convert?format=html" and b'name="file"' in body and b"answer,42" in body
        self.send_response(200 if good else 422)
        self.end_headers()
        self.wfile.write(type(self).page.encode())

    def log_message(self, *_: object) -> None:
        """Nothing on the terminal."""


@pytest.fixture
def server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Excel2Doc) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_the_projects_own_role_checks_a_real_conversion(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    role = find_role("excel2doc", ROOT)
    assert role is not None
    converts = role.checks["converts"]
    assert converts({"url": server + "/"}) is None
    monkeypatch.setattr(_Excel2Doc, "page", "<p>nothing</p>")
    assert "without the table's content" in (converts({"url": server}) or "")
    assert "doesn't convert" in (converts({"url": server + "/nowhere"}) or "")


def test_the_projects_own_hook_says_what_was_deployed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    role = find_role("excel2doc", ROOT)
    assert role is not None
    facts = {"app": "excel2doc", "release": "abc", "secret": "never shown"}
    monkeypatch.delenv("EXCEL2DOC_DEPLOYS", raising=False)
    role.hooks["after_commit"](facts)
    monkeypatch.setenv("EXCEL2DOC_DEPLOYS", str(tmp_path / "deploys"))
    role.hooks["after_commit"](facts)
    (line,) = (tmp_path / "deploys").read_text().splitlines()
    assert json.loads(line)["release"] == "abc"
    assert "never shown" not in line
    assert capsys.readouterr() == ("", ""), "a person watches the deploy, or a program reads it"
