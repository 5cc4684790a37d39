"""What would be done, and why: from today's bundle and what an agent says of the release on its host."""

from __future__ import annotations

import io
import json
import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.render_factory import target, write

from longshore.agent.edited import edited
from longshore.agent.explain import explain
from longshore.agent.store import AppStore
from longshore.errors import LongshoreError, Problems
from longshore.inventory.model import Health, Logging
from longshore.plan import HostPlan, Plan, grouped, make_plan, new_salt, question, release
from longshore.plan.balanced import with_leaving
from longshore.plan.make import changes_between
from longshore.plan.release import Models, of_bundle
from longshore.plan.saved import check, check_choice, check_place, load, save
from longshore.plan.steps import steps
from longshore.plan.veil import Veil
from longshore.plan.words import lines
from longshore.render import Bundle, render
from longshore.render.pack import pack

SHOP = """
services:
  web:
    image: shop:1
    command: serve --workers 2
    environment: {LEVEL: "${LEVEL:-info}", DB_PASSWORD: "${DB_PASSWORD:-}"}
    volumes: ["./www:/www:ro", "data:/data"]
    ports: ["8080:80"]
    depends_on: [db]
  db: {image: "db:1"}
  job: {image: "shop:1", restart: "no"}
volumes: {data: }
"""


class Case:
    """A project that was deployed to a host, and is changed then. Everything but the engine is real."""

    def __init__(self, root: Path, **first: Any) -> None:
        self.project = root / "project"
        self.store = AppStore(str(root / "host"), "shop")
        write(self.project, {"www/index.html": "one\n", "www/other.html": "same\n"})
        self.old = self.bundle(**first)
        self.store.make()
        self.store.receive(self.old.id, self.old.manifest(), io.BytesIO(pack(self.old)))
        self.salt = new_salt()

    def bundle(self, compose: str = SHOP, **settings: Any) -> Bundle:
        return render(target(self.project, compose, **settings))

    def seen(self, new: Bundle, **more: Any) -> dict[str, Any]:
        """What the agent would answer."""
        asked = question(new, self.salt, content=True)
        manifest = self.old.manifest()
        changed = [one.path for one in edited(self.store, manifest, 0)]
        return {
            "current": self.old.id,
            "unfinished": None,
            "drift": [],
            "staged": False,
            "manifest": manifest if self.old.id != new.id else None,
            "containers": [
                {"service": name, "state": "running", "status": "Up"} for name in self.old.services
            ],
            "stored": json.loads(json.dumps(explain(self.store, manifest, asked, changed))),
            **more,
        }

    def plan(self, new: Bundle, **more: Any) -> HostPlan:
        seen = self.seen(new, **more)
        return make_plan("shop", {"h1": new}, {"h1": seen}, salt=self.salt).hosts["h1"]

    def says(self, *args: Any, **settings: Any) -> list[str]:
        """The changes of services and settings, in words."""
        return [str(one) for one in self.plan(self.bundle(*args, **settings)).changes if one.what != "file"]

    def deeds(self, *args: Any, **settings: Any) -> dict[str, str]:
        """What becomes of each service to which something happens."""
        steps = self.plan(self.bundle(*args, **settings)).steps
        return {step.service: step.deed for step in steps if step.deed != "nothing"}


@pytest.fixture
def case(tmp_path: Path) -> Case:
    """The shop, as it was deployed."""
    return Case(tmp_path)


def test_the_same_release_has_nothing_to_do(case: Case) -> None:
    plan = case.plan(case.bundle())
    assert (plan.action, plan.changes, plan.diffs) == ("nothing", (), ())
    assert {step.deed for step in plan.steps} == {"nothing"}


@pytest.mark.parametrize(
    ("policy", "sentence"),
    [
        ({"memory": 2**28}, "web: memory none → 256M"),
        ({"cpus": 0.5}, "web: cpus none → 0.5"),
        ({"restart": "always"}, "web: restart unless-stopped → always"),
        ({"image": "shop:2"}, "web: image shop:1 → shop:2"),
        ({"image": "shop@sha256:" + "ab" * 32}, "web: image shop:1 → shop:1 (sha256:abababababab)"),
        ({"environment": {"MODE": "fast"}}, "web: environment MODE is new: fast"),
        ({"labels": {"team": "a"}}, "web: label team is new: a"),
        ({"ports": ("9090:80",)}, "web: ports 8080:80 → 9090:80"),
        ({"volumes": ("more:/more",)}, "web: mount /more is new: more"),
        ({"logging": Logging(max_size=5_000_000)}, "web: logging max-size 10m → 5m"),
        ({"health": Health(tcp=80, interval=5.0)}, "web: health interval none → 5s"),
        ({"stop_grace": 90.0}, "web: stop_grace none → 1m30s"),
    ],
)
def test_a_change_of_policy_is_said_field_by_field_and_makes_the_container_anew(
    case: Case, policy: dict[str, Any], sentence: str
) -> None:
    assert sentence in case.says(services={"web": policy})
    assert case.deeds(services={"web": policy}) == {"web": "recreate"}


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("serve --workers 2", "serve --workers 3", "web: command serve --workers 2 → serve --workers 3"),
        ("db:1", "db:2", "db: image db:1 → db:2"),
        ('"8080:80"', '"8080:80", "81:81/udp"', "web: ports 8080:80 → 8080:80, 81:81/udp"),
        ("./www:/www:ro", "./www:/www", "web: mount /www www (read-only) → www"),
        ("data:/data", "data:/elsewhere", "web: mount /data goes"),
        ('LEVEL:-info}"', 'LEVEL:-debug}"', "web: environment LEVEL info → debug"),
        ("command: serve", 'user: "1000"\n    command: serve', "web: user none → 1000"),
    ],
)
def test_a_change_in_the_compose_file_is_said_field_by_field(
    case: Case, old: str, new: str, sentence: str
) -> None:
    assert sentence in case.says(SHOP.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("serve --workers 2", '["serve", "--workers", "2"]'),
        ('"8080:80"', "{target: 80, published: 8080}"),
        ('"data:/data"', "{type: volume, source: data, target: /data}"),
        ("services:", "# a comment\nservices:"),
        ("depends_on: [db]", "depends_on: {db: {condition: service_started}}"),
    ],
)
def test_what_means_the_same_makes_nothing_anew_however_it_is_written(case: Case, old: str, new: str) -> None:
    assert case.says(SHOP.replace(old, new)) == []
    assert case.deeds(SHOP.replace(old, new)) == {}


def test_a_setting_of_ours_is_named_and_touches_no_container(case: Case) -> None:
    assert case.says(keep=3) == ["keep 5 → 3"]
    assert case.deeds(keep=3) == {}


def test_the_content_of_a_mounted_folder_is_named_with_the_file_that_differs(case: Case) -> None:
    write(case.project, {"www/index.html": "two\n"})
    plan = case.plan(case.bundle())
    assert [str(one) for one in plan.changes] == [
        "web: www, mounted at /www, differs",
        "longshore.yml differs",
        "www/index.html differs",
    ]
    diff = {file.name: file.lines for file in plan.diffs}
    assert diff["www/index.html"][-2:] == ("-one", "+two")


def test_what_depends_on_what_is_made_anew_is_made_anew_too_and_named_with_the_reason(case: Case) -> None:
    plan = case.plan(case.bundle(SHOP.replace("db:1", "db:2")))
    steps = {step.service: step for step in plan.steps}
    assert steps["db"].because == ("image",)
    assert steps["web"].because == ("db, which it depends on",)
    assert (steps["web"].deed, steps["web"].gap) == ("recreate", True)
    assert steps["job"].deed == "nothing"
    assert "job: untouched" in lines(plan)


def test_a_gap_is_nobodys_where_the_host_leaves_the_load_balancer_for_what_it_serves_or_needs(
    case: Case,
) -> None:
    plan = Plan("shop", {"h1": case.plan(case.bundle(SHOP.replace("db:1", "db:2")))})
    out = "replaced in place: meanwhile this host is out of the load balancer"
    told = lines(with_leaving(plan, {"h1": {"web"}}).hosts["h1"])
    assert [line.partition(":")[0] for line in told if out in line] == ["db", "web"]
    assert not [line for line in lines(with_leaving(plan, {"h1": {"job"}}).hosts["h1"]) if out in line]
    assert with_leaving(plan, {}) == plan


def test_a_service_that_can_run_twice_has_no_gap_and_is_not_made_anew_with_what_it_needs(case: Case) -> None:
    def deeds(changed: str) -> tuple[str, bool]:
        bundle = case.bundle(SHOP.replace(changed, changed[:-1] + "9"))
        old, new = of_bundle(case.old, Models()), of_bundle(bundle, Models())
        new.manifest["services"]["web"]["twin"] = True
        changes = changes_between(old, new, Veil("", {}))
        (web,) = [one for one in steps(old, new, changes, {}, case.seen(bundle)) if one.service == "web"]
        return web.deed, web.gap

    assert deeds("db:1") == ("nothing", False)
    assert deeds("serve --workers 2") == ("recreate", False)


def test_a_job_that_has_ended_runs_again_with_the_rest(case: Case) -> None:
    new = case.bundle(SHOP.replace("db:1", "db:2"))
    ended = [{"service": "job", "state": "exited", "status": "Exited (0)"}]
    (job,) = [step for step in case.plan(new, containers=ended).steps if step.service == "job"]
    assert job.deed == "run again"


def test_services_that_come_and_go_are_named(case: Case) -> None:
    more = SHOP.replace("  db:", "  worker: {image: w}\n  db:")
    assert case.says(more) == ["worker: it is new in this release"]
    assert case.deeds(more) == {"worker": "start"}
    assert case.says(SHOP.replace('  job: {image: "shop:1", restart: "no"}\n', "")) == [
        "job: it is not in this release"
    ]


def test_more_containers_of_a_service_leave_those_that_run_alone(case: Case) -> None:
    assert case.deeds(services={"db": {"replicas": 2}}) == {"db": "scale"}


def test_on_a_new_host_every_service_starts(case: Case) -> None:
    new = case.bundle()
    plan = case.plan(new, current=None, manifest=None, stored=None, containers=[])
    assert {step.deed for step in plan.steps} == {"start"}
    assert list(grouped(Plan("shop", {"h1": plan}))) == [f"nothing → {new.id} (db, job, web)"]


def test_a_switch_that_was_never_finished_is_recovered_even_to_the_same_release(case: Case) -> None:
    plan = case.plan(case.bundle(), unfinished="abc", lock={"by": "ann@laptop"}, manifest=None)
    assert plan.action == "recover"
    assert plan.changes[0].why == "release abc is being brought by ann@laptop"


def test_what_was_changed_by_hand_is_repaired_in_just_the_services_that_need_it(case: Case) -> None:
    drift = ["db: memory limit is 1G, the release says none"]
    plan = case.plan(case.bundle(), drift=drift, mend={"db": "recreate"}, manifest=None)
    assert plan.action == "repair"
    assert {step.service for step in plan.steps if step.deed != "nothing"} == {"db"}
    assert f"changed by hand: {drift[0]}" in lines(plan)


def test_a_file_that_was_edited_on_the_host_is_shown_against_what_it_should_be(case: Case) -> None:
    path = Path(case.store.bundle_dir(case.old.id), "compose.yml")
    path.write_text("services: [broken")
    drift = ["compose.yml was edited on the host"]
    plan = case.plan(case.bundle(), drift=drift, manifest=None)
    assert plan.diffs[0].lines[0] == "--- compose.yml (edited on the host)"
    # A new release is compared with what was committed, not with what was typed there and never ran.
    new = case.bundle(services={"web": {"memory": 2**28}})
    assert "web: memory none → 256M" in [str(one) for one in case.plan(new, drift=drift).changes]


# Secrets

OLD, NEW = "hunter2-old", "hunter3-new"
ENV = {"DB_PASSWORD": OLD, "LEVEL": "info"}


def _everything(plan: HostPlan) -> str:
    return repr((lines(plan), plan.changes, plan.steps, plan.diffs, list(grouped(Plan("shop", {"h": plan})))))


def test_a_changed_secret_is_shown_as_changed_and_neither_value_is_told(tmp_path: Path) -> None:
    case = Case(tmp_path, env=ENV, secrets=("DB_PASSWORD",))
    new = case.bundle(env={**ENV, "DB_PASSWORD": NEW}, secrets=("DB_PASSWORD",))
    plan = case.plan(new)
    (change,) = [one for one in plan.changes if one.service == "web"]
    old_mark, new_mark = change.why.removeprefix("environment DB_PASSWORD ").split(" → ")
    assert old_mark != new_mark
    assert {old_mark[:3], new_mark[:3]} == {"***"}
    assert (f"-DB_PASSWORD={old_mark}", f"+DB_PASSWORD={new_mark}") == plan.diffs[0].lines[-3:-1]
    told = _everything(plan) + json.dumps(case.seen(new)["stored"])
    assert OLD not in told
    assert NEW not in told


def test_an_unchanged_secret_in_a_changed_file_is_no_change_of_it(tmp_path: Path) -> None:
    compose = SHOP.replace("LEVEL:-info", "LEVEL:-debug").replace("serve", f"serve --token {OLD}")
    case = Case(tmp_path, compose=compose, env=ENV, secrets=("DB_PASSWORD",))
    new = case.bundle(compose.replace("workers 2", "workers 3"), env=ENV, secrets=("DB_PASSWORD",))
    plan = case.plan(new)
    assert [one.what for one in plan.changes if one.service] == ["command"]
    assert OLD not in _everything(plan)


def test_the_old_value_of_a_variable_is_never_known_even_where_it_was_no_secret(tmp_path: Path) -> None:
    case = Case(tmp_path, env={"LEVEL": "info"})
    (change,) = [one for one in case.plan(case.bundle(env={"LEVEL": "debug"})).changes if one.what != "file"]
    assert change.why.startswith("environment LEVEL ***")
    assert change.why.endswith(" → debug")


def test_a_literal_password_in_a_compose_file_is_not_told_either(tmp_path: Path) -> None:
    compose = SHOP.replace('DB_PASSWORD: "${DB_PASSWORD:-}"', "DB_PASSWORD: literal-one")
    case = Case(tmp_path, compose=compose)
    plan = case.plan(case.bundle(compose.replace("literal-one", "literal-two")))
    assert "environment DB_PASSWORD ***" in _everything(plan)
    assert "literal-" not in _everything(plan)


def test_the_same_secret_has_another_mark_in_every_plan() -> None:
    assert new_salt() != new_salt()


# Files of plans


def _plans(case: Case, new: Bundle, **more: Any) -> Plan:
    return make_plan("shop", {"h1": new}, {"h1": case.seen(new, **more)}, salt=case.salt)


def _saved(path: Path, plan: Plan) -> str:
    save(str(path), [plan], environment="prod", app="", limit="web", variables=["tag"], by="ann@laptop")
    return str(path)


def test_a_saved_plan_is_for_its_owner_only_and_holds_as_long_as_nothing_changes(
    case: Case, tmp_path: Path
) -> None:
    new = case.bundle(keep=3)
    path = _saved(tmp_path / "p", _plans(case, new))
    assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
    check(load(path), _plans(case, new))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"current": "0" * 12}, "h1: it has moved on: 000000000000 is the current release"),
        ({"unfinished": "0" * 12}, "h1: release 000000000000 was begun since"),
        ({"drift": ["web is exited"]}, "h1: this was changed by hand since: web is exited"),
    ],
)
def test_a_host_that_has_moved_on_voids_the_plan(
    case: Case, tmp_path: Path, change: Mapping[str, Any], sentence: str
) -> None:
    new = case.bundle(keep=3)
    saved = load(_saved(tmp_path / "p", _plans(case, new)))
    with pytest.raises(Problems) as caught:
        check(saved, _plans(case, new, **change))
    assert sentence in str(caught.value)
    assert "nothing was changed" in str(caught.value)


def test_another_release_or_other_hosts_void_the_plan(case: Case, tmp_path: Path) -> None:
    saved = load(_saved(tmp_path / "p", _plans(case, case.bundle(keep=3))))
    with pytest.raises(Problems, match="--set tag is not what it was"):
        check(saved, _plans(case, case.bundle(keep=4)))
    other = case.bundle(keep=3)
    with pytest.raises(Problems, match="h2: shop runs on this host now"):
        check(saved, make_plan("shop", {"h2": other}, {"h2": case.seen(other)}, salt=case.salt))


def test_a_plan_that_was_edited_is_refused(case: Case, tmp_path: Path) -> None:
    path = Path(_saved(tmp_path / "p", _plans(case, case.bundle(keep=3))))
    path.write_text(path.read_text().replace("ann@laptop", "eve@laptop"))
    with pytest.raises(LongshoreError, match="edited or damaged"):
        load(str(path))
    for text in ("", "[]", "{}", "no json"):
        path.write_text(text)
        with pytest.raises(LongshoreError, match="this is no plan"):
            load(str(path))
    with pytest.raises(LongshoreError, match="no such plan"):
        load(str(tmp_path / "nothing"))


def test_a_plan_for_something_else_than_was_typed_is_refused(case: Case, tmp_path: Path) -> None:
    saved = load(_saved(tmp_path / "p", _plans(case, case.bundle(keep=3))))
    check_choice(saved, environment="", app="", limit="")
    check_choice(saved, environment="prod", app="", limit="web")
    for typed in ({"environment": "staging"}, {"app": "blog"}, {"limit": "db"}):
        with pytest.raises(LongshoreError, match="this plan was made with"):
            check_choice(saved, **{"environment": "", "app": "", "limit": "", **typed})
    with pytest.raises(LongshoreError, match="--build has no place"):
        check_choice(saved, environment="", app="", limit="", build=True)


def test_a_plan_that_cannot_be_written_is_a_sentence(case: Case, tmp_path: Path) -> None:
    with pytest.raises(LongshoreError, match="the plan can't be saved: No such file"):
        _saved(tmp_path / "missing" / "p", _plans(case, case.bundle()))


def test_a_bundles_id_is_its_content_and_nothing_else(case: Case) -> None:
    assert case.bundle().id == case.old.id
    assert case.bundle(host="h2").id == case.old.id
    assert case.bundle(keep=3).id != case.old.id


def test_what_hosts_have_in_common_is_read_once_and_what_differs_for_each(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = []
    real = release.read
    monkeypatch.setattr(release, "read", lambda *args: reads.append(args) or real(*args))
    models = Models()

    def level(bundle: Bundle, **env: str) -> str:
        found = of_bundle(bundle, models)
        model = replace(found, env={**found.env, **env}).model
        assert model is not None
        return str(model.services["web"]["environment"]["LEVEL"])

    same, other = case.bundle(), case.bundle(SHOP.replace("serve", "run"))
    assert [level(same), level(same), level(same, UNUSED="x")] == ["info"] * 3
    assert len(reads) == 1
    assert [level(same, LEVEL="debug"), level(same), level(other)] == ["debug", "info", "info"]
    assert len(reads) == 3


def test_that_a_plan_can_not_be_saved_is_said_before_a_host_is_asked(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check_place(str(tmp_path / "plan.json"))
    for path, says in (
        (tmp_path, "this is a folder"),
        (tmp_path / "missing" / "p", "there is no such folder"),
        (tmp_path / "file" / "p", "this is no folder"),
    ):
        with pytest.raises(LongshoreError, match=says):
            check_place(str(path))
