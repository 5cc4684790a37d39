"""The daily commands' part on the host: what runs, what it uses, and acting on one service of it."""

import json
import os
import shutil
from typing import Any, Callable, Dict, List, Optional, Set

from longshore.agent import wire
from longshore.agent.compose import Compose
from longshore.agent.engine import Engine, EngineError
from longshore.agent.fail import Refusal
from longshore.agent.health import Emit, Watch, containers
from longshore.agent.journal import Lines
from longshore.agent.stage import staged_images
from longshore.agent.store import AppStore

Op = Callable[[Dict[str, Any]], Any]


class Daily:
    """Everything that acts on the release that runs."""

    def __init__(self, engine: Engine, store: AppStore, emit: Emit) -> None:
        self.engine = engine
        self.store = store
        self.emit = emit

    def current(self) -> str:
        release = self.store.current()
        if release is None:
            raise Refusal(
                wire.NO_RELEASE,
                f"{self.store.app} has no release on this host",
                "Deploy it with `invoke deploy`.",
            )
        return release

    def manifest(self) -> Dict[str, Any]:
        return self.store.manifest(self.current())

    def of(self, service: Optional[str]) -> List[Dict[str, Any]]:
        """The app's containers, or one service's. Raises ``Refusal`` for a service it hasn't."""
        manifest = self.manifest()
        found = containers(self.engine, manifest["project"])
        if service is None:
            return found
        if service not in manifest["services"]:
            known = ", ".join(sorted(manifest["services"]))
            raise Refusal(
                wire.NO_SERVICE, f"no service {service!r} runs on this host", f"There are: {known}."
            )
        return [one for one in found if one["service"] == service]

    def ps(self, args: Dict[str, Any]) -> Dict[str, Any]:
        return {"release": self.current(), "containers": self.of(args.get("service"))}

    def stats(self, args: Dict[str, Any]) -> List[Dict[str, Any]]:
        """CPU in cores over the last second, memory and its limit in bytes (0: none), processes."""
        rows = []
        for one in self.of(args.get("service")):
            if one["state"] != "running":
                continue
            raw = self.engine.request("GET", f"/containers/{one['id']}/stats", {"stream": "0"})
            rows.append({"service": one["service"], "container": one["name"], **_usage(raw)})
        return rows

    def limits(self, args: Dict[str, Any]) -> List[Dict[str, Any]]:
        """What the engine itself reports of each container: limits, logging, restart policy, mounts."""
        rows = []
        for one in self.of(args.get("service")):
            full = self.engine.container(one["id"])
            if full is None:
                continue
            host = full["HostConfig"]
            rows.append(
                {
                    "service": one["service"],
                    "container": one["name"],
                    "cpus": host["NanoCpus"] / 1e9,
                    "memory": host["Memory"],
                    "pids": host["PidsLimit"] or 0,
                    "restart": host["RestartPolicy"]["Name"],
                    "logging": {"driver": host["LogConfig"]["Type"], **host["LogConfig"]["Config"]},
                    "mounts": sorted(
                        f"{mount.get('Name') or mount['Source']}:{mount['Destination']}"
                        for mount in full["Mounts"]
                    ),
                    "user": full["Config"].get("User", ""),
                    "image": full["Config"]["Image"],
                }
            )
        return rows

    def images(self, args: Dict[str, Any]) -> List[Dict[str, Any]]:
        """The images of the release that runs: reference, id, size (bytes), made when, architecture."""
        rows = []
        for service, ref in sorted(staged_images(self.store, self.current()).items()):
            image = self.engine.image(ref) or {}
            rows.append(
                {
                    "service": service,
                    "image": ref,
                    "id": image.get("Id", ""),
                    "size": image.get("Size", 0),
                    "created": image.get("Created", ""),
                    "architecture": image.get("Architecture", ""),
                }
            )
        return rows

    def restart(self, args: Dict[str, Any]) -> Dict[str, Any]:
        """Restart containers one by one, and wait until the app is healthy again."""
        found = self.of(args.get("service"))
        for one in found:
            self.emit("compose", line=f"{one['service']} restarts")
            self.engine.request("POST", f"/containers/{one['id']}/restart")
        Watch(self.engine, self.manifest(), self.emit).run()
        return {"containers": [one["name"] for one in found]}

    def stop(self, args: Dict[str, Any]) -> Dict[str, Any]:
        found = [
            one for one in self.of(args.get("service")) if one["state"] in ("running", "restarting", "paused")
        ]
        for one in found:
            self.emit("compose", line=f"{one['service']} stops")
            self.engine.stop(one["id"])
        return {"containers": [one["name"] for one in found]}

    def down(self, args: Dict[str, Any]) -> Dict[str, Any]:
        """Remove the app's containers and networks, and of its volumes only those named one by one."""
        release = self.current()
        manifest = self.store.manifest(release)
        project = manifest["project"]
        volumes = self._volumes(project, args.get("volumes") or [])
        Compose(manifest, self.store.bundle_dir(release)).down(lambda line: self.emit("compose", line=line))
        for name in volumes:
            self.engine.request("DELETE", f"/volumes/{name}")
        self.store.set_current(None)
        Lines(os.path.join(self.store.root, "history.jsonl")).append(
            {"release": release, "outcome": "down", "by": args.get("by", ""), "run": args.get("run", ""),
             "git": "", "why": args.get("why", ""), "seconds": 0}
        )  # fmt: skip
        return {"volumes": volumes}

    def _volumes(self, project: str, asked: List[str]) -> List[str]:
        label = json.dumps({"label": [f"com.docker.compose.project={project}"]})
        have = {
            volume["Name"]
            for volume in (self.engine.request("GET", "/volumes", {"filters": label})["Volumes"] or [])
        }
        for name in asked:
            if name not in have:
                known = ", ".join(sorted(have)) or "none"
                raise Refusal(
                    wire.BAD_REQUEST, f"{self.store.app} has no volume {name!r}", f"It has: {known}."
                )
        return asked

    def run(self, args: Dict[str, Any]) -> Dict[str, Any]:
        """A one-off container of the release that runs, with its env; its output comes as events."""
        release = self.current()
        self.of(args["service"])
        compose = Compose(self.store.manifest(release), self.store.bundle_dir(release))

        def out(line: str) -> None:
            self.emit("output", service=args["service"], line=line)

        code = compose.one_off(
            args["service"], list(args["command"]), f"{compose.project}-run-{args['run']}", out,
            float(args.get("timeout") or 3600), with_dependencies=False,
        )  # fmt: skip
        return {"code": code}

    def cleanup(self, args: Dict[str, Any]) -> Dict[str, Any]:
        """Remove images of this app's repositories that no kept release and no container uses.

        Kept by reference, not by age: an image's age is when it was built, not when it was pulled. Images
        of other repositories and all volumes are left alone. ``dry`` only tells.
        """
        keep_refs: Set[str] = set()
        repositories: Set[str] = set()
        for release in {*self.store.kept(), *([self.current()] if self.store.current() else [])}:
            for ref in staged_images(self.store, release).values():
                keep_refs.add(ref)
                repositories.add(_repository(ref))
        used = {raw["ImageID"] for raw in self.engine.containers()}
        keep_ids = {image["Id"] for ref in keep_refs for image in [self.engine.image(ref)] if image} | used
        removed, freed = [], 0
        for image in self.engine.images():
            names = {
                _repository(name)
                for name in [*(image.get("RepoTags") or []), *(image.get("RepoDigests") or [])]
            }
            if image["Id"] in keep_ids or not names or not names <= repositories:
                continue
            if not args.get("dry"):
                try:
                    self._remove_image(image)
                except EngineError as error:
                    self.emit("note", message=f"{sorted(names)[0]} stays: {error.message}")
                    continue
            removed.append(sorted(names)[0] + "@" + image["Id"][7:19])
            freed += image["Size"]
        before = shutil.disk_usage(self.store.root).free
        cache = 0 if args.get("dry") else self._prune_cache(args.get("cache_hours"))
        return {"images": removed, "bytes": freed, "cache_bytes": cache, "free": before}

    def _remove_image(self, image: Dict[str, Any]) -> None:
        for name in [*(image.get("RepoTags") or []), *(image.get("RepoDigests") or [])]:
            try:
                self.engine.request("DELETE", f"/images/{name}")
            except EngineError as error:
                if error.status != 404:  # the last name took the image with it
                    raise

    def _prune_cache(self, hours: Optional[float]) -> int:
        """Builder cache not used for ``hours`` goes; ``None`` leaves it. Bytes freed."""
        if hours is None:
            return 0
        filters = json.dumps({"unused-for": {f"{hours:g}h": True}})
        answer = self.engine.request("POST", "/build/prune", {"filters": filters}) or {}
        return int(answer.get("SpaceReclaimed", 0))

    def history(self, args: Dict[str, Any]) -> List[Dict[str, Any]]:
        """The history's lines, newest first, ``limit`` at most."""
        lines = Lines(os.path.join(self.store.root, "history.jsonl")).read()
        return list(reversed(lines))[: int(args.get("limit") or 20)]


def _repository(ref: str) -> str:
    name = ref.split("@", 1)[0]
    return name.rsplit(":", 1)[0] if ":" in name.rsplit("/", 1)[-1] else name


def _usage(raw: Dict[str, Any]) -> Dict[str, Any]:
    now, before = raw["cpu_stats"], raw["precpu_stats"]
    used = now["cpu_usage"]["total_usage"] - before.get("cpu_usage", {}).get("total_usage", 0)
    span = now.get("system_cpu_usage", 0) - before.get("system_cpu_usage", 0)
    cores = now.get("online_cpus") or 1
    memory = raw.get("memory_stats", {})
    # As `docker stats` does: the page cache that can be given back doesn't count.
    cache = memory.get("stats", {}).get(
        "inactive_file", memory.get("stats", {}).get("total_inactive_file", 0)
    )
    limit = memory.get("limit", 0)
    return {
        "cpus": round(used / span * cores, 4) if span > 0 else 0.0,
        "memory": max(0, memory.get("usage", 0) - cache),
        "memory_limit": 0 if limit > 1 << 60 else limit,
        "pids": raw.get("pids_stats", {}).get("current", 0),
    }
