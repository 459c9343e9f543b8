"""conductor-python's conversion functions and its schema generator, by podium's converter and schemas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from podium.convert import converter_for


def get_value(typ: Any, val: Any) -> Any:
    """Return a JSON value as a type; raises ConversionError with the path of what does not fit."""
    return converter_for(typ)(val)


def convert_from_dict(cls: Any, data: Any) -> Any:
    """Return a JSON object as a class; None stays None."""
    return None if data is None else get_value(cls, data)


def convert_from_dict_or_list(cls: Any, data: Any) -> Any:
    """Return a JSON object as a class, or each object of a list; None stays None."""
    if isinstance(data, list) and isinstance(cls, type):
        return [convert_from_dict(cls, item) for item in data]
    return convert_from_dict(cls, data)


def generate_json_schema_from_function(
    func: Callable[..., Any], schema_name: str, strict_schema: bool = False
) -> dict[str, Any]:
    """Return the JSON schemas of a function's input and output; the schema's name plays no part in them."""
    from podium.schema import schemas_of

    del schema_name
    schemas = schemas_of(func, strict=strict_schema)
    return {"input": schemas.input, "output": schemas.output}
