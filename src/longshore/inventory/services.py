"""The settings of a service, declared once: what it may take, how it logs, how its health is checked.

The rest of the settings is in :mod:`longshore.inventory.settings`; what they become is
:class:`~longshore.inventory.model.ServicePolicy`.
"""

from __future__ import annotations

from longshore.inventory import building, proxying
from longshore.inventory.dockerfiles import DOCKERFILE
from longshore.inventory.gates import PROBE
from longshore.inventory.kinds import CPUS, Flag, ShellOrList, Text, Whole, duration, size
from longshore.inventory.sections import ListOf, MapOf, Section, Setting

# compose-spec: services.
SERVICE_NAME = r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}"
ENV_NAME = r"[A-Za-z_][A-Za-z0-9_.-]*"
HOSTS = Text("a host pattern", "web:!web3", pattern=r".*\S.*", rule="a host pattern")
_PORT = Whole("a port", "8000", minimum=1, maximum=65535)
_RESTART = Text(
    "a restart policy",
    "unless-stopped",
    pattern=r"no|always|unless-stopped|on-failure(:[0-9]+)?",
    rule="one of no, always, unless-stopped, on-failure, on-failure:3",
)

LOGGING = Section(
    settings=(
        Setting("driver", Text("a logging driver", "local"), "The engine's logging driver.", "json-file"),
        Setting(
            "max_size",
            size("10m", base=1000, minimum=1000, shortest="1k"),
            "A log file is rotated when it has grown to this.",
            "10m",
        ),
        Setting(
            "max_file",
            Whole("a whole number", "3", minimum=1, maximum=1000),
            "How many log files are kept.",
            "3",
        ),
        Setting("compress", Flag(), "Whether rotated log files are compressed.", "true"),
        Setting(
            "options",
            MapOf(item=Text(example='"{{.Name}}"')),
            "Further options of the driver, passed on as they are.",
        ),
    )
)

HEALTH = Section(
    one_of=("http", "tcp", "command", "none"),
    settings=(
        Setting(
            "http",
            Text(
                "PORT/PATH or a URL",
                "8000/health",
                pattern=r"(\d{1,5}(/\S*)?|https?://\S+)",
                rule="PORT/PATH or a URL",
            ),
            "Healthy when this answers with a status below 400 inside the container.",
        ),
        Setting("tcp", _PORT, "Healthy when this port takes a connection inside the container."),
        Setting(
            "command", ShellOrList(), "Healthy when this command exits with 0; a line runs in the shell."
        ),
        Setting("none", Flag(), "Switches the health check of the image or compose file off.", "false"),
        Setting("interval", duration("30s", minimum=0.001, shortest="1ms"), "The time between two checks."),
        Setting(
            "timeout", duration("10s", minimum=0.001, shortest="1ms"), "A check that takes longer failed."
        ),
        Setting("start_period", duration("40s"), "Failures in this time after the start don't count."),
        Setting(
            "retries",
            Whole("a whole number", "3", minimum=1, maximum=1000),
            "So many failures in a row make it unhealthy.",
        ),
    ),
)

_RESERVE = Section(
    settings=(
        Setting("cpus", CPUS, "CPU cores that are kept for the service."),
        Setting("memory", size("256M"), "Memory that is kept for the service."),
    )
)

SERVICE = Section(
    settings=(
        Setting(
            "image",
            Text("an image", "registry.example.com/api:1.4", pattern=r"\S+", rule="an image"),
            "Replaces the compose file's image.",
        ),
        Setting(
            "hosts",
            HOSTS,
            "Which of the app's hosts run this service; all of them when not said.",
            scope="environment",
        ),
        Setting("cpus", CPUS, "The most CPU cores the service can use."),
        Setting(
            "memory",
            # Docker refuses less than 6 MB (moby: linuxMinMemory).
            size("512M", minimum=6 * 1024 * 1024, shortest="6M"),
            "The most memory the service can use.",
        ),
        Setting(
            "pids",
            Whole("a whole number", "512", minimum=1, maximum=4_194_304),
            "The most processes and threads.",
        ),
        Setting("reserve", _RESERVE, "What is kept for the service."),
        Setting("restart", _RESTART, "When the engine starts it again."),
        Setting("logging", LOGGING, "Where its output goes, and how it is rotated."),
        Setting(
            "volumes",
            ListOf(item=Text("a volume", "data:/var/lib/app", pattern=r"\S.*", rule="a volume")),
            "Added to the compose file's volumes, in its short form.",
        ),
        Setting(
            "ports",
            ListOf(
                item=Text(
                    "a port",
                    '"8000:8000"',
                    pattern=r"[0-9a-fA-F.:\[\]\-]+(/(tcp|udp|sctp))?",
                    rule="a port as compose writes it",
                ),
                example='["127.0.0.1:8000:8000"]',
            ),
            "Replaces the compose file's published ports; an empty list publishes none.",
        ),
        Setting("health", HEALTH, "Its health check: one of http, tcp, command, none, or only times."),
        Setting("probe", PROBE, "A request through its published port, before a release counts as good."),
        Setting(
            "environment",
            MapOf(item=Text(example="info"), key=ENV_NAME, key_rule="the name of an environment variable"),
            "Added to the service's environment. Secrets belong in the app's env.",
        ),
        Setting("labels", MapOf(item=Text(example="web")), "Added to the container's labels."),
        Setting(
            "replicas",
            Whole("a whole number", "2", minimum=0, maximum=1000),
            "How many containers run on each host.",
        ),
        Setting(
            "platform",
            Text(
                "a platform",
                "linux/arm64",
                pattern=building.PLATFORM,
                rule="a platform as linux/arm64",
            ),
            "The platform of its image.",
        ),
        Setting("build", building.POLICY, "How its image is built, over the compose file's `build`."),
        Setting("dockerfile", DOCKERFILE, "What `invoke dockerfile` renders for it."),
        Setting("stop_grace", duration("30s"), "The time it has to stop before it is killed."),
        Setting(
            "proxy", proxying.POLICY, "How requests come to it through the host's proxy (docs/proxy.md)."
        ),
        Setting(
            "overlap",
            Flag(),
            "Whether its old and its new containers may run side by side during a deploy.",
            "true with `proxy`, unless it publishes a port, has a fixed name or a volume it writes to",
        ),
    )
)
