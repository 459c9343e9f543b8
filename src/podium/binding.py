"""Arguments of a user's function from a task's input.

``Binder.compile`` looks at the signature once; ``arguments`` only looks up and converts. Parameters are filled by name:

- a parameter annotated ``Task`` (or ``Task | None``) receives the whole task, as does a function's only parameter if
  it is annotated ``object``, or not annotated and called ``task``;
- any other parameter receives the input value of its name, converted to its annotation; without one, as it is;
- ``**kwargs`` receives what is left;
- a missing key takes the parameter's default, or fails the task: None is never invented;
- an input of ``null`` is None: for annotations that allow it, and for every parameter whose default is None;
- keys that nobody asks for are ignored, or refused if ``strict``;
- what ``functools.partial`` has fixed stays fixed.
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable
from typing import Any, get_args, get_origin

from podium.bundle import Bundle
from podium.convert.compose import missing, or_null, unknown
from podium.convert.decode import Compiler, guarded
from podium.convert.path import within
from podium.convert.shape import resolve
from podium.errors import ConversionError, DeclarationError
from podium.models import Task, TaskBrief

_UNION = (typing.Union, types.UnionType)


class Parameter(Bundle, frozen=True):
    """A parameter that a task fills.

    ``annotation`` is resolved; Any if there is none, ``dict[str, T]`` for ``**kwargs: T``.
    """

    name: str
    annotation: Any
    default: Any
    keyword_only: bool
    #: Receives the whole task.
    takes_task: bool
    #: The parameter in messages.
    where: str

    @property
    def required(self) -> bool:
        """Whether input must have its name."""
        return self.default is inspect.Parameter.empty


class Signature(Bundle, frozen=True):
    """What a function takes from a task; what ``functools.partial`` has fixed is not among the parameters."""

    parameters: tuple[Parameter, ...]
    #: ``**kwargs``.
    rest: Parameter | None
    #: Keys that **kwargs must not receive: other parameters, also those that input does not fill.
    taken: frozenset[str]

    @property
    def reads_all(self) -> bool:
        """Whether no key of the input is unknown to the function, because it receives the whole task."""
        return any(parameter.takes_task for parameter in self.parameters)


def signature_of(function: Callable[..., Any]) -> Signature:
    """Read a function's signature.

    Raises DeclarationError, naming the parameter and what to do, for one that input can never fill.
    """
    return _Reader(function).signature()


def return_annotation(function: Callable[..., Any]) -> Any:
    """Return what a function is declared to return, resolved; ``inspect.Signature.empty`` if it does not say.

    Raises DeclarationError for a name that cannot be resolved.
    """
    return _Reader(function).returns()


class _Argument(Bundle, frozen=True):
    """One parameter; ``convert`` is None if it receives the whole task."""

    name: str
    convert: Callable[[Any], Any] | None
    default: Any


class Binder(Bundle, frozen=True):
    """Makes the arguments of one function. Compiled once per worker; tasks never look at the signature."""

    _positional: tuple[_Argument, ...]
    _keyword: tuple[_Argument, ...]
    #: Reads what is left for ``**kwargs``; None if the function has none.
    _rest: Callable[[dict[str, Any]], dict[str, Any]] | None
    #: Keys that **kwargs must not receive.
    _taken: frozenset[str]
    #: The only keys allowed; None if any is.
    _known: frozenset[str] | None

    @classmethod
    def compile(cls, function: Callable[..., Any], *, strict: bool = False) -> Binder:
        """Inspect a function.

        ``strict`` (default False) makes ``arguments`` refuse keys that no parameter or field asks for, at every depth.
        Raises DeclarationError, naming the parameter and what to do, for a signature that input can never fill.
        """
        signature, compiler = signature_of(function), Compiler(closed=strict)

        def argument(parameter: Parameter) -> _Argument:
            convert = None if parameter.takes_task else _converter(compiler, parameter)
            return _Argument(parameter.name, convert, parameter.default)

        return cls(
            tuple(argument(parameter) for parameter in signature.parameters if not parameter.keyword_only),
            tuple(argument(parameter) for parameter in signature.parameters if parameter.keyword_only),
            None if signature.rest is None else _converter(compiler, signature.rest),
            signature.taken,
            frozenset(p.name for p in signature.parameters) if strict and not signature.reads_all else None,
        )

    @property
    def takes_task(self) -> bool:
        """Whether the function receives the whole task."""
        return any(argument.convert is None for argument in self._positional + self._keyword)

    def arguments(self, task: TaskBrief) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the positional and keyword arguments for a task, which is a Task if the function receives it.

        Raises ConversionError whose path starts with the parameter's name.
        """
        data = task.input_data
        positional = tuple(_values(self._positional, task, data))
        keywords: dict[str, Any] = {}
        if self._keyword:
            names = [argument.name for argument in self._keyword]
            keywords = dict(zip(names, _values(self._keyword, task, data), strict=True))
        if self._rest is not None:
            keywords |= self._rest({key: data[key] for key in data if key not in self._taken})
        elif self._known is not None and not self._known.issuperset(data):
            raise unknown("the function", data, self._known)
        return positional, keywords


def _converter(compiler: Compiler, parameter: Parameter) -> Callable[[Any], Any]:
    try:
        plan = compiler.plan(parameter.annotation)
    except DeclarationError as error:
        raise DeclarationError(f"{parameter.where}: {error}") from error
    return guarded(or_null(plan) if parameter.default is None else plan)


def _values(arguments: tuple[_Argument, ...], task: TaskBrief, data: dict[str, Any]) -> list[Any]:
    values: list[Any] = []
    name = ""
    try:
        for argument in arguments:
            name, convert = argument.name, argument.convert
            if convert is None:
                values.append(task)
            elif name in data:
                values.append(convert(data[name]))
            elif argument.default is inspect.Parameter.empty:
                raise missing("the task's input", data)
            else:
                values.append(argument.default)
    except ConversionError as error:
        raise within(name, error) from error.__cause__
    return values


class _Reader:
    """A function on the way to its Signature."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._label = _label(function)
        self._inner = _inner(function)
        self._fixed = function.keywords if isinstance(function, functools.partial) else {}
        try:
            self._signature = inspect.signature(function)
        except (TypeError, ValueError) as error:
            raise DeclarationError(f"{self._label}: its signature cannot be read: {error}") from error
        parameters = self._signature.parameters.values()
        self._parameters = [parameter for parameter in parameters if parameter.name not in self._fixed]

    def signature(self) -> Signature:
        """Return the Signature."""
        found: list[Parameter] = []
        rest = None
        for parameter in self._parameters:
            if parameter.kind is parameter.VAR_POSITIONAL:
                raise DeclarationError(
                    f"parameter '*{parameter.name}' of {self._label} can never be filled: a task's input has names; "
                    f"take named parameters, **kwargs, or one list parameter '{parameter.name}: list[...]'"
                )
            annotation = self._annotation(parameter)
            if parameter.kind is parameter.VAR_KEYWORD:
                rest = self._parameter(parameter, _rest(annotation), takes_task=False)
            else:
                takes_task = self._takes_task(parameter, annotation)
                found.append(self._parameter(parameter, annotation, takes_task=takes_task))
        taken = {parameter.name for parameter in found} | set(self._fixed) | _named_parameters(self._inner)
        return Signature(tuple(found), rest, frozenset(taken))

    def returns(self) -> Any:
        """Return the resolved annotation of what is returned."""
        annotation = self._signature.return_annotation
        return annotation if annotation is inspect.Signature.empty else self._resolved(annotation, "the returned value")

    def _parameter(self, parameter: inspect.Parameter, annotation: Any, *, takes_task: bool) -> Parameter:
        known = Any if annotation is parameter.empty else annotation
        keyword_only = parameter.kind is parameter.KEYWORD_ONLY
        return Parameter(parameter.name, known, parameter.default, keyword_only, takes_task, self._where(parameter))

    def _takes_task(self, parameter: inspect.Parameter, annotation: Any) -> bool:
        if annotation is Task or (get_origin(annotation) in _UNION and Task in get_args(annotation)):
            return True
        alone = len(self._parameters) == 1
        unannotated = annotation is parameter.empty and parameter.name == "task"
        return alone and (annotation is object or unannotated)

    def _annotation(self, parameter: inspect.Parameter) -> Any:
        """Return the annotation, resolved on its own: a return type that is missing at runtime does no harm."""
        if parameter.annotation is parameter.empty:
            return parameter.empty
        annotation = self._resolved(parameter.annotation, self._where(parameter))
        if get_origin(annotation) is typing.Annotated and get_args(annotation)[0] is Task:
            return Task
        return annotation

    def _resolved(self, annotation: Any, where: str) -> Any:
        names = {variable.__name__: variable for variable in getattr(self._inner, "__type_params__", ())}
        return resolve(annotation, getattr(self._inner, "__globals__", {}), names, where)

    def _where(self, parameter: inspect.Parameter) -> str:
        return f"parameter {parameter.name!r} of {self._label}"


def _rest(annotation: Any) -> Any:
    """Return the type of all of ``**kwargs``, given its annotation."""
    if get_origin(annotation) is typing.Unpack:
        return get_args(annotation)[0]
    values = Any if annotation is inspect.Parameter.empty else annotation
    return dict[str, values]  # type: ignore[valid-type]


def _inner(function: Any) -> Any:
    """Return the plain function whose module the annotations belong to."""
    while not isinstance(function, types.FunctionType) or hasattr(function, "__wrapped__"):
        if isinstance(function, functools.partial):
            function = function.func
        elif inspect.ismethod(function):
            function = function.__func__
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        elif isinstance(function, type) or inspect.isbuiltin(function):
            return inspect.getattr_static(function, "__init__")
        else:
            call = inspect.getattr_static(type(function), "__call__")
            if not isinstance(call, types.FunctionType):
                return call
            function = call
    return function


def _named_parameters(function: Any) -> set[str]:
    """Return the names that a function's own parameters occupy, ``self`` and what partial has fixed among them."""
    if not isinstance(function, types.FunctionType):
        return set()
    parameters = inspect.signature(function).parameters.values()
    return {parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD}


def _label(function: Any) -> str:
    inner = function.func if isinstance(function, functools.partial) else function
    return getattr(inner, "__qualname__", None) or type(inner).__qualname__
