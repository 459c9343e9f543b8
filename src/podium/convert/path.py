"""Where a value does not fit, in the notation of error messages: ``order.items[2].sku``.

Converters know nothing of where they are used: each raises with the path below itself, and every level that an error
passes puts its own segment in front.
"""

from __future__ import annotations

import json
import re
from types import NoneType
from typing import Any

from podium.errors import ConversionError

_JSON_NAMES: dict[type, str] = {NoneType: "null", dict: "object", list: "array"}
#: Longer keys and values are cut in messages.
_SHOWN = 60
#: A value in a message, as ``shown`` puts it there.
_GOT = re.compile(r"""got (?:"(?:[^"\\]|\\.)*(?:"|\.\.\.)|-?\d[\d.eE+-]*|true|false)""")


def json_name(value: Any) -> str:
    """Return the name of a value's type: JSON's name for null, object and array, Python's for all others."""
    return _JSON_NAMES.get(type(value)) or type_name(type(value))


def type_name(cls: Any) -> str:
    """Return a class's name with its module, builtins without."""
    module, name = getattr(cls, "__module__", ""), getattr(cls, "__qualname__", None)
    if name is None:
        return str(cls)
    return name if module == "builtins" else f"{module}.{name}"


def shown(value: Any) -> str:
    """Return a scalar as JSON text, cut to a length that fits a message."""
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def without_values(message: str) -> str:
    """Return a message of a ConversionError fit for a log: without the user's data."""
    return _GOT.sub("got ***", message)


def mismatch(expected: str, value: Any) -> ConversionError:
    """Return the error for a value of the wrong JSON type."""
    return ConversionError("", f"expected {expected}, got {json_name(value)}")


def key_segment(key: Any) -> str:
    """Return an object key as a path segment: bare if it reads as a name, else in brackets."""
    if type(key) is str:
        return key if key.isidentifier() and len(key) <= _SHOWN else f"[{shown(key)}]"
    return f"[{json_name(key)}]"


def join(segment: str, path: str) -> str:
    """Put a segment in front of a path."""
    return segment + path if not path or path.startswith("[") else f"{segment}.{path}"


def within(segment: str, error: ConversionError) -> ConversionError:
    """Return the error as seen from one level further out; raise it ``from error.__cause__``."""
    return ConversionError(join(segment, error.path), error.problem)
