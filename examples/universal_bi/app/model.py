"""A language model behind an OpenAI-compatible API: asked for SQL when no stored example fits."""

from __future__ import annotations

import json
import urllib.request

from app.settings import Settings

_TASK = "Answer with one MySQL SELECT statement and nothing else. The tables are described here:\n"


class ModelError(Exception):
    """The model didn't answer with something usable."""


def ask(question: str, notes: list[str], settings: Settings) -> str:
    """The SQL that the model proposes; it still goes through the same check as any query."""
    request = urllib.request.Request(
        settings.llm_api_base.rstrip("/") + "/chat/completions",
        data=json.dumps(
            {
                "model": settings.llm_model,
                "temperature": 0,
                "messages": [
                    {"role": "system", "content": _TASK + "\n".join(notes)},
                    {"role": "user", "content": question},
                ],
            }
        ).encode(),
        headers={
            "authorization": f"Bearer {settings.llm_api_key.get_secret_value()}",
            "content-type": "application/json",
        },
    )
    try:
        with urllib.request.urlopen(request, timeout=settings.llm_timeout) as answer:
            text = str(json.load(answer)["choices"][0]["message"]["content"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ModelError(f"The language model gave no answer ({type(error).__name__}).") from error
    return text.strip().removeprefix("```sql").removeprefix("```").removesuffix("```").strip()
