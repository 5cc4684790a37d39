"""Reading the files of an environment: the tree, and every variable said in them with its level."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from longshore.errors import InventoryError, Where
from longshore.inventory.files import VariableFolder, inventory_files, variable_files
from longshore.inventory.model import Level, Source
from longshore.inventory.nearest import did_you_mean
from longshore.inventory.nodes import MappingNode, Node, describe, is_null
from longshore.inventory.tree import Tree, read_tree
from longshore.inventory.variables import Said
from longshore.inventory.yamlfile import read_text, read_yaml
from longshore.records import dataclass

_INI = re.compile(r"(?:[ \t]*(?:[#;].*)?\n)*\[[A-Za-z0-9_.-]+(?::\w+)?\][ \t]*(?=\n)")

Report = Callable[[InventoryError], None]
Spoken = list[tuple[str, Said]]
"""Variables with what is said about them, weakest first."""


@dataclass(frozen=True)
class Sources:
    """What the files say. ``groups`` and ``hosts``: name to its variables, weakest first."""

    tree: Tree
    groups: dict[str, Spoken]
    hosts: dict[str, Spoken]
    files: tuple[str, ...]
    warnings: tuple[str, ...]


def read_sources(root: Path, environment: str, report: Report) -> Sources:
    """Read the inventory's documents and variable files.

    Raises ``InventoryError`` when there is no such environment; what is wrong in a file goes to ``report``.
    """
    found = inventory_files(root, environment)
    reader = _Reader(root, report)
    documents = [(reader.name(path), reader.document(path)) for path in found.documents]
    tree = read_tree(documents, report)
    for folder in found.weaker:
        reader.folder(folder, tree)
    for group in tree.groups.values():
        for node in group.vars:
            reader.speak(reader.groups, _level(group.name), group.name, node)
    for host in tree.hosts.values():
        for node in host.vars:
            reader.speak(reader.hosts, "host", host.name, node)
    for folder in found.stronger:
        reader.folder(folder, tree)
    both = [name for name in tree.hosts if name in tree.groups]
    for name in both:
        reader.warnings.append(f"{name} is the name of a host and of a group; in patterns it is the host.")
    return Sources(tree, reader.groups, reader.hosts, tuple(reader.files), tuple(reader.warnings))


def _level(group: str) -> Level:
    return "all" if group == "all" else "group"


class _Reader:
    def __init__(self, root: Path, report: Report) -> None:
        self._root = root
        self._report = report
        self.groups: dict[str, Spoken] = {}
        self.hosts: dict[str, Spoken] = {}
        self.files: list[str] = []
        self.warnings: list[str] = []

    def name(self, path: Path) -> str:
        return str(path.relative_to(self._root))

    def read(self, path: Path) -> Node | None:
        name = self.name(path)
        self.files.append(name)
        try:
            return read_yaml(path, name, self._report)
        except InventoryError as error:
            self._report(error)
            return None

    def document(self, path: Path) -> Node | None:
        """Read one document of the inventory; an INI file with a YAML name is told apart."""
        found = _INI.match(self._text(path))
        if found is None:
            return self.read(path)
        name = self.name(path)
        self._report(
            InventoryError(
                "This is an INI inventory; Longshore reads Ansible's YAML format only.",
                where=Where(name, found[0].count("\n") + 1),
                hint=f"Rename it to {path.with_suffix('.ini').name} and convert it: ansible-inventory"
                f" -i {path.with_suffix('.ini').name} --list --yaml --output {name}",
            )
        )
        return None

    def _text(self, path: Path) -> str:
        try:
            return read_text(path, self.name(path))
        except InventoryError:
            return ""  # read() tells

    def folder(self, folder: VariableFolder, tree: Tree) -> None:
        """Read ``group_vars`` and ``host_vars`` of one place, for groups and hosts that there are."""
        for name, paths in variable_files(folder, "group_vars").items():
            if name in tree.groups or name in ("all", "ungrouped"):
                self._files(self.groups, _level(name), name, paths)
            elif not folder.shared:
                self._nobody(paths, "group", name, tree.groups)
        for name, paths in variable_files(folder, "host_vars").items():
            if name in tree.hosts:
                self._files(self.hosts, "host", name, paths)
            elif not folder.shared:
                self._nobody(paths, "host", name, tree.hosts)

    def _files(self, into: dict[str, Spoken], level: Level, name: str, paths: list[Path]) -> None:
        for path in paths:
            node = self.read(path)
            if node is None or is_null(node):
                continue
            if not isinstance(node, MappingNode):
                self._report(
                    InventoryError(
                        f"This is {describe(node)}, not variables.",
                        where=node.where,
                        hint="Write them as name: value.",
                    )
                )
                continue
            self.speak(into, level, name, node)

    def _nobody(self, paths: list[Path], what: str, name: str, known: Iterable[str]) -> None:
        for path in paths[:1]:
            hint = did_you_mean(name, known)
            text = f"{self.name(path)} is read for no {what}: there is no {what} named {name}. {hint}"
            self.warnings.append(text.rstrip())

    def speak(self, into: dict[str, Spoken], level: Level, name: str, node: MappingNode) -> None:
        spoken = into.setdefault(name, [])
        for key, value in node:
            spoken.append((key.name, Said(value, Source(level, name, key.where))))
