"""A registry, asked as the engine would ask it: where it is, whom it trusts, who we are to it. Only reading.

Sources: OCI distribution specification, v1.1; "Token Authentication Specification" of the distribution
project; docs.docker.com, "Verify repository client with certificates" (``certs.d``) and "Test an insecure
registry"; the engine's ``/info`` for what it was told of registries.
"""

import base64
import glob
import ipaddress
import json
import os
import re
import socket
import ssl
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any, Dict, List, Optional
from urllib.parse import urlencode, urljoin, urlsplit

CERTS = "/etc/docker/certs.d"
HUB = "registry-1.docker.io"
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
ACCEPT = ", ".join(
    (
        INDEX,
        "application/vnd.docker.distribution.manifest.list.v2+json",
        MANIFEST,
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
UNREACHED = (OSError, HTTPException)
"""What is raised when no registry answers, or not to the end: it may do so later."""
_CONNECT = 10.0
_SILENCE = 20.0
"""Seconds without a byte after which a line is taken for dead: nobody tells of a cable that was pulled."""
_REDIRECTS = (301, 302, 303, 307, 308)
_PASSING = (408, 425, 429)
"""Statuses below 500 that say: later."""


class NoUseError(Exception):
    """It can't be asked from here as the engine does, or its answer is a no that stays one."""


class Answer:
    """An answer whose body is still to be read; closed by who has it."""

    def __init__(self, connection: HTTPConnection, response: HTTPResponse) -> None:
        self._connection = connection
        self._response = response
        self.status = response.status
        self.reason = response.reason

    def header(self, name: str) -> str:
        return self._response.getheader(name) or ""

    def some(self, most: int = 1 << 16) -> bytes:
        """The next bytes, as they come; none at its end, also at one that came too early."""
        return self._response.read1(most)

    def read(self, most: int) -> bytes:
        """All of it, or ``most`` bytes. Raises what ``UNREACHED`` lists, also when it ended too early."""
        data = self._response.read(most)
        promised = self.header("Content-Length")
        if promised.isdigit() and len(data) < min(int(promised), most):
            raise ConnectionResetError("unexpected EOF")
        return data

    def close(self) -> None:
        self._response.close()
        self._connection.close()


class Repository:
    """One repository of a registry, at all the places where the engine looks for it."""

    def __init__(
        self, registry: str, name: str, auth: Optional[Dict[str, str]], info: Dict[str, Any]
    ) -> None:
        """``registry``: as in an image reference; ``auth``: the engine's ``X-Registry-Auth``; ``info``: the
        engine's. Raises ``NoUseError``."""
        settings = info.get("RegistryConfig")
        if not settings:
            raise NoUseError("the engine doesn't say how it asks registries")
        if info.get("HttpProxy") or info.get("HttpsProxy"):
            raise NoUseError("the engine asks by a proxy")
        if any("rootless" in str(one) for one in info.get("SecurityOptions") or []):
            raise NoUseError("the engine has a network and certificates of its own")
        self._places: List[_Place] = []
        self._own = HUB if registry == "docker.io" else registry
        if registry == "docker.io":
            name = name if "/" in name else f"library/{name}"
            for mirror in (settings.get("IndexConfigs") or {}).get(registry, {}).get("Mirrors") or []:
                url = urlsplit(mirror)
                # A mirror is another registry: what opens the one is not for the other.
                secure = not _is_insecure(url.netloc, settings)
                self._places.append(_Place(url.scheme, url.netloc, url.path.rstrip("/"), name, None, secure))
            self._places.append(_Place("https", HUB, "", name, auth, True))
        elif _is_insecure(registry, settings):
            self._places += [_Place(scheme, registry, "", name, auth, False) for scheme in ("https", "http")]
        else:
            self._places.append(_Place("https", registry, "", name, auth, True))

    def ask(self, path: str, headers: Dict[str, str], method: str = "GET") -> Answer:
        """Ask for ``manifests/…`` or ``blobs/…``; the answer has a status of 200 or 206.

        Raises what ``UNREACHED`` lists when it may answer later, and ``NoUseError``.
        """
        said: Optional[Exception] = None
        for place in list(self._places):
            try:
                answer = place.ask(method, path, headers)
            except (NoUseError, ValueError, *UNREACHED) as error:
                # Not a mirror's, nor that TLS isn't spoken there.
                if place.netloc == self._own or said is None:
                    said = error
            else:
                # First the next time; and where TLS is spoken, or isn't, is known now.
                rest = [one for one in self._places if one.netloc != place.netloc]
                self._places = [place, *rest]
                return answer
        if said is None or (isinstance(said, ValueError) and not isinstance(said, UNREACHED)):
            raise NoUseError(f"what it says can't be read: {said}") from said
        raise said


class _Place:
    """The repository at one address."""

    def __init__(
        self, scheme: str, netloc: str, path: str, name: str, auth: Optional[Dict[str, str]], secure: bool
    ) -> None:
        self.netloc = netloc
        self.base = f"{scheme}://{netloc}{path}/v2/{name}/"
        self._name = name
        self._auth = auth or {}
        self._secure = secure
        self._authorization = ""
        self._folder = os.path.join(CERTS, netloc)
        self._context: Optional[ssl.SSLContext] = None

    def ask(self, method: str, path: str, headers: Dict[str, str]) -> Answer:
        answer = self._follow(method, path, headers)
        if answer.status == 401:
            challenge = answer.header("WWW-Authenticate")
            answer.close()
            self._authorization = self._authorize(challenge)
            answer = self._follow(method, path, headers)
        if answer.status in (200, 206):
            return answer
        answer.close()
        said = f"unexpected status from {self.netloc}: {answer.status} {answer.reason}"
        if answer.status >= 500 or answer.status in _PASSING:
            raise HTTPException(said)
        raise NoUseError(said)

    def _follow(self, method: str, path: str, headers: Dict[str, str]) -> Answer:
        url = self.base + path
        home = urlsplit(url)
        for _ in range(6):
            sent = dict(headers)
            # Blobs often lie in another store, to which the login must not go.
            if self._authorization and urlsplit(url)[:2] == home[:2]:
                sent["Authorization"] = self._authorization
            answer = self._send(method, url, sent)
            target = answer.header("Location")
            if answer.status not in _REDIRECTS or not target:
                return answer
            answer.close()
            url = urljoin(url, target)
        raise NoUseError(f"{home.netloc} sends from one place to the next")

    def _send(
        self, method: str, address: str, headers: Dict[str, str], body: Optional[bytes] = None
    ) -> Answer:
        url = urlsplit(address)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise NoUseError(f"{address} is no address of a registry")
        connection = (
            HTTPSConnection(url.hostname, url.port, timeout=_CONNECT, context=self._tls())
            if url.scheme == "https"
            else HTTPConnection(url.hostname, url.port, timeout=_CONNECT)
        )
        try:
            connection.connect()
            connection.sock.settimeout(_SILENCE)
            target = (url.path or "/") + (f"?{url.query}" if url.query else "")
            # Packed on the way, its bytes could not be counted.
            sent = {
                "Accept-Encoding": "identity",
                "Connection": "close",
                "User-Agent": "longshore",
                **headers,
            }
            connection.request(method, target, body=body, headers=sent)
            return Answer(connection, connection.getresponse())
        except ssl.SSLCertVerificationError as error:
            connection.close()
            raise NoUseError(
                f"the certificate of {url.netloc} is not trusted: {error.verify_message}"
            ) from error
        except BaseException:
            connection.close()
            raise

    def _tls(self) -> ssl.SSLContext:
        """The system's authorities, and what is in ``certs.d`` for this address."""
        if self._context is None:
            try:
                context = ssl.create_default_context()
                for file in sorted(glob.glob(os.path.join(glob.escape(self._folder), "*.crt"))):
                    context.load_verify_locations(cafile=file)
                for file in sorted(glob.glob(os.path.join(glob.escape(self._folder), "*.cert"))):
                    context.load_cert_chain(file, file[: -len(".cert")] + ".key")
            except (OSError, ssl.SSLError) as error:
                raise NoUseError(f"{self._folder} can't be used: {error}") from error
            if not self._secure:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            self._context = context
        return self._context

    def _authorize(self, challenge: str) -> str:
        kind, _, rest = challenge.partition(" ")
        basic = ""
        if self._auth.get("username"):
            pair = f"{self._auth['username']}:{self._auth.get('password', '')}".encode()
            basic = "Basic " + base64.b64encode(pair).decode()
        if kind.lower() == "basic" and basic:
            return basic
        facts = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        if kind.lower() != "bearer" or "realm" not in facts:
            raise NoUseError(f"unauthorized: {self.base} wants a login")
        if self._secure and urlsplit(facts["realm"]).scheme != "https":
            raise NoUseError(f"{self.base} asks to send the login unencrypted")
        asked = {
            "service": facts.get("service", ""),
            "scope": facts.get("scope") or f"repository:{self._name}:pull",
        }
        if self._auth.get("identitytoken"):
            form = {
                **asked,
                "grant_type": "refresh_token",
                "refresh_token": self._auth["identitytoken"],
                "client_id": "longshore",
            }
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            answer = self._send("POST", facts["realm"], headers, urlencode(form).encode())
        else:
            mark = "&" if "?" in facts["realm"] else "?"
            address = f"{facts['realm']}{mark}{urlencode(asked)}"
            answer = self._send("GET", address, {"Authorization": basic} if basic else {})
        try:
            if answer.status >= 500 or answer.status in _PASSING:
                raise HTTPException(
                    f"unexpected status from {facts['realm']}: {answer.status} {answer.reason}"
                )
            told = json.loads(answer.read(1 << 20))
            return "Bearer " + str(told.get("token") or told["access_token"])
        except (ValueError, KeyError, AttributeError) as error:
            raise NoUseError(f"unauthorized: {facts['realm']} gave no token ({answer.status})") from error
        finally:
            answer.close()


def _is_insecure(netloc: str, settings: Dict[str, Any]) -> bool:
    """Whether the engine takes a registry without TLS, or with a certificate that it can't trust."""
    known = (settings.get("IndexConfigs") or {}).get(netloc)
    if known is not None and not known.get("Secure", True):
        return True
    host = urlsplit("//" + netloc).hostname or ""
    if host == "localhost":
        return True
    networks = [ipaddress.ip_network(one) for one in settings.get("InsecureRegistryCIDRs") or []]
    try:
        found = [ipaddress.ip_address(host)]
    except ValueError:
        if all(network.is_loopback for network in networks):
            return False
        try:
            told = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except OSError:
            return False
        found = [ipaddress.ip_address(str(one[4][0]).partition("%")[0]) for one in told]
    return any(one in network for one in found for network in networks if one.version == network.version)
