"""Compile an annotation into a function that reads its values from JSON.

The functions built here are the meaning of every type. Where msgspec gives the same value (``Plan.native``) it is
asked first, because it is faster; whatever it refuses is read again here, which either succeeds or says why not, and
where, in podium's words.
"""

from __future__ import annotations

import collections
import enum
import sys
import types
import typing
from collections import abc
from collections.abc import Callable
from typing import Annotated, Any, ForwardRef, Literal, NewType, TypeVar, Union, Unpack, get_args, get_origin

import msgspec

from podium.convert.compose import (
    accelerated,
    array_plan,
    fit_of,
    mapping_plan,
    msgspec_reader,
    object_plan,
    or_null,
    tuple_plan,
    union_plan,
)
from podium.convert.encode import to_json
from podium.convert.path import shown, type_name
from podium.convert.pydantic_models import has_pydantic_marks, is_pydantic, pydantic_plan
from podium.convert.scalar import ANYTHING, LEAVES, Fit, Plan, choice_plan, enum_plan, text_plan
from podium.convert.shape import Field, resolve, shape_of, substitute
from podium.errors import ConversionError, DeclarationError

#: Container -> what builds it from a list, and how well it fits an array.
ARRAYS: dict[Any, tuple[Callable[[list[Any]], Any], Fit]] = {
    list: (list, Fit.NEAR),
    abc.Sequence: (list, Fit.NEAR),
    abc.MutableSequence: (list, Fit.NEAR),
    abc.Collection: (list, Fit.NEAR),
    abc.Iterable: (list, Fit.NEAR),
    abc.Reversible: (list, Fit.NEAR),
    collections.deque: (collections.deque, Fit.NEAR),
    set: (set, Fit.PARSED),
    frozenset: (frozenset, Fit.PARSED),
    abc.Set: (set, Fit.PARSED),
    abc.MutableSet: (set, Fit.PARSED),
}
MAPPINGS: dict[Any, Callable[[dict[Any, Any]], Any]] = {
    dict: dict,
    abc.Mapping: dict,
    abc.MutableMapping: dict,
    collections.OrderedDict: collections.OrderedDict,
    collections.Counter: collections.Counter,
}
#: msgspec asks of these only whether a value is an instance, as a text or an object is, and looks at no item.
_UNKNOWN_TO_MSGSPEC = (abc.Iterable, abc.Reversible)
_MARKS = (typing.Required, typing.NotRequired, typing.Final)


class Compiler:
    """Compiles annotations, each one once.

    ``closed`` makes every object refuse unknown keys, at every depth.
    """

    def __init__(self, *, closed: bool = False) -> None:
        self._closed = closed
        self._plans: dict[Any, Plan] = {}
        #: Unions ask their members first whether they take a value whole.
        self._twin = self if closed else Compiler(closed=True)

    def plan(self, annotation: Any) -> Plan:
        """Return the plan of an annotation.

        Raises DeclarationError for a type that no JSON value can become.
        """
        if not is_hashable(annotation):
            return self._compile(annotation)
        plan = LEAVES.get(annotation) or self._plans.get(annotation)
        if plan is None:
            plan = self._plans[annotation] = self._compile(annotation)
        return plan

    def _compile(self, annotation: Any) -> Plan:
        if get_origin(annotation) is Annotated:
            return self._annotated(annotation)
        target = target_of(annotation)
        if target is not annotation:
            rough = Plan(getattr(annotation, "__name__", str(annotation)), ANYTHING.convert, ANYTHING.fit)
            return self._recursive(annotation, rough, lambda: self.plan(target))
        return self._container(annotation) or self._class(annotation)

    def _container(self, annotation: Any) -> Plan | None:
        origin, arguments = get_origin(annotation) or annotation, get_args(annotation)
        if origin in (Union, types.UnionType):
            members = [member for member in arguments if member is not msgspec.UnsetType]
            return union_plan([self.plan(m) for m in members], [self._twin.plan(m) for m in members])
        if origin is Literal:
            choices = [(to_json(value), value) for value in arguments]
            return choice_plan(" | ".join(shown(encoded) for encoded, _ in choices), choices)
        if origin is tuple:
            return accelerated(annotation, self._tuple(tuple_items(annotation)))
        if origin in ARRAYS:
            make, rank = ARRAYS[origin]
            plan = array_plan(self.plan(arguments[0] if arguments else Any), make, rank)
            plan.native = plan.native and origin not in _UNKNOWN_TO_MSGSPEC
            return accelerated(annotation, plan)
        if origin in MAPPINGS:
            if origin is collections.Counter:
                arguments = (arguments or (str,)) + (int,)
            key, item = (self.plan(argument) for argument in arguments or (Any, Any))
            return accelerated(annotation, mapping_plan(key, item, MAPPINGS[origin]))
        return None

    def _tuple(self, items: tuple[Any, ...]) -> Plan:
        if len(items) == 2 and items[1] is Ellipsis:
            return array_plan(self.plan(items[0]), tuple, Fit.NEAR)
        return tuple_plan([self.plan(item) for item in items])

    def _class(self, annotation: Any) -> Plan:
        cls = get_origin(annotation) or annotation
        if not isinstance(cls, type):
            raise DeclarationError(f"no JSON value can become {annotation!r}")
        if is_pydantic(cls):
            return pydantic_plan(annotation, closed=self._closed)
        if issubclass(cls, enum.Enum):
            return enum_plan(cls, to_json)
        if (text := text_plan(cls)) is not None:
            return text
        if (shape := shape_of(annotation)) is not None:
            keys = frozenset(field.key for field in shape.inputs)
            rough = Plan(cls.__name__, ANYTHING.convert, fit_of(shape), keys=keys)
            return self._recursive(
                annotation,
                rough,
                lambda: accelerated(
                    annotation, object_plan(shape, [self._field(f) for f in shape.inputs], closed=self._closed)
                ),
            )
        if issubclass(cls, msgspec.Struct):  # array_like: msgspec alone knows its layout
            return Plan(cls.__name__, msgspec_reader(annotation), {list: Fit.EXACT}, native=True)
        raise DeclarationError(
            f"no JSON value can become {type_name(cls)}: take a dict, a dataclass "
            "or a class whose constructor is annotated instead"
        )

    def _field(self, field: Field) -> Plan:
        plan = self.plan(field.type)
        return or_null(plan) if field.nullable else plan

    def _recursive(self, annotation: Any, rough: Plan, compile_it: Callable[[], Plan]) -> Plan:
        """Compile a type that may contain itself: inside, a copy of the rough plan stands for it."""

        def later(value: Any) -> Any:
            return plan.convert(value)

        if is_hashable(annotation):
            self._plans[annotation] = Plan(rough.name, later, dict(rough.fit), keys=rough.keys)
        plan = compile_it()
        return plan

    def _annotated(self, annotation: Any) -> Plan:
        base, *metadata = get_args(annotation)
        if has_pydantic_marks(metadata):
            return pydantic_plan(annotation, closed=False)
        plan = self.plan(base)
        constraints = tuple(mark for mark in metadata if isinstance(mark, msgspec.Meta))
        return self._constrained(plan, base, constraints) if constraints else plan

    def _constrained(self, plan: Plan, base: Any, constraints: tuple[msgspec.Meta, ...]) -> Plan:
        """Add the limits of msgspec.Meta: on the value that was read, or on the array or object it was read from."""
        if plan.native:
            after, before = msgspec_reader(Annotated[(base, *constraints)]), {}
        else:
            kinds = plan.fit.keys() & {str, list, dict}
            after, before = None, {kind: msgspec_reader(Annotated[(kind, *constraints)]) for kind in kinds}

        def convert(value: Any) -> Any:
            if type(value) in before:
                before[type(value)](value)
            result = plan.convert(value)
            return result if after is None else after(result)

        return Plan(plan.name, convert, plan.fit, native=plan.native, keys=plan.keys)


def tuple_items(annotation: Any) -> tuple[Any, ...]:
    """Return the types of a tuple's items; ``(T, ...)`` if all of them have the same.

    Raises DeclarationError for a tuple whose items only partly have a type each.
    """
    if annotation in (tuple, typing.Tuple):  # noqa: UP006 - tuple[()] has no arguments either, but is empty
        return (Any, ...)
    items = get_args(annotation)
    if any(getattr(item, "__unpacked__", False) or get_origin(item) is Unpack for item in items):
        raise DeclarationError(f"no JSON value can become {annotation!r}: give every item a type, or one to all")
    return items


def target_of(annotation: Any) -> Any:
    """Return the type that an alias, a NewType, a type variable or a mark stands for; any other type itself."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    alias = origin or annotation
    if origin in _MARKS:
        return arguments[0]
    if isinstance(annotation, NewType):
        return annotation.__supertype__
    if isinstance(annotation, TypeVar):
        constraints = annotation.__constraints__
        return Union[constraints] if constraints else annotation.__bound__ or Any  # noqa: UP007 - known at run time only
    if isinstance(annotation, ForwardRef | str):
        target = getattr(annotation, "__forward_value__", None)
        if target is None:
            name = getattr(annotation, "__forward_arg__", annotation)
            raise DeclarationError(
                f"the name {name} cannot be resolved here; an alias that contains itself needs a `type` statement "
                "or typing_extensions.TypeAliasType"
            )
        return target
    if hasattr(alias, "__value__") and hasattr(alias, "__type_params__"):  # `type X = ...`
        return substitute(_alias_value(alias), dict(zip(alias.__type_params__, arguments, strict=False)))
    return annotation


def _alias_value(alias: Any) -> Any:
    where, owner = f"type alias {alias.__name__}", sys.modules.get(alias.__module__)
    try:
        value = alias.__value__  # evaluated when it is first asked for
    except NameError as error:
        raise DeclarationError(f"{where}: {error}") from error
    return resolve(value, getattr(owner, "__dict__", {}), {alias.__name__: alias}, where)


def is_hashable(annotation: Any) -> bool:
    """Return whether an annotation can be a key; Annotated or Literal with a list in it cannot."""
    try:
        hash(annotation)
    except TypeError:
        return False
    return True


def guarded(plan: Plan) -> Callable[[Any], Any]:
    """Return the plan's converter; types that may contain themselves get one that reports endless nesting."""
    if plan in LEAVES.values():
        return plan.convert
    convert = plan.convert

    def guard(value: Any) -> Any:
        try:
            return convert(value)
        except RecursionError:
            raise ConversionError("", "nested too deeply") from None

    return guard
