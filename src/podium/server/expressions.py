"""``${...}`` expressions in the inputs and outputs of workflows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec

from podium.server.jsonpath import Path, PathError, compile_path

#: Gives the value behind the first name of a path: ``workflow`` or a reference name. None = unknown.
Scope = Callable[[str], Any]


@dataclass(frozen=True)
class Expression:
    """What stands between ``${`` and ``}``: literal text and nested expressions."""

    parts: tuple[str | Expression, ...]


def resolve(value: Any, scope: Scope) -> Any:
    """Return ``value`` with every expression in it replaced, at any depth; keys are left alone.

    A text that is one expression becomes the native value; expressions inside a longer text become text.
    What does not exist is None, never an error.
    """
    if isinstance(value, str):
        return _resolve_text(value, scope) if "${" in value else value
    if isinstance(value, dict):
        return {key: resolve(item, scope) for key, item in value.items()}
    if isinstance(value, list):
        return [resolve(item, scope) for item in value]
    return value


def _resolve_text(text: str, scope: Scope) -> Any:
    parts = parse(text)
    if len(parts) == 1 and isinstance(parts[0], Expression):
        return _evaluate(parts[0], scope)
    return _join(parts, scope)


def _join(parts: tuple[str | Expression, ...], scope: Scope) -> str:
    return "".join(part if isinstance(part, str) else _text_of(part, scope) for part in parts)


def _path(expression: Expression, scope: Scope) -> Path | None:
    try:
        return compile_path(_join(expression.parts, scope))
    except PathError:
        return None


def _evaluate(expression: Expression, scope: Scope) -> Any:
    path = _path(expression, scope)
    return None if path is None else path.find(scope(path.root))


def _text_of(expression: Expression, scope: Scope) -> str:
    path = _path(expression, scope)
    value = None if path is None else path.find(scope(path.root))
    # The real server's own lists, which paths that may find several values give, read as JSON.
    return java_text(value) if path is None or path.definite else msgspec.json.encode(value).decode()


@lru_cache(maxsize=4096)
def parse(text: str) -> tuple[str | Expression, ...]:
    """Return the literal pieces and the expressions of a text.

    ``$${x}`` is the literal ``${x}``, but an expression inside it is one.
    """
    try:
        parts, _ = _parse(text, 0, nested=False)
    except RecursionError:
        return (text,)  # nobody nests that deep on purpose
    return parts


def _parse(text: str, at: int, *, nested: bool) -> tuple[tuple[str | Expression, ...], int]:
    parts: list[str | Expression] = []
    literal_from = at
    while at < len(text):
        if text.startswith("$${", at) and not nested:
            inner, end = _parse(text, at + 3, nested=True)
            if end > len(text):
                break
            parts.extend((text[literal_from:at], "${", *inner, "}"))
            at = literal_from = end
        elif text.startswith("${", at):
            inner, end = _parse(text, at + 2, nested=True)
            if end > len(text):  # never closed: plain text
                break
            parts.extend((text[literal_from:at], Expression(inner)))
            at = literal_from = end
        elif nested and text[at] == "}":
            parts.append(text[literal_from:at])
            return tuple(part for part in parts if part != ""), at + 1
        else:
            at += 1
    parts.append(text[literal_from:])
    return tuple(part for part in parts if part != ""), len(text) + 1


def expressions_in(text: str) -> list[Expression]:
    """Return the outermost expressions of a text."""
    return [part for part in parse(text) if isinstance(part, Expression)] if "${" in text else []


def java_text(value: Any) -> str:
    """Return a value as the server writes it into a text: ``null``, ``true``, ``{a=[1, 2]}``."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}={java_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(java_text(item) for item in value) + "]"
    return _java_float(value) if isinstance(value, float) else str(value)


def _java_float(value: float) -> str:
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        return f"{Decimal(repr(value)):f}" if "e" in repr(value) else repr(value)
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    assert isinstance(exponent, int), "JSON numbers are finite"
    mantissa = "".join(map(str, digits))
    return f"{'-' if sign else ''}{mantissa[0]}.{mantissa[1:] or '0'}E{exponent + len(mantissa) - 1}"
