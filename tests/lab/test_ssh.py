"""SSH as the person has set it up: an inventory of nothing but names, and the commands that a user types.

``~/.ssh/config``, keys, agents, certificates and known_hosts files are OpenSSH's own, made with its tools.
"""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from project import Done, Project
from reach import add, make_key

from longshore.lab import Lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]

PORT = 2244
SSHD = """
set -e
rm -rf "$0"; mkdir -p "$0"; cd "$0"
printf 'Port %s\nPidFile %s/pid\nHostKey %s/key\n' PORT "$0" "$0" >config
tar -xf -
cat more >>config
chmod 600 key
/usr/sbin/sshd -f "$0/config"
"""


class Shop(Project):
    """A project whose hosts only ``~/.ssh/config`` knows; ``home`` is the person's."""

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def ssh(self) -> Path:
        return self.home / ".ssh"

    def names(self, *names: str) -> None:
        """Write the inventory."""
        self.write("compose.yml", "services: {web: {image: 'web:1'}}\n")
        hosts = ", ".join(f"{name}: " for name in names)
        self.write(
            "inventory/try.yml",
            "all:\n  vars: {longshore: {apps: {ways: {compose: compose.yml}}}}\n  hosts: {" + hosts + "}\n",
        )

    def config(self, text: str, name: str = "config") -> None:
        """Write a file of ``~/.ssh``."""
        path = self.ssh / name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.write_text(text)

    def key_of(self, address: str) -> str:
        """A host's key as the lab has recorded it: type and key."""
        lines = Path(self.lab.known_hosts).read_text().splitlines()
        return " ".join(next(line for line in lines if line.startswith(address + " ")).split()[1:3])

    def typed(self, *words: str, **env: str) -> Done:
        """Run a command as a person with this home, and no ssh-agent but a given one."""
        return self.run(*words, env={"HOME": str(self.home), "SSH_AUTH_SOCK": "", **env})

    def reached(self, *words: str, **env: str) -> tuple[list[str], str]:
        """The hosts that answered ``ps`` (that nothing is deployed there), and all that it said."""
        done = self.typed("ps", "--env", "try", "--json", *words, **env)
        assert done.code == 1, done.all
        return answered(done.json()), done.all


def answered(lines: list[dict[str, Any]]) -> list[str]:
    """The hosts whose agent had a say."""
    return sorted(line["where"] for line in lines if line.get("code") == "no-release")


@pytest.fixture
def shop(lab: Lab, tmp_path: Path) -> Shop:
    made = Shop(tmp_path / "project", lab)
    made.root.mkdir()
    return made


def sign(authority: Path, key: Path, *words: str) -> None:
    """Make ``key-cert.pub``."""
    subprocess.run(["ssh-keygen", "-q", "-s", authority, "-I", "test", *words, f"{key}.pub"], check=True)


class Sshd:
    """A second sshd on a practice host, at port 2244, with a key (and certificate) of the test's."""

    def __init__(
        self, lab: Lab, host: str, key: Path, *, more: str = "", files: tuple[Path, ...] = ()
    ) -> None:
        self._lab, self._host = lab, host
        self._folder = f"/root/sshd-{os.getpid()}"
        given = key.parent / "given"
        shutil.rmtree(given, ignore_errors=True)
        given.mkdir()
        for path in files:
            shutil.copy(path, given / path.name)
        shutil.copy(key, given / "key")
        (given / "more").write_text(more.replace("HERE", self._folder))
        packed = subprocess.run(["tar", "-C", given, "-c", "."], capture_output=True, check=True).stdout
        done = subprocess.run(
            lab.ssh_argv(host, ["bash", "-c", SSHD.replace("PORT", str(PORT)), self._folder]),
            input=packed,
            capture_output=True,
            timeout=30,
        )
        assert done.returncode == 0, done.stderr

    def __enter__(self) -> Sshd:
        return self

    def __exit__(self, *_: object) -> None:
        self._lab.ssh(self._host, ["sh", "-c", 'kill "$(cat "$0/pid")"; rm -rf "$0"', self._folder])


def test_ssh_config_says_everything_about_the_ways_to_hosts(lab: Lab, shop: Shop) -> None:
    first, second, third = lab.addresses.values()
    shop.names("plain", "matched", "deep", "piped")
    key = make_key(shop.root / "host")
    # Behind two hops, at an address that is another machine's from here; only its alias is known.
    shop.config(
        f"Host deep\n  HostName 127.0.0.1\n  Port {PORT}\n  ProxyJump bastion,{second}\n", "conf.d/deep"
    )
    shop.config(
        f"""
Include conf.d/*
Host bastion plain
  HostName {first}
Match originalhost matched
  HostName {second}
Host piped
  HostName 127.0.0.1
  HostKeyAlias {first}
  ProxyCommand ssh -i {lab.key} -o UserKnownHostsFile={lab.known_hosts} -W %h:%p root@{first}
Host deep
  HostKeyAlias deep.example.org
Match host {first},{second},{third},127.0.0.1
  User root
Host *
  User nobody
  IdentityFile {lab.key}
  UserKnownHostsFile ~/.ssh/known_%r ~/.ssh/known_more
"""
    )
    shop.config("".join(f"{one} {shop.key_of(one)}\n" for one in (first, second)), "known_root")
    shop.config(f"deep.example.org {(shop.root / 'host.pub').read_text()}", "known_more")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", shop.ssh / "known_root"], check=True, capture_output=True)
    assert first not in (shop.ssh / "known_root").read_text()
    authorized = f"AuthorizedKeysFile /root/.ssh/authorized_keys\nListenAddress 127.0.0.1:{PORT}\n"
    with Sshd(lab, list(lab.addresses)[1], key, more=authorized):
        names, said = shop.reached()
        assert names == ["deep", "matched", "piped", "plain"], said


def test_certificates_of_hosts_and_people_are_checked_as_openssh_does(
    lab: Lab, shop: Shop, agent: str
) -> None:
    address = next(iter(lab.addresses.values()))
    folder = shop.root
    people, hosts, _ = (make_key(folder / name) for name in ("people", "hosts", "other"))
    mine, host = make_key(folder / "mine"), make_key(folder / "host")
    shop.names("web")
    settings = f"""
Host web
  HostName {address}
  Port {PORT}
  User root
  UserKnownHostsFile ~/.ssh/known
  GlobalKnownHostsFile none
  IdentityFile {mine}
"""
    shop.config(settings)
    trusted = f"@cert-authority {address[:-1]}* {(folder / 'hosts.pub').read_text()}"
    more = "HostCertificate HERE/host-cert.pub\nTrustedUserCAKeys HERE/people.pub\nAuthorizedKeysFile none\n"

    def serving(*words: str) -> Sshd:
        sign(hosts, host, "-h", *words)
        return Sshd(lab, "h1", host, more=more, files=(folder / "host-cert.pub", folder / "people.pub"))

    with serving("-n", f"web.example.org,{address}", "-V", "-1d:+1d"):
        shop.config(trusted, "known")
        names, said = shop.reached()
        assert not names and f"{mine}: refused" in said
        sign(people, mine, "-n", "root", "-V", "-1d:+1d")
        assert shop.reached()[0] == ["web"]
        assert "web: known" in shop.typed("trust", "--env", "try").out

        # From an agent alone, which holds key and certificate.
        add(agent, mine)
        shop.config(settings.replace(str(mine), "none-such"))
        assert shop.reached(SSH_AUTH_SOCK=agent)[0] == ["web"]
        shop.config(settings)

        sign(people, mine, "-n", "root", "-V", "-2d:-1d")
        assert "doesn't let root in" in shop.reached()[1]
        sign(people, mine, "-n", "root")

        # An authority that is another one, revoked, or for other hosts.
        shop.config(f"@cert-authority * {(folder / 'other.pub').read_text()}", "known")
        assert "its authority" in (said := shop.reached()[1]) and "is another one" in said
        shop.config(trusted + f"@revoked * {(folder / 'hosts.pub').read_text()}", "known")
        assert f"{shop.ssh}/known:2 calls revoked" in shop.reached("--accept-new")[1]
        shop.config(trusted.replace(address[:-1], "10.1.1."), "known")
        assert "is not known" in (said := shop.reached()[1]) and "authority" not in said
        # Its key by itself does, too.
        key = " ".join((folder / "host.pub").read_text().split()[:2])
        shop.config(trusted.replace(address[:-1], "10.1.1.") + f"[{address}]:{PORT} {key}\n", "known")
        assert shop.reached()[0] == ["web"]

    shop.config(trusted, "known")
    for words, why in (
        (("-n", "db.example.org"), "it is for db.example.org"),
        (("-n", address, "-V", "-2d:-1d"), "it is valid from"),
    ):
        with serving(*words):
            assert why in shop.reached()[1]


def test_a_changed_or_revoked_key_stops_that_host_and_no_other(lab: Lab, shop: Shop) -> None:
    first, second, third = lab.addresses.values()
    shop.names("one", "two", "three")
    shop.config(
        f"Host one\n  HostName {first}\nHost two\n  HostName {second}\nHost three\n  HostName {third}\n"
        f"Host *\n  User root\n  IdentityFile {lab.key}\n"
    )
    known = f"{first} {shop.key_of(first)}\n{second} {shop.key_of(first)}\n"
    shop.config(known + f"@revoked * {shop.key_of(third)}\n", "known_hosts")
    for more in ((), ("--accept-new",)):
        names, said = shop.reached(*more)
        assert names == ["one"]
        assert "the host key has changed" in said and f"{shop.ssh}/known_hosts:2" in said
        assert f"{shop.ssh}/known_hosts:3 calls revoked" in said
    assert (shop.ssh / "known_hosts").read_text().startswith(known)
    plan = shop.typed("plan", "--env", "try")
    assert plan.code == 1 and "nothing was changed on any host: 2 of 3 can't be used" in plan.err


def test_accept_new_says_what_it_records_and_the_next_run_needs_it_no_more(lab: Lab, shop: Shop) -> None:
    address = next(iter(lab.addresses.values()))
    shop.names("one")
    shop.config(f"Host one\n  HostName {address}\nUser root\nIdentityFile {lab.key}\nHashKnownHosts no\n")
    assert "is not known" in shop.reached()[1]
    names, said = shop.reached("--accept-new")
    assert names == ["one"]
    assert f"is new, and recorded in {shop.ssh}/known_hosts" in said
    assert (shop.ssh / "known_hosts").read_text() == f"{address} {shop.key_of(address)}\n"
    assert shop.reached()[0] == ["one"]


def test_a_passphrase_is_asked_for_once_for_all_hosts_that_a_command_reaches(lab: Lab, shop: Shop) -> None:
    shop.names("one", "two", "three")
    key = shop.root / "key"
    shutil.copy(lab.key, key)
    key.chmod(0o600)
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "open sesame", "-f", key], check=True)
    hosts = zip(("one", "two", "three"), lab.addresses.values(), strict=True)
    shop.config(
        "".join(f"Host {name}\n  HostName {address}\n" for name, address in hosts)
        + f"Host *\n  User root\n  IdentityFile {key}\n  UserKnownHostsFile {lab.known_hosts}\n"
    )
    # Without a terminal it says so, and doesn't wait.
    assert "no terminal to ask on" in shop.reached()[1]
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(shop.root)
        os.environ.update(HOME=str(shop.home), SSH_AUTH_SOCK="")
        code = "from longshore.tasks import main; main()"
        os.execv(sys.executable, [sys.executable, "-c", code, "ps", "--env", "try", "--json"])
    said = b""
    try:
        while chunk := os.read(terminal, 4096):
            said += chunk
            if said.endswith(b": ") and said.count(b"passphrase of") == 1:
                os.write(terminal, b"open sesame\n")
    except OSError:  # the end of a terminal
        pass
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 1, said
    assert said.count(b"passphrase of") == 1
    assert b"sesame" not in said
    lines = [json.loads(line) for line in said.splitlines() if line.startswith(b"{")]
    assert answered(lines) == ["one", "three", "two"]
