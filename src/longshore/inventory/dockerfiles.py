"""What an inventory says about Dockerfiles to render: the values, and the settings they are read from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal

from longshore.inventory.kinds import Choice, Flag, ShellOrList, Text, Whole, duration
from longshore.inventory.sections import ListOf, MapOf, Section, Setting, own
from longshore.records import dataclass

Installer = Literal["pip", "uv", "poetry"]


@dataclass(frozen=True)
class HealthRequest:
    """The image's own health check: a request to the service from inside. Times are in seconds."""

    path: str | None = None
    """``None``: ``/health``, unless ``command`` or ``none`` is given."""
    command: str | tuple[str, ...] | None = None
    none: bool = False
    interval: float = 30.0
    timeout: float = 10.0
    start_period: float = 40.0
    retries: int = 3


@dataclass(frozen=True)
class DockerfilePolicy:
    """How the Dockerfile of a Python web service is rendered. ``None``: as the shape has it."""

    shape: Literal["single-stage", "multi-stage"] = "multi-stage"
    template: str | None = None
    """A template of the project's own, relative to its root."""
    python: str = "3.12"
    distribution: str | None = None
    """Debian's name in the tag of Python's image; ``None``: as the shape has it."""
    image: str | None = None
    build_image: str | None = None
    packages: tuple[str, ...] = ()
    build_packages: tuple[str, ...] = ()
    installer: Installer = "pip"
    requirements: tuple[str, ...] = ("requirements.txt",)
    workdir: str | None = None
    code: tuple[str, ...] = (".",)
    folders: tuple[str, ...] = ()
    uid: int = 10001
    port: int = 8000
    health: HealthRequest = field(default_factory=HealthRequest)
    app: str = "app.main:app"
    factory: bool = False
    workers: int | None = None
    arguments: tuple[str, ...] = ()
    reload: bool = False
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    ignore: tuple[str, ...] = ()


# A path that needs no quotes, in the shell and in COPY: nothing there is quoted.
_PATH = r"(?![/-])(?!(.*/)?\.\.(/|$))[A-Za-z0-9._+@/-]*[A-Za-z0-9._+@-]"
_LOCAL = Text(
    "a path in the context", "requirements.txt", pattern=_PATH, rule="a path in the build's context"
)
_FOLDER = Text("a folder", "uploads", pattern=_PATH, rule="a folder below the working directory")
_PACKAGE = Text(
    "a Debian package",
    "libpq5",
    pattern=r"[a-z0-9][a-z0-9+.-]+(=[A-Za-z0-9.+:~-]+)?",
    rule="the name of a Debian package",
)
_IMAGE = Text(
    "an image",
    "python:3.12-slim",
    pattern=r"[a-z0-9][A-Za-z0-9._/:@-]*",
    rule="an image",
)
_ARGUMENT = Text("an argument", "--no-access-log", pattern=r"[^\x00\n\r]+", rule="an argument in one line")
_VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"

_HEALTH = Section(
    one_of=("path", "command", "none"),
    settings=(
        Setting(
            "path",
            Text(
                "a path", "/health", pattern=r"/[A-Za-z0-9._~!&()*+,;=:@%/?-]*", rule="a path of the service"
            ),
            "What is asked, on the service's own port.",
            "/health",
        ),
        Setting(
            "command", ShellOrList(example="[python, -m, app.healthy]"), "A command that is run instead."
        ),
        Setting("none", Flag(), "Whether the image has no health check.", "false"),
        Setting("interval", duration("30s", minimum=1, shortest="1s"), "The time between two checks.", "30s"),
        Setting("timeout", duration("10s", minimum=1, shortest="1s"), "A slower check failed.", "10s"),
        Setting("start_period", duration("40s"), "Failures in this time after the start don't count.", "40s"),
        Setting(
            "retries",
            Whole("a whole number", "3", minimum=1, maximum=1000),
            "So many failures in a row make it unhealthy.",
            "3",
        ),
    ),
)

DOCKERFILE = Section(
    settings=(
        Setting(
            "shape",
            Choice("multi-stage or single-stage", "multi-stage", ("multi-stage", "single-stage")),
            "A builder and a slim runner, or one stage.",
            "multi-stage",
        ),
        Setting(
            "template",
            Text("a path in the project", "templates/web.Dockerfile.j2", pattern=_PATH, rule="a path"),
            "A template of your own instead; it gets the same values.",
        ),
        Setting(
            "python",
            Text(
                "a version of Python", '"3.12"', pattern=r"3\.\d{1,2}(\.\d{1,2})?", rule="a version of Python"
            ),
            "The version of Python, in quotes.",
            '"3.12"',
        ),
        Setting(
            "distribution",
            Text("a release of Debian", "bookworm", pattern=r"[a-z]*", rule="a release of Debian"),
            'Which one the images stand on; "" leaves it to the tag.',
            "bookworm with two stages, else none",
        ),
        Setting("image", _IMAGE, "What the image stands on.", "python:<python>-slim-<distribution>"),
        Setting("build_image", _IMAGE, "What the builder stands on.", "python:<python>-<distribution>"),
        Setting(
            "packages",
            ListOf(item=_PACKAGE, example="[libpq5]"),
            "Debian packages of the image: client libraries.",
        ),
        Setting(
            "build_packages",
            ListOf(item=_PACKAGE, example="[build-essential, libpq-dev]"),
            "Debian packages to build with; with one stage they stay in the image.",
        ),
        Setting(
            "installer",
            Choice("pip, uv or poetry", "uv", ("pip", "uv", "poetry")),
            "What installs dependencies: pip from requirements, uv and poetry from pyproject.toml and lock.",
            "pip",
        ),
        Setting(
            "requirements",
            ListOf(item=_LOCAL, single=True, example="requirements.txt"),
            "Files with pip's requirements; a constraints*.txt among them bounds the others.",
            "requirements.txt",
        ),
        Setting(
            "workdir",
            Text("an absolute path", "/srv", pattern=r"(/[A-Za-z0-9._-]+)+", rule="an absolute path"),
            "The working directory, with the code.",
            "/srv with two stages, else /app",
        ),
        Setting(
            "code",
            ListOf(item=_LOCAL, single=True, example="[app, alembic.ini]"),
            "What is copied; what .dockerignore names is not.",
            '"."',
        ),
        Setting(
            "folders",
            ListOf(item=_FOLDER, single=True, example="[uploads, logs]"),
            "Folders below the working directory that the service writes to.",
        ),
        Setting(
            "uid",
            Whole("a user id", "10001", minimum=1, maximum=2_000_000_000),
            "The service's user and group id; never root's.",
            "10001",
        ),
        Setting(
            "port", Whole("a port", "8000", minimum=1, maximum=65535), "Where the service listens.", "8000"
        ),
        Setting("health", _HEALTH, "The image's health check: one of path, command, none, or only times."),
        Setting(
            "app",
            Text(
                "a module and what it serves",
                "app.main:app",
                pattern=r"[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_.]*",
                rule="MODULE:NAME",
            ),
            "What uvicorn serves.",
            "app.main:app",
        ),
        Setting("factory", Flag(), "Whether it is a function that makes the app.", "false"),
        Setting("workers", Whole("a whole number", "2", minimum=1, maximum=256), "uvicorn's workers.", "1"),
        Setting(
            "arguments",
            ListOf(item=_ARGUMENT, example='["--no-access-log"]'),
            "Further arguments of uvicorn.",
        ),
        Setting(
            "reload",
            Flag(),
            "uvicorn's --reload; refused where the environment isn't called dev, development or local.",
            "false",
        ),
        Setting(
            "command",
            ListOf(item=_ARGUMENT, example='[gunicorn, "shop.wsgi", --bind, "0.0.0.0:8000"]'),
            "What is started instead of uvicorn.",
        ),
        Setting(
            "environment",
            MapOf(
                item=Text(example="/srv/models", pattern=r"[^\x00\n\r]*", rule="a text in one line"),
                key=_VARIABLE,
                key_rule="the name of an environment variable",
            ),
            "Variables of the image. Everyone can read them: no place for a secret.",
        ),
        Setting(
            "ignore",
            ListOf(
                item=Text("a pattern", "docs", pattern=r"\S[^\x00\n\r]*", rule="a pattern in one line"),
                example="[docs, notebooks]",
            ),
            "Further patterns of the .dockerignore.",
        ),
    )
)


def dockerfile_policy(found: Mapping[str, Any] | None) -> DockerfilePolicy | None:
    """The policy of its checked settings; ``None`` when nothing is said."""
    if found is None:
        return None
    values = own(found)
    if "health" in values:
        values["health"] = HealthRequest(**own(values["health"]))
    return DockerfilePolicy(**values)
