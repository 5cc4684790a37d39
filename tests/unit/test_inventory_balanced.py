"""What an inventory says of a load balancer in front, and what it can't."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.inventory_project import loaded, problems

from longshore.inventory.proxying import ProxyPolicy

WEB = "web: {proxy: {port: 8000, hosts: shop.test, health: /health}}"


def _project(balanced: str = "", services: str = WEB) -> dict[str, str]:
    said = f"balanced: {balanced}, " if balanced else ""
    return {
        "inventory/prod.yml": f"""
            all:
              hosts: {{h1: , h2: }}
              vars:
                longshore:
                  apps:
                    shop: {{{said}compose: compose.yml, services: {{{services}}}}}
            """,
    }


def test_a_balancer_asks_for_the_path_that_is_said_or_for_each_services_own(tmp_path: Path) -> None:
    def asked(text: str, policy: ProxyPolicy) -> str | None:
        found = loaded(tmp_path, _project(text)).targets["shop", "h1"].app.balanced
        assert found is not None
        return found.asked(policy)

    own = ProxyPolicy(8000, health="/health")
    assert asked("{}", own) == "/health"
    assert asked("{path: /up}", own) == "/up"
    assert asked("{}", ProxyPolicy(8000)) is None
    stripped = ProxyPolicy(8000, paths=("/api/",), strip=True, health="/health")
    assert asked("{}", stripped) == "/api/health"
    assert loaded(tmp_path, _project()).targets["shop", "h1"].app.balanced is None


@pytest.mark.parametrize(
    ("balanced", "services", "said"),
    [
        ("{}", "web: {memory: 64M}", "none of its services has `proxy`"),
        ("{}", "web: {proxy: {port: 8000}}", "nothing says what that asks for"),
        ("{path: health}", WEB, "balanced.path: 'health' is not a path that begins with /"),
        ("{path: '/health?x=1'}", WEB, "is not a path that begins with /, without ?"),
        ("{when: sometimes}", WEB, "balanced.when can't be 'sometimes'"),
        (
            "{path: /health}",
            "web: {proxy: {port: 8000, hosts: shop.test, paths: /app}}",
            "nothing of shop answers /health at shop.test (of web)",
        ),
        (
            "{path: /health}",
            WEB + ", api: {proxy: {port: 8000, hosts: api.test, paths: /v1}}",
            "nothing of shop answers /health at api.test (of api)",
        ),
    ],
)
def test_what_cannot_be_is_said_with_its_place(
    tmp_path: Path, balanced: str, services: str, said: str
) -> None:
    (problem,) = problems(tmp_path, _project(balanced, services))
    assert problem.startswith("inventory/prod.yml:")
    assert said in problem


def test_a_path_that_another_service_of_the_same_name_answers_is_fine(tmp_path: Path) -> None:
    services = WEB + ", api: {proxy: {port: 8000, hosts: shop.test, paths: /api}}"
    assert loaded(tmp_path, _project("{path: /health}", services))
