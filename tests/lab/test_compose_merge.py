"""Our bundles in the hands of a real Compose and engine: merged, read and run as the unit tests believe."""

from __future__ import annotations

import io
import json
import random
import tarfile
from pathlib import Path
from typing import Any

import pytest
from tests.unit.compose_corpus import CASES, HERE, of_compose, variables
from tests.unit.render_factory import target, write

from longshore import dotenv
from longshore.inventory.model import Health, Logging
from longshore.lab import Lab
from longshore.render import Bundle, render
from longshore.render.emit import emit

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("clean_hosts")]
HOST = "h1"
TINY = "tiny:1"
# An image of a shell and a few programs, made of the host's own: no registry is needed.
MAKE_TINY = f"""
set -e
programs="/bin/sh /bin/sleep /bin/cat /bin/true /usr/bin/env"
libraries=$(ldd $programs | grep -v ':$' | grep -o '/[^ ]*' | sort -u)
tar -chPf - $programs $libraries | docker import -c 'CMD ["/bin/sleep","1000"]' - {TINY}
"""
COMPOSE = ["env", "-i", "PATH=/usr/bin:/bin", "docker", "compose"]


def tar(files: dict[str, tuple[bytes, int]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, (data, mode) in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), mode
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def put(lab: Lab, folder: str, files: dict[str, tuple[bytes, int]]) -> None:
    lab.ssh(HOST, ["mkdir", "-p", folder])
    lab.ssh(HOST, ["tar", "-C", folder, "-xpf", "-"], stdin=tar(files))


def compose(lab: Lab, bundle: Bundle, *words: str) -> str:
    """Stage a bundle as the agent does, and run Compose with an empty environment."""
    release = f"/srv/{bundle.id}"
    kinds = {"release": release, "content": f"/var/lib/longshore/{bundle.app}/content"}
    for kind, folder in kinds.items():
        put(lab, folder, {file.path: (file.data, file.mode) for file in bundle.files if file.kind == kind})
    for folder in bundle.state_dirs:
        lab.ssh(HOST, ["mkdir", "-p", folder])
    project = f"{release}/{bundle.project_directory}"
    files = [word for path in bundle.compose_files for word in ("-f", f"{release}/{path}")]
    where = ["--project-directory", project, "--env-file", f"{project}/.env"]
    return lab.ssh(HOST, [*COMPOSE, "-p", bundle.project, *where, *files, *words]).stdout


def config(lab: Lab, bundle: Bundle) -> dict[str, Any]:
    services = json.loads(compose(lab, bundle, "config", "--format", "json"))["services"]
    assert isinstance(services, dict)
    return services


def inspect(lab: Lab, container: str) -> dict[str, Any]:
    (value,) = json.loads(lab.ssh(HOST, ["docker", "inspect", container]).stdout)
    assert isinstance(value, dict)
    return value


@pytest.mark.parametrize("case", sorted(CASES))
def test_the_recorded_readings_are_those_of_this_compose(lab: Lab, case: str) -> None:
    root = HERE / case
    files = {
        str(path.relative_to(root)): (path.read_bytes(), 0o644) for path in root.rglob("*") if path.is_file()
    }
    folder = Path(CASES[case][0]).parent
    files[str(folder / ".env")] = (dotenv.render(variables(case)).encode(), 0o600)
    put(lab, "/srv/case", files)
    named = [word for name in CASES[case] for word in ("-f", f"/srv/case/{name}")]
    where = ["-p", "case", "--project-directory", f"/srv/case/{folder}"]
    said = lab.ssh(HOST, [*COMPOSE, *where, *named, "config", "--format", "json"]).stdout
    assert of_compose(json.loads(said), "/srv/case") == json.loads((root / "expected.json").read_text())


def test_every_value_arrives_by_env_file_by_interpolation_and_by_our_file(lab: Lab) -> None:
    dice = random.Random(5)
    letters = ["a", "$", "$$", "${A}", "{", "}", '"', "'", "\\", "\n", "\r", "\t", " ", "#", "=", "é", "😀",
               "\x01", "\x7f", "\x85", "\xa0", "\u2028", "\\n", "\\$", "%", "`", "\ufeff"]  # fmt: skip
    texts = ["".join(dice.choices(letters, k=dice.randint(0, 30))) for _ in range(400)]
    env = {f"K{index}": text for index, text in enumerate([*texts, "$2y$10$abcdef", "x" * 65536])}
    interpolated = {key: f"${{{key}}}" for key in env}
    theirs = {"a": {"image": TINY, "env_file": ".env"}, "b": {"image": TINY, "environment": interpolated}}
    files = {
        ".env": dotenv.render(env),
        "compose.yml": json.dumps({"services": theirs}),
        "ours.yml": emit({"services": {"c": {"image": TINY, "environment": env}}}),
    }
    put(lab, "/srv/env", {name: (text.encode(), 0o600) for name, text in files.items()})
    named = ["-p", "env", "-f", "/srv/env/compose.yml", "-f", "/srv/env/ours.yml"]
    said = lab.ssh(HOST, [*COMPOSE, *named, "config", "--format", "json"])
    for service in json.loads(said.stdout)["services"].values():
        doubled = {key: value.replace("$", "$$") for key, value in env.items()}
        assert {key: value or "" for key, value in service["environment"].items()} == doubled


def test_the_policy_is_what_compose_merges(lab: Lab, tmp_path: Path) -> None:
    write(tmp_path, {"conf/a": "1", "sub/c.yml": "services: {inc: {image: 'tiny:1', ports: ['80:80']}}"})
    bundle = render(
        target(
            tmp_path,
            """
            include: [sub/c.yml]
            services:
              web:
                image: tiny:1
                build: .
                ports: ["80:80", "81:81"]
                volumes: [".:/app", "./conf:/conf:ro", "./data:/data", "vol:/v"]
                depends_on: [db, inc]
                healthcheck: {test: "true", interval: 3s}
                deploy: {restart_policy: {condition: any}}
              short: {image: "tiny:1", mem_limit: 1g, cpus: 2, logging: {driver: journald}}
              db: {image: "tiny:1"}
            volumes: {vol: }
            """,
            mounts={".": "drop"},
            placed={"db": ("h2",)},
            services={
                "web": {
                    "ports": ("127.0.0.1:8080:80",),
                    "restart": "always",
                    "health": Health(none=True),
                    "cpus": 0.5,
                    "memory": 2**28,
                    "reserve_memory": 2**27,
                },
                "short": {"cpus": 0.5, "reserve_cpus": 0.1, "logging": Logging(max_size=10**6)},
                "inc": {"ports": ()},
            },
        )
    )
    merged = config(lab, bundle)
    assert set(merged) == {"web", "short", "inc"}
    web = merged["web"]
    assert "build" not in web and web["restart"] == "always" and web["healthcheck"]["disable"] is True
    assert [(port["host_ip"], port["published"]) for port in web["ports"]] == [("127.0.0.1", "8080")]
    assert [(one["target"], one["source"].split("/")[-1]) for one in web["volumes"]] == [
        ("/conf", "conf"),
        ("/data", "data"),
        ("/v", "vol"),
    ]
    assert {name: entry["required"] for name, entry in web["depends_on"].items()} == {
        "db": False,
        "inc": True,
    }
    assert web["deploy"]["resources"]["limits"] == {"cpus": 0.5, "memory": str(2**28)}
    assert "restart_policy" not in web["deploy"]
    assert (merged["short"]["cpus"], merged["short"]["mem_limit"]) == (0.5, str(2**30))
    assert merged["short"]["logging"]["driver"] == "json-file"
    assert merged["inc"].get("ports") in (None, [])


def test_a_bundle_runs_with_its_limits_and_changed_content_recreates_its_users_only(
    lab: Lab, tmp_path: Path
) -> None:
    lab.ssh(HOST, ["bash", "-c", MAKE_TINY])
    write(tmp_path, {"conf/a": "one", "cfg.txt": "cfg1", "token.txt": "hunter2"})
    one = target(
        tmp_path,
        """
        services:
          web:
            image: tiny:1
            volumes: ["./conf:/conf:ro", "./data:/data"]
            depends_on: {db: {condition: service_healthy}, job: {condition: service_completed_successfully}}
            environment: {PW: "${PW}"}
            secrets: [token]
          user: {image: "tiny:1", configs: [{source: cfg, target: /cfg}]}
          idle: {image: "tiny:1"}
          job: {image: "tiny:1", command: "true"}
          db: {image: "tiny:1"}
        configs: {cfg: {file: cfg.txt}}
        secrets: {token: {file: token.txt}}
        """,
        env={"PW": '$2y$10$x "q" \\ \n end'},
        placed={"db": ("h2",)},
        services={
            "web": {"memory": 2**27, "cpus": 0.5, "pids": 64, "health": Health(command="test -d /data")}
        },
    )

    def up() -> dict[str, str]:
        compose(lab, render(one), "up", "-d", "--no-build")
        names = ("web", "user", "idle")
        return {name: inspect(lab, f"shop-{name}-1")["Id"] for name in names}

    first = up()
    web = inspect(lab, "shop-web-1")
    assert web["HostConfig"]["Memory"] == 2**27
    assert web["HostConfig"]["NanoCpus"] == 500_000_000
    assert web["HostConfig"]["PidsLimit"] == 64
    assert web["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
    assert web["HostConfig"]["LogConfig"] == {
        "Type": "json-file",
        "Config": {"max-size": "10m", "max-file": "3", "compress": "true"},
    }
    assert inspect(lab, "shop-job-1")["HostConfig"]["RestartPolicy"]["Name"] in ("", "no")
    assert 'PW=$2y$10$x "q" \\ \n end' in web["Config"]["Env"]
    read = lab.ssh(HOST, ["docker", "exec", "shop-web-1", "cat", "/conf/a", "/run/secrets/token"]).stdout
    assert read == "onehunter2"
    assert up() == first

    write(tmp_path, {"conf/a": "two"})
    second = up()
    assert second["web"] != first["web"]
    assert (second["user"], second["idle"]) == (first["user"], first["idle"])

    write(tmp_path, {"cfg.txt": "cfg2"})
    third = up()
    assert third["user"] != second["user"]
    assert (third["web"], third["idle"]) == (second["web"], second["idle"])
    assert lab.ssh(HOST, ["docker", "exec", "shop-user-1", "cat", "/cfg"]).stdout == "cfg2"
