"""A host that loses its power recovers by itself when it comes up, by a systemd unit: on a host of its own,
in which Debian's systemd is pid 1. By cron, as practice hosts are, the cases of tests/faults do it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.faults import observe
from tests.faults.app import PYTHON
from tests.faults.cases import CASES
from tests.faults.ground import Ground
from tests.faults.run import do_fault
from tests.lab.conftest import say

from longshore.agent import maintenance
from longshore.lab import Lab, LabError

pytestmark = pytest.mark.lab

INIT = """#!/bin/sh
mount --make-rshared /
# On a machine with control groups of version 1, systemd 257 wants to be told that this is meant.
exec env -i container=lab TERM=dumb \
    SYSTEMD_PROC_CMDLINE='systemd.unified_cgroup_hierarchy=0 SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1' \
    /lib/systemd/systemd
"""
INSTALL = """
export DEBIAN_FRONTEND=noninteractive
apt-get -q update >/dev/null
apt-get install -y -q --no-install-recommends systemd systemd-sysv dbus >/dev/null || exit 1
rm -f /usr/sbin/policy-rc.d
cat >/usr/local/lib/longshore-lab/init
"""
UNIT = "longshore-recover.service"


@pytest.fixture(scope="module")
def ground(lab_wanted: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """One host with systemd that serves a good release."""
    lab = Lab("recovery", say=say)
    made = Ground(lab, tmp_path_factory.mktemp("recovery"), ("h1",))
    try:
        lab.down()
        lab.up(1)
        if lab.state.backend != "namespaces":
            pytest.skip("A host's pid 1 can be another one only in namespaces.")
        lab.registry_up()
        lab.stand_in([PYTHON])
        lab.ssh("h1", ["sh", "-c", INSTALL], stdin=INIT)
        lab.stop("h1")
        lab.start("h1")
        made.prepare()
        made.reset()
        yield made
    except LabError as problem:
        pytest.fail(str(problem), pytrace=False)
    finally:
        made.end_runs()
        lab.down()


def test_the_first_deploy_sets_up_a_unit_that_systemd_takes(ground: Ground) -> None:
    assert ground.inside("h1", ["cat", "/proc/1/comm"]).strip() == "systemd"
    assert ground.inside("h1", ["systemd-analyze", "verify", f"/etc/systemd/system/{UNIT}"]).strip() == ""
    assert ground.inside("h1", ["systemctl", "is-enabled", UNIT]).strip() == "enabled"
    assert not (ground.disk("h1") / "etc/cron.d/longshore-recover").exists()


def test_a_switch_that_a_power_cut_ended_is_undone_when_systemd_brings_the_host_up(ground: Ground) -> None:
    before = observe.look_at(ground, "h1").version
    (found,) = (one for one in CASES if one.name == "power off everywhere: verifying")
    fault = do_fault(ground, replace(found, host="h1"))
    ground.end_runs()
    seen = fault.after["h1"]
    assert (fault.wrong, fault.code) == ((), 1), fault.said
    assert (seen.version, seen.current, seen.unfinished, seen.locked) == (before, before, False, False)
    said = ground.inside("h1", ["journalctl", "-b", "-u", UNIT, "-o", "cat", "--no-pager"])
    assert "shop: went back from" in said


def test_the_page_of_an_app_in_maintenance_is_served_again_when_the_host_comes_up(ground: Ground) -> None:
    place = {"port": 18123, "path": "/the-page"}
    (ground.state("h1") / maintenance.PAGE).write_text("<p>back soon</p>")
    (ground.state("h1") / "maintenance.json").write_text(json.dumps({"by": "ada", "at": 0, "page": place}))
    served = "until curl -s http://127.0.0.1:18123/the-page; do sleep 0.2; done"
    ended = f"until systemctl show -p ActiveState {UNIT} | grep -qw inactive; do sleep 0.2; done"
    try:
        ground.lab.stop("h1")
        ground.lab.start("h1")
        # Also when systemd sees that its unit has come to its end.
        told = ground.inside("h1", ["sh", "-c", f"{served}; {ended}; sleep 1; {served}"])
        assert told == "<p>back soon</p>" * 2
    finally:
        (ground.state("h1") / "maintenance.json").unlink()
