"""What one more host costs the controller."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.bench.fleet import DEPLOY
from tests.bench.ground import Ground
from tests.bench.timing import Figure, Took, alternately, command, median
from tests.lab.many import FIRST_PORT, many

FEW, MANY = 10, 60
ROOT = Path(__file__).parents[2]


def cpu_per_host(ground: Ground, rounds: int) -> list[Figure]:
    """The controller's CPU for 60 hosts less that for 10, by host: with nothing to do, and for a new version
    (one round of it: sixty containers of one engine take their time). Beside it, what a connection that does
    nothing costs with plain Paramiko."""
    host = ground.hosts[0]
    with many(ground.lab, host, MANY) as hosts, tempfile.TemporaryDirectory() as folder:
        projects = {count: hosts.project(Path(folder, str(count)), count).root for count in (FEW, MANY)}

        def deploy(count: int, version: str) -> Took:
            env = projects[count] / "env/try.env"
            env.parent.mkdir(exist_ok=True)
            env.write_text(f"VERSION={version}\n")
            env.chmod(0o600)
            return command(DEPLOY, cwd=projects[count])

        deploy(MANY, "1")
        nothing = alternately(
            {str(count): (lambda _, count=count: deploy(count, "1")) for count in (FEW, MANY)}, rounds
        )
        place = (ground.lab.addresses[host], str(FIRST_PORT + 1))

        def plain(count: int) -> Took:
            words = (*place, str(count), str(ground.lab.key), str(ground.lab.known_hosts))
            return command((sys.executable, "-m", "tests.bench.plain", *words), cwd=ROOT)

        floor = alternately(
            {str(count): (lambda _, count=count: plain(count)) for count in (FEW, MANY)}, rounds
        )
        fresh = {str(FEW): [deploy(FEW, "2")], str(MANY): [deploy(MANY, "3")]}
        refused = len(hosts.refused())
    found = [
        _per_host("plain Paramiko and `true`, each host over ten", floor, None),
        _per_host("nothing to do, each host over ten", nothing, 8.0),
        _per_host("new version, each host over ten", fresh, 8.0),
    ]
    least = found[0].value
    return [
        *found,
        *(Figure(f"{one.what}, by the plain one", one.value / least, "") for one in found[1:]),
        Figure("handshakes refused by sshd", refused, "", 0),
    ]


def _per_host(what: str, taken: dict[str, list[Took]], goal: float | None) -> Figure:
    cpu = {name: median(one.cpu for one in tooks) for name, tooks in taken.items()}
    milliseconds = (cpu[str(MANY)] - cpu[str(FEW)]) * 1000 / (MANY - FEW)
    seconds = {f"{name} hosts": median(one.seconds for one in tooks) for name, tooks in taken.items()}
    return Figure(what, milliseconds, "ms of CPU", goal, {"medians": seconds, "cpu": cpu})
