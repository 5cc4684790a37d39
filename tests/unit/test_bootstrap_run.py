"""The controller's side: the request, the program as it travels, and what is made of a host's answers."""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import longshore.bootstrap.host
from longshore.agent import boot
from longshore.bootstrap import BootstrapOptions, bootstrap_host, program, wish
from longshore.bootstrap.host import images as host_images
from longshore.bootstrap.settings import daemon_defaults
from longshore.errors import AgentError, HostError, LongshoreError
from longshore.inventory import load
from longshore.inventory.model import EnginePolicy, Environment, Group, Logging, Registry

HOST = Path(longshore.bootstrap.host.__file__).parent
WISH = {"check": False, "lock_timeout": 300}


class Link:
    """Answers each command with the next of its ``answers``: exit code and lines."""

    host = "h1"

    def __init__(self, *answers: tuple[int, list[Any]]) -> None:
        self.answers = [*answers]
        self.commands: list[tuple[list[str], bytes]] = []

    def run(
        self,
        argv: list[str],
        *,
        stdin: bytes = b"",
        pty: bool = False,
        on_output: Callable[[bytes], None] | None = None,
        timeout: float | None = None,
    ) -> int:
        self.commands.append((argv, stdin))
        code, lines = self.answers.pop(0)
        text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
        assert on_output is not None
        for at in range(0, len(text), 7):  # lines come in pieces
            on_output(text[at : at + 7].encode())
        return code

    def session(self) -> Any: ...

    def docker(self) -> Any: ...

    def close(self) -> None: ...


def run(link: Link, request: dict[str, Any] | None = None, told: list[str] | None = None) -> Any:
    def tell(text: str, detail: str) -> None:
        if told is not None:
            told.append(f"{text} {detail}".strip())

    return bootstrap_host(link, request or WISH, python="python3", tell=tell)


RESULT = {"type": "result", "engine": "26.1.5", "versions": {"compose": "2.26.1"}, "changes": []}


def test_steps_changes_and_notes_are_told_as_they_come() -> None:
    told: list[str] = []
    lines = [
        "a login script's chatter",
        {"type": "step", "text": "install", "detail": "34 %"},
        {"type": "change", "text": "install docker.io"},
        {"type": "note", "text": "kept"},
        RESULT,
    ]
    outcome = run(Link((0, lines)), told=told)
    assert told == ["install 34 %"]
    assert (outcome.changes, outcome.notes, outcome.engine) == (("install docker.io",), ("kept",), "26.1.5")


def test_a_refusal_says_what_was_done_before_it() -> None:
    error = {"type": "error", "code": "no_network", "message": "no way", "hint": "Try.", "log": ["last"]}
    with pytest.raises(AgentError) as caught:
        run(Link((0, [{"type": "change", "text": "make a folder"}, error])))
    assert caught.value.code == "no_network"
    assert str(caught.value) == "h1: no way. Try. Done before that: make a folder."
    assert caught.value.detail["log"] == ["last"]


def test_a_host_without_python_gets_it_and_then_the_program() -> None:
    python = {"type": "change", "text": "install python3"}
    link = Link((127, ["sh: 1: python3: not found"]), (0, ["Reading lists", python]), (0, [RESULT]))
    assert run(link).changes == ("install python3",)
    assert [argv[0] for argv, _ in link.commands] == ["python3", "sh", "python3"]
    assert link.commands[1][0] == ["sh", "-s", "do", "300"]


def test_a_check_stops_where_python_is_missing() -> None:
    python = {"type": "change", "text": "install python3"}
    link = Link((127, ["sh: 1: python3: not found"]), (0, [python]))
    assert run(link, {**WISH, "check": True}).changes == ("install python3",)
    assert link.commands[1][0] == ["sh", "-s", "check", "300"]


def test_python_that_cannot_be_installed_is_explained_by_apts_words() -> None:
    link = Link((127, ["python3: not found"]), (0, ["E: Failed to fetch http://x  Could not connect"]))
    with pytest.raises(AgentError) as caught:
        run(link)
    assert caught.value.code == "no_network"
    assert "not found" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "lines", "words"),
    [
        (1, ["Killed"], "ended early (exit code 1): Killed"),
        (1, ['  File "<string>"', "SyntaxError: invalid syntax"], "too old"),
    ],
)
def test_a_program_that_ends_without_a_result_is_an_error(code: int, lines: list[str], words: str) -> None:
    with pytest.raises(HostError, match="h1: ") as caught:
        run(Link((code, lines)))
    assert words in str(caught.value)


def test_nothing_of_the_request_is_in_an_argument() -> None:
    link = Link((0, [RESULT]))
    run(link, {**WISH, "state_dir": "/srv/marker"})
    argv, stdin = link.commands[0]
    assert argv == ["python3", "-I", "-S", "-c", program.STARTER]
    assert b"/srv/marker" in stdin


def test_every_module_of_the_host_travels_and_needs_nothing_but_python_3_9() -> None:
    names = {path.stem for path in HOST.glob("*.py")} - {"__init__"}
    assert names == set(program.MODULES)
    known: set[str] = set()
    for name in program.MODULES:
        tree = ast.parse((HOST / f"{name}.py").read_text(), feature_version=(3, 9))
        for node in ast.walk(tree):
            modules = [node.module] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for module in modules:
                assert module is not None
                if not module.startswith("longshore"):
                    assert module.partition(".")[0] in sys.stdlib_module_names
                elif module == "longshore.agent.boot":
                    continue  # travels, too, and is looked at below
                elif module == "longshore.bootstrap.host":
                    assert isinstance(node, ast.ImportFrom)
                    assert {alias.name for alias in node.names} <= known
                else:
                    assert module.removeprefix("longshore.bootstrap.host.") in known, f"{name}: {module}"
        known.add(name)
    shared = ast.parse(Path(boot.__file__).read_text(), feature_version=(3, 9))
    imported = [node for node in ast.walk(shared) if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = {
        node.module or "" if isinstance(node, ast.ImportFrom) else node.names[0].name for node in imported
    }
    assert names <= sys.stdlib_module_names


def test_the_user_travels_in_the_request_and_nobody_is_made_unasked() -> None:
    assert wish(_environment(), BootstrapOptions(), check=True)["user"] == ""
    assert wish(_environment(), BootstrapOptions(user="deployer"), check=True)["user"] == "deployer"


def _environment(*registries: Registry) -> Environment:
    return Environment(
        name="prod",
        root=Path(),
        hosts={},
        groups={"builders": Group("builders", ("b1",), ())},
        apps={},
        targets={},
        registries={one.name: one for one in registries},
        state_dir="/var/lib/x",
    )


def test_builders_get_the_image_store_and_every_host_gets_the_registrys_authority(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("a certificate")
    environment = _environment(Registry("registry.test", ca=ca))
    builder = wish(environment, BootstrapOptions(), check=True, host="b1")
    other = wish(environment, BootstrapOptions(), check=True, host="web1")
    assert (builder["store"], other["store"]) == (True, False)
    assert other["certificates"] == {"registry.test": "a certificate"}
    without = wish(replace(environment, registry="none"), BootstrapOptions(), check=True, host="web1")
    assert without["store"] is True


def test_a_host_with_a_state_folder_of_its_own_gets_that_one() -> None:
    targets: Any = {("shop", "web1"): SimpleNamespace(state_dir="/srv/longshore", recover_at_boot=False)}
    environment = replace(_environment(), targets=targets)
    for host, folder, recovers in (("web1", "/srv/longshore", False), ("web2", "/var/lib/x", True)):
        asked = wish(environment, BootstrapOptions(), check=True, host=host)
        assert (asked["state_dir"], asked["recover_at_boot"]) == (folder, recovers)


def test_an_engine_with_images_keeps_its_store(monkeypatch: pytest.MonkeyPatch) -> None:
    for said, switched in (
        ({"Images": 3, "Containers": 0}, False),
        ({"Images": 0, "Containers": 0}, True),
        ({}, True),
        ({"DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]]}, False),
    ):
        monkeypatch.setattr(host_images, "info", lambda said=said: said)
        assert ("features" in host_images.with_store({"live-restore": True})) is switched, said


def test_registries_become_the_engines_own_settings() -> None:
    registries = [
        Registry("docker.io", insecure=True, mirror="mirror:5000"),
        Registry("registry.test:5000", insecure=True, password="hidden"),
        Registry("ghcr.io", mirror="cache.test"),
    ]
    request = wish(_environment(*registries), BootstrapOptions(), check=True)
    assert request["daemon"]["registry-mirrors"] == ["http://mirror:5000"]
    assert request["daemon"]["insecure-registries"] == ["mirror:5000", "registry.test:5000"]
    assert "hidden" not in json.dumps(request)


def test_a_mirror_with_a_scheme_keeps_it_and_its_host_is_what_is_insecure() -> None:
    mirror = Registry("docker.io", insecure=True, mirror="https://mirror.test/")
    wanted = daemon_defaults(EnginePolicy(), [mirror])
    assert wanted["registry-mirrors"] == ["https://mirror.test/"]
    assert wanted["insecure-registries"] == ["mirror.test"]


def test_a_registry_that_is_also_the_mirror_is_named_once() -> None:
    registries = [Registry("docker.io", insecure=True, mirror="r:5000"), Registry("r:5000", insecure=True)]
    assert daemon_defaults(EnginePolicy(), registries)["insecure-registries"] == ["r:5000"]


def test_defaults_are_those_of_the_services_logging() -> None:
    wanted = daemon_defaults(EnginePolicy(), [])
    assert wanted == {
        "log-driver": "json-file",
        "log-opts": {"max-size": "10m", "max-file": "3", "compress": "true"},
        "live-restore": True,
    }
    other = EnginePolicy(logging=Logging(driver="journald"), live_restore=False)
    assert daemon_defaults(other, []) == {"log-driver": "journald"}


def test_what_the_inventory_says_of_the_engine_reaches_the_host(tmp_path: Path) -> None:
    inventory = tmp_path / "inventory"
    inventory.mkdir()
    (inventory / "prod.yml").write_text(
        "all:\n"
        "  hosts: {h1: }\n"
        "  vars:\n"
        "    longshore:\n"
        "      engine:\n"
        "        source: docker\n"
        "        repository: https://mirror.test/docker\n"
        "        key: 9dc858229fc7dd38854ae2d88d81803c0ebfcd88\n"
        "        live_restore: false\n"
        "        logging: {max_size: 5m, max_file: 2}\n"
    )
    request = wish(load(tmp_path, "prod"), BootstrapOptions(), check=True, host="h1")
    assert (request["source"], request["repository"]) == ("docker", "https://mirror.test/docker")
    assert request["key"] == "9DC858229FC7DD38854AE2D88D81803C0EBFCD88"
    assert "live-restore" not in request["daemon"]
    assert request["daemon"]["log-opts"] == {"max-size": "5m", "max-file": "2", "compress": "true"}


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("source: snap", "longshore.engine.source can't be 'snap'"),
        ("repository: mirror.test", "'mirror.test' is not a URL"),
        ("key: 9DC8 5822", "is not a key's fingerprint"),
        ("data_root: /srv", "longshore.engine has no setting 'data_root'"),
    ],
)
def test_what_makes_no_sense_of_the_engine_is_refused(tmp_path: Path, said: str, sentence: str) -> None:
    inventory = tmp_path / "inventory"
    inventory.mkdir()
    engine = f"all: {{hosts: {{h1: }}, vars: {{longshore: {{engine: {{{said}}}}}}}}}\n"
    (inventory / "prod.yml").write_text(engine)
    with pytest.raises(LongshoreError, match=re.escape(sentence)):
        load(tmp_path, "prod")
