"""What all unit tests have in common."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says something of the machine, not of the code: its first text alone, for which
# Hypothesis makes a table of all characters, takes seconds where nothing is in the disk's cache yet.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.fixture
def nameless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our user has no entry in passwd, as in many a container of CI."""

    def no_entry(uid: int) -> None:
        raise KeyError(uid)

    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", no_entry)
