"""What is copied into the image: in which order, whose it is, and what must not come along."""

from __future__ import annotations

import re
from collections.abc import Iterator

from longshore.dockerfile.finding import Finding, Subject
from longshore.dockerfile.parse import Instruction, Stage
from longshore.dockerfile.rules.image import sources
from longshore.dockerfile.rules.installing import packages, pip_install, unwrapped
from longshore.dockerfile.shell import Command

_MANIFEST = re.compile(
    r"(.*/)?(.*requirements?.*\.(txt|in)|requirements?/?.*|constraints.*\.txt|pyproject\.toml|.*\.lock|Pipfile.*|"
    r"setup\.(py|cfg)|package.*\.json|pnpm-.*|\.npmrc|\.yarnrc.*|\.yarn/?|go\.(mod|sum|work)|Gemfile.*|"
    r"Cargo\..*|composer\..*|.*\.(whl|deb|crt|pem|cer|tar\.gz|conf|list|gpg|asc|sh)|README.*|VERSION|LICENSE.*|"
    r"wheels?/?|wheelhouse/?|.*\.gradle.*|pom\.xml|environment\.ya?ml|uv\.toml|mix\.(exs|lock))",
    re.IGNORECASE,
)
_INSTALLERS = {
    "npm": ("install", "ci", "i"),
    "pnpm": ("install", "i"),
    "yarn": ("install", ""),
    "poetry": ("install",),
    "pipenv": ("install", "sync"),
    "pdm": ("install", "sync"),
    "uv": ("sync",),
    "bundle": ("install",),
    "composer": ("install",),
    "go": ("mod",),
    "conda": ("install", "env"),
    "mamba": ("install", "env"),
}


def installs(command: Command) -> bool:
    """Whether it installs dependencies: the system's, Python's, or another language's."""
    if pip_install(command) or packages(command):
        return True
    plain = unwrapped(command)
    words = _INSTALLERS.get(plain.program)
    return words is not None and (plain.plain()[:1] or ("",))[0] in words


def code(one: Instruction) -> bool:
    """Whether a COPY or ADD takes code from the context: anything that isn't a list of dependencies."""
    if one.name not in ("COPY", "ADD") or one.flag("from") is not None or one.flag("link-only"):
        return False
    taken = sources(one)
    return bool(taken) and any(
        not _MANIFEST.fullmatch(source.removeprefix("./")) and not source.startswith(("http", "git@"))
        for source in taken
    )


def everything(one: Instruction) -> bool:
    """Whether it takes the whole context."""
    if one.name not in ("COPY", "ADD") or one.flag("from") is not None:
        return False
    return any(source in (".", "./", "*", "/", "./*", "/.") for source in sources(one))


def order(subject: Subject) -> Iterator[Finding]:
    """``code-before-dependencies``: in each stage, once."""
    for stage in subject.dockerfile.stages:
        copied: Instruction | None = None
        before = False
        for one in stage.instructions:
            if copied is None and code(one):
                copied = one
            calls = [call for call in subject.calls((one,)) if installs(call.command)]
            if calls and copied is None:
                before = before or any(not packages(call.command) for call in calls)
            elif calls and copied is not None:
                again = before and not any(packages(call.command) for call in calls)
                if not again:  # `pip install .` after the dependencies only adds the project itself
                    yield _ordered(subject, copied, calls[0].line)
                break


def _ordered(subject: Subject, copied: Instruction, line: int) -> Finding:
    return subject.finding(
        "code-before-dependencies",
        copied.line,
        f"Code is copied before line {line} installs: each change of code installs again",
        "Copy the list of dependencies alone, install, then copy the code.",
    )


def owner(subject: Subject) -> Iterator[Finding]:
    """``copy-chown``: code copied into an image whose user isn't root."""
    last = subject.last("USER")
    name = last.text.strip() if last else ""
    if not name or re.fullmatch(r"(root|0+)(:.*)?", name):
        return
    if any(
        unwrapped(call.command).program == "chown" and call.command.has("-R", "--recursive")
        for call in subject.calls(subject.image)
    ):
        return
    for one in subject.image:
        if code(one) and not one.heredocs and one.flag("chown") is None and one.flag("chmod") is None:
            yield subject.finding(
                "copy-chown",
                one.line,
                f"What is copied belongs to root: {name} can't read files that are private (0600) here",
                f"Write {one.name} --chown={name} ….",
            )


def ignored(subject: Subject) -> Iterator[Finding]:
    """``no-dockerignore``, ``dockerignore-secrets``, ``dockerignore-bulk``: only when all is copied."""
    whole = next((one for stage in _used(subject) for one in stage.instructions if everything(one)), None)
    if whole is None:
        return
    if subject.ignore is None:
        yield subject.finding(
            "no-dockerignore",
            whole.line,
            "All of the folder is copied, and there is no .dockerignore",
            "Write one with .env*, .git and .venv: `invoke dockerfile` renders one.",
        )
        return
    name = subject.ignore_name
    for path in (".env", ".git"):
        if not subject.ignore.matches(path):
            said = f"All of the folder is copied, and {name} lets {path} through"
            yield subject.finding("dockerignore-secrets", whole.line, said, f"Add the line {path} to it.")
    for path in _bulk(subject):
        if not subject.ignore.matches(path):
            said = f"All of the folder is copied, and {name} lets {path} through"
            yield subject.finding("dockerignore-bulk", whole.line, said, f"Add the line {path} to it.")


def _bulk(subject: Subject) -> Iterator[str]:
    """Environments and the like that lie in the context now."""
    try:
        entries = sorted(subject.context.iterdir())
        for entry in entries:
            if not entry.is_dir() or entry.is_symlink():
                continue
            known = entry.name in (
                "node_modules",
                ".tox",
                ".nox",
                ".mypy_cache",
                ".pytest_cache",
                ".ruff_cache",
            )
            if known or (entry / "pyvenv.cfg").is_file():
                yield entry.name
    except OSError:
        return


def _used(subject: Subject) -> tuple[Stage, ...]:
    """The stages that the image stands on, and those that it copies from."""
    wanted = list(subject.chain)
    for stage in wanted:
        for one in stage.instructions:
            source = one.flag("from") if one.name in ("COPY", "ADD") else None
            found = subject.dockerfile.stage(source) if source else None
            for lower in subject.dockerfile.chain(found) if found else ():
                if lower not in wanted:
                    wanted.append(lower)
    return tuple(wanted)


def fetched(subject: Subject) -> Iterator[Finding]:
    """``add-url``."""
    for one in subject.dockerfile.instructions:
        one = one.trigger or one
        if one.name != "ADD" or one.flag("checksum"):
            continue
        for source in sources(one):
            if re.match(r"(https?|ftp)://|git@", source) and not re.search(r"\.git#[0-9a-f]{40}", source):
                shown = re.sub(r"//[^/@]*@", "//", source)
                yield subject.finding(
                    "add-url",
                    one.line,
                    f"ADD fetches {shown[:80]} unchecked",
                    "Add --checksum=sha256:…, so that it is what it was.",
                )


RULES = (order, owner, ignored, fetched)
