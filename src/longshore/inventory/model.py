"""What an inventory says, as frozen values. Nothing here reads a file or talks to a host.

Sizes are bytes, times are seconds, CPU is in cores; the inventory's ``512M``, ``30s`` and ``0.5`` are
parsed on the way in (:mod:`longshore.values`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Literal

from longshore.errors import Where
from longshore.inventory.balanced import Balanced
from longshore.inventory.balancer import Balancer
from longshore.inventory.building import BuildPolicy, BuildSettings
from longshore.inventory.dockerfiles import DockerfilePolicy
from longshore.inventory.maintaining import Maintenance
from longshore.inventory.proxying import ProxyPolicy, ProxySettings
from longshore.inventory.traffic import Traffic
from longshore.records import dataclass
from longshore.roles import Role
from longshore.secrets.references import Reference

Level = Literal["role", "all", "group", "host", "command line"]
"""The five levels of precedence, weakest first."""


@dataclass(frozen=True)
class Source:
    """Where a value came from. ``name`` is the role, group or host that it was said for."""

    level: Level
    name: str
    where: Where


@dataclass(frozen=True)
class Variable:
    """A variable as one host sees it: the winner first, then what it overrode."""

    name: str
    value: Any
    source: Source
    overrode: tuple[tuple[Any, Source], ...] = ()


@dataclass(frozen=True)
class SshSettings:
    """How a host is reached. ``None`` means: as ``~/.ssh/config`` or OpenSSH's default says."""

    address: str
    user: str | None = None
    port: int | None = None
    identity_file: str | None = None
    connection: Literal["ssh", "local"] = "ssh"
    python: str = "python3"
    become: bool = False
    become_user: str = "root"
    common_args: str = ""


@dataclass(frozen=True)
class Host:
    """One host: its name in the inventory, how it is reached, its groups (nearest first), its variables."""

    name: str
    ssh: SshSettings
    groups: tuple[str, ...]
    vars: Mapping[str, Variable]
    where: Where


@dataclass(frozen=True)
class Group:
    """A group: its hosts (own and its children's, in the inventory's order) and its direct children."""

    name: str
    hosts: tuple[str, ...]
    children: tuple[str, ...]


@dataclass(frozen=True)
class EnvValue:
    """One variable of an app's ``.env``. ``secret`` values are masked wherever they would be shown."""

    value: str
    source: Source
    secret: bool = False
    overrode: tuple[EnvValue, ...] = ()
    """What it overrode, strongest first; each as it is written."""
    parts: tuple[str | Reference, ...] = ()
    """What it is made of, when a reference to a store of secrets is in it."""
    sealed: bool = False
    """It is kept encrypted or in a store, so it is a secret whatever it looks like."""
    known: bool = True
    """Whether ``value`` is the value. If not, it is what was written, with its references."""

    def __repr__(self) -> str:  # a traceback or an assertion must not show a secret
        return f"EnvValue({'***' if self.secret else repr(self.value)})"


@dataclass(frozen=True)
class Logging:
    """Where a service's output goes. A service without rotation doesn't exist."""

    driver: str = "json-file"
    max_size: int = 10 * 1000 * 1000
    max_file: int = 3
    compress: bool = True
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class EnginePolicy:
    """How the engine gets onto hosts, and what it is told there."""

    source: Literal["auto", "distro", "docker"] = "auto"
    """``auto``: the distribution's packages where they are new enough, else Docker's own."""
    repository: str = "https://download.docker.com"
    """Docker's package repository, or a mirror of it."""
    key: str = "9DC858229FC7DD38854AE2D88D81803C0EBFCD88"
    """The fingerprint of the repository's signing key (docs.docker.com/engine/install/debian)."""
    live_restore: bool = True
    logging: Logging = field(default_factory=Logging)
    """For containers that don't say otherwise, ours or not."""


@dataclass(frozen=True)
class Health:
    """A container's health check. Exactly one of ``http``, ``tcp``, ``command``, ``none`` is given,
    or none of them, which keeps the image's or compose file's own test and changes only the times.

    ``http`` is ``PORT/PATH`` or a URL on 127.0.0.1; ``tcp`` a port; ``command`` a shell command or a list.
    """

    http: str | None = None
    tcp: int | None = None
    command: str | tuple[str, ...] | None = None
    none: bool = False
    interval: float | None = None
    timeout: float | None = None
    start_period: float | None = None
    retries: int | None = None


@dataclass(frozen=True)
class Probe:
    """A request to a container's ``port``, through the host's published one, until ``status`` comes back."""

    port: int
    path: str = "/"
    status: int = 200
    timeout: float = 10.0


@dataclass(frozen=True)
class ServicePolicy:
    """What the inventory lays over one service of the compose file. ``None``: as the file has it."""

    image: str | None = None
    hosts: str | None = None
    """A host pattern: which of the app's hosts run this service. ``None``: all of them."""
    cpus: float | None = None
    memory: int | None = None
    pids: int | None = None
    reserve_cpus: float | None = None
    reserve_memory: int | None = None
    restart: str | None = None
    logging: Logging | None = None
    volumes: tuple[str, ...] = ()
    ports: tuple[str, ...] | None = None
    health: Health | None = None
    probe: Probe | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    replicas: int | None = None
    platform: str | None = None
    build: BuildPolicy | None = None
    dockerfile: DockerfilePolicy | None = None
    stop_grace: float | None = None
    proxy: ProxyPolicy | None = None
    overlap: bool | None = None
    """Whether two releases of it may run side by side. ``None``: decided by what the service is."""


@dataclass(frozen=True)
class Migrate:
    """How an app's schema is brought up to date: ``command`` in a one-off container of ``service``."""

    service: str
    command: tuple[str, ...]
    history: tuple[str, ...] = ()
    timeout: float = 600.0
    breaking: bool = False
    """The old release doesn't work on the new schema."""
    back: tuple[str, ...] = ()
    """What makes the schema the old one again, from wherever ``command`` left it."""


@dataclass(frozen=True)
class SmokeCheck:
    """One check from the controller: of one of ``url``, ``tcp``, ``tls`` (``host:port``) and ``command``."""

    name: str
    url: str | None = None
    tcp: str | None = None
    tls: str | None = None
    command: tuple[str, ...] = ()
    root: Path = field(default_factory=Path)
    """The project's folder, where ``command`` runs."""
    method: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | None = None
    status: int = 200
    answer_headers: Mapping[str, str] = field(default_factory=dict)
    contains: str | None = None
    matches: str | None = None
    json: Mapping[str, Any] = field(default_factory=dict)
    latency: float | None = None
    days: int = 14
    timeout: float = 10.0
    retries: int = 5
    deadline: float | None = None

    @property
    def place(self) -> str:
        """What is looked at: the URL, the address or the command."""
        return self.url or self.tcp or self.tls or " ".join(self.command)


@dataclass(frozen=True)
class HookSettings:
    """How the hooks are run. ``timeout`` (seconds): when one is given up."""

    timeout: float = 60.0


@dataclass(frozen=True)
class Webhook:
    """Who is told how a run ended. ``url`` and the headers' values are secrets."""

    url: str = field(repr=False)
    outcomes: tuple[str, ...] = ("deployed", "failed", "taken back", "rolled back")
    format: Literal["slack", "json"] = "slack"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class RolloutPolicy:
    """How a release goes over the fleet; the same for all hosts of an app."""

    serial: tuple[str, ...] = ()
    """Sizes of the batches: numbers of hosts, or percentages (``25%``) of those that have something to do.
    The last one repeats. Empty: all at once."""
    canary: str | None = None
    """A host pattern: these are the first batch."""
    max_fail: int = 0
    """So many hosts may fail and be taken back alone; one more takes all back."""
    pause: float = 0.0
    confirm: bool = False
    on_lost_controller: Literal["back", "keep"] = "back"
    traffic: Traffic = field(default_factory=Traffic)


@dataclass(frozen=True)
class Database:
    """A database that the daily commands know how to talk to."""

    name: str
    kind: Literal["postgres", "mysql", "redis"]
    service: str
    user: str | None = None
    database: str | None = None


@dataclass(frozen=True)
class Registry:
    """A registry by its host name. ``mirror`` is asked instead, when given (as Docker's own setting)."""

    name: str
    insecure: bool = False
    mirror: str | None = None
    username: str | None = None
    password: str | None = None
    ca: Path | None = None
    """A file with the certificate authorities that it is checked against."""
    password_from: Reference | None = None
    """Where the password is kept; ``password`` is ``None`` until it has been asked for."""
    where: Where | None = None

    def __repr__(self) -> str:
        return f"Registry({self.name!r})"


MountRule = Literal["ship", "state", "drop"]


@dataclass(frozen=True)
class App:
    """An application as one host sees it: the settings after all five levels."""

    name: str
    hosts: str
    """The host pattern of the app; its resolved hosts are in ``Environment.apps``."""
    compose: tuple[Path, ...]
    """Absolute paths; ``*.j2`` is a template, everything else is deployed as it is."""
    project: str
    profiles: tuple[str, ...] = ()
    files: Mapping[str, Path] = field(default_factory=dict)
    """Extra files of the bundle: path in the bundle to absolute source path (``*.j2`` is a template)."""
    mounts: Mapping[str, MountRule] = field(default_factory=dict)
    services: Mapping[str, ServicePolicy] = field(default_factory=dict)
    defaults: ServicePolicy = field(default_factory=ServicePolicy)
    """Policy for every service that doesn't say otherwise."""
    migrate: Migrate | None = None
    maintenance: Maintenance = field(default_factory=Maintenance)
    balanced: Balanced | None = None
    rollout: RolloutPolicy = field(default_factory=RolloutPolicy)
    smoke: tuple[SmokeCheck, ...] = ()
    hooks: HookSettings = field(default_factory=HookSettings)
    notify: tuple[Webhook, ...] = ()
    databases: Mapping[str, Database] = field(default_factory=dict)
    url: str | None = None
    keep: int = 5
    health_timeout: float = 120.0
    stability: float | None = None
    """Seconds; ``None``: 3 s for services without a health check, and none for those that have one."""
    pin: Literal["always", "when-possible", "never"] = "when-possible"
    where: Where = field(default_factory=lambda: Where(""))


@dataclass(frozen=True)
class Target:
    """One app on one host: everything that rendering its bundle needs."""

    environment: str
    root: Path
    app: App
    host: Host
    env: Mapping[str, EnvValue]
    vars: Mapping[str, Any]
    """The host's variables with templates resolved, for Jinja2; with Ansible's ``inventory_hostname``,
    ``groups`` and ``hostvars``, and where the inventory doesn't use these names itself, ``app`` (the app's
    name) and ``environment``. A variable that is broken raises its sentence when a template uses it."""
    placed: Mapping[str, tuple[str, ...]]
    """For services with a ``hosts`` pattern: the names of the hosts that run it."""
    state_dir: str
    recover_at_boot: bool = True
    """Whether the host undoes what was begun when it lost its power, by itself."""
    roles: tuple[Role, ...] = ()
    """The host's roles, in the order in which the inventory names them."""
    proxy: ProxySettings = field(default_factory=ProxySettings)


@dataclass(frozen=True)
class Environment:
    """A whole inventory, checked. ``hosts`` and ``groups`` are in the inventory's order."""

    name: str
    root: Path
    hosts: Mapping[str, Host]
    groups: Mapping[str, Group]
    apps: Mapping[str, tuple[str, ...]]
    """App name to the names of its hosts."""
    targets: Mapping[tuple[str, str], Target]
    """(app, host) to target."""
    registries: Mapping[str, Registry]
    build: BuildSettings = field(default_factory=BuildSettings)
    engine: EnginePolicy = field(default_factory=EnginePolicy)
    balancer: Balancer | None = None
    registry: Literal["named", "none"] = "named"
    """``none``: built images are in no registry, but move from the builder to the hosts."""
    production: bool = False
    pulls: int = 10
    """How many hosts pull at once."""
    parallel: int = 20
    connect_timeout: float = 10.0
    state_dir: str = "/var/lib/longshore"
    files: tuple[str, ...] = ()
    """Every file that was read, relative to ``root``."""
    warnings: tuple[str, ...] = ()
    """Sentences about what is allowed and yet probably not meant."""
    locked: tuple[str, ...] = ()
    """Encrypted env files that were not opened, because the command needs none of their values."""
