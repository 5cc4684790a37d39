"""Jinja2 for compose files and extra files: sandboxed, undefined variables are errors with a place."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import TracebackType
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError, UndefinedError
from jinja2.sandbox import SandboxedEnvironment

from longshore.errors import RenderError, Where


@lru_cache(maxsize=1)
def _environment() -> SandboxedEnvironment:
    # autoescape is HTML's; what is written here is YAML, env files and configuration.
    return SandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)


@lru_cache(maxsize=256)
def _compiled(text: str, name: str) -> Template:
    code = _environment().compile(text, name=name, filename=name)
    return Template.from_code(_environment(), code, _environment().globals.copy())


def render_template(text: str, name: str, variables: Mapping[str, Any]) -> str:
    """Render a template; raises ``RenderError`` with file and line. ``name`` is the file for places."""
    try:
        return _compiled(text, name).render(variables)
    except TemplateSyntaxError as error:
        raise RenderError(
            f"This template is broken: {error.message}.", where=Where(name, error.lineno)
        ) from None
    except UndefinedError as error:
        raise RenderError(
            f"{_sentence(error)}.",
            where=Where(name, _line(error.__traceback__, name)),
            hint="Define it in the inventory, or give it a default: {{ name | default('…') }}.",
        ) from None
    except RecursionError:
        raise RenderError("This template calls itself without end.", where=Where(name)) from None
    except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise RenderError(
            f"This template can't be rendered: {_sentence(error)}.",
            where=Where(name, _line(error.__traceback__, name)),
        ) from None


def _sentence(error: Exception) -> str:
    text = str(error).rstrip(".") or type(error).__name__
    return text[0].upper() + text[1:] if text[0].isalpha() else text


def _line(trace: TracebackType | None, name: str) -> int:
    line = 0
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == name:
            line = trace.tb_lineno  # Jinja2 rewrites tracebacks to the template's own lines
        trace = trace.tb_next
    return line
