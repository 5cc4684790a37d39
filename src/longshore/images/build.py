"""The story of a build: contexts to the builders, everything built, and only then anything pushed."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import field
from pathlib import Path
from typing import Any

from longshore.agent import wire
from longshore.console import Output, bytes_text, seconds_text
from longshore.errors import AgentError, LongshoreError, Problems
from longshore.images.builders import Builder, Part
from longshore.images.context import Context, context_of, stream
from longshore.images.failures import REGISTRY_FAILED, failure, without_space
from longshore.images.jobs import Job, Requests, Way, divided_of, jobs_of
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
from longshore.images.spec import BuildSpec, Git
from longshore.inventory.model import Environment
from longshore.records import dataclass

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
        self.divided = divided_of(parts)
        self.all = jobs_of(parts)
        """What the images are built from, and then they themselves."""
        self.jobs = [job for job in self.all if not job.is_context]
        self.logins = logins(
            [parse(job.part.spec.image).registry for job in self.all if job.part.spec.image]
            + list(environment.registries),
            environment.registries,
        )
        self._contexts: dict[tuple[str, Context], str] = {}
        self._sending = threading.Lock()

    def run(self, way: Way) -> list[Built]:
        """Build all, and then push all, if that is the way.

        Raises ``LongshoreError`` or ``Problems``; then no tag has changed, unless the push itself failed.
        """
        secrets = [value for job in self.all for value in job.part.spec.secrets.values()]
        secrets += [value for login in self.logins.values() for value in login.secrets]
        self.output.masks = self.output.masks.plus(secrets)
        requests = Requests(self.environment, self.git, self.all, way, no_cache=self.no_cache, pull=self.pull)
        self._on_builders(self._send)
        alone = len(self.jobs) == 1
        # Nothing is pushed before everything is built: half a release is none.
        first: Way = "check" if way == "push" and not alone else way
        self._on_builders(lambda name, jobs: self._build(name, jobs, requests, first))
        if way != first:
            for job in self.jobs:
                record, job.progress = job.progress, Progress()
                job.progress.earlier = record.record
            self._on_builders(
                lambda name, jobs: self._build(
                    name, [job for job in jobs if not job.is_context], requests, way, again=True
                )
            )
        return self._built(way)

    # On the builders

    def _on_builders(self, step: Callable[[str, list[Job]], None]) -> None:
        """Run a step on every builder at once, and raise what went wrong anywhere."""
        names = list(dict.fromkeys(job.part.builder for job in self.all))
        problems: list[LongshoreError] = []
        pool = ThreadPoolExecutor(max_workers=len(names))
        try:
            futures = [
                pool.submit(step, name, [job for job in self.all if job.part.builder == name])
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

    def _send(self, builder: str, jobs: list[Job]) -> None:
        for job in jobs:
            spec = job.part.spec
            job.context = self._put(builder, job, context_of(spec.context, spec.dockerfile))
            for name, folder in spec.contexts.items():
                if isinstance(folder, Path):
                    job.folders[name] = self._put(builder, job, context_of(folder, None))

    def _put(self, builder: str, job: Job, context: Context) -> str:
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

    def _build(
        self, builder: str, jobs: list[Job], requests: Requests, way: Way, *, again: bool = False
    ) -> None:
        """Build these. ``again``: they have been built in this run, and are pushed now."""
        found = self.builders[builder]
        by_name = {job.name: job for job in jobs}

        def tell(event: Mapping[str, Any]) -> None:
            job = by_name[str(event["name"])]
            for line in event["lines"]:
                if job.progress.line(str(line)):
                    self.output.step(job.name, _doing(job, way), job.progress.now())
            if event.get("code") == 0:
                ended.add(job.name)
                self._ended(job, way, job.seconds + float(event["seconds"]))

        ended: set[str] = set()
        parallel = self.environment.build.parallel or min(found.cores, _MOST_AT_ONCE)
        builds = [requests.of(job, found, way, again=again) for job in jobs]
        for at, (job, build) in enumerate(zip(jobs, builds, strict=True)):
            begins = at < parallel and not build["after"]
            self.output.step(job.name, _doing(job, way) if begins else "waiting", self._where(job))
        images = [job.part.spec.image for job in jobs if job.part.spec.image]
        names = {parse(image).registry for image in images} | set(self.environment.registries)
        args = {
            "builds": builds,
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
            if result.get("lacks"):
                self.output.step(job.name, "failed", f"{result['lacks']} could not be built")
            elif result["code"] != 0:
                error = self._why(job, failure(job.name, builder, job.progress))
                self.output.step(job.name, "failed", error.message)
                problems.append(error)
            elif way in ("push", "keep") and not job.digest and not job.is_context:
                problems.append(
                    AgentError(f"buildx names no digest of {job.name}", code="no-digest", where=builder)
                )
            elif job.name not in ended:
                self._ended(job, way, job.seconds)
        if problems:
            raise problems[0] if len(problems) == 1 else Problems(problems)

    def _ended(self, job: Job, way: Way, seconds: float) -> None:
        record = job.progress.whole
        done = f"{record.cached} of {record.instructions} steps from the cache"
        state = "pushed" if way == "push" and not job.is_context else "built"
        self.output.step(job.name, state, f"{done}, {seconds_text(seconds)}")

    def _why(self, job: Job, error: AgentError) -> AgentError:
        """The error, and where the registry failed, what it says to us of that."""
        if error.code == REGISTRY_FAILED:
            reference = parse(job.part.spec.image)
            with contextlib.suppress(*UNREACHED, RefusedError):
                if self.clients.of(reference).is_full(reference.repository):
                    return without_space(job.name, error)
        return error

    def _where(self, job: Job) -> str:
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

    def _join(self, spec: BuildSpec, jobs: Sequence[Job]) -> str:
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


def _doing(job: Job, way: Way) -> str:
    return "pushing" if way == "push" and not job.is_context else "building"
