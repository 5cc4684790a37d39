"""The ``.env`` format: read as Docker Compose reads it, and as others do; written so that Compose gets it.

Compose, python-dotenv and ``docker run --env-file`` read the same text differently. Compose's reading is ours
(:mod:`~longshore.dotenv.reader`, which follows compose-go rule by rule), with one encoding that it reads back
exactly (:mod:`~longshore.dotenv.writer`). What others make of a file is in :mod:`~longshore.dotenv.others`.
Nothing here touches a file, or knows what a variable is for.
"""

from longshore.dotenv.others import Found, read_docker, read_python
from longshore.dotenv.reader import Entry, Parsed, parse, read
from longshore.dotenv.substitution import Lookup, SubstitutionError, substitute
from longshore.dotenv.writer import encode, render

__all__ = [
    "Entry",
    "Found",
    "Lookup",
    "Parsed",
    "SubstitutionError",
    "encode",
    "parse",
    "read",
    "read_docker",
    "read_python",
    "render",
    "substitute",
]
