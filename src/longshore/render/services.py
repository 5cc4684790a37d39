"""One service: what ``longshore.yml`` says of it, and what is known of it before any host is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from longshore.errors import LongshoreError, RenderError
from longshore.inventory.model import ServicePolicy, Target
from longshore.records import dataclass
from longshore.render import notes, policy
from longshore.render.bundle import Note, ServiceFacts
from longshore.render.document import Map
from longshore.render.emit import RESET, override
from longshore.render.health import healthcheck
from longshore.render.merge import as_items
from longshore.render.parts import Mount, Port, mount, ports, unset_variables
from longshore.render.placing import Placing, combined_print


@dataclass(frozen=True)
class Service:
    """A service that runs here."""

    name: str
    facts: ServiceFacts
    override: Mapping[str, Any]
    notes: tuple[Note, ...]


def image_of(service: Map, policy: ServicePolicy) -> str | None:
    """The reference that a service runs, as a person wrote it."""
    said = policy.image or service.get("image")
    return str(said) if said else None


class ServiceRenderer:
    """Renders the services of one target, one after another."""

    def __init__(
        self,
        target: Target,
        *,
        digests: Mapping[str, str],
        placing: Placing,
        prints: Mapping[str, str],
        waited_for: set[str],
        problems: list[LongshoreError],
    ) -> None:
        self.target = target
        self.digests = digests
        self.placing = placing
        self.prints = prints
        self.waited_for = waited_for
        self.problems = problems

    def render(
        self, name: str, service: Map, depends: tuple[str, ...], depends_override: dict[str, Any]
    ) -> Service:
        """Return the service with its override. What is wrong is added to ``problems``."""
        chosen = policy.policy_of(self.target.app, name)
        where = self.target.app.where
        restart_word = str(service.get("restart") or "")
        one_shot = name in self.waited_for and restart_word not in ("always", "unless-stopped")
        policy.check_limits(name, service, chosen, where)
        count, replica_override = policy.replicas(service, chosen)
        written = image_of(service, chosen)
        image = self.pinned(name, service, written)
        published = ports(
            list(chosen.ports) if chosen.ports is not None else as_items(service.get("ports")),
            service.where_of("ports"),
        )
        self.check_replicas(name, service, count, published)
        mounts, mount_notes = self.mounts(name, service, chosen)
        own: dict[str, Any] = {}
        if image is not None and image != service.get("image"):
            own["image"] = image
        if service.get("build") is not None:
            own["build"] = RESET  # the context stays here; without this Compose would try to build
        if chosen.ports is not None:
            own["ports"] = override(list(chosen.ports))
        if chosen.health is not None:
            own["healthcheck"] = healthcheck(chosen.health, where)
        result = policy.combine(
            own,
            policy.simple(chosen),
            policy.restart(service, chosen, one_shot=one_shot),
            policy.logging(service, chosen),
            policy.limits(service, chosen),
            replica_override,
            depends_override,
            mounts,
            {"labels": self.labels(service, chosen)},
        )
        twin, gap = self.side_by_side(name, service, chosen, published, one_shot=one_shot)
        facts = ServiceFacts(
            name=name,
            routed=chosen.proxy is not None,
            twin=twin,
            gap=gap,
            image=image,
            replicas=count,
            one_shot=one_shot,
            may_exit=(chosen.restart or restart_word) == "no",
            healthcheck=_has_healthcheck(service, chosen),
            ports=tuple(str(port) for port in published if port.published),
            depends_on=depends,
            platform=chosen.platform or (str(service["platform"]) if service.get("platform") else None),
            build=service.get("build") is not None,
            probe=None if chosen.probe is None else asdict(chosen.probe),
        )
        said = notes.service_notes(name, service, image=image, written_image=written, ports=published)
        return Service(name, facts, result, (*mount_notes, *said))

    def side_by_side(
        self,
        name: str,
        service: Map,
        chosen: ServicePolicy,
        published: tuple[Port, ...],
        *,
        one_shot: bool,
    ) -> tuple[bool, str]:
        """Whether old and new can run side by side; and why not, for a service that the proxy serves."""
        network = str(service.get("network_mode") or "")
        if chosen.proxy is not None and network:
            self.problems.append(
                RenderError(
                    f"{name} has network_mode: {network}, and the proxy can't reach it there.",
                    where=service.where_of("network_mode"),
                    hint="Take network_mode out, or proxy.",
                )
            )
        if chosen.proxy is None and not chosen.overlap:
            return False, ""
        fixed = next((port for port in published if port.published), None)
        why = ""
        if fixed is not None:
            why = f"it publishes port {fixed.published}"
        elif service.get("container_name"):
            why = "it has a fixed container_name"
        elif network:
            why = f"it has network_mode: {network}"
        elif one_shot:
            why = "it runs once"
        elif chosen.overlap is None:
            why = self.writes(service, chosen)
        elif chosen.overlap is False:
            why = "overlap is false"
        if why and chosen.overlap:
            message = f"{name} can't overlap: {why}."
            self.problems.append(RenderError(message, where=service.where, hint="Take overlap out."))
        return not why, why if chosen.proxy is not None else ""

    def writes(self, service: Map, chosen: ServicePolicy) -> str:
        """Which of its mounts it can write to: two at once might not bear each other."""
        for item in as_items(service.get("volumes")):
            if item.type in ("volume", "bind") and not item.options.get("read_only"):
                return f"it writes to {item.target} (say overlap: true where two may)"
        for text in chosen.volumes:
            added = mount(text, self.placing.files.project, self.target.app.where)
            if added.type in ("volume", "bind") and not added.options.get("read_only"):
                return f"it writes to {added.target} (say overlap: true where two may)"
        return ""

    def pinned(self, name: str, service: Map, written: str | None) -> str | None:
        """The image by its digest, where the inventory's ``pin`` wants that and it is known."""
        if written is None and any(unset_variables(service.get("image"))):
            return None  # said already
        if written is None:
            self.problems.append(
                RenderError(
                    f"{name} is built, and has no image: to push and pull."
                    if service.get("build") is not None
                    else f"{name} has no image.",
                    where=service.where,
                    hint=f"Add image: to it, or longshore: services: {name}: image: in the inventory.",
                )
            )
            return None
        pin = self.target.app.pin
        if pin == "never" or "@sha256:" in written:
            return self.digests.get(written, written) if pin != "never" else written
        if written in self.digests:
            return self.digests[written]
        if pin == "always":
            self.problems.append(
                RenderError(
                    f"{written} can't be pinned: its digest is not known.",
                    where=service.where_of("image"),
                    hint="Is it in the registry? 'pin: when-possible' deploys it by its tag.",
                )
            )
        return written

    def check_replicas(self, name: str, service: Map, count: int, published: tuple[Port, ...]) -> None:
        """Refuse what Compose would refuse only halfway through."""
        if count < 2:
            return
        fixed = next((port for port in published if port.published), None)
        if service.get("container_name") or fixed is not None:
            reason = f"publishes port {fixed.published}" if fixed else "has a fixed container_name"
            self.problems.append(
                RenderError(f"{name} can't run {count} times on a host: it {reason}.", where=service.where)
            )

    def mounts(self, name: str, service: Map, chosen: ServicePolicy) -> tuple[dict[str, Any], list[Note]]:
        """The mounts that differ from the file's; all of them when one is dropped, or can't be told apart."""
        said: list[Note] = []
        listed: dict[str, tuple[Mount, bool]] = {}
        untidy: set[str] = set()
        for item in as_items(service.get("volumes")):
            listed[item.target] = (item, False)
            untidy |= {item.target} if item.untidy else set()
        for text in chosen.volumes:
            added = mount(text, self.placing.files.project, self.target.app.where)
            listed[added.target] = (added, True)
        entries: list[dict[str, Any]] = []
        changed: list[dict[str, Any]] = []
        everything = False
        for item, added_by_policy in listed.values():
            try:
                placed = self.placing.mount(item, name)
            except LongshoreError as error:
                self.problems.append(error)
                continue
            if placed is None:
                everything = True
                continue
            if notes.source_mount(item, service):
                said.append(notes.source_note(item, name))
            entries.append(placed)
            if item.path is not None or added_by_policy:
                changed.append(placed)
                everything = everything or item.target in untidy
        if everything:
            return {"volumes": override(entries) if entries else RESET}, said
        return ({"volumes": changed} if changed else {}), said

    def labels(self, service: Map, chosen: ServicePolicy) -> dict[str, str]:
        """Ours (stable between releases: a changed label recreates the container) and the policy's."""
        labels = {key: str(value) for key, value in chosen.labels.items()}
        labels["longshore.app"] = self.target.app.name
        labels["longshore.environment"] = self.target.environment
        used = {
            f"{kind}/{source}": self.prints[f"{kind}/{source}"]
            for kind in ("configs", "secrets")
            for source in used_sources(service, kind)
            if f"{kind}/{source}" in self.prints
        }
        if used:
            # Compose's config hash doesn't cover what configs and secrets hold (docker/compose#11900).
            labels["longshore.content"] = combined_print(used)
        return dict(sorted(labels.items()))


def settle_twins(services: list[Service]) -> list[Service]:
    """Compose brings along what a service depends on: what one needs that is replaced in place can't run
    side by side, either."""
    settled = {service.name: service for service in services}
    todo = [service for service in services if not service.facts.twin]
    while todo:
        one = todo.pop()
        for name in one.facts.depends_on:
            other = settled.get(name)
            if other is not None and other.facts.twin:
                gap = f"{one.name} depends on it" if other.facts.routed else ""
                settled[name] = replace(other, facts=replace(other.facts, twin=False, gap=gap))
                todo.append(settled[name])
    return list(settled.values())


def used_sources(service: Map, kind: str) -> list[str]:
    """The configs or secrets that a service uses, by their top-level names."""
    return [
        str(item.get("source")) if isinstance(item, Map) else str(item)
        for item in as_items(service.get(kind))
    ]


def _has_healthcheck(service: Map, chosen: ServicePolicy) -> bool:
    health = chosen.health
    if health is not None:
        if health.none:
            return False
        if health.http is not None or health.tcp is not None or health.command is not None:
            return True
    said = service.get("healthcheck")
    if not isinstance(said, Map) or str(said.get("disable")).lower() == "true":
        return False
    test = said.get("test")
    first = test[0] if isinstance(test, list) and test else test
    return first not in (None, "", "NONE")
