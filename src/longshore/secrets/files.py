"""Where an environment's env files are, whether git has one, and writing them as a whole or not at all."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from pathlib import Path

SOPS = (".sops.env", ".sops.yaml", ".sops.yml", ".sops.json")
"""Files that SOPS has encrypted, by what follows the environment's or the app's name."""


def env_base(root: Path, environment: str, app: str = "") -> Path:
    """``env/<env>``, or ``env/<env>/<app>``: a file's suffix comes after it."""
    return root / "env" / environment / app if app else root / "env" / environment


def clear_file(root: Path, environment: str, app: str = "") -> Path:
    """The env file in clear."""
    base = env_base(root, environment, app)
    return base.with_name(base.name + ".env")


def age_file(root: Path, environment: str, app: str = "") -> Path:
    """The env file that age has encrypted."""
    base = env_base(root, environment, app)
    return base.with_name(base.name + ".env.age")


def sops_files(root: Path, environment: str, app: str = "") -> tuple[Path, ...]:
    """The env files that SOPS has encrypted, those that are there."""
    base = env_base(root, environment, app)
    return tuple(path for suffix in SOPS if (path := base.with_name(base.name + suffix)).is_file())


def age_files(root: Path, environment: str = "") -> tuple[Path, ...]:
    """Every encrypted env file of the project, or of one environment, sorted."""
    folder = root / "env"
    if not environment:
        return tuple(sorted(folder.rglob("*.env.age")))
    own = age_file(root, environment)
    inside = sorted((folder / environment).glob("*.env.age"))
    return (*((own,) if own.is_file() else ()), *inside)


def write_private(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Write a file beside its place, sync it, and rename it."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise


def in_git(path: Path) -> bool:
    """Whether git keeps a file; not when there is no git, or no answer."""
    command = ["git", "-C", str(path.parent), "ls-files", "--error-unmatch", "--", path.name]
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=10).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
