"""The story of a build: contexts to the builders, everything built, and only then anything pushed."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import field
from pathlib import Path
from typing import Any, Literal

from longshore.agent import wire
from longshore.console import Output, bytes_text, seconds_text
from longshore.errors import AgentError, LongshoreError, Problems
from longshore.images.builders import Builder, Part
from longshore.images.context import Context, context_of, stream
from longshore.images.failures import REGISTRY_FAILED, failure, without_space
from longshore.images.login import auths, logins
from longshore.images.progress import Progress, Record
from longshore.images.reference import parse
from longshore.images.registry import (
    DOCKER_LIST,
    LISTS,
    OCI_INDEX,
    UNREACHED,
    Clients,
    RefusedError,
    why,
)
from longshore.images.spec import BuildSpec, Git, cache_tag
from longshore.inventory.model import Environment
from longshore.records import dataclass

Way = Literal["check", "image", "push", "keep"]
"""``check`` builds and keeps the cache only; ``image``: it stays on the builder; ``push``: to the registry;
``keep``: on the builder for hosts, where there is no registry."""
_OUTPUTS: Mapping[Way, str] = {"check": "cache", "image": "image", "push": "push", "keep": "oci"}
_MOST_AT_ONCE = 8


@dataclass(frozen=True)
class Built:
    """An image that was built. ``digest`` is empty when it was only checked."""

    spec: BuildSpec
    digest: str
    platforms: tuple[str, ...]
    seconds: float
    records: Mapping[str, Record] = field(default_factory=dict)
    """By builder."""

    @property
    def pinned(self) -> str:
        """The reference that a release has."""
        return parse(self.spec.image).pinned(self.digest)

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "app": self.spec.app,
            "services": list(self.spec.services),
            "image": self.spec.tags[0],
            "tags": list(self.spec.tags),
            "digest": self.digest,
            "platforms": list(self.platforms),
            "seconds": round(self.seconds, 3),
            "cached": sum(record.cached for record in self.records.values()),
            "instructions": sum(record.instructions for record in self.records.values()),
            "steps": [
                {"builder": name, "step": step.name, "cached": step.cached, "seconds": step.seconds}
                for name, record in self.records.items()
                for step in record.steps
            ],
        }


@dataclass
class _Job:
    """A part on its builder: what is sent for it, and what it has said so far."""

    part: Part
    name: str
    context: str = ""
    folders: dict[str, str] = field(default_factory=dict)
    """Further contexts of this machine: name to what it was sent as."""
    progress: Progress = field(default_factory=Progress)
    seconds: float = 0.0
    digest: str = ""


class Building:
    """One run over the parts of an environment's images."""

    def __init__(
        self,
        environment: Environment,
        builders: Mapping[str, Builder],
        parts: Sequence[Part],
        output: Output,
        *,
        git: Git,
        no_cache: bool = False,
        pull: bool = False,
    ) -> None:
        self.environment = environment
        self.builders = builders
        self.output = output
        self.git = git
        self.no_cache = no_cache
        self.pull = pull
        self.clients = Clients(environment.registries)
        divided = [part.spec.image for part in parts]
        self.divided = {image for image in divided if divided.count(image) > 1}
        self.apps = {part.spec.app for part in parts}
        self.jobs = [_Job(part, self._name(part)) for part in parts]
        self.logins = logins(
            [parse(part.spec.image).registry for part in parts] + list(environment.registries),
            environment.registries,
        )
        self._contexts: dict[tuple[str, Context], str] = {}
        self._sending = threading.Lock()

    def run(self, way: Way) -> list[Built]:
        """Build all, and then push all, if that is the way.

        Raises ``LongshoreError`` or ``Problems``; then no tag has changed, unless the push itself failed.
        """
        secrets = [value for job in self.jobs for value in job.part.spec.secrets.values()]
        secrets += [value for login in self.logins.values() for value in login.secrets]
        self.output.masks = self.output.masks.plus(secrets)
        self._on_builders(self._send)
        alone = len(self.jobs) == 1
        if way != "push" or not alone:
            # Nothing is pushed before everything is built: half a release is none.
            self._on_builders(lambda name, jobs: self._build(name, jobs, "check" if way == "push" else way))
        if way == "push":
            for job in self.jobs:
                record, job.progress = job.progress, Progress()
                job.progress.earlier = record.record
            self._on_builders(lambda name, jobs: self._build(name, jobs, "push"))
        return self._built(way)

    # On the builders

    def _on_builders(self, step: Callable[[str, list[_Job]], None]) -> None:
        """Run a step on every builder at once, and raise what went wrong anywhere."""
        names = list(dict.fromkeys(job.part.builder for job in self.jobs))
        problems: list[LongshoreError] = []
        pool = ThreadPoolExecutor(max_workers=len(names))
        try:
            futures = [
                pool.submit(step, name, [job for job in self.jobs if job.part.builder == name])
                for name in names
            ]
            for future in futures:
                try:
                    future.result()
                except Problems as several:
                    problems += several.problems
                except LongshoreError as error:
                    problems.append(error)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        if problems:
            raise problems[0] if len(problems) == 1 else Problems(problems)

    def _send(self, builder: str, jobs: list[_Job]) -> None:
        for job in jobs:
            spec = job.part.spec
            job.context = self._put(builder, job, context_of(spec.context, spec.dockerfile))
            for name, folder in spec.contexts.items():
                if isinstance(folder, Path):
                    job.folders[name] = self._put(builder, job, context_of(folder, None))

    def _put(self, builder: str, job: _Job, context: Context) -> str:
        """Send a context, once for all that need it, and return its name there."""
        with self._sending:
            known = self._contexts.get((builder, context))
            if known is not None:
                return known
            name = self._contexts[builder, context] = f"context-{len(self._contexts)}.tar"
        session = self.builders[builder].link.session()
        sent = 0

        def send(data: bytes) -> None:
            nonlocal sent
            session.call(wire.PUT, {"name": name, "append": sent > 0}, payload=data, timeout=120)
            sent += len(data)
            self.output.step(job.name, "sending", f"{bytes_text(sent)} of context to {builder}")

        stream(context, send)
        return name

    def _build(self, builder: str, jobs: list[_Job], way: Way) -> None:
        found = self.builders[builder]
        by_name = {job.name: job for job in jobs}

        def tell(event: Mapping[str, Any]) -> None:
            job = by_name[str(event["name"])]
            for line in event["lines"]:
                if job.progress.line(str(line)):
                    self.output.step(job.name, state, job.progress.now())
            if event.get("code") == 0:
                ended.add(job.name)
                self._ended(job, way, job.seconds + float(event["seconds"]))

        ended: set[str] = set()
        state = "pushing" if way == "push" else "building"
        parallel = self.environment.build.parallel or min(found.cores, _MOST_AT_ONCE)
        for at, job in enumerate(jobs):
            self.output.step(job.name, state if at < parallel else "waiting", self._where(job))
        names = {parse(job.part.spec.image).registry for job in jobs} | set(self.environment.registries)
        args = {
            "builds": [self._request(job, found, way) for job in jobs],
            "auths": auths({name: login for name, login in self.logins.items() if name in names}),
            "parallel": parallel,
            "theirs": bool(self.environment.build.buildx),
        }
        results = found.link.session().call(wire.BUILD, args, on_event=tell)
        problems: list[LongshoreError] = []
        for job in jobs:
            result = results.get(job.name) or {"code": 125, "digest": "", "seconds": 0.0}
            job.seconds += float(result["seconds"])
            job.digest = str(result["digest"])
            if result["code"] != 0:
                error = self._why(job, failure(job.name, builder, job.progress))
                self.output.step(job.name, "failed", error.message)
                problems.append(error)
            elif way in ("push", "keep") and not job.digest:
                problems.append(
                    AgentError(f"buildx names no digest of {job.name}", code="no-digest", where=builder)
                )
            elif job.name not in ended:
                self._ended(job, way, job.seconds)
        if problems:
            raise problems[0] if len(problems) == 1 else Problems(problems)

    def _ended(self, job: _Job, way: Way, seconds: float) -> None:
        record = job.progress.whole
        done = f"{record.cached} of {record.instructions} steps from the cache"
        state = "pushed" if way == "push" else "built"
        self.output.step(job.name, state, f"{done}, {seconds_text(seconds)}")

    def _why(self, job: _Job, error: AgentError) -> AgentError:
        """The error, and where the registry failed, what it says to us of that."""
        if error.code == REGISTRY_FAILED:
            reference = parse(job.part.spec.image)
            with contextlib.suppress(*UNREACHED, RefusedError):
                if self.clients.of(reference).is_full(reference.repository):
                    return without_space(job.name, error)
        return error

    def _request(self, job: _Job, builder: Builder, way: Way) -> dict[str, Any]:
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
            "tags": list(self._tags(part)),
            "output": _OUTPUTS[way],
            "provenance": "mode=min" if settings.provenance else "false",
            "sbom": settings.sbom,
            "no_cache": (self.no_cache and (way != "push" or len(self.jobs) == 1))
            or spec.options.get("no_cache", False),
            "pull": self.pull or spec.options.get("pull", False),
            "cache_from": list(spec.cache_from),
            "cache_to": [],
            "builder": builder.buildx,
            "folders": job.folders,
            "contexts": {name: one for name, one in spec.contexts.items() if isinstance(one, str)},
            "ssh": list(spec.ssh),
        }
        passed = ("network", "shm-size", "hosts", "ulimits", "allow")
        request |= {key: spec.options[key] for key in passed if key in spec.options}
        # The older image store can't write its cache to a registry.
        if settings.cache and self.environment.registry == "named" and builder.complete:
            suffix = "-" + _arch(part.platforms[0]) if spec.image in self.divided else ""
            name = spec.repository
            own, main = (f"{name}:{cache_tag(one, suffix)}" for one in (self.git.branch, self.git.main))
            if not self.no_cache:
                request["cache_from"] += [f"type=registry,ref={ref}" for ref in dict.fromkeys((own, main))]
            if way == "push":
                request["cache_to"] = [f"type=registry,ref={own},mode=max,ignore-error=true"]
        return request

    def _tags(self, part: Part) -> tuple[str, ...]:
        if part.spec.image not in self.divided:
            return part.spec.tags
        # Each builder pushes its own; one manifest list over them gets the names.
        reference = parse(part.spec.tags[0])
        return (f"{reference.name}:{reference.tag}-{'-'.join(_arch(one) for one in part.platforms)}",)

    # Names

    def _name(self, part: Part) -> str:
        """What a part is called, and known by: unique in a run."""
        name = f"{part.spec.app}: {part.spec.name}" if len(self.apps) > 1 else part.spec.name
        if part.spec.image in self.divided:
            return f"{name} {'+'.join(_arch(one) for one in part.platforms)}"
        return name

    def _where(self, job: _Job) -> str:
        return f"on {job.part.builder} for {', '.join(job.part.platforms)}"

    # What came of it

    def _built(self, way: Way) -> list[Built]:
        found: list[Built] = []
        for image in dict.fromkeys(job.part.spec.image for job in self.jobs):
            jobs = [job for job in self.jobs if job.part.spec.image == image]
            spec = jobs[0].part.spec
            digest = jobs[0].digest
            if way == "push" and image in self.divided:
                digest = self._join(spec, jobs)
            found.append(
                Built(
                    spec=spec,
                    digest=digest if way in ("push", "keep") else "",
                    platforms=tuple(platform for job in jobs for platform in job.part.platforms),
                    seconds=max(job.seconds for job in jobs),
                    records={job.part.builder: job.progress.whole for job in jobs},
                )
            )
        return found

    def _join(self, spec: BuildSpec, jobs: Sequence[_Job]) -> str:
        """Make one manifest list of what several builders have pushed, under every tag. Gives its digest."""
        reference = parse(spec.image)
        client = self.clients.of(reference)
        try:
            entries: list[dict[str, Any]] = []
            for job in jobs:
                value = client.manifest(reference.repository, job.digest)
                if value["mediaType"] in LISTS:
                    entries += value["manifests"]
                    continue
                os_name, _, arch = job.part.platforms[0].partition("/")
                arch, _, variant = arch.partition("/")
                platform = {"os": os_name, "architecture": arch, **({"variant": variant} if variant else {})}
                entry = {key: value[key] for key in ("mediaType", "digest", "size")}
                entries.append({**entry, "platform": platform})
            docker = any("docker" in entry["mediaType"] for entry in entries)
            kind = DOCKER_LIST if docker else OCI_INDEX
            document = {"schemaVersion": 2, "mediaType": kind, "manifests": entries}
            data = json.dumps(document, separators=(",", ":")).encode()
            digests = {client.put(reference.repository, str(parse(tag).tag), data, kind) for tag in spec.tags}
        except (*UNREACHED, RefusedError) as error:
            raise LongshoreError(
                f"{spec.name}: what the builders have pushed can't be made one image:"
                f" {why(error, client.base)}.",
                hint="Run it again when the registry can be reached from this machine.",
            ) from error
        return digests.pop()


def _arch(platform: str) -> str:
    return platform.partition("/")[2].replace("/", "")
