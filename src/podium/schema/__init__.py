"""JSON Schema (draft-07) of what a function takes from a task and of what its tasks' output will be.

The schemas come from the same rules as the binder and the converter: a value is valid exactly when the function would
be called with it. What draft-07 cannot say, and where a schema therefore takes more than the converter:

- a constructor, an Enum's ``_missing_`` or a validator of the user's own may refuse more; numbers beyond their type's
  range (floats above 2**53 for an int, ints above 1e308 for a float, durations beyond timedelta's);
- two keys of an object that stand for the same key, such as ``1.0`` and ``1.00``; limits of ``msgspec.Meta`` on keys
  that are numbers; a fraction or exponent in number keys of a union with a Literal or Enum;
- items of a set, or keys, that cannot be hashed (of ``set`` and ``set[Any]`` the schema takes scalars only);
- ``msgspec.Meta(max_length=...)`` of a set, whose equal items count once, and of bytes;
- a Flag with gaps between more than eight bits; an array_like Struct, which msgspec reads by rules of its own.

pydantic's types have pydantic's own schemas, which say less than its lax validators take (``"5"`` for an int).
"""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import types
import typing
from collections import abc
from collections.abc import Callable
from typing import Any, Final, Union, get_args, get_origin

from podium.binding import Signature, return_annotation, signature_of
from podium.context import TaskInProgress
from podium.convert.decode import target_of
from podium.convert.shape import shape_of
from podium.errors import DeclarationError
from podium.models import TaskResult
from podium.schema.parts import (
    DRAFT,
    NULL,
    OBJECT,
    JsonSchema,
    any_of,
    object_of,
    referenced,
    resolved,
    types_of,
)
from podium.schema.table import TypeSchemas

__all__ = ["JsonSchema", "Schemas", "schemas_of"]


_AWAITABLES: Final = (abc.Awaitable, abc.Coroutine, asyncio.Future, asyncio.Task)


@dataclasses.dataclass(frozen=True, slots=True)
class Schemas:
    """What a function takes and gives. ``output`` is None if the function does not say what it returns."""

    input: JsonSchema
    output: JsonSchema | None


def schemas_of(function: Callable[..., Any], *, strict: bool = False) -> Schemas:
    """Return the schemas of a function.

    ``strict`` (default False) refuses keys of the input that no parameter or field asks for, at every depth, as the
    worker's option ``strict_schema`` does. Output stays open: ``set_output`` may add to it.
    Raises DeclarationError for a signature that input can never fill.
    """
    return Schemas(_input(signature_of(function), strict=strict), _output(function))


def _input(signature: Signature, *, strict: bool) -> JsonSchema:
    schemas = TypeSchemas(closed=strict)
    properties: JsonSchema = {}
    required: list[str] = []
    for parameter in signature.parameters:
        if not parameter.takes_task:
            schema = schemas.of(parameter.annotation)
            properties[parameter.name] = any_of(schema, NULL) if parameter.default is None else schema
            if parameter.required:
                required.append(parameter.name)
    others: JsonSchema | None = None if strict and not signature.reads_all else {}
    if signature.rest is not None:
        others = _rest(signature.rest.annotation, schemas, properties, required, strict=strict)
        if others != {}:  # keys that **kwargs never sees are not judged by it
            properties |= {name: {} for name in sorted(signature.taken) if name not in properties}
    return _document(object_of(properties, required, others), schemas)


def _rest(
    annotation: Any, schemas: TypeSchemas, properties: JsonSchema, required: list[str], *, strict: bool
) -> JsonSchema | None:
    """Return the schema of the keys that ``**kwargs`` takes; add those that a TypedDict names to the properties."""
    if get_origin(annotation) is dict:
        return schemas.of(get_args(annotation)[1])
    shape = shape_of(annotation)
    assert shape is not None
    properties |= {field.key: schemas.field(field) for field in shape.inputs}
    required += [field.key for field in shape.inputs if field.required]
    return None if strict else {}


def _output(function: Callable[..., Any]) -> JsonSchema | None:
    try:
        annotation = _result_type(return_annotation(function))
        if annotation in (inspect.Signature.empty, typing.NoReturn, typing.Never):
            return None
        schemas = TypeSchemas(output=True)
        union = get_origin(annotation) in (Union, types.UnionType)
        members = get_args(annotation) if union else (annotation,)
        return _document(any_of(*(_output_of(member, schemas) for member in members)), schemas)
    except DeclarationError:
        return None


def _result_type(annotation: Any) -> Any:
    """Return the type behind aliases and awaitables."""
    while True:
        origin = get_origin(annotation)
        inner = get_args(annotation)[-1] if origin in _AWAITABLES else target_of(annotation)
        if inner is annotation:
            return annotation
        annotation = inner


def _output_of(annotation: Any, schemas: TypeSchemas) -> JsonSchema:
    """Return the schema of a task's output if its function returns a value of a type."""
    if annotation in (TaskInProgress, TaskResult):
        return OBJECT
    return _wrapped(schemas.exactly(annotation), schemas)


def _wrapped(schema: JsonSchema, schemas: TypeSchemas) -> JsonSchema:
    """Return the schema of the output for that of the value: only an object is the output itself."""
    kinds = types_of(schema, schemas.definitions)
    if kinds == {"object"}:
        return schema
    if "object" not in kinds:
        return object_of({"result": schema}, ["result"], {})
    members = resolved(schema, schemas.definitions)
    if members.keys() == {"anyOf"}:
        return any_of(*(_wrapped(member, schemas) for member in members["anyOf"]))
    return OBJECT


def _document(schema: JsonSchema, schemas: TypeSchemas) -> JsonSchema:
    """Return a schema as a document of its own, with its definitions."""
    body = resolved(schema, schemas.definitions)
    needed = referenced(body, schemas.definitions)
    return {"$schema": DRAFT} | body | ({"definitions": needed} if needed else {})
