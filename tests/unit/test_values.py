"""Sizes, durations and CPU cores, as a person writes them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longshore.values import (
    format_cpus,
    format_duration,
    format_size,
    parse_cpus,
    parse_duration,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512M", 512 * 1024**2),
        ("512mb", 512 * 1024**2),
        ("512MiB", 512 * 1024**2),
        ("1.5g", 1536 * 1024**2),
        ("64 k", 64 * 1024),
        ("100b", 100),
        ("0", 0),
    ],
)
def test_a_size_is_read_as_docker_reads_memory(text: str, size: int) -> None:
    assert parse_size(text) == size


def test_log_sizes_are_decimal_as_docker_reads_max_size() -> None:
    assert parse_size("10m", base=1000) == 10_000_000
    assert parse_size("10MiB", base=1000) == 10 * 1024**2


@pytest.mark.parametrize("text", ["512", "M", "12X", "-5M", "1e3M", "5iB", "", "٣M", "99999999P", "5 M B"])
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"(512M|M for megabytes)"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("1m30s", 90), ("500ms", 0.5), ("2h", 7200), ("1.5m", 90), ("0", 0), ("1d", 86400)],
)
def test_a_duration_is_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["30", "s", "5 minutes", "-5s", "30sec", "", "1h-5m", "9999999h"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="30s"):
        parse_duration(text)


def test_cpus_are_cores_and_kubernetes_millicores_are_translated_in_the_sentence() -> None:
    assert parse_cpus("0.5") == 0.5
    assert parse_cpus(2) == 2
    with pytest.raises(ValueError, match=r"Write it in cores: 0\.25"):
        parse_cpus("250m")


@pytest.mark.parametrize("text", ["0", "-1", "0.001", "two", "nan", "inf", "1e9", ""])
def test_what_is_no_number_of_cores_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="CPU cores"):
        parse_cpus(text)


@settings(max_examples=200)
@given(st.integers(0, 2**50), st.sampled_from([1000, 1024]))
def test_a_written_size_reads_back_exactly(size: int, base: int) -> None:
    assert parse_size(format_size(size, base=base), base=base) == size


@settings(max_examples=200)
@given(st.integers(0, 10**12))
def test_a_written_duration_reads_back_exactly(micros: int) -> None:
    seconds = micros / 1_000_000
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, abs=1e-6)


@settings(max_examples=100)
@given(st.integers(1, 40960))
def test_written_cores_read_back_exactly(tenths: int) -> None:
    assert parse_cpus(format_cpus(tenths / 10)) == tenths / 10


@settings(max_examples=200)
@given(st.text(max_size=20))
def test_any_text_is_read_or_refused(text: str) -> None:
    for parse in (parse_size, parse_duration, parse_cpus):
        try:
            assert parse(text) >= 0
        except ValueError as error:
            assert "\n" not in str(error)
