"""What a person sees who types it wrong: a sentence with the place, exit code 1, no traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

INVENTORY = """\
all:
  vars:
    longshore:
      apps:
        shop:
          hosts: web
          compose: compose.yml
          services:
            api: {memory: 512M}
  children:
    web:
      hosts:
        web1: {ansible_host: 127.0.0.1, ansible_port: 1}
"""
COMPOSE = """\
services:
  api:
    image: shop:1
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose one host refuses connections."""
    (tmp_path / "inventory").mkdir()
    (tmp_path / "inventory" / "prod.yml").write_text(INVENTORY)
    (tmp_path / "compose.yml").write_text(COMPOSE)
    return tmp_path


def _run(project: Path, *words: str) -> tuple[int, str, str]:
    command = [sys.executable, "-c", "from longshore.tasks import main; main()", *words]
    done = subprocess.run(
        command,
        cwd=project,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done.returncode, done.stdout, done.stderr


def _edit(project: Path, name: str, old: str, new: str) -> None:
    path = project / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_an_unknown_environment_is_told_with_the_known_ones(project: Path) -> None:
    code, _, said = _run(project, "deploy", "--env", "prood")
    assert code == 1
    assert "prood" in said
    assert "prod" in said.replace("prood", "")


def test_an_unknown_host_or_app_is_told_with_the_nearest(project: Path) -> None:
    code, _, said = _run(project, "deploy", "--env", "prod", "--limit", "wbe1")
    assert (code, "web1" in said) == (1, True)
    code, _, said = _run(project, "render", "--env", "prod", "--host", "wbe1")
    assert (code, "web1" in said, "--host: " in said) == (1, True, True)
    code, _, said = _run(project, "deploy", "--env", "prod", "--app", "shpo")
    assert (code, "shop" in said) == (1, True)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("memory: 512M", "memroy: 512M", ["inventory/prod.yml:9", "memroy", "memory"]),
        ("memory: 512M", "memory: lots", ["inventory/prod.yml:9", "lots"]),
        ("api: {memory", "apy: {memory", ["apy", "api"]),
        ("hosts: web\n", "hosts: [web\n", ["inventory/prod.yml:"]),
        ("512M", "'{{ nowhere }}'", ["inventory/prod.yml:9", "nowhere"]),
    ],
)
def test_a_mistake_in_the_inventory_is_told_with_its_line(
    project: Path, old: str, new: str, told: list[str]
) -> None:
    _edit(project, "inventory/prod.yml", old, new)
    code, _, said = _run(project, "deploy", "--env", "prod")
    assert code == 1
    assert all(word in said for word in told), said


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("image: shop:1", "image: ${NOT_SAID}", ["compose.yml:3", "NOT_SAID"]),
        ("image: shop:1", "image: [", ["compose.yml:"]),
        ("    image: shop:1\n", "", ["api"]),
    ],
)
def test_a_mistake_in_the_compose_file_is_told_with_its_line(
    project: Path, old: str, new: str, told: list[str]
) -> None:
    _edit(project, "compose.yml", old, new)
    code, _, said = _run(project, "deploy", "--env", "prod")
    assert code == 1
    assert all(word in said for word in told), said


def test_a_template_that_does_not_render_is_told_with_its_line(project: Path) -> None:
    (project / "compose.yml.j2").write_text(COMPOSE.replace("shop:1", "{{ nowhere }}"))
    _edit(project, "inventory/prod.yml", "compose: compose.yml", "compose: compose.yml.j2")
    code, _, said = _run(project, "deploy", "--env", "prod")
    assert code == 1
    assert "compose.yml.j2:3" in said
    assert "nowhere" in said


def test_a_host_that_refuses_the_connection_is_told_and_nothing_was_changed(project: Path) -> None:
    code, _, said = _run(project, "deploy", "--env", "prod", "--set", "longshore.apps.shop.pin=never")
    assert code == 1
    assert "web1" in said
    assert "nothing was changed on any host" in said


def test_an_option_without_its_value_is_named_as_it_is_typed(project: Path) -> None:
    code, _, said = _run(project, "deploy", "--env")
    assert (code, said) == (1, "Flag --env needed value and was not given one!\n")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("rendr", "--env", "prod"), "error: There is no task 'rendr'. Did you mean render?\n"),
        (("frobnicate",), "error: There is no task 'frobnicate'. `longshore --list` shows all.\n"),
        (("render", "--evn", "prod"), "error: render has no option --evn. Did you mean --env or --set?\n"),
        (("exec", "--env", "prod"), "error: exec needs: service. `longshore exec --help` shows how.\n"),
        (("render", "prod"), "error: render takes no word 'prod'. An environment is given as --env prod.\n"),
    ],
)
def test_a_word_that_nobody_knows_is_told_with_what_is_near(
    project: Path, words: tuple[str, ...], says: str
) -> None:
    code, _, said = _run(project, *words)
    assert (code, said) == (1, says)


@pytest.mark.parametrize("text", [None, "a: [\n"])
def test_settings_of_invoke_that_can_not_be_read_are_a_sentence(
    project: Path, monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    settings = project / ".invoke.yaml"
    settings.mkdir() if text is None else settings.write_text(text)
    monkeypatch.setenv("HOME", str(project))
    code, _, said = _run(project, "inventory", "--env", "prod")
    assert code == 1
    assert said.startswith("error: ") and "Invoke's settings can't be read" in said
    assert ".invoke.yaml" in said and said.count("\n") == 1


def test_errors_are_json_with_json(project: Path) -> None:
    code, out, _ = _run(project, "deploy", "--env", "prod", "--json", "--limit", "nobody")
    assert code == 1
    errors = [json.loads(line) for line in out.splitlines()]
    assert errors
    assert errors[-1]["event"] == "error"
    assert "nobody" in errors[-1]["message"]


def test_without_an_inventory_it_says_how_to_begin(tmp_path: Path) -> None:
    code, _, said = _run(tmp_path, "deploy", "--env", "prod")
    assert code == 1
    assert "inventory" in said


def test_rendering_writes_what_each_host_would_get_and_closes_the_env_file(project: Path) -> None:
    (project / "env").mkdir()
    (project / "env" / "prod.env").write_text("TOKEN=s3cret-and-long\n")
    code, out, said = _run(project, "render", "--env", "prod", "--no-pin", "--out", "out")
    assert code == 0, said
    assert "s3cret" not in out
    files = {path.name: path for path in (project / "out" / "shop" / "web1").rglob("*") if path.is_file()}
    assert {"compose.yml", "longshore.yml", ".env", "manifest.json"} <= set(files)
    assert files[".env"].stat().st_mode & 0o777 == 0o600
    before = {name: path.read_bytes() for name, path in files.items()}
    assert _run(project, "render", "--env", "prod", "--no-pin", "--out", "out")[0] == 0
    assert {name: path.read_bytes() for name, path in files.items()} == before


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("history", "--count", "many"), "--count: 'many' is not a whole number"),
        (("history", "--count", "0"), "--count: '0' is not a whole number from 1 on"),
        (("smoke", "--retries", "-1"), "--retries: '-1' is not a whole number"),
        (("cleanup", "--cache-hours", "x"), "--cache-hours: 'x' is not a whole number"),
        (("deploy", "--wait", "soon"), "--wait: 'soon' is not a duration"),
        (("deploy", "--env", "prod.yml"), "its environment's name is prod"),
        (("deploy", "--env", "inventory/prod.yml"), "its environment's name is prod"),
        (("lab.up", "--hosts", "lots"), "--hosts: 'lots' is not a whole number"),
    ],
)
def test_an_option_that_is_no_number_or_name_is_told_in_a_sentence(
    project: Path, words: tuple[str, ...], told: str
) -> None:
    task, *rest = words
    known = () if "--env" in words or task.startswith("lab.") else ("--env", "prod")
    code, _, said = _run(project, task, *known, *rest)
    assert code == 1
    assert told in said


def test_a_folder_that_can_not_be_written_is_told_in_a_sentence(project: Path) -> None:
    (project / "file").write_text("")
    code, _, said = _run(project, "render", "--env", "prod", "--no-pin", "--out", "file/sub")
    assert code == 1
    assert "file/sub: This can't be written: Not a directory." in said


def test_hosts_are_only_to_be_left_out_where_some_are_left(project: Path) -> None:
    pin = ("--set", "longshore.apps.shop.pin=never")
    _, _, said = _run(project, "deploy", "--env", "prod", *pin)
    assert "Mend that." in said
    assert "--limit" not in said


def test_a_deploy_that_finds_nothing_to_do_loads_nothing_that_builds_or_rolls_out() -> None:
    late = {"longshore.images.build", "longshore.rollout.rollout", "longshore.tasks.readying"}
    script = f"import sys, longshore.tasks.releasing; print(sorted({late} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_defect_of_ours_is_a_sentence_without_what_it_may_hold() -> None:
    script = (
        "from invoke import Collection, Program\n"
        "from longshore.tasks.command import task\n"
        "@task()\n"
        "def fail(context):\n"
        "    raise KeyError('s3cret-value')\n"
        "Program(namespace=Collection(fail)).run(['x', 'fail'])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Longshore itself failed (KeyError in" in done.stderr
    assert "Traceback" not in done.stderr
    assert "s3cret" not in done.stdout + done.stderr


def test_a_reader_that_goes_or_an_output_that_is_closed_is_no_error(project: Path) -> None:
    program = f"{sys.executable} -c 'from longshore.tasks import main; main()'"
    commands = ("schema", "explain ansible_host --env prod", "--list", "deploy --help")
    for line in (f"{program} {command} | true" for command in commands):
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", line], cwd=project, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
    closed = f"{program} render --env prod --no-pin >&-"
    done = subprocess.run(["bash", "-c", closed], cwd=project, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_terminal_that_is_not_utf_8_gets_a_question_mark_and_no_crash(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    code, out, said = _run(project, "render", "--env", "prod", "--no-pin", "--out", "\u00f6ut")
    assert (code, said) == (0, "")
    assert "Written to ?ut/." in out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["--limit", "web1", "--limit", "web2"],
            "--limit is given twice. Both patterns together: --limit 'web1:web2'.",
        ),
        (["--limit=web1", "--limit=web2"], "--limit is given twice."),
        (["--app", "shop", "--app", "blog"], "--app is given twice."),
        (["--limit", ""], "--limit is empty. Leave it out for all hosts."),
        (["--app", " "], "--app is empty."),
        (["--plan", ""], "--plan is empty. Give it a value, or leave it out."),
        (["--canary="], "--canary is empty."),
    ],
)
def test_an_option_that_is_given_twice_or_empty_touches_no_host(
    project: Path, words: list[str], says: str
) -> None:
    code, out, err = _run(project, "deploy", "--env", "prod", *words)
    assert code == 1 and out == ""
    assert err.startswith(f"error: {says}") and err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("deploy", "--env", "prod", "--dirty"), "--dirty is for what --build builds"),
        (("maintenance", "off", "--env", "prod", "--allow", "10.0.0.1"), "are for `maintenance on`"),
        (("dockerfile", "--env", "prod", "--out", "-", "--json"), "--out - prints the file itself"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(
    project: Path, words: tuple[str, ...], sentence: str
) -> None:
    code, out, err = _run(project, *words)
    assert code == 1
    assert sentence in out + err
