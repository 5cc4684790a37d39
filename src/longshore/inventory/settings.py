"""Every setting of ours, declared once: validation, JSON Schema and the reference table come from here.

The values they become are in :mod:`longshore.inventory.model`; :mod:`longshore.inventory.apps` makes them.
"""

from __future__ import annotations

from longshore.inventory import balancer, building, engine, proxying
from longshore.inventory.balanced import BALANCED
from longshore.inventory.gates import HOOKS, NOTIFY, SMOKE
from longshore.inventory.kinds import Choice, Command, Flag, Text, Whole, duration
from longshore.inventory.maintaining import MAINTENANCE
from longshore.inventory.referring import TextOrReference
from longshore.inventory.sections import ListOf, MapOf, Section, Setting
from longshore.inventory.services import ENV_NAME, HOSTS, SERVICE, SERVICE_NAME
from longshore.inventory.traffic import TRAFFIC

# What the names of an app and a compose project can be (compose-spec: name).
APP_NAME = r"[a-z0-9][a-z0-9_-]{0,62}"
OWN_FOLDERS = ("agent", "buildx", "images", "work")
"""What lies in a host's state folder beside its apps: one of that name would be cleaned away with agents."""
_REGISTRY_NAME = r"[A-Za-z0-9.-]+(:\d+)?|\[[0-9a-fA-F:]+\](:\d+)?"


_LOCAL_PATH = Text("a path in the project", "compose.yml", pattern=r"[^\x00]+", rule="a path")

_MIGRATE = Section(
    settings=(
        Setting(
            "service", Text("a service", "api"), "Whose image and environment it runs in.", required=True
        ),
        Setting("command", Command(), "What brings the schema up to date.", required=True),
        Setting(
            "history",
            Command(example="alembic history"),
            "What lists the migrations (migrate --history).",
        ),
        Setting("timeout", duration("10m", minimum=1, shortest="1s"), "When it is given up.", "10m"),
        Setting(
            "breaking",
            Flag(),
            "Whether the old release doesn't work on the new schema: it is deployed with maintenance on.",
            "false",
            scope="environment",
        ),
        Setting(
            "back",
            Command(example="alembic downgrade 4f2a"),
            "With breaking: what makes the schema the old one again, from wherever it was left.",
        ),
    )
)

ROLLOUT = Section(
    settings=(
        Setting(
            "serial",
            ListOf(
                item=Text(
                    "a number of hosts, or a percentage",
                    "25%",
                    pattern=r"[1-9]\d{0,5}|([1-9]\d?|100)%",
                    rule="a number of hosts, or a percentage of them (25%)",
                ),
                single=True,
                example="[1, 25%, 100%]",
            ),
            "Sizes of the batches, of the hosts that have something to do; the last one repeats.",
            "all at once",
            scope="environment",
        ),
        Setting(
            "canary",
            Text(
                HOSTS.label,
                HOSTS.example,
                pattern=r"(?!\s*\d+\s*%).*\S.*",
                rule="a host pattern (traffic: {share: 10%} is a share of the requests)",
            ),
            "These hosts are the first batch.",
            scope="environment",
        ),
        Setting(
            "traffic",
            TRAFFIC,
            "A share of the requests for the new release first, or copies of them (docs/proxy.md).",
            scope="environment",
        ),
        Setting(
            "max_fail",
            Whole("a whole number", "1"),
            "So many hosts may fail and are taken back alone; one more takes all back.",
            "0",
            scope="environment",
        ),
        Setting("pause", duration("5m"), "The time between a batch and the next.", "0s", scope="environment"),
        Setting(
            "confirm",
            Flag(),
            "Whether a person says yes before each batch but the first.",
            "false",
            scope="environment",
        ),
        Setting(
            "on_lost_controller",
            Choice("back or keep", "keep", ("back", "keep")),
            "What a host does that loses the controller after its switch: goes back, or keeps the new"
            " release if that is good.",
            "back",
            scope="environment",
        ),
    )
)

_DATABASE = Section(
    settings=(
        Setting(
            "kind",
            Choice("a kind of database", "postgres", ("postgres", "mysql", "redis")),
            "What it is.",
            required=True,
        ),
        Setting("service", Text("a service", "db"), "Where it runs.", "its name here"),
        Setting("user", Text("a user", "app"), "Who psql and the like log in as."),
        Setting("database", Text("a database", "app"), "The database they open."),
    )
)

APP = Section(
    settings=(
        Setting("hosts", HOSTS, "Which hosts run the app.", "all", scope="environment"),
        Setting(
            "compose",
            ListOf(item=_LOCAL_PATH, single=True, example="compose.yml"),
            "Its compose files, from the project's root; *.j2 is a template.",
            required=True,
        ),
        Setting(
            "project",
            Text(
                "a project name",
                "shop",
                pattern=APP_NAME,
                rule="a compose project name (small letters, digits, - and _)",
            ),
            "Compose's project name.",
            "the app's name",
            scope="environment",
        ),
        Setting(
            "profiles",
            ListOf(item=Text("a profile", "worker"), single=True, example="[worker]"),
            "Compose profiles that are on.",
        ),
        Setting(
            "env",
            MapOf(item=TextOrReference(), key=ENV_NAME, key_rule="the name of an environment variable"),
            "Variables of its .env, together with those of the files in env/; or where a secret is kept.",
        ),
        Setting(
            "files",
            MapOf(
                item=_LOCAL_PATH,
                key=r"(?!/)(?!(.*/)?\.\.(/|$))[^\x00]+",
                key_rule="a path inside the release (no leading /, no ..)",
            ),
            "Further files of the release: path there to path in the project; *.j2 is a template.",
        ),
        Setting(
            "mounts",
            MapOf(item=Choice("ship, state or drop", "state", ("ship", "state", "drop"))),
            "What a relative bind mount is: shipped with the release, state on the host, or left out.",
        ),
        Setting(
            "services",
            MapOf(item=SERVICE, key=SERVICE_NAME, key_rule="the name of a service"),
            "Policy by service.",
        ),
        Setting("defaults", SERVICE, "Policy for every service that doesn't say otherwise."),
        Setting("migrate", _MIGRATE, "How its schema is brought up to date."),
        Setting("maintenance", MAINTENANCE, "What is shown while maintenance is on."),
        Setting(
            "balanced",
            BALANCED,
            "A load balancer is in front of the hosts, and a host that has a gap goes out of it first.",
            scope="environment",
        ),
        Setting("rollout", ROLLOUT, "How a release goes over the fleet: in batches, and what may fail."),
        Setting(
            "smoke",
            ListOf(item=SMOKE, example="[{url: /health}]"),
            "Checks from outside after a switch.",
        ),
        Setting("hooks", HOOKS, "How the hooks are run (docs/hooks.md)."),
        Setting(
            "notify",
            ListOf(item=NOTIFY, example="[{webhook: https://hooks.example.org/x, outcomes: [failed]}]"),
            "Who hears how a run ended.",
            scope="environment",
        ),
        Setting(
            "databases",
            MapOf(item=_DATABASE, key=SERVICE_NAME, key_rule="a name"),
            "Databases that psql, db-check and the like know.",
        ),
        Setting(
            "url",
            Text("a URL", "https://example.org", pattern=r"https?://\S+", rule="a URL"),
            "Where people reach it.",
        ),
        Setting(
            "keep",
            Whole("a whole number", "5", minimum=2, maximum=1000),
            "How many good releases stay on a host, to go back to.",
            "5",
        ),
        Setting(
            "health_timeout",
            duration("2m", minimum=1, shortest="1s"),
            "The time to get healthy after a switch.",
            "2m",
        ),
        Setting(
            "stability",
            duration("3s"),
            "The time without a restart that makes a release good; set, also where a check passes at once.",
            "3s; with a health check 0",
        ),
        Setting(
            "pin",
            Choice("always, when-possible or never", "always", ("always", "when-possible", "never")),
            "Whether images are pinned by digest.",
            "when-possible",
        ),
    )
)

_REGISTRY = Section(
    settings=(
        Setting("insecure", Flag(), "Whether plain HTTP or an unknown certificate is taken.", "false"),
        Setting(
            "mirror",
            Text("a registry", "mirror.example.com:5000", pattern=r"\S+", rule="a registry"),
            "Asked instead.",
        ),
        Setting("username", Text("a user", "deploy"), "Who logs in."),
        Setting(
            "password",
            TextOrReference("a password", "{from: env, ref: REGISTRY_PASSWORD}"),
            "Its password or token: best said as where it is kept.",
        ),
        Setting("ca", _LOCAL_PATH, "A PEM file of the project with its certificate authorities."),
    )
)

ROOT = Section(
    settings=(
        Setting(
            "state_dir",
            Text(
                "an absolute path",
                "/var/lib/longshore",
                pattern=r"/(?!.*(^|/)\.\.?(/|$))[^\x00:\s]*[^\x00:\s/]",
                rule="an absolute path without spaces, : and ..",
            ),
            "Where releases and state live on a host.",
            "/var/lib/longshore",
        ),
        Setting(
            "recover_at_boot",
            Flag(),
            "Whether a host that lost its power undoes what it had begun when it comes up: by a systemd unit,"
            " or a line for cron (docs/reliability.md).",
            "true",
        ),
        Setting(
            "parallel",
            Whole("a whole number", "20", minimum=1, maximum=500),
            "How many hosts are worked on at once.",
            "20",
            scope="environment",
        ),
        Setting(
            "connect_timeout",
            duration("10s", minimum=0.1, shortest="100ms"),
            "When a connection attempt is given up.",
            "10s",
            scope="environment",
        ),
        Setting(
            "registries",
            MapOf(
                item=_REGISTRY,
                key=_REGISTRY_NAME,
                key_rule="a registry's host name",
            ),
            "Registries by host name.",
            scope="environment",
        ),
        Setting("build", building.BUILD, "How images are built.", scope="environment"),
        Setting("engine", engine.ENGINE, "The Docker engine, as bootstrap sets it up.", scope="environment"),
        Setting("proxy", proxying.PROXY, "The host's proxy, one for all of its applications."),
        Setting(
            "balancer",
            balancer.BALANCER,
            "A load balancer of ours on hosts of its own, before the hosts' proxies (docs/balancer.md).",
            scope="environment",
        ),
        Setting(
            "registry",
            Choice("named or none", "none", ("named", "none")),
            "Where built images are kept: in the registry that their name says, or in none: then they move"
            " from the builder to the hosts over SSH.",
            "named",
            scope="environment",
        ),
        Setting(
            "production",
            Flag(),
            "Whether this is production: what is not committed is not built for it.",
            "for prod, production, and names that begin with prod-",
            scope="environment",
        ),
        Setting(
            "pulls",
            Whole("a whole number", "10", minimum=1, maximum=500),
            "How many hosts pull images at once.",
            "10",
            scope="environment",
        ),
        Setting(
            "roles",
            ListOf(
                item=Text("a role", "app", pattern=r"[a-z_][a-z0-9_]*", rule="the name of a role"),
                single=True,
                example="[app, postgres]",
            ),
            "What a host is for: built-in roles, and those of the project's roles/.",
            "none",
        ),
        Setting(
            "apps",
            MapOf(
                item=APP,
                key=f"(?!({'|'.join(OWN_FOLDERS)})$){APP_NAME}",
                key_rule="the name of an app (small letters, digits, - and _; agent, buildx, images and work"
                " are folders of Longshore's own on a host)",
            ),
            "The applications, by name.",
        ),
    )
)
