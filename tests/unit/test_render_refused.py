"""What Compose refuses is said here, with its place, before a host is asked; what it takes is taken."""

from __future__ import annotations

from pathlib import Path

import pytest
from render_factory import overlay, problems_of, service, target, write

from longshore.errors import LongshoreError
from longshore.render import render


def refused(root: Path, compose: str, **more: object) -> list[str]:
    with pytest.raises(LongshoreError) as caught:
        render(target(root, compose, **more))  # type: ignore[arg-type]
    return problems_of(caught.value)


def refused_in_line_two(root: Path, text: str, says: str) -> None:
    """A service with these settings is refused in one sentence, which names its line."""
    (sentence,) = refused(root, f"services:\n  a: {{image: x, {text}}}\n")
    assert says in sentence
    assert sentence.startswith("compose.yml:2:")


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        ("enviroment: {A: b}", "2:17", "services.a has no setting 'enviroment'. Did you mean environment?"),
        ("build: {contxt: .}", "2:25", "services.a.build has no setting 'contxt'. Did you mean context?"),
        ("healthcheck: {tests: x}", "2:31", "Did you mean test?"),
        ("deploy: {resources: {limits: {memry: 1g}}}", "2:47", "Did you mean memory?"),
        ("ports: [{target: 80, publish: 80}]", "2:38", "Did you mean published?"),
        (
            "volumes: [{type: bind, source: /x, target: /x, readonly: true}]",
            "2:27",
            "Did you mean read_only?",
        ),
        ("depends_on: {a: {conditions: x, condition: service_started}}", "2:34", "Did you mean condition?"),
        ("log_driver: syslog", "2:17", "Write it as logging: driver:."),
        ("net: host", "2:17", "It is called network_mode now."),
    ],
)
def test_a_setting_that_compose_does_not_know_is_named_with_the_one_that_is_meant(
    tmp_path: Path, text: str, place: str, says: str
) -> None:
    sentence = refused(tmp_path, f"services:\n  a: {{image: x, {text}}}\n")[0]
    assert sentence.startswith(f"compose.yml:{place}: ")
    assert says in sentence


def test_a_setting_that_only_a_newer_compose_may_know_is_pointed_out_and_left_to_it(tmp_path: Path) -> None:
    compose = "services: {a: {image: 'x:1', quantum: 1, tpus: 1, x-own: 1}}\nx-top: 1\nwarp: 1\n"
    said = [note.message for note in render(target(tmp_path, compose)).notes if "known here" in note.message]
    assert len(said) == 3
    assert "services.a has no setting 'quantum'" in said[1]
    assert "Did you mean gpus or cpus?" in said[2]


def test_a_misspelt_section_is_said(tmp_path: Path) -> None:
    (sentence,) = refused(tmp_path, "services: {a: {image: x}}\nvolume: {data: }\n")
    assert sentence == "compose.yml:2:1: A compose file has no 'volume'. Did you mean volumes?"


@pytest.mark.parametrize(
    "text",
    [
        "environment:",
        "ports:",
        "volumes:",
        "labels:",
        "restart:",
        "deploy: {resources: }",
        "logging: {options: }",
    ],
)
def test_a_setting_without_a_value_is_refused_as_by_compose(tmp_path: Path, text: str) -> None:
    (sentence,) = refused(tmp_path, f"services:\n  a: {{image: x, {text} }}\n")
    assert "is empty, which Compose refuses" in sentence
    assert sentence.startswith("compose.yml:2:")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ulimits: 5", "services.a.ulimits is a number, and has to be a mapping."),
        ("ulimits: {nofile: [1]}", "An entry of services.a.ulimits is a list, and has to be a number"),
        ("extra_hosts: 5", "services.a.extra_hosts is a number, and has to be a list or a mapping."),
        ("healthcheck: {disable: x}", "services.a.healthcheck.disable is 'x', and has to be true or false."),
        ("healthcheck: {retries: [1]}", "services.a.healthcheck.retries is a list, and has to be a number"),
        ("read_only: maybe", "services.a.read_only is 'maybe', and has to be true or false."),
        ("init: {}", "services.a.init is a mapping, and has to be true or false or a text."),
        ("cap_add: NET_ADMIN", "services.a.cap_add is a text, and has to be a list."),
        ("cap_drop: [1]", "An entry of services.a.cap_drop is a number, and has to be a text."),
        ("tmpfs: {/a: b}", "services.a.tmpfs is a mapping, and has to be a text or a list."),
        ("sysctls: x=1", "services.a.sysctls is a text, and has to be a list or a mapping."),
        ("shm_size: [1g]", "services.a.shm_size is a list, and has to be a number or a text."),
        ("build: {args: x}", "services.a.build.args is a text, and has to be a list or a mapping."),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_before_a_host_does_it(
    tmp_path: Path, text: str, says: str
) -> None:
    refused_in_line_two(tmp_path, text, says)


@pytest.mark.parametrize(
    "text",
    [
        "ulimits: {nproc: 5, nofile: {soft: 1, hard: '2'}}",
        "extra_hosts: {a: 10.0.0.1, b: [10.0.0.2, 10.0.0.3]}",
        "extra_hosts: ['a:10.0.0.1']",
        "read_only: '${RO:-yes}'",
        "restart: on-failure:3",
        "restart: ''",
        "gpus: all",
        "expose: [80, '81-82']",
        "sysctls: [net.core.somaxconn=1]",
        "post_start: [{command: x}]",
        "label_file: [a]",
    ],
)
def test_a_value_of_each_kind_that_compose_takes_is_taken(tmp_path: Path, text: str) -> None:
    render(target(tmp_path, f"services:\n  a: {{image: 'x:1', {text}}}\n"))


def test_what_may_be_empty_is_taken(tmp_path: Path) -> None:
    render(
        target(
            tmp_path,
            "services: {a: {image: 'x:1', command: , entrypoint: , deploy: , environment: {A: }}}\n"
            "networks: {own: }\nvolumes: {data: }\n",
        )
    )


def test_an_empty_section_at_the_top_is_refused(tmp_path: Path) -> None:
    (sentence,) = refused(tmp_path, "services: {a: {image: x}}\nvolumes:\n")
    assert sentence.startswith("compose.yml:2:1: volumes is empty")


def test_an_empty_setting_in_a_later_file_leaves_the_earlier_one_as_it_is(tmp_path: Path) -> None:
    write(tmp_path, {"more.yml": "services: {a: {ports: , environment: }}\n"})
    compose = "services: {a: {image: 'x:1', ports: ['80:80'], environment: {A: b}}}\n"
    render(target(tmp_path, compose, paths=("compose.yml", "more.yml")))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("networks: [front]", "a uses the network front"),
        ("volumes: ['data:/data']", "a uses the volume data"),
        ("volumes: ['conf/x:/x']", "A folder beside the compose file is written ./conf/x."),
        ("configs: [one]", "a uses the config one"),
        ("secrets: [{source: one}]", "a uses the secret one"),
    ],
)
def test_what_nobody_declared_is_named(tmp_path: Path, text: str, says: str) -> None:
    refused_in_line_two(tmp_path, text, says)


def test_what_a_service_behind_a_profile_uses_may_be_missing(tmp_path: Path) -> None:
    render(
        target(
            tmp_path,
            "services: {a: {image: 'x:1'},"
            " b: {image: 'y:1', profiles: [q], networks: [gone], depends_on: [gone]}}\n",
        )
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("network_mode: host, networks: [default]", "can't have both"),
        ("healthcheck: {test: [curl, -f, http://x]}", "has to begin with CMD, CMD-SHELL or NONE"),
        ("healthcheck: {test: [CMD, sleep, 5]}", "a word that is no text"),
        ("healthcheck: {test: x, interval: 30}", "is a number, and has to be a text. Put it in quotes."),
        ("healthcheck: {test: x, interval: '30'}", "no duration to Compose"),
        ("stop_grace_period: 1d", "no duration to Compose"),
        ("mem_limit: 5x", "no size to Compose"),
        ("mem_limit: 1g, deploy: {resources: {limits: {memory: 2g}}}", "says mem_limit and deploy.resources"),
        ("mem_limit: 1g, deploy: {resources: {limits: {cpus: '1'}}}", "says mem_limit and deploy.resources"),
        (
            "mem_reservation: 1g, deploy: {resources: {reservations: {memory: 2g}}}",
            "says mem_reservation and deploy.resources.reservations.memory",
        ),
        ("scale: 2, deploy: {replicas: 3}", "says scale and deploy.replicas"),
        ("pull_policy: sometimes", "which Compose doesn't know"),
        ("restart: always:5", "a has the restart 'always:5', which the engine refuses"),
        ("container_name: 'a b'", "a has the container_name 'a b', which the engine refuses"),
        ("command: [sleep, 5]", "An entry of services.a.command is a number"),
        ("user: 1000", "services.a.user is a number, and has to be a text. Put it in quotes."),
        ("ports: ['80:80:80:80']", "80:80 is no IP address"),
        ("ports: ['80:80/http']", "'http' is no protocol"),
        ("networks: [default, default]", "names default twice"),
        ("volumes: ['d:/data']", "a path of Windows to Compose"),
    ],
)
def test_what_does_not_fit_together_is_said_before_a_host_is_asked(
    tmp_path: Path, text: str, says: str
) -> None:
    refused_in_line_two(tmp_path, text, says)


@pytest.mark.parametrize(
    "text",
    [
        "ports: [':443:443', '127.0.0.1::80', '[::1]:81:81', '80:80/TCP', '3000-3005']",
        "mem_limit: 1.5gb, shm_size: 64M, memswap_limit: -1, mem_reservation: '100'",
        "mem_limit: 1g, deploy: {resources: {limits: {memory: 1024m}}}",
        "stop_grace_period: 1m30s, healthcheck: {test: [], timeout: 500ms}",
        "pull_policy: every_12h, restart: 'on-failure:3', user: '1000:1000'",
        "depends_on: {}, networks: {}",
    ],
)
def test_what_compose_takes_is_taken(tmp_path: Path, text: str) -> None:
    render(target(tmp_path, f"services: {{a: {{image: 'x:1', {text}}}}}\n"))


def test_limits_that_the_inventory_sets_are_the_same_in_both_places(tmp_path: Path) -> None:
    compose = "services: {a: {image: 'x:1', mem_limit: 1g, deploy: {resources: {limits: {memory: 2g}}}}}\n"
    said = service(render(target(tmp_path, compose, services={"a": {"memory": 2**29}})), "a")
    assert said["mem_limit"] == said["deploy"]["resources"]["limits"]["memory"] == "512m"


@pytest.mark.parametrize(
    "rest",
    [
        "a: {image: x, depends_on: [b]}, b: {image: x, depends_on: [a]}",
        "a: {image: x, links: [b]}, b: {image: x, depends_on: {a: {condition: service_healthy}}}",
        "a: {image: x, network_mode: 'service:b'}, b: {image: x, depends_on: [a]}",
    ],
)
def test_services_that_wait_for_each_other_are_named(tmp_path: Path, rest: str) -> None:
    (sentence,) = refused(tmp_path, f"services: {{c: {{image: x, depends_on: [a]}}, {rest}}}\n")
    assert "These services wait for each other: a → b → a." in sentence


def test_a_circle_behind_a_profile_is_nobodys_business(tmp_path: Path) -> None:
    render(
        target(
            tmp_path,
            "services: {c: {image: 'x:1'}, a: {image: 'x:1', profiles: [q], depends_on: [b]},"
            " b: {image: 'x:1', profiles: [q], depends_on: [a]}}\n",
        )
    )


def test_a_service_can_extend_one_of_its_name_through_several_files(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "common/web.yml": "services: {web: {extends: {file: base.yml, service: web}}}\n",
            "common/base.yml": "services: {web: {image: 'x:1'}}\n",
        },
    )
    compose = "services: {web: {extends: {file: common/web.yml, service: web}}}\n"
    assert list(overlay(render(target(tmp_path, compose)))["services"]) == ["web"]


def test_services_of_two_files_that_extend_each_other_are_refused(tmp_path: Path) -> None:
    write(tmp_path, {"other.yml": "services: {web: {extends: {file: compose.yml, service: web}}}\n"})
    (sentence,) = refused(tmp_path, "services: {web: {extends: {file: other.yml, service: web}}}\n")
    assert "extends itself" in sentence


def test_two_merge_keys_are_refused_as_by_compose(tmp_path: Path) -> None:
    compose = "x-a: &a {image: x}\nservices:\n  a:\n    <<: *a\n    <<: *a\n"
    (sentence,) = refused(tmp_path, compose)
    assert sentence.startswith("compose.yml:5:5: The key '<<' is given twice here, first in line 4.")


@pytest.mark.parametrize(
    ("one", "other", "says"),
    [
        ("ports: ['80:80']", "ports: ['127.0.0.1:80:81']", "b and a both publish port 80."),
        ("ports: ['53:53/udp']", "ports: ['50-60:50-60/udp']", "b and a both publish port 53/udp."),
        (
            "ports: ['10000-20000:10000-20000']",
            "ports: ['9000-19000:9000-19000']",
            "both publish port 10000.",
        ),
        ("container_name: qq", "container_name: qq", "b and a both have the container_name qq."),
    ],
)
def test_what_the_engine_would_refuse_halfway_through_is_said(
    tmp_path: Path, one: str, other: str, says: str
) -> None:
    compose = f"services:\n  a: {{image: x, {one}}}\n  b: {{image: x, {other}}}\n"
    (sentence,) = refused(tmp_path, compose)
    assert sentence.startswith("compose.yml:3:") and sentence.endswith(says)


@pytest.mark.parametrize(
    "other",
    [
        "ports: ['80:80/udp']",
        "ports: ['80']",
        "ports: ['80:80'], profiles: [q]",
        "ports: ['80:80'], scale: 0",
        "ports: ['80:80'], network_mode: host",
    ],
)
def test_a_port_is_only_taken_where_it_is_published(tmp_path: Path, other: str) -> None:
    compose = f"services: {{a: {{image: 'x:1', ports: ['80:80']}}, b: {{image: 'x:1', {other}}}}}\n"
    render(target(tmp_path, compose))


@pytest.mark.parametrize("text", ["links: [z]", "volumes_from: [z]", "network_mode: 'service:z'"])
def test_a_service_that_another_needs_and_that_there_is_not_is_named(tmp_path: Path, text: str) -> None:
    (sentence,) = refused(tmp_path, f"services:\n  a: {{image: x, {text}}}\n")
    assert sentence.endswith("which is no service.")


def test_a_list_of_names_and_conditions_in_another_file_are_put_together(tmp_path: Path) -> None:
    write(tmp_path, {"more.yml": "services: {a: {depends_on: {c: {condition: service_healthy}}}}\n"})
    compose = "services: {a: {image: 'x:1', depends_on: [b]}, b: {image: 'x:1'}, c: {image: 'x:1'}}\n"
    for paths in (("compose.yml", "more.yml"), ("more.yml", "compose.yml")):
        bundle = render(target(tmp_path, compose, paths=paths))
        assert sorted(bundle.services["a"].depends_on) == ["b", "c"]
