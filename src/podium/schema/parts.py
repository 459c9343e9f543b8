"""Small operations on draft-07 schemas: alternatives, null, keys of objects, the JSON types that are taken."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from podium.convert.compose import INT_KEY, NUMBER_KEY

#: An object of keywords. An empty one takes everything; ``NOTHING`` takes nothing.
JsonSchema: TypeAlias = dict[str, Any]

NULL: Final[JsonSchema] = {"type": "null"}
OBJECT: Final[JsonSchema] = {"type": "object"}
NOTHING: Final[JsonSchema] = {"not": {}}
ALL_TYPES: Final = frozenset({"null", "boolean", "integer", "number", "string", "array", "object"})

DRAFT: Final = "http://json-schema.org/draft-07/schema#"
_REF: Final = "#/definitions/"
_TYPE_NAMES: Final = {type(None): "null", bool: "boolean", int: "integer", float: "number", str: "string"}


def whole(expression: str) -> JsonSchema:
    """Return the schema of the texts that match an expression from end to end.

    Not ``$`` at the end: several languages let it match before a final line break.
    """
    return {"type": "string", "pattern": rf"^(?:{expression})(?![\s\S])"}


def any_of(*alternatives: JsonSchema) -> JsonSchema:
    """Return the schema of what at least one of the alternatives takes."""
    different: dict[str, JsonSchema] = {}
    for schema in alternatives:
        for member in schema["anyOf"] if schema.keys() == {"anyOf"} else [schema]:
            different.setdefault(json.dumps(member), member)  # as JSON, where 1 is not true
    members = [member for member in different.values() if member != NOTHING]
    if {} in members:
        return {}
    if not members:
        return NOTHING
    return members[0] if len(members) == 1 else {"anyOf": members}


def choice(values: list[Any]) -> JsonSchema:
    """Return the schema of a few scalars; 1 and True are two of them, 1 and 1.0 are one."""
    return {"enum": list({(type(value) is bool, value): value for value in reversed(values)}.values())[::-1]}


def object_of(properties: JsonSchema, required: list[str], others: JsonSchema | None = None) -> JsonSchema:
    """Return the schema of an object; ``others`` is the schema of further keys, None if there may be none."""
    schema: JsonSchema = {"type": "object", "properties": properties}
    if required:
        schema["required"] = required
    if others is None:
        schema["additionalProperties"] = False
    elif others:
        schema["additionalProperties"] = others
    return schema


def array_of(items: list[JsonSchema], required: int, *, open_ended: bool = False) -> JsonSchema:
    """Return the schema of an array whose items have a schema each; the first ``required`` must be there."""
    schema: JsonSchema = {"type": "array"}
    if items:  # an empty list is no valid keyword
        schema["items"] = items
    if required:
        schema["minItems"] = required
    if not open_ended:
        schema["maxItems"] = len(items)
    return schema


def reference(name: str) -> JsonSchema:
    """Return the schema that stands for a definition."""
    return {"$ref": _REF + name}


def resolved(schema: JsonSchema, definitions: Mapping[str, JsonSchema]) -> JsonSchema:
    """Return the definition that a reference stands for, any other schema itself; ``{}`` while it is being made."""
    while "$ref" in schema:
        schema = definitions.get(schema["$ref"].removeprefix(_REF), {})
    return schema


def referenced(schema: Any, definitions: Mapping[str, JsonSchema]) -> dict[str, JsonSchema]:
    """Return the definitions that a schema needs, directly or not, in their order."""
    needed: set[str] = set()

    def visit(part: Any) -> None:
        if isinstance(part, list):
            for item in part:
                visit(item)
        elif isinstance(part, dict):
            target = part.get("$ref")
            name = target.removeprefix(_REF) if isinstance(target, str) else ""
            if name in definitions and name not in needed:
                needed.add(name)
                visit(definitions[name])
            visit(list(part.values()))

    visit(schema)
    return {name: definition for name, definition in definitions.items() if name in needed}


def types_of(schema: JsonSchema, definitions: Mapping[str, JsonSchema]) -> frozenset[str]:
    """Return the names of the JSON types of which a schema may take values."""
    schema = resolved(schema, definitions)
    if schema == NOTHING:
        return frozenset()
    if "type" in schema:
        return frozenset([schema["type"]] if isinstance(schema["type"], str) else schema["type"])
    if "enum" in schema:
        return frozenset(_TYPE_NAMES[type(value)] for value in schema["enum"] if type(value) in _TYPE_NAMES)
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema:
            return frozenset().union(*(types_of(member, definitions) for member in schema[keyword]))
    if "allOf" in schema:
        return ALL_TYPES.intersection(*(types_of(member, definitions) for member in schema["allOf"]))
    return ALL_TYPES


def key_of(schema: JsonSchema, definitions: Mapping[str, JsonSchema]) -> JsonSchema:
    """Return the schema of the object keys that stand for the values of a schema."""
    schema = resolved(schema, definitions)
    if "anyOf" in schema:
        return any_of(*(key_of(member, definitions) for member in schema["anyOf"]))
    if "allOf" in schema:
        return {"allOf": [key_of(member, definitions) for member in schema["allOf"]]}
    if "enum" in schema:
        return choice([text for value in schema["enum"] for text in _key_texts(value)])
    if schema.get("type") == "string":
        return {keyword: value for keyword, value in schema.items() if keyword != "type"}
    return _KEYS.get(str(schema.get("type")), {})


def _pattern(expression: str) -> JsonSchema:
    return {"pattern": whole(expression)["pattern"]}


#: JSON type -> the keys that stand for its values.
_KEYS: Final = {
    "integer": _pattern(INT_KEY),
    "number": _pattern(NUMBER_KEY),
    "boolean": choice(["true", "false"]),
    "null": NOTHING,
    "array": NOTHING,
    "object": NOTHING,
}


def _key_texts(value: Any) -> list[str]:
    """Return the keys that stand for a scalar; a number has one for each way in which JSON writes it."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, bool):
        return ["true" if value else "false"]
    if value is None:
        return []
    texts = [repr(float(value))] if abs(value) <= 2**53 else []
    if value == int(value):
        texts.insert(0, str(int(value)))
    return [*texts, "-0.0"] if value == 0 else texts
