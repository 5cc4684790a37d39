"""Going back takes the fleet to what it was, also where hosts have bundles of their own."""

from __future__ import annotations

from typing import Any

import pytest

from longshore.errors import LongshoreError
from longshore.rollout.rollback import releases_to_go_back_to


def _seen(**stacks: str) -> dict[str, dict[str, Any]]:
    """``h1="a@1 b@2"``: on h1 run 1 brought a, run 2 brought b (each a second later than the one before)."""
    seen = {}
    for host, text in stacks.items():
        words = (word.split("@") for word in text.split())
        steps = [{"release": name, "run": run, "at": float(run)} for name, run in words]
        names = [str(step["release"]) for step in steps]
        seen[host] = {"stack": steps, "releases": names, "current": names[-1] if names else None}
    return seen


def test_every_host_of_the_last_run_goes_back_to_what_it_had_before() -> None:
    assert releases_to_go_back_to("shop", _seen(h1="a@1 b@2", h2="c@1 d@2"), None) == {"h1": "a", "h2": "c"}


def test_a_host_that_the_last_run_left_alone_stays() -> None:
    seen = _seen(h1="a@1 b@2 e@3", h2="c@1 d@2")
    assert releases_to_go_back_to("shop", seen, None) == {"h1": "b", "h2": "d"}
    once_more = _seen(h1="a@1 b@2", h2="c@1 d@2")
    assert releases_to_go_back_to("shop", once_more, None) == {"h1": "a", "h2": "c"}


def test_a_first_release_has_nothing_before_it() -> None:
    with pytest.raises(LongshoreError, match="h1: shop has no release before a"):
        releases_to_go_back_to("shop", _seen(h1="a@1"), None)
    with pytest.raises(LongshoreError, match="no release to go back from"):
        releases_to_go_back_to("shop", _seen(h1=""), None)


def test_a_release_of_one_host_means_the_same_run_on_the_others() -> None:
    seen = _seen(h1="a@1 b@2 e@3", h2="c@1 d@2 f@3")
    assert releases_to_go_back_to("shop", seen, "a") == {"h1": "a", "h2": "c"}
    assert releases_to_go_back_to("shop", seen, "d") == {"h1": "b", "h2": "d"}


def test_a_host_that_had_nothing_to_do_in_that_run_goes_to_what_it_had_then() -> None:
    seen = _seen(h1="a@1 b@2 e@3", h2="c@1 f@3")
    assert releases_to_go_back_to("shop", seen, "b") == {"h1": "b", "h2": "c"}


def test_a_release_that_no_host_keeps_is_told_with_those_that_are() -> None:
    with pytest.raises(LongshoreError, match=r"h1: release x of shop is not kept here. There are: a, b\."):
        releases_to_go_back_to("shop", _seen(h1="a@1 b@2"), "x")
