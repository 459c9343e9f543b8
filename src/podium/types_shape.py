"""The fields of object-like classes: dataclass, attrs, msgspec.Struct, TypedDict, NamedTuple, plain typed class.

One description serves reading (``types_decode``), writing (``types_encode``) and the JSON Schema, so the three agree.
pydantic models are not described here: pydantic itself reads and writes them.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import types
import typing
from collections.abc import Callable
from typing import Any, Generic, TypeVar, get_args, get_origin

import msgspec

from podium.errors import DeclarationError


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """One field. ``name`` is the constructor's keyword or the attribute, ``key`` the JSON key."""

    name: str
    key: str
    type: Any
    required: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """What an object-like class reads from JSON (``inputs``) and shows as JSON (``outputs``)."""

    cls: type
    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]
    #: Key and value that JSON of a tagged Struct carries.
    tag: tuple[str, Any] | None = None
    #: Whether the class itself refuses unknown keys.
    closed: bool = False
    #: Whether it may also be read from an array, in the order of its fields.
    from_array: bool = False
    #: Whether ``msgspec.convert`` builds the same instances as calling the class.
    native: bool = False


def shape_of(annotation: Any) -> Shape | None:
    """Return the shape of a class or of a parametrised generic class, None if it is not object-like.

    Raises DeclarationError when an annotation inside the class cannot be resolved.
    """
    cls = get_origin(annotation) or annotation
    if not isinstance(cls, type):
        return None
    for describe in (_struct, _typed_dict, _named_tuple, _attrs, _dataclass, _plain):
        shape = describe(annotation, cls)
        if shape is not None:
            return shape
    return None


def resolve(annotation: Any, owner: Any, names: dict[str, Any], where: str) -> Any:
    """Return an annotation with its string parts evaluated in the module globals ``owner``.

    Raises DeclarationError naming ``where`` (for example ``parameter 'order'``) and the name that is not defined.
    """
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        return typing.get_type_hints(holder, globalns=owner, localns=names, include_extras=True)["it"]
    except (NameError, AttributeError, SyntaxError, TypeError) as error:
        raise DeclarationError(_unresolved(where, error)) from error


def class_hints(annotation: Any) -> dict[str, Any]:
    """Return the resolved annotations of a class, type variables replaced by what the generic alias gives them."""
    cls = get_origin(annotation) or annotation
    hints = _own_hints(cls)
    if not issubclass(cls, Generic) and not get_args(annotation):  # type: ignore[arg-type]
        return hints
    given = dict(zip(getattr(cls, "__parameters__", ()), get_args(annotation), strict=False))
    result: dict[str, Any] = {}
    for base in reversed(types.get_original_bases(cls) if sys.version_info >= (3, 12) else _bases(cls)):
        origin = get_origin(base) or base
        if isinstance(origin, type) and origin not in (Generic, object) and hasattr(origin, "__annotations__"):
            result |= class_hints(substitute(base, given))
    own = inspect.get_annotations(cls)
    return result | {name: substitute(hints[name], given) for name in own if name in hints}


def substitute(annotation: Any, given: dict[Any, Any]) -> Any:
    """Replace type variables in an annotation."""
    if isinstance(annotation, TypeVar):
        return given.get(annotation, annotation)
    parameters = () if isinstance(annotation, type) else getattr(annotation, "__parameters__", ())
    return annotation[tuple(given.get(parameter, parameter) for parameter in parameters)] if parameters else annotation


def _bases(cls: type) -> tuple[Any, ...]:
    return cls.__dict__.get("__orig_bases__", cls.__bases__)


def _own_hints(cls: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls, include_extras=True)
    except NameError:
        # A class defined inside a function does not find itself in its module.
        names = dict(vars(cls)) | {cls.__name__: cls}
        try:
            return typing.get_type_hints(cls, localns=names, include_extras=True)
        except (NameError, AttributeError, SyntaxError, TypeError) as error:
            raise DeclarationError(_unresolved(f"class {cls.__qualname__}", error)) from error
    except (AttributeError, SyntaxError, TypeError) as error:
        raise DeclarationError(_unresolved(f"class {cls.__qualname__}", error)) from error


def _unresolved(where: str, error: Exception) -> str:
    return (
        f"{where}: its annotation cannot be resolved ({error}); define or import the name at module level, "
        "not only under TYPE_CHECKING"
    )


def _struct(annotation: Any, cls: type) -> Shape | None:
    if not issubclass(cls, msgspec.Struct) or cls.__struct_config__.array_like:
        return None
    hints = class_hints(annotation)
    fields = tuple(
        Field(field.name, field.encode_name, hints.get(field.name, Any), field.required)
        for field in msgspec.structs.fields(cls)
    )
    config = cls.__struct_config__
    tag = (config.tag_field, config.tag) if config.tag_field is not None else None
    return Shape(cls, fields, fields, tag=tag, closed=config.forbid_unknown_fields, native=True)


def _typed_dict(annotation: Any, cls: type) -> Shape | None:
    if not (issubclass(cls, dict) and hasattr(cls, "__required_keys__")):
        return None
    fields = []
    for name, hint in class_hints(annotation).items():
        bare, required = hint, name in cls.__required_keys__
        while get_origin(bare) in _ITEM_MARKS:
            # Under `from __future__ import annotations` only the resolved hint knows about the marks.
            required = {"Required": True, "NotRequired": False}.get(get_origin(bare)._name, required)  # type: ignore[union-attr]
            bare = get_args(bare)[0]
        fields.append(Field(name, name, bare, required))
    return Shape(cls, tuple(fields), tuple(fields), native=True)


_ITEM_MARKS = {typing.Required, typing.NotRequired, getattr(typing, "ReadOnly", typing.Required)}


def _named_tuple(annotation: Any, cls: type) -> Shape | None:
    if not (issubclass(cls, tuple) and hasattr(cls, "_fields") and hasattr(cls, "_field_defaults")):
        return None
    hints = class_hints(annotation)
    fields = tuple(Field(name, name, hints.get(name, Any), name not in cls._field_defaults) for name in cls._fields)
    return Shape(cls, fields, fields, from_array=True)


def _attrs(annotation: Any, cls: type) -> Shape | None:
    attributes = getattr(cls, "__attrs_attrs__", None)
    if attributes is None:
        return None
    hints = class_hints(annotation)
    nothing = sys.modules["attr"].NOTHING
    inputs, outputs = [], []
    for attribute in attributes:
        kind, required = hints.get(attribute.name, Any), attribute.default is nothing
        outputs.append(Field(attribute.name, attribute.alias, kind, required))
        if attribute.init:
            inputs.append(Field(attribute.alias, attribute.alias, kind, required))
    return Shape(cls, tuple(inputs), tuple(outputs))


def _dataclass(annotation: Any, cls: type) -> Shape | None:
    if not dataclasses.is_dataclass(cls):
        return None
    hints = class_hints(annotation)
    fields = dataclasses.fields(cls)
    outputs = tuple(Field(field.name, field.name, hints.get(field.name, Any), field.init) for field in fields)
    # The signature knows about InitVar, init=False, kw_only and an __init__ of the user's own alike.
    inputs = _parameters(cls, lambda name: hints.get(name)) if fields or cls.__init__ is not object.__init__ else ()
    if inputs is None:
        raise DeclarationError(
            f"dataclass {cls.__qualname__}: its __init__ cannot be called from JSON: "
            "every parameter needs a name and an annotation"
        )
    plain_fields = len(inputs) == len(fields) and all(field.init for field in fields)
    return Shape(cls, inputs, outputs, native=plain_fields and _is_generated(cls))


def _is_generated(cls: type) -> bool:
    """Return whether a dataclass is built by generated code alone, which msgspec may take a short cut around."""
    code = getattr(cls.__init__, "__code__", None)
    frozen = cls.__dataclass_params__.frozen  # type: ignore[attr-defined]
    return (
        code is not None
        and code.co_filename == "<string>"  # generated functions have no source file
        and cls.__new__ is object.__new__
        and (frozen or cls.__setattr__ is object.__setattr__)
    )


def _plain(_annotation: Any, cls: type) -> Shape | None:
    """Describe a class by the annotated parameters of its constructor; attributes of these names are its output."""
    if not isinstance(cls.__init__, types.FunctionType) or inspect.isabstract(cls):
        return None
    fields = _parameters(cls, lambda _name: None)
    return Shape(cls, fields, fields) if fields else None


def _parameters(cls: type, hint_of: Callable[[str], Any]) -> tuple[Field, ...] | None:
    """Return the constructor's parameters as fields, None if one cannot be given by name and type."""
    init = inspect.unwrap(cls.__init__)  # type: ignore[misc]
    fields = []
    for parameter in list(inspect.signature(init).parameters.values())[1:]:
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            return None
        hint = hint_of(parameter.name)
        if hint is None:
            if parameter.annotation is parameter.empty:
                return None
            where = f"parameter {parameter.name!r} of {cls.__qualname__}"
            hint = resolve(parameter.annotation, getattr(init, "__globals__", {}), {cls.__name__: cls}, where)
        hint = hint.type if isinstance(hint, dataclasses.InitVar) else hint
        fields.append(Field(parameter.name, parameter.name, hint, parameter.default is parameter.empty))
    return tuple(fields)
