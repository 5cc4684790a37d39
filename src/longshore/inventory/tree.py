"""Groups and hosts out of inventory files: who belongs where, and the variables said beside them.

The format is that of Ansible's YAML inventory plugin: groups with ``hosts``, ``children`` and ``vars``; the
same group or host in several places is merged; every group is a child of ``all``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field

from longshore.errors import InventoryError, Where
from longshore.inventory.nearest import did_you_mean
from longshore.inventory.nodes import Key, MappingNode, Node, Scalar, SequenceNode, describe, is_null
from longshore.inventory.ranges import expand, split_port
from longshore.records import dataclass

_SECTIONS = ("hosts", "children", "vars")
_MAX_HOSTS = 20_000


@dataclass
class GroupDraft:
    """A group while the files are read."""

    name: str
    where: Where
    hosts: dict[str, None] = field(default_factory=dict)
    children: dict[str, Where] = field(default_factory=dict)
    vars: list[MappingNode] = field(default_factory=list)
    depth: int = 0
    priority: int = 1


@dataclass
class HostDraft:
    """A host while the files are read."""

    name: str
    where: Where
    vars: list[MappingNode] = field(default_factory=list)
    groups: dict[str, None] = field(default_factory=dict)


@dataclass
class Tree:
    """All groups and hosts, in the order in which the files name them."""

    groups: dict[str, GroupDraft]
    hosts: dict[str, HostDraft]

    def ancestors(self, host: str) -> tuple[str, ...]:
        """The groups of a host, weakest first as Ansible merges them: depth, then priority, then name."""
        return self._chains[tuple(self.hosts[host].groups)]

    def members(self) -> dict[str, tuple[str, ...]]:
        """Group to its hosts, its children's included, in the inventory's order."""
        found: dict[str, list[str]] = {name: [] for name in self.groups}
        for host in self.hosts:
            for group in self.ancestors(host):
                found[group].append(host)
        return {name: tuple(hosts) for name, hosts in found.items()}

    _chains: dict[tuple[str, ...], tuple[str, ...]] = field(default_factory=dict)


def read_tree(documents: list[tuple[str, Node | None]], report: Callable[[InventoryError], None]) -> Tree:
    """Merge inventory documents (file name, content) into one tree; problems go to ``report``."""
    reader = _Reader(report)
    for name, document in documents:
        reader.document(name, document)
    return reader.finish()


class _Reader:
    def __init__(self, report: Callable[[InventoryError], None]) -> None:
        self._report = report
        self._groups: dict[str, GroupDraft] = {"all": GroupDraft("all", Where(""))}
        self._hosts: dict[str, HostDraft] = {}
        self._expanded: dict[str, tuple[list[str], int | None]] = {}

    def document(self, name: str, document: Node | None) -> None:
        if document is None or is_null(document):
            return
        if not isinstance(document, MappingNode):
            hint = "An inventory starts with all: and its hosts:, children: and vars:."
            what = "a playbook" if isinstance(document, SequenceNode) else describe(document)
            self._report(
                InventoryError(f"This is {what}, not an inventory.", where=document.where, hint=hint)
            )
            return
        if isinstance(plugin := document.get("plugin"), Scalar):
            self._report(
                InventoryError(
                    "This is the configuration of an inventory plugin, which Longshore doesn't run.",
                    where=plugin.where,
                    hint="Write its hosts down: ansible-inventory --list --yaml prints them.",
                )
            )
            return
        for key, node in document:
            self._group(key, node, parents=())

    def _group(self, key: Key, node: Node, parents: tuple[str, ...]) -> None:
        name = key.name
        draft = self._groups.get(name)
        if draft is None:
            draft = self._groups[name] = GroupDraft(name, key.where)
        elif not draft.where.file:
            self._groups[name].where = key.where
        if parents:
            if name == "all":
                self._report(InventoryError("all can't be the child of a group.", where=key.where))
                return
            self._groups[parents[-1]].children.setdefault(name, key.where)
        if is_null(node):
            return
        if not isinstance(node, MappingNode):
            hint = "Write hosts:, children: or vars: below it."
            self._report(
                InventoryError(f"The group {name} is {describe(node)}.", where=node.where, hint=hint)
            )
            return
        for section, value in node:
            if section.name == "hosts":
                self._host_section(draft, value)
            elif section.name == "children":
                for child, content in self._entries(value, name, "children"):
                    self._group(child, content, (*parents, name))
            elif section.name == "vars":
                self._vars_section(draft, value)
            else:
                self._stray(name, section, top=not parents)

    def _stray(self, group: str, section: Key, *, top: bool) -> None:
        hint = did_you_mean(section.name, _SECTIONS)
        if not hint:
            hint = f"Groups go below {group}'s children:, and variables below its vars:."
            if top and group in ("hosts", "children", "vars"):
                hint = f"The file should start with all:, with {group}: below it."
        self._report(
            InventoryError(f"The group {group} can't have {section.name!r}.", where=section.where, hint=hint)
        )

    def _vars_section(self, draft: GroupDraft, value: Node) -> None:
        if is_null(value):
            return
        if not isinstance(value, MappingNode):
            hint = "Write them as name: value."
            self._report(
                InventoryError(
                    f"The vars of {draft.name} are {describe(value)}.", where=value.where, hint=hint
                )
            )
            return
        draft.vars.append(value)
        priority = value.get("ansible_group_priority")
        if priority is None:
            return
        try:
            draft.priority = int(str(priority.value)) if isinstance(priority, Scalar) else int("")
        except ValueError:
            self._report(
                InventoryError("ansible_group_priority is not a whole number.", where=priority.where)
            )

    def _entries(self, value: Node, group: str, section: str) -> list[tuple[Key, Node]]:
        """The entries of ``hosts`` or ``children``: a mapping, or one name."""
        if is_null(value):
            return []
        if isinstance(value, MappingNode):
            return list(value)
        if isinstance(value, Scalar) and isinstance(value.value, str):
            return [(Key(value.value, value.where), Scalar(None, "", value.where))]
        example = value.items[0] if isinstance(value, SequenceNode) and value.items else None
        shown = example.raw if isinstance(example, Scalar) else "web1"
        self._report(
            InventoryError(
                f"The {section} of {group} are {describe(value)}; Ansible's format has a mapping here.",
                where=value.where,
                hint=f"Write each on its own line with a colon and no dash: {shown}:",
            )
        )
        return []

    def _host_section(self, draft: GroupDraft, value: Node) -> None:
        for key, node in self._entries(value, draft.name, "hosts"):
            names, port = self._names(key)
            if not is_null(node) and not isinstance(node, MappingNode):
                hint = "Write its variables below it as name: value, or nothing."
                self._report(
                    InventoryError(f"The host {key.name} is {describe(node)}.", where=node.where, hint=hint)
                )
                continue
            for name in names:
                host = self._hosts.get(name)
                if host is None:
                    if len(self._hosts) >= _MAX_HOSTS:
                        return
                    host = self._hosts[name] = HostDraft(name, key.where)
                host.groups.setdefault(draft.name)
                draft.hosts.setdefault(name)
                if port is not None:
                    said = (Key("ansible_port", key.where), Scalar(port, str(port), key.where))
                    host.vars.append(MappingNode({"ansible_port": said}, key.where))
                if isinstance(node, MappingNode) and node.items:
                    host.vars.append(node)

    def _names(self, key: Key) -> tuple[list[str], int | None]:
        known = self._expanded.get(key.name)
        if known is None:
            try:
                base, port = split_port(key.name)
                known = (expand(base), port)
                if "{{" in key.name or not key.name.strip() or any(c in key.name for c in " \t\n,;/"):
                    raise ValueError(f"{key.name!r} can't be the name of a host.")
                if port is not None and not 0 < port < 65536:
                    raise ValueError(f"{key.name} has no port between 1 and 65535.")
            except ValueError as error:
                self._report(InventoryError(str(error), where=key.where))
                known = ([], None)
            self._expanded[key.name] = known
        return known

    def finish(self) -> Tree:
        groups = self._groups
        top = groups["all"]
        self._check_cycles()
        children = {child for group in groups.values() if group is not top for child in group.children}
        for name, group in groups.items():
            if name != "all" and name not in children:
                top.children.setdefault(name, group.where)
        self._set_depths()
        ungrouped = [host for host in self._hosts.values() if set(host.groups) <= {"all", "ungrouped"}]
        if ungrouped:
            draft = groups.setdefault("ungrouped", GroupDraft("ungrouped", top.where, depth=1))
            top.children.setdefault("ungrouped", top.where)
            for host in ungrouped:
                host.groups.setdefault("ungrouped")
                draft.hosts.setdefault(host.name)
        tree = Tree(groups, self._hosts)
        parents: dict[str, list[str]] = {name: [] for name in groups}
        for group in groups.values():
            for child in group.children:
                parents[child].append(group.name)
        for direct in {tuple(host.groups) for host in self._hosts.values()}:
            tree._chains[direct] = self._chain(direct, parents)
        return tree

    def _chain(self, direct: tuple[str, ...], parents: dict[str, list[str]]) -> tuple[str, ...]:
        found = {"all"}
        waiting = list(direct)
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting.extend(parents[name])
        groups = self._groups
        return tuple(sorted(found, key=lambda name: (groups[name].depth, groups[name].priority, name)))

    def _check_cycles(self) -> None:
        """Report and cut every edge that leads back to a group it came from."""
        done: set[str] = set()
        for start in list(self._groups):
            path: list[str] = []
            stack: list[tuple[str, list[str]]] = [(start, list(self._groups[start].children))]
            path.append(start)
            while stack:
                name, left = stack[-1]
                if not left or name in done:
                    done.add(name)
                    stack.pop()
                    path.pop()
                    continue
                child = left.pop(0)
                if child in path:
                    loop = " > ".join([*path[path.index(child) :], child])
                    where = self._groups[name].children.pop(child)
                    self._report(
                        InventoryError(f"The group {child} is its own descendant: {loop}.", where=where)
                    )
                elif child not in done:
                    stack.append((child, list(self._groups[child].children)))
                    path.append(child)

    def _set_depths(self) -> None:
        """The longest way from ``all`` to each group, in topological order."""
        groups = self._groups
        parents = dict.fromkeys(groups, 0)
        for group in groups.values():
            for child in group.children:
                parents[child] += 1
        ready = [name for name, count in parents.items() if count == 0]
        while ready:
            group = groups[ready.pop()]
            for child in group.children:
                groups[child].depth = max(groups[child].depth, group.depth + 1)
                parents[child] -= 1
                if parents[child] == 0:
                    ready.append(child)
