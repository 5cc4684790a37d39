"""The two worked systems, deployed by the commands a user types, and used."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.lab.conftest import clean
from tests.lab.project import Project

from longshore.lab import Lab
from longshore.lab.building import build

TOP = Path(__file__).parents[2]
VARIABLES = """
all:
  vars:
    ansible_user: root
    ansible_ssh_private_key_file: {key}
    ansible_ssh_common_args: {options}
    longshore:
      registries:
        {registry}: {{insecure: true}}
        docker.io: {{mirror: "http://{registry}", insecure: true}}
"""
EXCEL2DOC = """
      apps:
        excel2doc:
          hosts: excel2doc
          url: http://{{ ansible_host }}:8000
          services:
            api: {hosts: excel2doc_api}
            postgres: {hosts: excel2doc_db}
            redis: {hosts: excel2doc_db}
  children:
    excel2doc:
      children:
        excel2doc_api: {hosts: {h1: {ansible_host: H1}, h2: {ansible_host: H2}}}
        excel2doc_db: {hosts: {h1: }}
"""
UNIVERSAL_BI = """
      apps:
        universal_bi:
          hosts: universal_bi
          url: http://{{ ansible_host }}:8000
  children:
    universal_bi: {hosts: {h3: {ansible_host: H3}}}
"""


@pytest.fixture(scope="module")
def tree(
    lab: Lab, stand_ins: Callable[..., None], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A copy of the project's own tree, and both images in the registry."""
    stand_ins("python:3.12-bookworm", "python:3.12-slim-bookworm", "python:3.10-slim")
    stand_ins("postgres:15", "redis:7", "mysql:8.0")
    clean(lab)
    root = tmp_path_factory.mktemp("project")
    for name in ("inventory", "env", "examples", "roles"):
        shutil.copytree(TOP / name, root / name)
    build(lab, TOP / "examples" / "excel2doc", "excel2doc:1.0.0", host="h1")
    build(lab, TOP / "examples" / "universal_bi", "universal_bi:1.0.0", host="h3")
    yield root
    clean(lab)


def _project(tree: Path, lab: Lab, app: str, rest: str) -> Project:
    project = Project(tree, lab, app=app)
    values = {"key": str(lab.key), "options": lab.ssh_options(), "registry": lab.registry}
    text = VARIABLES.format(**{name: json.dumps(value).strip('"') for name, value in values.items()})
    for name, address in lab.addresses.items():
        rest = rest.replace(name.upper(), address)
    project.write("inventory/try.yml", text.strip() + rest)
    project.write("env/try.env", f"REGISTRY={lab.registry}\nTAG=1.0.0\nLOG_LEVEL=INFO\n")
    origin = "demo" if app == "excel2doc" else "demo-bi"
    shutil.rmtree(tree / "env" / "try", ignore_errors=True)
    shutil.copytree(TOP / "env" / origin, tree / "env" / "try")
    return project


@pytest.fixture
def excel2doc(tree: Path, lab: Lab) -> Project:
    return _project(tree, lab, "excel2doc", EXCEL2DOC)


@pytest.fixture
def universal_bi(tree: Path, lab: Lab) -> Project:
    return _project(tree, lab, "universal_bi", UNIVERSAL_BI)


def test_excel2doc_is_deployed_migrated_once_and_smoke_tested(excel2doc: Project) -> None:
    done = excel2doc.run("deploy", "--env", "try", timeout=400)
    assert done.code == 0, done.all
    assert done.out.count("Running upgrade  -> 0001") == 1
    assert done.out.count("smoke test health http://") == 2
    services = [one["Config"]["Labels"]["com.docker.compose.service"] for one in excel2doc.containers("h1")]
    assert sorted(services) == ["api", "postgres", "redis"]
    (api,) = excel2doc.containers("h2")
    assert api["Config"]["User"] == "10001:10001"
    assert api["HostConfig"]["Memory"] == 512 * 1024 * 1024
    again = excel2doc.run("deploy", "--env", "try")
    assert "2 nothing to do" in again.out, again.all


def test_excel2doc_keeps_its_data_through_a_new_release_and_back(excel2doc: Project) -> None:
    upload = (
        'import urllib.request as u; b=b\'--x\\r\\nContent-Disposition: form-data; name="file"; '
        'filename="a.csv"\\r\\n\\r\\na,b\\n1,2\\n\\r\\n--x--\\r\\n\'; '
        "print(u.urlopen(u.Request('http://127.0.0.1:8000/api/v1/convert?format=html', b, "
        "{'content-type': 'multipart/form-data; boundary=x'})).status)"
    )
    assert excel2doc.lab.ssh("h2", ["python3", "-c", upload]).stdout.strip() == "200"

    def rows() -> str:
        words = ["psql", "--env", "try", "--", "-tAc", "SELECT count(*) FROM conversions"]
        done = excel2doc.run(*words)
        assert done.code == 0, done.all
        return done.out.strip().splitlines()[-1].strip()

    before = rows()
    assert int(before) >= 1
    shared = ["--set", "longshore.apps.excel2doc.services.api.memory=600M"]
    assert excel2doc.run("deploy", "--env", "try", *shared).code == 0
    assert excel2doc.containers("h2")[0]["HostConfig"]["Memory"] == 600 * 1024 * 1024
    assert excel2doc.run("rollback", "--env", "try").code == 0
    assert excel2doc.containers("h2")[0]["HostConfig"]["Memory"] == 512 * 1024 * 1024
    assert int(rows()) >= int(before)


def test_universal_bi_is_deployed_with_four_stores_and_its_folders_on_volumes(universal_bi: Project) -> None:
    done = universal_bi.run("deploy", "--env", "try", timeout=400)
    assert done.code == 0, done.all
    by_service = {
        one["Config"]["Labels"]["com.docker.compose.service"]: one for one in universal_bi.containers("h3")
    }
    assert sorted(by_service) == ["api", "mysql", "postgres", "redis"]
    mounts = {mount["Destination"]: mount["Type"] for mount in by_service["api"]["Mounts"]}
    assert any(path.endswith("/chroma_db") for path in mounts)
    assert any(path.endswith("/logs") for path in mounts)
    check = by_service["api"]["Config"]["Healthcheck"]
    seconds = 10**9
    assert (check["Interval"], check["Timeout"]) == (30 * seconds, 10 * seconds)
    assert (check["StartPeriod"], check["Retries"]) == (40 * seconds, 3)
    done = universal_bi.run("db-check", "--env", "try")
    assert done.code == 0, done.all


def test_universal_bi_refuses_the_default_secret_key_and_the_old_release_stays(universal_bi: Project) -> None:
    example = (TOP / "examples" / "universal_bi" / ".env.example").read_text()
    default = next(line for line in example.splitlines() if line.startswith("SECRET_KEY="))
    env = universal_bi.root / "env" / "try" / "universal_bi.env"
    lines = [default if line.startswith("SECRET_KEY=") else line for line in env.read_text().splitlines()]
    env.write_text("\n".join(lines) + "\n")
    done = universal_bi.run("deploy", "--env", "try", timeout=400)
    assert done.code == 1
    assert "SECRET_KEY" in done.err
    assert all(seen["good"] for seen in universal_bi.status().values())
