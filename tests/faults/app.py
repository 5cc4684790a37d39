"""The application that is deployed: a page that says its version, and every way in which it can be bad.

What it does is said by its environment, so one image and one compose file are enough.
"""

from __future__ import annotations

PYTHON = "python:3.12-slim-bookworm"
PORT = 8080

SERVER = """
import http.server, os, sys, threading, time

said = os.environ.get
if said("EXIT_AT_ONCE"):
    sys.exit("KeyError: 'DATABASE_URL'")
if said("EXIT_AFTER"):
    threading.Timer(float(said("EXIT_AFTER")), os._exit, [3]).start()
if said("START_AFTER"):
    time.sleep(float(said("START_AFTER")))


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        good = not (self.path == "/smoke" and said("SMOKE_BAD"))
        self.send_response(200 if good else 500)
        self.end_headers()
        self.wfile.write(said("VERSION").encode())

    def log_message(self, *args):
        pass


server = http.server.ThreadingHTTPServer(("", 8000), Page)
if not said("SICK") or said("SICK") not in ("always", said("HOST")):
    open("/tmp/healthy", "w").close()
server.serve_forever()
"""

COMPOSE = f"""
services:
  web:
    image: ${{IMAGE:-{PYTHON}}}
    command: ["python3", "-u", "/srv/server.py"]
    stop_signal: SIGKILL
    restart: unless-stopped
    environment:
      VERSION: ${{VERSION}}
      HOST: ${{HOST:-}}
      SICK: ${{SICK:-}}
      EXIT_AT_ONCE: ${{EXIT_AT_ONCE:-}}
      EXIT_AFTER: ${{EXIT_AFTER:-}}
      START_AFTER: ${{START_AFTER:-}}
      SMOKE_BAD: ${{SMOKE_BAD:-}}
    ports: ["{PORT}:8000"]
    volumes:
      - ./server.py:/srv/server.py:ro
      - data:/data
    healthcheck:
      test: ["CMD", "test", "-e", "/tmp/healthy"]
      interval: 2s
      timeout: 5s
      retries: 3
      start_period: 20s
      start_interval: 250ms
volumes:
  data:
"""

ROLE = """
import os

from longshore.roles import HOOKS, Role


def hook(name):
    def fail(facts, *more):
        if os.environ.get("FAIL_HOOK") == name:
            raise RuntimeError("the hook was told to fail")

    return fail


role = Role(name="faults", summary="Hooks that can fail.", hooks={name: hook(name) for name in HOOKS})
"""


def inventory(*, addresses: dict[str, str], key: str, ssh_options: str, registry: str) -> str:
    """The inventory ``try`` of these hosts (YAML). A dead line is noticed after 6 s, not 45."""
    hosts = "\n".join(f"        {name}: {{ansible_host: {address}}}" for name, address in addresses.items())
    return f"""
all:
  vars:
    ansible_user: root
    ansible_ssh_private_key_file: '{key}'
    ansible_ssh_common_args: '{ssh_options} -o ServerAliveInterval=2'
    longshore:
      connect_timeout: 5s
      roles: faults
      registries:
        docker.io: {{mirror: 'http://{registry}', insecure: true}}
        '{registry}': {{insecure: true}}
      apps:
        shop:
          compose: compose.yml
          hosts: web
          health_timeout: 40s
          smoke: [{{name: page, url: 'http://{{{{ ansible_host }}}}:{PORT}/smoke', retries: 2}}]
  children:
    web:
      hosts:
{hosts}
"""
