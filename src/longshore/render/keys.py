"""Which settings Compose knows, and which of them it takes empty: it refuses a file for anything else.

From compose-spec's schema of 2026. A setting that is very near to one of these is a slip; another one may
belong to a Compose that is newer than this, so that it is only pointed out.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from typing import Any

from longshore.errors import LongshoreError, RenderError, Where
from longshore.inventory.nearest import did_you_mean
from longshore.render.bundle import Note
from longshore.render.document import Items, Map
from longshore.render.merge import as_items


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TOP = _names("configs include models name networks secrets services version volumes")
_SERVICE = _names(
    "annotations attach blkio_config build cap_add cap_drop cgroup cgroup_parent command configs "
    "container_name cpu_count cpu_percent cpu_period cpu_quota cpu_rt_period cpu_rt_runtime "
    "cpu_shares cpus cpuset credential_spec depends_on deploy develop device_cgroup_rules devices dns "
    "dns_opt dns_search domainname entrypoint env_file environment expose extends external_links "
    "extra_hosts gpus group_add healthcheck hostname image init ipc isolation label_file labels links "
    "logging mac_address mem_limit mem_reservation mem_swappiness memswap_limit models network_mode "
    "networks oom_kill_disable oom_score_adj pid pids_limit platform ports post_start pre_start "
    "pre_stop privileged profiles provider pull_policy pull_refresh_after read_only restart runtime "
    "scale secrets security_opt shm_size stdin_open stop_grace_period stop_signal storage_opt sysctls "
    "tmpfs tty ulimits use_api_socket user userns_mode uts volumes volumes_from working_dir"
)
_INNER = {
    "build": _names(
        "additional_contexts args cache_from cache_to context dockerfile dockerfile_inline "
        "entitlements extra_hosts isolation labels network no_cache no_cache_filter platforms "
        "privileged provenance pull sbom secrets shm_size ssh tags target ulimits"
    ),
    "deploy": _names(
        "endpoint_mode labels mode placement replicas resources restart_policy rollback_config update_config"
    ),
    "healthcheck": _names("disable interval retries start_interval start_period test timeout"),
    "logging": _names("driver options"),
}
_RESOURCES = {
    "limits": _names("cpus memory pids"),
    "reservations": _names("cpus devices generic_resources memory"),
}
_DEPENDS = _names("condition required restart")
_MOUNT = _names("bind consistency image read_only source target tmpfs type volume")
_PORT = _names("app_protocol host_ip mode name protocol published target")
_SECTIONS = {
    "networks": _names(
        "attachable driver driver_opts enable_ipv4 enable_ipv6 external internal ipam labels name"
    ),
    "volumes": _names("driver driver_opts external labels name"),
    "configs": _names("content environment external file labels name template_driver"),
    "secrets": _names("driver driver_opts environment external file labels name template_driver"),
}
# What a service had in the first format, or in the second one only.
_FORMER = {
    "dockerfile": "Write it below build:, with context:.",
    "log_driver": "Write it as logging: driver:.",
    "log_opt": "Write it as logging: options:.",
    "net": "It is called network_mode now.",
    "volume_driver": "Write it as driver: of the volume, below volumes: at the top.",
}
_NAME = re.compile(r"[A-Za-z0-9._-]+")
# New settings resemble old ones (gpus and cpus, pre_start and pre_stop); a slip is nearer than that.
_SLIP = 0.85
_MAY_BE_EMPTY = _names("command entrypoint deploy develop")


class Keys:
    """Looks at the settings of merged compose files: slips are ``problems``, what isn't known ``notes``."""

    def __init__(self) -> None:
        self.problems: list[LongshoreError] = []
        self.notes: list[Note] = []

    def top(self, tree: Map) -> None:
        """The whole file's."""
        self._known(tree, "", _TOP)
        self._named(tree.get("services"), "services")
        for name, known in _SECTIONS.items():
            self._filled(tree, "", (name,))
            section = tree.get(name)
            self._named(section, name)
            for key, entry in section.items() if isinstance(section, Map) else ():
                if isinstance(entry, Map):
                    self._section(entry, f"{name}.{key}", known, "")
                elif entry is None and name in ("configs", "secrets") and isinstance(section, Map):
                    self._filled(section, name, (key,))

    def _named(self, section: Any, path: str) -> None:
        section = section if isinstance(section, Map) else Map(Where(""))
        for key in section:
            if not _NAME.fullmatch(key):
                self.problems.append(
                    RenderError(
                        f"{key!r} can't be a name in {path}.",
                        where=section.where_of(key),
                        hint="Use letters, digits, dots, hyphens and underscores.",
                    )
                )

    def service(self, service: Map, name: str) -> None:
        """One service's, also where it is behind a profile: Compose looks at all of them."""
        path = f"services.{name}"
        self._known(service, path, _SERVICE, name)
        self._filled(service, path, [key for key in service if key not in _MAY_BE_EMPTY])
        for key, known in _INNER.items():
            self._section(service.get(key), f"{path}.{key}", known, name)
        deploy = service.get("deploy")
        resources = deploy.get("resources") if isinstance(deploy, Map) else None
        for key, known in _RESOURCES.items():
            inner = resources.get(key) if isinstance(resources, Map) else None
            if isinstance(resources, Map):
                self._filled(resources, f"{path}.deploy.resources", [key])
            self._section(inner, f"{path}.deploy.resources.{key}", known, name)
        depends = service.get("depends_on")
        depends = depends if isinstance(depends, Map) else Map(service.where)
        for other, entry in depends.items():
            if not isinstance(entry, Map) or entry.get("condition") is None:
                self.problems.append(
                    RenderError(
                        f"{path}.depends_on.{other} has no condition.",
                        where=depends.where_of(other),
                        hint="Write {condition: service_started} behind it, or the names as a list.",
                    )
                )
            self._section(entry, f"{path}.depends_on.{other}", _DEPENDS, name)
        for key in ("depends_on", "networks"):
            said = service.get(key)
            names = [str(one) for one in said] if isinstance(said, Items) else []
            for one in dict.fromkeys(names):
                if names.count(one) > 1:
                    self.problems.append(
                        RenderError(f"{path}.{key} names {one} twice.", where=service.where_of(key))
                    )
        for key, known in (("ports", _PORT), ("volumes", _MOUNT)):
            for entry in as_items(service.get(key)):
                found = entry if isinstance(entry, Map) else getattr(entry, "options", {})
                for unknown in self._unknown(found, known):
                    where = found.where_of(unknown) if isinstance(found, Map) else entry.where
                    self._say(f"an entry of {path}.{key}", unknown, known, where, name)

    def _section(self, entry: Any, path: str, known: frozenset[str], service: str) -> None:
        if isinstance(entry, Map):
            self._known(entry, path, known, service)
            self._filled(entry, path, entry)

    def _filled(self, owner: Map, path: str, keys: Iterable[str]) -> None:
        for key in keys:
            if key in owner and owner[key] is None and not key.startswith("x-"):
                self.problems.append(
                    RenderError(
                        f"{path}{'.' if path else ''}{key} is empty, which Compose refuses.",
                        where=owner.where_of(key),
                        hint="Give it a value, or take the line out.",
                    )
                )

    def _known(self, owner: Map, path: str, known: frozenset[str], service: str = "") -> None:
        for key in self._unknown(owner, known):
            self._say(path, key, known, owner.where_of(key), service)

    def _unknown(self, owner: Any, known: frozenset[str]) -> Iterator[str]:
        yield from (key for key in owner if key not in known and not key.startswith("x-"))

    def _say(self, path: str, key: str, known: frozenset[str], where: Where, service: str) -> None:
        what = f"{path} has no setting {key!r}" if path else f"A compose file has no {key!r}"
        hint = did_you_mean(key, sorted(known))
        if known is _SERVICE and key in _FORMER:
            hint = _FORMER[key]
        elif not difflib.get_close_matches(key.lower(), known, cutoff=_SLIP):
            message = f"{what} that is known here: a Compose that doesn't know it either refuses the file."
            self.notes.append(Note("warning", f"{message} {hint}".rstrip(), where, service))
            return
        self.problems.append(RenderError(f"{what}.", where=where, hint=hint))
