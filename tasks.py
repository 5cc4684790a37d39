"""Invoke's entry point: every task of Longshore, as ``invoke TASK``."""

from longshore.tasks import ns

__all__ = ["ns"]
