"""What the linter knows: its rules with their levels, what it is given, and what it finds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from functools import cached_property
from pathlib import Path
from typing import Literal

from longshore.dockerfile.parse import Dockerfile, Instruction, Stage
from longshore.dockerfile.shell import Command, commands
from longshore.dockerfile.words import expand, pairs
from longshore.images.ignore import Ignore
from longshore.records import dataclass

Severity = Literal["error", "warning"]

RULES: Mapping[str, tuple[Severity, str]] = {
    "syntax": ("error", "BuildKit refuses it, or reads it otherwise than it looks"),
    "secret": ("error", "a secret is in an ARG, an ENV, a command or a copied file, and so in the image"),
    "root-user": ("error", "the container runs as root"),
    "latest-base": ("error", "the base image has no tag, or latest: the next build is of something else"),
    "dev-server": ("error", "--reload or a development server is what the image starts"),
    "remote-script": ("error", "a script from the network is run unseen"),
    "world-writable": ("error", "chmod 777: everything in the container can change it"),
    "no-dockerignore": ("error", "all of the folder is copied, and no .dockerignore keeps .env and .git out"),
    "dockerignore-secrets": ("error", "the .dockerignore lets .env or .git into the image"),
    "apt-yes": ("error", "apt-get install asks, and nobody answers"),
    "dockerignore-bulk": ("warning", "the .dockerignore lets an environment or node_modules through"),
    "code-before-dependencies": ("warning", "a change of code installs all dependencies again"),
    "no-healthcheck": ("warning", "nothing tells whether the service works"),
    "health-tool": ("warning", "the health check calls a program that a slim image doesn't have"),
    "port-mismatch": ("warning", "EXPOSE, the health check and the command disagree on the port"),
    "apt-update": ("warning", "apt-get update in a layer of its own: install uses lists of long ago"),
    "apt-recommends": ("warning", "apt-get install without --no-install-recommends"),
    "apt-lists": ("warning", "the package lists stay in the layer"),
    "pip-cache": ("warning", "pip's cache is neither mounted nor left out, and stays in the layer"),
    "add-url": ("warning", "ADD fetches from the network, unchecked"),
    "shell-form": ("warning", "a shell is process 1 and keeps signals from the service"),
    "compiler": ("warning", "the image that runs has a compiler"),
    "copy-chown": ("warning", "copied code belongs to root, and the service isn't root"),
    "sudo": ("warning", "sudo in a build"),
    "ignore": (
        "warning",
        "a comment that ignores a rule is wrong: no such rule, no reason, nothing to ignore",
    ),
}
"""Rule to its level and what it is about. Errors end the check with exit code 1."""


@dataclass(frozen=True, order=True)
class Finding:
    """One thing that costs cache or safety. ``line`` counts from 1."""

    file: str
    line: int
    rule: str
    message: str
    hint: str = ""

    @property
    def severity(self) -> Severity:
        """``error`` or ``warning``, by its rule."""
        return RULES[self.rule][0]


@dataclass(frozen=True)
class Call:
    """A command that a RUN calls, and the line that it is on."""

    run: Instruction
    command: Command
    line: int


@dataclass(frozen=True)
class Subject:
    """What rules look at: a Dockerfile, which of its stages becomes the image, and the build's context."""

    file: str
    dockerfile: Dockerfile
    final: Stage
    context: Path
    ignore: Ignore | None
    """The context's ``.dockerignore``; ``None`` when there is none."""
    ignore_name: str = ".dockerignore"
    contexts: frozenset[str] = frozenset()
    """Names that FROM may have, and that are no images of a registry: the build's further contexts."""
    calls_of: dict[int, tuple[Call, ...]] = field(default_factory=dict, compare=False, repr=False)

    def finding(self, rule: str, line: int, message: str, hint: str = "") -> Finding:
        return Finding(self.file, line, rule, message, hint)

    @cached_property
    def chain(self) -> tuple[Stage, ...]:
        """The stages of this file that the image stands on, the lowest first."""
        return self.dockerfile.chain(self.final)

    @cached_property
    def image(self) -> tuple[Instruction, ...]:
        """The instructions that make the image itself, without those of stages that are only copied from."""
        return tuple(one for stage in self.chain for one in stage.instructions)

    @cached_property
    def base(self) -> str:
        """The image that all of it stands on, as far as its name is known."""
        return self.chain[0].base

    @cached_property
    def values(self) -> dict[str, str]:
        """What ENV and ARG have set at the end of the image, as far as it is said."""
        found: dict[str, str] = {}
        for one in (*self.dockerfile.before, *self.image):
            if one.name in ("ENV", "ARG"):
                for name, value, offset in pairs(one.text, self.dockerfile.escape):
                    if one.name == "ENV" or (name not in found and "=" in one.text[offset:]):
                        found[name] = expand(value, found)
        return found

    def last(self, name: str) -> Instruction | None:
        """The instruction of that name that counts in the image: the last."""
        return next((one for one in reversed(self.image) if one.name == name), None)

    def start(self) -> tuple[str, ...]:
        """The words that the container starts with: ENTRYPOINT's and CMD's."""
        found: list[str] = []
        for name in ("ENTRYPOINT", "CMD"):
            one = self.last(name)
            if one is not None:
                found += one.words if one.words is not None else one.text.split()
        return tuple(found)

    def calls(self, instructions: Iterable[Instruction]) -> Iterator[Call]:
        """The commands of every RUN among these, unless their shell is none that we can read."""
        shell = "sh"
        for one in instructions:
            if one.name == "SHELL" and one.words:
                shell = one.words[0].replace("\\", "/").rpartition("/")[2].lower()
            run = one.trigger or one
            if run.name == "RUN" and shell in ("sh", "bash", "ash", "dash", "zsh", "ksh", "busybox"):
                yield from self._calls(run)

    def _calls(self, run: Instruction) -> tuple[Call, ...]:
        key = id(run)
        if key not in self.calls_of:
            self.calls_of[key] = tuple(_calls(run))
        return self.calls_of[key]


def _calls(run: Instruction) -> Iterator[Call]:
    if run.words is not None:
        if run.words:
            yield Call(run, Command(run.words, (), 0), run.line)
            if run.words[0].rpartition("/")[2] in ("sh", "bash") and len(run.words) > 2:
                for command in commands(run.words[2]):
                    yield Call(run, command, run.line)
        return
    for command in commands(run.text):
        yield Call(run, command, run.line_at(command.offset))
    first = commands(run.text.partition("<<")[0])
    # A document that a program of its own reads (python, cat) is no script of a shell.
    if all(one.program in ("sh", "bash", "ash", "dash") for one in first):
        for heredoc in run.heredocs:
            for command in commands(heredoc.content):
                line = heredoc.line + heredoc.content.count("\n", 0, command.offset)
                yield Call(run, command, line)
