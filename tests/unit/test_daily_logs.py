"""Logs of many containers as one stream of lines, and output that is handed on as it came."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from docker.errors import APIError
from requests import Response

from longshore.console import Masks, make_output
from longshore.console.passthrough import Passthrough
from longshore.daily.engine import told
from longshore.daily.logs import Follower, Lines, LogLine, Wanted, _seconds, lines_of, merge, read
from longshore.errors import LongshoreError

AT = "2026-01-31T08:00:0"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes and goes on a host is looked for all the time."""
    monkeypatch.setattr("longshore.daily.logs._LOOK_AGAIN", 0.02)


class FakeApi:
    """An engine's containers and logs. ``follow`` gives what comes while somebody follows."""

    def __init__(
        self, logs: dict[str, list[bytes]], follow: dict[str, list[list[bytes]]] | None = None
    ) -> None:
        self.logged = logs
        self.follow = follow or {}
        self.rounds = 0
        self.lost = threading.Event()

    def containers(self, **_: Any) -> list[dict[str, Any]]:
        self.rounds += 1
        if self.lost.is_set():
            raise OSError("the host is gone")
        return [
            {
                "Id": name,
                "Names": [f"/shop-{name}-1"],
                "State": "running",
                "Labels": {"com.docker.compose.service": name},
            }
            for name in self.logged
        ]

    def logs(self, ident: str, *, follow: bool, tail: object, since: object, **_: Any) -> Iterator[bytes]:
        if not follow:
            lines = self.logged[ident]
            return iter(lines if tail == "all" else lines[len(lines) - int(str(tail)) :])
        pieces = self.follow.get(ident, [])
        if not pieces:
            self.lost.set()
            response = Response()
            response.status_code = 404
            raise APIError("gone", response=response, explanation="No such container")
        return iter(pieces.pop(0))


class FakeLink:
    def __init__(self, host: str, api: FakeApi) -> None:
        self.host = host
        self.api = api

    def docker(self) -> Any:
        return self


def _piece(second: int, text: str) -> bytes:
    return f"{AT}{second}.5Z {text}\n".encode()


def test_lines_of_several_hosts_come_in_the_order_in_which_they_were_written() -> None:
    one = FakeLink("h1", FakeApi({"api": [_piece(1, "a"), _piece(4, "d")], "db": [_piece(3, "c")]}))
    two = FakeLink("h2", FakeApi({"api": [_piece(2, "b"), _piece(5, "e")]}))
    found = [read(link, Wanted("shop")) for link in (one, two)]  # type: ignore[arg-type]
    assert [(line.host, line.service, line.text) for line in merge(found)] == [
        ("h1", "api", "a"),
        ("h2", "api", "b"),
        ("h1", "db", "c"),
        ("h1", "api", "d"),
        ("h2", "api", "e"),
    ]


def test_only_the_service_that_was_asked_for_and_only_its_last_lines() -> None:
    link = FakeLink("h1", FakeApi({"api": [_piece(1, "a"), _piece(2, "b")], "db": [_piece(3, "c")]}))
    found = read(link, Wanted("shop", ("api",), tail=1))  # type: ignore[arg-type]
    assert [line.text for line in found] == ["b"]


def test_what_is_older_than_since_is_left_out_within_the_engines_second() -> None:
    link = FakeLink(
        "h1", FakeApi({"api": [b"1970-01-01T00:00:10.25Z old\n", b"1970-01-01T00:00:10.75Z new\n"]})
    )
    found = read(link, Wanted("shop", since=10.5))  # type: ignore[arg-type]
    assert [line.text for line in found] == ["new"]


def test_following_goes_on_behind_what_was_seen_and_through_a_restart() -> None:
    # The engine ends a stream when its container stops, and gives whole seconds again at the next.
    api = FakeApi(
        {"api": [_piece(1, "a")]},
        {"api": [[_piece(1, "a"), _piece(2, "b")], [_piece(2, "b"), _piece(3, "c")]]},
    )
    link = FakeLink("h1", api)
    seen = read(link, Wanted("shop"))  # type: ignore[arg-type]
    items = list(Follower([(link, Wanted("shop"))], seen).lines())  # type: ignore[list-item]
    assert [item.text for item in items if isinstance(item, LogLine)] == ["b", "c"]
    assert [str(item) for item in items if isinstance(item, LongshoreError)] == [
        "h1: the connection to the engine broke while we tried to list the containers: the host is gone."
    ]


def test_a_restart_brings_back_nothing_from_before_the_time_that_was_asked_for() -> None:
    # Nothing was written since then, so nothing was seen: its next life gives its whole log again.
    api = FakeApi({"api": []}, {"api": [[], [_piece(1, "long ago"), _piece(5, "new")]]})
    link = FakeLink("h1", api)
    wanted = Wanted("shop", since=_seconds(f"{AT}4Z"))
    items = list(Follower([(link, wanted)], read(link, wanted)).lines())  # type: ignore[arg-type, list-item]
    assert [item.text for item in items if isinstance(item, LogLine)] == ["new"]


def test_a_restart_brings_back_nothing_of_a_log_of_which_no_line_was_asked_for() -> None:
    old = _piece(1, "long ago")
    api = FakeApi({"api": [old]}, {"api": [[], [old, _piece(5, "new")]]})
    link = FakeLink("h1", api)
    wanted = Wanted("shop", tail=0)
    items = list(Follower([(link, wanted)], read(link, wanted)).lines())  # type: ignore[arg-type, list-item]
    assert [item.text for item in items if isinstance(item, LogLine)] == ["new"]


def test_a_host_that_is_lost_does_not_end_following_the_others() -> None:
    lost = FakeApi({"api": []})
    lost.lost.set()
    good = FakeApi({"api": []}, {"api": [[_piece(1, "still here")]]})
    jobs = [(FakeLink("h1", lost), Wanted("shop")), (FakeLink("h2", good), Wanted("shop"))]
    items = list(Follower(jobs).lines())  # type: ignore[arg-type]
    assert [item.text for item in items if isinstance(item, LogLine)] == ["still here"]


def test_a_line_that_the_engine_cut_is_whole_again() -> None:
    pieces = [f"{AT}1.25Z {'x' * 9}".encode(), f"{AT}1.25Z {'y' * 9}\n".encode(), _piece(2, "next")]
    assert list(lines_of(pieces)) == [
        (f"{AT}1.250000000Z", "x" * 9 + "y" * 9),
        (f"{AT}2.500000000Z", "next"),
    ]


def test_a_line_that_a_container_was_killed_in_swallows_none_of_its_next_life() -> None:
    killed = f"{AT}1.25Z line 57".encode()
    assert list(lines_of([killed, _piece(2, "line 0")])) == [
        (f"{AT}1.250000000Z", "line 57"),
        (f"{AT}2.500000000Z", "line 0"),
    ]
    link = FakeLink("h1", FakeApi({"api": []}, {"api": [[killed], [killed, _piece(2, "line 0")]]}))
    items = list(Follower([(link, Wanted("shop"))]).lines())  # type: ignore[list-item]
    assert [item.text for item in items if isinstance(item, LogLine)] == ["line 57", "line 0"]


def test_times_compare_as_text_though_go_leaves_out_zeros() -> None:
    (early, _), (late, _) = lines_of([f"{AT}1Z a\n{AT}1.000000001Z b\n".encode()])
    assert early < late


def test_bytes_that_are_no_text_and_a_last_line_without_an_end_are_shown() -> None:
    assert [text for _, text in lines_of([f"{AT}1Z ".encode() + b"\xff\xfe"])] == ["\ufffd\ufffd"]
    got: list[str] = []
    lines = Lines(got.append)
    lines.write(b"a\r\nb")
    lines.close()
    assert got == ["a", "b"]


def test_a_secret_that_two_pieces_share_is_masked() -> None:
    out = io.BytesIO()
    with Passthrough(Masks(["hunter22"]).text, out, io.BytesIO()) as output:
        output.write(b"password hun")
        output.write(b"ter22\nno end: hunter22")
    assert out.getvalue() == b"password ***\nno end: ***"


def test_output_goes_on_byte_by_byte_and_errors_to_their_own_stream() -> None:
    out, err = io.BytesIO(), io.BytesIO()
    with Passthrough(Masks(["hunter22"]).text, out, err) as output:
        output.write(bytes(range(256)))
        output.write(b"oops\n", True)
    assert out.getvalue() == bytes(range(256))
    assert err.getvalue() == b"oops\n"


def test_a_command_whose_output_nobody_reads_any_more_ends_and_its_host_is_not_blamed() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb", buffering=0) as gone, pytest.raises(BrokenPipeError):  # noqa: SIM117
        with Passthrough(str, gone, io.BytesIO()) as output, told("h1", "run a command"):
            output.write(b"first\n")


def test_log_lines_stand_below_each_other_with_secrets_masked() -> None:
    stream = io.StringIO()
    output = make_output(stream=stream)
    output.masks = Masks(["hunter22"])
    output.expect_logs([("h1", "api"), ("h10", "postgres")])
    output.log("h1", "api", "the word is hunter22")
    output.log("h10", "postgres", "ready")
    assert stream.getvalue() == "h1 api       | the word is ***\nh10 postgres | ready\n"


def test_a_full_disk_under_the_output_is_said_once_and_stops_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with open("/dev/full", "w") as stream:
        output = make_output(stream=stream)
        output.say("first")
        output.say("second")
        assert output.deserted
    assert capsys.readouterr().err == "error: what is said can't be written: No space left on device.\n"


def test_output_that_nobody_reads_any_more_stops_nothing() -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream:
        output = make_output(stream=stream)
        output.say("first")
        os.close(reader)
        assert not output.deserted
        output.say("second")
        output.log("h1", "api", "third")
        assert output.deserted
