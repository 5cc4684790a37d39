"""Targets built by hand, for the tests of rendering."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from longshore.errors import LongshoreError, Problems, Where
from longshore.inventory.model import App, EnvValue, Host, ServicePolicy, Source, SshSettings, Target
from longshore.render import Bundle
from longshore.render.document import Override, Reset, parse

SOURCE = Source("all", "all", Where("env/test.env", 1))


def write(root: Path, files: Mapping[str, str | bytes]) -> None:
    """Write files below ``root``; texts are dedented."""
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else textwrap.dedent(data).encode())


def target(
    root: Path,
    compose: str | None = None,
    *,
    paths: tuple[str, ...] = ("compose.yml",),
    env: Mapping[str, str] | None = None,
    secrets: tuple[str, ...] = (),
    host: str = "h1",
    placed: Mapping[str, tuple[str, ...]] | None = None,
    variables: Mapping[str, Any] | None = None,
    **app: Any,
) -> Target:
    """A target of the app ``shop`` in ``test``; ``compose`` is written to ``compose.yml``."""
    if compose is not None:
        write(root, {"compose.yml": compose})
    policies = {
        name: value if isinstance(value, ServicePolicy) else ServicePolicy(**value)
        for name, value in app.pop("services", {}).items()
    }
    where = Where("inventory/test.yml", 3)
    return Target(
        environment="test",
        root=root,
        app=App(
            name="shop",
            hosts="all",
            compose=tuple(root / path for path in paths),
            project="shop",
            services=policies,
            where=where,
            **app,
        ),
        host=Host(host, SshSettings("10.0.0.1"), ("all",), {}, where),
        env={key: EnvValue(value, SOURCE, secret=key in secrets) for key, value in (env or {}).items()},
        vars=dict(variables or {}),
        placed=placed or {},
        state_dir="/var/lib/longshore",
    )


def text_of(bundle: Bundle, path: str) -> str:
    """The text of one file of a bundle."""
    return next(file.data.decode() for file in bundle.files if file.path == path)


def overlay(bundle: Bundle) -> dict[str, Any]:
    """``longshore.yml`` as plain values; a tag is a key: ``{"!override": …}``, ``{"!reset": None}``."""
    path = bundle.compose_files[-1]
    value = _tags(parse(text_of(bundle, path), path)[0])
    assert isinstance(value, dict)
    return value


def service(bundle: Bundle, name: str) -> dict[str, Any]:
    """What ``longshore.yml`` says of one service."""
    found = overlay(bundle)["services"][name]
    assert isinstance(found, dict)
    return found


def _tags(value: Any) -> Any:
    if isinstance(value, Override):
        return {"!override": _tags(value.value)}
    if isinstance(value, Reset):
        return {"!reset": None}
    if isinstance(value, dict):
        return {key: _tags(child) for key, child in value.items()}
    return [_tags(child) for child in value] if isinstance(value, list) else value


def problems_of(error: LongshoreError) -> list[str]:
    """Every sentence of an error, with its place."""
    return [str(one) for one in error.problems] if isinstance(error, Problems) else [str(error)]
