"""How a host is reached: the inventory, ``ansible_ssh_common_args`` and ssh_config, and what wins."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from longshore.errors import HostError
from longshore.inventory.model import SshSettings
from longshore.remote.route import Route, Routes, parse_arguments

CONFIG = """
Include {home}/.ssh/more/*.conf
Host web1
    HostName 10.0.0.1
    User deploy
    Port 2222
    IdentityFile {home}/.ssh/web
    IdentitiesOnly yes
    UserKnownHostsFile {home}/.ssh/kh1 {home}/.ssh/kh2
    HostKeyAlias web-alias
    ConnectTimeout 3
    ServerAliveInterval 7
    StrictHostKeyChecking accept-new
    Include {home}/.ssh/inside
    HashKnownHosts yes
Host web2
    ProxyJump bastion1,admin@bastion2:2200
Host bastion1
    HostName 192.0.2.1
    User jumper
    ProxyJump outer
Host bastion2
    HostName 192.0.2.2
    ProxyJump never-used
Host web3
    ProxyCommand nc -q0 %h %p %r %%
    HostName %h.example.org
Host loop
    ProxyJump loop
Match user special
    Port 2244
Host *.internal !db.internal
    User internal
Host *
    User fallback
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / ".ssh" / "more").mkdir(parents=True)
    (tmp_path / ".ssh" / "config").write_text(CONFIG.format(home=tmp_path))
    (tmp_path / ".ssh" / "more" / "a.conf").write_text("Host inc\n  Port 2299\n")
    (tmp_path / ".ssh" / "inside").write_text("Host web* !web1\n  Port 1\nHost web1 x\n  Compression yes\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("longshore.remote.ssh_config.SYSTEM_FILE", tmp_path / "none")
    return tmp_path


def find(address: str, **settings: Any) -> Route:
    return Routes().find(address, SshSettings(address=address, **settings))


def test_ssh_config_is_honoured(home: Path) -> None:
    route = find("web1")
    assert (route.hostname, route.user, route.port) == ("10.0.0.1", "deploy", 2222)
    assert route.identities == (home / ".ssh/web",)
    assert route.identities_only
    assert route.known_hosts == (home / ".ssh/kh1", home / ".ssh/kh2")
    assert route.key_name == "web-alias"
    assert (route.connect_timeout, route.keepalive) == (3, 7)
    assert route.accept_new


def test_the_inventory_wins_over_arguments_and_they_over_ssh_config(home: Path) -> None:
    route = find("web1", user="root", common_args="-l args -p 22 -o ConnectTimeout=9 -i ~/.ssh/a", port=2)
    assert (route.user, route.port, route.connect_timeout) == ("root", 2, 9)
    assert route.identities == (home / ".ssh/a", home / ".ssh/web")


def test_without_anything_it_is_openssh_defaults(home: Path) -> None:
    route = find("plain")
    assert (route.hostname, route.user, route.port, route.key_name) == ("plain", "fallback", 22, "plain")
    assert home / ".ssh/id_ed25519" in route.identities
    assert not route.accept_new
    assert route.known_hosts[0] == home / ".ssh/known_hosts"


def test_several_hops_come_in_order_and_only_the_first_hops_own_jump_counts(home: Path) -> None:
    hops = [(hop.hostname, hop.user, hop.port) for hop in find("web2").jumps]
    assert hops == [("outer", "fallback", 22), ("192.0.2.1", "jumper", 22), ("192.0.2.2", "admin", 2200)]
    assert all(hop.jumps == () for hop in find("web2").jumps)


def test_a_jump_of_the_arguments_wins_and_none_turns_it_off(home: Path) -> None:
    assert [hop.hostname for hop in find("web2", common_args="-J other").jumps] == ["other"]
    assert find("web2", common_args="-o ProxyJump=none").jumps == ()


def test_a_hop_that_jumps_through_itself_is_a_sentence(home: Path) -> None:
    with pytest.raises(HostError, match="hops"):
        find("loop")


def test_a_proxy_command_has_its_tokens_replaced(home: Path) -> None:
    assert find("web3", user="me").proxy_command == "nc -q0 web3.example.org 22 me %"


def test_an_include_ends_where_it_stands(home: Path) -> None:
    assert find("inc").port == 2299
    assert find("inc").user == "fallback"
    assert find("web2").port == 22
    assert find("web1").hash_known_hosts
    assert not find("web2").hash_known_hosts


def test_match_user_sees_the_inventorys_user(home: Path) -> None:
    assert find("any", user="special").port == 2244
    assert find("any").port == 22


def test_a_port_is_part_of_the_name_in_known_hosts(home: Path) -> None:
    assert find("plain", port=2022).key_name == "[plain]:2022"


def test_a_file_given_by_flag_is_the_only_one(home: Path, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("Host web1\n  Port 5\n")
    route = find("web1", common_args=f"-F {tmp_path}/other")
    assert (route.port, route.hostname) == (5, "web1")


def test_a_missing_file_given_by_flag_is_a_sentence(home: Path) -> None:
    with pytest.raises(HostError, match="nowhere"):
        find("web1", common_args="-F /nowhere/config")


@pytest.mark.parametrize(
    "text", ["-o NoSuchOption=1", "-R 80:x:80", "-x", "-w", "word", "-o", "-p", "'", "-o Port=", "-L1:a:1"]
)
def test_an_argument_we_do_not_know_is_a_sentence_and_not_dropped(text: str) -> None:
    with pytest.raises(HostError, match="ansible_ssh_common_args"):
        parse_arguments(text)


def test_arguments_in_all_spellings() -> None:
    options, _ = parse_arguments(
        "-oPort=1 -o 'User joe' -o ProxyCommand='nc %h %p' -o ControlMaster=auto -o ControlPersist=60s -4 -C"
    )
    assert options == {"port": "1", "user": "joe", "proxycommand": "nc %h %p", "addressfamily": "inet"}


def test_strict_host_key_checking_no_means_accept_new_and_no_more(home: Path) -> None:
    assert find("plain", common_args="-o StrictHostKeyChecking=no").accept_new
    assert not find("plain", common_args="-o StrictHostKeyChecking=ask").accept_new


@pytest.mark.parametrize("key", ["Port", "ConnectTimeout"])
def test_a_number_that_is_none_is_a_sentence(home: Path, key: str) -> None:
    with pytest.raises(HostError, match=f"{key} many"):
        find("plain", common_args=f"-o {key}=many")


def test_500_hosts_are_found_in_under_two_seconds(home: Path) -> None:
    import time

    routes, started = Routes(), time.monotonic()
    for number in range(500):
        routes.find(f"h{number}", SshSettings(address=f"10.0.{number // 250}.{number % 250}"))
    assert time.monotonic() - started < 2


@pytest.mark.skipif(not shutil.which("ssh"), reason="needs OpenSSH")
@pytest.mark.parametrize(
    "name", ["web1", "web9", "inc", "x", "a.internal", "db.internal", "plain", "bastion1"]
)
def test_openssh_reads_the_same_out_of_the_same_file(home: Path, name: str) -> None:
    said = subprocess.run(
        ["ssh", "-G", "-F", home / ".ssh/config", name], check=True, capture_output=True, text=True
    )
    theirs: dict[str, str] = {}
    for line in said.stdout.splitlines():
        key, _, value = line.partition(" ")
        theirs.setdefault(key, value)
    route = find(name)
    assert route.hostname == theirs["hostname"]
    assert route.user == theirs["user"]
    assert str(route.port) == theirs["port"]
    assert route.identities_only == (theirs["identitiesonly"] == "yes")
    if name == "web1":
        assert theirs["userknownhostsfile"].split() == [str(path) for path in route.known_hosts]
        assert theirs["hostkeyalias"] == route.key_name


@pytest.mark.usefixtures("nameless")
def test_a_user_without_a_name_is_told_that_the_inventory_has_to_give_one(home: Path) -> None:
    with pytest.raises(HostError, match=r"ssh_config can't be used .* your name, and user \d+ has none"):
        find("192.0.2.9")  # there is a Match in it
    (home / ".ssh/config").write_text("")
    with pytest.raises(HostError, match=r"nobody says as whom to log in: user \d+ has no name"):
        find("192.0.2.9")
    assert find("192.0.2.9", user="deploy").user == "deploy"
