"""Hosts over a real sshd: connecting, the agent's session, commands, the engine, and what goes wrong."""

from __future__ import annotations

import base64
import contextlib
import os
import pty
import re
import select
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from relay import Relay

from longshore.agent import wire
from longshore.errors import AgentError, ConnectionLostError, HostError, Where
from longshore.inventory.model import Host, SshSettings
from longshore.remote import Connections, each
from longshore.remote.connection import Opener
from longshore.remote.hostkeys import fingerprint
from longshore.remote.route import Routes
from longshore.remote.trust import look, record

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]

Make = Callable[..., Host]


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No key, agent, password or ssh_config of the person who runs the tests."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.delenv("LONGSHORE_BECOME_PASSWORD", raising=False)


@pytest.fixture
def addresses(lab: Any) -> list[str]:
    """The practice hosts' addresses."""
    return list(lab.addresses.values())


@pytest.fixture
def make(lab: Any, addresses: list[str]) -> Make:
    """Makes hosts: ``make(address=…, user=…, args=…)``."""

    def host(address: str = addresses[0], *, args: str = "", name: str = "h1", **ssh: Any) -> Host:
        ssh.setdefault("user", "root")
        ssh.setdefault("identity_file", str(lab.key))
        if "UserKnownHostsFile" not in args:
            args += f" -o UserKnownHostsFile={lab.known_hosts}"
        settings = SshSettings(address=address, common_args=args, **ssh)
        return Host(name=name, ssh=settings, groups=(), vars={}, where=Where("test"))

    return host


@pytest.fixture
def state(make: Make) -> Iterator[str]:
    """A state folder that the first host doesn't have yet."""
    path = f"/var/lib/longshore-test-{os.getpid()}-{time.monotonic_ns()}"
    yield path
    # Some tests leave sshd busy or angry for a moment; clearing up isn't what they are about.
    for left in range(20, -1, -1):
        try:
            with Connections() as connect:
                connect(make()).run(["rm", "-rf", path])
            return
        except HostError:
            if not left:
                raise
            time.sleep(1)


@pytest.fixture
def connect(state: str) -> Iterator[Connections]:
    with Connections(state_dir=state) as connections:
        yield connections


def output_of(link: Any, *argv: str, **options: Any) -> tuple[int, str]:
    parts: list[bytes] = []
    code = link.run(list(argv), on_output=parts.append, **options)
    return code, b"".join(parts).decode()


# Round trips and bytes


def test_a_cold_host_and_its_first_answer_cost_at_most_nine_round_trips(
    addresses: list[str], lab: Any, make: Make, state: str
) -> None:
    round_trip = 0.6
    with Connections() as warm:  # Paramiko's import is no round trip
        warm(make()).close()
    with Relay(addresses[0], delay=round_trip / 2) as relay, Connections(state_dir=state) as connect:
        alias = f"-o HostKeyAlias={addresses[0]}"
        started = time.monotonic()
        session = connect(make("127.0.0.1", port=relay.port, args=alias)).session()
        assert session.call(wire.FACTS)["python"]
        seconds = time.monotonic() - started
        assert relay.connections == 1
        # The relay answers the TCP handshake itself: that is the one more.
        assert relay.turns + 1 <= 9
        # And by the clock, which no way of counting can flatter.
        assert 1 + int(seconds / round_trip) <= 9


def test_a_host_that_has_the_agent_is_not_sent_it_again(
    addresses: list[str], lab: Any, make: Make, state: str
) -> None:
    alias = f"-o HostKeyAlias={addresses[0]}"
    sent = []
    for _ in range(2):
        with Relay(addresses[0]) as relay, Connections(state_dir=state) as connect:
            connect(make("127.0.0.1", port=relay.port, args=alias)).session().call(wire.FACTS)
            sent.append(relay.sent["client"])
    assert sent[0] > 20_000
    assert sent[1] < 10_000


def test_a_large_payload_is_not_copied_again_and_again(make: Make, connect: Connections) -> None:
    data = os.urandom(1 << 20) * 32
    started = time.monotonic()
    code, said = output_of(connect(make()), "sha256sum", stdin=data)
    assert code == 0
    import hashlib

    assert said.split()[0] == hashlib.sha256(data).hexdigest()
    assert time.monotonic() - started < 15  # quadratic copying: over a minute


# Many hosts


def test_sixty_connections_to_one_sshd_at_its_default_limits_all_come_through(make: Make) -> None:
    with Connections(connect_timeout=30) as connect:
        outcomes = each(
            [f"h{number}" for number in range(60)],
            lambda name: connect(make(name=name)).run(["true"]),
            parallel=60,
        )
    assert [str(outcome.error) for outcome in outcomes.values() if outcome.error] == []
    assert {outcome.get() for outcome in outcomes.values()} == {0}


def test_connections_that_sshd_drops_at_its_limit_are_tried_again(make: Make) -> None:
    # More at once than MaxStartups lets in, so some are dropped before their greeting.
    with Connections(connect_timeout=30, handshakes=40) as connect:
        outcomes = each(
            [f"h{number}" for number in range(40)],
            lambda name: connect(make(name=name)).run(["true"]),
            parallel=40,
        )
    assert [str(outcome.error) for outcome in outcomes.values() if outcome.error] == []


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


def make_key(path: Path, passphrase: str = "") -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", path], check=True)
    return path


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
    lab: Any, make: Make, connect: Connections, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "agent.sock"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    try:
        while not path.exists():
            time.sleep(0.01)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
        subprocess.run(["ssh-add", "-q", str(lab.key)], check=True, stderr=subprocess.DEVNULL)
        assert connect(make(identity_file=None)).run(["true"]) == 0
        with pytest.raises(HostError, match="no key"):
            connect(make(identity_file="/nowhere/key", args="-o IdentitiesOnly=yes"))
    finally:
        agent.terminate()
        agent.wait()


def test_too_many_keys_in_ssh_agent_is_a_sentence_and_a_named_key_comes_first(
    make: Make, connect: Connections, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "agent.sock"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    try:
        while not path.exists():
            time.sleep(0.01)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
        keys = [make_key(tmp_path / f"key{number}") for number in range(8)]
        subprocess.run(["ssh-add", "-q", *keys], check=True, stderr=subprocess.DEVNULL)
        with pytest.raises(HostError, match="gave up after too many keys"):
            connect(make(identity_file=None))
        assert connect(make()).run(["true"]) == 0
    finally:
        agent.terminate()
        agent.wait()


# Ways to a host


def config_for(lab: Any, path: Path, text: str) -> str:
    path.write_text(
        f"{text}\nHost *\n  User root\n  IdentityFile {lab.key}\n  UserKnownHostsFile {lab.known_hosts}\n"
    )
    return f"-F {path} -o UserKnownHostsFile={lab.known_hosts}"


def test_proxy_jump_goes_over_several_hops_and_shares_them(
    addresses: list[str], lab: Any, make: Make, connect: Connections, tmp_path: Path
) -> None:
    first, second = addresses[:2]
    text = f"Host hop1\n  HostName {first}\n  HostKeyAlias {first}\nHost {first}\n  ProxyJump hop1,{second}\n"
    args = config_for(lab, tmp_path / "config", text)
    opened = []
    for name in ("a", "b"):
        link = connect(make(first, args=args, name=name))
        code, said = output_of(link, "sh", "-c", "echo $SSH_CONNECTION")
        assert (code, said.split()[0]) == (0, second)
        opened.append(link)
    assert connect._opener is not None
    assert len(connect._opener._hops) == 2


def test_a_hop_with_an_unknown_key_is_refused(
    addresses: list[str], lab: Any, make: Make, connect: Connections, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text(
        f"Host *\n  User root\n  IdentityFile {lab.key}\n  UserKnownHostsFile {tmp_path}/none\n"
    )
    args = f"-F {tmp_path}/config -J {addresses[1]} -o UserKnownHostsFile={lab.known_hosts}"
    with pytest.raises(HostError, match="not known") as caught:
        connect(make(args=args))
    assert addresses[1] in str(caught.value.where)


def test_a_hop_that_cannot_reach_the_host_is_a_sentence(
    addresses: list[str], lab: Any, make: Make, connect: Connections, tmp_path: Path
) -> None:
    args = config_for(lab, tmp_path / "config", "") + f" -J {addresses[0]}"
    with pytest.raises(HostError, match=re.escape(f"{addresses[0]} can't reach 127.0.0.1 port 9")):
        connect(make("127.0.0.1", port=9, args=args))


def test_a_proxy_command_carries_the_connection(make: Make, connect: Connections, tmp_path: Path) -> None:
    program = tmp_path / "pipe.py"
    program.write_text(
        "import os, select, socket, sys\n"
        "s = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
        "while True:\n"
        "    for f in select.select([0, s], [], [])[0]:\n"
        "        d = os.read(0, 65536) if f == 0 else s.recv(65536)\n"
        "        if not d: sys.exit()\n"
        "        s.sendall(d) if f == 0 else os.write(1, d)\n"
    )
    command = f"{sys.executable} {program} %h %p"
    link = connect(make(args=f"-o {shlex.quote('ProxyCommand=' + command)}"))
    assert link.session().call(wire.FACTS)["python"]
    with pytest.raises(HostError, match="ProxyCommand"):
        connect(make(args="-o 'ProxyCommand=exit 3'"))


def test_what_does_not_answer_is_a_sentence_each(
    make: Make, connect: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(HostError, match="can't be resolved"):
        connect(make("no-such-host.invalid"))
    with pytest.raises(HostError, match="refuses the connection"):
        connect(make(port=9))
    monkeypatch.setattr("longshore.remote.connection.BANNER_TIMEOUT", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(HostError, match="no SSH greeting"):
        connect(make("127.0.0.1", port=silent.getsockname()[1]))


def test_a_host_that_swallows_packets_is_a_sentence_in_time(make: Make) -> None:
    # Linux drops the SYN for a listener whose queue is full.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as waiting:
        for _ in range(4):
            sock = waiting.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())
        started = time.monotonic()
        with Connections(connect_timeout=1) as connect, pytest.raises(HostError, match="answer within 1 s"):
            connect(make("127.0.0.1", port=full.getsockname()[1]))
        assert time.monotonic() - started < 5


# sudo


def test_sudo_asks_once_for_all_hosts_and_the_password_is_seen_nowhere(
    lab: Any, make: Make, state: str
) -> None:
    asked: list[str] = []

    def answer(prompt: str) -> str:
        asked.append(prompt)
        return "practice"

    with Connections(state_dir=state, ask=answer) as connect:
        links = [connect(make(user="deploy", become=True, name=name)) for name in ("a", "b")]
        for link in links:
            assert link.session().call(wire.FACTS)["python"]
            assert output_of(link, "id", "-u") == (0, "0\n")
            assert output_of(link, "cat", stdin=b"mine\n") == (0, "mine\n")
        processes = output_of(connect(make()), "ps", "-eo", "args")[1]
    assert len(asked) == 1
    assert "longshore-sudo" in processes
    assert "practice" not in processes


def test_a_wrong_sudo_password_is_a_sentence(
    make: Make, connect: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LONGSHORE_BECOME_PASSWORD", "wrong")
    with pytest.raises(HostError, match="sudo password is wrong"):
        connect(make(user="deploy", become=True)).session()


def test_a_user_who_may_not_write_the_state_folder_is_told_about_become(
    make: Make, connect: Connections
) -> None:
    with pytest.raises(AgentError, match="deploy can not write") as caught:
        connect(make(user="deploy")).session()
    assert (caught.value.code, "ansible_become" in caught.value.hint) == (wire.NO_PERMISSION, True)


# Commands


def test_arguments_arrive_as_they_are(make: Make, connect: Connections) -> None:
    nasty = ["a b", "$HOME", "`id`", "'", '"', "\\", "*", "", "ü", "a\nb", ";ls", "-n", "!x"]
    code, said = output_of(connect(make()), "printf", "%s\\0", *nasty)
    assert (code, said.split("\0")[:-1]) == (0, nasty)


def test_exit_codes_and_both_outputs_come_back(make: Make, connect: Connections) -> None:
    link = connect(make())
    assert output_of(link, "sh", "-c", "echo out; echo err >&2; exit 42") == (42, "out\nerr\n")
    assert output_of(link, "no-such-command")[0] == 127


def test_output_is_there_while_the_command_runs(make: Make, connect: Connections) -> None:
    at: list[float] = []
    connect(make()).run(
        ["sh", "-c", "echo a; sleep 1; echo b"], on_output=lambda _: at.append(time.monotonic())
    )
    assert at[-1] - at[0] > 0.8


def test_a_command_over_its_time_is_a_sentence(make: Make, connect: Connections) -> None:
    with pytest.raises(HostError, match=r"sleep 60` took longer than 0\.5 s"):
        connect(make()).run(["sleep", "60"], timeout=0.5)


TERMINAL = """
import sys
from longshore.remote import Connections
from longshore.inventory.model import Host, SshSettings
from longshore.errors import Where
ssh = SshSettings(address={address!r}, user={user!r}, identity_file={key!r}, become={become!r},
                  common_args="-o UserKnownHostsFile={known_hosts}")
with Connections() as connect:
    link = connect(Host(name="h1", ssh=ssh, groups=(), vars={{}}, where=Where("x")))
    sys.exit(link.run(["sh", "-c", "tty; stty size; id -u; read line; echo got:$line; exit 7"], pty=True))
"""


@pytest.mark.parametrize("user", ["root", "deploy"])
def test_a_terminal_is_attached_with_size_input_and_exit_code(
    addresses: list[str], lab: Any, user: str, tmp_path: Path
) -> None:
    code = TERMINAL.format(
        address=addresses[0],
        user=user,
        key=str(lab.key),
        become=user != "root",
        known_hosts=lab.known_hosts,
    )
    child, terminal = pty.fork()
    if child == 0:
        os.environ["LONGSHORE_BECOME_PASSWORD"] = "practice"
        os.execv(sys.executable, [sys.executable, "-c", code])
    import fcntl
    import struct
    import termios

    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 111, 0, 0))
    said, typed = b"", False
    with contextlib.suppress(OSError):  # the end of a terminal is an EIO
        while select.select([terminal], [], [], 20)[0]:
            said += os.read(terminal, 4096)
            if not typed and re.search(rb"\n0\r\n", said):
                typed = True
                os.write(terminal, b"hello\n")
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, 0 if typed else 9)
    _, status = os.waitpid(child, 0)
    assert b"/dev/pts/" in said, said
    assert b"33 111" in said
    assert b"got:hello\r\n" in said
    assert b"practice" not in said
    assert os.waitstatus_to_exitcode(status) == 7


# Losing a host


def start_call(session: Any, op: str, **options: Any) -> tuple[threading.Thread, list[BaseException]]:
    errors: list[BaseException] = []

    def work() -> None:
        try:
            session.call(op, **options)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread, errors


def test_a_connection_that_breaks_is_noticed_at_once(
    addresses: list[str], lab: Any, make: Make, connect: Connections
) -> None:
    with Relay(addresses[0]) as relay:
        host = make("127.0.0.1", port=relay.port, args=f"-o HostKeyAlias={addresses[0]}")
        session = connect(host).session()
        relay.cut()
        thread, errors = start_call(session, wire.FACTS)
        time.sleep(0.2)
        relay.reset()
        thread.join(5)
    assert [type(error) for error in errors] == [ConnectionLostError]


def test_a_network_that_goes_away_is_noticed_by_its_silence(
    addresses: list[str], lab: Any, make: Make, connect: Connections
) -> None:
    with Relay(addresses[0]) as relay:
        host = make("127.0.0.1", port=relay.port, args=f"-o HostKeyAlias={addresses[0]}")
        session = connect(host).session()
        relay.cut()
        with pytest.raises(ConnectionLostError, match="nothing for 1 s"):
            session.call(wire.FACTS, timeout=1)


def test_an_agent_that_is_killed_is_a_sentence(make: Make, connect: Connections, state: str) -> None:
    session = connect(make()).session()
    with Connections() as other:
        other(make()).run(["pkill", "-KILL", "-f", f"{state} [0-9a-f]{{16}}$"])
    with pytest.raises(ConnectionLostError, match="`facts`") as caught:
        session.call(wire.FACTS)
    assert caught.value.where == "h1"


def test_closing_ends_the_agent(make: Make, connect: Connections, state: str) -> None:
    link = connect(make())
    link.session()
    link.close()
    with Connections() as other:
        watcher = other(make())
        until = time.monotonic() + 10
        while output_of(watcher, "pgrep", "-f", f"{state} [0-9a-f]{{16}}$")[0] == 0:
            assert time.monotonic() < until, "the agent still runs"
            time.sleep(0.1)


def test_a_host_without_python3_is_a_sentence(make: Make, connect: Connections) -> None:
    with pytest.raises(HostError, match="no python3") as caught:
        connect(make(python="/usr/bin/python9")).session()
    assert "apt-get install python3" in caught.value.hint


# The engine

SCRIPT = "for i in 1 2 3; do echo line $i; /usr/bin/sleep 0.3; done; exec /usr/bin/sleep 60"


def test_the_docker_sdk_talks_over_the_same_connection(addresses: list[str], lab: Any, make: Make) -> None:
    with Relay(addresses[0]) as relay, Connections() as connect:
        link = connect(make("127.0.0.1", port=relay.port, args=f"-o HostKeyAlias={addresses[0]}"))
        engine = link.docker()
        assert engine.ping()
        assert engine.version()["Version"]
        assert {engine.ping() for _ in range(30)} == {True}
        assert relay.connections == 1


@pytest.mark.parametrize("user", ["root", "deploy"])
def test_logs_are_followed_and_commands_run_in_a_container(
    make: Make, connect: Connections, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LONGSHORE_BECOME_PASSWORD", "practice")
    link = connect(make(user=user, become=user != "root"))
    engine = link.docker()
    tag = import_image(link)
    container = engine.containers.run(
        tag,
        ["/usr/bin/dash", "-c", SCRIPT],
        detach=True,
    )
    try:
        lines = iter(container.logs(stream=True, follow=True))
        assert [next(lines) for _ in range(3)] == [b"line 1\n", b"line 2\n", b"line 3\n"]
        done = container.exec_run(["/usr/bin/dash", "-c", "echo hi; exit 3"])
        assert (done.exit_code, done.output) == (3, b"hi\n")
        assert container.stats(stream=False)["name"]
    finally:
        container.remove(force=True)


def import_image(link: Any) -> str:
    """A small image without a registry: the host's own dash and sleep, and the libraries they need."""
    script = (
        "set -e; d=$(mktemp -d); mkdir -p $d/usr/bin $d/usr/lib; "
        "cp -L --parents /usr/bin/dash /usr/bin/sleep "
        "$(ldd /usr/bin/dash /usr/bin/sleep | grep -o '/[^ :]*' | sort -u) $d; "
        "tar -C $d -c . | docker import - longshore-test/dash:1 >/dev/null; rm -rf $d"
    )
    code, said = output_of(link, "sh", "-c", script)
    assert code == 0, said
    return "longshore-test/dash:1"
