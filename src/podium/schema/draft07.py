"""pydantic's own JSON schemas, rewritten from draft 2020-12 to draft-07."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

#: Keywords whose values are no schemas: whatever is in them stays as it is.
_DATA = frozenset({"default", "examples", "enum", "const", "required"})
#: Keywords whose values are objects of schemas by name.
_BY_NAME = frozenset({"properties", "patternProperties", "$defs", "definitions"})


def pydantic_schema(annotation: Any, *, output: bool) -> dict[str, Any]:
    """Return the schema that pydantic makes of a type, ``{}`` if it cannot say any.

    ``output`` chooses between what its values become and what they are read from.
    """
    pydantic = sys.modules["pydantic"]
    from pydantic.json_schema import GenerateJsonSchema

    class Quiet(GenerateJsonSchema):
        """Defaults that are no JSON are left out without a warning."""

        ignored_warning_kinds = GenerateJsonSchema.ignored_warning_kinds | {"non-serializable-default"}

    try:
        adapter = pydantic.TypeAdapter(annotation)
        schema: dict[str, Any] = adapter.json_schema(
            mode="serialization" if output else "validation", schema_generator=Quiet
        )
    except (pydantic.PydanticUserError, NameError, TypeError):
        return {}
    return schema


def as_draft07(schema: Any, names: Mapping[str, str]) -> Any:
    """Return a schema in the words of draft-07; ``names`` are the new names of definitions."""
    if isinstance(schema, list):
        return [as_draft07(member, names) for member in schema]
    if not isinstance(schema, dict):
        return schema
    result: dict[str, Any] = {}
    for keyword, value in schema.items():
        if keyword == "$ref":
            result[keyword] = "#/definitions/" + names[value.rpartition("/")[2]]
        elif keyword in _DATA:
            result[keyword] = value
        elif keyword in _BY_NAME:
            result[keyword] = {name: as_draft07(member, names) for name, member in value.items()}
        elif keyword == "prefixItems":
            result["items"] = as_draft07(value, names)
        elif keyword == "items" and "prefixItems" in schema:
            result["additionalItems"] = as_draft07(value, names)
        elif keyword != "discriminator":  # a word of OpenAPI
            result[keyword] = as_draft07(value, names)
    return result
