"""The settings that decide whether a release is good, and who hears of it: probes, smoke checks, hooks,
notifications. The rest of the settings is in :mod:`longshore.inventory.settings`."""

from __future__ import annotations

import re
from typing import Any

from longshore.inventory.kinds import Anything, Choice, Command, Reading, Text, Whole, duration
from longshore.inventory.nodes import Node
from longshore.inventory.sections import ListOf, MapOf, Section, Setting, headers

OUTCOMES = ("deployed", "failed", "taken back", "rolled back")
"""How a run can end, as notifications call it."""


class Pattern(Text):
    """A regular expression, as Python's ``re`` reads it."""

    def read(self, node: Node, name: str, reading: Reading) -> str | None:
        text = super().read(node, name, reading)
        if text is None:
            return None
        try:
            re.compile(text)
        except (re.error, OverflowError) as error:
            reading.problem(f"{name}: {text[:60]!r} is not a regular expression: {error}.", node.where)
            return None
        return text

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "format": "regex"}


def _place(example: str) -> Text:
    return Text("HOST:PORT", example, pattern=r"(\[[0-9a-fA-F:.]+\]|[^\s:\[\]]+):\d{1,5}", rule="HOST:PORT")


def _status() -> Whole:
    return Whole("an HTTP status", "200", minimum=100, maximum=599)


PROBE = Section(
    settings=(
        Setting(
            "http",
            Text("PORT/PATH", "8000/health", pattern=r"\d{1,5}(/[^\s\x00]*)?", rule="PORT/PATH"),
            "What the agent requests once the containers are healthy: the container's port, and a path.",
            required=True,
        ),
        Setting("status", _status(), "The status that is right.", "200"),
        Setting(
            "timeout",
            duration("10s", minimum=0.1, shortest="100ms"),
            "The time in which that must be answered; it is tried again until then.",
            "10s",
        ),
    )
)

SMOKE = Section(
    one_of=("url", "tcp", "tls", "command"),
    settings=(
        Setting("name", Text("a name", "docs"), "How it is called in the report.", "what is checked"),
        Setting(
            "url",
            Text("a URL", "https://example.org/health", pattern=r"(https?://\S+|/\S*)", rule="a URL"),
            "What is requested; a path is taken on the app's url.",
        ),
        Setting("tcp", _place("example.org:5432"), "What must take a connection."),
        Setting("tls", _place("example.org:443"), "Whose certificate must be valid for `days` more."),
        Setting(
            "command",
            Command(example="[bin/check-orders, --quick]"),
            "What must exit with 0, run here in the project's folder, without a shell.",
        ),
        Setting(
            "method",
            Choice("a method", "POST", ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")),
            "How the URL is requested.",
            "GET, with a body POST",
        ),
        Setting("headers", headers("application/json"), "Headers of the request."),
        Setting("body", Text("a text", "'{\"ping\": 1}'"), "The body of the request."),
        Setting("status", _status(), "The status that is right.", "200"),
        Setting("answer_headers", headers("max-age"), "Headers of the answer, and what each must hold."),
        Setting("contains", Text("a text", "ok"), "What the body, or the command's output, must hold."),
        Setting(
            "matches",
            Pattern("a regular expression", "'version \\d+'"),
            "What must be found in the body, or the command's output.",
        ),
        Setting(
            "json",
            MapOf(item=Anything(example="ok")),
            "Paths in the answered JSON (data.status) and their values.",
        ),
        Setting(
            "latency",
            duration("500ms", minimum=0.001, shortest="1ms"),
            "The time in which the whole answer must be here.",
        ),
        Setting(
            "days",
            Whole("a whole number", "14", minimum=0, maximum=3650),
            "How long the certificate of tls must still be valid.",
            "14",
        ),
        Setting("timeout", duration("10s", minimum=0.001, shortest="1ms"), "A try's longest time.", "10s"),
        Setting(
            "retries",
            Whole("a whole number", "5", minimum=0, maximum=1000),
            "How often it is tried again.",
            "5",
        ),
        Setting(
            "deadline",
            duration("60s", minimum=0.001, shortest="1ms"),
            "The longest time with all its tries.",
        ),
    ),
)

HOOKS = Section(
    settings=(
        Setting(
            "timeout",
            duration("60s", minimum=0.1, shortest="100ms"),
            "When a hook is given up, whatever its kind.",
            "60s",
            scope="environment",
        ),
    )
)

NOTIFY = Section(
    settings=(
        Setting(
            "webhook",
            Text(
                "a URL",
                "https://hooks.example.org/T0/B0/x",
                pattern=r"https?://\S+",
                rule="a URL",
                secret=True,
            ),
            "Where the outcome of a run is posted. Taken for a secret.",
            required=True,
        ),
        Setting(
            "outcomes",
            ListOf(
                item=Choice("an outcome", "failed", OUTCOMES), single=True, example="[failed, taken back]"
            ),
            "Which outcomes.",
            ", ".join(OUTCOMES),
        ),
        Setting(
            "format",
            Choice("slack or json", "json", ("slack", "json")),
            "A text as Slack and those like it take it, or everything as JSON.",
            "slack",
        ),
        Setting("headers", headers("Bearer …"), "Headers of the request. Taken for secrets."),
    )
)
