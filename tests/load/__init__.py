"""Deploys under load: that no request fails (`bin/test load`)."""
