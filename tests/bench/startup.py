"""What is paid before a host is reached: Invoke's start, and reading a large inventory."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.bench.timing import Figure, alternately, command, ratio

ROOT = Path(__file__).parents[2]
HOSTS = 500


def invoke_list(rounds: int) -> Figure:
    """``invoke --list``, against Python that only imports Invoke."""
    invoke = str(Path(sys.executable).with_name("invoke"))
    listed = (invoke, "--list")
    bare = (sys.executable, "-c", "import invoke")
    command(listed, cwd=ROOT)
    taken = alternately(
        {"list": lambda _: command(listed, cwd=ROOT), "import invoke": lambda _: command(bare, cwd=ROOT)},
        rounds * 3,
    )
    figure = ratio("invoke --list", taken, "list", "import invoke")
    seconds = figure.beside["medians"]["list"]
    return Figure("invoke --list", seconds, "s", 0.35, {**figure.beside, "ratio": figure.value})


def big_inventory(rounds: int) -> Figure:
    """Loading, checking and rendering for 500 hosts in one process, against one that does it for one host."""
    with tempfile.TemporaryDirectory(prefix="longshore-bench-") as folder:
        roots = {count: _project(Path(folder, str(count)), count) for count in (1, HOSTS)}
        ways = {str(count): (sys.executable, "-c", SCRIPT, str(root)) for count, root in roots.items()}
        taken = alternately(
            {name: (lambda _, argv=argv: command(argv)) for name, argv in ways.items()}, rounds
        )
    figure = ratio(f"load, check, render {HOSTS} hosts", taken, str(HOSTS), "1")
    seconds = figure.beside["medians"][str(HOSTS)] - figure.beside["medians"]["1"]
    each = {"milliseconds_per_host": round(seconds * 1000 / (HOSTS - 1), 3), "ratio": figure.value}
    return Figure(figure.what, figure.beside["medians"][str(HOSTS)], "s", None, {**figure.beside, **each})


SCRIPT = """
import sys
from pathlib import Path
from longshore.inventory import load
from longshore.render import Renderer

environment = load(Path(sys.argv[1]), "big")
renderer = Renderer()
ids = {renderer.render(target).id for target in environment.targets.values()}
assert len(ids) == len(environment.targets), (len(ids), len(environment.targets))
"""


def _project(root: Path, hosts: int) -> Path:
    """An inventory with a variable of each host's own, templates and two levels of groups."""
    files = {
        "inventory/big.yml": f"""
all:
  vars:
    ansible_user: deploy
    domain: example.org
    longshore:
      apps:
        shop:
          compose: compose.yml
          hosts: web
          env:
            NAME: "{{{{ inventory_hostname }}}}.{{{{ domain }}}}"
          defaults: {{memory: 256M, restart: unless-stopped}}
          services:
            web: {{cpus: 0.5}}
            db: {{memory: 1G}}
  children:
    web:
      vars: {{tier: front}}
      hosts:
        web[001:{hosts:03}]: {{}}
""",
        "inventory/group_vars/web.yml": """
region: north
longshore: {apps: {shop: {env: {REGION: "{{ region }}"}}}}
""",
        "env/big.env": "".join(f"SETTING_{number}=value {number}\n" for number in range(40)),
        "compose.yml": """
services:
  web:
    image: registry.example.org/shop/web:1
    env_file: .env
    environment: {HOST: "${NAME}"}
    ports: ["8080:8000"]
    depends_on: [db]
  db:
    image: postgres:15
    volumes: ["db:/var/lib/postgresql/data"]
volumes: {db: {}}
""",
    }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root
