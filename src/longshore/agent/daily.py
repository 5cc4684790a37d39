"""The daily commands' part on the host: what runs, what it uses, and how it is. Changes nothing.

What acts is in :mod:`longshore.agent.control` and :mod:`longshore.agent.cleanup`.
"""

import json
import threading
import time
from typing import Any, Dict, List, Optional

from longshore.agent import wire
from longshore.agent.engine import PROJECT, Engine, EngineError
from longshore.agent.fail import Refusal
from longshore.agent.health import Emit, containers
from longshore.agent.history import History
from longshore.agent.shorten import last
from longshore.agent.stage import staged_images
from longshore.agent.store import AppStore

_SAMPLE = 1.0
"""Seconds between the two readings that a CPU figure is made of."""


class Daily:
    """The release of one app that runs on this host.

    ``gone`` is set when the controller has hung up.
    """

    def __init__(
        self, engine: Engine, store: AppStore, emit: Emit, gone: Optional[threading.Event] = None
    ) -> None:
        self.engine = engine
        self.store = store
        self.emit = emit
        self.gone = gone or threading.Event()

    def current(self) -> str:
        """The release's id. Raises ``Refusal`` when there is none."""
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

    def services(self, service: Optional[str]) -> Dict[str, Dict[str, Any]]:
        """The release's services, or only that one. Raises ``Refusal`` for one it hasn't."""
        have: Dict[str, Dict[str, Any]] = self.manifest()["services"]
        if service is None:
            return have
        if service not in have:
            known = ", ".join(sorted(have))
            raise Refusal(
                wire.NO_SERVICE, f"no service {service!r} runs on this host", f"There are: {known}."
            )
        return {service: have[service]}

    def of(self, service: Optional[str]) -> List[Dict[str, Any]]:
        """The app's containers, or one service's. Raises ``Refusal`` for a service it hasn't."""
        wanted = self.services(service)
        found = containers(self.engine, self.manifest()["project"])
        return found if service is None else [one for one in found if one["service"] in wanted]

    def ps(self, args: Dict[str, Any]) -> Dict[str, Any]:
        """``release``, ``project``, ``services`` (their names) and ``containers`` (``wire.Container``)."""
        manifest = self.manifest()
        return {
            "release": manifest["id"],
            "project": manifest["project"],
            "services": sorted(self.services(args.get("service"))),
            "containers": self.of(args.get("service")),
        }

    def stats(self, args: Dict[str, Any]) -> List[Dict[str, Any]]:
        """CPU in cores over the last second, memory and its limit in bytes (0: none), processes.

        All containers are read twice, a second apart: the engine's own figure takes a second for each.
        """
        running = [one for one in self.of(args.get("service")) if one["state"] == "running"]
        before = {one["id"]: self._reading(one["id"]) for one in running}
        if running:
            time.sleep(_SAMPLE)
        rows = []
        for one in running:
            now, first = self._reading(one["id"]), before[one["id"]]
            if now is not None and first is not None:
                rows.append({"service": one["service"], "container": one["name"], **usage(first, now)})
        return rows

    def _reading(self, ident: str) -> Optional[Dict[str, Any]]:
        try:
            raw: Dict[str, Any] = self.engine.request(
                "GET", f"/containers/{ident}/stats", {"stream": "0", "one-shot": "1"}
            )
        except EngineError as error:
            if error.status in (404, 409):  # it went while we looked
                return None
            raise
        return raw if raw.get("cpu_stats", {}).get("cpu_usage") else None

    def limits(self, args: Dict[str, Any]) -> List[Dict[str, Any]]:
        """What the engine itself reports of each container: limits, logging, restart policy, mounts.

        ``cpus`` in cores, ``memory`` in bytes, ``pids``; 0 means no limit.
        """
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
                    "cpus": (host.get("NanoCpus") or 0) / 1e9,
                    "memory": host.get("Memory") or 0,
                    "pids": max(0, host.get("PidsLimit") or 0),
                    "restart": host["RestartPolicy"]["Name"] or "no",
                    "logging": {"driver": host["LogConfig"]["Type"], **(host["LogConfig"]["Config"] or {})},
                    "mounts": sorted(
                        f"{mount.get('Name') or mount['Source']}:{mount['Destination']}"
                        + ("" if mount.get("RW", True) else ":ro")
                        for mount in full["Mounts"]
                    ),
                    "user": full["Config"].get("User", ""),
                    "image": full["Config"]["Image"],
                }
            )
        return rows

    def images(self, args: Dict[str, Any]) -> List[Dict[str, Any]]:
        """The images of the release that runs: reference, id, size (bytes), made when, architecture."""
        wanted = self.services(args.get("service"))
        rows = []
        for service, ref in sorted(staged_images(self.store, self.current()).items()):
            if service not in wanted:
                continue
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

    def health(self, args: Dict[str, Any]) -> List[Dict[str, Any]]:
        """How each container is: ``ok``, and why it isn't; the health check's last output.

        A service with fewer containers than it should have has a row of its own, without a container.
        """
        rows = []
        found = self.of(args.get("service"))
        for name, facts in sorted(self.services(args.get("service")).items()):
            mine = [one for one in found if one["service"] == name]
            rows += [self._condition(one, facts) for one in mine]
            if len(mine) < facts["replicas"]:
                rows.append(
                    {
                        "service": name, "container": "", "ok": False, "state": "missing", "health": "",
                        "restarts": 0, "exit_code": None, "out_of_memory": False, "output": "",
                        "why": f"{len(mine)} of {facts['replicas']} containers are there",
                    }
                )  # fmt: skip
        return rows

    def _condition(self, one: Dict[str, Any], facts: Dict[str, Any]) -> Dict[str, Any]:
        full = self.engine.container(one["id"]) or {}
        state = full.get("State") or {"Status": "gone"}
        status, health = state["Status"], state.get("Health") or {}
        checks = health.get("Log") or []
        row = {
            "service": one["service"],
            "container": one["name"],
            "state": status,
            "health": health.get("Status", ""),
            "restarts": full.get("RestartCount", 0),
            "exit_code": state.get("ExitCode") if status in ("exited", "dead", "restarting") else None,
            "out_of_memory": bool(state.get("OOMKilled")),
            "output": last((checks[-1].get("Output") or "").strip(), 1000) if checks else "",
        }
        why = ailment(row, bool(facts["one_shot"] or facts.get("may_exit")))
        return {**row, "ok": not why, "why": why}

    def volumes(self, args: Dict[str, Any]) -> List[str]:
        """The names of the volumes that belong to the app's project."""
        return self.volumes_of(self.manifest()["project"])

    def volumes_of(self, project: str) -> List[str]:
        label = json.dumps({"label": [f"{PROJECT}={project}"]})
        have = self.engine.request("GET", "/volumes", {"filters": label})["Volumes"] or []
        return sorted(volume["Name"] for volume in have)

    def history(self, args: Dict[str, Any]) -> List[Dict[str, Any]]:
        """The history's lines, newest first, ``limit`` at most."""
        lines = History(self.store.root).read()
        return list(reversed(lines))[: int(args.get("limit") or 20)]

    def audit(self, args: Dict[str, Any]) -> Dict[str, Any]:
        """The whole history, oldest first, and whether it is as it was written (``History.audit``)."""
        return History(self.store.root).audit(expected=bool(self.store.current() or self.store.kept()))


def ailment(row: Dict[str, Any], one_shot: bool) -> str:
    """Why a container isn't well, in words; empty when it is."""
    state, health = row["state"], row["health"]
    if one_shot and state == "exited" and row["exit_code"] == 0:
        return ""
    if state != "running":
        words = str(state)
        if row["exit_code"] is not None:
            words += f" with code {row['exit_code']}"
        return words + (", out of memory" if row["out_of_memory"] else "")
    if health in ("unhealthy", "starting"):
        return str(health)
    return ""


def usage(before: Dict[str, Any], now: Dict[str, Any]) -> Dict[str, Any]:
    """Two of the engine's readings as figures: ``cpus`` in cores, ``memory`` in bytes, ``pids``."""
    old, new = before["cpu_stats"], now["cpu_stats"]
    used = new["cpu_usage"]["total_usage"] - old["cpu_usage"]["total_usage"]
    span = new.get("system_cpu_usage", 0) - old.get("system_cpu_usage", 0)
    cores = new.get("online_cpus") or 1
    memory = now.get("memory_stats", {})
    detail = memory.get("stats", {})
    # As `docker stats` does: the page cache that can be given back doesn't count (cgroup v2, then v1).
    cache = detail.get("inactive_file", detail.get("total_inactive_file", 0))
    limit = memory.get("limit", 0)
    pids = now.get("pids_stats", {})
    return {
        "cpus": round(max(0, used) / span * cores, 4) if span > 0 else 0.0,
        "memory": max(0, memory.get("usage", 0) - cache),
        "memory_limit": 0 if limit > 1 << 60 else limit,
        "pids": pids.get("current", 0),
        "pids_limit": 0 if pids.get("limit", 0) > 1 << 60 else pids.get("limit", 0),
    }
