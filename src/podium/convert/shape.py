"""The fields of object-like classes: dataclass, attrs, msgspec.Struct, TypedDict, NamedTuple, plain typed class.

One description serves reading (``decode``), writing (``encode``) and the JSON Schema, so the three agree.
pydantic models are not described here: pydantic itself reads and writes them.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import types
import typing
from collections.abc import Iterable
from typing import Any, Generic, NotRequired, Required, TypeVar, get_args, get_origin

import msgspec
from msgspec import structs

from podium.bundle import Bundle
from podium.errors import DeclarationError


class Field(Bundle, frozen=True):
    """One field. ``name`` is the constructor's keyword or the attribute, ``key`` the JSON key."""

    name: str
    key: str
    type: Any
    required: bool
    #: Whether null is taken whatever ``type`` says, because the default is None.
    nullable: bool = False


class Shape(Bundle, frozen=True):
    """What an object-like class reads from JSON."""

    cls: type
    inputs: tuple[Field, ...]
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
    if not isinstance(cls, type) or _is_array_like(cls):
        return None
    for is_kind, describe in (
        (_is_struct, _struct),
        (_is_typed_dict, _typed_dict),
        (_is_named_tuple, _named_tuple),
        (_is_attrs, _attrs),
        (dataclasses.is_dataclass, _dataclass),
        (_is_plain, _plain),
    ):
        if is_kind(cls):
            return describe(annotation, cls)
    return None


def members_of(cls: Any) -> tuple[tuple[str, str], ...] | None:
    """Return attribute and JSON key of everything that instances show as JSON; None if the class is not object-like.

    No annotation is resolved: to write a value, its type need not be importable.
    """
    if _is_struct(cls):
        return tuple(zip(cls.__struct_fields__, cls.__struct_encode_fields__, strict=True))
    if _is_named_tuple(cls):
        return tuple((name, name) for name in cls._fields)
    if _is_attrs(cls):
        return tuple((attribute.name, attribute.alias) for attribute in cls.__attrs_attrs__)
    if dataclasses.is_dataclass(cls):
        return tuple((field.name, field.name) for field in dataclasses.fields(cls))
    if _is_plain(cls):
        return tuple((parameter.name, parameter.name) for parameter in _parameters(cls) or ())
    return None


def tag_of(cls: Any) -> tuple[str, Any] | None:
    """Return the key and value by which a tagged Struct is known in JSON."""
    config = cls.__struct_config__ if _is_struct(cls) else None
    return None if config is None or config.tag_field is None else (config.tag_field, config.tag)


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
    if not issubclass(cls, Generic):
        return hints
    given = _given(annotation, cls)
    result: dict[str, Any] = {}
    for base in reversed(_bases(cls)):
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


def _given(annotation: Any, cls: Any) -> dict[Any, Any]:
    """Return what a generic alias gives to the type variables of its class."""
    return dict(zip(getattr(cls, "__parameters__", ()), get_args(annotation), strict=False))


def _bases(cls: type) -> Any:
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


def _is_struct(cls: Any) -> bool:
    return issubclass(cls, msgspec.Struct)


def _is_array_like(cls: Any) -> bool:
    return _is_struct(cls) and cls.__struct_config__.array_like


def _is_typed_dict(cls: Any) -> bool:
    return issubclass(cls, dict) and hasattr(cls, "__required_keys__")


def _is_named_tuple(cls: Any) -> bool:
    return issubclass(cls, tuple) and hasattr(cls, "_fields") and hasattr(cls, "_field_defaults")


def _is_attrs(cls: Any) -> bool:
    return "__attrs_attrs__" in cls.__dict__


def _is_plain(cls: Any) -> bool:
    """Return whether a class has a constructor whose parameters all have a name and an annotation."""
    return not inspect.isabstract(cls) and bool(_parameters(cls))


def _struct(annotation: Any, cls: Any) -> Shape:
    hints = class_hints(annotation)
    fields = [
        Field(field.name, field.encode_name, hints[field.name], field.required, nullable=field.default is None)
        for field in structs.fields(cls)
    ]
    closed = cls.__struct_config__.forbid_unknown_fields
    return Shape(cls, tuple(fields), tag=tag_of(cls), closed=closed, native=True)


def _typed_dict(annotation: Any, cls: Any) -> Shape:
    fields = []
    for name, hint in class_hints(annotation).items():
        bare, required = hint, name in cls.__required_keys__
        # Under `from __future__ import annotations` only the resolved hints know of Required and NotRequired.
        while (mark := get_origin(bare)) in _ITEM_MARKS:
            required = mark is Required or (required and mark is not NotRequired)
            bare = get_args(bare)[0]
        fields.append(Field(name, name, bare, required))
    return Shape(cls, tuple(fields), native=True)


#: ReadOnly exists from Python 3.13 on.
_ITEM_MARKS = {Required, NotRequired, getattr(typing, "ReadOnly", Required)}


def _named_tuple(annotation: Any, cls: Any) -> Shape:
    hints = class_hints(annotation)
    defaults = cls._field_defaults
    fields = [
        Field(name, name, hints.get(name, Any), name not in defaults, nullable=defaults.get(name, ...) is None)
        for name in cls._fields
    ]
    return Shape(cls, tuple(fields), from_array=True)


def _attrs(annotation: Any, cls: Any) -> Shape:
    hints = class_hints(annotation)
    nothing = sys.modules["attr"].NOTHING
    fields = [
        Field(
            attribute.alias,
            attribute.alias,
            hints.get(attribute.name, Any),
            required=attribute.default is nothing,
            nullable=attribute.default is None,
        )
        for attribute in cls.__attrs_attrs__
        if attribute.init
    ]
    return Shape(cls, tuple(fields))


def _dataclass(annotation: Any, cls: Any) -> Shape:
    # The signature knows of InitVar, init=False, kw_only and an __init__ of the user's own alike.
    parameters = _parameters(cls)
    if parameters is None:
        raise DeclarationError(f"dataclass {cls.__qualname__}: every parameter of its __init__ needs an annotation")
    fields = dataclasses.fields(cls)
    native = len(parameters) == len(fields) and all(field.init for field in fields) and _is_generated(cls)
    return Shape(cls, _fields(cls, parameters, class_hints(annotation)), native=native)


def _is_generated(cls: Any) -> bool:
    """Return whether a dataclass is built by generated code alone, which msgspec may take a short cut around."""
    code = getattr(_init_of(cls), "__code__", None)
    return (
        code is not None
        and code.co_filename == "<string>"  # generated functions have no source file
        and cls.__new__ is object.__new__
        and (cls.__dataclass_params__.frozen or cls.__setattr__ is object.__setattr__)
    )


def _plain(annotation: Any, cls: Any) -> Shape:
    given = _given(annotation, cls)
    fields = _fields(cls, _parameters(cls) or (), {})
    return Shape(cls, tuple(msgspec.structs.replace(field, type=substitute(field.type, given)) for field in fields))


def _init_of(cls: Any) -> Any:
    return inspect.getattr_static(cls, "__init__")


def _parameters(cls: Any) -> tuple[inspect.Parameter, ...] | None:
    """Return the constructor's parameters, None if not every one can be given by name and has an annotation."""
    init = _init_of(cls)
    if not isinstance(init, types.FunctionType):
        return None
    parameters = tuple(inspect.signature(init).parameters.values())[1:]
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    usable = all(p.kind in named and p.annotation is not inspect.Parameter.empty for p in parameters)
    return parameters if usable else None


def _fields(cls: Any, parameters: Iterable[inspect.Parameter], hints: dict[str, Any]) -> tuple[Field, ...]:
    """Return parameters as fields; ``hints`` are the types known already, the others are resolved."""
    owner = getattr(inspect.unwrap(_init_of(cls)), "__globals__", {})
    fields = []
    for parameter in parameters:
        hint = hints.get(parameter.name)
        if hint is None:
            where = f"parameter {parameter.name!r} of {cls.__qualname__}"
            hint = resolve(parameter.annotation, owner, {cls.__name__: cls}, where)
        hint = hint.type if isinstance(hint, dataclasses.InitVar) else hint
        required, nullable = parameter.default is parameter.empty, parameter.default is None
        fields.append(Field(parameter.name, parameter.name, hint, required, nullable))
    return tuple(fields)
