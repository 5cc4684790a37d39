"""Writes ``tests/unit/dotenv_corpus.json``: ``python -m tests.lab.record_dotenv LAB``, of host h1."""

from __future__ import annotations

import json
import sys

from tests.lab.test_compose_merge import HOST, MAKE_TINY, TINY, put
from tests.unit.dotenv_corpus import CASES, RECORDED, short

from longshore.lab import Lab

COMPOSE = b"services: {a: {image: x, env_file: x.env}}"


def compose(lab: Lab) -> dict[str, str] | None:
    """What Compose reads in ``/srv/one/x.env``."""
    words = ["docker", "compose", "-f", "/srv/one/compose.yml", "config", "--format", "json"]
    said = lab.ssh(HOST, words, check=False)
    if said.returncode != 0:
        return None
    found = json.loads(said.stdout)["services"]["a"].get("environment") or {}
    return {key: short(value.replace("$$", "$")) for key, value in found.items()}


def docker(lab: Lab) -> list[list[str]] | None:
    """What the docker command line reads there."""
    made = lab.ssh(HOST, ["docker", "create", "--env-file", "/srv/one/x.env", TINY], check=False)
    if made.returncode != 0:
        return None
    (said,) = json.loads(lab.ssh(HOST, ["docker", "inspect", made.stdout.strip()]).stdout)
    pairs = (one.partition("=") for one in said["Config"]["Env"] or [])
    return [[key, short(value)] for key, _, value in pairs if key != "PATH"]


def main(name: str) -> None:
    """Ask for every file of the collection."""
    lab = Lab(name)
    lab.ssh(HOST, ["bash", "-c", MAKE_TINY])
    lines = []
    for case, data in CASES.items():
        put(lab, "/srv/one", {"x.env": (data, 0o600), "compose.yml": (COMPOSE, 0o600)})
        read = {"compose": compose(lab), "docker": docker(lab)}
        lines.append(f"{json.dumps(case)}: {json.dumps(read)}")
    RECORDED.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main(sys.argv[1])
