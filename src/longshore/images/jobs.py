"""The jobs of a build, and what a builder's agent is asked for each of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from typing import Any, Literal

from longshore.images.builders import Builder, Part
from longshore.images.progress import Progress
from longshore.images.reference import parse
from longshore.images.spec import BuildSpec, Git, cache_tag
from longshore.inventory.model import Environment
from longshore.records import dataclass

Way = Literal["check", "image", "push", "keep"]
"""``check`` builds and keeps the cache only; ``image``: it stays on the builder; ``push``: to the registry;
``keep``: on the builder for hosts, where there is no registry."""
_OUTPUTS: Mapping[Way, str] = {"check": "cache", "image": "image", "push": "push", "keep": "oci"}
_PASSED = ("network", "shm-size", "hosts", "ulimits", "allow")


@dataclass
class Job:
    """A part on its builder: what is sent for it, and what it has said so far."""

    part: Part
    name: str
    """What it is called, and known by: unique in a run."""
    is_context: bool = False
    """It is made for others to be built from, and goes nowhere else."""
    images: dict[str, str] = field(default_factory=dict)
    """Contexts that are made by other jobs on the same builder, before this one: name to the job's."""
    after: str = ""
    """The job that makes the same, to be built from: then this one needs only the cache."""
    context: str = ""
    folders: dict[str, str] = field(default_factory=dict)
    """Further contexts of this machine: name to what it was sent as."""
    progress: Progress = field(default_factory=Progress)
    seconds: float = 0.0
    digest: str = ""


def jobs_of(parts: Sequence[Part]) -> list[Job]:
    """The jobs for these parts and for what they are built from, each after those that it needs.

    What an image is built from is made where that is built, for the same platforms.
    """
    several = len({part.spec.app for part in parts}) > 1
    divided = divided_of(parts)
    contexts: list[Job] = []

    def name_of(part: Part) -> str:
        name = f"{part.spec.app}: {part.spec.name}" if several else part.spec.name
        return f"{name} {_archs(part)}" if part.spec.image in divided else name

    def context(spec: BuildSpec, user: Part) -> str:
        """The name of the job that makes this image for ``user`` to be built from."""
        for job in contexts:
            made = job.part
            same = (made.builder, made.platforms) == (user.builder, user.platforms)
            if same and made.spec.is_same_build(spec):
                return job.name
        part = Part(spec, user.builder, user.platforms)
        images = {name: context(image, part) for name, image in spec.images.items()}
        taken = {job.name for job in contexts}
        name = next(name for name in _context_names(name_of(part), part) if name not in taken)
        contexts.append(Job(part, name, is_context=True, images=images))
        return name

    jobs = []
    for part in parts:
        images = {name: context(image, part) for name, image in part.spec.images.items()}
        jobs.append(Job(part, name_of(part), images=images))
    for job in jobs:
        same = (
            one.name
            for one in contexts
            if (one.part.builder, one.part.platforms) == (job.part.builder, job.part.platforms)
            and one.part.spec.is_same_build(job.part.spec)
        )
        job.after = next(same, "")
    return contexts + jobs


def _context_names(name: str, part: Part) -> Iterator[str]:
    yield f"{name} (context)"
    yield f"{name} {_archs(part)} (context)"
    number = 2
    while True:
        yield f"{name} {_archs(part)} (context {number})"
        number += 1


def divided_of(parts: Sequence[Part]) -> frozenset[str]:
    """The images of which several builders make a part each."""
    images = [part.spec.image for part in parts]
    return frozenset(image for image in images if images.count(image) > 1)


def _archs(part: Part) -> str:
    return "+".join(_arch(one) for one in part.platforms)


def _arch(platform: str) -> str:
    return platform.partition("/")[2].replace("/", "")


@dataclass(frozen=True)
class Requests:
    """How jobs are asked for in one run."""

    environment: Environment
    git: Git
    jobs: Sequence[Job]
    way: Way
    """What the run is for."""
    no_cache: bool = False
    pull: bool = False

    def of(self, job: Job, builder: Builder, way: Way, *, again: bool) -> dict[str, Any]:
        """One of a builder's ``builds`` (:func:`longshore.agent.building.build`). ``again``: it has been
        built in this run, and all is in the cache."""
        part, spec = job.part, job.part.spec
        settings = self.environment.build
        request: dict[str, Any] = {
            "name": job.name,
            "context": job.context,
            "dockerfile": spec.text,
            "target": spec.target,
            "args": dict(spec.args),
            "secrets": dict(spec.secrets),
            "platforms": list(part.platforms),
            "labels": dict(spec.labels),
            "tags": list(self._tags(job)),
            "output": "context" if job.is_context else _OUTPUTS[way],
            "provenance": "mode=min" if settings.provenance and not job.is_context else "false",
            "sbom": settings.sbom and not job.is_context,
            "no_cache": (self.no_cache or spec.options.get("no_cache", False)) and not (again or job.after),
            "pull": (self.pull or spec.options.get("pull", False)) and not (again or job.after),
            "cache_from": list(spec.cache_from),
            "cache_to": [],
            "builder": builder.buildx,
            "folders": job.folders,
            "contexts": {name: one for name, one in spec.contexts.items() if isinstance(one, str)},
            "images": job.images,
            "after": [] if again else [*job.images.values(), *([job.after] if job.after else [])],
            "ssh": list(spec.ssh),
        }
        request |= {key: spec.options[key] for key in _PASSED if key in spec.options}
        # The older image store can't write its cache to a registry.
        if settings.cache and self.environment.registry == "named" and builder.complete and spec.image:
            suffix = f"-{_arch(part.platforms[0])}" if self._is_divided(job) else ""
            own, main = (
                f"{spec.repository}:{cache_tag(one, suffix)}" for one in (self.git.branch, self.git.main)
            )
            if not self.no_cache:
                request["cache_from"] += [f"type=registry,ref={ref}" for ref in dict.fromkeys((own, main))]
            if way == "push" or (self.way == "push" and self._is_only_context(job)):
                request["cache_to"] = [f"type=registry,ref={own},mode=max,ignore-error=true"]
        return request

    def _tags(self, job: Job) -> tuple[str, ...]:
        spec = job.part.spec
        if job.is_context or not self._is_divided(job):
            return spec.tags
        # Each builder pushes its own; one manifest list over them gets the names.
        reference = parse(spec.tags[0])
        return (f"{reference.name}:{reference.tag}-{'-'.join(_arch(one) for one in job.part.platforms)}",)

    def _is_divided(self, job: Job) -> bool:
        return job.part.spec.image in divided_of([one.part for one in self._makers(job)])

    def _is_only_context(self, job: Job) -> bool:
        """Whether nobody else brings its cache to the registry."""
        return job in self._makers(job) and job.is_context

    def _makers(self, job: Job) -> list[Job]:
        """The jobs that make its image for the registry; else those that make it to be built from."""
        same = [one for one in self.jobs if one.part.spec.image == job.part.spec.image]
        return [one for one in same if not one.is_context] or same
