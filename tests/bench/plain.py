"""``python -m tests.bench.plain``: one command on many sshds with Paramiko as it comes, twenty at once: what
a connection costs that does nothing. The floor of what one more host costs us."""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor

import paramiko


def main() -> None:
    """Connect to every port, and run ``true`` there. Raises what Paramiko does."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("first", type=int, help="the first port")
    parser.add_argument("count", type=int, help="so many ports")
    parser.add_argument("key")
    parser.add_argument("known_hosts")
    asked = parser.parse_args()

    # All ports have the host's key, which Paramiko looks up by host and port only.
    key = dict(paramiko.HostKeys(asked.known_hosts)[asked.address])["ssh-ed25519"]

    def one(port: int) -> int:
        with paramiko.SSHClient() as client:
            client.get_host_keys().add(f"[{asked.address}]:{port}", "ssh-ed25519", key)
            client.connect(
                asked.address, port, "root", key_filename=asked.key, look_for_keys=False, allow_agent=False
            )
            _, out, _ = client.exec_command("true")
            return out.channel.recv_exit_status()

    with ThreadPoolExecutor(20) as pool:
        codes = set(pool.map(one, range(asked.first, asked.first + asked.count)))
    assert codes == {0}, codes


if __name__ == "__main__":
    main()
