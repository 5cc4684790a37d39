"""The parts of practice hosts that decide something, without making any."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest
from tests.lab import __main__ as tests_of_lab

from longshore.lab import LabError, cgroups, content, machine, network, pip, registry, standins, state
from longshore.lab.backend import choose
from longshore.lab.commands import Process, run, wait_until
from longshore.lab.lab import Lab
from longshore.lab.place import Network, Place, host_index
from longshore.lab.state import HostState, LabState

V1 = """\
25 30 0:22 / /sys/fs/cgroup ro,nosuid shared:8 - tmpfs tmpfs ro,mode=755
26 25 0:23 / /sys/fs/cgroup/systemd rw shared:9 - cgroup cgroup rw,release_agent=/lib/agent,name=systemd
27 25 0:24 / /sys/fs/cgroup/cpu,cpuacct rw shared:10 - cgroup cgroup rw,cpu,cpuacct
28 25 0:25 / /sys/fs/cgroup/cpuset rw shared:11 - cgroup cgroup rw,cpuset,clone_children
29 25 0:26 / /sys/fs/cgroup/unified rw shared:12 - cgroup2 cgroup2 rw,nsdelegate
"""
V2 = "29 25 0:26 / /sys/fs/cgroup rw shared:12 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n"


def test_control_groups_of_version_1_are_mounted_again_by_their_controllers() -> None:
    found = cgroups.hierarchies(V1)
    assert [(str(one.path), one.options, one.v2) for one in found] == [
        ("/sys/fs/cgroup/systemd", "none,name=systemd", False),
        ("/sys/fs/cgroup/cpu,cpuacct", "cpu,cpuacct", False),
        ("/sys/fs/cgroup/cpuset", "cpuset", False),
    ]


def test_control_groups_of_version_2_are_one_tree() -> None:
    assert cgroups.hierarchies(V2) == [cgroups.Hierarchy(Path("/sys/fs/cgroup"), "", v2=True)]


def test_a_machine_without_control_groups_is_told_how_to_mount_them() -> None:
    with pytest.raises(LabError, match="mount -t cgroup2"):
        cgroups.hierarchies("22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n")


def test_a_process_with_the_same_id_and_another_start_is_not_killed() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        now = Process.of(child.pid)
        assert now is not None
        Process(child.pid, now.started - 1).kill(timeout=1)
        assert now.alive()
        child.kill()
        child.wait()
        assert not now.alive()


def test_a_zombie_counts_as_gone() -> None:
    with subprocess.Popen(["true"]) as child:
        end = time.monotonic() + 5
        while Process.of(child.pid) is not None and time.monotonic() < end:
            time.sleep(0.01)
        assert Process.of(child.pid) is None


def test_a_failing_program_is_a_sentence_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"'sh -c .*' failed \(3\): what went wrong"):
        run(["sh", "-c", "echo what went wrong >&2; exit 3"])
    with pytest.raises(LabError, match="'no-such-program' isn't installed"):
        run(["no-such-program"])
    with pytest.raises(LabError, match=r"'sleep' was not done after 0\.2 s"):
        run(["sleep", "5"], timeout=0.2)


@pytest.mark.parametrize("name", ["", "../x", "A", "a" * 21, "a b", "-a", "a\n"])
def test_a_name_that_could_be_a_path_is_refused(name: str) -> None:
    with pytest.raises(LabError, match="can't be the name of a lab"):
        Place.of(name)


def test_labs_live_where_the_environment_says() -> None:
    place = Place.of("x", {"LONGSHORE_LAB": "/srv/labs"})
    assert (place.cache, place.home) == (Path("/srv/labs/cache"), Path("/srv/labs/labs/x"))
    assert Place.of("x", {}).root == Path("/var/lib/longshore-lab")


def test_a_lab_of_the_same_name_in_another_folder_is_another_lab() -> None:
    groups = {Place("x", Path(root)).group for root in ("/var/lib/longshore-lab", "/srv/labs", "/tmp/labs")}
    assert len(groups) == 3
    assert "x" in groups


def test_hosts_have_fixed_addresses_by_their_number() -> None:
    net = Network(7)
    assert (net.bridge, net.gateway, net.registry) == ("longshore7", "10.78.7.1", "10.78.7.1:5000")
    assert (net.address(1), net.address(240)) == ("10.78.7.11", "10.78.7.250")
    assert len(Network(255).port(240)) <= 15
    assert len({net.mac(index) for index in range(1, 241)}) == 240


@pytest.mark.parametrize("name", ["h0", "h241", "web", "h1;x", "h01", "h"])
def test_a_name_that_is_no_practice_host_is_refused(name: str) -> None:
    with pytest.raises(LabError, match="can't be a practice host"):
        host_index(name)


def test_the_state_comes_back_as_it_was_written(tmp_path: Path) -> None:
    host = HostState("h1", "arm64", True, Process(12, 345), "10.78.0.11", 22)
    before = LabState("namespaces", 0, {"h1": host}, Process(9, 8))
    state.save(tmp_path / "lab.json", before)
    assert state.load(tmp_path / "lab.json") == before
    assert state.load(tmp_path / "none.json") == LabState()


@pytest.mark.parametrize(
    "text", ['{"backend"', "{}", "[]", '{"hosts": {"h1": {"process": null, "colour": 1}}}']
)
def test_a_damaged_state_is_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "lab.json").write_text(text)
    with pytest.raises(LabError, match=r"lab\.json is damaged\. Restart this machine"):
        state.load(tmp_path / "lab.json")


def test_commands_on_a_lab_that_is_not_up_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGSHORE_LAB", str(tmp_path))
    lab = Lab("none")
    assert lab.status() == []
    with pytest.raises(LabError, match=r"The lab 'none' isn't up\. Start it with 'invoke lab\.up'"):
        _ = lab.registry
    with pytest.raises(LabError, match=r"The lab 'none' isn't up\."):
        lab.ssh_argv("h9")


@pytest.mark.parametrize(
    ("count", "arch", "bare", "says"),
    [
        (0, {}, [], "A lab has 1 to 240 hosts, not 0"),
        (241, {}, [], "A lab has 1 to 240 hosts, not 241"),
        (2, {"h3": "arm64"}, [], "'h3' isn't one of the hosts h1 to h2"),
        (2, {}, ["web"], "'web' isn't one of the hosts h1 to h2"),
        (2, {"h1": "sparc"}, [], "'sparc' isn't an architecture of practice hosts"),
    ],
)
def test_a_lab_that_can_not_be_is_refused_before_anything_is_made(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    count: int,
    arch: dict[str, str],
    bare: list[str],
    says: str,
) -> None:
    monkeypatch.setenv("LONGSHORE_LAB", str(tmp_path))
    with pytest.raises(LabError, match=says):
        Lab("x").up(count, arch=arch, bare=bare)
    assert list(tmp_path.iterdir()) == []


def test_where_no_host_can_be_made_both_reasons_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("longshore.lab.namespaces.refusal", lambda: "you are not root")
    monkeypatch.setattr("longshore.lab.containers.refusal", lambda: "no Docker engine answers")
    with pytest.raises(LabError, match=r"you are not root.*no Docker engine answers"):
        choose({})
    with pytest.raises(LabError, match="LONGSHORE_LAB_BACKEND is 'vm'"):
        choose({"LONGSHORE_LAB_BACKEND": "vm"})
    with pytest.raises(LabError, match="'namespaces', and you are not root"):
        choose({"LONGSHORE_LAB_BACKEND": "namespaces"})
    monkeypatch.setattr("longshore.lab.containers.refusal", lambda: "")
    assert choose({}) == "containers"


def test_a_network_that_another_lab_has_is_not_given_again_where_interfaces_are_not_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setattr(network, "exists", lambda _: False)
    assert network.free_number(1, [1, None, 2]) == 3


def test_a_registry_is_found_by_its_content_when_nobody_took_note_of_it(tmp_path: Path) -> None:
    (tmp_path / "serve").write_text("import time; time.sleep(60)")
    command = [sys.executable, "serve", str(tmp_path / "config.yml")]
    with subprocess.Popen(command, cwd=tmp_path) as child:
        try:
            assert wait_until(
                lambda: [one.pid for one in registry.running(tmp_path)] == [child.pid], timeout=5
            )
            assert registry.running(tmp_path / "other") == []
        finally:
            child.kill()


def test_an_image_that_has_no_stand_in_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"no stand-in for 'nginx:1'.*postgres:15"):
        standins.known(["redis:7", "nginx:1"])


def test_the_mirror_is_debians_own_archive_not_another_source() -> None:
    targets = [
        "https://x/apt|other|main",
        "http://d/security/|Debian-Security|main",
        "http://d/debian/|Debian|main",
    ]
    assert machine.mirror_of(targets) == "http://d/debian/"
    assert machine.mirror_of(["http://u/ubuntu/|Ubuntu|main"]) is None


def test_the_last_lab_gives_the_machine_its_setting_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = tmp_path / "ip_forward"
    setting.write_text("0\n")
    monkeypatch.setattr(machine, "IP_FORWARD", setting)
    monkeypatch.setattr(machine, "RECORD", tmp_path / "run" / "machine.json")
    machine.claim("one")
    machine.claim("two")
    machine.claim("one")
    assert setting.read_text() == "1"
    machine.release("one")
    assert setting.read_text() == "1"
    machine.release("two")
    assert setting.read_text() == "0"
    assert not (tmp_path / "run").exists()
    machine.release("two")


def test_a_setting_that_was_on_stays_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setting = tmp_path / "ip_forward"
    setting.write_text("1\n")
    monkeypatch.setattr(machine, "IP_FORWARD", setting)
    monkeypatch.setattr(machine, "RECORD", tmp_path / "run" / "machine.json")
    machine.claim("one")
    machine.release("one")
    assert setting.read_text().strip() == "1"


def test_the_entry_for_arm64_programs_is_the_distributions_or_says_the_same(tmp_path: Path) -> None:
    none = tmp_path / "none"
    name, _, magic, mask, program, flags = (
        machine.binfmt_line("/usr/bin/qemu", none).strip().replace("::", ":")[1:].split(":")
    )
    assert (name, program, flags) == ("qemu-aarch64", "/usr/bin/qemu", "OCF")
    assert (
        magic.encode().decode("unicode_escape").encode("latin-1").hex()
        == "7f454c460201010000000000000000000200b700"
    )
    assert (
        mask.encode().decode("unicode_escape").encode("latin-1").hex()
        == "ffffffffffffff00fffffffffffffffffeffffff"
    )
    own = tmp_path / "own"
    own.write_text(":qemu-aarch64:M::m:k:/usr/libexec/q:OPF\n")
    assert machine.binfmt_line("/usr/bin/qemu", own) == own.read_text()
    own.write_text(":qemu-aarch64:M::m:k:/usr/libexec/q:OC\n")
    assert machine.binfmt_line("/usr/bin/qemu", own) != own.read_text()


def test_pip_settings_leave_out_folders_of_this_machine_and_passwords() -> None:
    listed = (
        ":env:.cert='/some/where.crt'\n"
        "global.index-url='https://user:word@index.example/simple'\n"
        "global.extra-index-url='file:///opt/simple https://more.example/simple'\n"
        "global.find-links='/opt/wheels'\n"
        ":env:.no-input='1'\n"
    )
    assert pip.translate(listed) == (
        "[global]\n"
        "cert = /etc/ssl/certs/ca-certificates.crt\n"
        "extra-index-url = https://more.example/simple\n"
        "index-url = https://index.example/simple\n"
    )


def test_an_unknown_stand_in_is_named_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"no stand-in for 'nginx:1'.*postgres:15"):
        standins.missing(tmp_path, ["nginx:1"], ["amd64"])


def test_a_stand_in_is_built_again_when_its_recipe_changed(tmp_path: Path) -> None:
    assert standins.missing(tmp_path, ["redis:7"], ["amd64"]) == {"redis:7": ["amd64"]}
    entry = {"recipe": standins._recipe("redis:7"), "platforms": {"amd64": "sha256:0"}}
    (tmp_path / "index.json").write_text(json.dumps({"redis:7": entry}))
    assert standins.missing(tmp_path, ["redis:7"], ["amd64"]) == {}
    assert standins.missing(tmp_path, ["redis:7"], ["amd64", "arm64"]) == {"redis:7": ["arm64"]}
    (tmp_path / "index.json").write_text(json.dumps({"redis:7": {**entry, "recipe": "old"}}))
    assert standins.missing(tmp_path, ["redis:7"], ["amd64"]) == {"redis:7": ["amd64"]}


def test_a_registry_gets_blobs_as_links_and_names_as_copies(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    blob = source / registry.STORAGE / "blobs/sha256/ab/abc/data"
    link = source / registry.STORAGE / "repositories/library/x/_manifests/tags/1/current/link"
    for file in (blob, link):
        file.parent.mkdir(parents=True)
        file.write_text(file.name)
    upload = source / registry.STORAGE / "repositories/library/x/_uploads/1/data"
    upload.parent.mkdir(parents=True)
    upload.write_text("half of a layer")
    assert registry.repositories(source) == ["library/x"]
    for _ in range(2):
        registry.copy_content(source, target, ["library/x", "library/none"])
    assert (target / blob.relative_to(source)).stat().st_ino == blob.stat().st_ino
    assert (target / link.relative_to(source)).stat().st_ino != link.stat().st_ino
    assert not (target / upload.relative_to(source)).parents[1].exists()


def test_what_is_built_is_shared_out_between_the_builders_by_what_it_begins_with() -> None:
    wanted = {image: ["amd64"] for image in standins.STAND_INS} | {"ubuntu:22.04": ["amd64"]}
    lanes = standins._lanes(wanted, 2)
    assert sorted(image for lane in lanes for image in lane) == sorted(wanted)
    for base in standins.BASES:
        begins = [
            [
                i
                for i in lane
                if i == base or (i in standins.STAND_INS and standins.STAND_INS[i].sources[0].base == base)
            ]
            for lane in lanes
        ]
        assert sum(bool(images) for images in begins) <= 1, base
    assert max(map(len, lanes)) - min(map(len, lanes)) <= 2
    assert standins._lanes(wanted, 1) == [wanted]
    assert len(standins._lanes({"redis:7": ["amd64"]}, 2)) == 1


def test_a_resolver_that_only_listens_on_the_machine_itself_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = tmp_path / "real"
    real.write_text("nameserver 192.0.2.53\n")
    monkeypatch.setattr(content, "SYSTEMD_RESOLVED", real)
    assert content.pick_resolver("nameserver 127.0.0.53\noptions edns0\n") == "nameserver 192.0.2.53\n"
    assert content.pick_resolver("nameserver 192.0.2.1\n") == "nameserver 192.0.2.1\n"


@pytest.fixture(scope="module")
def front() -> ModuleType:
    path = Path(standins.__file__).parent / "files" / "front.py"
    spec = importlib.util.spec_from_file_location("front", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["front"] = module
    spec.loader.exec_module(module)
    return module


def test_an_arm64_host_pulls_and_runs_arm64_unless_told_otherwise(front: ModuleType) -> None:
    pull = "/v1.45/images/create?fromImage=redis&tag=7"
    assert front.with_platform(pull) == pull + "&platform=linux%2Farm64"
    assert front.with_platform("/containers/create") == "/containers/create?platform=linux%2Farm64"
    asked = "/v1.45/containers/create?platform=linux%2Famd64&name=a+b"
    assert front.with_platform(asked) == asked
    for other in ("/v1.45/images/json", "/containers/create/x", "/v1.45/containers/x/start"):
        assert front.with_platform(other) == other


def test_an_arm64_host_says_what_it_is(front: ModuleType) -> None:
    version = {
        "Arch": "amd64",
        "Components": [{"Name": "Engine", "Details": {"Arch": "amd64"}}, {"Name": "runc"}],
    }
    said = json.loads(front.corrected(json.dumps(version).encode()))
    assert (said["Arch"], said["Components"][0]["Details"]["Arch"]) == ("arm64", "arm64")
    assert json.loads(front.corrected(b'{"Architecture": "x86_64", "NCPU": 2}')) == {
        "Architecture": "aarch64",
        "NCPU": 2,
    }
    assert front.unchunked(b"4\r\nWiki\r\n5;x=y\r\npedia\r\n0\r\n\r\n") == b"Wikipedia"


def test_a_request_is_the_only_one_on_its_connection_unless_it_is_a_stream(front: ModuleType) -> None:
    plain, about = front.request_head(
        b"GET /v1.45/info HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n"
    )
    assert plain == b"GET /v1.45/info HTTP/1.1\r\nConnection: close\r\nHost: x\r\n\r\n"
    assert about
    stream = b"POST /exec/1/start HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
    assert front.request_head(stream) == (stream, False)


def test_a_hosts_own_processes_are_one_group_beside_its_containers_where_cpu_is_shared_out(
    tmp_path: Path,
) -> None:
    for text in (V1, V2):
        trees = cgroups.hierarchies(text)
        groups = [tmp_path / str(len(trees)) / tree.path.name / "h1" for tree in trees]
        for group in groups:
            group.mkdir(parents=True)
        (where,) = [group for group in groups if len(groups) == 1 or "cpu" in group.parent.name.split(",")]
        assert cgroups.leaf(trees, groups) == where / "init/cgroup.procs"
        assert [group for group in groups if (group / "init").exists()] == [where]


def test_the_tests_on_practice_hosts_are_shared_out_whole_and_what_may_be_left_out_comes_last() -> None:
    files = sorted(tests_of_lab.TOOK)
    lanes = tests_of_lab.lanes(files)
    assert sorted(file for lane in lanes for file in lane) == files
    assert set(tests_of_lab.LAST) <= set(files)
    for lane in lanes:
        last = [file in tests_of_lab.LAST for file in lane]
        assert last == sorted(last)


def test_a_host_is_held_to_a_processor_with_all_that_its_engine_has_started(tmp_path: Path) -> None:
    v1 = [cgroups.Hierarchy(tmp_path / name, name, v2=False) for name in ("cpu", "cpuset")]
    v2 = [cgroups.Hierarchy(tmp_path / "unified", "", v2=True)]
    for tree in (*v1, *v2):
        for below in ("", "init", "docker", "docker/abc"):
            group = tree.path / cgroups.TOP / "try/h1" / below
            group.mkdir(parents=True)
            (group / "cpuset.cpus").write_text("0-1\n")
    for trees in (v1, v2):
        cgroups.pin("try", "h1", trees, 1)
    held = {
        str(one.parent.relative_to(tmp_path))
        for one in tmp_path.rglob("cpuset.cpus")
        if one.read_text() == "1\n"
    }
    top = f"{cgroups.TOP}/try/h1"
    assert held == {
        *(f"cpuset/{top}{below}" for below in ("", "/init", "/docker", "/docker/abc")),
        f"unified/{top}",
    }


def test_two_labs_on_a_new_machine_install_what_is_missing_one_after_the_other_and_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    (bin_folder / "apt-get").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(bin_folder))
    monkeypatch.setattr(machine, "_DPKG", tmp_path)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    under_way, installs = threading.Lock(), []

    def apt(argv: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert under_way.acquire(blocking=False), "another apt is under way"
        time.sleep(0.1)
        installs.append(argv)
        (bin_folder / "debootstrap").touch(mode=0o755)
        under_way.release()
        return subprocess.CompletedProcess(argv, 0, "", "")

    monkeypatch.setattr(machine, "run", apt)
    with ThreadPoolExecutor(2) as labs:
        wanted = {"debootstrap": "debootstrap"}
        for done in [labs.submit(machine.install, wanted, lambda _: None) for _ in range(2)]:
            done.result()
    assert len(installs) == 1 and installs[0][-1] == "debootstrap"
