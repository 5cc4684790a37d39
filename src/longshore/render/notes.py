"""What a person should know about a service before it runs on a server: notes and warnings, never errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from longshore.render.bundle import Note
from longshore.render.document import Map
from longshore.render.merge import as_items, as_names
from longshore.render.parts import LocalFile, Mount, Port

_DATABASES = {
    "postgres": "PostgreSQL",
    "postgis": "PostgreSQL",
    "pgvector": "PostgreSQL",
    "timescaledb": "PostgreSQL",
    "mysql": "MySQL",
    "mariadb": "MariaDB",
    "percona": "MySQL",
    "redis": "Redis",
    "valkey": "Valkey",
    "mongo": "MongoDB",
    "memcached": "memcached",
    "elasticsearch": "Elasticsearch",
    "opensearch": "OpenSearch",
    "rabbitmq": "RabbitMQ",
    "clickhouse-server": "ClickHouse",
    "cassandra": "Cassandra",
    "influxdb": "InfluxDB",
}
_DATABASE_PORTS = {5432, 3306, 6379, 27017, 11211, 9200, 9042, 1433, 1521, 8123}
_LATER = {"post_start": "2.30", "pre_stop": "2.30", "gpus": "2.30", "provider": "2.36", "models": "2.38"}
_SOURCE_MARKS = (
    "Dockerfile", "pyproject.toml", "setup.py", "requirements.txt", "package.json", "go.mod", "Cargo.toml",
    "composer.json", "Gemfile", "pom.xml", "build.gradle", "manage.py",
)  # fmt: skip


def service_notes(
    name: str, service: Map, *, image: str | None, written_image: str | None, ports: tuple[Port, ...]
) -> Iterator[Note]:
    """Everything worth saying about one service; ``image`` is as it will run, ``written_image`` unpinned."""
    if image is not None and written_image is not None and "@sha256:" not in image:
        repository, tag = split_tag(written_image)
        if tag in ("", "latest"):
            yield Note(
                "warning",
                f"{repository} has {'the tag latest' if tag else 'no tag'} and isn't pinned by digest: "
                "what runs depends on when each host pulls.",
                service.where_of("image"),
                name,
            )
    yield from _database_notes(name, image, ports)
    if service.get("container_name"):
        yield _note(name, service, "container_name", "has a fixed container_name, so it is replaced in place")
    elif any(port.published for port in ports):
        yield _note(name, service, "ports", "publishes a port of the host, so it is replaced in place")
    if str(service.get("network_mode") or "") == "host":
        yield Note(
            "note",
            f"{name} uses the host's network: its ports are the host's, whatever a firewall in Docker says.",
            service.where_of("network_mode"),
            name,
        )
    for key, version in _LATER.items():
        if service.get(key):
            yield Note(
                "warning",
                f"{key} needs Compose {version} on the host; older versions ignore or refuse it.",
                service.where_of(key),
                name,
            )
    deploy = service.get("deploy")
    for key in ("update_config", "rollback_config", "placement", "endpoint_mode"):
        if isinstance(deploy, Map) and deploy.get(key):
            yield Note("note", f"deploy.{key} is Swarm's, and ignored here.", deploy.where_of(key), name)
    logging = service.get("logging")
    if isinstance(logging, Map) and logging.get("driver") == "none":
        yield Note("warning", f"{name} logs nowhere (driver none).", service.where_of("logging"), name)


def _note(name: str, service: Map, key: str, what: str) -> Note:
    return Note("note", f"{name} {what}: there is a gap when it changes.", service.where_of(key), name)


def _database_notes(name: str, image: str | None, ports: tuple[Port, ...]) -> Iterator[Note]:
    repository = split_tag(image or "")[0].rpartition("/")[2]
    product = _DATABASES.get(repository)
    for port in ports:
        if port.published and not port.ip and (product or port.target in _DATABASE_PORTS):
            yield Note(
                "warning",
                f"{product or 'A database'} is published on every address of the host ({port.published}). "
                "Docker's rules come before ufw's, so a firewall there doesn't help: "
                f"write 127.0.0.1:{port.published}:{port.target}, or publish nothing.",
                port.where,
                name,
            )


def source_mount(mount: Mount, service: Map) -> bool:
    """Whether a bind mount lays the laptop's source code over what was built into the image."""
    build = service.get("build")
    if mount.path is None or not isinstance(build, Map):
        return False
    context = build.get("context")
    folder = context.path if isinstance(context, LocalFile) else None
    if folder is not None and (folder == mount.path or folder.is_relative_to(mount.path)):
        return True
    return _is_source(mount.path, folder)


def _is_source(path: Path, context: Path | None) -> bool:
    if not path.is_dir():
        return False
    if any((path / mark).exists() for mark in _SOURCE_MARKS):
        return True
    code = {".py", ".js", ".ts", ".tsx", ".go", ".rb", ".rs", ".php", ".java"}
    inside = context is not None and path.is_relative_to(context)
    return inside and any(child.suffix in code for child in path.iterdir())


def source_note(mount: Mount, name: str) -> Note:
    """What to say about such a mount."""
    return Note(
        "warning",
        f"{mount.written} lays source code over the image's {mount.target}, for a laptop's sake. "
        f"To run what was built: mounts: {{{mount.written}: drop}}.",
        mount.where,
        name,
    )


def project_notes(
    networks: Mapping[str, Any], volumes: Mapping[str, Any], used: Mapping[str, set[str]]
) -> Iterator[Note]:
    """Networks and volumes that must exist on the host, because Compose won't make them."""
    for kind, entries in (("network", networks), ("volume", volumes)):
        for name, entry in entries.items():
            if isinstance(entry, Map) and entry.get("external") and name in used[kind]:
                external = entry["external"]
                real = (
                    entry.get("name") or (external.get("name") if isinstance(external, Map) else "") or name
                )
                if str(external).lower() != "false":
                    yield Note(
                        "note",
                        f"The {kind} {real} is external: it must exist on the host.",
                        entry.where,
                    )


def used_names(services: Mapping[str, Map], here: tuple[str, ...]) -> dict[str, set[str]]:
    """The networks and volumes that the services use."""
    networks: set[str] = set()
    volumes: set[str] = set()
    for name in here:
        service = services[name]
        networks |= set(as_names(service["networks"])) if service.get("networks") else {"default"}
        volumes |= {
            mount.source
            for mount in as_items(service.get("volumes"))
            if isinstance(mount, Mount) and mount.type == "volume"
        }
    return {"network": networks, "volume": volumes}


def split_tag(image: str) -> tuple[str, str]:
    """Return repository and tag of a reference, without its digest."""
    bare = image.partition("@")[0]
    head, _, last = bare.rpartition("/")
    name, _, tag = last.partition(":")
    return (f"{head}/{name}" if head else name), tag
