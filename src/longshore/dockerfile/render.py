"""Renders a Dockerfile and its ``.dockerignore`` from what the inventory says about a service."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import astuple
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from longshore.dockerfile.places import Place
from longshore.dockerfile.rules.installing import COMPILERS
from longshore.errors import LongshoreError, RenderError, Where
from longshore.inventory import looks_secret
from longshore.inventory.dockerfiles import DockerfilePolicy, HealthRequest
from longshore.records import dataclass
from longshore.render.templates import render_template

Outcome = Literal["written", "same", "kept"]
DEVELOPMENT = ("dev", "development", "local")
"""The environments whose services may be started with --reload."""

_MARK = re.compile(r"# Rendered by `invoke dockerfile` \(([0-9a-f]{12})\): (.*)\n")
_TOOLS = {
    "uv": ("'uv>=0.5,<1'",),
    # The plugin of poetry 2; both are only in the builder.
    "poetry": ("'poetry>=2,<3'", "'poetry-plugin-export>=1.9,<2'"),
}
_EXPORT = {
    "pip": "",
    "uv": "uv export --quiet --frozen --no-dev --no-emit-project --output-file /tmp/requirements.txt",
    "poetry": "poetry export --output /tmp/requirements.txt",
}
_LOCKS = {"uv": ("pyproject.toml", "uv.lock"), "poetry": ("pyproject.toml", "poetry.lock")}


@dataclass(frozen=True)
class Rendered:
    """Both files' texts, each with a first line that says where it comes from."""

    dockerfile: str
    ignore: str


def render(
    policy: DockerfilePolicy, *, service: str, environment: str, root: Path, where: Where | None = None
) -> Rendered:
    """Render both files. The same settings give the same bytes.

    Raises ``RenderError`` for settings that can't be together, a secret in ``environment``, ``reload``
    outside :data:`DEVELOPMENT`, and a template that is broken.
    """
    _check(policy, environment, where)
    name, text = _template(policy, root, where)
    values = variables(policy)
    origin = f"change services.{service}.dockerfile in the inventory, not this file."
    dockerfile = render_template(text, name, values)
    ignore = render_template(_builtin("dockerignore.j2"), "dockerignore.j2", values)
    return Rendered(marked(dockerfile, origin), marked(ignore, origin))


def variables(policy: DockerfilePolicy) -> dict[str, Any]:
    """What a template gets: the settings, and what follows from them."""
    multi = policy.shape == "multi-stage"
    distribution = policy.distribution
    if distribution is None:
        distribution = "bookworm" if multi else ""
    tail = f"-{distribution}" if distribution else ""
    requirements = _LOCKS.get(policy.installer, policy.requirements)
    return {
        "shape": policy.shape,
        "image": policy.image or f"python:{policy.python}-slim{tail}",
        "build_image": policy.build_image or f"python:{policy.python}{tail}",
        "packages": list(policy.packages),
        "build_packages": list(policy.build_packages),
        "compiles": any(COMPILERS.fullmatch(one.partition("=")[0]) for one in policy.build_packages),
        "installer": policy.installer,
        "tools": list(_TOOLS.get(policy.installer, ())),
        "export": _EXPORT[policy.installer],
        "lists": _by_folder(requirements),
        "options": [_option(path) for path in requirements],
        "workdir": policy.workdir or ("/srv" if multi else "/app"),
        "code": list(policy.code),
        "folders": list(policy.folders),
        "uid": policy.uid,
        "port": policy.port,
        "health": _health(policy.health, policy.port),
        "start": json.dumps(_start(policy), ensure_ascii=False),
        "environment": [(name, _quoted(value)) for name, value in policy.environment.items()],
        "patterns": [*policy.folders, *policy.ignore],
    }


def marked(text: str, origin: str) -> str:
    """The text with a first line that tells a file of ours from one that was written or changed by hand."""
    return f"# Rendered by `invoke dockerfile` ({_sum(text)}): {origin}\n{text}"


def is_ours(text: str) -> bool:
    """Whether a file is as it was rendered, by whatever settings; one that was changed since is not."""
    match = _MARK.match(text)
    return match is not None and _sum(text[match.end() :]) == match.group(1)


def _sum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _check(policy: DockerfilePolicy, environment: str, where: Where | None) -> None:
    if policy.reload and environment not in DEVELOPMENT:
        names = ", ".join(DEVELOPMENT)
        raise RenderError(
            f"dockerfile.reload is for development, and this is {environment}",
            where=where,
            hint=f"Say it in the inventory of an environment that is called one of: {names}.",
        )
    if policy.reload and policy.workers:
        raise RenderError("uvicorn's --reload and --workers exclude each other", where=where)
    for name, value in policy.environment.items():
        if looks_secret(name, value):
            raise RenderError(
                f"dockerfile.environment.{name} looks like a secret, and everyone with the image can read it",
                where=where,
                hint="Put it into the app's env: env/<environment>.env.",
            )
    for image in (policy.image or "", policy.build_image or ""):
        if "alpine" in image:
            raise RenderError(
                f"{image} has no apt, which the template needs",
                where=where,
                hint="Take a slim image of Debian's, or write a template of your own (dockerfile.template).",
            )


def _template(policy: DockerfilePolicy, root: Path, where: Where | None) -> tuple[str, str]:
    """The template's name for places, and its text."""
    if policy.template is None:
        name = f"{policy.shape}.Dockerfile.j2"
        return name, _builtin(name)
    try:
        return policy.template, (root / policy.template).read_text(encoding="utf-8")
    except OSError as error:
        said = f"The template {policy.template} can't be read: {error.strerror}"
        raise RenderError(said, where=where, hint="Paths start at the project's root.") from None
    except UnicodeDecodeError:
        raise RenderError("This file is not UTF-8", where=policy.template) from None


def _builtin(name: str) -> str:
    return (files("longshore.dockerfile") / "templates" / name).read_text(encoding="utf-8")


def _by_folder(paths: tuple[str, ...]) -> list[tuple[list[str], str]]:
    """Files by their folder (with a slash at its end; empty for the context's own), in their order."""
    found: dict[str, list[str]] = {}
    for path in paths:
        folder, slash, _ = path.removeprefix("./").rpartition("/")
        found.setdefault(folder + slash, []).append(path)
    return [(names, folder) for folder, names in found.items()]


def _option(path: str) -> str:
    bounds = path.rpartition("/")[2].startswith("constraint")
    return f"{'--constraint' if bounds else '--requirement'} {path}"


def _start(policy: DockerfilePolicy) -> list[str]:
    if policy.command:
        return list(policy.command)
    words = ["uvicorn", *(["--factory"] if policy.factory else []), policy.app]
    words += ["--host", "0.0.0.0", "--port", str(policy.port)]  # noqa: S104 - inside a container
    words += ["--workers", str(policy.workers)] if policy.workers else []
    return [*words, *policy.arguments, *(["--reload"] if policy.reload else [])]


def _health(health: HealthRequest, port: int) -> str:
    """The HEALTHCHECK instruction."""
    if health.none:
        return "HEALTHCHECK NONE"
    times = (
        f"--interval={_seconds(health.interval)} --timeout={_seconds(health.timeout)} "
        f"--start-period={_seconds(health.start_period)} --retries={health.retries}"
    )
    if isinstance(health.command, str):
        return f"HEALTHCHECK {times} \\\n    CMD {health.command.replace(chr(10), ' ')}"
    words = list(health.command or ())
    if not words:
        # It gives up just before it is killed, so that the container's log says why.
        give_up = max(health.timeout - 1, health.timeout / 2)
        url = f"http://127.0.0.1:{port}{health.path or '/health'}"
        words = ["python", "-c", f"import urllib.request as r; r.urlopen('{url}', timeout={give_up:g})"]
    return f"HEALTHCHECK {times} \\\n    CMD {json.dumps(words, ensure_ascii=False)}"


def _seconds(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".") + "s"


def _quoted(value: str) -> str:
    """A value for ENV, which takes it as it stands."""
    if re.fullmatch(r"[A-Za-z0-9_./:@%+,-]+", value):
        return value
    return '"' + re.sub(r'(["\\$])', r"\\\1", value) + '"'


def destination(
    place: Place, policy: DockerfilePolicy, *, environment: str, out: str = ""
) -> tuple[Path, Path]:
    """Where the Dockerfile and the ``.dockerignore`` of a service go: its context, or what ``out`` says.

    With ``reload`` it is ``Dockerfile.<environment>``: what is built for production must not take it.
    Raises ``RenderError`` when the context is no folder here.
    """
    if out:
        path = Path(out)
        if out.endswith("/") or path.is_dir():
            return path / "Dockerfile", path / ".dockerignore"
        return path, path.with_name(path.name + ".dockerignore")
    if place.inline:
        raise RenderError(
            f"{place.service} has its Dockerfile in the compose file (dockerfile_inline)",
            where=place.where,
            hint="It is kept; --out writes a rendered one elsewhere.",
        )
    if place.context is None or place.dockerfile is None:
        raise RenderError(
            f"{place.service} isn't built from a folder of this machine",
            where=place.where,
            hint="--out says where to write.",
        )
    name = f"Dockerfile.{environment}" if policy.reload else place.dockerfile.name
    return place.dockerfile.with_name(name), place.context / ".dockerignore"


def write(texts: Rendered, paths: tuple[Path, Path], *, keep: bool) -> list[tuple[Path, Outcome]]:
    """Write both files, and say for each what became of it. One that isn't ours stays as it is.

    Without ``keep`` that is a ``LongshoreError``, and nothing is written.
    """
    found = [(path, text, _read(path)) for path, text in zip(paths, astuple(texts), strict=True)]
    own = [path for path, _, old in found if old is not None and not is_ours(old)]
    if own and not keep:
        raise LongshoreError(
            "This file isn't as it was rendered, and would be lost",
            where=str(own[0]),
            hint="Remove it, or name another place with --out.",
        )
    outcomes: list[tuple[Path, Outcome]] = []
    for path, text, old in found:
        if path in own:
            outcomes.append((path, "kept"))
        elif old == text:
            outcomes.append((path, "same"))
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            outcomes.append((path, "written"))
    return outcomes


def _read(path: Path) -> str | None:
    try:
        return path.read_bytes().decode(errors="replace")
    except FileNotFoundError:
        return None
