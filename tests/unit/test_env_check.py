"""``env --check`` and ``env --diff``: what they say, what they never show, and how they end."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from inventory_project import make
from invoke.program import Program

from longshore.envcheck import CODES, Checked, Finding, check_environment, check_file, compare
from longshore.envcheck.readings import COMPOSE, DOCKER, PYTHON
from longshore.envcheck.values import bits, is_placeholder, is_secret_key
from longshore.inventory import load
from longshore.tasks import ns

SHOP = """
all:
  vars:
    longshore:
      apps:
        shop: {compose: compose.yml}
  hosts: {h1: }
"""
COMPOSE_FILE = """
services:
  web: {image: "shop:${TAG:-1}", environment: {PW: "${DB_PASSWORD:-}", LEVEL: "${LOG_LEVEL:-INFO}"}}
"""
STRONG = "f3b1c7a9d25e8047bb6a1c90e2d4f7836a5c"


Capture = pytest.CaptureFixture[str]


def checked(folder: Path, text: str | bytes, name: str = ".env", **others: str) -> Checked:
    """The findings on one file; ``others`` are files beside it, with ``__`` for a dot."""
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(0o600)
    for other, content in others.items():
        (folder / other.replace("__", ".")).write_text(content)
    return check_file(path, name)


def codes(found: Checked, level: str = "") -> list[str]:
    return [one.code for one in found.findings if not level or one.level == level]


def only(found: Checked, code: str) -> Finding:
    (one,) = [one for one in found.findings if one.code == code]
    return one


def run(folder: Path, capsys: Capture, *words: str) -> tuple[int, str, str]:
    """Type the command in ``folder``."""
    here = os.getcwd()
    os.chdir(folder)
    code = 0
    try:
        Program(namespace=ns).run(["invoke", *words])
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        os.chdir(here)
    said = capsys.readouterr()
    return code, said.out, said.err


# How a value is read.


@pytest.mark.parametrize(
    ("line", "compose", "python", "docker"),
    [
        # A value that isn't plainly no secret is told by its length.
        ("A=pa$$word", "7 characters", "8 characters", "8 characters"),
        (
            "A='pa${word}x'",
            "what is between the quotes, 10 characters",
            "3 characters",
            "all that is written, quotes and all, 12 characters",
        ),
        ('A="x"', "'x'", "'x'", "'\"x\"'"),
        ("A=x # note", "'x'", "'x'", "'x # note'"),
        ("A = x", "'x'", "'x'", "refuse the file: a name can't hold a blank"),
        ("export A=x", "'x'", "'x'", "refuse the file: a name can't hold a blank"),
        ("A: x", "'x'", "leaves it out", "refuse the file: a name can't hold a blank"),
        ("A=x ", "'x'", "'x'", "'x '"),
        (
            'A="x\ny"',
            "what is between the quotes, 3 characters",
            "what is between the quotes, 3 characters",
            "only the first line, and 1 more as variables of their own",
        ),
        ("A=x#y", "'x#y'", "'x#y'", None),
    ],
)
def test_what_each_reader_makes_of_a_value_is_told(
    tmp_path: Path, line: str, compose: str, python: str, docker: str | None
) -> None:
    found = checked(tmp_path, line + "\n")
    if docker is None:
        assert "differs" not in codes(found)
        return
    one = only(found, "differs")
    assert dict(one.readings) == {COMPOSE: compose, PYTHON: python, DOCKER: docker}
    assert (one.level, one.where.line) == ("warning", 1)


def test_a_value_that_all_read_alike_is_not_mentioned(tmp_path: Path) -> None:
    text = "A=1\nURL=https://example.org:8000/x?y=z&a=%20\nLIST=a,b;c\nEMPTY=\nHASH=a#b\n"
    assert codes(checked(tmp_path, text)) == []


def test_a_secret_that_loses_a_part_is_an_error_that_shows_nothing_of_it(tmp_path: Path) -> None:
    found = checked(tmp_path, "DB_PASSWORD=$2y$10$Qw9xEabcdef\n")
    one = only(found, "lost")
    assert one.level == "error"
    assert one.readings[COMPOSE] == "only the first 6 of 18 characters"
    assert one.readings[PYTHON] == one.readings[DOCKER] == "18 characters"
    assert "Qw9x" not in str(found.findings) and "single quotes" in one.hint
    assert "weak" not in codes(found)  # what is left of it says nothing about it


def test_readings_of_a_secret_that_differ_at_the_same_length_are_told_apart(tmp_path: Path) -> None:
    one = only(checked(tmp_path, f'A=xy\nTOKEN="{STRONG}${{A}}\\v"\n'), "differs")
    assert len(set(one.readings.values())) > 1
    assert STRONG[:8] not in str(one)


def test_the_advice_on_how_to_write_a_value_is_true(tmp_path: Path) -> None:
    assert "all read the same" in only(checked(tmp_path, 'A="x"\n'), "differs").hint
    assert "docker command line can't" in only(checked(tmp_path, 'A="x # y"\n'), "differs").hint
    assert "Compose reads it as meant" in only(checked(tmp_path, "A='${x}'\n"), "differs").hint


# The text.


@pytest.mark.parametrize(
    ("data", "code", "place", "says"),
    [
        ("A=caf\u00e9\n".encode("latin-1"), "file", (1, 6), "0xe9"),
        ("A=1\n".encode("utf-16"), "file", (0, 0), "UTF-16"),
        (b"A=1\nB C=2\n", "syntax", (2, 1), "space"),
        (b'A=1\nB="open\n', "syntax", (2, 1), "never closed"),
        (b"A=1\nB=2\nA=3\n", "twice", (3, 1), "first in line 1 with another value"),
        (b"A=" + b"x" * 131_070 + b"\n", "too-long", (1, 1), "128 KiB"),
        (b"A=x\0y\n", "syntax", (1, 1), "NUL"),
    ],
)
def test_what_breaks_is_an_error_with_its_place(
    tmp_path: Path, data: bytes, code: str, place: tuple[int, int], says: str
) -> None:
    one = only(checked(tmp_path, data), code)
    assert one.level == "error"
    assert (one.where.line, one.where.column) == place
    assert says in one.message


def test_a_value_of_the_longest_length_is_no_error(tmp_path: Path) -> None:
    assert "too-long" not in codes(checked(tmp_path, "A=" + "x" * 131_069 + "\n"))


def test_every_line_that_compose_refuses_is_told_in_one_run(tmp_path: Path) -> None:
    found = checked(tmp_path, "A B=1\nC!=2\nD=${E\n=3\nF=4\nG\n")
    assert [one.where.line for one in found.findings if one.code == "syntax"] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\xef\xbb\xbfA=1\n", "byte order mark"),
        (b"A=1\r\nB=2\r\n", "CRLF"),
        ("A=\u201cx\u201d\n".encode(), "typographic quote"),
        ("A=x\u200by\n".encode(), "zero-width space"),
    ],
)
def test_what_an_editor_leaves_behind_is_a_warning(tmp_path: Path, data: bytes, says: str) -> None:
    found = checked(tmp_path, data)
    assert says in only(found, "text").message
    assert not codes(found, "error")


def test_names_that_a_shell_cannot_hold_and_keys_without_a_value_are_warned_of(tmp_path: Path) -> None:
    found = checked(tmp_path, "A.b=1\n1C=2\nD-e=3\nF\nG=4\n")
    assert codes(found, "warning").count("name") == 3
    assert only(found, "bare").key == "F"


def test_a_template_is_no_env_file_yet(tmp_path: Path) -> None:
    found = checked(tmp_path, "{% if tls %}\nA={{ x }}\n{% endif %}\n", "web.env.j2")
    assert [one.code for one in found.findings] == ["file"]
    assert "what it renders to" in found.findings[0].message


@pytest.mark.parametrize("kind", ["missing", "folder", "link"])
def test_a_file_that_is_none_is_an_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ".env"
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to("nowhere")
    assert codes(check_file(path, ".env"), "error") == ["file"]


# Secrets.


@pytest.mark.parametrize(
    "value",
    ["change_this_now", "CHANGEME", "changeme123", "sk-xxxxxxxx", "your-api-key", "<password>", "xxxx",
     "TODO",
     "replace-me", "{{ secret }}", "insert_your_key", "change_this_secret_key_in_production",
     "sk-proj-xxxxxx", "***"],
)  # fmt: skip
def test_an_examples_value_left_in_place_is_an_error(tmp_path: Path, value: str) -> None:
    assert is_placeholder(value)
    assert only(checked(tmp_path, f"API_KEY={value}\n"), "placeholder").level == "error"


@pytest.mark.parametrize(
    "value", ["1.0.0", "exchange", "hostname", "INFO", "https://example.org", "xx", "todolist"]
)
def test_an_ordinary_value_is_no_example(value: str) -> None:
    assert not is_placeholder(value)


@pytest.mark.parametrize(
    "value", ["postgres123456", "password", "Password1!", "admin", "secret", "123456", "root", "redis",
              "django-insecure-a(b", "minioadmin", "my-secret-key", "letmein"]
)  # fmt: skip
def test_a_secret_that_everybody_knows_is_an_error(tmp_path: Path, value: str) -> None:
    assert only(checked(tmp_path, f"DB_PASSWORD={value}\n"), "default").level == "error"
    assert "default" not in codes(checked(tmp_path, f"DB_USER={value}\n"))


def test_a_password_in_a_url_counts(tmp_path: Path) -> None:
    assert (
        only(checked(tmp_path, "DATABASE_URL=postgres://app:postgres@db/app\n"), "default").level == "error"
    )
    assert codes(checked(tmp_path, f"DATABASE_URL=postgres://app:{STRONG}@db/app\n")) == []


@pytest.mark.parametrize(
    "value", ["hunter2", "aaaaaaaaaaaaaaaaaaaa", "Tr0ub4do", "98234798", "abababababababab"]
)
def test_a_guessable_secret_is_a_warning(tmp_path: Path, value: str) -> None:
    found = checked(tmp_path, f"SESSION_SECRET={value}\n")
    assert set(codes(found)) & {"weak", "default"}
    assert value not in str(found.findings)


@pytest.mark.parametrize("value", [STRONG, "kX9-vQ2_mL7pR4tW", "correct horse battery staple"])
def test_a_good_secret_is_fine(tmp_path: Path, value: str) -> None:
    assert bits(value) >= 50
    assert codes(checked(tmp_path, f"SESSION_SECRET={value}\n")) == []


@pytest.mark.parametrize(
    "line",
    ["ACCESS_TOKEN_EXPIRE_MINUTES=60", "AUTH_REQUIRED=false", "SSL_KEY=/etc/ssl/key.pem",
     "STRIPE_PUBLIC_KEY=pk1", "CACHE_KEY=shop", "USE_SECRET=true", "KEYBOARD=qwerty", "LLM_API_KEY=",
     "REVERSE_PROXY_AUTH=0"],
)  # fmt: skip
def test_what_only_sounds_like_a_secret_is_left_alone(tmp_path: Path, line: str) -> None:
    assert codes(checked(tmp_path, line + "\n")) == []


def test_names_of_secrets_are_known_by_their_end() -> None:
    assert all(
        map(is_secret_key, ["DB_PASSWORD", "POSTGRES_PASSWORD_1", "apiKey", "SECRET_KEY_BASE", "GH_TOKEN"])
    )
    assert not any(map(is_secret_key, ["TOKEN_TTL", "PASSWORD_FILE", "MONKEY", "PUBLIC_KEY", "SECRETARY"]))


def test_a_secret_used_twice_is_a_warning(tmp_path: Path) -> None:
    found = checked(tmp_path, f"A_TOKEN={STRONG}\nB_TOKEN={STRONG}\nC_TOKEN=x{STRONG}\n")
    assert only(found, "reused").key == "B_TOKEN"
    assert STRONG not in str(found.findings)


def test_a_long_value_is_looked_at_in_no_time(tmp_path: Path) -> None:
    began = time.monotonic()
    checked(tmp_path, "".join(f"K{char}={char * 60_000}\n" for char in "xX1.:/$@-"))
    assert time.monotonic() - began < 5


def test_a_large_hostile_file_is_read_soon(tmp_path: Path) -> None:
    lines = [f"K{number}_PASSWORD={'secretkeypassword' * 40}!x" for number in range(300)]
    assert checked(tmp_path, "\n".join(lines) + "\n").findings


# Who can read it.


def test_a_file_with_secrets_that_everybody_can_read_or_that_is_in_git_is_told(tmp_path: Path) -> None:
    checked(tmp_path, f"TOKEN={STRONG}\n")
    (tmp_path / ".env").chmod(0o644)
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    assert codes(check_file(tmp_path / ".env", ".env")) == ["public"]
    subprocess.run(["git", "-C", str(tmp_path), "add", ".env"], check=True)
    assert codes(check_file(tmp_path / ".env", ".env")) == ["public", "public"]
    checked(tmp_path, "TOKEN=change_this\n")
    assert "public" not in codes(check_file(tmp_path / ".env", ".env"))


# The example and the compose files.


def test_keys_are_held_against_the_example_and_the_compose_file_beside(tmp_path: Path) -> None:
    found = checked(
        tmp_path,
        f"TAGG=1\nDB_PASSWORD={STRONG}\nSTRAY=1\n",
        __env__example="TAG=1\nDB_PASSWORD=change_this\nMAIL=x\nSENTRY_TOKEN=\n",
        compose__yml="services: {web: {image: 'x:${TAG}', environment: {PW: '${DB_PASSWORD}',"
        " H: '${HOST:?no}'}}}\n",
    )
    said = {(one.code, one.key, one.level) for one in found.findings if one.code != "inventory"}
    assert ("unset", "TAG", "error") in said
    assert ("missing", "MAIL", "warning") in said
    assert ("missing", "SENTRY_TOKEN", "error") in said
    assert ("missing", "TAG", "warning") not in said  # the compose file's need was told
    assert {("unused", "STRAY", "warning"), ("unused", "TAGG", "warning")} <= said
    assert {("unknown", "STRAY", "warning"), ("unknown", "TAGG", "warning")} <= said
    assert [one for one in found.findings if one.code == "unset" and "HOST is required" in one.message]
    assert (
        "Did you mean TAG?"
        in next(one for one in found.findings if one.code == "unused" and one.key == "TAGG").hint
    )


@pytest.mark.parametrize(
    "service",
    ["env_file: .env", "env_file: [{path: .env}]", "environment: [STRAY]", "environment: {STRAY: }",
     "volumes: ['./.env:/app/.env:ro']", "labels: {x: '${STRAY}'}", "command: echo ${STRAY-}"],
)  # fmt: skip
def test_every_way_of_using_a_variable_counts(tmp_path: Path, service: str) -> None:
    compose = f"services: {{web: {{image: x, {service}}}}}\n"
    assert "unused" not in codes(checked(tmp_path, "STRAY=1\n", compose__yml=compose))


# An environment.


def environment_findings(root: Path, files: dict[str, str]) -> Checked:
    make(root, {"inventory/prod.yml": SHOP, "compose.yml": COMPOSE_FILE, **files})
    return check_environment(root, "prod", load(root, "prod"))


def test_an_environment_is_checked_with_all_of_its_files(tmp_path: Path) -> None:
    found = environment_findings(
        tmp_path,
        {
            "inventory/staging.yml": SHOP,
            "env/prod.env": f"TAG=1\nDB_PASSWORD={STRONG}\n",
            "env/prod/shop.env": "LOG_LEVEL=INFO\nSTRAY=1\n",
            "env/staging.env": f"OTHER_PASSWORD={STRONG}\n",
        },
    )
    assert found.files == ("env/prod.env", "env/prod/shop.env")
    assert [(one.code, one.key, str(one.where)) for one in found.findings] == [
        ("reused", "DB_PASSWORD", "env/prod.env:2"),
        ("unused", "STRAY", "env/prod/shop.env:2"),
    ]
    assert "OTHER_PASSWORD of staging (env/staging.env:1:1)" in found.findings[0].message


def test_a_variable_that_a_template_uses_is_used(tmp_path: Path) -> None:
    inventory = SHOP.replace("compose.yml", "compose.yml.j2")
    compose = "services: {web: {image: x, command: '{{ env.COMMAND }} {{ env[\"SIZE\"] }}'}}\n"
    found = environment_findings(
        tmp_path,
        {
            "inventory/prod.yml": inventory,
            "compose.yml.j2": compose,
            "env/prod.env": "COMMAND=a\nSIZE=1\nSTRAY=1\n",
        },
    )
    assert [(one.code, one.key) for one in found.findings] == [("unused", "STRAY")]


def test_files_that_nobody_reads_are_told_and_a_folder_of_that_name_is_an_error(tmp_path: Path) -> None:
    make(
        tmp_path,
        {"inventory/prod.yml": SHOP, "env/prdo.env": "A=1\n", "env/prod.evn": "A=1\n", "env/notes.md": ""},
    )
    warnings = load(tmp_path, "prod").warnings
    assert [warning.split(" ")[0] for warning in warnings] == ["env/prdo.env", "env/prod.evn"]
    assert "Did you mean prod?" in warnings[0] and "did you mean env/prod.env?" in warnings[1]
    (tmp_path / "env/prod.env").mkdir()
    with pytest.raises(Exception, match=r"env/prod\.env: This is a folder"):
        load(tmp_path, "prod")
    found = check_environment(tmp_path, "prod", None)
    assert codes(found, "error") == ["misplaced"]


def test_an_environment_that_cannot_be_loaded_is_checked_as_far_as_it_goes(
    tmp_path: Path, capsys: Capture
) -> None:
    make(
        tmp_path,
        {
            "inventory/prod.yml": SHOP + "    wrong: [\n",
            "compose.yml": COMPOSE_FILE,
            "env/prod.env": "A B=1\nDB_PASSWORD=postgres123456\n",
        },
    )
    code, out, _ = run(tmp_path, capsys, "env", "--check", "--env", "prod")
    assert code == 1
    assert "env/prod.env:1:1" in out and "[default]" in out and "inventory/prod.yml" in out
    assert "which keys are used was not looked at" in out


# The command.


def test_the_exit_code_is_1_for_what_would_break_and_0_for_warnings(tmp_path: Path, capsys: Capture) -> None:
    checked(tmp_path, 'A="x"\n')
    assert run(tmp_path, capsys, "env", "--check")[0] == 0
    assert run(tmp_path, capsys, "env", "--check", "--strict")[0] == 1
    assert run(tmp_path, capsys, "env", "--check", "--strict", "--ignore", "differs")[0] == 0
    checked(tmp_path, "A=pa$word\n")
    assert run(tmp_path, capsys, "env", "--check", "--file", ".env")[0] == 1
    assert run(tmp_path, capsys, "env", "--check", "--file", ".env", "--ignore", "lost")[0] == 0


def test_no_secret_is_in_what_is_said_also_as_json(tmp_path: Path, capsys: Capture) -> None:
    secret = "Zx8$Qw9xE'1\\n#kk"
    checked(tmp_path, f'export DB_PASSWORD="{secret}"\nTOKEN={secret}\nB_TOKEN = {secret}\n')
    for words in (("env", "--check"), ("env", "--check", "--json")):
        _, out, err = run(tmp_path, capsys, *words)
        assert "DB_PASSWORD" in out
        assert all(part not in out + err for part in ("Qw9x", "Zx8", "kk"))


def test_the_json_has_every_finding_with_its_place(tmp_path: Path, capsys: Capture) -> None:
    checked(tmp_path, "A=1\nB=x # y\n")
    _, out, _ = run(tmp_path, capsys, "env", "--check", "--json")
    (one,) = json.loads(out)["value"]["findings"]
    assert (one["code"], one["key"], one["file"], one["line"], one["column"]) == (
        "differs",
        "B",
        ".env",
        2,
        1,
    )
    assert one["readings"] == {COMPOSE: "'x'", PYTHON: "'x'", DOCKER: "'x # y'"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--check", "--diff", "a", "b"], "two commands"),
        (["--strict"], "--strict goes with --check"),
        (["--check", "--ignore", "diffres"], "Did you mean differs?"),
        (["--check", "--example", "nope"], "no such file"),
        (["--check", "--file", ".env", "--env", "prod"], "--file is one file"),
        (["--check", "--file", ".env", "--app", "shop"], "--app goes with --env"),
        (["--check", "--app", "shop"], "--app goes with --env"),
        (["--check"], "no .env here"),
        (["--diff", "prod"], "--diff LEFT RIGHT needed value"),
        (["--diff", "prod", "stagng"], "Did you mean staging?"),
        (["--check", "--env", "prdo"], "Did you mean prod?"),
        (["--check", "--env", "prod", "--app", "shpo"], "Did you mean shop?"),
    ],
)
def test_what_is_typed_wrong_is_said(tmp_path: Path, capsys: Capture, words: list[str], says: str) -> None:
    make(tmp_path, {"inventory/prod.yml": SHOP, "inventory/staging.yml": SHOP})
    code, out, err = run(tmp_path, capsys, "env", *words)
    assert code == 1
    assert says in out + err


def test_two_environments_are_compared_by_key_without_showing_secrets(
    tmp_path: Path, capsys: Capture
) -> None:
    make(
        tmp_path,
        {
            "inventory/prod.yml": SHOP,
            "inventory/staging.yml": SHOP,
            "env/prod.env": f"TAG=1.0\nDB_PASSWORD={STRONG}\nSHARED_KEY={STRONG}x\nEXTRA=1\n",
            "env/staging.env": f"TAG=1.1\nDB_PASSWORD={STRONG[::-1]}\nSHARED_KEY={STRONG}x\n",
        },
    )
    code, out, _ = run(tmp_path, capsys, "env", "--diff", "staging", "prod", "--json")
    rows: dict[str, Any] = {row["key"]: row for row in json.loads(out)["value"]}
    assert code == 2
    assert {key: row["state"] for key, row in rows.items()} == {
        "TAG": "differs",
        "DB_PASSWORD": "differs",
        "SHARED_KEY": "same",
        "EXTRA": "only prod",
    }
    assert rows["TAG"]["prod"] == {"values": ["1.0"], "where": ["env/prod.env:1"]}
    assert STRONG[:8] not in out and STRONG[::-1][:8] not in out
    assert rows["SHARED_KEY"]["prod"]["values"] == rows["SHARED_KEY"]["staging"]["values"]
    assert rows["DB_PASSWORD"]["prod"]["values"] != rows["DB_PASSWORD"]["staging"]["values"]
    (tmp_path / "env/staging.env").write_text(f"TAG=2\nDB_PASSWORD=x\nSHARED_KEY={STRONG}\nEXTRA=2\n")
    code, text, _ = run(tmp_path, capsys, "env", "--diff", "staging", "prod")
    assert code == 0
    assert "0 in one of them only, 4 with another value, 0 the same." in text


def test_a_fingerprint_is_another_one_in_the_next_run(tmp_path: Path) -> None:
    make(tmp_path, {"inventory/prod.yml": SHOP, "env/prod.env": f"TOKEN={STRONG}\n"})
    environment = load(tmp_path, "prod")
    first, second = (compare(environment, environment)[0].left.shown for _ in range(2))
    assert first != second


def test_the_environment_alone_is_shown_with_origins(tmp_path: Path, capsys: Capture) -> None:
    make(tmp_path, {"inventory/prod.yml": SHOP, "env/prod.env": f"TAG=1.0\nTOKEN={STRONG}\n"})
    code, out, _ = run(tmp_path, capsys, "env", "--env", "prod")
    assert code == 0
    assert "1.0" in out and "env/prod.env:2" in out and "***" in out and STRONG not in out


def test_the_page_names_every_kind_of_finding() -> None:
    page = (Path(__file__).parents[2] / "docs" / "env.md").read_text()
    assert all(f"| `{code}` |" in page for code in CODES)
