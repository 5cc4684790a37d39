"""Reading compose files: what Compose would make of them, and sentences for what it can't."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from compose_corpus import CASES, HERE, of_ours
from render_factory import problems_of, service, target, text_of, write

from longshore.errors import LongshoreError
from longshore.render import Renderer, images, render
from longshore.render.document import parse


@pytest.mark.parametrize("case", sorted(CASES))
def test_a_compose_file_is_read_as_compose_reads_it(case: str) -> None:
    expected = json.loads((HERE / case / "expected.json").read_text())
    assert json.loads(json.dumps(of_ours(case))) == expected


def test_scalars_are_those_of_yaml_1_2() -> None:
    text = (
        "[no, NO, on, y, ~, null, true, False, 0755, 0x1f, 22:22, 1_000, 1.5, .5, 2024-01-01, '1', 0o17, 08]"
    )
    (items,) = parse(text, "f")
    assert items == [
        "no", "NO", "on", "y", None, None, True, False, 493, 31, "22:22", 1000, 1.5, 0.5, "2024-01-01",
        "1", 15, "08",
    ]  # fmt: skip


def test_a_name_like_n_stays_a_name() -> None:
    (document,) = parse("networks: {n: , y: }", "f")
    assert list(document["networks"]) == ["n", "y"]


def refused(root: Path, compose: str, **more: object) -> list[str]:
    with pytest.raises(LongshoreError) as caught:
        render(target(root, compose, **more))  # type: ignore[arg-type]
    return problems_of(caught.value)


@pytest.mark.parametrize(
    ("compose", "place", "says"),
    [
        ("services: [", "compose.yml:2:1", "not YAML"),
        ("services:\n  a: {image: x}\n  a: {image: y}\n", "compose.yml:3:3", "given twice"),
        ("- a\n", "compose.yml:1", "mapping"),
        ("services:\n\ta:\n", "compose.yml:2:1", "A tab is used here, which YAML forbids. Use spaces."),
        ("services:\n  a:\n    command: echo a: b\n", "compose.yml:3", "needs quotes around the text"),
        (
            "services:\n  a:\n    image: {{ image }}\n",
            "compose.yml:3:13",
            "only files named *.j2 are templates",
        ),
        ("web: {image: x}\n", "compose.yml:1:1", "Write services: above web:"),
        ("services: {}\n", "compose.yml", "no service"),
        ("services:\n  a:\n    image: ${X\n", "compose.yml:3:12", "${"),
        ("services:\n  a:\n    image: ${X:?say which}\n", "compose.yml:3:12", "say which"),
        ("services:\n  a: {image: x, volumes: ['a:b:c:d']}\n", "compose.yml:2:27", "not a volume"),
        (
            "services:\n  a: {image: x, volumes: [{type: bind, source: ./x, target: /x, bind: true}]}\n",
            "compose.yml:2:65",
            "bind of this volume is not a mapping",
        ),
        (
            "services:\n  a: {image: x, volumes: [{type: bind, source: ./x, target: /x, bind: }]}\n",
            "compose.yml:2:65",
            "bind of this volume is not a mapping",
        ),
        ("services:\n  a: {image: x, ports: [many]}\n", "compose.yml:2:25", "not a port"),
        ("services:\n  a: {image: x, ports: ['1-3:1-2']}\n", "compose.yml:2:25", "different lengths"),
        ("services:\n  a: {image: x, extends: b}\n", "compose.yml:2:17", "not in compose.yml"),
        ("services:\n  a: {image: x, extends: a}\n", "compose.yml:2:17", "extends itself"),
        ("include: [gone.yml]\nservices: {a: {image: x}}\n", "compose.yml:1:11", "doesn't exist"),
        (
            "include: ['https://x/y.git']\nservices: {a: {image: x}}\n",
            "compose.yml:1:11",
            "not on this machine",
        ),
        ("include: [compose.yml]\nservices: {a: {image: x}}\n", "compose.yml", "include each other"),
        ("services:\n  a: {image: x, env_file: gone.env}\n", "compose.yml:2:27", "gone.env"),
        ("services:\n  a: {image: x, depends_on: [z]}\n", "compose.yml:2:17", "which is no service"),
        ("services:\n  a: &a\n    b: *a\n", "compose.yml:2", "contains itself"),
        ("services:\n  a: {build: .}\n", "compose.yml:2", "is built, and has no image"),
        ("services:\n  1: {image: x}\n", "compose.yml:2:3", "not a text"),
        ("services: {a: {image: x}}\n\0", "compose.yml", "not YAML"),
        ("services:\n  a: {image: x, scale: -1}\n", "compose.yml:2", "not a number of replicas"),
        ("[" * 500, "compose.yml:1:101", "nested more than 100 levels"),
        # The place depends on libyaml: from 0.2.6 on it stops at 1,000 levels by itself.
        ("[" * 200_000, "compose.yml:1:1", "nested more than 100 levels"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, compose: str, place: str, says: str) -> None:
    (sentence,) = refused(tmp_path, compose)
    assert sentence.startswith(place)
    assert says in sentence


@pytest.mark.parametrize("mark", ["!reset null", "!override {c: {file: ./motd}}"])
def test_whole_sections_can_be_marked(tmp_path: Path, mark: str) -> None:
    write(tmp_path, {"motd": "hello", "over.yml": f"services: {{}}\nconfigs: {mark}\n"})
    compose = "services: {a: {image: 'x:1'}}\nconfigs: {c: {file: ./gone}}\n"
    assert set(render(target(tmp_path, compose, paths=("compose.yml", "over.yml"))).services) == {"a"}


def test_a_number_longer_than_python_prints_is_a_text() -> None:
    assert parse(f"a: 0x{'f' * 6000}", "f")[0]["a"].startswith("0xff")


def test_ports_of_any_shape_are_merged(tmp_path: Path) -> None:
    odd = "services: {{a: {{image: 'x:1', ports: [{{target: 80, host_ip: [{}]}}]}}}}"
    write(tmp_path, {"over.yml": odd.format("b")})
    render(target(tmp_path, odd.format("a"), paths=("compose.yml", "over.yml")))


def test_a_template_that_calls_itself_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"loop.j2": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"})
    (sentence,) = refused(tmp_path, "services: {a: {image: x}}", files={"loop": tmp_path / "loop.j2"})
    assert sentence == "loop.j2: This template calls itself without end."


def test_every_unset_variable_is_named_at_once_with_its_place(tmp_path: Path) -> None:
    sentences = refused(
        tmp_path,
        """\
        services:
          web:
            image: web:${TAG}
            environment:
              - A=${ONE}
              - B=${TWO:-fine}
              - C=${THREE-}
            volumes: ["${DATA}:/data", "${PWD}/x:/x"]
          debug: {image: "d:${UNUSED}", profiles: [debug]}
        """,
    )
    assert sorted(sentence.partition(" is not set")[0] for sentence in sentences) == [
        "compose.yml:3:12: The variable TAG",
        "compose.yml:5:9: The variable ONE",
        "compose.yml:8:15: The variable DATA",
        "compose.yml:8:32: The variable PWD",
    ]


def test_the_projects_name_is_a_variable(tmp_path: Path) -> None:
    assert images(target(tmp_path, "services: {a: {image: '${COMPOSE_PROJECT_NAME}:1'}}")) == ("shop:1",)


def test_a_bomb_of_anchors_is_refused(tmp_path: Path) -> None:
    lines = ["x0: &x0 [a, a, a, a, a, a, a, a, a, a]"]
    lines += [f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 10)}]" for n in range(1, 8)]
    (sentence,) = refused(tmp_path, "\n".join([*lines, "services: {a: {image: x}}"]))
    assert "100,000" in sentence


def test_every_file_that_compose_needs_travels_at_its_own_place(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "deploy/compose.yml": """\
                include: [{path: ../mon/compose.yml, env_file: ../mon/mon.env}]
                services:
                  web: {extends: {file: base/web.yml, service: web}, image: "web:1", env_file: [../web.env]}
                """,
            "deploy/base/web.yml": "services: {web: {env_file: base.env}}",
            "deploy/base/base.env": "A=1",
            "mon/compose.yml": """\
                services: {mon: {image: "mon:${V}", env_file: [{path: own.env, required: false}]}}
                """,
            "mon/mon.env": "V=3",
            "web.env": "B=1",
            "deploy/.env": "SECRET=of-the-laptop",
        },
    )
    bundle = render(target(tmp_path, paths=("deploy/compose.yml",)))
    assert [file.path for file in bundle.files] == [
        "deploy/.env",
        "deploy/base/base.env",
        "deploy/base/web.yml",
        "deploy/compose.yml",
        "deploy/longshore.yml",
        "mon/compose.yml",
        "mon/mon.env",
        "web.env",
    ]
    assert bundle.project_directory == "deploy"
    assert bundle.compose_files == ("deploy/compose.yml", "deploy/longshore.yml")
    assert text_of(bundle, "deploy/.env") == ""
    assert bundle.services["mon"].image == "mon:3"


@pytest.mark.parametrize("key", ["environment", "labels"])
def test_a_variable_that_a_later_file_resets_is_gone(tmp_path: Path, key: str) -> None:
    write(tmp_path, {"prod.yml": f"services: {{a: {{{key}: {{A: !reset null, B: '2'}}}}}}"})
    compose = f"services: {{a: {{image: 'a:1', {key}: {{A: '${{NOT_SET}}', B: '1'}}}}}}\n"
    (tmp_path / "compose.yml").write_text(compose)
    bundle = render(target(tmp_path, paths=("compose.yml", "prod.yml")))
    assert set(bundle.services) == {"a"}


@pytest.mark.parametrize("said", ["{A: }", "[A]"])
def test_a_variable_that_a_later_file_leaves_to_the_env_file_is_no_longer_the_first_ones(
    tmp_path: Path, said: str
) -> None:
    write(tmp_path, {"prod.yml": f"services: {{a: {{environment: {said}}}}}"})
    compose = "services: {a: {image: 'a:1', environment: {A: '${NOT_SET}', B: '1'}}}\n"
    (tmp_path / "compose.yml").write_text(compose)
    one = target(tmp_path, paths=("compose.yml", "prod.yml"))
    render(one)
    assert Renderer().services(one)["a"]["environment"] == {"A": None, "B": "1"}


@pytest.mark.parametrize("by", ["env_file", "files"])
def test_the_env_file_of_an_included_folder_counts_where_it_travels(tmp_path: Path, by: str) -> None:
    named = ", env_file: .env" if by == "env_file" else ""
    service = f"{{image: 'a:${{TAG:-1}}', labels: {{x: '${{ONLY}}'}}{named}}}"
    write(
        tmp_path,
        {
            "sub/compose.yml": f"services: {{a: {service}}}",
            "sub/.env" if by == "env_file" else "env/sub.env": "TAG=2\nONLY=x\n",
        },
    )
    files = {} if by == "env_file" else {"sub/.env": tmp_path / "env/sub.env"}
    bundle = render(target(tmp_path, "include: [sub/compose.yml]\n", files=files))
    assert text_of(bundle, "sub/.env") == "TAG=2\nONLY=x\n"
    assert bundle.services["a"].image == "a:2"  # Compose reads it on the host, beside what is included


def test_the_hosts_of_a_build_may_be_a_list_in_one_file_and_a_mapping_in_another(tmp_path: Path) -> None:
    write(tmp_path, {"prod.yml": "services: {a: {build: {extra_hosts: {b: 10.0.0.2}}}}"})
    compose = "services: {a: {image: 'a:1', build: {context: ., extra_hosts: ['a=10.0.0.1']}}}\n"
    (tmp_path / "compose.yml").write_text(compose)
    one = target(tmp_path, paths=("compose.yml", "prod.yml"))
    hosts = Renderer().services(one)["a"]["build"]["extra_hosts"]
    assert hosts == ["a=10.0.0.1", "b=10.0.0.2"]


def test_env_files_of_one_name_in_two_folders_both_travel(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "base/web.yml": "services: {web: {image: 'web:1', env_file: app.env}}",
            "base/app.env": "A=1",
            "app.env": "B=1",
        },
    )
    compose = "services: {web: {extends: {file: base/web.yml, service: web}, env_file: app.env}}\n"
    bundle = render(target(tmp_path, compose))
    assert text_of(bundle, "base/app.env") == "A=1" and text_of(bundle, "app.env") == "B=1"


def test_a_template_is_rendered_and_loses_its_suffix(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "compose.yml.j2": "services:\n  web:\n    image: web:{{ tag }}\n    env_file: app.env\n",
            "app.env.j2": "HOST={{ inventory_hostname }}\nPW={{ env.PW }}\n",
        },
    )
    one = target(
        tmp_path,
        paths=("compose.yml.j2",),
        variables={"tag": "7", "inventory_hostname": "h1"},
        env={"PW": "hunter2"},
        secrets=("PW",),
    )
    bundle = render(one)
    assert bundle.compose_files == ("compose.yml", "longshore.yml")
    assert bundle.services["web"].image == "web:7"
    assert text_of(bundle, "app.env") == "HOST=h1\nPW=hunter2\n"


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("services:\n  web: {image: '{{ tagg }}'}\n", "compose.yml.j2:2: 'tagg' is undefined"),
        ("services:\n\n{% if %}\n", "compose.yml.j2:3: This template is broken"),
        ("services:\n  web: {image: '{{ 1 / 0 }}'}\n", "compose.yml.j2:2: This template can't be rendered"),
        ("{{ ''.__class__.__mro__ }}\n", "compose.yml.j2:1"),
    ],
)
def test_a_template_that_does_not_render_is_named_with_its_line(
    tmp_path: Path, template: str, says: str
) -> None:
    write(tmp_path, {"compose.yml.j2": template})
    with pytest.raises(LongshoreError) as caught:
        render(target(tmp_path, paths=("compose.yml.j2",)))
    assert says in str(caught.value)


def test_compose_files_are_deployed_byte_for_byte(tmp_path: Path) -> None:
    text = "# mine\nservices: {web: {image: 'w:1', x-own: [1]}}   \nx-top: &a {b: 1}\n"
    assert text_of(render(target(tmp_path, text)), "compose.yml") == text


def test_a_service_of_an_include_gets_its_policy(tmp_path: Path) -> None:
    write(tmp_path, {"sub/c.yml": "services: {w: {image: 'w:1'}}"})
    bundle = render(target(tmp_path, "include: [sub/c.yml]\n", services={"w": {"cpus": 0.5}}))
    assert service(bundle, "w")["deploy"] == {"resources": {"limits": {"cpus": "0.5"}}}


@pytest.mark.parametrize(
    ("compose", "says"),
    [
        ("include: [sub/c.yml]\nservices: {w: {image: 'w:2'}}\n", "compose.yml:2:12: services.w is included"),
        ("include: [sub/c.yml]\nservices: {o: {image: 'o:1'}}\nnetworks: {n: {driver: x}}\n", "networks.n"),
        (
            "include: [sub/c.yml, sub/d.yml]\n",
            "services.w is included, too, and is another one there: sub/d.yml:1:12",
        ),
    ],
)
def test_what_is_included_and_is_another_one_here_is_refused_as_by_compose(
    tmp_path: Path, compose: str, says: str
) -> None:
    write(
        tmp_path,
        {
            "sub/c.yml": "services: {w: {image: 'w:1', volumes: ['./x:/x']}}\nnetworks: {n: {}}\n",
            "sub/d.yml": "services: {w: {image: 'w:3'}}",
            "sub/x": "",
        },
    )
    (sentence,) = refused(tmp_path, compose)
    assert says in sentence


@pytest.mark.parametrize(
    ("paths", "compose", "image"),
    [
        (("compose.yml",), "include: [sub/c.yml]\nservices: {o: {image: 'o:1'}}\nnetworks: {n: {}}\n", "w:1"),
        (("compose.yml",), "include: [sub/c.yml, sub/all.yml]\n", "w:1"),  # the same, on two ways
        (("compose.yml",), "include: [{path: [sub/c.yml, sub/d.yml]}]\n", "w:3"),
        (("compose.yml", "sub/d.yml"), "include: [sub/c.yml]\n", "w:3"),
    ],
)
def test_what_is_included_may_be_the_same_here_or_be_changed_by_a_file_behind_it(
    tmp_path: Path, paths: tuple[str, ...], compose: str, image: str
) -> None:
    write(
        tmp_path,
        {
            "compose.yml": compose,
            "sub/c.yml": "services: {w: {image: 'w:1', volumes: ['./x:/x']}}\nnetworks: {n: {}}\n",
            "sub/all.yml": "include: [c.yml]\nservices: {z: {image: 'z:1'}}\n",
            "sub/d.yml": "services: {w: {image: 'w:3'}}",
            "sub/x": "",
        },
    )
    assert render(target(tmp_path, paths=paths)).services["w"].image == image


def test_a_missing_compose_file_is_said_with_the_app(tmp_path: Path) -> None:
    with pytest.raises(LongshoreError) as caught:
        render(target(tmp_path))
    assert "inventory/test.yml:3" in str(caught.value) and "compose.yml" in str(caught.value)
