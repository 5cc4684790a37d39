"""How each store's own tool reads one secret to standard output: data, a few lines for each.

What each tool is called with, answers and says when it fails is from its documentation and source: op 2,
bw, bws, lpass 1.3, doppler 3, aws 1 and 2, gcloud, vault, sops 3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from types import MappingProxyType
from typing import Any

from longshore.records import dataclass
from longshore.secrets import answers

_NONE: Mapping[str, Any] = MappingProxyType({})
Read = Callable[[str, str, str], str]
"""Takes what the tool printed, the reference's ``ref`` and its field. Raises ``LookupError`` with a sentence
when the field isn't there, and ``ValueError`` for what the tool would never print."""


@dataclass(frozen=True)
class Adapter:
    """A store. ``{ref}``, ``{field}`` and ``{value}`` in its words are replaced."""

    title: str
    example: str
    program: str = ""
    argv: tuple[str, ...] = ()
    last: tuple[str, ...] = ()
    """Words after the options, for tools that take options only before what they read."""
    options: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: _NONE)
    defaults: Mapping[str, str] = field(default_factory=lambda: _NONE)
    """Options that are always given."""
    fields: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: _NONE)
    """How a field is asked for; ``*`` stands for any other. Empty: the field is picked from the answer."""
    takes_field: bool = False
    usual_field: str = ""
    """The field where none is said."""
    field_needed: bool = False
    may_be_empty: bool = False
    read: Read = lambda text, ref, field: text
    environment: Mapping[str, str] = field(default_factory=lambda: _NONE)
    errors: tuple[tuple[str, str, str], ...] = ()
    """A regular expression of what the tool says, the sentence for it, and what to do."""
    install: str = ""


_SIGN_IN = (
    r"(?i)not (currently )?signed in|no accounts? configured|session expired|401|unauthorized|"
    r"authorization (prompt|timeout)|account is not signed in|connecting to desktop app"
)

ADAPTERS: Mapping[str, Adapter] = {
    "op": Adapter(
        title="1Password",
        example="op://VAULT/ITEM/FIELD",
        program="op",
        argv=("read", "--no-newline", "op://{ref}"),
        options={"account": ("--account={value}",)},
        errors=(
            (
                r"isn't an item|isn't a vault|does(n't| not) have a field|could not find|more than one item",
                "1Password has no such secret",
                "Check vault, item and field: op item list --vault VAULT.",
            ),
            (
                _SIGN_IN,
                "1Password is not signed in",
                "Run `eval $(op signin)`, or set OP_SERVICE_ACCOUNT_TOKEN.",
            ),
        ),
        install="https://developer.1password.com/docs/cli/get-started",
    ),
    "bw": Adapter(
        title="Bitwarden",
        example="ref+bw://ITEM#password",
        program="bw",
        argv=("get", "item", "{ref}", "--nointeraction"),
        options={"organization": ("--organizationid", "{value}")},
        takes_field=True,
        usual_field="password",
        read=answers.bitwarden,
        errors=(
            (r"(?i)not found", "Bitwarden has no such item", "`bw sync` fetches what is new."),
            (r"(?i)more than one result", "Bitwarden has several such items", "Give the item's id."),
            (
                r"(?i)locked|master password",
                "Bitwarden is locked",
                "Run `export BW_SESSION=$(bw unlock --raw)`.",
            ),
            (r"(?i)not logged in", "Bitwarden is not logged in", "Run `bw login`, then unlock it."),
        ),
        install="https://bitwarden.com/help/cli/",
    ),
    "bws": Adapter(
        title="Bitwarden Secrets Manager",
        example="ref+bws://be8e0ad8-d545-4017-a55a-b02f014d4158",
        program="bws",
        argv=("secret", "get", "{ref}", "--output", "json"),
        options={"profile": ("--profile", "{value}"), "server": ("--server-url", "{value}")},
        read=answers.bitwarden_secret,
        environment={"NO_COLOR": "1"},
        errors=(
            (
                r"(?i)missing access token|401|unauthorized",
                "Bitwarden has no access token",
                "Set BWS_ACCESS_TOKEN.",
            ),
            (r"(?i)404|not found|uuid", "Bitwarden has no such secret", "Give its id: `bws secret list`."),
        ),
        install="https://bitwarden.com/help/secrets-manager-cli/",
    ),
    "lpass": Adapter(
        title="LastPass",
        example="ref+lpass://FOLDER/ITEM#password",
        program="lpass",
        argv=("show", "--color=never"),
        fields={
            "password": ("--password",),
            "username": ("--username",),
            "url": ("--url",),
            "notes": ("--notes",),
            "*": ("--field={field}",),
        },
        last=("{ref}",),
        takes_field=True,
        usual_field="password",
        read=answers.one_line_off,
        environment={"LPASS_DISABLE_PINENTRY": "1", "LPASS_AUTO_SYNC_TIME": "60"},
        errors=(
            (
                r"(?i)lpass login|not (currently )?logged in",
                "LastPass is not logged in",
                "Run `lpass login`.",
            ),
            (r"(?i)could not find specified", "LastPass has no such entry", "Look with `lpass ls`."),
            (r"(?i)multiple matches", "LastPass has several such entries", "Give the entry's id."),
        ),
        install="https://github.com/lastpass/lastpass-cli",
    ),
    "doppler": Adapter(
        title="Doppler",
        example="ref+doppler://DB_PASSWORD?project=shop&config=prd",
        program="doppler",
        argv=("secrets", "get", "{ref}", "--plain"),
        options={"project": ("--project", "{value}"), "config": ("--config", "{value}")},
        read=answers.one_line_off,
        environment={"DOPPLER_ENABLE_VERSION_CHECK": "false"},
        errors=(
            (
                r"(?i)must provide a token|invalid (auth|service) token|unauthorized|401",
                "Doppler is not logged in",
                "Run `doppler login`, or set DOPPLER_TOKEN.",
            ),
            (
                r"(?i)could not find requested (secret|project|config)",
                "Doppler has no such secret",
                "Check its name, project and config.",
            ),
            (
                r"(?i)must (specify|provide) a (project|config)",
                "Doppler was not told which project and config",
                "Add ?project=…&config=….",
            ),
        ),
        install="https://docs.doppler.com/docs/install-cli",
    ),
    "aws": Adapter(
        title="AWS Secrets Manager",
        example="ref+aws://prod/db?region=eu-central-1#password",
        program="aws",
        argv=("secretsmanager", "get-secret-value", "--secret-id", "{ref}", "--output", "json"),
        options={
            "region": ("--region", "{value}"),
            "profile": ("--profile", "{value}"),
            "stage": ("--version-stage", "{value}"),
        },
        takes_field=True,
        read=answers.aws,
        environment={"AWS_PAGER": "", "AWS_CLI_AUTO_PROMPT": "off"},
        errors=(
            (
                r"ResourceNotFoundException",
                "AWS Secrets Manager has no such secret in this region",
                "Check its name, and the region: ?region=….",
            ),
            (
                r"(?i)unable to locate credentials|ExpiredToken|UnrecognizedClient|InvalidClientToken|"
                r"sso login|token has expired|InvalidSignature",
                "AWS has no valid credentials",
                "Run `aws sso login` or `aws configure`.",
            ),
            (r"AccessDenied", "AWS doesn't allow it", "It needs secretsmanager:GetSecretValue."),
            (r"(?i)specify a region", "AWS was not told which region", "Add ?region=…, or set AWS_REGION."),
        ),
        install="https://docs.aws.amazon.com/cli/latest/userguide/getting-started-install.html",
    ),
    "gcp": Adapter(
        title="GCP Secret Manager",
        example="ref+gcp://db-password?project=shop-prod",
        program="gcloud",
        # The raw output would be changed for what is not text; the documented way for that is base64.
        argv=("secrets", "versions", "access", "--secret={ref}", "--format=get(payload.data)", "--quiet"),
        options={"project": ("--project={value}",), "version": ("{value}",)},
        defaults={"version": "latest"},
        takes_field=True,
        read=answers.google,
        environment={
            "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
            "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "1",
        },
        errors=(
            (r"NOT_FOUND", "GCP Secret Manager has no such secret", "Check its name, version and project."),
            (
                r"(?i)active account|gcloud auth login|reauthentication|credentials",
                "gcloud is not logged in",
                "Run `gcloud auth login`.",
            ),
            (r"PERMISSION_DENIED", "GCP doesn't allow it", "It needs secretmanager.versions.access."),
            (
                r"(?i)project.*(required|not set|specify)",
                "gcloud was not told which project",
                "Add ?project=….",
            ),
        ),
        install="https://cloud.google.com/sdk/docs/install",
    ),
    "vault": Adapter(
        title="HashiCorp Vault",
        example="ref+vault://secret/shop/db#password",
        program="vault",
        argv=("kv", "get", "-format=json"),
        options={
            "mount": ("-mount={value}",),
            "namespace": ("-namespace={value}",),
            "version": ("-version={value}",),
            "address": ("-address={value}",),
        },
        last=("{ref}",),
        takes_field=True,
        field_needed=True,
        read=answers.vault,
        environment={"VAULT_CLI_NO_COLOR": "1"},
        errors=(
            (
                r"(?i)no value found|no handler for route|404",
                "Vault has no such secret",
                "Check mount and path.",
            ),
            (
                r"(?i)permission denied|missing client token|403",
                "Vault doesn't allow it",
                "Run `vault login`, or set VAULT_TOKEN.",
            ),
            (
                r"(?i)connection refused|no such host|i/o timeout|sealed|tls",
                "Vault can't be reached",
                "Check VAULT_ADDR, and that it is unsealed.",
            ),
        ),
        install="https://developer.hashicorp.com/vault/install",
    ),
    "sops": Adapter(
        title="SOPS",
        example="ref+sops://secrets/shop.yaml#DB_PASSWORD",
        program="sops",
        argv=("--decrypt",),
        options={"type": ("--output-type", "{value}")},
        last=("{ref}",),
        takes_field=True,
        field_needed=True,
        may_be_empty=True,
        read=answers.sops,
        errors=(
            (
                r"(?i)data key|no (age )?identit|no matching keys",
                "SOPS has no key that opens the file",
                "Check SOPS_AGE_KEY_FILE, or your login to the key service.",
            ),
            (
                r"(?i)MAC mismatch|could not decrypt value|does not match sops' data format",
                "SOPS says that the file was changed by hand",
                "Change it with `sops FILE`.",
            ),
            (
                r"(?i)metadata not found",
                "the file is not encrypted",
                "`sops --encrypt --in-place FILE` does it.",
            ),
            (r"(?i)no such file|cannot operate on non-existent", "the file doesn't exist", "Check its path."),
        ),
        install="https://getsops.io",
    ),
    "env": Adapter(title="the environment", example="ref+env://DB_PASSWORD"),
    "command": Adapter(
        title="a command", example="{from: command, command: [pass, show, db]}", read=answers.one_line_off
    ),
    "literal": Adapter(title="a literal text", example="ref+literal://op://is/not/read"),
}
"""By the name that a reference says. ``env``, ``command`` and ``literal`` run no tool of a vendor."""

ALIASES = {
    "1password": "op",
    "bitwarden": "bw",
    "bitwarden-secrets": "bws",
    "lastpass": "lpass",
    "gcloud": "gcp",
    "hashicorp-vault": "vault",
}
