"""Hosts over a real sshd: round trips, many at once, sudo, commands, the engine, and losing one."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import shlex
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from reach import Make, output_of
from relay import Relay

from longshore.agent import wire
from longshore.errors import AgentError, ConnectionLostError, HostError
from longshore.remote import Connections, each

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120), pytest.mark.usefixtures("quiet")]


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


PIPE = """
import os, select, socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
while True:
    for f in select.select([0, s], [], [])[0]:
        d = os.read(0, 65536) if f == 0 else s.recv(65536)
        if not d: sys.exit()
        s.sendall(d) if f == 0 else os.write(1, d)
"""


@pytest.mark.parametrize("way", ["direct", "ProxyCommand"])
def test_a_host_that_goes_away_while_a_command_runs_is_a_sentence_in_time(
    addresses: list[str], make: Make, connect: Connections, way: str
) -> None:
    with Relay(addresses[0]) as relay:
        args = f"-o HostKeyAlias={addresses[0]} -o ServerAliveInterval=1"
        if way == "ProxyCommand":  # there is no TCP of ours that would notice
            command = shlex.join([sys.executable, "-c", PIPE, str(relay.port)])
            args += f" -o {shlex.quote('ProxyCommand=' + command)}"
        link = connect(make("127.0.0.1", port=relay.port, args=args))
        assert output_of(link, "sleep", "6")[0] == 0  # an idle host that lives answers
        threading.Timer(0.5, relay.cut).start()
        started = time.monotonic()
        with pytest.raises(ConnectionLostError, match="broke while `sleep` ran"):
            link.run(["sleep", "60"])
        assert 2 < time.monotonic() - started < 12


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
