"""A registry's API, as far as it is needed (OCI distribution specification, v1.1): manifests and configs.

Images themselves are pushed and pulled by engines; what is read here is small.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import ssl
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import quote, urlencode, urljoin, urlsplit

from longshore.errors import LongshoreError
from longshore.images.login import Login, logins
from longshore.images.reference import DOCKER_HUB, Reference
from longshore.inventory.model import Registry

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
LISTS = (OCI_INDEX, DOCKER_LIST)
_ACCEPT = ", ".join(
    (
        *LISTS,
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
_SECONDS = 10.0
_MOST = 8 << 20
"""Bytes of a manifest or config; registries refuse more than 4 MiB."""
_REDIRECTS = (301, 302, 303, 307, 308)
_FULL = re.compile(rb'(?i)no space left|"Err": ?28\b')
"""Of docker-registry 2 the number: ENOSPC, in its driver's error."""
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class RefusedError(Exception):
    """The registry answered, and not with what was asked for. The text is a sentence's part."""


class NotThereError(RefusedError):
    """The registry has no such thing."""


class NoSpaceError(RefusedError):
    """The registry has no space left."""


UNREACHED = (OSError, HTTPException)
"""What is raised when no registry answers."""


def why(error: Exception, base: str) -> str:
    """Why there was no answer, with the registry's address."""
    if isinstance(error, RefusedError):
        return str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{base}: its certificate is not trusted ({error.verify_message})"
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"{base}: {said or type(error).__name__}"


class Client:
    """One registry. Safe to use from several threads: each request has a connection of its own."""

    def __init__(self, registry: Registry, login: Login | None = None) -> None:
        self.registry = registry
        self.login = login
        self.base, self.insecure = endpoint(registry)
        self._tokens: dict[str, str] = {}

    def digest(self, reference: Reference) -> str:
        """The digest that a reference's tag has now. Only ``HEAD``: Docker Hub doesn't count it as a pull."""
        response = self._call("HEAD", _path(reference.repository, reference.digest or reference.tag))
        digest = response.getheader("Docker-Content-Digest") or ""
        if not DIGEST.fullmatch(digest):
            raise RefusedError(f"{self.base} names no digest of {reference.name}")
        return digest

    def manifest(self, repository: str, tag: str) -> dict[str, Any]:
        """A manifest or index, by tag or digest, with ``mediaType`` and our own ``digest`` and ``size``."""
        response = self._call("GET", _path(repository, tag))
        data: bytes = response.body  # type: ignore[attr-defined]
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        if tag.startswith("sha256:") and tag != digest:
            raise RefusedError(f"{self.base} gives other content for {tag}")
        value = _json(data, self.base)
        kind = value.get("mediaType") or (response.getheader("Content-Type") or "").split(";")[0]
        return {**value, "mediaType": kind, "digest": digest, "size": len(data)}

    def blob(self, repository: str, digest: str) -> dict[str, Any]:
        """A small blob that is JSON: an image's config."""
        response = self._call("GET", f"/v2/{quote(repository)}/blobs/{digest}")
        data: bytes = response.body  # type: ignore[attr-defined]
        if digest != "sha256:" + hashlib.sha256(data).hexdigest():
            raise RefusedError(f"{self.base} gives other content for {digest}")
        return _json(data, self.base)

    def tags(self, repository: str) -> list[str]:
        """A repository's tags, in the registry's order, without those of build caches."""
        response = self._call("GET", f"/v2/{quote(repository)}/tags/list")
        found = _json(response.body, self.base).get("tags") or []  # type: ignore[attr-defined]
        return [str(tag) for tag in found if not str(tag).startswith("cache-")]

    def put(self, repository: str, tag: str, data: bytes, kind: str) -> str:
        """Store a manifest or index under a tag, and return its digest."""
        self._call("PUT", _path(repository, tag), body=data, kind=kind)
        return "sha256:" + hashlib.sha256(data).hexdigest()

    def is_full(self, repository: str) -> bool:
        """Whether it says, asked to take something, that it has no space left. Engines don't hand on what
        a registry says with status 500. Raises ``RefusedError`` and what ``UNREACHED`` lists."""
        try:
            started = self._call("POST", f"/v2/{quote(repository)}/blobs/uploads/", body=b"")
        except NoSpaceError:
            return True
        if place := started.getheader("Location"):
            self._call("DELETE", urljoin(self.base, place).removeprefix(self.base))
        return False

    def _call(self, method: str, path: str, *, body: bytes | None = None, kind: str = "") -> HTTPResponse:
        headers = {"Accept": _ACCEPT if "/manifests/" in path else "*/*"}
        if kind:
            headers["Content-Type"] = kind
        scope = path.rpartition("/")[0].rpartition("/")[0] + ("!" if body is not None else "")
        if scope in self._tokens:
            headers["Authorization"] = self._tokens[scope]
        url = self.base + path
        response = self._ask(method, url, headers, body)
        if response.status == 401:
            headers["Authorization"] = self._tokens[scope] = self._authorization(response)
            response = self._ask(method, url, headers, body)
        for _ in range(5):
            target = response.getheader("Location")
            if response.status not in _REDIRECTS or not target:
                break
            # Blobs often lie in another store, to which the login must not go.
            url = urljoin(url, target)
            if urlsplit(url).netloc != urlsplit(self.base).netloc:
                headers.pop("Authorization", None)
            response = self._ask(method, url, headers, body)
        if response.status == 404:
            raise NotThereError(f"{self.base} has no {path.removeprefix('/v2/')}")
        if response.status in (401, 403):
            raise RefusedError(f"{self.registry.name} refuses {self._who()}{_said(response)}")
        if response.status == 507 or (response.status >= 400 and _FULL.search(response.body)):  # type: ignore[attr-defined]
            raise NoSpaceError(f"{self.registry.name} has no space left")
        if response.status not in (200, 201, 202, 204):
            raise RefusedError(f"{self.base} answered {response.status} {response.reason}{_said(response)}")
        return response

    def _who(self) -> str:
        return f"the login of {self.login.username}" if self.login else "access without a login"

    def _ask(self, method: str, address: str, headers: Mapping[str, str], body: bytes | None) -> HTTPResponse:
        url = urlsplit(address)
        if not url.hostname:
            raise RefusedError(f"{address} is not the address of a registry")
        connection: HTTPConnection
        if url.scheme == "http":
            connection = HTTPConnection(url.hostname, url.port, timeout=_SECONDS)
        else:
            connection = HTTPSConnection(url.hostname, url.port, timeout=_SECONDS, context=self._tls())
        target = url.path + (f"?{url.query}" if url.query else "")
        try:
            connection.request(method, target, body=body, headers=dict(headers))
            response = connection.getresponse()
            response.body = response.read(_MOST)  # type: ignore[attr-defined]
            return response
        finally:
            connection.close()

    def _tls(self) -> ssl.SSLContext:
        ca = self.registry.ca
        try:
            context = ssl.create_default_context()
            if ca is not None:
                context.load_verify_locations(cafile=str(ca))
        except (OSError, ssl.SSLError) as error:
            raise LongshoreError(
                f"no certificate authorities can be read from it: {error.strerror or error}", where=str(ca)
            ) from None
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def _authorization(self, response: HTTPResponse) -> str:
        challenge = response.getheader("WWW-Authenticate") or ""
        kind, _, rest = challenge.partition(" ")
        basic = ""
        if self.login is not None and not self.login.token:
            pair = f"{self.login.username}:{self.login.password}".encode()
            basic = "Basic " + base64.b64encode(pair).decode()
        name = self.registry.name
        if kind.lower() == "basic":
            if not basic:
                raise RefusedError(f"{name} wants a login")
            return basic
        facts = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        if kind.lower() != "bearer" or "realm" not in facts:
            raise RefusedError(f"{name} asks for a login that is not understood ({kind or 'none named'})")
        realm = urlsplit(facts["realm"])
        if realm.scheme != "https" and not self.insecure:
            raise RefusedError(f"{name} asks to send the login unencrypted to {facts['realm']}")
        asked = {key: facts[key] for key in ("service", "scope") if key in facts}
        if self.login is not None and self.login.token:
            form = {
                "grant_type": "refresh_token",
                "refresh_token": self.login.token,
                "client_id": "longshore",
            }
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            answer = self._ask("POST", facts["realm"], headers, urlencode({**asked, **form}).encode())
        else:
            address = f"{realm.scheme}://{realm.netloc}{realm.path}?{urlencode(asked)}"
            answer = self._ask("GET", address, {"Authorization": basic} if basic else {}, None)
        if answer.status in (401, 403):
            raise RefusedError(f"{name} refuses {self._who()}")
        try:
            token = json.loads(answer.body)  # type: ignore[attr-defined]
            return "Bearer " + str(token.get("token") or token["access_token"])
        except (ValueError, KeyError, AttributeError) as error:
            raise RefusedError(f"{name} gave no token ({answer.status})") from error


class Clients:
    """The registries of a run, each made when it is first asked. ``known`` are those of the inventory."""

    def __init__(self, known: Mapping[str, Registry]) -> None:
        self.known = known
        self._made: dict[str, Client] = {}

    def of(self, reference: Reference) -> Client:
        """The client for a reference's registry. Raises ``LongshoreError`` when a credential helper fails."""
        name = reference.registry
        if name not in self._made:
            registry = self.known.get(name, Registry(name))
            # A mirror is another registry: what opens the one is not for the other.
            login = logins([name], self.known).get(name)
            self._made[name] = Client(registry, login)
        return self._made[name]


def endpoint(registry: Registry) -> tuple[str, bool]:
    """Where a registry is asked (``scheme://host``), and whether its certificate doesn't matter."""
    if registry.mirror:
        mirror = registry.mirror.rstrip("/")
        if "://" not in mirror:
            mirror = f"{'http' if registry.insecure else 'https'}://{mirror}"
        return mirror, registry.insecure
    if registry.name == DOCKER_HUB:
        return "https://registry-1.docker.io", False
    # Docker, too, takes a registry on loopback for insecure.
    host = registry.name.rsplit(":", 1)[0]
    plain = registry.insecure or host == "localhost" or host.startswith("127.")
    return f"{'http' if plain else 'https'}://{registry.name}", plain


def _path(repository: str, tag: str | None) -> str:
    return f"/v2/{quote(repository)}/manifests/{quote(tag or 'latest', safe=':')}"


def _json(data: bytes, base: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise RefusedError(f"{base} answered what can't be read")
    return value


def _said(response: HTTPResponse) -> str:
    """The registry's own words, when there are any."""
    try:
        errors = json.loads(response.body)["errors"]  # type: ignore[attr-defined]
        text = "; ".join(str(one.get("message") or one.get("code")) for one in errors)
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""
    return f": {text}" if text else ""
