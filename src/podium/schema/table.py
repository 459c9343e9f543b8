"""The JSON Schema of a Python type: the same table as the converter's, row by row."""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import enum
import re
import types
import uuid
from collections import abc
from collections.abc import Callable, Iterable
from types import NoneType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import msgspec
from msgspec import structs

from podium.convert import to_json
from podium.convert.decode import ARRAYS, MAPPINGS, is_hashable, target_of, tuple_items
from podium.convert.pydantic_models import has_pydantic_marks, is_pydantic
from podium.convert.scalar import OFFSET, TEXTS, text_plan, values_of
from podium.convert.shape import Field, Shape, class_hints, members_of, shape_of
from podium.errors import DeclarationError
from podium.schema.draft07 import as_draft07, pydantic_schema
from podium.schema.parts import (
    NULL,
    OBJECT,
    JsonSchema,
    any_of,
    array_of,
    choice,
    key_of,
    object_of,
    reference,
    types_of,
    whole,
)

_BYTES: Final = whole(TEXTS[bytes]) | {"contentEncoding": "base64"}
_SECONDS: Final = {"type": "number", "minimum": -86_399_999_913_600, "exclusiveMaximum": 86_400_000_000_000}
_ARRAY: Final = {"type": "array"}
_LEAVES: Final[dict[Any, JsonSchema]] = {
    Any: {},
    object: {},
    None: NULL,
    NoneType: NULL,
    bool: {"type": "boolean"},
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    dt.datetime: whole(TEXTS[dt.datetime]),
    dt.date: whole(TEXTS[dt.date]) | {"format": "date"},
    dt.time: whole(TEXTS[dt.time]),
    dt.timedelta: {"anyOf": [whole(TEXTS[dt.timedelta]), _SECONDS]},
    uuid.UUID: whole(TEXTS[uuid.UUID]),
    decimal.Decimal: {"anyOf": [whole(TEXTS[decimal.Decimal]), {"type": "number"}]},
    bytes: _BYTES,
    bytearray: _BYTES,
    memoryview: _BYTES,
    list: _ARRAY,
    dict: OBJECT,
}
_SETS: Final = (set, frozenset, abc.Set, abc.MutableSet)
_HASHABLE: Final = {"type": ["null", "boolean", "number", "string"]}
_AWARE: Final = {"pattern": rf"{OFFSET}(?![\s\S])"}
#: What msgspec.Meta limits -> the JSON types that the limit is about -> the keyword that says it.
_LIMITS: Final[dict[str, dict[str, str]]] = {
    "gt": dict.fromkeys(("integer", "number"), "exclusiveMinimum"),
    "ge": dict.fromkeys(("integer", "number"), "minimum"),
    "lt": dict.fromkeys(("integer", "number"), "exclusiveMaximum"),
    "le": dict.fromkeys(("integer", "number"), "maximum"),
    "multiple_of": dict.fromkeys(("integer", "number"), "multipleOf"),
    "pattern": {"string": "pattern"},
    "min_length": {"string": "minLength", "array": "minItems", "object": "minProperties"},
    "max_length": {"string": "maxLength", "array": "maxItems", "object": "maxProperties"},
    "title": {"*": "title"},
    "description": {"*": "description"},
    "examples": {"*": "examples"},
}


class TypeSchemas:
    """Writes the schemas of types, and collects the ``definitions`` that they refer to.

    ``closed`` (default False) forbids unknown keys at every depth, as the converter does when it is told so.
    ``output`` (default False) describes what values of a type become, instead of what they are read from: all
    attributes of a class are there, and what has no row in the table may be anything.
    """

    def __init__(self, *, closed: bool = False, output: bool = False) -> None:
        self._closed = closed
        self._output = output
        self.definitions: dict[str, JsonSchema] = {}
        self._names: dict[Any, str] = {}
        #: Names of definitions that something refers to already.
        self._used: set[str] = set()
        self._pydantic_sources: dict[str, Any] = {}

    def of(self, annotation: Any) -> JsonSchema:
        """Return the schema of a type.

        Raises DeclarationError for one that no JSON value can become, unless it is about output.
        """
        try:
            return self.exactly(annotation)
        except DeclarationError:
            if self._output:
                return {}
            raise

    def exactly(self, annotation: Any) -> JsonSchema:
        """Return the schema of a type; raise DeclarationError for one that has no row in the table."""
        if get_origin(annotation) is Annotated:
            return self._annotated(annotation)
        if is_hashable(annotation) and annotation in _LEAVES:
            return _LEAVES[annotation]
        target = target_of(annotation)
        if target is not annotation:
            label = getattr(annotation, "__name__", "alias")
            return self._named(annotation, label, lambda: self.exactly(target), only_if_recursive=True)
        found = self._container(annotation)
        return self._class(annotation) if found is None else found

    def field(self, field: Field) -> JsonSchema:
        """Return the schema of a field's values."""
        schema = self.of(field.type)
        return any_of(schema, NULL) if field.nullable else schema

    def _container(self, annotation: Any) -> JsonSchema | None:
        origin, arguments = get_origin(annotation) or annotation, get_args(annotation)
        if origin in (Union, types.UnionType):
            return any_of(*(self.of(member) for member in arguments if member is not msgspec.UnsetType))
        if origin is Literal:
            return choice([to_json(value) for value in arguments])
        if origin is tuple:
            return self._tuple(tuple_items(annotation))
        if origin in ARRAYS:
            items = self.of(arguments[0]) if arguments else {}
            return _array(items or _HASHABLE if origin in _SETS else items)
        if origin in MAPPINGS:
            if origin is collections.Counter:
                arguments = (arguments or (str,)) + (int,)
            key, value = (self.of(argument) for argument in arguments or (Any, Any))
            names = key_of(key, self.definitions)
            return (
                OBJECT
                | ({"propertyNames": names} if names else {})
                | ({"additionalProperties": value} if value else {})
            )
        return None

    def _tuple(self, items: tuple[Any, ...]) -> JsonSchema:
        if len(items) == 2 and items[1] is Ellipsis:
            return _array(self.of(items[0]))
        return array_of([self.of(item) for item in items], len(items))

    def _class(self, annotation: Any) -> JsonSchema:
        cls = get_origin(annotation) or annotation
        if not isinstance(cls, type):
            raise DeclarationError(f"no JSON value can become {annotation!r}")
        if is_pydantic(cls):
            return self._pydantic(annotation, closed=self._closed)
        if issubclass(cls, enum.Enum):
            return _enum(cls)
        if text_plan(cls) is not None:
            return next((_LEAVES[base] for base in (str, int, float) if issubclass(cls, base)), _LEAVES[str])
        if issubclass(cls, msgspec.Struct) and cls.__struct_config__.array_like:
            return self._named(annotation, cls.__name__, lambda: self._array_like(annotation, cls))
        shape = shape_of(annotation)
        if shape is None:
            raise DeclarationError(f"no JSON value can become {cls.__qualname__}")
        write = self._written if self._output else self._read
        return self._named(annotation, cls.__name__, lambda: write(annotation, shape))

    def _named(
        self, annotation: Any, label: str, write: Callable[[], JsonSchema], *, only_if_recursive: bool = False
    ) -> JsonSchema:
        """Make a definition of a type, once, and return a reference to it: a type may contain itself."""
        if not is_hashable(annotation):
            return write()
        if annotation in self._names:
            self._used.add(self._names[annotation])
            return reference(self._names[annotation])
        name = self._names[annotation] = self._free_name(label)
        try:
            schema = write()
        except DeclarationError:
            del self._names[annotation]
            raise
        if only_if_recursive and name not in self._used:
            del self._names[annotation]
            return schema
        self.definitions[name] = schema
        return reference(name)

    def _free_name(self, label: str) -> str:
        word = re.sub(r"[^A-Za-z0-9_.-]", "_", label)
        taken = {*self._names.values(), *self.definitions}
        number, name = 1, word
        while name in taken:
            number += 1
            name = f"{word}_{number}"
        return name

    def _read(self, _annotation: Any, shape: Shape) -> JsonSchema:
        """Return the schema of what a class is read from."""
        fields = {field.key: self.field(field) for field in shape.inputs}
        required = [field.key for field in shape.inputs if field.required]
        tag = {} if shape.tag is None else {shape.tag[0]: choice([shape.tag[1]])}
        schema = object_of(tag | fields, required, None if self._closed or shape.closed else {})
        return any_of(schema, array_of(list(fields.values()), len(required))) if shape.from_array else schema

    def _written(self, annotation: Any, shape: Shape) -> JsonSchema:
        """Return the schema of what instances of a class become."""
        inputs = {field.key: field for field in shape.inputs}
        members = members_of(shape.cls)
        if members is None:  # TypedDict
            fields = list(shape.inputs)
        else:
            hints = {field.name: field.type for field in shape.inputs} | _hints_of(annotation)
            fields = [_attribute(name, key, hints.get(name, Any), inputs.get(key)) for name, key in members]
        tag = {} if shape.tag is None else {shape.tag[0]: choice([shape.tag[1]])}
        properties = tag | {field.key: self.field(field) for field in fields}
        return object_of(properties, [*tag, *(field.key for field in fields if field.required)], {})

    def _array_like(self, annotation: Any, cls: Any) -> JsonSchema:
        hints, config = class_hints(annotation), cls.__struct_config__
        tag = [] if config.tag is None else [choice([config.tag])]
        fields = structs.fields(cls)
        items = [*tag, *(self.of(hints[field.name]) for field in fields)]
        required = max((place for place, field in enumerate(fields, 1) if field.required), default=0)
        return array_of(items, len(tag) + required, open_ended=not config.forbid_unknown_fields)

    def _annotated(self, annotation: Any) -> JsonSchema:
        base, *metadata = get_args(annotation)
        if has_pydantic_marks(metadata):
            return self._pydantic(annotation, closed=False)
        schema = self.of(base)
        for mark in metadata:
            if isinstance(mark, msgspec.Meta):
                schema = self._limited(schema, mark, is_set=(get_origin(base) or base) in _SETS)
        return schema

    def _limited(self, schema: JsonSchema, mark: msgspec.Meta, *, is_set: bool) -> JsonSchema:
        """Add the limits of msgspec.Meta."""
        kinds = types_of(schema, self.definitions) | {"*"}
        limits = {
            keyword: getattr(mark, limit)
            for limit, keywords in _LIMITS.items()
            if getattr(mark, limit) is not None
            for kind, keyword in keywords.items()
            if kind in kinds
        }
        if schema == _BYTES:  # the length is that of the bytes
            limits = {keyword: value for keyword, value in limits.items() if keyword not in ("minLength", "maxLength")}
        if is_set:  # equal items count once, but here they would count as often as they occur
            limits.pop("maxItems", None)
        if mark.tz is not None:
            limits |= _AWARE if mark.tz else {"not": _AWARE}
        limits |= mark.extra_json_schema or {}
        if limits and ("$ref" in schema or schema.keys() & limits.keys()):
            return {"allOf": [schema, limits]}
        return schema | limits

    def _pydantic(self, annotation: Any, *, closed: bool) -> JsonSchema:
        """Return pydantic's own schema; its definitions join the others."""
        source = pydantic_schema(annotation, output=self._output)
        defined: dict[str, Any] = source.pop("$defs", {})
        names = {}
        for name, definition in defined.items():
            known = self._pydantic_sources.get(name) == definition
            names[name] = name if known else self._free_name(name)
            self._pydantic_sources[names[name]] = definition
            self.definitions[names[name]] = {}  # taken
        for name, definition in defined.items():
            self.definitions[names[name]] = as_draft07(definition, names)
        schema: JsonSchema = as_draft07(source, names)
        if closed and schema.keys() == {"$ref"}:  # only this level is closed, not the definition
            schema = self.definitions[schema["$ref"].rpartition("/")[2]]
        if closed and "properties" in schema:
            schema = schema | {"additionalProperties": False}
        return schema


def _array(items: JsonSchema) -> JsonSchema:
    return _ARRAY | {"items": items} if items else _ARRAY


def _enum(cls: type[enum.Enum]) -> JsonSchema:
    values = values_of(cls, to_json)
    if issubclass(cls, enum.Flag):
        return _flags(cls, values)
    listed = choice(values)
    if cls._missing_.__func__ is enum.Enum._missing_.__func__:  # type: ignore[attr-defined]
        return listed
    # Which further values the class takes only its own code knows.
    kinds = sorted({"number" if kind == "integer" else kind for kind in types_of(listed, {})})
    return {"type": kinds[0] if len(kinds) == 1 else kinds}


def _flags(cls: Any, values: Iterable[int]) -> JsonSchema:
    mask = 0
    for value in values:
        mask |= value
    if cls._boundary_ is enum.KEEP:
        return {"type": "integer"}
    if cls._boundary_ is not enum.STRICT:
        return {"type": "integer", "minimum": 0}
    if mask & (mask + 1) == 0:
        return {"type": "integer", "minimum": 0, "maximum": mask}
    bits = [1 << place for place in range(mask.bit_length()) if mask >> place & 1]
    if len(bits) > 8:
        return {"type": "integer", "minimum": 0, "maximum": mask}
    return choice(
        sorted(sum(bit for place, bit in enumerate(bits) if pick >> place & 1) for pick in range(1 << len(bits)))
    )


def _hints_of(annotation: Any) -> dict[str, Any]:
    """Return the annotations of a class's attributes, none if one of them cannot be resolved."""
    try:
        return class_hints(annotation)
    except DeclarationError:
        return {}


def _attribute(name: str, key: str, annotation: Any, source: Field | None) -> Field:
    """Return an attribute of a class as it goes out; one that may be UNSET may be missing."""
    may_be_unset = annotation is msgspec.UnsetType or msgspec.UnsetType in get_args(annotation)
    return Field(name, key, annotation, not may_be_unset, nullable=source is not None and source.nullable)
