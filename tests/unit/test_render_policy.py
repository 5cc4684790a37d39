"""The inventory's policy in ``longshore.yml``: limits, restart, logging, health, images, labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from render_factory import overlay, problems_of, service, target, text_of

from longshore.errors import LongshoreError
from longshore.inventory.model import Health, Logging, ServicePolicy
from longshore.render import Bundle, images, render
from longshore.render.document import parse
from longshore.render.emit import emit

DIGEST = "sha256:" + "1" * 64
ROTATION = {"driver": "json-file", "options": {"max-size": "10m", "max-file": "3", "compress": "true"}}


def rendered(root: Path, web: str, *, top: str = "", **more: Any) -> Bundle:
    return render(target(root, f"services: {{web: {{{web}}}}}\n{top}", **more))


def web(root: Path, said: str, **policy: Any) -> dict[str, Any]:
    return service(rendered(root, f"image: 'w:1', {said}", services={"web": policy}), "web")


def warnings(bundle: Bundle) -> list[str]:
    return [note.message for note in bundle.notes if note.level == "warning"]


# Limits


def test_limits_go_where_swarm_and_compose_both_read_them(tmp_path: Path) -> None:
    said = web(tmp_path, "", cpus=0.5, memory=512 * 2**20, pids=100, reserve_cpus=0.25, reserve_memory=2**28)
    assert said["deploy"]["resources"] == {
        "limits": {"cpus": "0.5", "memory": "512m", "pids": 100},
        "reservations": {"cpus": "0.25", "memory": "256m"},
    }


def test_limits_in_the_short_style_stay_in_it(tmp_path: Path) -> None:
    said = web(tmp_path, "mem_limit: 1g, cpus: 2", cpus=0.5, memory=2**29, pids=9)
    assert (said["mem_limit"], said["cpus"], said["pids_limit"]) == ("512m", "0.5", 9)
    assert "deploy" not in said


def test_limits_in_both_styles_are_changed_in_both(tmp_path: Path) -> None:
    file = "mem_limit: 1g, pids_limit: 5, deploy: {resources: {limits: {memory: 1g, pids: 5}}}"
    said = web(tmp_path, file, memory=2**29)
    assert said["mem_limit"] == "512m"
    assert said["deploy"]["resources"]["limits"] == {"memory": "512m", "pids": 5}


def test_nothing_is_limited_that_nobody_limited(tmp_path: Path) -> None:
    assert set(web(tmp_path, "mem_limit: 1g")) == {"restart", "logging", "labels"}


def test_a_reservation_over_the_limit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LongshoreError, match="reserves 1G of memory, more than its limit of 512M"):
        web(tmp_path, "", memory=2**29, reserve_memory=2**30)


# Restart


@pytest.mark.parametrize(
    ("file", "policy", "restart"),
    [
        ("", None, "unless-stopped"),
        ("restart: always", None, None),
        ('restart: "no"', None, None),
        ("deploy: {restart_policy: {condition: any}}", None, None),
        ("restart: always", "on-failure:3", "on-failure:3"),
    ],
)
def test_what_keeps_running_is_restarted(
    tmp_path: Path, file: str, policy: str | None, restart: str | None
) -> None:
    assert web(tmp_path, file, restart=policy).get("restart") == restart


def test_a_swarm_style_restart_policy_does_not_win_over_the_inventory(tmp_path: Path) -> None:
    said = web(tmp_path, "deploy: {restart_policy: {condition: any}}", restart="always")
    assert said["restart"] == "always"
    assert said["deploy"] == {"restart_policy": {"!reset": None}}


def test_a_one_shot_is_not_restarted(tmp_path: Path) -> None:
    bundle = render(
        target(
            tmp_path,
            """
            services:
              web:
                image: "w:1"
                depends_on:
                  migrate: {condition: service_completed_successfully}
                  db: {condition: service_started}
              migrate: {image: "w:1"}
              db: {image: "p:1"}
              job: {image: "w:1", restart: "no"}
            """,
        )
    )
    assert "restart" not in service(bundle, "migrate")
    assert service(bundle, "db")["restart"] == "unless-stopped"
    assert {name: (facts.one_shot, facts.may_exit) for name, facts in bundle.services.items()} == {
        "web": (False, False),
        "migrate": (True, False),
        "db": (False, False),
        "job": (False, True),
    }


# Logging


@pytest.mark.parametrize(
    ("file", "logging"),
    [
        ("", ROTATION),
        ("logging: {driver: json-file}", ROTATION),
        (
            "logging: {options: {tag: x, max-file: '5'}}",
            {"driver": "json-file", "options": {"max-size": "10m", "compress": "true"}},
        ),
        (
            "logging: {driver: json-file, options: {max-file: '1'}}",
            {"driver": "json-file", "options": {"max-size": "10m"}},
        ),
        ("logging: {driver: json-file, options: {max-size: 1m}}", None),
        ("logging: {driver: local}", None),
        ("logging: {driver: journald}", None),
        ("logging: {driver: fluentd, options: {fluentd-address: 'x:1'}}", None),
    ],
)
def test_a_service_without_rotation_does_not_exist(
    tmp_path: Path, file: str, logging: dict[str, Any] | None
) -> None:
    assert web(tmp_path, file).get("logging") == logging


@pytest.mark.parametrize(
    ("policy", "logging"),
    [
        (
            Logging(max_size=5_000_000, max_file=1),
            {"driver": "json-file", "options": {"max-size": "5m", "max-file": "1", "compress": "false"}},
        ),
        # The local driver reads 1m as 2**20 bytes, json-file as 10**6.
        (
            Logging(driver="local", max_size=2**20),
            {"driver": "local", "options": {"max-size": "1m", "max-file": "3", "compress": "true"}},
        ),
        (
            Logging(driver="syslog", options={"tag": "a$b"}),
            {"driver": "syslog", "options": {"tag": "a$$b"}},
        ),
    ],
)
def test_the_inventorys_logging_wins(tmp_path: Path, policy: Logging, logging: dict[str, Any]) -> None:
    assert web(tmp_path, "logging: {driver: json-file, options: {max-size: 1m}}", logging=policy)[
        "logging"
    ] == (logging)


# Images


COMPOSE = """
services:
  web: {image: "registry.example.com:5000/web:${TAG}", build: .}
  db: {image: "postgres:15"}
  fixed: {image: "redis:7@sha256:%s"}
  debug: {image: "debug", profiles: [debug]}
""" % ("2" * 64)


def test_images_are_the_references_that_services_here_need(tmp_path: Path) -> None:
    one = target(tmp_path, COMPOSE, env={"TAG": "3"}, services={"db": {"image": "own/postgres:15"}})
    assert images(one) == (
        "own/postgres:15",
        "redis:7@sha256:" + "2" * 64,
        "registry.example.com:5000/web:3",
    )


def test_images_are_pinned_by_digest_and_never_built_on_the_host(tmp_path: Path) -> None:
    web_image = "registry.example.com:5000/web"
    digests = {f"{web_image}:3": f"{web_image}@{DIGEST}"}
    bundle = render(target(tmp_path, COMPOSE, env={"TAG": "3"}), digests=digests)
    assert service(bundle, "web")["image"] == f"{web_image}@{DIGEST}"
    assert service(bundle, "web")["build"] == {"!reset": None}
    assert "image" not in service(bundle, "db") and "image" not in service(bundle, "fixed")
    assert bundle.services["fixed"].image == "redis:7@sha256:" + "2" * 64
    assert bundle.services["web"].build


def test_pin_always_refuses_what_has_no_digest(tmp_path: Path) -> None:
    with pytest.raises(LongshoreError) as caught:
        render(target(tmp_path, COMPOSE, env={"TAG": "3"}, pin="always"))
    assert len(problems_of(caught.value)) == 2


def test_pin_never_leaves_tags_alone(tmp_path: Path) -> None:
    bundle = render(
        target(tmp_path, COMPOSE, env={"TAG": "3"}, pin="never"),
        digests={"postgres:15": f"postgres@{DIGEST}"},
    )
    assert bundle.services["db"].image == "postgres:15"


@pytest.mark.parametrize(
    ("image", "says"), [("nginx", "no tag"), ("a.b:5000/nginx:latest", "the tag latest")]
)
def test_an_image_that_floats_is_pointed_out(tmp_path: Path, image: str, says: str) -> None:
    (warning,) = warnings(rendered(tmp_path, f"image: '{image}'"))
    assert says in warning
    digests = {image: f"nginx@{DIGEST}"}
    assert not warnings(render(target(tmp_path), digests=digests))


# Ports, replicas and the rest


def test_the_inventorys_ports_replace_the_files(tmp_path: Path) -> None:
    said = web(tmp_path, "ports: ['80:80']", ports=("127.0.0.1:8080:80",))
    assert said["ports"] == {"!override": ["127.0.0.1:8080:80"]}
    assert web(tmp_path, "ports: ['80:80']", ports=())["ports"] == {"!override": []}


def test_ports_are_known_before_a_host_is_asked(tmp_path: Path) -> None:
    bundle = rendered(
        tmp_path,
        "image: 'w:1', ports: ['80:80', '127.0.0.1:5000-5001:5000-5001/udp', 9000, '[::1]:6000:6000',"
        " {target: 1, published: 2, host_ip: 10.0.0.1}]",
    )
    assert bundle.services["web"].ports == (
        ":80/tcp",
        "127.0.0.1:5000/udp",
        "127.0.0.1:5001/udp",
        "::1:6000/tcp",
        "10.0.0.1:2/tcp",
    )


@pytest.mark.parametrize(
    ("image", "port", "warned"),
    [
        ("postgres:15", "5432:5432", True),
        ("reg.example.com/library/redis:7", "6380:6379", True),
        ("own/thing:1", "3306:3306", True),
        ("postgres:15", "127.0.0.1:5432:5432", False),
        ("postgres:15", "5432", False),
        ("nginx:1", "80:80", False),
    ],
)
def test_a_database_open_to_the_world_is_pointed_out(
    tmp_path: Path, image: str, port: str, warned: bool
) -> None:
    said = warnings(rendered(tmp_path, f"image: '{image}', ports: ['{port}']"))
    assert any("every address of the host" in one for one in said) is warned


def test_replicas_are_said_in_the_files_own_way(tmp_path: Path) -> None:
    assert web(tmp_path, "", replicas=2)["deploy"] == {"replicas": 2}
    said = web(tmp_path, "scale: 3", replicas=2)
    assert said["scale"] == 2 and "deploy" not in said
    both = web(tmp_path, "scale: 3, deploy: {replicas: 3}", replicas=2)
    assert both["scale"] == 2 and both["deploy"] == {"replicas": 2}
    assert rendered(tmp_path, "image: 'w:1', deploy: {replicas: 4}").services["web"].replicas == 4


@pytest.mark.parametrize("file", ["container_name: w", "ports: ['80:80']"])
def test_what_cannot_run_twice_is_refused(tmp_path: Path, file: str) -> None:
    with pytest.raises(LongshoreError, match="can't run 2 times on a host"):
        web(tmp_path, file, replicas=2)


def test_the_defaults_hold_where_a_service_says_nothing(tmp_path: Path) -> None:
    one = target(
        tmp_path,
        "services: {a: {image: 'a:1'}, b: {image: 'b:1'}}\n",
        defaults=ServicePolicy(cpus=1, memory=2**30, environment={"A": "1", "B": "1"}, volumes=("x:/x",)),
        services={"b": {"memory": 2**29, "environment": {"B": "2"}, "volumes": ("y:/y",)}},
    )
    bundle = render(one)
    assert service(bundle, "a")["deploy"]["resources"]["limits"] == {"cpus": "1", "memory": "1g"}
    assert service(bundle, "b")["deploy"]["resources"]["limits"] == {"cpus": "1", "memory": "512m"}
    assert service(bundle, "b")["environment"] == {"A": "1", "B": "2"}
    assert [entry["target"] for entry in service(bundle, "b")["volumes"]] == ["/x", "/y"]
    assert overlay(bundle)["volumes"] == {"x": {}, "y": {}}


def test_labels_are_the_same_in_every_release(tmp_path: Path) -> None:
    one = web(tmp_path, "", labels={"team": "a$b"})["labels"]
    assert one == {"longshore.app": "shop", "longshore.environment": "test", "team": "a$$b"}
    assert web(tmp_path, "", labels={"team": "a$b"}, cpus=0.5)["labels"] == one


def test_simple_settings_are_one_key_each(tmp_path: Path) -> None:
    said = web(tmp_path, "", platform="linux/arm64", stop_grace=90)
    assert said["platform"] == "linux/arm64" and said["stop_grace_period"] == "1m30s"


def test_a_policy_for_an_unknown_service_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LongshoreError) as caught:
        rendered(tmp_path, "image: 'w:1'", services={"wbe": {"cpus": 1}})
    assert str(caught.value).startswith("inventory/test.yml:3: The inventory has a policy for wbe")


# Health


def test_health_of_the_inventory_replaces_the_test_and_keeps_unsaid_times(tmp_path: Path) -> None:
    said = web(tmp_path, "healthcheck: {disable: true}", health=Health(command=("pg_isready", "-U", "a$b")))
    assert said["healthcheck"] == {"test": ["CMD", "pg_isready", "-U", "a$$b"], "disable": False}
    times = web(tmp_path, "healthcheck: {test: x}", health=Health(interval=90, timeout=0.5, retries=2))
    assert times["healthcheck"] == {"interval": "1m30s", "timeout": "500ms", "retries": 2}
    none = rendered(
        tmp_path, "image: 'w:1', healthcheck: {test: x}", services={"web": {"health": Health(none=True)}}
    )
    assert service(none, "web")["healthcheck"] == {"disable": True}
    assert not none.services["web"].healthcheck


@pytest.mark.parametrize(
    ("file", "known"),
    [
        ("", False),
        ("healthcheck: {test: curl localhost}", True),
        ("healthcheck: {test: ['NONE']}", False),
        ("healthcheck: {test: x, disable: true}", False),
        ("healthcheck: {interval: 3s}", False),
    ],
)
def test_it_is_known_whether_there_is_a_health_check(tmp_path: Path, file: str, known: bool) -> None:
    assert rendered(tmp_path, f"image: 'w:1', {file}").services["web"].healthcheck is known


# The writer


TEXTS = st.text(alphabet=st.characters(blacklist_categories=("Cs",)), max_size=20)


@given(
    st.dictionaries(TEXTS, TEXTS | st.lists(TEXTS, max_size=3) | st.booleans() | st.integers(), max_size=4)
)
@settings(max_examples=200)
def test_what_the_writer_writes_reads_back_with_dollars_doubled(value: dict[str, Any]) -> None:
    def doubled(item: Any) -> Any:
        if isinstance(item, str):
            return item.replace("$", "$$")
        return [doubled(child) for child in item] if isinstance(item, list) else item

    (read,) = parse(emit(value), "f") or ({},)
    assert read == {key: doubled(item) for key, item in value.items()}


ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 9)
    | st.sampled_from(["", "a", "./x:/y", ":", "${A}", "80:80"]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["a", "file", "test", "resources", "limits", "source"]), inner, max_size=2
        )
    ),
    max_leaves=4,
)
KEYS = st.sampled_from([
    "image", "build", "ports", "volumes", "env_file", "environment", "depends_on", "deploy", "logging",
    "healthcheck", "labels", "profiles", "configs", "secrets", "extends", "networks", "scale", "links",
    "network_mode", "restart", "platform", "mem_limit", "ulimits", "extra_hosts", "read_only", "tmpfs",
    "container_name", "cap_add", "init", "gpus", "models", "post_start", "develop", "blkio_config",
])  # fmt: skip


@given(
    st.dictionaries(KEYS, ODD, max_size=4),
    st.dictionaries(st.sampled_from(["configs", "volumes", "include", "services"]), ODD, max_size=2),
)
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_compose_file_ends_in_a_traceback(
    tmp_path: Path, odd: dict[str, Any], top: dict[str, Any]
) -> None:
    document = {"services": {"web": {"image": "w:1", **odd}}, **top}
    policy = {"web": ServicePolicy(cpus=1, memory=2**20, replicas=2, health=Health(tcp=1), restart="always")}
    try:
        bundle = render(target(tmp_path, emit(document), services=policy))
    except LongshoreError as error:
        assert str(error)
    else:
        assert text_of(bundle, "longshore.yml")
