"""The conversation with the agent, over streams that misbehave."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import pytest

from longshore.agent import wire
from longshore.errors import AgentError, ConnectionLostError, HostError
from longshore.remote.become import Password, PasswordSource
from longshore.remote.conversation import ERRORS_KEPT, AgentSession
from longshore.remote.program import Program
from longshore.remote.session import Event

HELLO = {"type": "hello", "protocol": wire.PROTOCOL, "agent": "abc", "python": "3.11.2"}
PROGRAM = Program("abc", b"tar")


class Script:
    """A stream that says what it is told to, chunk by chunk. An exception in it is raised."""

    def __init__(self, *chunks: bytes | Mapping[str, Any] | Exception, code: int | None = 0) -> None:
        self.chunks = [_line(chunk) if isinstance(chunk, Mapping) else chunk for chunk in chunks]
        self.sent = b""
        self.code = code
        self.stderr = b""
        self.closed = False
        self.timeouts: list[float | None] = []
        self.send_error: Exception | None = None

    def send(self, data: bytes | memoryview) -> None:
        if self.send_error:
            raise self.send_error
        self.sent += bytes(data)

    def receive(self, timeout: float | None) -> bytes:
        self.timeouts.append(timeout)
        chunk = self.chunks.pop(0) if self.chunks else b""
        if isinstance(chunk, Exception):
            raise chunk
        return chunk

    def split_errors(self) -> None: ...

    def errors(self) -> bytes:
        said, self.stderr = self.stderr, b""
        return said

    def exit_code(self) -> int | None:
        return self.code

    def close(self) -> None:
        self.closed = True


def _line(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


def result(number: int, value: Any) -> bytes:
    return _line({"id": number, "type": "result", "value": value})


def session(*chunks: bytes | Mapping[str, Any] | Exception, code: int | None = None) -> AgentSession:
    made = AgentSession("web1", Script(HELLO, *chunks, code=code))
    made.start(PROGRAM)
    return made


def script(of: AgentSession) -> Script:
    stream = of._stream
    assert isinstance(stream, Script)
    return stream


def test_a_call_gives_the_results_value_and_passes_events_on() -> None:
    events: list[Event] = []
    event = {"id": 1, "type": "event", "kind": "pull", "done": 1}
    made = session(_line(event) + result(1, {"good": True}), result(2, None))
    assert made.call("inspect", {"app": "a"}, on_event=events.append) == {"good": True}
    assert events == [event]
    assert made.call("facts") is None
    requests = [json.loads(line) for line in script(made).sent.splitlines()]
    assert requests[0] == {"id": 1, "op": "inspect", "args": {"app": "a"}, "payload": 0}


def test_lines_may_come_in_any_pieces() -> None:
    whole = _line({"id": 1, "type": "event", "kind": "é"}) + result(1, "ü" * 1000)
    made = session(*(whole[at : at + 1] for at in range(len(whole))))
    assert made.call("facts") == "ü" * 1000


def test_the_payload_follows_its_request() -> None:
    made = session(result(1, 1))
    made.call("stage", payload=memoryview(b"\x00tar\n"))
    line, _, rest = script(made).sent.partition(b"\n")
    assert (json.loads(line)["payload"], rest) == (5, b"\x00tar\n")


def test_an_agents_refusal_keeps_code_hint_detail_and_host() -> None:
    error = {"id": 1, "type": "error", "code": "no-space", "message": "m", "hint": "h", "detail": {"free": 1}}
    with pytest.raises(AgentError) as caught:
        session(error).call("stage")
    assert (caught.value.code, caught.value.message, caught.value.hint) == ("no-space", "m", "h")
    assert (caught.value.where, caught.value.detail) == ("web1", {"free": 1})


def test_an_agent_that_dies_is_a_lost_connection_with_its_last_words() -> None:
    made = session(b"half a li", code=137)
    script(made).stderr = b"Traceback\nMemoryError: too much\n"
    with pytest.raises(
        ConnectionLostError, match=r"`switch` \(exit code 137\).*half a li|MemoryError"
    ) as caught:
        made.call("switch")
    assert caught.value.where == "web1"


def test_after_a_loss_every_further_call_says_so_at_once() -> None:
    made = session()
    with pytest.raises(ConnectionLostError):
        made.call("switch")
    before = script(made).sent
    with pytest.raises(ConnectionLostError, match="switch"):
        made.call("inspect")
    assert script(made).sent == before


def test_silence_longer_than_the_timeout_is_a_lost_connection() -> None:
    made = session(TimeoutError())
    with pytest.raises(ConnectionLostError, match=r"nothing for 2\.5 s"):
        made.call("verify", timeout=2.5)
    assert script(made).timeouts[-1] == 2.5


@pytest.mark.parametrize("error", [BrokenPipeError(), ConnectionResetError(), OSError("Socket is closed")])
def test_a_broken_stream_is_a_lost_connection(error: OSError) -> None:
    with pytest.raises(ConnectionLostError, match="broke"):
        session(error).call("switch")


def test_a_refusal_is_heard_though_the_payload_could_not_be_sent() -> None:
    made = session(_line({"id": 1, "type": "error", "code": "no-space", "message": "full"}))
    script(made).send_error = BrokenPipeError()
    with pytest.raises(AgentError, match="full"):
        made.call("stage", payload=b"x" * 100)


def test_what_is_no_message_is_kept_as_the_agents_words_and_else_ignored() -> None:
    made = session(b"warning: old\n", b"{broken\n", b"[1]\n", result(1, 5))
    assert made.call("facts") == 5


def test_the_kept_words_are_bounded() -> None:
    made = session(*[b"x" * 999 + b"\n"] * 100)
    with pytest.raises(ConnectionLostError):
        made.call("facts")
    assert len(made._errors) <= ERRORS_KEPT


def test_an_answer_to_an_earlier_call_is_not_taken_for_this_ones() -> None:
    def stop(_: Event) -> None:
        raise KeyboardInterrupt

    made = session(_line({"id": 1, "type": "event", "kind": "x"}), result(1, "late"), result(2, "mine"))
    with pytest.raises(KeyboardInterrupt):
        made.call("switch", on_event=stop)
    assert made.call("revert") == "mine"


def test_the_agent_is_sent_when_the_host_needs_it() -> None:
    stream = Script({"type": "need"}, HELLO)
    AgentSession("web1", stream).start(PROGRAM)
    assert stream.sent == b"%d\n" % len(PROGRAM.compressed) + PROGRAM.compressed


def test_chatter_of_a_login_script_does_not_matter() -> None:
    made = AgentSession("web1", Script(b"Welcome!\n{not json}\n", HELLO, result(1, 1)))
    made.start(PROGRAM)
    assert made.agent["python"] == "3.11.2"


def test_chatter_without_an_end_of_line_does_not_hide_what_comes_after_it() -> None:
    title = b"\x1b]0;web1\x07"
    stream = Script(title + _line({"type": "need"}), HELLO)
    AgentSession("web1", stream).start(PROGRAM)
    assert stream.sent.endswith(PROGRAM.compressed)
    AgentSession("web1", Script(title + _line(HELLO))).start(PROGRAM)


def test_an_agent_that_does_not_come_up_in_time_is_a_sentence() -> None:
    error = start_error(Script(b"waiting for the network\n", TimeoutError()))
    assert error.message == "the agent did not start within 60 s: waiting for the network"
    error = start_error(Script(b"Verification code: ", TimeoutError()), password("secret"))
    assert error.message == "the agent did not start within 60 s: Verification code:"


def test_a_stream_that_breaks_at_the_start_is_a_sentence() -> None:
    error = start_error(Script({"type": "need"}, BrokenPipeError(32, "Broken pipe"), code=None))
    assert error.message == "the connection broke while the agent was started."


def start_error(stream: Script, password: Password | None = None) -> HostError:
    with pytest.raises(HostError) as caught:
        AgentSession("web1", stream).start(PROGRAM, password=password)
    return caught.value


def test_no_python_is_a_sentence() -> None:
    error = start_error(Script(b"bash: line 1: python3: command not found\n", code=127))
    assert "no python3" in error.message
    assert "invoke bootstrap" in error.hint


def test_a_refusing_starter_is_an_error_with_its_code() -> None:
    message = {"type": "refused", "code": "old-python", "message": "too old", "hint": "upgrade"}
    error = start_error(Script(message))
    assert isinstance(error, AgentError)
    assert (error.code, error.hint, error.where) == ("old-python", "upgrade", "web1")


def test_another_protocol_is_a_sentence() -> None:
    assert "protocol 99" in start_error(Script({**HELLO, "protocol": 99})).message


def test_an_agent_that_cannot_start_shows_its_last_line() -> None:
    error = start_error(Script(b"Traceback\n  File\nImportError: nope\n", code=1))
    assert error.message.endswith("(exit code 1): ImportError: nope")


def password(*answers: str) -> Password:
    given = list(answers)
    return Password(PasswordSource(lambda prompt: given.pop(0)))


def test_sudo_gets_the_password_when_it_asks_and_the_agent_never(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LONGSHORE_BECOME_PASSWORD", raising=False)
    asking = password("practice")
    stream = Script(b"We trust you have received the lecture\n" + asking.prompt.encode(), HELLO)
    AgentSession("web1", stream).start(PROGRAM, password=asking)
    assert stream.sent == b"practice\n"
    quiet = Script(HELLO)
    AgentSession("web1", quiet).start(PROGRAM, password=password())
    assert quiet.sent == b""


def test_a_wrong_sudo_password_is_a_sentence_and_not_offered_to_other_hosts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("LONGSHORE_BECOME_PASSWORD", raising=False)
    source = PasswordSource(lambda prompt: "wrong")
    first, second = Password(source), Password(source)
    prompt = first.prompt.encode()
    error = start_error(Script(prompt, b"Sorry, try again.\n" + prompt), first)
    assert error.message == "the sudo password is wrong."
    stream = Script(second.prompt.encode())
    assert "web1 refused" in start_error(stream, second).message
    assert stream.sent == b""


def _passed(*chunks: str | Exception, end: float | None = None) -> bytes:
    """What of these chunks is the command's: ``MARK`` and ``PROMPT`` are sudo's and ours."""
    one = password("secret")

    def told(chunk: str) -> bytes:
        return chunk.replace("MARK", one.mark).replace("PROMPT", one.prompt).encode()

    script = [told(chunk) if isinstance(chunk, str) else chunk for chunk in chunks]
    return one.passed("web1", Script(*script), end)


def test_what_a_command_writes_begins_after_sudos_own_words() -> None:
    lecture = "We trust you have received the usual lecture\n"
    assert _passed(lecture, "PROMPT", "\nMARK\nhe", "llo") == b"he"
    assert _passed("MARK", "\r\n") == b""


def test_sudo_that_waits_for_something_else_is_a_sentence_and_not_waited_for_for_ever() -> None:
    with pytest.raises(HostError, match="sudo waits for something that it can't be given: LDAP Password:"):
        _passed("LDAP Password: ", TimeoutError())
    with pytest.raises(TimeoutError):
        _passed(TimeoutError(), end=time.monotonic() + 5)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (b"bash: line 1: sudo: command not found\n", "no sudo"),
        (b"joe is not in the sudoers file.\n", "may not use sudo"),
        (b"sudo: 1 incorrect password attempt\n", "wrong"),
    ],
)
def test_sudo_that_gives_up_is_a_sentence(said: bytes, sentence: str) -> None:
    assert sentence in start_error(Script(said, code=1), password()).message


def test_the_password_of_the_environment_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGSHORE_BECOME_PASSWORD", "from-env")
    assert PasswordSource(lambda prompt: pytest.fail("asked")).get("web1") == "from-env"


def test_the_password_is_asked_for_once_though_many_hosts_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures import ThreadPoolExecutor

    monkeypatch.delenv("LONGSHORE_BECOME_PASSWORD", raising=False)
    asked: list[str] = []
    source = PasswordSource(lambda prompt: asked.append(prompt) or "secret")  # type: ignore[func-returns-value]
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(source.get, [f"h{number}" for number in range(20)])) == {"secret"}
    assert len(asked) == 1
