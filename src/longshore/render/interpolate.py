"""``${VAR}`` in a compose file's values, with the bundle's ``.env`` only: the host's shell has no say."""

from __future__ import annotations

from typing import Any

from longshore.dotenv import Lookup, SubstitutionError, substitute
from longshore.errors import RenderError
from longshore.render.document import Items, Map, Override, Text


def interpolate(document: Any, lookup: Lookup) -> tuple[Any, list[RenderError]]:
    """Return the document with its variables replaced, and what is wrong with them.

    A variable that isn't set and has no default becomes empty, as in Compose, and is named in the text's
    ``unset``: whether that matters depends on whether the value is used.
    """
    problems: list[RenderError] = []
    return _walk(document, lookup, problems), problems


def _walk(value: Any, lookup: Lookup, problems: list[RenderError]) -> Any:
    if isinstance(value, Text):
        return _text(value, lookup, problems) if "$" in value else value
    if isinstance(value, Map):
        result = Map(value.where)
        result.at = value.at
        for key, child in value.items():
            result[key] = _walk(child, lookup, problems)
        return result
    if isinstance(value, Items):
        items = Items(value.where)
        items.extend(_walk(child, lookup, problems) for child in value)
        return items
    if isinstance(value, Override):
        return Override(_walk(value.value, lookup, problems), value.where)
    return value


def _text(text: Text, lookup: Lookup, problems: list[RenderError]) -> Text:
    unset: list[str] = []
    try:
        value = substitute(text, lookup, on_unset=unset.append)
    except SubstitutionError as error:
        problems.append(
            RenderError(
                str(error),
                where=text.where,
                hint="Set it in the environment's env file; a literal $ is written $$.",
            )
        )
        return text
    return Text.at(value, text.where, tuple(dict.fromkeys(unset)))
