"""Stands between an arm64 practice host's engine socket and its engine, which is this machine's own.

The engine runs arm64 images under QEMU, but would take amd64 ones first and says it is amd64. So: what it
says of itself is corrected, and a pull or a container that names no platform gets linux/arm64. All else
passes through byte by byte. One request per connection, so that only the first head needs reading.

    front.py LISTEN ENGINE      two paths of unix sockets; runs until it is killed
"""

import asyncio
import contextlib
import grp
import json
import os
import re
import sys
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

PLATFORM = "linux/arm64"
ABOUT = re.compile(r"^(/v[0-9.]+)?/(version|info)$")
CHOOSES = re.compile(r"^(/v[0-9.]+)?/(images/create|containers/create|build)$")
FRAMING = re.compile(rb"(?i)(content-length|transfer-encoding):")
HEAD_LIMIT = 1 << 20


def with_platform(target: str) -> str:
    """The request's target, with a platform when it needs one and names none."""
    path, _, query = target.partition("?")
    if not CHOOSES.match(path):
        return target
    fields = [
        (name, value)
        for name, value in parse_qsl(query, keep_blank_values=True)
        if (name, value) != ("platform", "")
    ]
    if not any(name == "platform" for name, _ in fields):
        fields.append(("platform", PLATFORM))
    return f"{path}?{urlencode(fields)}"


def corrected(body: bytes) -> bytes:
    """The engine's ``/version`` or ``/info``, as of an arm64 host."""
    said = json.loads(body)
    if "Architecture" in said:
        said["Architecture"] = "aarch64"
    if "Arch" in said:
        said["Arch"] = "arm64"
    for component in said.get("Components") or []:
        if "Arch" in component.get("Details", {}):
            component["Details"]["Arch"] = "arm64"
    return json.dumps(said).encode()


def unchunked(body: bytes) -> bytes:
    """The body that a chunked answer carries (RFC 9112, 7.1)."""
    whole = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        count = int(size.split(b";")[0], 16)
        if count == 0:
            break
        whole, body = whole + rest[:count], rest[count + 2 :]
    return whole


def request_head(head: bytes) -> tuple[bytes, bool]:
    """The head to send on, and whether the answer is the engine's word about itself."""
    first, *headers = head.decode("latin-1").split("\r\n")
    method, target, version = first.split(" ", 2)
    names = {header.partition(":")[0].strip().lower() for header in headers}
    if "upgrade" not in names:
        headers = [header for header in headers if not header.lower().startswith("connection:")]
        headers.insert(0, "Connection: close")
    about = method == "GET" and ABOUT.match(target.partition("?")[0]) is not None
    if method == "POST":
        target = with_platform(target)
    return "\r\n".join([f"{method} {target} {version}", *headers]).encode("latin-1"), about


async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Pass bytes on until the end, and pass the end on, too."""
    with contextlib.suppress(ConnectionError):
        while data := await source.read(1 << 16):
            sink.write(data)
            await sink.drain()
        sink.write_eof()


async def serve(client: asyncio.StreamReader, answer: asyncio.StreamWriter, engine: str) -> None:
    """One connection: one request and its answer, or a stream for as long as both want it."""
    upstream = None
    try:
        head = await client.readuntil(b"\r\n\r\n")
        sent, about = request_head(head)
        reply, upstream = await asyncio.open_unix_connection(engine, limit=HEAD_LIMIT)
        upstream.write(sent)
        if about:
            first = await reply.readuntil(b"\r\n\r\n")
            body = await reply.read()
            if re.search(rb"(?i)\r\ntransfer-encoding: *chunked", first):
                body = unchunked(body)
            body = corrected(body)
            kept = [one for one in first.split(b"\r\n")[:-2] if not FRAMING.match(one)]
            answer.write(b"\r\n".join([*kept, b"Content-Length: %d" % len(body), b"", body]))
            await answer.drain()
            return
        up = asyncio.ensure_future(pump(client, upstream))
        await pump(reply, answer)
        up.cancel()
    except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError, OSError):
        pass
    finally:
        for writer in (answer, upstream):
            if writer is not None:
                writer.close()


async def main(listen: str, engine: str) -> None:
    """Listen as the engine would: for root and the group docker."""
    with contextlib.suppress(FileNotFoundError):
        Path(listen).unlink()
    server = await asyncio.start_unix_server(lambda r, w: serve(r, w, engine), listen, limit=HEAD_LIMIT)
    Path(listen).chmod(0o660)
    with contextlib.suppress(KeyError):
        os.chown(listen, 0, grp.getgrnam("docker").gr_gid)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
