"""What was asked of the two systems' images, seen in real builds: by BuildKit's own record, and inside."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from longshore.dockerfile.render import render
from longshore.inventory import load
from longshore.inventory.dockerfiles import DockerfilePolicy
from longshore.lab import Lab
from longshore.lab.building import context

TOP = Path(__file__).parents[2]
BASES = ("python:3.12-bookworm", "python:3.12-slim-bookworm", "python:3.10-slim")


@dataclass(frozen=True)
class Record:
    """BuildKit's own record of a build: which of the Dockerfile's steps were made, which were cached."""

    made: tuple[str, ...]
    cached: tuple[str, ...]
    text: str


def build(lab: Lab, folder: Path, image: str, *, host: str = "h1") -> Record:
    """Build a folder on a host and keep the image there."""
    words = [
        "docker",
        "buildx",
        "build",
        "--progress",
        "plain",
        "--provenance=false",
        "--load",
        "--tag",
        image,
    ]
    done = lab.ssh(host, [*words, "-"], stdin=context(folder), check=False, timeout=600)
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    steps = dict(re.findall(r"^#(\d+) (\[[^\]]*\d+/\d+\] .*)$", text, flags=re.MULTILINE))
    cached = re.findall(r"^#(\d+) CACHED$", text, flags=re.MULTILINE)
    # What is pulled is no step that is made.
    own = {number: step for number, step in steps.items() if "] FROM " not in step}
    return Record(
        made=tuple(step.partition("] ")[2] for number, step in own.items() if number not in cached),
        cached=tuple(step.partition("] ")[2] for number, step in own.items() if number in cached),
        text=text,
    )


def inside(lab: Lab, image: str, script: str, *, host: str = "h1") -> str:
    """What a script in a container of the image says, however it ends."""
    words = ["docker", "run", "--rm", "--entrypoint", "sh", image, "-c", f"{script}; true"]
    return lab.ssh(host, words).stdout.strip()


def size(lab: Lab, image: str, *, host: str = "h1") -> int:
    """The image's bytes on the host, its base among them."""
    return int(lab.ssh(host, ["docker", "image", "inspect", "--format", "{{.Size}}", image]).stdout)


def policy(env: str, app: str) -> DockerfilePolicy:
    environment = load(TOP, env)
    target = environment.targets[(app, environment.apps[app][0])]
    found = target.app.services["api"].dockerfile
    assert found is not None
    return found


@pytest.fixture(scope="module")
def excel2doc(lab: Lab, stand_ins: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Excel2Doc's folder, with what must not get into an image, built once as ``excel2doc:try`` on h1."""
    stand_ins(*BASES)
    folder = tmp_path_factory.mktemp("excel2doc") / "context"
    shutil.copytree(TOP / "examples" / "excel2doc", folder)
    (folder / ".env").write_text("POSTGRES_PASSWORD=not-for-the-image\n")
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("[remote]\n")
    build(lab, folder, "excel2doc:try")
    return folder


@pytest.fixture(scope="module")
def universal_bi(lab: Lab, stand_ins: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Universal BI's folder, built once as ``universal_bi:try`` on h3."""
    stand_ins(*BASES)
    folder = tmp_path_factory.mktemp("universal_bi") / "context"
    shutil.copytree(TOP / "examples" / "universal_bi", folder)
    build(lab, folder, "universal_bi:try", host="h3")
    return folder


def change_code(folder: Path) -> None:
    main = folder / "app" / "main.py"
    main.write_text(main.read_text() + f"\n# {len(main.read_text())}\n")


def test_a_change_of_code_makes_one_layer_and_installs_nothing(
    lab: Lab, excel2doc: Path, universal_bi: Path
) -> None:
    for folder, image, host in ((excel2doc, "excel2doc:try", "h1"), (universal_bi, "universal_bi:try", "h3")):
        change_code(folder)
        record = build(lab, folder, image, host=host)
        assert record.made == ("COPY --chown=app:app . .",), record.text
        assert any("pip install" in step for step in record.cached), record.text
        print(
            f"{image}: {size(lab, image, host=host) / 1e6:.0f} MB, {len(record.cached)} steps cached, 1 made"
        )


def test_new_requirements_are_installed_from_the_caches_that_pip_keeps(lab: Lab, universal_bi: Path) -> None:
    file = universal_bi / "requirements.txt"
    before = file.read_text()
    file.write_text(before + "six==1.17.0\n")
    try:
        record = build(lab, universal_bi, "universal_bi:requirements", host="h3")
    finally:
        file.write_text(before)
    assert any("pip install" in step for step in record.made), record.text
    assert any("apt-get install" in step for step in record.cached), record.text
    # The one package without a wheel: it took a compiler and half a minute the first time.
    assert "Using cached mysqlclient" in record.text, record.text
    assert "Building wheel for mysqlclient" not in record.text, record.text


def test_the_runner_has_no_compiler_and_what_is_in_the_dockerignore_is_not_there(
    lab: Lab, excel2doc: Path
) -> None:
    assert inside(lab, "excel2doc:try", "command -v gcc cc g++ make; true") == ""
    names = inside(lab, "excel2doc:try", "ls -A /srv").split()
    assert "app" in names
    assert not {".env", ".git", "tests", "requirements-dev.txt"} & set(names)
    assert inside(lab, "excel2doc:try", "grep -rl not-for-the-image /srv") == ""


def test_the_containers_are_not_root_and_write_only_where_they_must(
    lab: Lab, excel2doc: Path, universal_bi: Path
) -> None:
    assert inside(lab, "excel2doc:try", "id -u") == "10001"
    assert inside(lab, "universal_bi:try", "id -u", host="h3") == "10001"
    script = "for name in chroma_db logs /etc /opt /usr/local/bin; do test -w $name && echo $name; done"
    assert inside(lab, "universal_bi:try", script, host="h3").split() == ["chroma_db", "logs"]


def test_two_stages_of_the_same_service_are_smaller_and_work_without_the_compiler(
    lab: Lab, universal_bi: Path, tmp_path: Path
) -> None:
    """Universal BI in the other shape: the compiler in the builder, only client libraries in the runner."""
    # Debian's name of MySQL's client library, or Ubuntu's, which may stand in for it.
    mysql = inside(
        lab, "universal_bi:try", "dpkg -l | grep -oE 'libmariadb3|libmysqlclient21' | head -1", host="h3"
    )
    shape = replace(
        policy("demo-bi", "universal_bi"),
        shape="multi-stage",
        image="python:3.10-slim",
        build_image="python:3.10-slim",
        packages=(mysql, "libpq5"),
    )
    folder = tmp_path / "context"
    shutil.copytree(universal_bi, folder)
    texts = render(shape, service="api", environment="try", root=tmp_path)
    (folder / "Dockerfile").write_text(texts.dockerfile)
    record = build(lab, folder, "universal_bi:two", host="h3")
    # What both shapes begin with is one layer in the cache, and what was compiled once isn't again.
    assert any("build-essential" in step for step in record.cached), record.text
    assert "Building wheel for mysqlclient" not in record.text, record.text
    imports = 'python -c "import MySQLdb, psycopg; print(psycopg.pq.__impl__)"'
    assert inside(lab, "universal_bi:try", imports, host="h3") == "python"
    assert inside(lab, "universal_bi:two", imports, host="h3") == "python"
    gcc = "command -v gcc; true"
    assert inside(lab, "universal_bi:try", gcc, host="h3") == "/usr/bin/gcc"
    assert inside(lab, "universal_bi:two", gcc, host="h3") == ""
    one, two = (size(lab, f"universal_bi:{tag}", host="h3") for tag in ("try", "two"))
    print(f"one stage {one / 1e6:.0f} MB, two stages {two / 1e6:.0f} MB")
    assert two < one * 0.8
