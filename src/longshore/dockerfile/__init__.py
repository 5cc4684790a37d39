"""Dockerfiles: rendered from the inventory for Python web services, and looked over for what costs cache or
safety. Nothing here builds an image.
"""

from longshore.dockerfile.finding import RULES, Finding
from longshore.dockerfile.lint import Source, lint, lint_file
from longshore.dockerfile.parse import Dockerfile, parse

__all__ = ["RULES", "Dockerfile", "Finding", "Source", "lint", "lint_file", "parse"]
