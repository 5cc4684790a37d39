"""What costs cache or safety is found, on its line; what doesn't is left alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from longshore.dockerfile import RULES, Source, lint, lint_file
from longshore.errors import LongshoreError
from longshore.images.ignore import parse as parse_ignore

CORPUS = Path(__file__).parent / "dockerfiles"
DOCS = Path(__file__).parents[2] / "docs" / "dockerfile.md"
EXPECTED = {
    name: [tuple(one.split()) for one in found.split(", ") if one]
    for name, _, found in (
        line.partition(": ") for line in (CORPUS / "expected.txt").read_text().splitlines()[1:]
    )
}
GOOD = """FROM python:3.12-slim
RUN useradd --uid 1000 app
COPY requirements.txt .
RUN pip install --no-cache-dir -r requirements.txt
COPY --chown=app:app . .
USER 1000
EXPOSE 8000
HEALTHCHECK CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/')"]
CMD ["uvicorn", "app:app", "--host", "0.0.0.0", "--port", "8000"]
"""
IGNORE = parse_ignore(".env*\n.git\n")


def found(
    text: str, file: str = "Dockerfile", ignore: str | None = ".env*\n.git\n", target: str = ""
) -> list[str]:
    rules = parse_ignore(ignore) if ignore is not None else None
    return [f"{one.line} {one.rule}" for one in lint(text, file, Path("/nowhere"), rules, target=target)]


@pytest.mark.parametrize("name", sorted(path.stem for path in CORPUS.glob("*.Dockerfile")))
def test_an_ugly_file_gives_what_was_read_from_it_by_eye(name: str) -> None:
    path = CORPUS / f"{name}.Dockerfile"
    got = [(str(one.line), one.rule) for one in lint_file(Source(path, path.parent, path.name))]
    assert got == EXPECTED[name]


def test_the_corpus_breaks_every_rule_but_those_of_the_dockerignore() -> None:
    broken = {rule for found in EXPECTED.values() for _, rule in found}
    assert set(RULES) - broken == {"dockerignore-secrets", "dockerignore-bulk"}


def test_a_good_file_has_nothing() -> None:
    assert found(GOOD) == []


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("FROM python:3.12-slim", "FROM python", "1 latest-base"),
        ("FROM python:3.12-slim", "FROM localhost:5000/python", "1 latest-base"),
        ("FROM python:3.12-slim", "FROM python:3.12-bookworm", "1 compiler"),
        ("USER 1000", "USER 0:0", "6 root-user"),
        ("USER 1000\n", "", "1 root-user"),
        ("EXPOSE 8000", "EXPOSE 9000", "8 port-mismatch"),
        ("--no-cache-dir ", "", "4 pip-cache"),
        ("--chown=app:app ", "", "5 copy-chown"),
        ('"--port", "8000"', '"--port", "8000", "--reload"', "9 dev-server"),
        (
            'CMD ["uvicorn", "app:app", "--host", "0.0.0.0", "--port", "8000"]',
            "CMD uvicorn app:app",
            "9 shell-form",
        ),
        ("RUN useradd", "RUN apt-get update\nRUN useradd", "2 apt-update"),
        ("RUN useradd", "RUN chmod -R 0777 /srv && useradd", "2 world-writable"),
        ("RUN useradd", "RUN sudo useradd", "2 sudo"),
        ("COPY requirements.txt .", "COPY . .", "3 code-before-dependencies"),
        ("COPY requirements.txt .", "COPY src/ requirements.txt .", "3 code-before-dependencies"),
        ("RUN useradd", "ADD http://example.org/x /x\nRUN useradd", "2 add-url"),
        ("RUN useradd", "RUN wget -O - http://example.org/x | bash && useradd", "2 remote-script"),
        ("RUN useradd", "ENV DJANGO_SECRET_KEY=abcdef\nRUN useradd", "2 secret"),
        ("RUN useradd", "RUN export API_KEY='abcdef' && useradd", "2 secret"),
    ],
)
def test_each_mistake_in_a_good_file_is_found_on_its_line(old: str, new: str, rule: str) -> None:
    assert old in GOOD
    assert rule in found(GOOD.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("FROM python:3.12-slim", "FROM python:3.12-slim@sha256:" + "0" * 64),
        ("FROM python:3.12-slim", "ARG BASE\nFROM $BASE"),
        ("FROM python:3.12-slim", "FROM python:3.12-slim AS base\nFROM base"),
        ("USER 1000", "USER ${APP_USER}"),
        ("USER 1000\n", "ENV UID=1000\nUSER $UID\n"),
        ("pip install --no-cache-dir", "--mount=type=cache,target=/root/.cache/pip pip install"),
        ("RUN pip install --no-cache-dir", "ENV PIP_NO_CACHE_DIR=1\nRUN pip install"),
        ("RUN pip install --no-cache-dir", "RUN PIP_NO_CACHE_DIR=1 pip install"),
        ("EXPOSE 8000\n", ""),
        ("EXPOSE 8000", "ENV PORT=8000\nEXPOSE $PORT 9100/tcp"),
        ("RUN useradd", "ENV SECRET_KEY= TOKEN_FILE=/run/secrets/x GPG_KEY=ABCDEF1234\nRUN useradd"),
        ("RUN useradd", "RUN --mount=type=secret,id=t TOKEN=$(cat /run/secrets/t) useradd"),
        ("RUN useradd", "RUN chmod 755 /srv /bin/777 && useradd"),
        ("COPY --chown=app:app . .", "COPY . .\nRUN chown -R app /srv"),
        ("COPY --chown=app:app . .", "COPY --chown=app:app . .\nRUN pip install --no-cache-dir --no-deps ."),
    ],
)
def test_what_is_right_in_another_way_is_left_alone(old: str, new: str) -> None:
    assert old in GOOD
    assert found(GOOD.replace(old, new, 1)) == []


def test_a_compiler_that_the_same_layer_removes_is_none() -> None:
    install = "RUN apt-get update && apt-get install -y --no-install-recommends gcc"
    install += " && {}rm -rf /var/lib/apt/lists/*\n"
    before, _, after = GOOD.partition("COPY")
    assert found(f"{before}{install.format('apt-get purge -y gcc && ')}COPY{after}") == []
    assert found(f"{before}{install.format('')}COPY{after}") == ["3 compiler"]


def test_only_the_stage_that_is_built_has_to_be_safe() -> None:
    two = GOOD.replace("FROM python:3.12-slim", "FROM python:3.12-slim AS prod") + (
        'FROM prod AS tests\nUSER root\nCMD ["pytest"]\n'
    )
    assert found(two) == ["11 root-user"]
    assert found(two, target="prod") == []
    assert found(two, target="nope")[:1] == ["10 syntax"]


def test_a_file_that_is_called_dev_may_reload() -> None:
    text = GOOD.replace('"8000"]', '"8000", "--reload"]')
    assert found(text) == ["9 dev-server"]
    assert found(text, file="app/Dockerfile.dev") == []


def test_a_dockerignore_must_keep_secrets_out() -> None:
    assert found(GOOD, ignore=None) == ["5 no-dockerignore"]
    assert found(GOOD, ignore="node_modules\n") == ["5 dockerignore-secrets"] * 2
    assert found(GOOD, ignore="*\n!app\n") == []
    assert found(GOOD, ignore=".env\n.git\n!.env\n") == ["5 dockerignore-secrets"]


def test_a_further_context_is_no_image_that_changes_each_month() -> None:
    text = "FROM ground\nCOPY --from=more /x /x\nCOPY --from=alpine /y /y\nUSER 1\nHEALTHCHECK CMD true\n"

    def found(*contexts: str) -> list[str]:
        known = frozenset(contexts)
        every = lint(text, "Dockerfile", Path("/nowhere"), contexts=known)
        return [one.message.split()[0] for one in every if one.rule == "latest-base"]

    assert found() == ["ground", "more", "alpine"]
    assert found("ground", "more") == ["alpine"]


def test_environments_in_the_folder_must_be_kept_out(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(GOOD)
    (tmp_path / ".dockerignore").write_text(".env*\n.git\n")
    (tmp_path / "my-venv").mkdir()
    (tmp_path / "my-venv" / "pyvenv.cfg").write_text("")
    (tmp_path / "node_modules").mkdir()
    source = Source(tmp_path / "Dockerfile", tmp_path, "Dockerfile")
    assert [one.rule for one in lint_file(source)] == ["dockerignore-bulk"] * 2
    (tmp_path / "Dockerfile.dockerignore").write_text(".env*\n.git\n*venv\nnode_modules\n")
    assert lint_file(source) == ()
    (tmp_path / "Dockerfile.dockerignore").write_text(".env*\n[\n")
    assert [(one.file, one.line) for one in lint_file(source)][:1] == [("Dockerfile.dockerignore", 2)]


def test_a_finding_never_shows_the_secret() -> None:
    text = "FROM a:1\nENV API_TOKEN=hunter2\nRUN pip install -i https://u:hunter2@x/ y\n"
    text += "ADD https://u:hunter2@x/ /\n"
    assert "hunter2" not in "".join(str(one) for one in lint(text, "Dockerfile", Path("/nowhere")))


def test_what_is_no_dockerfile_is_said_in_a_sentence(tmp_path: Path) -> None:
    binary = tmp_path / "Dockerfile"
    binary.write_bytes(b"\x7fELF\x00\x00")
    with pytest.raises(LongshoreError, match="isn't text"):
        lint_file(Source(binary, tmp_path, "Dockerfile"))
    with pytest.raises(LongshoreError, match="can't be read"):
        lint_file(Source(tmp_path, tmp_path, "folder"))


def test_the_documentation_lists_every_rule_with_its_level() -> None:
    said = dict(re.findall(r"^\| `([a-z-]+)` \| (error|warning) \|", DOCS.read_text(), flags=re.MULTILINE))
    assert said == {rule: severity for rule, (severity, _) in RULES.items()}
