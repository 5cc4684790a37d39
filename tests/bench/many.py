"""What one more host costs the controller."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.bench.fleet import DEPLOY
from tests.bench.ground import Ground
from tests.bench.timing import Figure, Took, alternately, command, median
from tests.lab.many import many

FEW, MANY = 10, 60


def cpu_per_host(ground: Ground, rounds: int) -> list[Figure]:
    """The controller's CPU for 60 hosts less that for 10, by host: with nothing to do, and for a new version
    (one round of it: sixty containers of one engine take their time)."""
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
        fresh = {str(FEW): [deploy(FEW, "2")], str(MANY): [deploy(MANY, "3")]}
        refused = len(hosts.refused())
    return [
        _per_host("nothing to do, each host over ten", nothing, 8.0),
        _per_host("new version, each host over ten", fresh, 8.0),
        Figure("handshakes refused by sshd", refused, "", 0),
    ]


def _per_host(what: str, taken: dict[str, list[Took]], goal: float) -> Figure:
    cpu = {name: median(one.cpu for one in tooks) for name, tooks in taken.items()}
    milliseconds = (cpu[str(MANY)] - cpu[str(FEW)]) * 1000 / (MANY - FEW)
    seconds = {f"{name} hosts": median(one.seconds for one in tooks) for name, tooks in taken.items()}
    return Figure(what, milliseconds, "ms of CPU", goal, {"medians": seconds, "cpu": cpu})
