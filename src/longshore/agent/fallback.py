"""The certificate that the proxy shows to whom asks for a name that it has none for.

Without one Traefik makes its own, with an RSA key, and makes it anew each time that routes change: some
tenths of a second of a processor, at the very moment when requests go to new containers.
"""

import json
import os
import subprocess
from typing import Optional

from longshore.agent.network import existing
from longshore.agent.store import write

_FILE = "fallback.pem"
_DAYS = "3650"
_SECONDS = 30
_KEY = b"PRIVATE KEY-----"
_CERTIFICATE = b"-----END CERTIFICATE-----"


def prepare(root: str, home: str, inside: str, watched: str) -> None:
    """Give a proxy that will be started the host's fallback. ``root``: the proxies' folder; ``home``: this
    one's own, which it sees as ``inside``; ``watched``: where it reads what this says. Does nothing where no
    certificate can be made: then Traefik makes its own."""
    pem = _pem(root)
    if pem is None:
        return
    write(os.path.join(home, _FILE), pem)
    path = f"{inside}/{_FILE}"  # the key and the certificate; each reader takes its part
    store = {"defaultCertificate": {"certFile": path, "keyFile": path}}
    write(os.path.join(watched, "fallback.yml"), json.dumps({"tls": {"stores": {"default": store}}}).encode())


def _pem(root: str) -> Optional[bytes]:
    """The host's, made once."""
    path = os.path.join(root, _FILE)
    pem = existing(path)
    if not pem:
        pem = _made()
        if pem is not None:
            write(path, pem)
    return pem


def _made() -> Optional[bytes]:
    """A key and a certificate for no name, by OpenSSL's command, which Debian has wherever it has the CAs."""
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    argv += ["-days", _DAYS, "-subj", "/CN=longshore fallback"]
    argv += ["-keyout", "/dev/stdout", "-out", "/dev/stdout"]
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    whole = _KEY in done.stdout and _CERTIFICATE in done.stdout
    return done.stdout if done.returncode == 0 and whole else None
