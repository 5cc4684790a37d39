"""Excel2Doc's own part in a deploy: after the switch, a real conversion has to work."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from longshore.roles import Role

BOUNDARY = "longshore-check"
CSV = "name,value\nanswer,42\n"


def converts(facts: Mapping[str, Any]) -> str | None:
    """Send a small CSV to the app's ``url`` and look for its content in the HTML that comes back."""
    body = (
        f"--{BOUNDARY}\r\n"
        'Content-Disposition: form-data; name="file"; filename="check.csv"\r\n\r\n'
        f"{CSV}\r\n--{BOUNDARY}--\r\n"
    )
    url = f"{str(facts['url']).rstrip('/')}/api/v1/convert?format=html"
    request = urllib.request.Request(  # noqa: S310 (the inventory's url, http or https)
        url, body.encode(), {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            page = answer.read().decode()
    except OSError as error:
        return f"{url} doesn't convert: {error}."
    return None if "<td>42</td>" in page else f"{url} answered without the table's content."


def announce(facts: Mapping[str, Any]) -> None:
    """Add a line of JSON to the file that ``EXCEL2DOC_DEPLOYS`` names, for whoever collects such lines."""
    log = os.environ.get("EXCEL2DOC_DEPLOYS")
    if log:
        names = ("environment", "app", "host", "release")
        with Path(log).open("a") as file:
            file.write(json.dumps({name: facts.get(name) for name in names}) + "\n")


role = Role(
    name="excel2doc",
    summary="Excel2Doc: a conversion has to work before a release counts as good.",
    hooks={"after_commit": announce},
    checks={"converts": converts},
)
