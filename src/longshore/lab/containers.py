"""Practice hosts as privileged containers, where a Docker engine runs and the person isn't root."""

from __future__ import annotations


def refusal() -> str:
    """Why this machine can't hold hosts as containers; empty when it can."""
    return "no Docker engine answers"
