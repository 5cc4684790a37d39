"""Stores: each tool is called and understood as its documentation says, by stand-ins that behave like it."""

from __future__ import annotations

import base64
import json
import os
import re
import time
from pathlib import Path

import pytest

from longshore.errors import InventoryError, LongshoreError, Problems, Where
from longshore.secrets import Asked, Reference, parse_reference, resolve
from longshore.secrets.adapters import ADAPTERS
from longshore.secrets.references import checked
from longshore.secrets.resolve import command_of

HERE = Where("env/prod.env", 3)
VALUE = "s3cr$t 'x' ☃"


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on PATH for stand-ins; nothing else of a vendor's is there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def stand_in(
    tools: Path, name: str, *, out: str = "", err: str = "", code: int = 0, script: str = ""
) -> None:
    """A tool that writes down how it was called, and answers."""
    (tools / f"{name}.out").write_bytes(out.encode())
    (tools / f"{name}.err").write_text(err)
    path = tools / name
    calls = tools / f"{name}.calls"
    path.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$*" >> {calls}\n{script}\ncat {tools}/{name}.out\n'
        f"cat {tools}/{name}.err >&2\nexit {code}\n"
    )
    path.chmod(0o755)


def ask(*references: Reference, root: Path) -> dict[Reference, str]:
    return resolve([Asked(one, f"KEY_{at}", "shop", HERE) for at, one in enumerate(references)], root=root)


def parsed(text: str) -> Reference:
    found = parse_reference(text)
    assert found is not None
    return found


ANSWERS = [
    ("op://prod/my db/password", "read --no-newline op://prod/my db/password", VALUE),
    (
        "ref+bw://shop#password",
        "get item shop --nointeraction",
        json.dumps(
            {"login": {"username": "u", "password": VALUE}, "fields": [{"name": "pin", "value": "1234"}]}
        ),
    ),
    (
        "ref+bw://shop#pin",
        "get item shop --nointeraction",
        json.dumps({"login": None, "notes": None, "fields": [{"name": "pin", "value": VALUE}]}),
    ),
    ("ref+bws://be8e", "secret get be8e --output json", json.dumps({"id": "be8e", "value": VALUE})),
    ("ref+lpass://Prod/db", "show --color=never --password Prod/db", VALUE + "\n"),
    ("ref+lpass://Prod/db#Port", "show --color=never --field=Port Prod/db", VALUE + "\n"),
    (
        "ref+doppler://DB_PASSWORD?project=shop&config=prd",
        "secrets get DB_PASSWORD --plain --config prd --project shop",
        VALUE + "\n",
    ),
    (
        "ref+aws://prod/db?region=eu-central-1#password",
        "secretsmanager get-secret-value --secret-id prod/db --output json --region eu-central-1",
        json.dumps({"Name": "prod/db", "SecretString": json.dumps({"password": VALUE})}),
    ),
    (
        "ref+aws://plain",
        "secretsmanager get-secret-value --secret-id plain --output json",
        json.dumps({"SecretBinary": "czNjciR0ICd4JyDimIM="}),
    ),
    (
        "ref+gcp://db-password?project=shop-prod",
        "secrets versions access --secret=db-password --format=get(payload.data) --quiet latest"
        " --project=shop-prod",
        "czNjciR0ICd4JyDimIM=\n",
    ),
    (
        "ref+vault://secret/shop/db#password",
        "kv get -format=json secret/shop/db",
        json.dumps({"data": {"data": {"password": VALUE}, "metadata": {"version": 3}}}),
    ),
    (
        "ref+vault://shop/db?mount=kv#password",
        "kv get -format=json -mount=kv shop/db",
        json.dumps({"data": {"password": VALUE}}),
    ),
    (
        "ref+sops://env/x.sops.env#DB",
        "--decrypt --output-type dotenv env/x.sops.env",
        "A=1\nDB=\"s3cr\\$t 'x' ☃\"\n",
    ),
    (
        "ref+sops://x.yaml#DB",
        "--decrypt --output-type json x.yaml",
        json.dumps({"DB": VALUE}),
    ),
]


@pytest.mark.parametrize(("text", "words", "answer"), ANSWERS)
def test_a_store_is_asked_as_its_tool_documents_it(
    tools: Path, tmp_path: Path, text: str, words: str, answer: str
) -> None:
    reference = parsed(text)
    program = ADAPTERS[reference.store].program
    stand_in(tools, program, out=answer)
    assert ask(reference, root=tmp_path) == {reference: VALUE}
    assert (tools / f"{program}.calls").read_text() == words + "\n"


def test_a_number_in_a_store_is_the_text_that_stands_there(tools: Path, tmp_path: Path) -> None:
    fields = '{"limit": 12345678901234567890.10, "big": 1e400, "list": [1, 2.50]}'
    stand_in(tools, "vault", out=f'{{"data": {{"data": {fields}, "metadata": {{"version": 3}}}}}}')
    found = {
        field: ask(one, root=tmp_path)[one]
        for field in ("limit", "big", "list")
        for one in [parsed(f"ref+vault://secret/shop/db#{field}")]
    }
    assert found == {"limit": "12345678901234567890.10", "big": "1e400", "list": "[1, 2.5]"}


def test_the_password_of_an_item_is_its_logins_though_it_has_a_field_called_so(
    tools: Path, tmp_path: Path
) -> None:
    fields = [{"name": "password", "value": "an old one"}, {"name": "username", "value": "own"}]
    stand_in(tools, "bw", out=json.dumps({"login": {"password": VALUE}, "fields": fields}))
    password, username = parsed("ref+bw://shop#password"), parsed("ref+bw://shop#username")
    assert ask(password, username, root=tmp_path) == {password: VALUE, username: "own"}


FAILURES = [
    (
        "op://a/b/c",
        '[ERROR] 2024/01/01 10:00:00 "b" isn\'t an item in the "a" vault.',
        "1Password has no such secret",
    ),
    (
        "op://a/b/c",
        "[ERROR] 2024/01/01 10:00:00 You are not currently signed in. Please run `op signin --help`",
        "1Password is not signed in",
    ),
    ("ref+bw://x", "Vault is locked.", "Bitwarden is locked"),
    ("ref+bw://x", "You are not logged in.", "Bitwarden is not logged in"),
    ("ref+bw://x", "Not found.", "Bitwarden has no such item"),
    (
        "ref+bw://x",
        "More than one result was found. Try getting a specific object by `id`",
        "several such items",
    ),
    ("ref+bws://x", "Error: Missing access token", "Bitwarden has no access token"),
    (
        "ref+bws://x",
        "Error: Received error message from server: [404 Not Found]",
        "Bitwarden has no such secret",
    ),
    (
        "ref+lpass://x",
        "Error: Could not find decryption key. Perhaps you need to login with `lpass login`.",
        "LastPass is not logged in",
    ),
    ("ref+lpass://x", "Error: Could not find specified account(s).", "LastPass has no such entry"),
    ("ref+doppler://X", "Doppler Error: you must provide a token", "Doppler is not logged in"),
    ("ref+doppler://X", "Doppler Error: Could not find requested secret: X", "Doppler has no such secret"),
    (
        "ref+aws://x",
        "An error occurred (ResourceNotFoundException) when calling the GetSecretValue operation",
        "AWS Secrets Manager has no such secret",
    ),
    (
        "ref+aws://x",
        "Unable to locate credentials. You can configure credentials by",
        "AWS has no valid credentials",
    ),
    (
        "ref+gcp://x",
        "ERROR: (gcloud.secrets.versions.access) NOT_FOUND: Secret [projects/1/secrets/x] not found or has no"
        " versions.",
        "GCP Secret Manager has no such secret",
    ),
    ("ref+gcp://x", "You do not currently have an active account selected.", "gcloud is not logged in"),
    ("ref+vault://secret/x#y", "No value found at secret/data/x", "Vault has no such secret"),
    ("ref+vault://secret/x#y", "Code: 403. Errors: * permission denied", "Vault doesn't allow it"),
    (
        "ref+sops://x.yaml#A",
        "Failed to get the data key required to decrypt the SOPS file.",
        "SOPS has no key",
    ),
]


@pytest.mark.parametrize(("text", "err", "sentence"), FAILURES)
def test_what_a_tool_says_becomes_a_sentence_with_key_and_place(
    tools: Path, tmp_path: Path, text: str, err: str, sentence: str
) -> None:
    reference = parsed(text)
    stand_in(tools, ADAPTERS[reference.store].program, err=err, code=1)
    with pytest.raises(InventoryError) as caught:
        ask(reference, root=tmp_path)
    told = str(caught.value)
    assert told.startswith(f"env/prod.env:3: KEY_0 of shop ({reference}): ")
    assert sentence in told
    assert caught.value.hint
    assert "2024/01/01" not in told


@pytest.mark.parametrize("store", [name for name in ADAPTERS if ADAPTERS[name].program])
def test_a_tool_that_is_not_there_is_named_with_where_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    reference = checked(store, "a/b/c", "f" if ADAPTERS[store].takes_field else "")
    with pytest.raises(InventoryError, match=r"is not on PATH\. Install it: https://"):
        ask(reference, root=tmp_path)


@pytest.mark.parametrize(
    "garbage",
    ["planted-garbage", "{}", "[]", '{"data": 1}', '{"value": null}', "\0", '{"SecretString": 5}', ""],
)
@pytest.mark.parametrize(
    "text", ["ref+bw://x", "ref+bws://x", "ref+aws://x#y", "ref+gcp://x#y", "ref+vault://x#y"]
)
def test_garbage_is_a_sentence_that_does_not_show_it(
    tools: Path, tmp_path: Path, text: str, garbage: str
) -> None:
    reference = parsed(text)
    stand_in(tools, ADAPTERS[reference.store].program, out=garbage)
    with pytest.raises(InventoryError) as caught:
        ask(reference, root=tmp_path)
    assert "planted" not in str(caught.value)
    assert "KEY_0" in str(caught.value)


def test_a_tool_that_waits_is_ended_with_what_it_started(tools: Path, tmp_path: Path) -> None:
    stand_in(tools, "op", script=f"sleep 60 & echo $! > {tools}/child; wait")
    reference = checked("op", "a/b/c", timeout=0.5)
    begin = time.monotonic()
    with pytest.raises(InventoryError, match=r"gave no answer within 0\.5 s.*waiting for a login"):
        ask(reference, root=tmp_path)
    assert time.monotonic() - begin < 5
    child = int((tools / "child").read_text())
    time.sleep(0.1)
    assert not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2]


def test_each_reference_is_asked_for_once_and_all_at_the_same_time(tools: Path, tmp_path: Path) -> None:
    stand_in(tools, "op", out="x1234567", script="sleep 0.4")
    stand_in(tools, "vault", out=json.dumps({"data": {"a": "one", "b": "two"}}), script="sleep 0.4")
    references = [parsed(f"op://v/i/{at}") for at in range(5)]
    fields = [parsed("ref+vault://secret/x#a"), parsed("ref+vault://secret/x#b")]
    begin = time.monotonic()
    values = ask(*references, *references, *fields, root=tmp_path)
    assert time.monotonic() - begin < 1.9  # one after the other they take 2.4
    assert (tools / "op.calls").read_text().count("\n") == 5
    assert (tools / "vault.calls").read_text().count("\n") == 1
    assert (values[fields[0]], values[fields[1]]) == ("one", "two")


def test_all_that_is_missing_is_named_in_one_run_and_a_known_value_is_masked(
    tools: Path, tmp_path: Path
) -> None:
    stand_in(tools, "op", err="broken: planted-secret-1 is not what I want", code=3)
    os.environ["PLANTED_TEST"] = "planted-secret-1"
    try:
        with pytest.raises(Problems) as caught:
            ask(
                parsed("op://a/b/c"),
                parsed("ref+env://NOT_THERE_X"),
                parsed("ref+env://PLANTED_TEST"),
                root=tmp_path,
            )
    finally:
        del os.environ["PLANTED_TEST"]
    told = str(caught.value)
    assert "op failed with code 3. op said: broken: *** is not what I want" in told
    assert "the variable NOT_THERE_X is not set here" in told
    assert len(caught.value.problems) == 2


def test_a_command_gets_its_words_as_they_are_and_loses_one_newline(tmp_path: Path) -> None:
    reference = checked("command", "", command=("printf", "%s\n\n", "$HOME; a b"))
    assert ask(reference, root=tmp_path) == {reference: "$HOME; a b\n"}
    assert command_of(reference) == ("printf", "%s\n\n", "$HOME; a b")


def test_no_secret_is_in_an_argument_and_standard_input_is_closed(tools: Path, tmp_path: Path) -> None:
    stand_in(tools, "op", script='read line && exit 9; printf "%s" quiet-secret; exit 0')
    reference = parsed("op://a/b/c")
    assert ask(reference, root=tmp_path)[reference] == "quiet-secret"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("op://a/b", "is op://VAULT/ITEM/FIELD"),
        ("ref+valt://x", "Did you mean vault?"),
        ("ref+vault://secret/x", "says which field"),
        ("ref+doppler://X?projekt=a", "no option 'projekt'; there are: project, config"),
        ("ref+doppler://X#y", "has no field"),
        ("ref+bws://", "says which secret"),
        ("ref+lpass://--help", "can't begin with a dash"),
        ("ref+command://rm", "is said in the inventory"),
        ("ref+vault://x?mount=a%00b#y", "can't hold a NUL character"),
    ],
)
def test_a_reference_that_can_not_be_right_is_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        parse_reference(text)


def test_a_word_of_a_command_that_can_not_be_an_argument_is_a_sentence() -> None:
    with pytest.raises(ValueError, match="can't hold a NUL character"):
        checked("command", "", command=("pass", "show", "a\0b"))


@pytest.mark.parametrize(
    "text", ["", "hello", "https://x", "vault://secret/x", "xop://a/b/c", "op:/a", "ref+vault:x"]
)
def test_other_values_stand_for_themselves(text: str) -> None:
    assert parse_reference(text) is None


def test_a_text_that_looks_like_a_reference_can_be_meant(tmp_path: Path) -> None:
    reference = parsed("ref+literal://op://is/not/read")
    assert ask(reference, root=tmp_path) == {reference: "op://is/not/read"}


def test_a_tool_that_can_not_be_started_is_a_sentence(tools: Path, tmp_path: Path) -> None:
    (tools / "op").write_text("no program at all")
    (tools / "op").chmod(0o755)
    with pytest.raises(LongshoreError, match="op"):
        ask(parsed("op://a/b/c"), root=tmp_path)


def test_a_number_of_sops_stays_as_it_is_written_and_a_number_inside_of_a_set(
    tools: Path, tmp_path: Path
) -> None:
    stand_in(tools, "sops", out='{"one": 1.50, "set": {"port": 5432, "share": 0.5}, "list": [1, "2"]}')
    one, some, several = (parsed(f"ref+sops://a.yaml#{name}") for name in ("one", "set", "list"))
    found = ask(one, some, several, root=tmp_path)
    assert found[one] == "1.50"
    assert json.loads(found[some]) == {"port": 5432, "share": 0.5}
    assert json.loads(found[several]) == [1, "2"]


def test_a_number_in_the_json_of_a_secret_is_taken_as_it_is_written(tools: Path, tmp_path: Path) -> None:
    secret = '{"pin": 0.10, "set": {"port": 5432}}'
    stand_in(tools, "aws", out=json.dumps({"SecretString": secret}))
    stand_in(tools, "gcloud", out=base64.b64encode(secret.encode()).decode())
    for store in ("aws", "gcp"):
        pin, some = (parsed(f"ref+{store}://shop#{name}") for name in ("pin", "set"))
        found = ask(pin, some, root=tmp_path)
        assert (found[pin], json.loads(found[some])) == ("0.10", {"port": 5432})


def test_a_sops_file_that_would_lose_a_part_of_a_value_is_refused(tools: Path, tmp_path: Path) -> None:
    stand_in(tools, "sops", out="A=$2y$10$abcdefgh\nB='$2y$10$abcdefgh'\n")
    assert list(ask(parsed("ref+sops://x.env#B"), root=tmp_path).values()) == ["$2y$10$abcdefgh"]
    with pytest.raises(InventoryError, match=r"has a \$ and a name that is not set"):
        ask(parsed("ref+sops://x.env#A"), root=tmp_path)


def test_a_call_that_fails_is_said_once_with_all_that_it_was_for(tools: Path, tmp_path: Path) -> None:
    stand_in(tools, "sops", err="Could not decrypt value: cipher: message authentication failed", code=1)
    with pytest.raises(
        InventoryError, match=r"KEY_0, KEY_1 of shop \(sops://x.yaml\): SOPS says that"
    ) as caught:
        ask(parsed("ref+sops://x.yaml#A"), parsed("ref+sops://x.yaml#B"), root=tmp_path)
    assert str(caught.value).count("\n") == 0
