"""The user that bootstrap makes: its name, its keys, and the folder that changes hands."""

from __future__ import annotations

import base64
import fcntl
import grp
import json
import os
import pwd
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longshore.bootstrap import user_name
from longshore.bootstrap.host import folder, keys, say, user
from longshore.bootstrap.host.say import Changes, Refusal
from longshore.errors import LongshoreError

ME = os.geteuid()
root_only = pytest.mark.skipif(ME != 0, reason="only root can give files away")


def blob(kind: str, text: str) -> str:
    return base64.b64encode(len(kind).to_bytes(4, "big") + kind.encode() + text.encode()).decode()


def line(text: str, *, kind: str = "ssh-ed25519", options: str = "", comment: str = "a@b") -> str:
    return " ".join(part for part in (options, kind, blob(kind, text), comment) if part)


A, B, C = line("a"), line("b", kind="ecdsa-sha2-nistp256"), line("c", comment="")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    lines: list[tuple[str, str]] = []
    monkeypatch.setattr(say, "emit", lambda kind, **facts: lines.append((kind, str(facts.get("text")))))
    return lines


def entry(name: str = "deployer", uid: int = 1234, home: str = "/home/x", shell: str = "/bin/bash") -> Any:
    return pwd.struct_passwd((name, "*", uid, uid, "", home, shell))


# Its name


@pytest.mark.parametrize("name", ["deployer", "_apps", "web-1", "a" * 32])
def test_a_good_name_is_taken(name: str) -> None:
    assert user_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "Deployer", "1st", "-rf", "a b", "a:b", "x/y", "a" * 33, "a\n", "ä", "a;id", "a$"]
)
def test_a_bad_name_is_a_sentence_that_says_what_a_good_one_is(name: str) -> None:
    with pytest.raises(LongshoreError, match=r"^--user: .* can't be the name of a user\. Up to 32 of a-z"):
        user_name(name)


@pytest.mark.parametrize("name", ["root", "docker", "nobody"])
def test_root_and_names_that_mean_something_else_are_refused(name: str) -> None:
    with pytest.raises(LongshoreError, match=f"--user: {name} isn't a user to deploy as"):
        user_name(name)


def test_a_user_without_a_shell_or_with_roots_id_is_refused() -> None:
    with pytest.raises(Refusal, match="root by another name"):
        user.refuse_unfit(entry("toor", uid=0))
    with pytest.raises(Refusal, match="/usr/sbin/nologin"):
        user.refuse_unfit(entry("www-data", shell="/usr/sbin/nologin"))
    user.refuse_unfit(entry())


# Its keys


def test_keys_are_read_with_and_without_options_and_all_else_is_skipped() -> None:
    restricted = line("d", options='from="10.0.0.0/8,*.x y",no-pty')
    text = "\n".join(
        ["# a comment", "", A, f"  {B}  ", restricted, "ssh-ed25519 !!!!", "ssh-rsa " + blob("ssh-dss", "x")]
    )
    found = keys.parse(text)
    assert [key.line for key in found] == [A, B, restricted]
    assert found[2].options == 'from="10.0.0.0/8,*.x y",no-pty'
    assert not any(key.forced for key in found)


def test_a_comment_brings_no_key_along() -> None:
    assert [key.line for key in keys.parse(f"{A} me\u2028{B}\x0b{B}\n")] == [f"{A} me\u2028{B}\x0b{B}"]


def test_a_key_is_known_by_itself_whatever_its_options_and_comment() -> None:
    there = keys.parse(line("a", options='from="10.0.0.1"', comment="other"))
    assert [key.line for key in keys.lacking(keys.parse(f"{A}\n{B}\n{B}\n"), there)] == [B]


def test_a_key_that_may_run_one_command_only_lets_nobody_in() -> None:
    offered = keys.parse(line("a", options='no-pty,command="/usr/bin/backup \\"all\\"",restrict') + "\n" + B)
    assert [key.forced for key in offered] == [True, False]
    assert [key.line for key in keys.lacking(offered, [])] == [B]


@given(st.lists(st.sampled_from([A, B, C, "# said", "garbage"]), max_size=6), st.booleans())
def test_no_line_is_lost_and_a_second_time_adds_nothing(lines: list[str], ended: bool) -> None:
    text = "\n".join(lines) + ("\n" if ended and lines else "")
    wanted = keys.parse(f"{A}\n{C}\n")
    grown = keys.with_keys(text, keys.lacking(wanted, keys.parse(text)))
    assert grown.startswith(text)
    assert grown.splitlines()[: len(lines)] == lines
    assert {key.ident for key in wanted} <= {key.ident for key in keys.parse(grown)}
    assert keys.lacking(wanted, keys.parse(grown)) == []


def test_keys_are_put_with_the_modes_that_sshd_wants_and_stay_so(tmp_path: Path) -> None:
    tmp_path.chmod(0o775)
    file = tmp_path / ".ssh" / "authorized_keys"
    assert keys.look(str(tmp_path), ME) == keys.Place(None, (str(tmp_path),))
    keys.put(str(tmp_path), ME, os.getegid(), keys.parse(A))
    assert file.read_text() == f"{A}\n"
    assert keys.look(str(tmp_path), ME) == keys.Place(f"{A}\n", ())

    file.chmod(0o666)
    file.parent.chmod(0o755)
    assert keys.look(str(tmp_path), ME).wrong == (str(file.parent), str(file))
    keys.put(str(tmp_path), ME, os.getegid(), keys.parse(B))
    assert file.read_text() == f"{A}\n{B}\n"
    assert keys.look(str(tmp_path), ME).wrong == ()
    assert [path.name for path in file.parent.iterdir()] == ["authorized_keys"]


def test_nothing_is_written_through_a_link_in_a_persons_home(tmp_path: Path) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    for path in (home, elsewhere):
        path.mkdir(mode=0o700)
    (elsewhere / "authorized_keys").write_text("root's\n")
    (home / ".ssh").symlink_to(elsewhere)
    with pytest.raises(Refusal, match="no folder of its own"):
        keys.put(str(home), ME, os.getegid(), keys.parse(A))
    (home / ".ssh").unlink()
    (home / ".ssh").mkdir(mode=0o700)
    (home / ".ssh/authorized_keys").symlink_to(elsewhere / "authorized_keys")
    with pytest.raises(Refusal, match="is a link"):
        keys.put(str(home), ME, os.getegid(), keys.parse(A))
    assert (elsewhere / "authorized_keys").read_text() == "root's\n"


def test_a_home_that_is_missing_or_anothers_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="isn't there"):
        keys.look(str(tmp_path / "none"), ME)
    if ME == 0:
        os.chown(tmp_path, 4321, 4321)
        with pytest.raises(Refusal, match="belongs to another user"):
            keys.look(str(tmp_path), 1234)


# Who is made


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., list[Any]]:
    """A host that has ``users`` and ``groups``; returns the commands that are run on it."""

    def made(users: list[Any], groups: dict[str, list[str]], came: str) -> list[Any]:
        def group(name: str) -> Any:
            return grp.struct_group((name, "x", 999, groups[name]))

        def run(argv: list[str]) -> tuple[int, str]:
            commands.append(argv)
            return 0, ""

        commands: list[Any] = []
        monkeypatch.setattr(user, "find", {one.pw_name: one for one in users}.get)
        monkeypatch.setattr(user, "came_as", lambda: next(one for one in users if one.pw_name == came))
        monkeypatch.setattr(grp, "getgrnam", group)
        monkeypatch.setattr(user, "run", run)
        return commands

    return made


def login(tmp_path: Path, text: str | None) -> Any:
    (tmp_path / ".ssh").mkdir(mode=0o700)
    if text is not None:
        (tmp_path / ".ssh/authorized_keys").write_text(text)
    return entry("admin", uid=1000, home=str(tmp_path))


def test_a_check_tells_the_user_its_keys_and_its_group_and_makes_none(
    host: Callable[..., list[Any]], tmp_path: Path, told: list[tuple[str, str]]
) -> None:
    commands = host([login(tmp_path, f"{A}\n{B}\n")], {}, "admin")
    changes = Changes(check=True)
    user.bring(changes, "deployer")
    user.join_docker(changes, "deployer")
    assert [text.split(" (")[0] for text in changes.made] == [
        "make the user deployer",
        "let 2 keys of admin in as deployer",
        "add deployer to the group docker",
    ]
    assert commands == []


@pytest.mark.parametrize("text", [None, "", "# no key\n"])
def test_a_host_without_keys_to_copy_is_said(
    host: Callable[..., list[Any]], tmp_path: Path, told: list[tuple[str, str]], text: str | None
) -> None:
    host([login(tmp_path, text)], {}, "admin")
    user.bring(Changes(check=True), "deployer")
    (note,) = [said for kind, said in told if kind == "note"]
    assert note.startswith("nobody can log in as deployer")
    assert str(tmp_path / ".ssh/authorized_keys") in note


def test_a_user_does_not_get_a_group_that_means_more(host: Callable[..., list[Any]], tmp_path: Path) -> None:
    host([login(tmp_path, A)], {"sudo": []}, "admin")
    with pytest.raises(Refusal, match="there is a group sudo"):
        user.bring(Changes(check=False), "sudo")


def test_a_user_who_is_in_and_in_the_group_leaves_nothing_to_do(
    host: Callable[..., list[Any]], tmp_path: Path, told: list[tuple[str, str]]
) -> None:
    (tmp_path / "home").mkdir(mode=0o755)
    keys.put(str(tmp_path / "home"), ME, os.getegid(), keys.parse(f"{B}\n{A}"))
    there = entry(uid=ME or 1, home=str(tmp_path / "home"))
    if ME == 0:
        for path in (tmp_path / "home", *(tmp_path / "home").rglob("*")):
            os.chown(path, 1, 1)
    commands = host([login(tmp_path, f"{A}\n"), there], {"docker": ["deployer"]}, "admin")
    changes = Changes(check=False)
    user.bring(changes, "deployer")
    user.join_docker(changes, "deployer")
    assert (changes.made, commands, told) == ([], [], [])


# Its folder


def _lay(tmp_path: Path) -> Path:
    """A state folder as a root's deployments leave it."""
    top = tmp_path / "state"
    for path in ("shop/releases/0123456789ab", "shop/content/x", "shop/state/db", "agent/abc"):
        (top / path).mkdir(parents=True)
    for path in (
        "shop/lock",
        "shop/state/db/data",
        "shop/content/x/theirs",
        "shop/releases/0123456789ab/.env",
    ):
        (top / path).write_text("")
    (top / "shop/current").symlink_to("/etc/hostname")
    return top


@root_only
def test_what_is_ours_changes_hands_and_what_containers_own_does_not(tmp_path: Path) -> None:
    top = _lay(tmp_path)
    before = os.stat("/etc/hostname").st_uid
    os.chown(top / "shop/content/x/theirs", 999, 999)
    folder.give(top, 1234, 1235)
    owners = {str(path.relative_to(top)): path.lstat().st_uid for path in top.rglob("*")}
    kept = {name: uid for name, uid in owners.items() if uid != 1234}
    assert kept == {"shop/content/x/theirs": 999, "shop/state/db": 0, "shop/state/db/data": 0}
    assert owners["shop/state"] == owners["shop/current"] == 1234
    assert os.stat("/etc/hostname").st_uid == before
    assert (top.stat().st_uid, top.stat().st_gid, stat.S_IMODE(top.stat().st_mode)) == (1234, 1235, 0o700)


@root_only
def test_a_change_of_hands_that_broke_off_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = _lay(tmp_path)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "chown", full)
        with pytest.raises(OSError, match="No space"):
            folder.give(top, 1234, 1234)
    assert top.stat().st_uid == 0
    folder.give(top, 1234, 1234)
    assert (top / "shop/lock").stat().st_uid == 1234


def test_a_folder_does_not_change_hands_while_a_run_has_a_lock_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: list[tuple[str, str]]
) -> None:
    top = _lay(tmp_path)
    (top / "shop/lock").write_text(json.dumps({"by": "ann@laptop", "run": "r1", "why": "deploy"}))
    monkeypatch.setattr(folder, "find", lambda name: entry(uid=ME + 1234))
    with (top / "shop/lock").open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Refusal, match="ann@laptop is at work on shop here") as caught:
            folder.need_free(top, "deployer")
        assert caught.value.code == "locked"
        with pytest.raises(Refusal), folder.locked(top, "it waits"):
            pass
        # A folder that is the user's already isn't touched, so a run in it is no hindrance.
        monkeypatch.setattr(folder, "find", lambda name: entry(uid=ME))
        folder.need_free(top, "deployer")
    folder.need_free(top, "deployer")


def test_a_lock_that_is_held_here_keeps_agents_out(tmp_path: Path) -> None:
    top = _lay(tmp_path)
    held = folder.locked(top, "it waits")
    with held, (top / "shop/lock").open("r+") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with (top / "shop/lock").open("r+") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


@root_only
@pytest.mark.parametrize(("deploys", "changed"), [(True, []), (False, ["give"])])
def test_a_run_without_a_user_leaves_the_folder_with_who_deploys(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    told: list[tuple[str, str]],
    deploys: bool,
    changed: list[str],
) -> None:
    top = _lay(tmp_path)
    folder.give(top, 1234, 1234)
    monkeypatch.setattr(folder, "_deploys", lambda uid: deploys and uid == 1234)
    changes = Changes(check=False)
    folder.bring(changes, top, "")
    assert [text.split()[0] for text in changes.made] == changed
    assert top.stat().st_uid == (1234 if deploys else 0)


def test_a_folder_that_others_can_read_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: list[tuple[str, str]]
) -> None:
    top = _lay(tmp_path)
    top.chmod(0o755)
    monkeypatch.setattr(folder, "find", lambda name: entry(uid=ME))
    for check, made in ((True, 1), (False, 1), (False, 0)):
        changes = Changes(check=check)
        folder.bring(changes, top, "deployer")
        assert len(changes.made) == made
    assert stat.S_IMODE(top.stat().st_mode) == 0o700
