"""daemon.json: defaults are added, nothing that a person set is changed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longshore.bootstrap.host import daemon
from longshore.bootstrap.host.say import Refusal

WANTED: dict[str, Any] = {
    "log-driver": "json-file",
    "log-opts": {"max-size": "10m", "max-file": "3", "compress": "true"},
    "live-restore": True,
    "registry-mirrors": ["http://mirror:5000"],
    "insecure-registries": ["mirror:5000"],
}


def merged(text: str, **options: Any) -> dict[str, Any]:
    result = daemon.merge(text, WANTED, **options)
    value: dict[str, Any] = json.loads(result.text or text or "{}")
    return value


@pytest.mark.parametrize("text", ["", " \n", "{}"])
def test_a_host_without_settings_gets_all_defaults(text: str) -> None:
    assert merged(text) == WANTED


def test_a_second_merge_finds_nothing_to_do() -> None:
    first = daemon.merge("", WANTED)
    second = daemon.merge(first.text, WANTED)
    assert (second.text, second.keys, second.changes, second.kept) == ("", (), (), ())


def test_a_persons_values_stay_and_are_told() -> None:
    text = '{"log-opts": {"max-file": "9"}, "live-restore": false}'
    result = daemon.merge(text, WANTED)
    value = json.loads(result.text)
    assert value["log-opts"] == {"max-file": "9", "max-size": "10m", "compress": "true"}
    assert value["live-restore"] is False
    assert len(result.kept) == 2


def test_options_of_one_log_driver_are_not_given_to_another() -> None:
    value = merged('{"log-driver": "journald"}')
    assert value["log-driver"] == "journald"
    assert "log-opts" not in value


def test_lists_grow_and_lose_nothing() -> None:
    value = merged('{"insecure-registries": ["own:5000"], "registry-mirrors": ["http://mirror:5000"]}')
    assert value["insecure-registries"] == ["own:5000", "mirror:5000"]
    assert value["registry-mirrors"] == ["http://mirror:5000"]


def test_a_key_that_is_a_flag_of_the_engine_is_not_written() -> None:
    flags = daemon.flags_in(["/usr/bin/dockerd", "-H", "fd://", "--log-driver=journald", "--live-restore"])
    assert set(flags) == {"log-driver", "live-restore"}
    assert set(merged("", flags=flags)) == {"registry-mirrors", "insecure-registries"}


def test_swarm_mode_gets_no_live_restore() -> None:
    assert "live-restore" not in merged("", swarm=True)


def test_only_a_change_of_logging_needs_a_restart() -> None:
    logging = json.dumps({key: WANTED[key] for key in ("log-driver", "log-opts")})
    assert daemon.merge(logging, WANTED).reloadable
    assert not daemon.merge("", WANTED).reloadable


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('{\n  "debug": true,\n  oops\n}', "daemon.json:3:3"),
        ("[]", "daemon.json:1"),
        ('{"log-opts": []}', "log-opts"),
        ('{"registry-mirrors": "http://mirror"}', "registry-mirrors"),
    ],
)
def test_a_file_that_cannot_be_right_is_refused_with_its_place(text: str, place: str) -> None:
    with pytest.raises(Refusal) as caught:
        daemon.merge(text, WANTED)
    assert caught.value.code == "daemon_json"
    assert place in caught.value.message


@pytest.mark.parametrize(("indent", "first"), [("\t", '\t"a"'), ("    ", '    "a"'), ("  ", '  "a"')])
def test_the_file_keeps_its_indent(indent: str, first: str) -> None:
    assert daemon.merge(f'{{\n{indent}"a": 1\n}}', WANTED).text.splitlines()[1].startswith(first)


@given(
    st.dictionaries(
        st.sampled_from(["debug", "data-root", "log-driver", "live-restore", "labels", "ä"]),
        st.one_of(st.booleans(), st.text(max_size=8), st.lists(st.text(max_size=4), max_size=3)),
    )
)
def test_whatever_was_there_is_there_afterwards(there: dict[str, Any]) -> None:
    result = daemon.merge(json.dumps(there), WANTED)
    value = json.loads(result.text) if result.text else there
    assert {key: value[key] for key in there} == there
