"""Projects as a whole: finding them, environments, files that are missing, apps, roles, size."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
from inventory_project import SHOP, loaded, make, problems

from longshore.errors import InventoryError
from longshore.inventory import environments, find_root, load
from longshore.roles import BUILTIN

MINIMAL = "all: {hosts: {h1: }}\n"


def test_the_root_is_found_from_below_and_missing_it_says_how_to_begin(tmp_path: Path) -> None:
    root = make(tmp_path / "project", {"inventory/prod.yml": MINIMAL, "src/deep/x": ""})
    assert find_root(root / "src" / "deep") == root.resolve()
    with pytest.raises(InventoryError, match=r"A project begins with inventory/<environment>\.yml"):
        find_root(tmp_path)


def test_environments_are_files_and_folders_of_the_inventory(tmp_path: Path) -> None:
    make(
        tmp_path,
        {
            "inventory/prod.yml": MINIMAL,
            "inventory/prod/group_vars/all.yml": "a: 1\n",
            "inventory/staging/hosts.yaml": MINIMAL,
            "inventory/old.ini": "[web]\n",
            "inventory/group_vars/all.yml": "a: 1\n",
            "inventory/.hidden.yml": MINIMAL,
        },
    )
    assert environments(tmp_path) == ("prod", "staging")


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ("prd", "There is no environment named 'prd'. Did you mean prod?"),
        ("../prod", "There is no environment named '../prod'."),
        ("", "No environment is given. Say --env NAME. There are: both, prod."),
        ("old", "inventory/old.ini is an INI inventory; Longshore reads Ansible's YAML format only."),
        ("both", "The environment both is defined by inventory/both.yml and inventory/both.yaml."),
    ],
)
def test_an_environment_that_is_not_there_is_a_sentence(
    tmp_path: Path, environment: str, sentence: str
) -> None:
    names = ("inventory/prod.yml", "inventory/both.yml", "inventory/both.yaml", "inventory/old.ini")
    make(tmp_path, dict.fromkeys(names, MINIMAL))
    with pytest.raises(InventoryError) as raised:
        load(tmp_path, environment)
    assert sentence in str(raised.value)


def test_an_empty_inventory_is_an_environment_without_hosts(tmp_path: Path) -> None:
    environment = loaded(tmp_path, {"inventory/prod.yml": "---\n# nothing yet\n"})
    assert (dict(environment.hosts), dict(environment.targets)) == ({}, {})


@pytest.mark.parametrize("name", ["agent", "buildx", "images", "work"])
def test_an_app_can_not_have_the_name_of_a_folder_that_hosts_clean_up(tmp_path: Path, name: str) -> None:
    (problem,) = problems(tmp_path, {"inventory/prod.yml": SHOP.replace("shop:", f"{name}:")})
    assert f"'{name}' is not the name of an app" in problem
    loaded(tmp_path, {"inventory/prod.yml": SHOP.replace("shop:", f"{name}2:")})


def test_a_host_can_be_told_not_to_recover_at_boot(tmp_path: Path) -> None:
    own = SHOP.replace("h2: ", "h2: {longshore: {recover_at_boot: false}}")
    targets = loaded(tmp_path, {"inventory/prod.yml": own}).targets
    assert {host: target.recover_at_boot for (_, host), target in targets.items()} == {
        "h1": True,
        "h2": False,
    }
    (problem,) = problems(tmp_path, {"inventory/prod.yml": SHOP}, "longshore.recover_at_boot=maybe")
    assert "must be true or false" in problem


def test_an_app_without_hosts_is_an_error(tmp_path: Path) -> None:
    inventory = SHOP.replace("compose.yml}", "compose.yml, hosts: 'h*:!h1:!h2'}")
    assert problems(tmp_path, {"inventory/prod.yml": inventory}) == [
        "inventory/prod.yml:7:45: The app shop has no host: h*:!h1:!h2 matches none. "
        "Name a host or group that this environment has."
    ]


def test_a_service_placed_outside_of_its_app_is_an_error(tmp_path: Path) -> None:
    inventory = SHOP.replace("compose.yml}", "compose.yml, hosts: h1, services: {cron: {hosts: h2}}}")
    told = problems(tmp_path, {"inventory/prod.yml": inventory})
    assert told == [
        "inventory/prod.yml:7:74: The service cron of shop has no host: h2 matches none of the app's. "
        "They are: h1."
    ]


def test_a_missing_compose_file_is_an_error_at_the_line_that_names_it(tmp_path: Path) -> None:
    inventory = SHOP.replace("compose.yml}", "[compose.yml, deploy/missing.yml]}")
    told = problems(tmp_path, {"inventory/prod.yml": inventory})
    assert len(told) == 1
    assert "longshore.apps.shop.compose: deploy/missing.yml doesn't exist." in told[0]
    assert told[0].startswith("inventory/prod.yml:7:")


def test_an_app_reads_everything_it_can_say(tmp_path: Path) -> None:
    settings = """
    longshore:
      state_dir: /srv/state
      connect_timeout: 2s
      registries: {"registry.example.org:5000": {insecure: true, username: ci, password: planted}}
      apps:
        shop:
          compose: [compose.yml, extra.yml.j2]
          project: shop-prod
          url: https://shop.example.org/
          files: {conf/nginx.conf: compose.yml}
          mounts: {./data: state}
          defaults: {logging: {max_size: 50m}, volumes: [tmp:/tmp]}
          services:
            api:
              logging: {max_file: 5}
              reserve: {cpus: 0.25, memory: 64M}
              health: {command: [pg_isready, -q], interval: 1m30s}
              environment: {WORKERS: 4}
              volumes: [data:/data]
              restart: on-failure:3
          migrate: {service: api, command: "alembic upgrade 'the head'", timeout: 5m}
          smoke: [{url: /health, json: {status: ok}}, {tcp: "db:5432", name: database}]
          databases: {main: {kind: postgres, service: db, user: app}}
    """
    files = {"inventory/prod.yml": SHOP, "inventory/prod/group_vars/all.yml": settings, "extra.yml.j2": ""}
    environment = loaded(tmp_path, files)
    target = environment.targets["shop", "h1"]
    app = target.app
    assert (environment.connect_timeout, target.state_dir) == (2.0, "/srv/state")
    assert environment.registries["registry.example.org:5000"].password == "planted"
    assert "planted" not in repr(environment.registries)
    assert [path.name for path in app.compose] == ["compose.yml", "extra.yml.j2"]
    assert app.project == "shop-prod"
    assert app.files == {"conf/nginx.conf": tmp_path.resolve() / "compose.yml"}
    api = app.services["api"]
    assert api.logging is not None
    assert (api.logging.max_size, api.logging.max_file) == (50_000_000, 5)
    assert api.volumes == ("data:/data",)
    assert (api.reserve_cpus, api.reserve_memory) == (0.25, 64 * 1024**2)
    assert api.health is not None
    assert (api.health.command, api.health.interval) == (("pg_isready", "-q"), 90.0)
    assert api.environment == {"WORKERS": "4"}
    assert app.migrate is not None
    assert app.migrate.command == ("alembic", "upgrade", "the head")
    assert [(check.name, check.url, check.tcp) for check in app.smoke] == [
        ("/health", "https://shop.example.org/health", None),
        ("database", None, "db:5432"),
    ]
    assert app.databases["main"].service == "db"


def test_files_that_would_leave_the_release_are_refused(tmp_path: Path) -> None:
    inventory = SHOP.replace("compose.yml}", "compose.yml, files: {../x: a, /etc/y: b, a/../../z: c}}")
    told = problems(tmp_path, {"inventory/prod.yml": inventory})
    assert len([problem for problem in told if "is not a path inside the release" in problem]) == 3


def test_aliases_that_multiply_are_stopped(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    told = problems(tmp_path, {"inventory/prod.yml": MINIMAL, "group_vars/all.yml": "\n".join(lines)})
    assert "The aliases add up to more than" in told[0]


@pytest.mark.parametrize("text", ["[" * 5000, "- " * 5000, "{a: " * 2000, "? " * 3000])
def test_deep_nesting_is_a_sentence_and_no_crash(tmp_path: Path, text: str) -> None:
    assert (
        "group_vars/all.yml"
        in problems(tmp_path, {"inventory/prod.yml": MINIMAL, "group_vars/all.yml": text})[0]
    )


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"a: \xff\n", "The file is not UTF-8 text."),
        (b"a: 1\nb: \x00\n", "This is not YAML"),
        (b"a: &x {b: *x}\n", "The anchor &x is used inside itself."),
        (b"a: *hunter22\n", "What stands here begins with an asterisk"),
        (b"a: !hunter22 b\n", "What stands here begins with an exclamation mark"),
        (b"a: 1\n---\nb: 2\n", "A second document starts here."),
        (b"a: !!python/object/apply:os.system [id]\n", "The tag !!python/object/apply:os.system"),
        (b"- a\n", "This is a list, not variables."),
        (b"a: 0b_\n", "can't be read as YAML's int"),
        (b"? [a]\n: b\n", "A list can't be a key."),
    ],
)
def test_a_file_that_is_not_plain_yaml_is_a_sentence(tmp_path: Path, data: bytes, sentence: str) -> None:
    make(tmp_path, {"inventory/prod.yml": MINIMAL, "group_vars/all.yml": ""})
    (tmp_path / "group_vars/all.yml").write_bytes(data)
    with pytest.raises(InventoryError) as raised:
        load(tmp_path, "prod")
    assert sentence in str(raised.value)
    assert str(raised.value).startswith("group_vars/all.yml:")
    assert "hunter22" not in str(raised.value)  # it may be a password


def test_database_roles_give_their_services_a_health_check(tmp_path: Path) -> None:
    settings = """
    longshore:
      roles: [app, postgres, redis]
      apps:
        shop:
          databases: {main: {kind: postgres, service: db}, cache: {kind: redis}, other: {kind: mysql}}
          services: {cache: {health: {interval: 1s}}}
    """
    services = (
        loaded(tmp_path, {"inventory/prod.yml": SHOP, "group_vars/all.yml": settings})
        .targets["shop", "h1"]
        .app.services
    )
    assert set(services) == {"db", "cache"}
    database, cache = services["db"].health, services["cache"].health
    assert database is not None
    assert str(database.command).startswith("pg_isready")
    assert cache is not None
    assert (cache.interval, cache.retries) == (1.0, 5)


def test_a_role_of_the_project_brings_defaults_at_the_weakest_level(tmp_path: Path) -> None:
    role = """
    from longshore.roles import Role

    role = Role(name="edge", summary="x", defaults={"zone": "a", "tier": "edge",
                "longshore": {"apps": {"*": {"keep": 7}}}})
    """
    files = {
        "inventory/prod.yml": SHOP,
        "roles/edge.py": role,
        "group_vars/all.yml": "longshore: {roles: edge}\ntier: all\n",
        "host_vars/h2.yml": "longshore: {roles: [], apps: {shop: {keep: 3}}}\n",
    }
    environment = loaded(tmp_path, files)
    one, two = environment.hosts["h1"].vars, environment.hosts["h2"].vars
    assert (one["zone"].value, one["tier"].value) == ("a", "all")
    assert one["zone"].source.level == "role"
    assert "zone" not in two
    assert [environment.targets["shop", host].app.keep for host in ("h1", "h2")] == [7, 3]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("role = 1\n", "roles/edge.py: The file defines no role."),
        ("x = 1 / 0\n", "roles/edge.py:1: The role fails when it is loaded: ZeroDivisionError"),
        ("def (\n", "roles/edge.py:1: The role is not valid Python"),
        ("raise SystemExit(3)\n", "The role fails when it is loaded: SystemExit"),
        (
            "from longshore.roles import Role\n"
            "role = Role(name='edge', summary='', hooks={'after': print})\n",
            "The role has a hook 'after'.",
        ),
        (
            "from longshore.roles import Role\n"
            "role = Role(name='edge', summary='', defaults={'longshore': {'paralel': 1}})\n",
            "longshore has no setting 'paralel'. Did you mean parallel?",
        ),
    ],
)
def test_a_broken_role_is_a_sentence_with_its_place(tmp_path: Path, text: str, sentence: str) -> None:
    files = {
        "inventory/prod.yml": SHOP,
        "roles/edge.py": text,
        "group_vars/all.yml": "longshore: {roles: [edge]}\n",
    }
    assert sentence in problems(tmp_path, files)[0]


def test_an_unknown_role_is_told_with_the_nearest(tmp_path: Path) -> None:
    files = {"inventory/prod.yml": SHOP, "group_vars/all.yml": "longshore: {roles: [app, postgress]}\n"}
    assert problems(tmp_path, files) == [
        "group_vars/all.yml:1:20: There is no role named 'postgress'. Did you mean postgres?"
    ]


def test_every_built_in_role_carries_something() -> None:
    # But for the one that says what the host itself is.
    assert {role.name for role in BUILTIN.values() if not (role.defaults or role.service)} == {"balancer"}
    assert all(role.name == name for name, role in BUILTIN.items())


def test_five_hundred_hosts_load_in_well_under_a_second(tmp_path: Path) -> None:
    hosts = "".join(
        f"        web{i}: {{ansible_host: 10.0.{i // 250}.{i % 250}, zone: z{i % 3}, rack: {i}}}\n"
        for i in range(500)
    )
    settings = """
    longshore:
      apps:
        shop:
          compose: compose.yml
          url: "https://{{ inventory_hostname }}.example.org"
          env: {NODE: "{{ inventory_hostname }}", FIXED: x}
          services: {api: {memory: 512M, cpus: 0.5, labels: {zone: "{{ zone }}"}}, worker: {memory: 1G}}
    """
    make(
        tmp_path,
        {
            "inventory/prod.yml": f"all:\n  children:\n    web:\n      hosts:\n{hosts}",
            "group_vars/all.yml": settings,
            "env/prod.env": "".join(f"KEY_{i}=value\n" for i in range(40)),
        },
    )
    begun = time.process_time()
    environment = load(tmp_path, "prod")
    spent = time.process_time() - begun
    assert len(environment.targets) == 500
    last = environment.targets["shop", "web499"]
    assert (last.app.services["api"].labels, last.env["NODE"].value) == ({"zone": "z1"}, "web499")
    assert spent < 1.0, f"{spent:.2f} s of CPU; 0.15 s when it was written"


FOREIGN = """
all:
  vars:
    longshore: {apps: {shop: {compose: compose.yml, hosts: %s}}}
  children:
    web: {hosts: {h1: , h2: }}
    switches:
      hosts: {sw1: , sw2: }
      vars: {ansible_connection: ansible.netcommon.network_cli, ansible_become: enable}
"""


def test_devices_in_an_inventory_that_others_use_are_left_out(tmp_path: Path) -> None:
    found = loaded(tmp_path, {"inventory/prod.yml": FOREIGN % "web"})
    assert list(found.hosts) == ["h1", "h2"]
    assert found.groups["switches"].hosts == ()
    assert found.groups["all"].hosts == ("h1", "h2")
    (warning,) = found.warnings
    assert "ansible_connection: ansible.netcommon.network_cli: sw1, sw2." in warning


def test_a_device_that_an_app_would_run_on_is_an_error(tmp_path: Path) -> None:
    said = problems(tmp_path, {"inventory/prod.yml": FOREIGN % "all"})
    assert any(
        "isn't supported. Use ssh or local, or keep sw1 out of the apps' hosts." in one for one in said
    )


def test_the_controllers_own_python_has_ansibles_name(tmp_path: Path) -> None:
    inventory = """
    all:
      hosts:
        here: {ansible_connection: local, ansible_python_interpreter: "{{ ansible_playbook_python }}"}
    """
    found = loaded(tmp_path, {"inventory/prod.yml": inventory})
    assert found.hosts["here"].ssh.python == sys.executable


VAULT = """
all:
  hosts: {h1: {ansible_host: %s}}
  vars:
    snmp: !vault |
      $ANSIBLE_VAULT;1.1;AES256
      62313365396662343061
    of_it: {a: 1, b: "{{ snmp }}"}
    longshore: {apps: {shop: {compose: compose.yml, env: {A: %s}}}}
"""


def test_a_value_of_ansible_vault_that_nobody_needs_is_harmless(tmp_path: Path) -> None:
    found = loaded(tmp_path, {"inventory/prod.yml": VAULT % ("192.0.2.1", "b")})
    assert found.hosts["h1"].ssh.address == "192.0.2.1"


@pytest.mark.parametrize(
    "inventory",
    [
        VAULT % ("'{{ snmp }}'", "b"),
        VAULT % ("192.0.2.1", "'{{ snmp }}'"),
        VAULT % ("192.0.2.1", "'{{ of_it.b }}'"),
        VAULT % ("!vault x", "b"),
        VAULT % ("192.0.2.1", "!vault x"),
        "all: {hosts: {h1: }, vars: {longshore: !vault x}}\n",
        "all: {hosts: {h1: }, vars: {longshore: {apps: {shop: !vault x}}}}\n",
        "all: {hosts: {h1: }, vars: {longshore: {keep: 1, registry: !vault x}}}\n",
    ],
)
def test_a_value_of_ansible_vault_is_an_error_for_what_needs_it(tmp_path: Path, inventory: str) -> None:
    said = problems(tmp_path, {"inventory/prod.yml": inventory})
    assert any("This value is encrypted with Ansible Vault" in one for one in said), said


@pytest.mark.parametrize(
    "inventory", ["all: {hosts: !vault x}\n", "all: {hosts: {h1: !vault x}}\n", "web: !vault x\n"]
)
def test_a_group_or_host_that_ansible_vault_encrypted_is_an_error(tmp_path: Path, inventory: str) -> None:
    (said,) = problems(tmp_path, {"inventory/prod.yml": inventory})
    assert "encrypted with Ansible Vault" in said
