"""The cases, as data: where a run is stopped, what is done to it there, and how the fleet may come out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from tests.faults import actions
from tests.faults.actions import Action

HOST = "h1"
OTHER = "h2"

End = Literal["old", "new", "either"]


@dataclass(frozen=True)
class Step:
    """A place in a deploy. ``agent``: the gate at which the host's agent stops; ``controller``: the
    controller's. ``what`` says where that is, exactly."""

    name: str
    what: str
    agent: str = ""
    controller: str = ""


STEPS = (
    Step("lock", "the host has given the lock, nothing is uploaded", agent="locked"),
    Step("staging", "the files are unpacked, the release's folder is not there yet", agent="staging"),
    Step("begun in the journal", "the journal's line is synced, Compose has not been started", agent="begun"),
    Step("switching", "Compose has said its first word of a container", agent="switching"),
    Step("verifying", "the new container was started, its health is not known", agent="verifying"),
    Step("smoke test", "every host is healthy, no smoke test was sent", controller="smoke"),
    Step("committing", "`committed.json` is written, `current` is the old release", agent="written"),
    Step("between commits", "one host has committed, the other has not", controller="between commits"),
    Step("unlocking", "every host has committed and is still locked", controller="before unlock"),
)
STEP = {step.name: step for step in STEPS} | {
    step.name: step
    for step in (
        Step("pulling", "the pull is about to begin", agent="pulling"),
        Step("journal", "nothing is begun, the journal's line is about to be written", agent="not begun"),
        Step("commit", "every host is healthy, `committed.json` is about to be written", agent="committing"),
        Step("smoke-tested", "the smoke tests were good, no commit was sent", controller="before commit"),
        Step("commit, current moved", "`current` is new, the journal has no end", agent="moved"),
        Step("migrating", "the migration has said its first word and takes 6 s more", agent="migrating"),
        Step("going back", "the old release runs again, the journal has no end", agent="ending: reverted"),
    )
}


@dataclass(frozen=True)
class Case:
    """One fault. Before it, every host serves a good release; a deploy of a new one is then typed.

    ``good``: nothing is wrong with the new release itself. ``end``: what the hosts may serve once the run, or
    its lease, is over. ``mixed``: they may differ until the next command. ``host``: to whom it is done.
    """

    name: str
    what: str
    do: Action = actions.nothing
    at: str = ""
    words: tuple[str, ...] = ("deploy",)
    variables: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    good: bool = True
    end: End = "either"
    mixed: bool = False
    host: str = HOST
    image: str = ""
    """One of our own images, which no host has; or ``pinned``, the one that hosts have, by its digest."""
    small_disk: bool = False
    before: Action = actions.nothing
    """Done before the deploy is typed."""
    code: int | None = None
    """The exit code that it must have, where that is one of the promises."""
    because: str = ""
    """What the command must have said: that it was this, and nothing else, which went wrong."""
    migrates: bool = False
    """The release has a migration, which is begun once and comes to its end."""
    broken_off: bool = False
    """The fault may end the migration's container."""
    next: str = "deploy"
    """What is typed first when all is over; then comes a deploy, which must do."""


def _says(action: Action) -> str:
    text = (action.__doc__ or "").strip().rstrip(".")
    return text.split(". ")[0].replace("\n    ", " ")


def at(
    step: str,
    title: str,
    do: Action,
    *,
    end: End = "either",
    mixed: bool = False,
    host: str = HOST,
    good: bool = True,
    variables: Mapping[str, str] | None = None,
) -> Case:
    """A fault at one step of a deploy, of a good release if nothing else is said."""
    what = f"{_says(do)}; {STEP[step].what}"
    return Case(
        f"{title}: {step}",
        what,
        do,
        at=step,
        words=("deploy",) if good else ("deploy", SOON),
        end=end,
        mixed=mixed,
        host=host,
        good=good,
        variables=variables or {},
    )


def _at_every_step() -> list[Case]:
    cases = []
    for title, do in (
        ("controller killed", actions.kill_controller),
        ("line cut", actions.cut),
        ("line cut and healed", actions.cut_briefly),
        ("power off", actions.power_off),
        ("dockerd restarted", actions.restart_engine),
        ("agent killed", actions.kill_agent),
    ):
        for step in STEPS:
            end: End = (
                "old" if STEPS.index(step) < STEP_OF_COMMIT and do is actions.kill_controller else "either"
            )
            # Nobody but the controller can bring the second host along when the first has committed.
            mixed = step.name == "between commits" and do in (
                actions.kill_controller,
                actions.cut,
                actions.power_off,
            )
            host = OTHER if step.name == "between commits" else HOST
            cases.append(at(step.name, title, do, end=end, mixed=mixed, host=host))
    return cases


STEP_OF_COMMIT = [step.name for step in STEPS].index("committing")
SICK = {"SICK": "always"}
SOON = "--set=longshore.apps.shop.health_timeout=5s"
"""A release that never gets healthy is given up early."""
OUT_OF_REACH: tuple[Action, ...] = (actions.cut, actions.cut_all, actions.power_off, actions.power_off_all)
"""What leaves a host where the controller can't ask it how it came out."""


def _controller() -> list[Case]:
    return [
        at("staging", "Ctrl-C", actions.ctrl_c, end="old"),
        at("verifying", "Ctrl-C", actions.ctrl_c, end="old"),
        at("between commits", "Ctrl-C", actions.ctrl_c),
        at("staging", "Ctrl-C twice", actions.ctrl_c_twice, end="old"),
        at("verifying", "Ctrl-C twice", actions.ctrl_c_twice, end="old"),
        at("between commits", "Ctrl-C twice", actions.ctrl_c_twice, mixed=True),
        at("verifying", "SIGTERM", actions.terminate_controller, end="old"),
        at("between commits", "SIGTERM", actions.terminate_controller, mixed=True),
        at("smoke test", "controller asleep", actions.suspend_controller, end="old"),
        at("between commits", "controller asleep", actions.suspend_controller, mixed=True),
        at("unlocking", "controller asleep", actions.suspend_controller, end="new"),
        at("smoke test", "controller asleep for a moment", actions.suspend_briefly, end="new"),
        at("smoke test", "all lines cut", actions.cut_all, end="old"),
        at("between commits", "all lines cut", actions.cut_all, mixed=True),
        at("verifying", "power off everywhere", actions.power_off_all, end="old"),
        replace(
            at("smoke test", "power off everywhere, with `keep`", actions.power_off_all, end="new"),
            words=("deploy", "--on-lost-controller", "keep"),
        ),
        replace(
            at("switching", "power off, with `keep`", actions.power_off, end="old"),
            words=("deploy", "--on-lost-controller", "keep"),
        ),
        at("between commits", "power off everywhere", actions.power_off_all, mixed=True),
        at("commit, current moved", "controller killed", actions.kill_controller),
        at("commit, current moved", "power off", actions.power_off),
        at("commit, current moved", "agent killed", actions.kill_agent),
        at("switching", "agent and guardian killed", actions.kill_agent_and_guardian),
        at("verifying", "agent and guardian killed", actions.kill_agent_and_guardian),
        at("between commits", "agent and guardian killed", actions.kill_agent_and_guardian, host=OTHER),
        at("verifying", "dockerd killed", actions.kill_engine),
        at("switching", "dockerd killed", actions.kill_engine),
    ]


APP = "--set=longshore.apps.shop"
_WORK = "echo begun >>/data/migrations; echo migrating; sleep 6; echo ended >>/data/migrations"
_MIGRATION = f"{APP}.migrate={{service: web, command: [sh, -c, '{_WORK}']}}"


def _migrating() -> list[Case]:
    """A migration must not be begun twice, and only what ends its container may break it off."""

    def case(title: str, do: Action, *, end: End = "old", broken_off: bool = False) -> Case:
        one = at("migrating", title, do, end=end)
        return replace(one, words=("deploy", _MIGRATION), migrates=True, broken_off=broken_off)

    return [
        case("controller killed", actions.kill_controller),
        case("line cut", actions.cut),
        case("line cut and healed", actions.cut_briefly, end="either"),
        case("power off", actions.power_off, broken_off=True),
        case("dockerd restarted", actions.restart_engine, end="either", broken_off=True),
        case("dockerd killed", actions.kill_engine, end="either", broken_off=True),
        case("agent killed", actions.kill_agent),
        case("agent and guardian killed", actions.kill_agent_and_guardian),
        case("Ctrl-C", actions.ctrl_c),
        case("Ctrl-C twice", actions.ctrl_c_twice),
    ]


def _going_back() -> list[Case]:
    """The new release is bad, and something goes wrong on the way back, too."""

    def case(title: str, do: Action) -> Case:
        return at("going back", title, do, end="old", good=False, variables=SICK)

    return [
        case("controller killed", actions.kill_controller),
        case("line cut", actions.cut),
        case("power off", actions.power_off),
        at(
            "verifying",
            "power off, of a bad release",
            actions.power_off,
            end="old",
            good=False,
            variables=SICK,
        ),
        at("verifying", "agent killed, of a bad release", actions.kill_agent, good=False, variables=SICK),
        case("dockerd restarted", actions.restart_engine),
        case("agent killed", actions.kill_agent),
        case("Ctrl-C", actions.ctrl_c),
    ]


def _releases() -> list[Case]:
    def bad(name: str, what: str, because: str, words: tuple[str, ...] = (), **variables: str) -> Case:
        return Case(
            f"release: {name}",
            what,
            words=("deploy", *words),
            variables=variables,
            good=False,
            end="old",
            because=because,
        )

    def hook(name: str, *, end: End, **variables: str) -> Case:
        return Case(
            f"hook fails: {name}",
            f"the role's hook {name} raises on every host"
            + (", after a release that never gets healthy" if variables else ""),
            environment={"FAIL_HOOK": name},
            variables=variables,
            good=not variables,
            end=end,
            because=f"the hook {name}",
        )

    no_check = f"{APP}.services.web.health={{none: true}}"
    migrate = f"{APP}.migrate={{service: web, command: [sh, -c, 'exit 3']}}"
    return [
        bad(
            "exits at once",
            "the new container exits with code 1",
            "exited with code 1",
            EXIT_AT_ONCE="always",
        ),
        bad(
            "exits at once, without a health check",
            "the same, in a service that has no health check: a crash loop",
            "exited with code 1",
            (no_check,),
            EXIT_AT_ONCE="always",
        ),
        bad(
            "exits after 5 s, not yet healthy",
            "the new container exits while its health check says starting",
            "exited with code 3",
            EXIT_AFTER="'5'",
            SICK="always",
        ),
        bad(
            "exits after 5 s, without a health check",
            "`stability: 8s`; a service without a health check",
            "exited with code 3",
            (no_check, f"{APP}.stability=8s"),
            EXIT_AFTER="'5'",
        ),
        bad(
            "exits after 5 s, healthy before",
            "`stability: 8s`; the health check says healthy in the first second",
            "exited with code 3",
            (f"{APP}.stability=8s",),
            EXIT_AFTER="'5'",
        ),
        bad(
            "never healthy",
            "`health_timeout: 5s`",
            "not healthy after 5 s",
            (SOON,),
            SICK="always",
        ),
        bad(
            "healthy on all but one host",
            "`health_timeout: 5s`; only h2 never gets healthy",
            "not healthy after 5 s",
            (SOON,),
            SICK="h2",
            HOST="'{{ inventory_hostname }}'",
        ),
        bad("fails only the smoke test", "healthy, but /smoke answers 500", "smoke test", SMOKE_BAD="always"),
        Case(
            "release: fails its migration",
            "the migration exits with code 3",
            words=("deploy", migrate),
            end="old",
            because="failed with code 3",
        ),
        bad(
            "an image that does not exist",
            "the registry has no such image",
            "there is no image",
            IMAGE="python:none",
        ),
        hook("before_stage", end="old"),
        hook("before_switch", end="old"),
        hook("after_switch", end="old"),
        hook("after_commit", end="new"),
        hook("on_failure", end="old", EXIT_AT_ONCE="always"),
        hook("on_rollback", end="old", EXIT_AT_ONCE="always"),
    ]


def _at_once() -> list[Case]:
    def two(name: str, do: Action, step: str = "") -> Case:
        what = _says(do) + (f"; {STEP[step].what}" if step else "")
        return Case(f"two at once: {name}", what, do, at=step)

    return [
        two("two deploys in the same second", actions.deploy_at_once),
        two("a deploy while one verifies", actions.second_deploy, "verifying"),
        two("a deploy that waits while one verifies", actions.second_deploy_waits, "verifying"),
        two("a deploy while one stages", actions.second_deploy, "staging"),
        two("deploy and rollback in the same second", actions.rollback_at_once),
        two("a rollback while one verifies", actions.second_rollback, "verifying"),
        two("a deploy right after the controller's death", actions.kill_and_deploy, "verifying"),
    ]


def _people() -> list[Case]:
    return [
        at("staging", "container stopped by hand", actions.stop_container),
        at("verifying", "container stopped by hand", actions.stop_container),
        at("verifying", "container removed by hand", actions.remove_container),
        at("smoke test", "container removed by hand", actions.remove_container, end="old"),
        at("smoke-tested", "container removed by hand", actions.remove_container, end="old"),
        at("smoke-tested", "container stopped by hand", actions.stop_container, end="old"),
    ]


def _clock() -> list[Case]:
    everywhere = actions.clock_back_everywhere
    return [
        Case(
            "clock: back an hour, then a deploy",
            "agents on both hosts read a clock that was set back an hour",
            before=everywhere,
            end="new",
        ),
        at("verifying", "clock: back an hour", everywhere, end="new"),
        Case(
            "clock: back an hour, then deploy and rollback",
            "agents on both hosts read a clock that was set back an hour",
            before=everywhere,
            end="new",
            next="rollback",
        ),
        at("smoke test", "clock: back an hour on one host", actions.clock_back, end="new"),
        Case(
            "clock: back an hour, a service without a health check",
            "the agents' clock, not the engine's, is set back before the deploy",
            before=everywhere,
            words=("deploy", "--set=longshore.apps.shop.services.web.health={none: true}"),
            end="new",
        ),
    ]


def _registry() -> list[Case]:
    down = actions.stop_registry
    return [
        Case(
            "registry down: a deploy of what no host has",
            "the new release has an image that no host has",
            before=down,
            image="new",
            end="old",
        ),
        Case(
            "registry down: a deploy of a tag that hosts have",
            "only .env differs; what the tag means now can't be asked, so nothing is begun",
            before=down,
            end="old",
            because="can't be pulled",
        ),
        Case(
            "registry down: a deploy of an image by its digest",
            "only .env differs, the compose file names the image by its digest",
            before=down,
            image="pinned",
            end="new",
            code=0,
        ),
        Case(
            "registry down: rollback",
            "a second release is deployed; then `invoke rollback` with the registry down",
            before=down,
            words=("rollback",),
            end="old",
            code=0,
        ),
        Case(
            "registry down: pulling",
            f"{_says(down)}; {STEP['pulling'].what}",
            down,
            at="pulling",
            image="new",
            end="old",
        ),
    ]


def _disk() -> list[Case]:
    fill = actions.fill_disk

    def full(step: str, *, end: End = "old", image: str = "", **variables: str) -> Case:
        return Case(
            f"disk full: {step}" + (", of a bad release" if variables else ""),
            f"{_says(fill)}; {STEP[step].what}",
            fill,
            at=step,
            words=("deploy", SOON) if variables else ("deploy",),
            end=end,
            image=image,
            variables=variables,
            good=not variables,
            small_disk=True,
        )

    return [
        Case("disk full: before", _says(fill), before=fill, small_disk=True, end="old"),
        full("staging"),
        full("pulling", image="big"),
        full("journal"),
        full("begun in the journal"),
        full("verifying", SICK="always"),
        full("commit", end="new"),  # there is room set aside
        full("committing", end="new"),
        full("commit, current moved", end="new"),
        full("going back", SICK="always"),
    ]


CASES: tuple[Case, ...] = (
    *_at_every_step(),
    *_controller(),
    *_migrating(),
    *_going_back(),
    *_releases(),
    *_at_once(),
    *_people(),
    *_clock(),
    *_registry(),
    *_disk(),
)
"""Every case; the names are unique, and are the first column of the table in docs/reliability.md."""

SAMPLE = (
    "controller killed: verifying",
    "controller killed: between commits",
    "agent killed: smoke test",
    "power off, of a bad release: verifying",
    "release: healthy on all but one host",
    "two at once: deploy and rollback in the same second",
    "container removed by hand: verifying",
    "controller asleep: smoke test",
)
"""What is short enough for every run of the tests."""
