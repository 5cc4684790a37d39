"""The relay: an image arrives whole through a line that breaks, nothing twice, and for nobody else."""

from __future__ import annotations

import datetime
import http.client
import ipaddress
import json
import os
import re
import shutil
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.unit.upstream import Upstream, digest_of

from longshore.agent import kept, registry, relay, unbroken
from longshore.agent import relayed as relayed_names
from longshore.agent.engine import EngineError
from longshore.agent.kept import Kept
from longshore.agent.registry import NoUseError, Repository
from longshore.agent.relay import Relay
from longshore.agent.unbroken import Image, OverError

SMALL, LARGE = os.urandom(3_000), os.urandom(300_000)
Open = Callable[..., Relay]


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream(SMALL, LARGE) as made:
        yield made


@pytest.fixture
def nothing_kept(tmp_path: Path) -> Kept:
    return Kept({"DockerRootDir": str(tmp_path)})


@pytest.fixture
def relayed(upstream: Upstream, nothing_kept: Kept, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Opens relays of the upstream's image, which are closed in the end. They don't wait long."""
    monkeypatch.setattr(unbroken, "_PAUSES", (0.0, 0.01, 0.05))
    monkeypatch.setattr(unbroken, "_TICK", 0.01)
    monkeypatch.setattr(relay, "_GRACE", 0.1)
    opened: list[Relay] = []

    def make(target: str = "@INDEX", patience: float = 5.0, keep: Kept | None = None, **more: Any) -> Relay:
        ref = f"{upstream.address}/shop/api{target}".replace("INDEX", upstream.index)
        auth, given_up = more.get("auth"), more.get("given_up")
        made = Relay(Image(ref, auth, upstream.info, keep or nothing_kept, patience, given_up))
        made.open()
        opened.append(made)
        made.image.find()
        return made

    yield make
    for one in opened:
        one.close()


def ask(
    made: Relay, path: str, method: str = "GET", headers: dict[str, str] | None = None
) -> tuple[int, bytes, dict[str, str]]:
    """What the relay answers to ``manifests/…`` or ``blobs/…``, or to a path of its own."""
    place, _, name = made.ref.partition("@")[0].partition("/")
    connection = http.client.HTTPConnection(place, timeout=20)
    try:
        connection.request(method, path if path[0] == "/" else f"/v2/{name}/{path}", headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read(), {key.lower(): value for key, value in answer.getheaders()}
    finally:
        connection.close()


def blob(made: Relay, data: bytes, **headers: str) -> bytes:
    return ask(made, f"blobs/{digest_of(data)}", headers=headers)[1]


def pull(made: Relay, upstream: Upstream) -> None:
    """Take the image as an engine does."""
    for digest in (upstream.index, upstream.manifest):
        status, data, headers = ask(made, f"manifests/{digest}?ns=127.0.0.1")
        assert status == 200 and data == upstream.documents[digest]
        assert headers["content-type"] == json.loads(data)["mediaType"]
        assert headers["docker-content-digest"] == digest
    for digest, data in upstream.blobs.items():
        assert ask(made, f"blobs/{digest}")[1] == data


# Through the line


def test_a_layer_goes_on_where_the_line_broke_and_no_byte_comes_twice(
    upstream: Upstream, relayed: Open
) -> None:
    made = relayed()
    ask(made, f"manifests/{upstream.manifest}")
    upstream.breaks = [100_000, 50_000]
    assert blob(made, LARGE) == LARGE
    assert upstream.sent == len(LARGE)
    assert made.image.broken.empty()  # it was back at once


def test_an_outage_is_told_once_and_waited_out(upstream: Upstream, relayed: Open) -> None:
    made = relayed()
    ask(made, f"manifests/{upstream.manifest}")
    upstream.breaks, upstream.outage = [100_000, 100_000], 4
    assert blob(made, LARGE) == LARGE
    assert upstream.sent == len(LARGE)
    assert made.image.broken.qsize() == 2


def test_a_registry_that_gives_all_of_a_layer_again_is_heard_out_to_where_it_was(
    upstream: Upstream, relayed: Open
) -> None:
    made = relayed()
    ask(made, f"manifests/{upstream.manifest}")
    upstream.breaks, upstream.ranges = [100_000], False
    assert blob(made, LARGE) == LARGE
    assert blob(made, LARGE, Range="bytes=1000-1999") == LARGE[1000:2000]


@pytest.mark.parametrize("target", [":1", "@INDEX", ":1@INDEX"])
def test_the_image_is_found_by_tag_or_digest_and_pulled_by_digest(
    upstream: Upstream, relayed: Open, target: str
) -> None:
    made = relayed(target)
    assert re.fullmatch(rf"127\.0\.0\.1:\d+/longshore-relay-[0-9a-f]{{32}}@{upstream.index}", made.ref)
    pull(made, upstream)


def test_busy_and_failing_registries_are_asked_again(upstream: Upstream, relayed: Open) -> None:
    upstream.statuses = [503, 429, 500]
    made = relayed()
    ask(made, f"manifests/{upstream.manifest}")
    assert blob(made, LARGE) == LARGE


def test_a_registry_that_stays_away_is_given_up_in_its_own_words(upstream: Upstream, relayed: Open) -> None:
    made = relayed(patience=0.2)
    ask(made, f"manifests/{upstream.manifest}")
    upstream.stop()
    with pytest.raises((http.client.HTTPException, OSError)):
        blob(made, LARGE)
    assert made.image.over == "connection refused" and not made.no_use


def test_bytes_that_come_give_it_time_anew(upstream: Upstream, relayed: Open) -> None:
    made = relayed(patience=1.0)
    ask(made, f"manifests/{upstream.manifest}")
    upstream.breaks, upstream.outage = [50_000] * 5, 7  # each time a quarter of a second, and more
    began = time.monotonic()
    assert blob(made, LARGE) == LARGE
    assert time.monotonic() - began > made.image._patience


def test_nobody_waits_for_a_registry_when_nobody_waits_for_the_image(
    upstream: Upstream, relayed: Open
) -> None:
    gone: list[bool] = []
    made = relayed(given_up=lambda: bool(gone))
    ask(made, f"manifests/{upstream.manifest}")
    upstream.stop()
    gone.append(True)
    began = time.monotonic()
    with pytest.raises((http.client.HTTPException, OSError)):
        blob(made, LARGE)
    assert made.image.over and time.monotonic() - began < 2


def test_a_no_of_the_registry_is_no_outage(upstream: Upstream, relayed: Open) -> None:
    made = relayed()
    ask(made, f"manifests/{upstream.manifest}")
    upstream.statuses = [403]
    with pytest.raises((http.client.HTTPException, OSError)):
        blob(made, LARGE)
    assert "403" in made.no_use and not made.image.over
    with pytest.raises(NoUseError, match="404"):
        relayed(":2")


def test_content_that_is_wrong_is_handed_on_for_the_engine_to_refuse_and_one_too_short_ends(
    upstream: Upstream, relayed: Open
) -> None:
    made = relayed(patience=0.2)
    ask(made, f"manifests/{upstream.manifest}")
    upstream.blobs[digest_of(SMALL)] = SMALL[::-1]
    assert blob(made, SMALL) == SMALL[::-1]
    upstream.blobs[digest_of(LARGE)] = LARGE[:1000]
    with pytest.raises((http.client.HTTPException, OSError)):
        blob(made, LARGE)
    assert made.image.over == "unexpected EOF"
    upstream.documents[upstream.manifest] = b"{}"
    with pytest.raises(NoUseError, match="other content"):
        relayed(f"@{upstream.manifest}")


# Who may have what


def test_who_does_not_know_the_secret_gets_nothing(upstream: Upstream, relayed: Open) -> None:
    made = relayed()
    ask(made, f"manifests/{upstream.manifest}")
    asked = len(upstream.seen)
    for name in ("shop/api", "longshore-relay-" + "0" * 32, ""):
        for path in (f"manifests/{upstream.index}", f"blobs/{digest_of(LARGE)}"):
            assert ask(made, f"/v2/{name}/{path}")[:2] == (404, b"")
    for path in ("/", "/v2/_catalog", f"/{upstream.index}"):
        assert ask(made, path)[:2] == (404, b"")
    assert len(upstream.seen) == asked  # nobody was asked with our login, either


def test_only_what_belongs_to_the_image_is_given_out_and_nothing_is_taken(
    upstream: Upstream, relayed: Open
) -> None:
    other = b"another image's"
    made = relayed()
    pull(made, upstream)
    upstream.blobs[digest_of(other)] = other
    assert ask(made, f"blobs/{digest_of(other)}")[0] == 404
    for path in ("manifests/1", "tags/list", f"blobs/{digest_of(LARGE)}/../x"):
        assert ask(made, path)[0] == 404
    assert ask(made, f"blobs/{digest_of(LARGE)}", "HEAD")[1] == b""
    assert ask(made, "blobs/uploads/", "POST")[0] == 400


def test_nobody_answers_when_the_pull_is_over(upstream: Upstream, relayed: Open) -> None:
    made = relayed()
    host, _, port = made.ref.partition("/")[0].partition(":")
    with socket.create_connection((host, int(port)), timeout=5) as waiting:
        waiting.sendall(b"GET /v2/ HTTP/1.1\r\n\r\n")
        assert waiting.recv(1000).startswith(b"HTTP/1.1 200")
        made.close()
        assert waiting.recv(1000) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=5)


def test_an_engine_that_tries_tls_first_is_told_in_plain_http(relayed: Open) -> None:
    place = relayed().ref.partition("/")[0].partition(":")
    context = ssl.create_default_context()
    with socket.create_connection((place[0], int(place[2])), timeout=5) as plain:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        plain.sendall(outgoing.read())
        assert plain.recv(1000).startswith(b"HTTP/1.1 400")  # Go's TLS looks for these five letters


def test_an_engine_that_has_the_manifests_already_gets_the_layers(upstream: Upstream, relayed: Open) -> None:
    made = relayed()
    assert blob(made, LARGE) == LARGE and ask(made, "blobs/sha256:" + "0" * 64)[0] == 404
    assert upstream.asked(f"GET /v2/shop/api/manifests/{upstream.manifest}") == 1


def test_a_part_is_given_as_it_was_asked_for(upstream: Upstream, relayed: Open) -> None:
    made = relayed()
    ask(made, f"manifests/{upstream.manifest}")
    for asked, first, stop in (("bytes=1000-", 1000, 3000), ("bytes=0-9", 0, 10), ("bytes=5-9999", 5, 3000)):
        status, data, headers = ask(made, f"blobs/{digest_of(SMALL)}", headers={"Range": asked})
        assert (status, data) == (206, SMALL[first:stop])
        assert headers["content-range"] == f"bytes {first}-{stop - 1}/3000"
    assert ask(made, f"blobs/{digest_of(SMALL)}", headers={"Range": "bytes=3000-"})[0] == 416


# How the registry is asked


def test_the_login_gets_a_token_and_other_hosts_see_neither(upstream: Upstream, relayed: Open) -> None:
    with Upstream(SMALL, LARGE) as storage:
        upstream.token, upstream.login = "t0ken", ("ann", "pw")
        upstream.elsewhere = f"http://{storage.address}"
        storage.breaks = [10]
        made = relayed(auth={"username": "ann", "password": "pw"})
        pull(made, upstream)
        asked = [headers for path, headers in upstream.seen if path.startswith("GET /token")]
        assert len(asked) == 1 and asked[0]["authorization"].startswith("Basic ")
        assert upstream.asked("scope=repository%3Ashop%2Fapi%3Apull") == 1
        assert storage.asked("signed=yes") == 4 and storage.sent == sum(map(len, upstream.blobs.values()))
        assert not any("authorization" in headers for _, headers in storage.seen)


def test_an_address_that_can_not_be_read_is_a_no(upstream: Upstream, relayed: Open) -> None:
    made = relayed()
    ask(made, f"manifests/{upstream.manifest}")
    upstream.elsewhere = "http://[storage:port"
    with pytest.raises((http.client.HTTPException, OSError)):
        blob(made, LARGE)
    assert "can't be read" in made.no_use


def test_a_login_that_is_a_token_itself_is_posted_for_one(upstream: Upstream, relayed: Open) -> None:
    upstream.token = "t0ken"
    pull(relayed(auth={"identitytoken": "r3fresh", "serveraddress": "r.test"}), upstream)
    (form,) = upstream.forms
    assert "grant_type=refresh_token" in form and "refresh_token=r3fresh" in form
    assert "r3fresh" not in str(upstream.seen)


def test_a_token_that_has_run_out_is_asked_for_again(upstream: Upstream, relayed: Open) -> None:
    upstream.token = "first"
    made = relayed(auth={"username": "ann", "password": "pw"})
    ask(made, f"manifests/{upstream.manifest}")
    upstream.token = "second"
    assert blob(made, LARGE) == LARGE


def test_a_login_that_is_wanted_is_given_and_one_that_is_lacking_is_a_no(
    upstream: Upstream, relayed: Open
) -> None:
    upstream.login = ("ann", "pw")
    pull(relayed(auth={"username": "ann", "password": "pw"}), upstream)
    with pytest.raises(NoUseError, match="wants a login"):
        relayed()
    with pytest.raises(NoUseError, match="401"):
        relayed(auth={"username": "ann", "password": "wrong"})


def test_mirrors_of_docker_hub_are_asked_first_and_without_its_login(upstream: Upstream) -> None:
    with Upstream(SMALL) as away:
        nobody = away.address
    mirrors = [f"http://{nobody}/", f"http://{upstream.address}/"]
    info = {**upstream.info, "RegistryConfig": {"IndexConfigs": {"docker.io": {"Mirrors": mirrors}}}}
    found = Repository("docker.io", "shop/api", {"username": "ann", "password": "pw"}, info)
    upstream.login = ("ann", "pw")
    with pytest.raises(NoUseError, match="wants a login"):
        found._places[1].ask("GET", f"manifests/{upstream.index}", {})
    upstream.login = None
    found.ask(f"manifests/{upstream.index}", {}).close()
    assert found._places[0].base.startswith(f"http://{upstream.address}/v2/shop/api/")
    assert found._places[-1].base == "https://registry-1.docker.io/v2/shop/api/"
    assert Repository("docker.io", "redis", None, info)._places[-1].base.endswith("/v2/library/redis/")


@pytest.mark.parametrize(
    ("name", "schemes"),
    [
        ("r.test", ["https"]),
        ("insecure.test:5000", ["https", "http"]),
        ("10.1.2.3:5000", ["https", "http"]),
        ("10.2.2.3:5000", ["https"]),
        ("127.0.0.1:5000", ["https", "http"]),
        ("localhost:5000", ["https", "http"]),
    ],
)
def test_plain_http_is_for_registries_from_which_the_engine_takes_it(name: str, schemes: list[str]) -> None:
    settings = {
        "IndexConfigs": {"docker.io": {"Secure": True}, "insecure.test:5000": {"Secure": False}},
        "InsecureRegistryCIDRs": ["10.1.0.0/16", "127.0.0.0/8", "::1/128"],
    }
    found = Repository(name, "api", None, {"RegistryConfig": settings})
    assert [one.base.partition(":")[0] for one in found._places] == schemes


@pytest.mark.parametrize(
    "more",
    [{"HttpProxy": "http://p.test"}, {"HttpsProxy": "http://p.test"}, {"SecurityOptions": ["name=rootless"]}],
)
def test_where_the_engine_goes_other_ways_there_is_no_relay(
    upstream: Upstream, nothing_kept: Kept, more: dict[str, Any]
) -> None:
    with pytest.raises(NoUseError):
        Image("r.test/api:1", None, {**upstream.info, **more}, nothing_kept, 1.0)
    with pytest.raises(NoUseError):
        Image("r.test/api:1", None, {}, nothing_kept, 1.0)


def test_a_certificate_in_docker_s_folder_is_trusted_and_no_other(
    tmp_path: Path, nothing_kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "CERTS", str(tmp_path))
    own, key = _certificate()
    (tmp_path / "server.pem").write_bytes(key + own)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "server.pem")
    with Upstream(SMALL, tls=tls) as upstream:
        info = {"RegistryConfig": {"IndexConfigs": {}}}
        ref = f"{upstream.address}/shop/api:1"
        with (
            Relay(Image(ref, None, info, nothing_kept, 1.0)) as made,
            pytest.raises(NoUseError, match="not trusted"),
        ):
            made.image.find()
        (tmp_path / upstream.address).mkdir()
        (tmp_path / upstream.address / "ca.crt").write_bytes(own)
        with Relay(Image(ref, None, info, nothing_kept, 1.0)) as made:
            made.image.find()
            pull(made, upstream)


def _certificate() -> tuple[bytes, bytes]:
    """A certificate for 127.0.0.1, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "practice")])
    now = datetime.datetime.now(datetime.timezone.utc)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    encoded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return made.public_bytes(serialization.Encoding.PEM), encoded


# What had come before


def _older(tmp_path: Path) -> Kept:
    (tmp_path / "tmp").mkdir()
    return Kept({"DockerRootDir": str(tmp_path)})


def _newer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digest: str = "") -> tuple[Kept, Path]:
    monkeypatch.setattr(kept, "CONTAINERD", str(tmp_path))
    store = tmp_path / "io.containerd.content.v1.content"
    (store / "ingest").mkdir(parents=True)
    (store / "blobs/sha256").mkdir(parents=True)
    return Kept({"DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]]}, digest), store


def test_what_the_older_store_had_and_dropped_is_not_fetched_again(
    upstream: Upstream, relayed: Open, tmp_path: Path
) -> None:
    """It doesn't say which file is which layer's."""
    keep = _older(tmp_path)
    for name, data in (("1", SMALL), ("2", LARGE[:200_000]), ("3", os.urandom(100_000)), ("4", b"")):
        (tmp_path / "tmp" / f"GetImageBlob{name}").write_bytes(data)
    keep.look(["whatever"])
    for file in (tmp_path / "tmp").iterdir():
        file.unlink()
    made = relayed(keep=keep)
    pull(made, upstream)
    config = sum(map(len, upstream.blobs.values())) - len(SMALL) - len(LARGE)
    assert upstream.sent == config + 100_000 + 64  # by which the beginning was known again
    keep.close()


def test_what_containerd_had_and_dropped_is_not_fetched_again(
    upstream: Upstream, relayed: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep, store = _newer(tmp_path, monkeypatch)
    whole, begun = digest_of(SMALL), digest_of(LARGE)
    (store / "blobs/sha256" / whole[7:]).write_bytes(SMALL)
    for number, name in enumerate((begun, digest_of(b"another"))):
        (store / "ingest" / str(number)).mkdir()
        (store / "ingest" / str(number) / "ref").write_text(f"moby/7/layer-{name}")
        (store / "ingest" / str(number) / "data").write_bytes(LARGE[:1000])
    keep.look([whole[7:19], begun[7:19]])
    with (store / "ingest/0/data").open("ab") as file:
        file.write(LARGE[1000:200_000])
    (store / "ingest/0/data").unlink()
    (store / "blobs/sha256" / whole[7:]).unlink()
    made = relayed(keep=keep)
    ask(made, f"manifests/{upstream.manifest}")
    assert blob(made, SMALL) == SMALL and blob(made, LARGE) == LARGE
    assert upstream.sent == 100_000
    assert blob(made, LARGE, Range="bytes=100000-") == LARGE[100_000:]
    keep.close()


def test_what_containerd_had_needs_no_registry(
    upstream: Upstream, relayed: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine gets it back while the registry is away, and keeps it for the next pull if it stays away."""
    keep, store = _newer(tmp_path, monkeypatch, upstream.index)
    begun = digest_of(LARGE)
    for digest, data in {**upstream.documents, **upstream.blobs}.items():
        if digest not in ("1", begun):
            (store / "blobs/sha256" / digest[7:]).write_bytes(data)
    (store / "ingest/1").mkdir()
    (store / "ingest/1/ref").write_text(f"moby/7/layer-{begun}")
    (store / "ingest/1/data").write_bytes(LARGE[:200_000])
    keep.look([digest_of(SMALL)[7:19], begun[7:19]])
    keep.look([], at_once=True)  # the index has told of the manifest
    shutil.rmtree(store)
    upstream.stop()
    made = relayed(keep=keep, patience=0.2)
    for digest in (upstream.index, upstream.manifest):
        assert ask(made, f"manifests/{digest}")[1] == upstream.documents[digest]
    for digest in set(upstream.blobs) - {begun}:
        assert ask(made, f"blobs/{digest}")[1] == upstream.blobs[digest]
    assert blob(made, LARGE, Range="bytes=0-199999") == LARGE[:200_000]
    assert not made.image.over
    keep.close()


def test_a_line_that_goes_silent_is_taken_for_dead(
    upstream: Upstream, relayed: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_SILENCE", 0.3)
    made = relayed()
    ask(made, f"manifests/{upstream.manifest}")
    upstream.breaks, upstream.silence = [100_000], 2.0
    began = time.monotonic()
    assert blob(made, LARGE) == LARGE
    assert time.monotonic() - began < 2.0 and upstream.sent == len(LARGE)


def test_a_host_whose_files_can_not_be_read_keeps_nothing_and_fails_nothing(tmp_path: Path) -> None:
    keep = Kept({"DockerRootDir": str(tmp_path / "elsewhere")})
    keep.look(["a1"], at_once=True)
    assert not keep and keep.whole("sha256:1", 1) is None and keep.beginnings("sha256:1", 1) == []


# What is left


class Images:
    """An engine that has images with these names."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.removed: list[str] = []

    def images(self) -> Any:
        return [{"RepoDigests": list(self.names)}, {"RepoDigests": None}]

    def request(self, method: str, path: str, query: Any = None) -> Any:
        assert method == "DELETE"
        self.removed.append(path)
        raise EngineError(404, "no such image")


def test_what_a_killed_agent_s_relay_left_goes_and_what_is_at_work_stays(relayed: Open) -> None:
    made = relayed()
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    left = f"127.0.0.1:{port}/longshore-relay-{'0' * 32}@sha256:{'1' * 64}"
    others = f"127.0.0.1:{port}/shop/longshore-relay-x@sha256:{'1' * 64}", f"shop/api@sha256:{'1' * 64}"
    engine = Images(made.ref, left, *others)
    relayed_names.left_behind(engine)  # type: ignore[arg-type]
    assert engine.removed == [f"/images/{left}"]


def test_a_registry_that_is_away_when_the_image_is_looked_for_is_waited_for(
    upstream: Upstream, relayed: Open
) -> None:
    upstream._down = 4
    pull(relayed(), upstream)
    upstream.stop()
    with pytest.raises(OverError):
        relayed(patience=0.1)
