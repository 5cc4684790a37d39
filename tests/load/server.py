"""The service that is deployed under load: HTTP/1.1 and WebSockets with the standard library alone.

Every answer says which release gave it. ``GET /`` at once, ``GET /slow?s=6`` after so long,
``GET /download?s=6`` a megabyte over so long, ``POST /`` with the SHA-256 of the body, ``/ws`` echoes what
it is sent, ``GET /seen`` says how many requests of each method came. With FAIL_EVERY=3 each third of them is
a 500, with SLOWER=0.2 each takes 0.2 s more. SIGTERM: what is under way is finished, and
WebSockets are closed as the protocol has it (RFC 6455, 1001).
"""

import asyncio
import base64
import hashlib
import os
import signal
import sys

RELEASE = os.environ.get("RELEASE", "?")
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

FAIL_EVERY = int(os.environ.get("FAIL_EVERY") or 0)
SLOWER = float(os.environ.get("SLOWER") or 0)
busy = 0
seen = {}
sockets = set()
ending = asyncio.Event()


async def serve(reader, writer):
    global busy
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            method, path, _ = lines[0].split(" ")
            headers = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
            busy += 1
            try:
                if headers.get("upgrade") == "websocket":
                    await websocket(reader, writer, lines)
                    return
                if path.startswith("/download"):
                    await download(writer, float(path.partition("s=")[2]))
                    return
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                status, text = await answer(method, path, body)
                close = ending.is_set() or headers.get("connection") == "close"
                writer.write(
                    f"HTTP/1.1 {status} x\r\nContent-Length: {len(text)}\r\nX-Release: {RELEASE}\r\n"
                    f"Connection: {'close' if close else 'keep-alive'}\r\n\r\n{text}".encode()
                )
                await writer.drain()
            finally:
                busy -= 1
            if close:
                return
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def answer(method, path, body):
    if path.startswith("/health"):
        return (503 if os.environ.get("SICK") else 200), RELEASE
    if path.startswith("/slow"):
        await asyncio.sleep(float(path.partition("s=")[2] or 6))
    if path.startswith("/check"):
        return 200, "broken" if os.environ.get("BROKEN_LATER") else "works"
    if path.startswith("/seen"):
        return 200, " ".join(f"{name}={count}" for name, count in sorted(seen.items()))
    seen[method] = seen.get(method, 0) + 1
    await asyncio.sleep(SLOWER)
    if FAIL_EVERY and sum(seen.values()) % FAIL_EVERY == 0:
        return 500, f"{RELEASE} failed"
    return 200, f"{RELEASE} {hashlib.sha256(body).hexdigest() if method == 'POST' else 'hello'}"


async def download(writer, seconds):
    text = f"{RELEASE} ".encode() + b"x" * 1_000_000
    writer.write(f"HTTP/1.1 200 x\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n".encode())
    for at in range(0, len(text), 50_000):
        writer.write(text[at : at + 50_000])
        await writer.drain()
        await asyncio.sleep(seconds / 20)


async def websocket(reader, writer, lines):
    key = next(line for line in lines if line.lower().startswith("sec-websocket-key: ")).split(": ", 1)[1]
    accept = base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()
    writer.write(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
    )
    sockets.add(writer)
    try:
        while True:
            first, second = await reader.readexactly(2)
            length = second & 127
            if length == 126:
                length = int.from_bytes(await reader.readexactly(2), "big")
            mask = await reader.readexactly(4)
            data = bytes(byte ^ mask[at % 4] for at, byte in enumerate(await reader.readexactly(length)))
            if first & 15 == 8:
                writer.write(b"\x88\x00")
                return
            text = RELEASE.encode() + b" " + data
            writer.write(bytes([0x81, len(text)]) + text)
            await writer.drain()
    finally:
        sockets.discard(writer)


async def main():
    if os.environ.get("EXIT_AT_ONCE"):
        sys.exit("KeyError: 'DATABASE_URL'")
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    server = await asyncio.start_server(serve, "", 8000, backlog=1024)
    await ending.wait()
    for writer in list(sockets):
        writer.write(b"\x88\x02\x03\xe9")
    server.close()
    for _ in range(100):
        if busy <= len(sockets):
            break
        await asyncio.sleep(0.1)


asyncio.run(main())
