"""The compose template gives files that are whole. (Dockerfiles: test_dockerfile_render.py.)"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from longshore.render.templates import render_template

ROOT = Path(__file__).parents[2]


def render(name: str, **variables: Any) -> str:
    return render_template((ROOT / "templates" / name).read_text(), name, variables)


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
