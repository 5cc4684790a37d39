"""The user that deploys: made where missing, let in by the keys of the one we came as, in group docker."""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path

from longshore.bootstrap.host import keys
from longshore.bootstrap.host.say import Changes, Refusal, note
from longshore.bootstrap.host.system import run

SHELL = "/bin/bash"
NO_SHELLS = ("nologin", "false", "sync", "halt", "shutdown")


def find(name: str) -> pwd.struct_passwd | None:
    """The user of this name, or None."""
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def bring(changes: Changes, name: str) -> None:
    """Have the user ``name``, and let in by keys. Raises ``Refusal`` where that can't be.

    A user who is there keeps shell, password and groups.
    """
    there = find(name)
    if there is None:
        _refuse_group(name)
        text = f"make the user {name} (a home, {SHELL}, no password, no sudo)"
        changes.make(text, lambda: _make(name))
    else:
        refuse_unfit(there)
    _let_in(changes, name)


def refuse_unfit(user: pwd.struct_passwd) -> None:
    """Raises ``Refusal`` for a user who is root by another name, or can't log in."""
    if user.pw_uid == 0:
        raise Refusal("user", f"{user.pw_name} is root by another name", "Choose another name.")
    if Path(user.pw_shell).name in NO_SHELLS:
        raise Refusal(
            "user",
            f"{user.pw_name} is a system's own user: its shell is {user.pw_shell}",
            f"Choose another name, or run `usermod -s {SHELL} {user.pw_name}` on the host.",
        )


def _refuse_group(name: str) -> None:
    """A user gets a group of its own. An existing one (sudo, adm) would give more than was asked for."""
    try:
        grp.getgrnam(name)
    except KeyError:
        return
    raise Refusal("user", f"there is a group {name} on this host, and no such user", "Choose another name.")


def _make(name: str) -> None:
    # "*" and not useradd's own "!": no password fits either, but sshd without PAM lets nobody in with "!".
    words = ["--create-home", "--user-group", "--shell", SHELL, "--password", "*", name]
    code, output = run(["useradd", *words])
    if code != 0 or find(name) is None:
        raise Refusal(
            "user",
            f"the user {name} can't be made: {output.strip() or f'useradd ended with {code}'}",
            "Make it by hand, with a home and a shell, and bootstrap again: it does the rest.",
        )


def came_as() -> pwd.struct_passwd:
    """The user that the connection was made as: sudo's caller, else this process's own."""
    return find(os.environ.get("SUDO_USER", "")) or pwd.getpwuid(os.geteuid())


def _let_in(changes: Changes, name: str) -> None:
    login = came_as()
    user = find(name)  # still None in a check
    place = keys.look(user.pw_dir, user.pw_uid) if user else keys.Place(None, ())
    there = keys.parse(place.text or "")
    source = Path(login.pw_dir, keys.FOLDER, keys.FILE)
    offered = keys.parse(_text(source))
    added = keys.lacking(offered, there)
    if any(key.forced for key in offered):
        note(f"keys in {source} that may run one command only are not given to {name}")
    if not there and not added:
        note(f"nobody can log in as {name}: {source} is missing or holds no key to copy")
    elif not offered:
        note(f"{name} keeps its own keys: {source} is missing or holds none")
    if added:
        count = f"{len(added)} key{'s' if len(added) > 1 else ''}"
        text = f"let {count} of {login.pw_name} in as {name}"
        changes.make(text, lambda: _put(name, added))
    elif place.wrong:
        text = f"give {' and '.join(place.wrong)} the owner and modes that sshd wants"
        changes.make(text, lambda: _put(name, []))


def _put(name: str, added: list[keys.Key]) -> None:
    user = pwd.getpwnam(name)
    keys.put(user.pw_dir, user.pw_uid, user.pw_gid, added)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="surrogateescape")
    except (FileNotFoundError, NotADirectoryError):
        return ""


def in_docker(user: pwd.struct_passwd) -> bool:
    """Whether this user is in the group docker, which is as good as being root."""
    try:
        docker = grp.getgrnam("docker")
    except KeyError:
        return False
    return user.pw_name in docker.gr_mem or user.pw_gid == docker.gr_gid


def join_docker(changes: Changes, name: str) -> None:
    """Have ``name`` in the group docker. The engine's packages made the group."""
    user = find(name)
    if user is None or not in_docker(user):
        changes.make(f"add {name} to the group docker (from the next login on)", lambda: _add(name))


def _add(name: str) -> None:
    code, output = run(["usermod", "-aG", "docker", name])
    if code != 0:
        raise Refusal("group", f"{name} can't be added to the group docker: {output.strip()}")
