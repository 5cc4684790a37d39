"""The clients of the databases that an app has, run in the database's own container.

User, password and database are those that the container was set up with (the variables of the official
images), unless the inventory says otherwise. The password goes from the container's environment, or the file
that its ``*_FILE`` variable names, into the client's environment: it is in no argument, and never with us.
"""

from __future__ import annotations

import time

from longshore.daily.execute import output_of
from longshore.errors import HostError
from longshore.inventory.model import Database
from longshore.records import dataclass
from longshore.remote import Link

# The scripts take the user, the database and the client's further arguments as their arguments, so that no
# value is ever part of a script. POSIX sh only.
_READ = """
secret() { if [ -n "$1" ]; then printf %s "$1"; elif [ -r "$2" ]; then cat "$2"; fi; }
"""

_POSTGRES = (
    _READ
    + """
own=${POSTGRES_USER:-postgres}; user=${1:-$own}; base=${2:-${POSTGRES_DB:-$own}}; shift 2
if [ "$user" = "$own" ]; then
  PGPASSWORD=$(secret "${POSTGRES_PASSWORD:-}" "${POSTGRES_PASSWORD_FILE:-}")
  if [ -n "$PGPASSWORD" ]; then export PGPASSWORD; else unset PGPASSWORD; fi
fi
PGCONNECT_TIMEOUT=${PGCONNECT_TIMEOUT:-10}; export PGCONNECT_TIMEOUT
exec psql --username "$user" --dbname "$base" "$@"
"""
)

_MYSQL = (
    _READ
    + """
own=${MYSQL_USER:-${MARIADB_USER:-}}; user=${1:-${own:-root}}
base=${2:-${MYSQL_DATABASE:-${MARIADB_DATABASE:-}}}; shift 2
if [ "$user" = root ]; then
  MYSQL_PWD=$(secret "${MYSQL_ROOT_PASSWORD:-${MARIADB_ROOT_PASSWORD:-}}" \
    "${MYSQL_ROOT_PASSWORD_FILE:-${MARIADB_ROOT_PASSWORD_FILE:-}}")
elif [ "$user" = "$own" ]; then
  MYSQL_PWD=$(secret "${MYSQL_PASSWORD:-${MARIADB_PASSWORD:-}}" \
    "${MYSQL_PASSWORD_FILE:-${MARIADB_PASSWORD_FILE:-}}")
elif [ -t 0 ]; then
  set -- --password "$@"
fi
export MYSQL_PWD
client=mysql; command -v mysql >/dev/null 2>&1 || client=mariadb
exec "$client" --user="$user" --connect-timeout=10 "$@" ${base:+"$base"}
"""
)

_REDIS = (
    _READ
    + """
user=$1; base=$2; shift 2
REDISCLI_AUTH=${REDISCLI_AUTH:-$(secret "${REDIS_PASSWORD:-}" "${REDIS_PASSWORD_FILE:-}")}
if [ -n "$REDISCLI_AUTH" ]; then export REDISCLI_AUTH; else unset REDISCLI_AUTH; fi
client=redis-cli; command -v redis-cli >/dev/null 2>&1 || client=valkey-cli
exec "$client" ${user:+--user "$user"} ${base:+-n "$base"} "$@"
"""
)

_SCRIPTS = {"postgres": _POSTGRES, "mysql": _MYSQL, "redis": _REDIS}

# Over TCP: while an image sets up a new database, its server listens on the socket only.
_PROBES = {
    "postgres": ("--host", "127.0.0.1", "--no-password", "--no-psqlrc", "-At", "-c", "SELECT 1"),
    "mysql": ("--host=127.0.0.1", "--batch", "--skip-column-names", "--execute=SELECT 1"),
    "redis": ("-h", "127.0.0.1", "--no-auth-warning", "PING"),
}
_ANSWERS = {"postgres": "1", "mysql": "1", "redis": "PONG"}


@dataclass(frozen=True)
class DatabaseResult:
    """How a database answered. ``why`` is empty when it is ``ok``; ``seconds`` counts the client's start."""

    ok: bool
    why: str
    seconds: float


def client_command(database: Database, *arguments: str) -> list[str]:
    """The command that starts a database's client in its container; ``arguments`` are the client's own."""
    script = _SCRIPTS[database.kind].strip()
    return [
        "sh",
        "-c",
        script,
        f"{database.kind}-client",
        database.user or "",
        database.database or "",
        *arguments,
    ]


def check(link: Link, container: str, database: Database) -> DatabaseResult:
    """Connect to a database and run a trivial query. An engine or connection that fails is its ``why``."""
    started = time.monotonic()
    try:
        code, out, err = output_of(link, container, client_command(database, *_PROBES[database.kind]))
    except HostError as error:
        return DatabaseResult(False, error.message, time.monotonic() - started)
    seconds = time.monotonic() - started
    if code == 0 and out.strip() == _ANSWERS[database.kind]:
        return DatabaseResult(True, "", seconds)
    said = [line.strip() for line in (err + "\n" + out).splitlines() if line.strip()]
    return DatabaseResult(False, said[0] if said else f"the client ended with code {code}", seconds)
