"""The person's keys for age files: where they are found, and passphrases, asked once a run.

Looked for in this order: what was named (``--identity``), ``LONGSHORE_AGE_KEY`` (the key itself),
``LONGSHORE_AGE_KEY_FILE``, ``~/.config/longshore/age.txt``, ``~/.ssh/id_ed25519``. Of those found, the one
that fits opens the file; one that was named is the only one.
"""

from __future__ import annotations

import base64
import contextlib
import getpass
import hashlib
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from longshore.errors import LongshoreError, Where
from longshore.records import dataclass

KEY, KEY_FILE = "LONGSHORE_AGE_KEY", "LONGSHORE_AGE_KEY_FILE"
_OPENS = (
    KEY,
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "BWS_ACCESS_TOKEN",
    "BW_SESSION",
    "DOPPLER_TOKEN",
    "OP_SERVICE_ACCOUNT_TOKEN",
    "SOPS_AGE_KEY",
    "VAULT_TOKEN",
)
"""The variables of this process that open a file or a store."""
_ARMOR = b"-----BEGIN AGE ENCRYPTED FILE-----"
_BINARY = b"age-encryption.org/v1"
_X25519 = re.compile(r"AGE-SECRET-KEY-1[A-Z0-9]+")


def default_identity() -> Path:
    """Where a new key is written, and looked for."""
    config = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(config, "longshore", "age.txt")


def keys_here() -> frozenset[str]:
    """What the environment of this process has to open files and stores with: nobody may be shown it."""
    found = {os.environ.get(name, "") for name in _OPENS}
    return frozenset({one.replace("\\n", "\n") for one in found} | found) - {""}


def ask_person(question: str) -> str:
    """Ask on the person's terminal, whatever standard input is. Raises ``LongshoreError`` without one."""
    try:
        with Path("/dev/tty").open("r+b", buffering=0):
            pass
    except OSError:
        raise LongshoreError("there is no terminal to ask on") from None
    try:
        return getpass.getpass(question)
    except EOFError:
        raise LongshoreError("there is no terminal to ask on") from None


def is_encrypted(data: bytes) -> bool:
    """Whether this is an age file, armored or not."""
    return data.lstrip()[: len(_ARMOR)] == _ARMOR or data.startswith(_BINARY)


@dataclass(frozen=True)
class Source:
    """Where a key is: ``name`` is how it is called to the person. ``named``: somebody said that it is to be
    used; the others are looked at where keys usually are, and may be no use here."""

    name: str
    data: bytes
    path: Path | None = None
    named: bool = True


class Keyring:
    """Opens age files. Keys are read when a file needs them, each once; passphrases are asked once."""

    def __init__(
        self,
        identity: str = "",
        *,
        environ: Mapping[str, str] | None = None,
        ask: Callable[[str], str] = ask_person,
    ) -> None:
        self._named = identity
        self._environ = os.environ if environ is None else environ
        self._ask = ask
        self._found: list[Source] | None = None
        self._useless: list[LongshoreError] = []
        self._keys: dict[str, list[Any]] = {}

    def sources(self) -> list[Source]:
        """The keys that are there. Raises ``LongshoreError`` for one that was named and isn't."""
        if self._found is None:
            self._found = list(self._look())
        return self._found

    def _look(self) -> list[Source]:
        if self._named:
            return [self._file(_at_home(self._named), "--identity")]
        found = []
        if text := self._environ.get(KEY):
            found.append(Source(KEY, text.replace("\\n", "\n").encode()))
        if name := self._environ.get(KEY_FILE):
            found.append(self._file(_at_home(name), KEY_FILE))
        for path in (default_identity(), Path.home() / ".ssh" / "id_ed25519"):
            if path.is_file():
                try:
                    found.append(self._file(path, ""))
                except LongshoreError as error:
                    self._useless.append(error)
        return found

    def _file(self, path: Path, said: str) -> Source:
        if said and any(mark in str(path) for mark in ("AGE-SECRET-KEY-", "PRIVATE KEY-----")):
            # Not repeated: it would be in the terminal's and CI's log.
            raise LongshoreError(
                "This is a key itself; it takes the path of a key file.",
                where=said,
                hint=f"What stood on a command line may be known to others: change the key. {KEY} takes one "
                "itself.",
            )
        try:
            data = path.read_bytes()
        except OSError as error:
            name = f"{said}: {path}" if said else str(path)
            raise LongshoreError(f"The key can't be read: {error.strerror}.", where=name) from None
        return Source(str(path), data, path, named=bool(said))

    def open(self, data: bytes, name: str) -> bytes:
        """Decrypt an age file that is called ``name``.

        Raises ``LongshoreError``: no key, none that fits, a wrong passphrase, a damaged file.
        """
        import pyrage

        if not is_encrypted(data):
            raise LongshoreError(
                "This is not a file that age has encrypted.",
                where=Where(name),
                hint="Write it with `invoke secrets.edit` or `invoke secrets.encrypt`.",
            )
        sources = self.sources()
        useless = list(self._useless)
        if not sources and useless:
            raise useless[0]
        if not sources:
            raise LongshoreError(
                f"{name} is encrypted, and no key was found.",
                hint=f"Keys are looked for in --identity, {KEY}, {KEY_FILE}, {default_identity()} and "
                "~/.ssh/id_ed25519; `invoke secrets.keygen` makes one.",
            )
        refused: list[str] = []
        # Keys that open without a question come first.
        for source in sorted(sources, key=_protected):
            if _protected(source) and not _may_open(source, data):
                refused.append(source.name)
                continue
            try:
                keys = self._identities(source)
            except LongshoreError as error:
                if source.named:
                    raise
                useless.append(error)  # another may open it; if none does, this is the reason
                continue
            for key in keys:
                try:
                    return bytes(pyrage.decrypt(data, [key]))
                except pyrage.DecryptError as error:
                    if "No matching keys" not in str(error):
                        raise LongshoreError(
                            f"The file is damaged and can't be decrypted ({error}).",
                            where=Where(name),
                            hint="Take it from git again.",
                        ) from None
            refused.append(source.name)
        if useless:
            raise useless[-1]  # of what was tried last: that is where a passphrase was asked for
        raise LongshoreError(
            f"{name} is not encrypted to your key ({', '.join(refused)}).",
            hint="Somebody who can open it adds you: `invoke secrets.recipients --add "
            f"'{(self.public() or ['YOUR PUBLIC KEY'])[0]}'`.",
        )

    def _identities(self, source: Source) -> list[Any]:
        if source.name not in self._keys:
            self._keys[source.name] = self._read(source)
        return self._keys[source.name]

    def _read(self, source: Source) -> list[Any]:
        import pyrage

        data = source.data
        if is_encrypted(data):
            data = self._unlocked_age(source)
        text = data.decode("utf-8", "replace")
        if "PRIVATE KEY-----" in text:
            return [self._ssh(source)]
        keys = []
        for number, line in enumerate(text.splitlines(), 1):
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            where = Where(source.name, number)
            if line.startswith("AGE-PLUGIN-"):
                raise LongshoreError(
                    "Keys of age plugins are not supported.", where=where, hint="Use an age or SSH key."
                )
            try:
                keys.append(pyrage.x25519.Identity.from_str(line))
            except pyrage.IdentityError:
                what = "a public key" if line.startswith(("age1", "ssh-")) else "no key"
                raise LongshoreError(
                    f"This line is {what}, and a private one is needed.",
                    where=where,
                    hint="It starts with AGE-SECRET-KEY-1, or the file is an OpenSSH private key.",
                ) from None
        if not keys:
            raise LongshoreError("There is no key in it.", where=source.name)
        return keys

    def _passphrase(self, source: Source) -> str:
        try:
            return self._ask(f"passphrase of {source.name}: ")
        except LongshoreError:
            raise LongshoreError(
                f"the key {source.name} has a passphrase, and there is no terminal to ask on.",
                hint=f"Give a key without one, in {KEY} or {KEY_FILE}.",
            ) from None

    def _unlocked_age(self, source: Source) -> bytes:
        import pyrage

        try:
            return bytes(pyrage.passphrase.decrypt(source.data, self._passphrase(source)))
        except pyrage.DecryptError:
            raise LongshoreError(f"the passphrase of the key {source.name} is wrong.") from None

    def _ssh(self, source: Source) -> Any:
        import pyrage

        try:
            return pyrage.ssh.Identity.from_buffer(source.data)
        except pyrage.IdentityError as error:
            if "decrypted first" not in str(error):
                raise _unusable(source) from None
        from cryptography.hazmat.primitives import serialization

        try:
            key = serialization.load_ssh_private_key(source.data, self._passphrase(source).encode())
        except (TypeError, ValueError):  # TypeError: it is empty
            raise LongshoreError(f"the passphrase of the key {source.name} is wrong.") from None
        plain = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        )
        try:
            return pyrage.ssh.Identity.from_buffer(plain)
        except pyrage.IdentityError:  # its kind is told only now
            raise _unusable(source) from None

    def public(self) -> list[str]:
        """The public keys of the keys found, where they can be told without a passphrase."""
        told = []
        for source in self.sources():
            beside = source.path.with_name(source.path.name + ".pub") if source.path else None
            if beside is not None and beside.is_file():
                told.append(beside.read_text("utf-8", "replace").strip())
            elif not _protected(source) and _X25519.search(source.data.decode("utf-8", "replace")):
                with contextlib.nullcontext() if source.named else contextlib.suppress(LongshoreError):
                    told += [str(key.to_public()) for key in self._identities(source)]
        return told


def _at_home(name: str) -> Path:
    """The path with its ``~`` replaced; as it is for a user that there isn't, where Path's own raises."""
    return Path(os.path.expanduser(name))  # noqa: PTH111


def _unusable(source: Source) -> LongshoreError:
    return LongshoreError("This key can't be used.", where=source.name, hint="Use an ed25519 key.")


def _protected(source: Source) -> bool:
    """Whether reading the key would ask for a passphrase."""
    if is_encrypted(source.data):
        return True
    if b"PRIVATE KEY-----" not in source.data:
        return False
    import pyrage

    try:
        pyrage.ssh.Identity.from_buffer(source.data)
    except pyrage.IdentityError as error:
        return "decrypted first" in str(error)
    return False


def _may_open(source: Source, data: bytes) -> bool:
    """Whether it is worth asking for a passphrase: an SSH key's public half says if the file is for it."""
    beside = source.path.with_name(source.path.name + ".pub") if source.path else None
    if is_encrypted(source.data) or beside is None or not beside.is_file():
        return True
    words = beside.read_text("utf-8", "replace").split()
    return len(words) < 2 or ssh_tag(words[1]) in stanza_tags(data)


def ssh_tag(public: str) -> str:
    """How a file's header names an SSH key (https://github.com/FiloSottile/age, ``agessh``)."""
    try:
        blob = base64.b64decode(public, validate=True)
    except ValueError:
        return ""
    return base64.b64encode(hashlib.sha256(blob).digest()[:4]).decode().rstrip("=")


def stanzas(data: bytes) -> list[list[str]]:
    """The header's recipient lines as words, rage's random filler left out."""
    if data.lstrip()[: len(_ARMOR)] == _ARMOR:
        body = b"".join(line for line in data.split(b"\n") if line and not line.startswith(b"-----"))
        try:
            data = base64.b64decode(body.replace(b"\r", b""))
        except ValueError:
            return []
    found = []
    for line in data.split(b"\n"):
        if line.startswith(b"---"):
            break
        if line.startswith(b"-> "):
            words = line[3:].decode("ascii", "replace").split()
            if words and not words[0].endswith("-grease"):
                found.append(words)
    return found


def stanza_tags(data: bytes) -> set[str]:
    """The SSH keys that a file is encrypted to, as :func:`ssh_tag` has them."""
    return {words[1] for words in stanzas(data) if words[0].startswith("ssh-") and len(words) > 1}
