"""A sample of the fault matrix, short enough for every run; ``bin/test faults`` runs all of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from tests.faults.app import PYTHON
from tests.faults.cases import CASES, SAMPLE
from tests.faults.ground import Ground
from tests.faults.run import run_case
from tests.lab.conftest import clean

from longshore.lab import Lab

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def ground(
    lab: Lab, stand_ins: Callable[..., None], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ground]:
    """Two hosts that serve a good release; fault after fault is done to them."""
    if lab.state.backend != "namespaces":
        pytest.skip("The hosts are looked at through namespaces of this machine.")
    stand_ins(PYTHON)
    clean(lab)
    made = Ground(lab, tmp_path_factory.mktemp("faults"), ("h1", "h2"))
    try:
        made.prepare()
        made.reset()
        yield made
    finally:
        made.end_runs()
        for host in made.hosts:
            made.disarm(host)
        clean(lab)


@pytest.mark.parametrize("name", SAMPLE)
def test_after_a_fault_every_host_serves_one_good_release_and_the_next_deploy_works(
    ground: Ground, name: str
) -> None:
    (case,) = (one for one in CASES if one.name == name)
    outcome = run_case(ground, case)
    assert outcome.wrong == (), outcome.said
