"""Reads an app's compose files the way Compose will, to know what is in them. It never writes them back.

Follows ``include`` and ``extends``, merges several files, interpolates from the bundle's ``.env``, and
resolves relative paths against the right folder: the project's for the files given with ``-f``, the
included project's for ``include``, the file's own for ``extends``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from longshore import dotenv
from longshore.dotenv import Lookup
from longshore.errors import LongshoreError, Problems, RenderError, Where
from longshore.records import dataclass
from longshore.render import parts
from longshore.render.document import Items, Map, Override, Reset, parse, unmarked
from longshore.render.files import ProjectFiles, where_of
from longshore.render.interpolate import interpolate
from longshore.render.merge import as_items, merge, strip
from longshore.render.shape import SECTIONS, check


@dataclass(frozen=True)
class Model:
    """A compose project as read: services with every ``extends`` resolved, and what was read for it."""

    services: Mapping[str, Map]
    networks: Mapping[str, Any]
    volumes: Mapping[str, Any]
    configs: Mapping[str, Any]
    secrets: Mapping[str, Any]
    tree: Map
    """All of it, with the top level's other settings."""
    files: tuple[Path, ...]
    """Every compose file and explicit env file of an ``include``, as the bundle needs them."""
    variables: Mapping[str, str | None] = field(default_factory=dict, repr=False)
    """Every variable that was asked for, with its value."""
    problems: tuple[LongshoreError, ...] = ()
    """What is wrong in the files, but didn't keep them from being read."""


def read(files: ProjectFiles, compose: tuple[Path, ...], env: Mapping[str, str]) -> Model:
    """Read the compose files ``compose`` (absolute, without ``.j2``) with ``env`` for ``${…}``.

    Raises ``RenderError`` for what can't be read at all; what else is wrong is in ``Model.problems``.
    """
    reader = _Reader(files)
    used: dict[str, str | None] = {}

    def lookup(name: str) -> str | None:
        return used.setdefault(name, env.get(name))

    tree = reader.project(compose, files.project, lookup, ())
    services = tree.get("services")
    if not isinstance(services, Map) or not services:
        loose = [
            name for name, one in tree.items() if isinstance(one, Map) and {"image", "build"} & one.keys()
        ]
        none = RenderError(
            "There is no service in this compose file.",
            where=tree.where_of(loose[0]) if loose else where_of(files, compose[0]),
            hint=f"Write services: above {loose[0]}:, and indent what follows." if loose else "",
        )
        raise raised([*reader.problems, none])
    for name, service in services.items():
        if not isinstance(service, Map):
            raise RenderError(f"The service {name} is not a mapping.", where=services.where_of(name))
    sections = {name: tree.get(name) or {} for name in SECTIONS[1:]}
    return Model(
        services=services,
        tree=tree,
        files=tuple(reader.read_files),
        variables=used,
        problems=tuple(reader.problems),
        **sections,
    )


def raised(problems: list[LongshoreError]) -> LongshoreError:
    """One error for what was found."""
    # A file that several services extend is read, and found wrong, several times.
    once = list({str(problem): problem for problem in problems}.values())
    return once[0] if len(once) == 1 else Problems(once)


class _Reader:
    def __init__(self, files: ProjectFiles) -> None:
        self.files = files
        self.read_files: dict[Path, None] = {}
        self.problems: list[LongshoreError] = []

    def project(self, paths: tuple[Path, ...], base: Path, lookup: Lookup, above: tuple[Path, ...]) -> Map:
        """Several files merged: an app's own, or those of one ``include`` entry."""
        if paths[0] in above:
            chain = " includes ".join(self.files.name(path) for path in (*above, paths[0]))
            raise RenderError(
                f"These files include each other: {chain}.", where=where_of(self.files, paths[0])
            )
        tree: Any = Map(where_of(self.files, paths[0]))
        for path in paths:
            for document in self.documents(path, lookup):
                self.normalize(document, base)
                self.extend_all(document, path, base, lookup)
                tree = merge(tree, self.included(document, base, lookup, (*above, paths[0])))
        result = strip(tree)
        assert isinstance(result, Map)
        return result

    def documents(self, path: Path, lookup: Lookup) -> list[Map]:
        """The documents of one file, interpolated."""
        text = self.files.text(path)
        self.read_files[path] = None
        name = self.files.name(self.files.source(path) or path)
        documents: list[Map] = []
        for parsed in parse(text, name):
            if parsed is None:
                continue
            if not isinstance(parsed, Map):
                raise RenderError("A compose file is a mapping with 'services:'.", where=Where(name, 1))
            document, problems = interpolate(parsed, lookup)
            self.problems.extend(problems)
            check(document, self.problems)
            documents.append(document)
        return documents

    def normalize(self, document: Map, base: Path) -> None:
        """Resolve what is relative to a folder, while it is known which one."""
        for service in _entries(document, "services"):
            if isinstance(service, Map):
                self.replace(service, "volumes", lambda value, where: _mounts(value, base, where))
                self.replace(service, "env_file", lambda value, _where: parts.env_files(value, base))
                self.replace(service, "build", lambda value, where: _build(value, base, where))
        for section in ("configs", "secrets"):
            for entry in _entries(document, section):
                if isinstance(entry, Map):
                    self.replace(
                        entry, "file", lambda value, where: parts.local_file(value, base, where=where)
                    )

    def replace(self, owner: Map, key: str, change: Any) -> None:
        value = owner.get(key)
        if value is None or isinstance(value, Reset):
            return
        try:
            if isinstance(value, Override):
                owner[key] = Override(change(value.value, value.where), value.where)
            else:
                owner[key] = change(value, owner.where_of(key))
        except RenderError as error:
            # ":/data" is no volume, but what is wrong is that the variable before it is not set.
            unset = dict.fromkeys(parts.unset_variables(value))
            self.problems.extend([parts.unset_error(*one) for one in unset] or [error])
            del owner[key]

    # extends

    def extend_all(self, document: Map, path: Path, base: Path, lookup: Lookup) -> None:
        services = document.get("services")
        if not isinstance(services, Map):
            return
        for name in services:
            services[name] = self.extended(name, services, path, base, lookup, ())

    def extended(
        self,
        name: str,
        services: Map,
        path: Path,
        base: Path,
        lookup: Lookup,
        above: tuple[tuple[Path, str], ...],
    ) -> Any:
        service = services[name]
        if not isinstance(service, Map) or not service.get("extends"):
            return service
        where = service.where_of("extends")
        if (path, name) in above:
            raise RenderError(f"The service {name} extends itself.", where=where)
        extends = service["extends"]
        wanted = extends.get("service") if isinstance(extends, Map) else extends
        file = extends.get("file") if isinstance(extends, Map) else None
        if not isinstance(wanted, str):
            raise RenderError("This extends names no service.", where=where)
        above = (*above, (path, name))
        if file is not None:
            path, base, services = self.other_file(str(file), base, lookup, where)
        if wanted not in services:
            raise RenderError(
                f"The service {wanted}, which {name} extends, is not in {self.files.name(path)}.", where=where
            )
        parent = self.extended(wanted, services, path, base, lookup, above)
        own = Map(service.where)
        for key, value in service.items():
            if key != "extends":
                own.put(key, value, service.where_of(key))
        return merge(parent, own, ("services", name)) if isinstance(parent, Map) else own

    def other_file(self, file: str, base: Path, lookup: Lookup, where: Where) -> tuple[Path, Path, Map]:
        path = self.local(file, base, where, "extends")
        services = Map(where_of(self.files, path))
        for document in self.documents(path, lookup):
            self.normalize(document, path.parent)
            found = document.get("services")
            if isinstance(found, Map):
                for name, service in found.items():
                    services.put(name, service, found.where_of(name))
        return path, path.parent, services

    # include

    def included(self, document: Map, base: Path, lookup: Lookup, above: tuple[Path, ...]) -> Map:
        """The document with what it includes below it."""
        tree: Any = document
        for entry in as_items(document.get("include")):
            where = getattr(entry, "where", document.where_of("include"))
            long = entry if isinstance(entry, Map) else {"path": entry}
            written = [str(item) for item in as_items(long.get("path"))]
            if not written:
                raise RenderError("This include has no path.", where=where)
            paths = tuple(self.local(item, base, where, "include") for item in written)
            folder = long.get("project_directory")
            inner_base = parts.resolve(base, str(folder)) if folder else paths[0].parent
            inner_lookup = self.include_env(long.get("env_file"), base, lookup, where)
            told = len(self.problems)
            inner = self.project(paths, inner_base, inner_lookup, above)
            if long.get("env_file") is None and self.travels(inner_base / ".env", inner):
                # Compose finds it beside what is included, and fills ${…} from it.
                del self.problems[told:]
                inner_lookup = self.env_lookup([inner_base / ".env"], lookup)
                inner = self.project(paths, inner_base, inner_lookup, above)
            tree = merge(self.imported(inner, tree), tree)
        return tree if isinstance(tree, Map) else document

    def imported(self, inner: Map, tree: Map) -> Map:
        """What an include brings to ``tree``. Compose refuses what both have, unless it is the same."""
        sections = Map(inner.where)
        for name in SECTIONS:
            theirs, ours = inner.get(name), unmarked(tree.get(name))
            if not isinstance(theirs, Map):
                continue
            brought = Map(theirs.where)
            for key, value in theirs.items():
                if not isinstance(ours, Map) or key not in ours:
                    brought.put(key, value, theirs.where_of(key))
                elif not _same(ours[key], value):
                    self.problems.append(
                        RenderError(
                            f"{name}.{key} is included, too, and is another one there:"
                            f" {theirs.where_of(key)}.",
                            where=ours.where_of(key),
                            hint="Give one of them another name. What changes an included one stands in a"
                            " file that is listed behind it: include: [{path: [FILE, CHANGES]}].",
                        )
                    )
            sections.put(name, brought, inner.where_of(name))
        return sections

    def include_env(self, value: Any, base: Path, lookup: Lookup, where: Where) -> Lookup:
        """An include's own env files: what the project's ``.env`` doesn't say."""
        if value is None:
            return lookup
        written = [str(item) for item in as_items(value) if str(item) != "/dev/null"]
        return self.env_lookup([self.local(item, base, where, "include") for item in written], lookup)

    def travels(self, path: Path, inner: Map) -> bool:
        """Whether an included folder's ``.env`` comes to the host: the inventory or a service names it."""
        if path == self.files.project / ".env" or self.files.source(path) is None:
            return False
        named = (
            entry
            for service in _entries(inner, "services")
            if isinstance(service, Map)
            for entry in as_items(service.get("env_file"))
        )
        return path in self.files.extra or any(getattr(entry, "path", None) == path for entry in named)

    def env_lookup(self, paths: list[Path], lookup: Lookup) -> Lookup:
        """``lookup``, and below it what these env files say."""
        values: dict[str, str] = {}

        def both(name: str) -> str | None:
            outer = lookup(name)
            return values.get(name) if outer is None else outer

        for path in paths:
            self.read_files[path] = None
            text = self.files.text(path)
            for read in dotenv.read(text, self.files.name(path), lookup=both):
                values[read.key] = read.value
        return both

    def local(self, written: str, base: Path, where: Where, what: str) -> Path:
        if "://" in written or written.startswith(("git@", "github.com/", "oci:")):
            raise RenderError(
                f"{what} of {written!r} is not on this machine.",
                where=where,
                hint="Copy the file into the project: a release may not depend on what a server says later.",
            )
        if written.startswith(("/", "~")):
            raise RenderError(
                f"{what} of {written!r} is not a relative path.",
                where=where,
                hint="Write it relative to the compose file: the host has other folders.",
            )
        path = parts.resolve(base, written)
        if self.files.source(path) is None:
            raise RenderError(f"{written!r}, which {what} names, doesn't exist.", where=where)
        return path


def _entries(document: Map, section: str) -> Iterator[Any]:
    """What a section holds, also where the section or an entry of it is marked ``!override``."""
    found = unmarked(document.get(section))
    for entry in found.values() if isinstance(found, Map) else ():
        yield unmarked(entry)


def _same(one: Any, other: Any) -> bool:
    """Whether two parts say the same, wherever they are written."""
    one, other = unmarked(one), unmarked(other)
    if isinstance(one, Map) and isinstance(other, Map):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, (parts.Mount, parts.LocalFile)) and type(one) is type(other):
        return all(_same(value, vars(other)[name]) for name, value in vars(one).items() if name != "where")
    return bool(one == other)


def _mounts(value: Any, base: Path, where: Where) -> Items:
    result = Items(where)
    for item in as_items(value):
        if isinstance(item, str):
            parts.check_drive(item, getattr(item, "where", where))
        result.append(item if isinstance(item, Reset) else parts.mount(item, base, where))
    return result


def _build(value: Any, base: Path, where: Where) -> Map:
    """``build`` in its long form, its context as a path of the controller."""
    if isinstance(value, Map):
        result = value
    else:
        result = Map(where)
        result.put("context", value, where)
    context = result.get("context", ".")
    if isinstance(context, str) and "://" not in context and not context.startswith(("git@", "/", "~")):
        result["context"] = parts.local_file(context, base, where=where)
    if result.get("additional_contexts"):
        result["additional_contexts"] = _contexts(result["additional_contexts"], base, where)
    return result


def _contexts(value: Any, base: Path, where: Where) -> Any:
    """``additional_contexts`` as a mapping, its folders as paths of the controller."""
    if isinstance(value, Map):
        entries = [(str(name), one, value.where_of(name)) for name, one in value.items()]
    elif isinstance(value, Items):
        pairs = [(*str(item).partition("=")[::2], getattr(item, "where", where)) for item in value]
        entries = [(name, one, place) for name, one, place in pairs]
    else:
        return value
    result = Map(where)
    for name, one, place in entries:
        text = str(one)
        elsewhere = "://" in text or text.startswith(("git@", "service:", "target:"))
        result.put(name, one if elsewhere else parts.local_file(one, base, where=place), place)
    return result
