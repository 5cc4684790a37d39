"""Real sshd and keys: host keys and certificates, the person's keys, and who is let in."""

from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from reach import Make, add, make_key, output_of

from longshore.errors import HostError
from longshore.remote import Connections, each
from longshore.remote.connection import Opener
from longshore.remote.hostkeys import fingerprint
from longshore.remote.route import Routes
from longshore.remote.trust import look, record

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120), pytest.mark.usefixtures("quiet")]


# Host keys


def test_an_unknown_key_is_a_sentence_with_its_fingerprint(
    addresses: list[str], lab: Any, make: Make, connect: Connections, tmp_path: Path
) -> None:
    with pytest.raises(HostError, match="not known") as caught:
        connect(make(args=f"-o UserKnownHostsFile={tmp_path}/none -o GlobalKnownHostsFile=none"))
    blob = next(
        line.split()[2]
        for line in Path(lab.known_hosts).read_text().splitlines()
        if line.startswith(addresses[0])
    )
    assert fingerprint(base64.b64decode(blob)) in str(caught.value)
    assert "invoke trust" in caught.value.hint
    assert caught.value.where == "h1"


def test_a_changed_key_stops_that_host_with_file_and_line(
    addresses: list[str], make: Make, connect: Connections, lab: Any, tmp_path: Path
) -> None:
    other = base64.b64encode(b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + b"k" * 32).decode()
    path = tmp_path / "kh"
    path.write_text(f"# mine\n{addresses[0]} ssh-ed25519 {other}\n")
    # Not even accept-new may pass over a changed key.
    with pytest.raises(HostError, match="changed") as caught:
        connect(make(args=f"-o UserKnownHostsFile={path} -o StrictHostKeyChecking=accept-new"))
    assert f"{path}:2" in caught.value.message
    assert path.read_text().count("\n") == 2


def test_accept_new_records_the_key_and_the_next_run_is_strict(
    make: Make, connect: Connections, tmp_path: Path
) -> None:
    path = tmp_path / "new" / "kh"
    connect(make(args=f"-o UserKnownHostsFile={path} -o StrictHostKeyChecking=accept-new"))
    assert len(path.read_text().splitlines()) == 1
    with Connections() as strict:
        assert strict(make(args=f"-o UserKnownHostsFile={path}")).run(["true"]) == 0


def test_hashed_known_hosts_are_read(
    addresses: list[str], lab: Any, make: Make, connect: Connections, tmp_path: Path
) -> None:
    path = tmp_path / "kh"
    shutil.copy(lab.known_hosts, path)
    subprocess.run(["ssh-keygen", "-H", "-f", path], check=True, capture_output=True)
    assert addresses[0] not in path.read_text()
    assert connect(make(args=f"-o UserKnownHostsFile={path}")).run(["true"]) == 0


def test_a_key_type_that_is_known_is_asked_for_though_we_prefer_another(
    addresses: list[str], make: Make, connect: Connections, state: str, tmp_path: Path
) -> None:
    link = connect(make())
    second = (
        'set -e; mkdir -p "$0"; ssh-keygen -q -t rsa -b 2048 -N "" -f "$0/rsa"; '
        '/usr/sbin/sshd -f /dev/null -p 2233 -o PidFile="$0/pid" '
        '-h "$0/rsa" -h /etc/ssh/ssh_host_ed25519_key; '
        'cat "$0/rsa.pub"'
    )
    code, said = output_of(link, "sh", "-c", second, state)
    assert code == 0, said
    try:
        (tmp_path / "kh").write_text(f"[{addresses[0]}]:2233 {said}")
        assert connect(make(port=2233, args=f"-o UserKnownHostsFile={tmp_path}/kh")).run(["true"]) == 0
    finally:
        link.run(["sh", "-c", 'kill "$(cat "$0/pid")"', state])


def test_trust_shows_what_ssh_keyscan_shows_and_records_it(
    lab: Any, make: Make, connect: Connections, tmp_path: Path
) -> None:
    path = tmp_path / "kh"
    host = make(args=f"-o UserKnownHostsFile={path} -o HashKnownHosts=no")
    opener = Opener()
    shown = look(opener, Routes().to(host))
    assert shown.verdict == "unknown"
    assert shown.fingerprint.startswith("SHA256:")
    record(opener, shown)
    assert path.read_text() in Path(lab.known_hosts).read_text()
    assert look(opener, Routes().to(host)).verdict == "known"
    assert connect(host).run(["true"]) == 0


# Keys


def test_a_refused_key_is_a_sentence_with_what_was_tried(
    make: Make, connect: Connections, tmp_path: Path
) -> None:
    key = make_key(tmp_path / "wrong")
    with pytest.raises(HostError, match="doesn't let root in") as caught:
        connect(make(identity_file=str(key)))
    assert f"{key}: refused" in caught.value.message


def test_no_key_at_all_is_a_sentence(make: Make, connect: Connections) -> None:
    with pytest.raises(HostError, match="no key"):
        connect(make(identity_file="/nowhere/key"))


def test_a_file_that_is_no_key_is_a_sentence(make: Make, connect: Connections, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("hello")
    with pytest.raises(HostError, match="no private key"):
        connect(make(identity_file=str(tmp_path / "key")))


def test_a_passphrase_is_asked_for_once_for_all_hosts(
    lab: Any, make: Make, state: str, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    shutil.copy(lab.key, key)
    key.chmod(0o600)
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "open sesame", "-f", key], check=True)
    asked: list[str] = []

    def answer(prompt: str) -> str:
        asked.append(prompt)
        return "open sesame"

    with Connections(state_dir=state, ask=answer) as connect:
        outcomes = each(
            ["a", "b", "c"], lambda name: connect(make(name=name, identity_file=str(key))).run(["true"])
        )
    assert [outcome.get() for outcome in outcomes.values()] == [0, 0, 0]
    assert len(asked) == 1
    assert str(key) in asked[0]
    with (
        Connections(ask=lambda prompt: "wrong") as connect,
        pytest.raises(HostError, match="passphrase of the key"),
    ):
        connect(make(identity_file=str(key)))


def test_ssh_agent_is_used(
    lab: Any, make: Make, connect: Connections, agent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", agent)
    add(agent, lab.key)
    assert connect(make(identity_file=None)).run(["true"]) == 0
    with pytest.raises(HostError, match="no key"):
        connect(make(identity_file="/nowhere/key", args="-o IdentitiesOnly=yes"))


def test_too_many_keys_in_ssh_agent_is_a_sentence_and_a_named_key_comes_first(
    make: Make, connect: Connections, agent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", agent)
    add(agent, *(make_key(tmp_path / f"key{number}") for number in range(8)))
    with pytest.raises(HostError, match="gave up after too many keys"):
        connect(make(identity_file=None))
    assert connect(make()).run(["true"]) == 0
