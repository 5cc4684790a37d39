"""The agent's HTTP client, against a socket that answers as the engine does, and worse."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longshore.agent.engine import Engine, EngineError
from longshore.agent.fail import Refusal
from longshore.agent.unixhttp import Connection, HttpError, quoted


class Server:
    """Answers request after request with the given bytes, and then hangs up."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.answers: list[list[bytes]] = []
        """By connection, its answers."""
        self.heads: list[bytes] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                for answer in self.answers.pop(0):
                    self.heads.append(connection.recv(1 << 16))
                    with contextlib.suppress(BrokenPipeError):
                        for piece in answer.split(b"|"):  # each a packet of its own
                            connection.sendall(piece)

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path / "engine.sock")
    yield made
    made.close()


JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def test_one_connection_carries_many_requests(server: Server) -> None:
    by_length = JSON + b'Content-Length: 7\r\n\r\n{"a"|:1}'
    by_chunks = JSON + b"Transfer-Encoding: chunked\r\n\r\n2\r\n[1\r\n|1;x=y\r\n]\r\n0\r\n\r\n"
    server.answers = [[by_length, by_chunks]]
    engine = Engine(server.path, timeout=5)
    assert engine.request("GET", "/version") == {"a": 1}
    assert engine.request("GET", "/containers/json", {"filters": '{"label":["a=b c"]}'}) == [1]
    target = b"/containers/json?filters=%7B%22label%22%3A%5B%22a%3Db%20c%22%5D%7D"
    assert server.heads[1].startswith(b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\n")


def test_progress_lines_come_whole_whatever_the_pieces(server: Server) -> None:
    head = JSON + b"Transfer-Encoding: chunked\r\n\r\n"
    server.answers = [[head + b'6\r\n{"id":\r\n|7\r\n1}\r\n{"i\r\n|7\r\nd":2}\r\n\r\n0\r\n\r\n']]
    assert list(Engine(server.path).stream("POST", "/images/create", {})) == [{"id": 1}, {"id": 2}]


def test_an_error_status_carries_the_engines_words(server: Server) -> None:
    server.answers = [[b'HTTP/1.1 409 Conflict\r\nContent-Length: 18\r\n\r\n{"message":"busy"}']]
    with pytest.raises(EngineError, match="busy") as caught:
        Engine(server.path).request("DELETE", "/containers/x")
    assert caught.value.status == 409


def test_no_content_has_no_body_to_wait_for(server: Server) -> None:
    server.answers = [[b"HTTP/1.1 204 No Content\r\n\r\n", JSON + b"Content-Length: 2\r\n\r\n[]"]]
    engine = Engine(server.path, timeout=5)
    assert engine.request("POST", "/containers/x/stop") is None
    assert engine.request("GET", "/images/json") == []


def test_a_connection_that_the_engine_closed_while_idle_is_made_anew(server: Server) -> None:
    answer = JSON + b"Content-Length: 2\r\n\r\n[]"
    server.answers = [[answer], [answer]]
    engine = Engine(server.path, timeout=5)
    assert [engine.request("GET", "/images/json") for _ in range(2)] == [[], []]


def test_an_action_is_not_sent_twice_to_an_engine_that_hung_up(server: Server) -> None:
    server.answers = [[b""], [JSON + b"Content-Length: 2\r\n\r\n{}"]]
    with pytest.raises(Refusal, match="no Docker engine answers"):
        Engine(server.path, timeout=5).request("POST", "/containers/create", body={"Image": "x"})
    assert len(server.heads) == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        JSON + b"Content-Length: 20\r\n\r\n[]",
        JSON + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        JSON + b"Transfer-Encoding: chunked\r\n\r\n5\r\n[]",
    ],
)
def test_half_an_answer_is_a_sentence_and_not_a_result(server: Server, answer: bytes) -> None:
    server.answers = [[answer], [answer]]
    with pytest.raises(Refusal, match="the Docker engine did not answer"):
        Engine(server.path, timeout=5).request("GET", "/info")


def test_silence_ends_after_the_timeout(server: Server) -> None:
    server.answers = [[JSON + b"Content-Length: 2\r\n\r\n", b"never"]]
    connection = Connection(server.path, timeout=0.2)
    with pytest.raises(TimeoutError):
        connection.ask("GET", "/", {}).read()
    connection.close()


def test_without_a_length_the_body_ends_with_the_connection(server: Server) -> None:
    server.answers = [[b"HTTP/1.1 200 OK\r\n\r\none\ntwo"]]
    connection = Connection(server.path, timeout=5)
    assert list(connection.ask("GET", "/", {}).lines()) == [b"one", b"two"]


def test_a_head_without_end_is_refused(server: Server) -> None:
    server.answers = [[b"x" * 100_000]]
    connection = Connection(server.path, timeout=5)
    with pytest.raises(HttpError):
        connection.ask("GET", "/", {})
    connection.close()


@given(st.text(), st.sampled_from(["", "/:@"]))
def test_quoting_is_as_in_the_standard_library(text: str, safe: str) -> None:
    assert quoted(text, safe) == quote(text.encode("utf-8", "surrogatepass"), safe)
