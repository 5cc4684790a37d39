"""The built-in roles, as data.

A role's policy is laid over the compose file like everything the inventory says, so a role holds only what is
right for every host that has it, and no host has one that its inventory doesn't name.
"""

from __future__ import annotations

from longshore.roles.model import Role

APP = Role(
    name="app",
    summary="Runs applications: logs in rotated JSON files, processes bounded.",
    defaults={
        "longshore": {
            "apps": {
                "*": {
                    "defaults": {
                        "logging": {
                            "driver": "json-file",
                            "max_size": "10m",
                            "max_file": 3,
                            "compress": True,
                        },
                        # Far above what a service needs, far below what a fork bomb needs to take the host.
                        "pids": 4096,
                    }
                }
            }
        }
    },
)

POSTGRES = Role(
    name="postgres",
    summary="Runs PostgreSQL: checked by pg_isready over TCP, given time to write its checkpoint.",
    database="postgres",
    service={
        "health": {
            # The image's first start runs a server on the socket only, to create the database: over TCP it
            # isn't ready until that is done (docker-library/postgres#146).
            "command": 'pg_isready -q -h 127.0.0.1 -U "${POSTGRES_USER:-postgres}"',
            "interval": "5s",
            "timeout": "5s",
            "retries": 10,
            "start_period": "30s",
        },
        "stop_grace": "60s",
    },
)

MYSQL = Role(
    name="mysql",
    summary="Runs MySQL: checked by mysqladmin over TCP, given time to flush its buffers.",
    database="mysql",
    service={
        "health": {
            # ping succeeds when the server answers, also with "access denied": no password is needed.
            "command": "mysqladmin ping -h 127.0.0.1 --silent",
            "interval": "5s",
            "timeout": "5s",
            "retries": 12,
            "start_period": "60s",
        },
        "stop_grace": "120s",
    },
)

REDIS = Role(
    name="redis",
    summary="Runs Redis: checked by redis-cli, given time to write its snapshot.",
    database="redis",
    service={
        "health": {
            # NOAUTH is an answer, too: the server is up, and the check needs no password.
            "command": "redis-cli ping | grep -Eq 'PONG|NOAUTH'",
            "interval": "5s",
            "timeout": "3s",
            "retries": 5,
            "start_period": "10s",
        },
        "stop_grace": "30s",
    },
)

BALANCER = Role(
    name="balancer",
    summary="Runs the load balancer before the hosts' proxies, and none of the services behind it.",
)

BUILTIN: dict[str, Role] = {role.name: role for role in (APP, POSTGRES, MYSQL, REDIS, BALANCER)}
