"""The server of a maintenance page: a process of its own on 127.0.0.1, where only the proxy asks it.

It ends by itself when maintenance is off. Where something else ended it, the proxy answers 503 without a page
until it is started again: when the host comes up, with the next change of the app's routes, or by hand.
"""

import http.server
import json
import os
import secrets
import socket
import sys
import threading
import time
from typing import Any, Dict, List, Optional

from longshore.agent import detached, maintenance
from longshore.agent.store import AppStore, write

_MOST = 256 << 10
"""Bytes of a page at most."""
_LOOK = 2.0
"""Seconds between two looks at whether it is still wanted."""
_PATIENCE = 10.0
"""Seconds for a request to come and its answer to go."""


def serve(store: AppStore, text: str) -> Optional[Dict[str, Any]]:
    """Keep the page with the app, and have it served. Gives ``port`` and ``path``, or ``None`` where there
    is no page."""
    if not text or len(text.encode()) > _MOST:
        return None
    write(os.path.join(store.root, maintenance.PAGE), text.encode())
    # Should something else have the port one day, it doesn't answer at such a path.
    place = {"port": 0, "path": f"/{secrets.token_hex(16)}"}
    return {**place, "port": _start(store, place)}


def ensure(store: AppStore) -> None:
    """Have the page's server run again, where maintenance with a page is on and it is gone."""
    place = (maintenance.state_of(store) or {}).get("page")
    if place and not _answers(place):
        try:
            _start(store, place)
        except OSError:
            pass  # its port was taken meanwhile: 503 without a page


def _answers(place: Dict[str, Any]) -> bool:
    try:
        socket.create_connection(("127.0.0.1", place["port"]), timeout=1).close()
        return True
    except OSError:
        return False


def _start(store: AppStore, place: Dict[str, Any]) -> int:
    """Start the server on the place's port (0: any) and return its port."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", place["port"]))
        listener.listen(256)
        state_dir = os.path.dirname(store.root)
        detached.start("pages", [state_dir, store.app, str(listener.fileno()), place["path"]], listener)
        return int(listener.getsockname()[1])


def main(argv: List[str]) -> None:
    """Serve the page until it isn't wanted any more. ``argv``: the state folder, the app, the number of the
    listening socket's descriptor, and the page's path."""
    state_dir, app, descriptor, path = argv
    store = AppStore(state_dir, app)
    with open(os.path.join(store.root, maintenance.PAGE), "rb") as file:
        page = file.read(_MOST)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(page, path), bind_and_activate=False)
    server.socket.close()
    server.socket = socket.socket(fileno=int(descriptor))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    unwanted = 0
    while unwanted < 2:  # a state that is just being written is asked for twice
        time.sleep(_LOOK)
        place = (maintenance.state_of(store) or {}).get("page") or {}
        unwanted = 0 if place.get("path") == path else unwanted + 1


def _handler(page: bytes, path: str) -> Any:
    told = json.dumps({"error": "maintenance"}).encode()

    class Page(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = _PATIENCE

        def do_GET(self) -> None:
            if self.path != path:
                self.send_error(404)
                return
            wanted = self.headers.get("Accept", "")
            as_json = "application/json" in wanted and "text/html" not in wanted
            body = told if as_json else page
            self.send_response(503)
            self.send_header("Content-Type", "application/json" if as_json else "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            """Requests are the proxy's to log."""

    return Page


if __name__ == "__main__":
    main(sys.argv[1:])
