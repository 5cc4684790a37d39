"""The page that an app's visitors see during maintenance, as the hosts get it."""

from __future__ import annotations

from pathlib import Path

from longshore.errors import RenderError, Where

_MOST = 256 << 10
"""Bytes of a page at most; the agent takes no more, either."""


def page_text(file: Path | None) -> str:
    """The page's text, of a file of the project or our own. Raises ``RenderError``."""
    path = file or Path(__file__).with_name("maintenance.html")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RenderError(f"The page can't be read: {error.strerror}.", where=Where(str(path))) from None
    if len(data) > _MOST:
        hint = "Take pictures out, or make them smaller."
        message = f"The page has {len(data) >> 10} KiB; at most {_MOST >> 10} are served."
        raise RenderError(message, where=Where(str(path)), hint=hint)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise RenderError("The page is not UTF-8.", where=Where(str(path))) from None
    if "<" not in text:
        raise RenderError("The page is not HTML.", where=Where(str(path)))
    return text
