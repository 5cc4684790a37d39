"""known_hosts files, read as OpenSSH reads them."""

from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path

import pytest

from longshore.remote.hostkeys import KnownHosts, append, entry_name, fingerprint, hash_name

A, B, C = b"key-a", b"key-b", b"key-c"


def line(names: str, blob: bytes, kind: str = "ssh-ed25519", marker: str = "") -> str:
    return f"{marker} {names} {kind} {base64.b64encode(blob).decode()} a comment\n".lstrip()


def known(tmp_path: Path, text: str, name: str, without_port: str = ""):  # type: ignore[no-untyped-def]
    path = tmp_path / "known_hosts"
    path.write_text(text)
    return KnownHosts().lookup([path], name, without_port=without_port)


@pytest.mark.parametrize(
    ("names", "name"),
    [
        ("web1", "web1"),
        ("web1", "WEB1"),
        ("db1,web1,10.0.0.1", "10.0.0.1"),
        ("*.example.org", "a.example.org"),
        ("web?", "web1"),
        ("[web1]:2222", "[web1]:2222"),
        ("[10.0.0.*]:2222", "[10.0.0.7]:2222"),
        pytest.param(hash_name("web1"), "web1", id="hashed"),
        pytest.param(hash_name("[web1]:2222"), "[web1]:2222", id="hashed, with a port"),
        ("fe80::1", "fe80::1"),
    ],
)
def test_a_name_finds_its_line(tmp_path: Path, names: str, name: str) -> None:
    assert known(tmp_path, line(names, A), name).judge("ssh-ed25519", A)[0] == "known"


@pytest.mark.parametrize(
    ("names", "name"),
    [
        ("web1", "web10"),
        ("web1", "[web1]:2222"),
        ("*.example.org,!bad.example.org", "bad.example.org"),
        pytest.param(hash_name("web1"), "web2", id="hashed"),
        ("|1|broken", "|1|broken"),
        ("[web1]:2222", "web1"),
    ],
)
def test_another_name_does_not(tmp_path: Path, names: str, name: str) -> None:
    assert known(tmp_path, line(names, A), name).judge("ssh-ed25519", A) == ("unknown", None)


def test_another_key_of_the_same_kind_is_a_changed_key_with_its_line(tmp_path: Path) -> None:
    verdict, entry = known(tmp_path, "# comment\n\n" + line("web1", A), "web1").judge("ssh-ed25519", B)
    assert verdict == "changed"
    assert entry is not None
    assert (entry.where.file, entry.where.line) == (str(tmp_path / "known_hosts"), 3)


def test_a_kind_that_is_not_known_beside_kinds_that_are_is_a_changed_key(tmp_path: Path) -> None:
    # The known kinds are asked for first: a server that has none of them has been replaced.
    assert known(tmp_path, line("web1", A, "ssh-rsa"), "web1").judge("ssh-ed25519", B)[0] == "changed"


def test_several_keys_of_one_kind_are_all_good(tmp_path: Path) -> None:
    found = known(tmp_path, line("web1", A) + line("web1", B), "web1")
    assert [found.judge("ssh-ed25519", key)[0] for key in (A, B, C)] == ["known", "known", "changed"]


def test_a_revoked_key_is_revoked_though_it_is_listed_as_good(tmp_path: Path) -> None:
    text = line("web1", A) + line("*", A, marker="@revoked")
    assert known(tmp_path, text, "web1").judge("ssh-ed25519", A)[0] == "revoked"


def test_a_certificate_authority_makes_no_key_known(tmp_path: Path) -> None:
    found = known(tmp_path, line("web1", A, marker="@cert-authority"), "web1")
    assert found.judge("ssh-ed25519", A)[0] == "unknown"
    assert len(found.authorities) == 1


def test_the_key_of_the_same_host_at_port_22_is_recognised_at_another_port(tmp_path: Path) -> None:
    found = known(tmp_path, line("web1", A), "[web1]:2222", without_port="web1")
    assert found.judge("ssh-ed25519", A)[0] == "known"


def test_a_different_key_at_another_port_is_unknown_and_not_changed(tmp_path: Path) -> None:
    found = known(tmp_path, line("web1", A), "[web1]:2222", without_port="web1")
    assert found.judge("ssh-ed25519", B)[0] == "unknown"


def test_known_kinds_come_in_the_files_order_to_be_asked_for_first(tmp_path: Path) -> None:
    text = line("web1", A, "ssh-rsa") + line("other", B) + line("web1", C, "ecdsa-sha2-nistp256")
    assert known(tmp_path, text, "web1").kinds == ("ssh-rsa", "ecdsa-sha2-nistp256")


def test_lines_that_make_no_sense_are_skipped(tmp_path: Path) -> None:
    text = "web1\nweb1 ssh-ed25519\nweb1 ssh-ed25519 !!!\n@what web1\n\xff\n" + line("web1", A)
    text += "web1 ssh-ed25519 é\n|1|é|é ssh-ed25519 AAAA\n"
    assert known(tmp_path, text, "web1").judge("ssh-ed25519", A)[0] == "known"


def test_a_line_ends_where_it_ends_for_openssh(tmp_path: Path) -> None:
    text = line("web1", A).replace("a comment", "a\u2028web1 ssh-ed25519 " + base64.b64encode(B).decode())
    assert known(tmp_path, text, "web1").judge("ssh-ed25519", B)[0] == "changed"


def test_a_missing_file_knows_nothing(tmp_path: Path) -> None:
    assert KnownHosts().lookup([tmp_path], "web1").judge("ssh-ed25519", A)[0] == "unknown"
    assert KnownHosts().lookup([tmp_path / "none"], "web1").judge("ssh-ed25519", A)[0] == "unknown"


def test_adding_keeps_what_is_there_and_ends_its_last_line(tmp_path: Path) -> None:
    path = tmp_path / "ssh" / "known_hosts"
    append(path, "web1", "ssh-ed25519", A)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    before = path.read_text().rstrip("\n")
    path.write_text(before)  # as an editor leaves it
    append(path, "[web2]:2222", "ssh-ed25519", B, hashed=True)
    lines = path.read_text().splitlines()
    assert lines[0] == before
    assert len(lines) == 2
    assert "web2" not in lines[1]


def test_a_key_that_was_added_is_known_at_once(tmp_path: Path) -> None:
    store, path = KnownHosts(), tmp_path / "known_hosts"
    assert store.lookup([path], "web1").judge("ssh-ed25519", A)[0] == "unknown"
    store.add(path, "web1", "ssh-ed25519", A)
    assert store.lookup([path], "web1").judge("ssh-ed25519", A)[0] == "known"


def test_names_at_other_ports_are_bracketed() -> None:
    assert entry_name("web1", 22) == "web1"
    assert entry_name("web1", 2222) == "[web1]:2222"


@pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="needs ssh-keygen")
@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_ssh_keygen_agrees_on_fingerprints_and_hashed_names(tmp_path: Path, kind: str) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", key], check=True)
    name, blob = key.with_suffix(".pub").read_text().split()[:2]
    data = base64.b64decode(blob)
    said = subprocess.run(
        ["ssh-keygen", "-l", "-f", key.with_suffix(".pub")], check=True, capture_output=True, text=True
    )
    assert fingerprint(data) in said.stdout.split()
    path = tmp_path / "known_hosts"
    append(path, "[web1]:2222", name, data, hashed=True)
    found = subprocess.run(["ssh-keygen", "-F", "[web1]:2222", "-f", path], capture_output=True, check=False)
    assert found.returncode == 0
    subprocess.run(["ssh-keygen", "-H", "-f", path], check=True, capture_output=True)
    assert KnownHosts().lookup([path], "[web1]:2222").judge(name, data)[0] == "known"
