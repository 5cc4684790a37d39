"""Jinja2 in the inventory's values, as in Ansible: sandboxed, strict; a lone expression keeps its type."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import posixpath
import re
import shlex
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import yaml
from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError, Undefined, UndefinedError
from jinja2.exceptions import SecurityError
from jinja2.sandbox import SandboxedEnvironment

from longshore.errors import InventoryError, LongshoreError, Where
from longshore.inventory.nearest import did_you_mean

_VALUE = "longshore_value_"
_LONGEST = 1_000_000
_UNDEFINED_NAME = re.compile(r"'([^']+)' is undefined")


class _Environment(SandboxedEnvironment):
    """The sandbox, with the two operators that can make a value of any size bounded."""

    intercepted_binops = frozenset(["**", "*"])

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" and (abs(left) > 10_000 or abs(right) > 100):
            raise SecurityError("the power is too large")
        if operator == "*":
            for many, times in ((left, right), (right, left)):
                sized = isinstance(many, (str, bytes, list, tuple))
                if sized and isinstance(times, int) and len(many) * times > _LONGEST:
                    raise SecurityError("the result is too long")
        return super().call_binop(context, operator, left, right)


def resolve_text(text: str, variables: Mapping[str, Any], where: Where) -> Any:
    """Return what a template stands for: a native value for ``{{ one expression }}``, else a text.

    Raises ``InventoryError`` with the place where the template is written.
    """
    try:
        compiled, lone = _compiled(text)
        context = compiled.new_context(variables, shared=True)  # type: ignore[arg-type]
        rendered = "".join(compiled.root_render_func(context))
        if not lone:
            return rendered
        value = context.vars[_VALUE]
        if isinstance(value, Undefined):
            value._fail_with_undefined_error()
        return value
    except LongshoreError:
        raise
    except UndefinedError as error:
        raise _undefined(error, variables, where) from None
    except TemplateSyntaxError as error:
        raise InventoryError(
            f"The template {_short(text)} is broken: {error.message}.", where=where
        ) from None
    except RecursionError:
        raise InventoryError(f"The template {_short(text)} calls itself without end.", where=where) from None
    except Exception as error:  # whatever a filter or operator makes of the person's values
        # Other errors can quote a value, which may be a secret.
        told = isinstance(error, (TemplateError, TypeError, AttributeError, ArithmeticError))
        why = _sentence(error) if told else f"a value is not what it needs ({type(error).__name__})"
        raise InventoryError(f"The template {_short(text)} can't be rendered: {why}.", where=where) from None


def undefined(error: LongshoreError) -> StrictUndefined:
    """A value that raises ``error``'s sentence when a template uses it, and is harmless until then."""
    return StrictUndefined(hint=str(error).rstrip("."))


@lru_cache(maxsize=1)
def _environment() -> _Environment:
    environment = _Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
    environment.filters.update(_FILTERS)
    return environment


@lru_cache(maxsize=4096)
def _compiled(text: str) -> tuple[Template, bool]:
    """The compiled template, and whether it is one expression with nothing around it."""
    environment = _environment()
    expression = _lone_expression(text, environment)
    source = text if expression is None else f"{{% set {_VALUE} = ({expression}) %}}"
    return environment.from_string(source), expression is not None


def _lone_expression(text: str, environment: SandboxedEnvironment) -> str | None:
    stripped = text.strip()
    if not (stripped.startswith("{{") and stripped.endswith("}}")):
        return None
    tokens = [kind for _, kind, _ in environment.lex(stripped)]
    if tokens[0] != "variable_begin" or tokens[-1] != "variable_end" or tokens.count("variable_begin") != 1:
        return None
    inner = stripped[2:-2]
    inner = inner[1:] if inner.startswith(("-", "+")) else inner  # {{- and -}} trim what isn't there
    return inner[:-1] if inner.endswith(("-", "+")) else inner


def template_globals() -> dict[str, Any]:
    """Names that every template has: Jinja2's own, and ``lookup('env', 'NAME')``."""
    return {**_environment().globals, "lookup": _lookup}


def _lookup(plugin: object, *terms: object, default: object = "") -> Any:
    if str(plugin) not in ("env", "ansible.builtin.env"):
        raise SecurityError(f"lookup('{plugin}') isn't supported, only lookup('env', 'NAME') is")
    if len(terms) != 1:
        raise SecurityError("lookup('env', 'NAME') takes one name")
    return os.environ.get(str(terms[0]), default)


def _undefined(error: UndefinedError, variables: Mapping[str, Any], where: Where) -> InventoryError:
    message = _sentence(error)
    found = _UNDEFINED_NAME.fullmatch(message)
    if not found:
        return InventoryError(f"{message[:1].upper()}{message[1:]}.", where=where)
    names = [name for name in variables if name not in _environment().globals]
    hint = did_you_mean(found[1], names) or "Define it, or give it a default: {{ name | default('…') }}."
    return InventoryError(f"The variable {found[1]!r} is not defined.", where=where, hint=hint)


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split())
    return (text if len(text) <= 300 else text[:297] + "...").rstrip(".") or type(error).__name__


_CODE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{[{%#]", re.DOTALL)


def _short(text: str) -> str:
    """Its first expression: what stands around it may be a secret."""
    found = _CODE.search(text)
    code = found.group() if found else ""
    return repr(code if len(code) <= 60 else code[:57] + "...")


def _to_bool(value: Any) -> bool:
    return value is True or str(value).strip().lower() in ("true", "yes", "on", "1", "y", "t")


def _mandatory(value: Any, message: str = "") -> Any:
    if isinstance(value, Undefined):
        if message:
            raise TemplateError(message)
        value._fail_with_undefined_error()
    return value


def _combine(first: Mapping[str, Any], *others: Mapping[str, Any], recursive: bool = False) -> dict[str, Any]:
    result = dict(first)
    for other in others:
        for name, value in other.items():
            earlier = result.get(name)
            if recursive and isinstance(earlier, Mapping) and isinstance(value, Mapping):
                value = _combine(earlier, value, recursive=True)
            result[name] = value
    return result


def _json(value: Any, **options: Any) -> str:
    return json.dumps(value, default=_plain, **options)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a {type(value).__name__} can't be written as JSON")


def _ternary(condition: Any, yes: Any, no: Any) -> Any:
    return yes if condition else no


_FILTERS: dict[str, Callable[..., Any]] = {
    "b64encode": lambda text, encoding="utf-8": base64.b64encode(str(text).encode(encoding)).decode("ascii"),
    "b64decode": lambda text, encoding="utf-8": base64.b64decode(str(text), validate=True).decode(encoding),
    "basename": lambda path: posixpath.basename(str(path)),
    "bool": _to_bool,
    "combine": _combine,
    "dirname": lambda path: posixpath.dirname(str(path)),
    "from_json": lambda text: json.loads(text),
    "from_yaml": lambda text: yaml.safe_load(text),
    "hash": lambda text, kind="sha1": hashlib.new(kind, str(text).encode()).hexdigest(),
    "mandatory": _mandatory,
    "quote": lambda text: shlex.quote(str(text)),
    "regex_replace": lambda text, pattern, replacement="": re.sub(pattern, replacement, str(text)),
    "regex_search": lambda text, pattern: (found := re.search(pattern, str(text))) and found[0],
    "split": lambda text, separator=None: str(text).split(separator),
    "ternary": _ternary,
    "to_json": _json,
    "to_nice_json": lambda value: _json(value, indent=4, sort_keys=True),
    "to_yaml": lambda value: yaml.safe_dump(value, allow_unicode=True),
}
