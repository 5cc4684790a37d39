"""Inventories as people have them, in ``inventories/``: each folder is a project with what to expect of it.

``expect.yml`` has hosts, groups, patterns, vars, ssh and warnings, or the problems that are told.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from longshore.errors import LongshoreError, Problems
from longshore.inventory import Environment, load, patterns

CORPUS = Path(__file__).parent / "inventories"
PROJECTS = sorted(path.name for path in CORPUS.iterdir() if path.is_dir())


def expectation(name: str) -> dict[str, Any]:
    return yaml.safe_load((CORPUS / name / "expect.yml").read_text())


GOOD = [name for name in PROJECTS if "problems" not in expectation(name)]
BAD = [name for name in PROJECTS if "problems" in expectation(name)]


@pytest.mark.parametrize("name", GOOD)
def test_an_inventory_means_what_it_means_to_ansible(name: str) -> None:
    environment = load(CORPUS / name, "prod")
    expected = expectation(name)
    if "hosts" in expected:
        assert list(environment.hosts) == expected["hosts"]
    for group, hosts in expected.get("groups", {}).items():
        assert list(environment.groups[group].hosts) == hosts
    for pattern, hosts in expected.get("patterns", {}).items():
        found = patterns.match(pattern, hosts=environment.hosts, groups=environment.groups)
        assert list(found) == hosts, pattern
    for host, variables in expected.get("vars", {}).items():
        seen = {variable: environment.hosts[host].vars[variable].value for variable in variables}
        assert seen == variables
    for host, settings in expected.get("ssh", {}).items():
        seen = {setting: getattr(environment.hosts[host].ssh, setting) for setting in settings}
        assert seen == settings
    assert list(environment.warnings) == expected.get("warnings", [])
    check_groups(environment)


def check_groups(environment: Environment) -> None:
    """What holds for every inventory: hosts and groups know each other, and all are in ``all``."""
    assert list(environment.groups["all"].hosts) == list(environment.hosts)
    for name, host in environment.hosts.items():
        assert "all" not in host.groups
        assert all(name in environment.groups[group].hosts for group in host.groups)


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_is_told_with_its_place(name: str) -> None:
    expected = expectation(name)
    with pytest.raises(LongshoreError) as raised:
        load(CORPUS / name, "prod")
    error = raised.value
    told = [str(problem) for problem in error.problems] if isinstance(error, Problems) else [str(error)]
    for sentence in expected["problems"]:
        assert any(sentence in problem for problem in told), "\n".join([sentence, "---", *told])
    assert len(told) == expected.get("count", len(expected["problems"])), "\n".join(told)
