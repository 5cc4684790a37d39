"""Longshore puts compose applications on hosts over SSH, and keeps them right there."""

__version__ = "0.1.0"
