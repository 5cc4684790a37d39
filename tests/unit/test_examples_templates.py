"""The templates give the Dockerfiles that the two worked systems really have."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import pytest
import yaml

from longshore.render.templates import render_template

ROOT = Path(__file__).parents[2]
EXCEL2DOC: dict[str, Any] = {
    "app": "app.main:main",
    "factory": True,
    "arguments": ["--no-access-log", "--timeout-graceful-shutdown", "10"],
}
UNIVERSAL_BI: dict[str, Any] = {
    "app": "app.main:main",
    "factory": True,
    "packages": ["build-essential", "pkg-config", "default-libmysqlclient-dev", "libpq-dev"],
    "why": "The compiler and MySQL's headers for mysqlclient, libpq for psycopg.",
    "folders": ["chroma_db", "logs"],
    "health": {"path": "/api/v1/health"},
}


def render(name: str, **variables: Any) -> str:
    return render_template((ROOT / "templates" / name).read_text(), name, variables)


def same(rendered: str, file: Path) -> str:
    """The difference, for a person; empty when there is none."""
    lines = difflib.unified_diff(file.read_text().splitlines(), rendered.splitlines(), "file", "rendered", "")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("template", "system", "variables"),
    [
        ("multi-stage", "excel2doc", EXCEL2DOC),
        ("single-stage", "universal_bi", UNIVERSAL_BI),
    ],
)
def test_the_template_gives_the_systems_own_dockerfile(
    template: str, system: str, variables: dict[str, Any]
) -> None:
    rendered = render(f"dockerfile/{template}.Dockerfile.j2", **variables)
    assert same(rendered, ROOT / "examples" / system / "Dockerfile") == ""


@pytest.mark.parametrize(("system", "extra"), [("excel2doc", []), ("universal_bi", ["chroma_db", "logs"])])
def test_the_template_gives_the_systems_own_dockerignore(system: str, extra: list[str]) -> None:
    rendered = render("dockerfile/dockerignore.j2", extra=extra)
    assert same(rendered, ROOT / "examples" / system / ".dockerignore") == ""


@pytest.mark.parametrize("template", ["multi-stage", "single-stage"])
def test_without_any_variable_a_dockerfile_is_whole(template: str) -> None:
    lines = render(f"dockerfile/{template}.Dockerfile.j2").splitlines()
    words = [line.split()[0] for line in lines if line and not line.startswith(("#", " "))]
    assert words[0] == "FROM"
    assert {"COPY", "RUN", "USER", "EXPOSE", "HEALTHCHECK", "CMD"} <= set(words)
    copies = [line for line in lines if line.startswith("COPY")]
    install = next(at for at, line in enumerate(lines) if "pip install" in line)
    assert lines.index(copies[-1]) > install, "code is copied after the dependencies"
    assert not any("--reload" in line for line in lines)


def test_reload_is_there_when_asked_for() -> None:
    assert '"--reload"]' in render("dockerfile/single-stage.Dockerfile.j2", reload=True)


def test_the_compose_template_gives_a_service_alone() -> None:
    document = yaml.safe_load(render("compose/python-web.yml.j2", web={"image": "shop:1"}))
    assert set(document) == {"services"}
    assert set(document["services"]) == {"api"}
    assert document["services"]["api"]["ports"] == ["8000:8000"]


def test_the_compose_template_gives_a_service_with_its_databases() -> None:
    web = {
        "service": "shop",
        "image": "registry.example.org/shop:${TAG}",
        "command": ["uvicorn", "shop:app"],
        "folders": {"uploads": "/srv/uploads"},
        "postgres": {"user": "shop", "database": "shop"},
        "redis": True,
    }
    document = yaml.safe_load(render("compose/python-web.yml.j2", web=web))
    assert set(document["services"]) == {"shop", "postgres", "redis"}
    assert set(document["services"]["shop"]["depends_on"]) == {"postgres", "redis"}
    assert set(document["volumes"]) == {"uploads", "postgres-data", "redis-data"}
    assert document["services"]["shop"]["command"] == ["uvicorn", "shop:app"]
