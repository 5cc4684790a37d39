"""The agent's way onto a host, with this machine's python3 in the host's place."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from longshore.remote import program

MAIN = """
import sys
def main(argv):
    print('{"type": "hello", "argv": %s}' % str(argv).replace("'", '"'), flush=True)
    sys.stdout.write(sys.stdin.readline())
    return 0
"""


@pytest.fixture
def agent(tmp_path: Path) -> program.Program:
    folder = tmp_path / "agent-source"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "main.py").write_text(MAIN)
    return program.pack(folder)


def start(agent: program.Program, state: Path, stdin: bytes) -> tuple[list[dict[str, object]], int]:
    """The starter's messages for this input, and its exit code."""
    argv = program.command(agent, state_dir=str(state), python=sys.executable)
    done = subprocess.run(argv, input=stdin, capture_output=True, check=False, timeout=30)
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return [json.loads(line) for line in done.stdout.splitlines()], done.returncode


def upload(agent: program.Program) -> bytes:
    return b"%d\n" % len(agent.compressed) + agent.compressed


def test_the_same_modules_are_the_same_bytes(tmp_path: Path) -> None:
    packs = []
    for order, name in ((1, "one"), (-1, "two")):
        folder = tmp_path / name
        folder.mkdir()
        for module in ("a.py", "b.py", "main.py")[::order]:
            (folder / module).write_text(f"# {module}\n")
            os.utime(folder / module, (order + 5, order + 5))
        packs.append(program.pack(folder))
    assert packs[0] == packs[1]


def test_a_changed_module_is_another_agent(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("a = 1\n")
    before = program.pack(tmp_path).hash
    (tmp_path / "main.py").write_text("a = 2\n")
    assert program.pack(tmp_path).hash != before


def test_a_host_without_the_agent_asks_for_it_once(agent: program.Program, tmp_path: Path) -> None:
    state = tmp_path / "state"
    request = b'{"id": 1}\n'
    messages, code = start(agent, state, upload(agent) + request)
    hello = {"type": "hello", "argv": [str(state), agent.hash]}
    assert (messages, code) == ([{"type": "need"}, hello, {"id": 1}], 0)
    assert start(agent, state, request) == ([hello, {"id": 1}], 0)


def test_folders_of_the_agent_are_for_its_owner_only(agent: program.Program, tmp_path: Path) -> None:
    state = tmp_path / "state"
    start(agent, state, upload(agent))
    folders = [state, *(path for path in state.rglob("*") if path.is_dir())]
    assert len(folders) >= 4
    assert {path.stat().st_mode & 0o777 for path in folders} == {0o700}


def test_a_damaged_agent_is_not_run(agent: program.Program, tmp_path: Path) -> None:
    import zlib

    bad = zlib.compress(agent.tar[:-1] + b"x")
    messages, code = start(agent, tmp_path / "state", b"%d\n" % len(bad) + bad)
    assert code == 1
    assert messages[-1]["code"] == "bad-agent"
    assert not list((tmp_path / "state" / "agent").iterdir())


def test_an_upload_that_breaks_off_leaves_no_agent(agent: program.Program, tmp_path: Path) -> None:
    messages, code = start(agent, tmp_path / "state", upload(agent)[:-10])
    assert (messages, code) == ([{"type": "need"}], 1)
    assert not (tmp_path / "state" / "agent" / agent.hash).exists()
    messages, code = start(agent, tmp_path / "state", upload(agent))
    assert (messages[1]["type"], code) == ("hello", 0)


def test_a_tar_with_anything_but_modules_is_refused(tmp_path: Path) -> None:
    import hashlib
    import io
    import tarfile

    for name, kind in (
        ("../evil.py", tarfile.REGTYPE),
        ("a.py", tarfile.SYMTYPE),
        ("/etc/x.py", tarfile.REGTYPE),
    ):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            member = tarfile.TarInfo(name)
            member.type = kind
            member.linkname = "/etc/passwd"
            archive.addfile(member)
        data = buffer.getvalue()
        evil = program.Program(hashlib.sha256(data).hexdigest()[:16], data)
        messages, code = start(evil, tmp_path / "state", upload(evil))
        assert (messages[-1]["code"], code) == ("bad-agent", 1), name
        assert not (tmp_path / "state" / "agent" / evil.hash).exists()


def test_an_agent_that_others_can_change_is_not_run(agent: program.Program, tmp_path: Path) -> None:
    state = tmp_path / "state"
    start(agent, state, upload(agent))
    (state / "agent").chmod(0o777)
    messages, code = start(agent, state, b"")
    assert (messages[0]["code"], code) == ("no-permission", 1)
    assert str(state / "agent") in str(messages[0]["message"])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_named_with_its_owner_and_left_alone(
    agent: program.Program, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    os.chown(state, 54321, 54321)
    messages, code = start(agent, state, b"")
    assert (messages[0]["code"], code) == ("no-permission", 1)
    assert "belongs to user 54321, and this is root" in str(messages[0]["message"])
    assert list(state.iterdir()) == []


def test_the_three_newest_agents_are_kept(tmp_path: Path) -> None:
    source, state = tmp_path / "source", tmp_path / "state"
    source.mkdir()
    hashes = []
    for version in range(5):
        (source / "__init__.py").write_text("")
        (source / "main.py").write_text(f"# {version}\n{MAIN}")
        agent = program.pack(source)
        start(agent, state, upload(agent))
        os.utime(state / "agent" / agent.hash, (version, version))
        hashes.append(agent.hash)
    assert {path.name for path in (state / "agent").iterdir()} == set(hashes[-3:])


def test_what_another_run_takes_away_meanwhile_is_no_error(agent: program.Program, tmp_path: Path) -> None:
    agents = tmp_path / "state" / "agent"
    agents.mkdir(parents=True, mode=0o700)
    tmp_path.joinpath("state").chmod(0o700)
    (agents / ".new-gone").symlink_to("nowhere")  # listed, and not there when it is looked at
    messages, code = start(agent, tmp_path / "state", upload(agent))
    assert (messages[-1]["type"], code) == ("hello", 0)


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write everywhere")
def test_a_state_folder_that_cannot_be_written_is_a_sentence(agent: program.Program) -> None:
    messages, code = start(agent, Path("/proc/longshore"), b"")
    assert code == 1
    assert "ansible_become" in str(messages[0]["hint"])


def test_a_state_folder_that_cannot_exist_is_a_sentence(agent: program.Program, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    messages, code = start(agent, tmp_path / "file", b"")
    assert (messages[0]["type"], code) == ("refused", 1)


def test_the_starter_parses_on_every_python_3() -> None:
    text = (Path(program.__file__).parent / "starter.py").read_text()
    ast.parse(text, feature_version=(3, 5))


def test_the_start_command_is_one_line_without_secrets_or_payload(agent: program.Program) -> None:
    argv = program.command(agent, state_dir="/var/lib/longshore")
    assert all("\n" not in word for word in argv)
    assert sum(map(len, argv)) < 8192


def test_longshores_own_agent_packs_and_compiles() -> None:
    packed = program.agent()
    assert len(packed.tar) > 10_000
    assert len(packed.compressed) < len(packed.tar) / 2
