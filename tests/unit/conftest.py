"""What all unit tests have in common."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# How long an example takes says something of the machine, not of the code: its first text alone, for which
# Hypothesis makes a table of all characters, takes seconds where nothing is in the disk's cache yet.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
