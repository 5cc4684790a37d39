"""From a tag to a digest, by asking the registry (OCI distribution specification, v1.1).

Only ``HEAD`` and a token request: nothing is pulled here, and Docker Hub doesn't count it as a pull.
"""

from __future__ import annotations

import base64
import json
import re
import ssl
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from urllib.parse import quote, urlencode, urlsplit

from longshore.errors import LongshoreError
from longshore.images.reference import DOCKER_HUB, Reference, parse
from longshore.inventory.model import Registry

_ACCEPT = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
_SECONDS = 10.0


@dataclass(frozen=True)
class Resolved:
    """``digests``: reference as written to reference by digest. ``unpinned``: reference to why not."""

    digests: Mapping[str, str]
    unpinned: Mapping[str, str]


class ImageMissingError(LongshoreError):
    """The registry was reached, and has no such image."""


def resolve(references: Iterable[str], registries: Mapping[str, Registry]) -> Resolved:
    """Ask the registries for the digest of every reference that has none, all at once.

    A registry that can't be reached from here is no error: the hosts may reach it, and each pins what it
    pulls. Raises ``ImageMissingError`` for an image that a registry which was reached doesn't have.
    """
    wanted = {text: parse(text) for text in dict.fromkeys(references)}
    asked = {text: reference for text, reference in wanted.items() if not reference.digest}
    if not asked:
        return Resolved({}, {})
    digests: dict[str, str] = {}
    unpinned: dict[str, str] = {}
    with ThreadPoolExecutor(max_workers=min(8, len(asked))) as pool:
        futures = {text: pool.submit(_digest, reference, registries) for text, reference in asked.items()}
        for text, future in futures.items():
            try:
                digests[text] = asked[text].pinned(future.result())
            except (OSError, HTTPException, _RefusedError) as error:
                unpinned[text] = _why(error, _endpoint(asked[text], _registry(asked[text], registries))[0])
    return Resolved(digests, unpinned)


class _RefusedError(Exception):
    pass


def _why(error: Exception, base: str) -> str:
    """Why there is no digest, with the registry's address."""
    if isinstance(error, _RefusedError):
        return str(error)
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"{base}: {said or type(error).__name__}"


def _registry(reference: Reference, registries: Mapping[str, Registry]) -> Registry:
    return registries.get(reference.registry, Registry(reference.registry))


def _digest(reference: Reference, registries: Mapping[str, Registry]) -> str:
    registry = _registry(reference, registries)
    base, insecure = _endpoint(reference, registry)
    path = f"/v2/{quote(reference.repository)}/manifests/{quote(reference.tag or 'latest')}"
    headers = {"Accept": _ACCEPT}
    response = _ask(base, insecure, "HEAD", path, headers)
    if response.status == 401:
        headers["Authorization"] = _authorization(response, registry, insecure)
        response = _ask(base, insecure, "HEAD", path, headers)
    if response.status == 404:
        raise ImageMissingError(
            f"there is no image {reference.name}:{reference.tag} in the registry.",
            hint="Build and push it, or correct its name.",
        )
    digest = response.getheader("Docker-Content-Digest")
    if response.status != 200 or not digest or not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        raise _RefusedError(f"{base} answered {response.status} {response.reason}")
    return digest


def _endpoint(reference: Reference, registry: Registry) -> tuple[str, bool]:
    if registry.mirror:
        return registry.mirror.rstrip("/"), registry.insecure
    if reference.registry == DOCKER_HUB:
        return "https://registry-1.docker.io", False
    # Docker, too, takes a registry on loopback for insecure.
    host = reference.registry.rsplit(":", 1)[0]
    plain = registry.insecure or host == "localhost" or host.startswith("127.")
    return f"{'http' if plain else 'https'}://{reference.registry}", plain


def _ask(base: str, insecure: bool, method: str, path: str, headers: Mapping[str, str]) -> HTTPResponse:
    url = urlsplit(base)
    if not url.hostname:
        raise _RefusedError(f"{base} is not the address of a registry")
    connection: HTTPConnection
    if url.scheme == "http":
        connection = HTTPConnection(url.hostname, url.port, timeout=_SECONDS)
    else:
        context = ssl.create_default_context()
        if insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        connection = HTTPSConnection(url.hostname, url.port, timeout=_SECONDS, context=context)
    try:
        connection.request(method, url.path.rstrip("/") + path, headers=dict(headers))
        response = connection.getresponse()
        response.body = response.read()  # type: ignore[attr-defined]
        return response
    finally:
        connection.close()


def _authorization(response: HTTPResponse, registry: Registry, insecure: bool) -> str:
    challenge = response.getheader("WWW-Authenticate") or ""
    kind, _, rest = challenge.partition(" ")
    login = ""
    if registry.username and registry.password:
        pair = f"{registry.username}:{registry.password}".encode()
        login = "Basic " + base64.b64encode(pair).decode()
    if kind.lower() == "basic":
        if not login:
            raise _RefusedError(f"{registry.name} wants a login")
        return login
    facts = dict(re.findall(r'(\w+)="([^"]*)"', rest))
    if kind.lower() != "bearer" or "realm" not in facts:
        raise _RefusedError(
            f"{registry.name} asks for a login that is not understood ({kind or 'none named'})"
        )
    realm = urlsplit(facts["realm"])
    if realm.scheme != "https" and not insecure:
        raise _RefusedError(f"{registry.name} asks to send the login unencrypted to {facts['realm']}")
    query = urlencode({key: facts[key] for key in ("service", "scope") if key in facts})
    base = f"{realm.scheme}://{realm.netloc}"
    answer = _ask(base, insecure, "GET", f"{realm.path}?{query}", {"Authorization": login} if login else {})
    try:
        token = json.loads(answer.body)  # type: ignore[attr-defined]
        return "Bearer " + str(token.get("token") or token["access_token"])
    except (ValueError, KeyError, AttributeError) as error:
        raise _RefusedError(f"{registry.name} gave no token ({answer.status})") from error
