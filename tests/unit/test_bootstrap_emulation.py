"""QEMU on builders: what is lacking, which packages bring it, and who gets it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from longshore.bootstrap import BootstrapOptions, wish
from longshore.bootstrap.host import emulation
from longshore.bootstrap.host.emulation import choose, lacking
from longshore.bootstrap.host.say import Changes
from longshore.inventory.building import BuildPolicy, BuildSettings
from longshore.inventory.model import Environment, Group

ALL = ("linux/amd64", "linux/386", "linux/arm64", "linux/arm/v7", "linux/riscv64")


def _register(folder: Path, name: str, text: str = "enabled\ninterpreter /usr/bin/q\nflags: POCF\n") -> None:
    (folder / f"qemu-{name}").write_text(text)


def test_what_is_native_or_registered_for_containers_is_not_lacking(tmp_path: Path) -> None:
    others = ("linux/arm64", "linux/arm/v7", "linux/riscv64")
    assert lacking(ALL, folder=tmp_path, machine="x86_64", built=()) == others
    assert lacking(ALL, folder=tmp_path, machine="x86_64", built=["linux/arm64"]) == others[1:]
    assert lacking(ALL, folder=tmp_path, machine="aarch64", built=())[0] == "linux/amd64"
    _register(tmp_path, "aarch64")
    _register(tmp_path, "arm", "enabled\ninterpreter /usr/bin/q\nflags: OC\n")  # not seen in containers
    _register(tmp_path, "riscv64", "disabled\ninterpreter /usr/bin/q\nflags: F\n")
    assert lacking(ALL, folder=tmp_path, machine="x86_64", built=()) == others[1:]
    assert lacking(("linux/vax",), folder=tmp_path, machine="x86_64", built=()) == ("linux/vax",)


@pytest.mark.parametrize(
    ("offered", "systemd", "packages"),
    [
        (("qemu-user-static", "qemu-user-binfmt", "binfmt-support"), True, ("qemu-user-static",)),
        (("qemu-user-static", "binfmt-support"), False, ("qemu-user-static", "binfmt-support")),
        (("qemu-user-binfmt", "binfmt-support"), True, ("qemu-user-binfmt",)),
        (("binfmt-support",), False, ()),
    ],
)
def test_each_release_offers_it_under_a_name_of_its_own(
    offered: tuple[str, ...], systemd: bool, packages: tuple[str, ...]
) -> None:
    assert choose(dict.fromkeys(offered, "1"), systemd=systemd) == packages


class FakeApt:
    offers = ("qemu-user-static",)
    installed: list[str] = []  # noqa: RUF012 - a test's own

    def __init__(self, **_: Any) -> None: ...

    def update(self) -> None: ...

    def candidates(self, names: Any) -> dict[str, str]:
        return {name: "1" for name in names if name in self.offers}

    def install(self, packages: Any) -> None:
        self.installed += packages


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A Debian of x86_64 that runs no other programs yet. Gives the notes that are made."""
    notes: list[str] = []
    monkeypatch.setattr(emulation, "Apt", FakeApt)
    monkeypatch.setattr(FakeApt, "installed", [])
    monkeypatch.setattr(emulation, "need_known", lambda fields: None)
    monkeypatch.setattr(emulation, "need_space", lambda *folders: None)
    monkeypatch.setattr(emulation, "run", lambda argv: (1, ""))
    monkeypatch.setattr(emulation, "BROUGHT", tmp_path / "binfmt.d")
    monkeypatch.setattr(emulation, "KNOWN", tmp_path / "binfmts")
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/sbin/{name}")
    monkeypatch.setattr(emulation, "note", notes.append)
    monkeypatch.setattr(
        emulation, "lacking", lambda asked: lacking(asked, folder=tmp_path, machine="x86_64", built=())
    )
    return notes


def test_it_is_installed_where_it_is_lacking_and_only_said_in_a_check(
    host: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checked = Changes(check=True)
    emulation.bring(checked, ALL[:3], lock_timeout=1)
    assert checked.made == ["install qemu-user-static, to build for linux/arm64"] and not FakeApt.installed
    changes = Changes(check=False)
    emulation.bring(changes, ALL[:3], lock_timeout=1)
    assert FakeApt.installed == ["qemu-user-static"]
    assert "the kernel isn't told to run linux/arm64" in host[-1]  # nothing of a fake registers it
    _register(tmp_path, "aarch64")
    again = Changes(check=False)
    emulation.bring(again, ALL[:3], lock_timeout=1)
    assert not again.made


CONF = r":qemu-aarch64:M::\x7f\x45:\xff\x00:/usr/libexec/qemu-binfmt/aarch64-binfmt-P:OPF"


def _conf(tmp_path: Path) -> None:
    for name in ("binfmt.d", "binfmts"):
        (tmp_path / name).mkdir()
    (tmp_path / "binfmt.d" / "qemu-aarch64.conf").write_text(CONF + "\n")


def test_without_systemd_the_kernel_is_told_what_the_package_has_for_it(
    host: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _conf(tmp_path)
    ran: list[list[str]] = []

    def run(argv: list[str]) -> tuple[int, str]:
        if argv[0] != "update-binfmts":
            return 0, "installed"
        ran.append(argv)
        _register(tmp_path, "aarch64")
        return 0, ""

    monkeypatch.setattr(emulation, "run", run)
    told = ["have the kernel run programs of linux/arm64 with QEMU"]
    checked, changes, again = Changes(check=True), Changes(check=False), Changes(check=False)
    for one, made in ((checked, told), (changes, told), (again, [])):
        emulation.bring(one, ("linux/arm64",), lock_timeout=1)
        assert one.made == made
    assert [" ".join(one) for one in ran] == [
        "update-binfmts --package longshore --install qemu-aarch64 /usr/libexec/qemu-binfmt/aarch64-binfmt-P"
        r" --offset 0 --magic \x7f\x45 --mask \xff\x00 --fix-binary yes --preserve yes"
    ]
    assert host == []


def test_what_a_person_has_switched_off_stays_off(
    host: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _conf(tmp_path)
    (tmp_path / "binfmts" / "qemu-aarch64").write_text("")
    monkeypatch.setattr(emulation, "run", lambda argv: (0, "installed"))
    changes = Changes(check=False)
    emulation.bring(changes, ("linux/arm64",), lock_timeout=1)
    assert changes.made == [] and "the kernel isn't told to run linux/arm64" in host[-1]


def test_what_nobody_offers_is_a_note_and_no_failure(
    host: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeApt, "offers", ())
    changes = Changes(check=False)
    emulation.bring(changes, ("linux/arm64", "linux/vax"), lock_timeout=1)
    assert "QEMU runs nothing for linux/vax" in host[0] and "apt offers no qemu-user-static" in host[1]
    assert not changes.made


def test_only_builders_get_it_for_what_the_inventory_builds() -> None:
    policy = SimpleNamespace(build=BuildPolicy(platforms=("linux/riscv64",)))
    plain = SimpleNamespace(build=None)
    app = SimpleNamespace(defaults=plain, services={"api": policy})
    target: Any = SimpleNamespace(app=app, state_dir="/s", recover_at_boot=True)
    environment = Environment("try", Path(), {}, {"builders": Group("builders", ("b1",), ())}, {}, {}, {})
    environment = replace(
        environment, build=BuildSettings(platforms=("linux/arm64",)), targets={("a", "w"): target}
    )
    assert wish(environment, BootstrapOptions(), check=True, host="b1")["emulate"] == [
        "linux/arm64",
        "linux/riscv64",
    ]
    assert wish(environment, BootstrapOptions(), check=True, host="w")["emulate"] == []
