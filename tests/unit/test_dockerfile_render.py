"""Rendered Dockerfiles: the two systems' own, whole by default, clean to the linter, and nobody's lost."""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from invoke.program import Program

from longshore.dockerfile import lint, parse
from longshore.dockerfile.render import is_ours, render
from longshore.errors import RenderError
from longshore.images.ignore import parse as parse_ignore
from longshore.inventory import load
from longshore.inventory.dockerfiles import DockerfilePolicy, HealthRequest
from longshore.tasks import ns

TOP = Path(__file__).parents[2]
PLAIN = DockerfilePolicy()
SINGLE = DockerfilePolicy(shape="single-stage")


def made(policy: DockerfilePolicy, environment: str = "prod", root: Path = TOP) -> str:
    return render(policy, service="api", environment=environment, root=root).dockerfile


def difference(file: Path, rendered: str) -> str:
    lines = difflib.unified_diff(file.read_text().splitlines(), rendered.splitlines(), "file", "rendered", "")
    return "\n".join(lines)


@pytest.mark.parametrize(("env", "app"), [("demo", "excel2doc"), ("demo-bi", "universal_bi")])
def test_the_two_systems_dockerfiles_are_what_their_inventory_renders(env: str, app: str) -> None:
    environment = load(TOP, env)
    policy = environment.targets[(app, environment.apps[app][0])].app.services["api"].dockerfile
    assert policy is not None
    texts = render(policy, service="api", environment=env, root=TOP)
    assert difference(TOP / "examples" / app / "Dockerfile", texts.dockerfile) == ""
    assert difference(TOP / "examples" / app / ".dockerignore", texts.ignore) == ""


def test_templates_of_the_project_and_of_the_package_are_the_same_files() -> None:
    ours = TOP / "src" / "longshore" / "dockerfile" / "templates"
    assert (TOP / "templates" / "dockerfile").resolve() == ours.resolve()


FULL = DockerfilePolicy(
    python="3.13",
    distribution="trixie",
    packages=("libpq5", "curl"),
    build_packages=("build-essential", "libpq-dev=17.*".replace("*", "5")),
    requirements=("requirements/base.txt", "requirements/prod.txt", "constraints.txt"),
    workdir="/opt/shop",
    code=("app", "alembic.ini"),
    folders=("uploads", "var/log"),
    uid=1234,
    port=9000,
    health=HealthRequest(path="/live?deep=1", interval=90, timeout=1, start_period=0.5),
    app="shop.web:make",
    factory=True,
    workers=3,
    arguments=("--header", 'X-It: it\'s "so"'),
    environment={"MODELS": "/opt/models", "MOTTO": 'a "b" $c \\d'},
    ignore=("docs", "!README.md"),
)


@pytest.mark.parametrize("shape", ["single-stage", "multi-stage"])
@pytest.mark.parametrize(
    "policy",
    [
        PLAIN,
        FULL,
        replace(PLAIN, installer="uv"),
        replace(PLAIN, installer="poetry", folders=("data",)),
        replace(
            PLAIN, health=HealthRequest(none=True), command=("gunicorn", "shop.wsgi", "-b", "0.0.0.0:8000")
        ),
        replace(PLAIN, health=HealthRequest(command="test -e /tmp/alive")),
        replace(PLAIN, health=HealthRequest(command=("python", "-m", "app.alive"))),
    ],
)
def test_every_shape_is_whole_and_clean_to_the_linter(shape: Any, policy: DockerfilePolicy) -> None:
    texts = render(replace(policy, shape=shape), service="api", environment="prod", root=TOP)
    found = lint(texts.dockerfile, "Dockerfile", Path("/nowhere"), parse_ignore(texts.ignore))
    assert found == ()
    read = parse(texts.dockerfile)
    assert len(read.stages) == (2 if shape == "multi-stage" else 1)
    names = [one.name for one in read.stages[-1].instructions]
    assert {"COPY", "USER", "EXPOSE", "HEALTHCHECK", "CMD", "WORKDIR"} <= set(names)
    assert "\n\n\n" not in texts.dockerfile
    assert not any(line.endswith(" ") for line in texts.dockerfile.splitlines())


def test_what_the_inventory_says_is_in_the_file() -> None:
    text = made(FULL)
    read = parse(text)
    by_name = {one.name: one for one in read.stages[-1].instructions}
    assert [stage.base for stage in read.stages] == ["python:3.13-trixie", "python:3.13-slim-trixie"]
    assert by_name["USER"].text == "1234:1234"
    assert by_name["EXPOSE"].text == "9000"
    assert by_name["CMD"].words is not None
    assert by_name["CMD"].words[:3] == ("uvicorn", "--factory", "shop.web:make")
    assert by_name["CMD"].words[-2:] == ("--header", 'X-It: it\'s "so"')
    assert "http://127.0.0.1:9000/live?deep=1', timeout=0.5" in by_name["HEALTHCHECK"].text
    assert by_name["HEALTHCHECK"].flags[0] == ("interval", "90s")
    assert "COPY requirements/base.txt requirements/prod.txt /tmp/dependencies/requirements/" in text
    assert "--requirement requirements/prod.txt --constraint constraints.txt" in text
    assert "COPY --chown=app:app app ./app" in text
    assert '    MOTTO="a \\"b\\" \\$c \\\\d"' in text
    ignore = render(FULL, service="api", environment="prod", root=TOP).ignore
    assert ignore.endswith("uploads\nvar/log\ndocs\n!README.md\n")


def test_reload_is_only_for_development() -> None:
    policy = replace(PLAIN, reload=True)
    assert '"--reload"]' in made(policy, "dev")
    for environment in ("prod", "staging", "devprod"):
        with pytest.raises(RenderError, match="is for development"):
            made(policy, environment)
    assert "--reload" not in made(PLAIN, "dev")
    with pytest.raises(RenderError, match="exclude each other"):
        made(replace(policy, workers=2), "dev")


def test_what_can_not_be_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(RenderError, match="API_TOKEN looks like a secret"):
        made(replace(PLAIN, environment={"API_TOKEN": "abc"}))
    with pytest.raises(RenderError, match="has no apt"):
        made(replace(PLAIN, image="python:3.12-alpine"))
    with pytest.raises(RenderError, match="can't be read"):
        made(replace(PLAIN, template="no.j2"), root=tmp_path)
    (tmp_path / "mine.j2").write_text("FROM {{ image }}\nLABEL x={{ nothing }}\n")
    with pytest.raises(RenderError, match=r"mine\.j2:2: 'nothing' is undefined"):
        made(replace(PLAIN, template="mine.j2"), root=tmp_path)


def test_a_template_of_ones_own_gets_the_same_values(tmp_path: Path) -> None:
    (tmp_path / "mine.j2").write_text("FROM {{ image }}\n{{ health }}\nCMD {{ start }}\n")
    text = made(replace(PLAIN, template="mine.j2"), root=tmp_path)
    assert text.splitlines()[1] == "FROM python:3.12-slim-bookworm"
    assert is_ours(text) and not is_ours(text + "# by hand\n") and not is_ours("FROM a:1\n")


# the command


INVENTORY = """all:
  vars:
    longshore:
      apps:
        shop:
          compose: compose.yml
          services:
            web:
              dockerfile: {python: "3.11", port: 8080, health: {path: /up}}
  hosts:
    one:
"""
COMPOSE = """services:
  web:
    build: web
  worker:
    build: {context: ., dockerfile: worker.Dockerfile, target: run}
  cache:
    image: redis:7
  far:
    build: https://example.org/far.git
"""
WORKER = "FROM a:1 AS run\nUSER 1\nHEALTHCHECK NONE\nFROM run\nUSER 0\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "inventory").mkdir()
    for name in ("prod", "dev"):
        (tmp_path / "inventory" / f"{name}.yml").write_text(INVENTORY)
    (tmp_path / "compose.yml").write_text(COMPOSE)
    (tmp_path / "worker.Dockerfile").write_text(WORKER)
    (tmp_path / "web").mkdir()
    return tmp_path


Invoke = Callable[..., tuple[int, str, str]]


@pytest.fixture
def invoke(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Invoke:
    """``invoke("--check")`` types ``longshore dockerfile --check`` in the project: exit code, outputs."""
    monkeypatch.chdir(project)

    def run(*words: str) -> tuple[int, str, str]:
        argv = ["longshore", "dockerfile", *words]
        monkeypatch.setattr(sys, "argv", argv)
        code = 0
        try:
            Program(name="longshore", binary="longshore", namespace=ns).run(argv)
        except SystemExit as ended:
            code = int(ended.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_a_dockerfile_is_rendered_once_anew_and_never_over_a_persons_own(
    project: Path, invoke: Invoke
) -> None:
    file = project / "web" / "Dockerfile"
    assert invoke("--env", "prod")[:2] == (
        0,
        "web: web/Dockerfile is written.\nweb: web/.dockerignore is written.\n",
    )
    assert "/up'" in file.read_text()
    assert "is as the inventory says" in invoke("--env", "prod", "--service", "web")[1]
    (project / "inventory" / "prod.yml").write_text(INVENTORY.replace("/up", "/alive"))
    assert "web/Dockerfile is written" in invoke("--env", "prod")[1]
    assert "/alive'" in file.read_text()
    file.write_text(file.read_text() + "# by hand\n")
    code, out, _ = invoke("--env", "prod")
    assert code == 0 and "web keeps its own web/Dockerfile: nothing is written." in out
    assert file.read_text().endswith("# by hand\n")
    code, _, err = invoke("--env", "prod", "--out", "web/")
    assert code == 1 and "web/Dockerfile: This file isn't as it was rendered" in err
    assert file.read_text().endswith("# by hand\n")


def test_out_writes_elsewhere_and_reload_beside(project: Path, invoke: Invoke) -> None:
    assert invoke("--env", "prod", "--out", "-")[1].startswith("# Rendered by")
    invoke("--env", "prod", "--service", "worker", "--out", "new/worker.Dockerfile")
    assert (project / "new" / "worker.Dockerfile.dockerignore").is_file()
    said = "longshore.apps.shop.services.web.dockerfile.reload=true"
    code, out, _ = invoke("--env", "dev", "--set", said)
    assert code == 0 and "web/Dockerfile.dev is written" in out
    assert not (project / "web" / "Dockerfile").exists()
    code, _, err = invoke("--env", "prod", "--set", said)
    assert code == 1 and "is for development" in err


def test_check_looks_at_what_the_services_are_built_from(project: Path, invoke: Invoke) -> None:
    code, _, err = invoke("--check")
    assert code == 1 and "web/Dockerfile: web is built from a Dockerfile that isn't there" in err
    invoke("--env", "prod")
    assert invoke("--check") == (0, "2 Dockerfiles: 0 errors, 0 warnings.\n", "")
    code, out, _ = invoke("--check", "worker.Dockerfile")
    assert code == 1 and "worker.Dockerfile:5: error: The last USER is 0" in out
    (project / "web" / "Dockerfile").write_text("FROM a:1\nUSER 1\n")
    assert invoke("--check", "--env", "prod")[0] == 0
    assert invoke("--check", "--env", "prod", "--strict")[0] == 1
    code, out, _ = invoke("--check", "web", "--json", "--", "worker.Dockerfile")
    value = json.loads(out)["value"]
    assert (code, value["files"]) == (1, ["web/Dockerfile", "worker.Dockerfile"])
    assert (value["errors"], value["warnings"]) == (1, 1)
    assert value["findings"][0] == {
        "file": "web/Dockerfile",
        "line": 1,
        "rule": "no-healthcheck",
        "level": "warning",
        "message": "The image has no HEALTHCHECK",
        "hint": value["findings"][0]["hint"],
    }


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["--env", "prod", "--service", "nope"],
            "there is no service 'nope' in shop. There are: web",
        ),
        (["--env", "prod", "--service", "far"], "far isn't built from a folder of this machine"),
        (["--env", "prod", "--strict"], "--strict is for --check"),
        (["--check", "nowhere"], "nowhere: There is no such file"),
        (["--check", "inventory/"], "There is no Dockerfile in this folder"),
        (["--check", "web", "--env", "prod"], "takes either paths, or the services of --env"),
        (["--check", "web", "--app", "shop"], "takes either paths, or the services of --env"),
        (["--check", "web", "--limit", "h1"], "takes either paths, or the services of --env"),
        (["--check", "--out", "x"], "--check writes nothing"),
        (["--env", "nope"], "nope"),
    ],
)
def test_what_is_typed_wrong_is_said_in_a_sentence(invoke: Invoke, words: list[str], sentence: str) -> None:
    code, _, err = invoke(*words)
    assert code == 1
    assert sentence in err
    assert "Traceback" not in err


def test_hosts_that_would_render_different_files_are_refused(project: Path, invoke: Invoke) -> None:
    two = INVENTORY.replace(
        "    one:\n", "    one:\n    two: {longshore: {apps: {shop: {services: SERVICES}}}}\n"
    )
    (project / "inventory" / "prod.yml").write_text(
        two.replace("SERVICES", "{web: {dockerfile: {port: 9999}}}")
    )
    code, _, err = invoke("--env", "prod")
    assert code == 1 and "would be another for two than for one" in err
    assert invoke("--env", "prod", "--limit", "one", "--out", "-")[0] == 0
