"""Many hosts to deploy to on one practice host: an sshd each, with state of its own, and one engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.lab.project import PYTHON, Project

from longshore.lab import Lab

FIRST_PORT = 2300

# Each sshd is in a mount namespace where /var/lib/longshore is its own. Its settings are the host's: all
# limits are sshd's defaults.
START = """
set -eu
for number in $(seq 1 "$1"); do
    home=/srv/many/$number port=$(($2 + number))
    mkdir -p -m 700 $home/state /var/lib/longshore
    unshare --mount --propagation private sh -c "mount --bind $home/state /var/lib/longshore &&
        exec /usr/sbin/sshd -D -p $port -E $home/log -o PidFile=$home/pid -o LogLevel=VERBOSE" \
        </dev/null >/dev/null 2>&1 &
done
for number in $(seq 1 "$1"); do
    until [ -s /srv/many/$number/pid ]; do sleep 0.1; done
done
"""
STOP = """
for file in /srv/many/*/pid; do kill "$(cat "$file")"; done
for name in $(docker ps -aq --filter label=longshore.app=shop); do docker rm -f "$name"; done
rm -rf /srv/many
"""

# Without a network: an engine's own address ranges end after some thirty projects.
COMPOSE = f"""
services:
  web:
    image: {PYTHON}
    command: ["sleep", "infinity"]
    init: true
    network_mode: none
    environment: {{VERSION: "${{VERSION:-1}}"}}
    healthcheck: {{test: ["CMD", "true"], interval: 60s, start_period: 30s, start_interval: 500ms}}
"""


@dataclass(frozen=True)
class Many:
    """``count`` sshds on the practice host ``host``."""

    lab: Lab
    host: str
    count: int

    def project(self, root: Path, hosts: int) -> Project:
        """A project whose one app runs on the first so many of them. By its id a release is the same for
        all projects made here."""
        made = Project(root, self.lab)
        made.inventory(self.host, app='project: "many-{{ inventory_hostname }}"')
        file = root / "inventory/try.yml"
        text = file.read_text()
        address = self.lab.addresses[self.host]
        names = "".join(
            f"        m{number:02}: {{ansible_host: {address}, ansible_port: {FIRST_PORT + number}}}\n"
            for number in range(1, hosts + 1)
        )
        file.write_text(text[: text.index(f"        {self.host}: ")] + names)
        made.write("compose.yml", COMPOSE)
        return made

    def refused(self) -> list[str]:
        """What the sshds have logged of connections that they dropped or that broke off in the handshake."""
        words = "MaxStartups|penalty|beginning|drop connection|kex_exchange|error:|fatal:"
        said = self.lab.ssh(self.host, ["sh", "-c", f"grep -hE '{words}' /srv/many/*/log || true"]).stdout
        return said.splitlines()

    def accepted(self) -> int:
        """Logins that they have logged."""
        said = self.lab.ssh(self.host, ["sh", "-c", "cat /srv/many/*/log | grep -c 'Accepted publickey'"])
        return int(said.stdout)


@contextmanager
def many(lab: Lab, host: str, count: int) -> Iterator[Many]:
    """Start them, and take them away again with what was deployed to them."""
    lab.ssh(host, ["sh", "-s", str(count), str(FIRST_PORT)], stdin=START)
    try:
        yield Many(lab, host, count)
    finally:
        lab.ssh(host, ["sh", "-c", STOP], check=False, timeout=300)
