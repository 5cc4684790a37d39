"""Encrypted env files: who can open them, what happens when nobody can, and nothing in clear that stays."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyrage
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from invoke.program import Program

from longshore.errors import LongshoreError, Problems
from longshore.secrets import recipients as people
from longshore.secrets.editing import editor, private_folder
from longshore.secrets.files import age_file
from longshore.secrets.keyring import Keyring, stanzas
from longshore.secrets.vault import Vault
from longshore.tasks import ns

OPENSSH = (serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A person without keys."""
    folder = tmp_path / "home"
    (folder / ".ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(folder))
    for name in ("XDG_CONFIG_HOME", "LONGSHORE_AGE_KEY", "LONGSHORE_AGE_KEY_FILE", "VISUAL"):
        monkeypatch.delenv(name, raising=False)
    return folder


def ssh_key(path: Path, passphrase: bytes = b"") -> str:
    """Write an OpenSSH key and return its public half."""
    key = Ed25519PrivateKey.generate()
    how = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    path.write_bytes(key.private_bytes(*OPENSSH, how))
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    path.with_name(path.name + ".pub").write_text(f"{public.decode()} me@laptop\n")
    return public.decode()


def vault(root: Path, identity: str = "", **given: object) -> Vault:
    (root / "env").mkdir(parents=True, exist_ok=True)
    return Vault(root, Keyring(identity, **given))  # type: ignore[arg-type]


def team(root: Path, *keys: str) -> None:
    (root / "env").mkdir(parents=True, exist_ok=True)
    (root / "env/recipients.txt").write_text("".join(f"{key}\n" for key in keys))


def write(one: Vault, text: str) -> Path:
    path = age_file(one.root, "prod")
    one.write(path, text, one.recipients("prod"))
    return path


def test_each_of_a_team_opens_the_file_with_a_key_of_another_kind(tmp_path: Path, home: Path) -> None:
    age = pyrage.x25519.Identity.generate()
    team(tmp_path, "# the server", str(age.to_public()), ssh_key(home / ".ssh/id_ed25519") + " me@laptop")
    one = vault(tmp_path)
    path = write(one, "A=1\n")
    assert path.read_text().startswith("-----BEGIN AGE ENCRYPTED FILE-----")
    assert path.stat().st_mode & 0o777 == 0o600
    assert one.read(path) == "A=1\n"
    assert vault(tmp_path, environ={"LONGSHORE_AGE_KEY": str(age)}).read(path) == "A=1\n"
    (home / ".ssh/id_ed25519").unlink()
    named = tmp_path / "key.txt"
    named.write_text(f"# mine\n{age}\n")
    assert vault(tmp_path, str(named)).read(path) == "A=1\n"
    assert vault(tmp_path, environ={"LONGSHORE_AGE_KEY_FILE": str(named)}).read(path) == "A=1\n"
    assert str(one.recipients("prod")[0]).startswith("the server (age1")
    assert len(stanzas(path.read_bytes())) == 2


def test_a_passphrase_is_asked_for_once_and_only_when_the_key_fits(tmp_path: Path, home: Path) -> None:
    asked: list[str] = []

    def ask(question: str) -> str:
        asked.append(question)
        return "pass phrase"

    team(tmp_path, ssh_key(home / ".ssh/id_ed25519", b"pass phrase"))
    one = vault(tmp_path, ask=ask)
    path = write(one, "A=1\n")
    assert (one.read(path), one.read(path)) == ("A=1\n", "A=1\n")
    assert asked == [f"passphrase of {home}/.ssh/id_ed25519: "]
    team(tmp_path, str(pyrage.x25519.Identity.generate().to_public()))
    other = vault(tmp_path, ask=ask)
    with pytest.raises(LongshoreError, match="not encrypted to your key"):
        other.read(write(other, "A=1\n"))
    assert len(asked) == 1


def test_a_key_that_nobody_named_and_is_no_use_does_not_hide_the_one_that_opens(
    tmp_path: Path, home: Path
) -> None:
    team(tmp_path, ssh_key(home / ".ssh/id_ed25519"))
    path = write(vault(tmp_path), "A=1\n")
    useless = home / ".config/longshore/age.txt"
    useless.parent.mkdir(parents=True)
    useless.write_text("AGE-PLUGIN-YUBIKEY-1QQQ\n")
    assert vault(tmp_path).read(path) == "A=1\n"
    team(tmp_path, str(pyrage.x25519.Identity.generate().to_public()))
    other = write(vault(tmp_path), "A=1\n")
    with pytest.raises(LongshoreError, match=r"age\.txt:1: Keys of age plugins are not supported"):
        vault(tmp_path).read(other)
    with pytest.raises(LongshoreError, match="age plugins"):  # named, it is the one to be used
        vault(tmp_path, str(useless)).read(path)


def test_an_age_key_that_a_passphrase_protects_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = pyrage.x25519.Identity.generate()
    team(tmp_path, str(key.to_public()))
    identity = tmp_path / "key.age"
    identity.write_bytes(b"age-encryption.org/v1\n-> scrypt salt 18\n")

    def decrypt(data: bytes, passphrase: str) -> bytes:
        # The real one takes seconds, which is its purpose.
        if passphrase != "secret phrase":
            raise pyrage.DecryptError("Decryption failed")
        return str(key).encode()

    monkeypatch.setattr(pyrage.passphrase, "decrypt", decrypt)
    path = write(vault(tmp_path), "A=1\n")
    assert vault(tmp_path, str(identity), ask=lambda _: "secret phrase").read(path) == "A=1\n"
    with pytest.raises(LongshoreError, match=r"the passphrase of the key .* is wrong"):
        vault(tmp_path, str(identity), ask=lambda _: "another").read(path)


def test_what_can_not_be_opened_is_a_sentence(tmp_path: Path, home: Path) -> None:
    team(tmp_path, str(pyrage.x25519.Identity.generate().to_public()))
    path = write(vault(tmp_path), "A=planted\n")
    with pytest.raises(LongshoreError, match=r"no key was found\. Keys are looked for in --identity"):
        vault(tmp_path).read(path)
    with pytest.raises(LongshoreError, match=r"--identity: .*nowhere: The key can't be read"):
        vault(tmp_path, str(tmp_path / "nowhere")).read(path)
    mine = ssh_key(home / ".ssh/id_ed25519")
    with pytest.raises(LongshoreError) as caught:
        vault(tmp_path).read(path)
    assert mine in str(caught.value), "it says what somebody else has to add"

    def no_terminal(question: str) -> str:
        raise LongshoreError("there is no terminal")

    locked = ssh_key(home / ".ssh/id_ed25519", b"x")
    team(tmp_path, locked)
    again = vault(tmp_path, ask=no_terminal)
    with pytest.raises(LongshoreError, match="has a passphrase, and there is no terminal to ask on"):
        again.read(write(again, "A=1\n"))
    with pytest.raises(LongshoreError, match="the passphrase of the key"):
        vault(tmp_path, ask=lambda _: "wrong").read(path)


def test_the_home_of_a_user_that_there_is_not_is_a_sentence(tmp_path: Path) -> None:
    for one in (
        vault(tmp_path, "~no-such-user/key"),
        vault(tmp_path, environ={"LONGSHORE_AGE_KEY_FILE": "~no-such-user/key"}),
    ):
        with pytest.raises(LongshoreError, match="~no-such-user/key: The key can't be read: No such file"):
            one.keyring.sources()


def test_a_key_is_not_made_in_the_home_of_a_user_that_there_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Program(namespace=ns).run(["invoke", "secrets.keygen", "--out", "~no-such-user/key"], exit=False)
    assert "--out ~no-such-user/key: There is no such user here." in "".join(capsys.readouterr())
    assert not (tmp_path / "~no-such-user").exists()


def test_a_passphrase_that_is_empty_or_opens_a_key_of_another_kind_is_a_sentence(
    tmp_path: Path, home: Path
) -> None:
    locked = ssh_key(home / "locked", b"x")
    team(tmp_path, locked)
    path = write(vault(tmp_path), "A=1\n")
    with pytest.raises(LongshoreError, match=r"the passphrase of the key .*locked is wrong"):
        vault(tmp_path, str(home / "locked"), ask=lambda _: "").read(path)
    how = serialization.BestAvailableEncryption(b"x")
    (home / "other").write_bytes(ec.generate_private_key(ec.SECP256R1()).private_bytes(*OPENSSH, how))
    with pytest.raises(LongshoreError, match=r"other: This key can't be used\. Use an ed25519 key"):
        vault(tmp_path, str(home / "other"), ask=lambda _: "x").read(path)


@pytest.mark.parametrize("damage", ["cut", "flipped", "clear", "empty"])
def test_a_damaged_file_is_a_sentence_without_what_is_in_it(tmp_path: Path, damage: str) -> None:
    key = pyrage.x25519.Identity.generate()
    team(tmp_path, str(key.to_public()))
    one = vault(tmp_path, environ={"LONGSHORE_AGE_KEY": str(key)})
    path = write(one, "A=planted-value\n" * 50)
    data = path.read_bytes()
    lines = data.splitlines(keepends=True)
    lines[-3] = lines[-3][:10] + (b"AAAA" if lines[-3][10:14] != b"AAAA" else b"BBBB") + lines[-3][14:]
    made = {"cut": data[:-90], "flipped": b"".join(lines), "clear": b"A=planted-value\n", "empty": b""}
    path.write_bytes(made[damage])
    with pytest.raises(LongshoreError, match=r"damaged|is not a file that age has encrypted") as caught:
        one.read(path)
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("age1qqqq", "this public key is damaged, or not whole"),
        ("ssh-ed25519 AAAA", "this public key is damaged, or not whole"),
        ("ecdsa-sha2-nistp256 AAAA", "age knows ssh-ed25519 and ssh-rsa keys"),
        ("AGE-SECRET-KEY-1ABC", "this is a private key, and it must not be here"),
        ("alice", "this is no public key"),
    ],
)
def test_a_recipient_that_is_none_is_a_sentence_with_its_line(
    tmp_path: Path, line: str, sentence: str
) -> None:
    team(tmp_path, "# who", str(pyrage.x25519.Identity.generate().to_public()), line)
    with pytest.raises(Problems, match=rf"env/recipients\.txt:3: {sentence}"):
        vault(tmp_path).recipients("prod")


def test_recipients_are_added_and_removed_with_what_names_them(tmp_path: Path) -> None:
    alice, bob = (pyrage.x25519.Identity.generate().to_public() for _ in range(2))
    text = people.with_added("", people.Recipient(str(alice), "alice"))
    text = people.with_added(text, people.Recipient(str(bob), "bob"))
    path = tmp_path / "recipients.txt"
    path.write_text(text)
    both = people.read_recipients(path, "recipients.txt")
    assert [one.comment for one in both] == ["alice", "bob"]
    assert people.find(both, "bob") == people.find(both, str(bob)) == people.find(both, str(bob)[-8:])
    with pytest.raises(LongshoreError, match="is no recipient"):
        people.find(both, "age1")
    path.write_text(people.without(text, both[0]))
    assert [one.comment for one in people.read_recipients(path, "x")] == ["bob"]
    assert "alice" not in path.read_text()


def test_who_is_removed_is_removed_wherever_the_list_has_the_key(tmp_path: Path, home: Path) -> None:
    alice, bob = (str(pyrage.x25519.Identity.generate().to_public()) for _ in range(2))
    carol = ssh_key(home / "carol")
    first = f"# alice\n{alice}\n{carol} carol\n"
    again = f"# bob\n{bob}\n\n# alice's again\n{alice}\n{alice}\n{carol} at work\n"
    text = first + again
    path = tmp_path / "recipients.txt"
    path.write_text(text)
    listed = people.read_recipients(path, "recipients.txt")
    assert people.without(text, listed[0]) == f"{carol} carol\n# bob\n{bob}\n\n{carol} at work\n"
    assert people.without(text, listed[1]) == text.replace(f"{carol} carol\n", "").replace(
        f"{carol} at work\n", ""
    )


def test_what_is_no_path_is_not_looked_for_as_one(tmp_path: Path, home: Path) -> None:
    ssh_key(home / "id")
    pasted = (home / "id").read_text()
    with pytest.raises(LongshoreError, match="this is a private key") as caught:
        people.given(pasted)
    assert pasted.splitlines()[1] not in str(caught.value)
    with pytest.raises(LongshoreError, match="this is no public key"):
        people.given("~no-such-user/id.pub")
    for word in (f"ssh-rsa {'A' * 600}", "~no-such-user"):
        with pytest.raises(LongshoreError, match="is no recipient"):
            people.find([people.parse_recipient((home / "id.pub").read_text())], word)


def _project(root: Path, home: Path) -> pyrage.x25519.Identity:
    """An environment ``prod`` whose secrets are for one key, which is in ``home/key``."""
    key = pyrage.x25519.Identity.generate()
    (home / "key").write_text(str(key))
    (root / "inventory").mkdir()
    (root / "inventory/prod.yml").write_text("all: {hosts: {h1: }}\n")
    team(root, str(key.to_public()))
    return key


def test_with_json_there_is_nothing_else_on_standard_output(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    key = _project(tmp_path, home)
    write(vault(tmp_path), "A=1\n")
    monkeypatch.chdir(tmp_path)
    bob = ssh_key(home / "bob")
    words = ["--add", bob, "--identity", str(home / "key"), "--json"]
    Program(namespace=ns).run(["invoke", "secrets.recipients", *words], exit=False)
    (line,) = capsys.readouterr().out.splitlines()
    assert [one["key"] for one in json.loads(line)["value"]] == [str(key.to_public()), bob]


def test_a_length_without_a_key_is_refused_and_nothing_is_written(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _project(tmp_path, home)
    path = write(vault(tmp_path), "A=1\n")
    before = path.read_bytes()
    monkeypatch.chdir(tmp_path)
    words = ["--env", "prod", "--length", "64", "--identity", str(home / "key")]
    Program(namespace=ns).run(["invoke", "secrets.rotate", *words], exit=False)
    assert "--length goes with --key" in "".join(capsys.readouterr())
    assert path.read_bytes() == before


def test_nobody_is_written_for_who_can_not_open_the_files_already(tmp_path: Path) -> None:
    key, other = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
    team(tmp_path, str(key.to_public()))
    path = write(vault(tmp_path), "A=1\n")
    before = path.read_bytes()
    stranger = vault(tmp_path, environ={"LONGSHORE_AGE_KEY": str(other)})
    with pytest.raises(LongshoreError, match="not encrypted to your key"):
        stranger.again([path], [people.Recipient(str(other.to_public()))])
    assert path.read_bytes() == before


def test_rotating_gives_new_values_and_leaves_the_rest_as_it_is_written(tmp_path: Path) -> None:
    key = pyrage.x25519.Identity.generate()
    team(tmp_path, str(key.to_public()))
    one = vault(tmp_path, environ={"LONGSHORE_AGE_KEY": str(key)})
    text = "# first\nA='one\ntwo'\nexport B=2 # why\n\nC='$3'\n"
    path = write(one, text)
    one.new_values(path, ["A", "C", "A"], 24, one.recipients("prod"))
    now = one.read(path).splitlines()
    assert now[0] == "# first"
    assert now[2:4] == ["export B=2 # why", ""]
    values = one.decrypt(path)
    assert len(values["A"][0]) == len(values["C"][0]) == 24
    assert values["A"][0] != values["C"][0]
    with pytest.raises(LongshoreError, match=r"has no D\. It has: A, B, C"):
        one.new_values(path, ["D"], 24, one.recipients("prod"))


def test_rotating_counts_lines_as_they_are_read(tmp_path: Path) -> None:
    key = pyrage.x25519.Identity.generate()
    team(tmp_path, str(key.to_public()))
    one = vault(tmp_path, environ={"LONGSHORE_AGE_KEY": str(key)})
    path = write(one, "# from a\x0cpage, and\u2028another\nOTHER=kept\nA=old\nLAST=kept too")
    one.new_values(path, ["A"], 24, one.recipients("prod"))
    values = {name: value for name, (value, _) in one.decrypt(path).items()}
    assert values.pop("A") != "old"
    assert values == {"OTHER": "kept", "LAST": "kept too"}


def test_an_edit_is_checked_before_it_is_encrypted_and_an_unchanged_file_is_not_written(
    tmp_path: Path,
) -> None:
    key = pyrage.x25519.Identity.generate()
    team(tmp_path, str(key.to_public()))
    one = vault(tmp_path, environ={"LONGSHORE_AGE_KEY": str(key)})
    assert (
        one.edit("prod", "", lambda text, name: text + "A=1\n") == "env/prod.env.age is written, for 1 key."
    )
    path = age_file(tmp_path, "prod")
    before = path.read_bytes()
    assert one.edit("prod", "", lambda text, name: text) == "env/prod.env.age is unchanged."
    for wrong in ("A='never closed\n", "A=1\nA=2\n", "JUST A NAME\n", "NAME\n"):
        with pytest.raises(LongshoreError):
            one.edit("prod", "", lambda text, name, wrong=wrong: wrong)  # type: ignore[misc]
    assert path.read_bytes() == before

    def meanwhile(text: str, name: str) -> str:
        write(one, "B=somebody else's\n")
        return "A=mine\n"

    with pytest.raises(LongshoreError, match="has changed while it was edited"):
        one.edit("prod", "", meanwhile)
    assert one.read(path) == "B=somebody else's\n"


def test_encrypting_removes_the_file_in_clear_and_says_what_git_still_has(tmp_path: Path) -> None:
    key = pyrage.x25519.Identity.generate()
    one = vault(tmp_path, environ={"LONGSHORE_AGE_KEY": str(key)})
    clear = tmp_path / "env/prod.env"
    clear.write_text("A=1\n")
    with pytest.raises(LongshoreError, match="nobody could open"):
        one.encrypt("prod", "", keep=False)
    team(tmp_path, str(key.to_public()))
    subprocess.run("git init -q . && git add env", shell=True, cwd=tmp_path, check=True)
    said = one.encrypt("prod", "", keep=False)
    assert "env/prod.env is removed. It is in git, and its values stay in the history" in said
    assert not clear.exists()
    assert one.read(age_file(tmp_path, "prod")) == "A=1\n"
    clear.write_text("B=2\n")
    with pytest.raises(LongshoreError, match="is there already"):
        one.encrypt("prod", "", keep=False)
    assert clear.read_text() == "B=2\n"


def test_the_clear_text_of_an_edit_goes_with_the_process_that_is_killed(tmp_path: Path) -> None:
    script = (
        "import time, sys\n"
        "from longshore.secrets.editing import private_folder\n"
        "with private_folder() as folder:\n"
        "    (folder / 'prod.env').write_text('A=planted')\n"
        "    print(folder, flush=True)\n"
        "    time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    folder = Path(process.stdout.readline().strip())
    assert folder.stat().st_mode & 0o777 == 0o700
    process.send_signal(signal.SIGKILL)
    process.wait()
    until = time.monotonic() + 10
    while folder.exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert not folder.exists()


def test_an_editor_that_is_no_command_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDITOR", "vim -c 'set nobackup")
    with pytest.raises(LongshoreError, match=r"EDITOR: it is no command: No closing quotation"):
        editor()


def test_the_private_folder_is_gone_after_an_edit() -> None:
    with private_folder() as folder:
        assert folder.is_dir()
    assert not folder.exists()
