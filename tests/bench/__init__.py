"""Measurements against plain ``ssh`` + ``docker compose``: ``python -m tests.bench``."""
