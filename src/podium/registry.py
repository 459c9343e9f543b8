"""Declaring workers: the decorators, ``Worker``, and the registry that TaskHandler scans."""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Generic, ParamSpec, Protocol, TypeVar, cast, overload

from podium.errors import DeclarationError
from podium.options import ALIASES, OPTION_NAMES, WorkerOptions, make_options, with_options
from podium.workflow import SimpleTask

if TYPE_CHECKING:
    from podium.models import TaskDef
    from podium.options import Isolation, OnCancel

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

#: Sources of an option's value that are no environment variable.
DEFAULT: Final = "default"
CODE: Final = "code"

#: The keyword that turns a call into a step of a workflow definition.
_REF_NAME = "task_ref_name"


class TaskFunction(Protocol, Generic[P, R_co]):
    """A decorated function: call it as before, or with ``task_ref_name=`` to get a SimpleTask."""

    __name__: str
    __qualname__: str
    __module__: str
    __wrapped__: Callable[..., Any]

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...
    @overload
    def __call__(self, *, task_ref_name: str, **inputs: Any) -> SimpleTask: ...


def original_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return what a function was before ``@worker_task`` wrapped it, other decorators left in place."""
    # The mark is the function itself: functools.wraps copies attributes to wrappers that are not podium's.
    while getattr(function, "__podium_worker__", ...) is function:
        function = function.__wrapped__
    return function


def is_async_callable(function: Callable[..., Any]) -> bool:
    """Whether a call returns a coroutine: an ``async def``, a partial of one, or an object whose call is one."""
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - the method itself is looked at, not whether it exists
    )


@with_options
class Worker:
    """A declared worker: a task definition name, a function, and options.

    ``poll_interval`` may also be the third positional argument. ``poll_interval_millis``, ``polling_interval``,
    ``concurrency`` and ``task_def_template`` are accepted as other names of the options.

    Raises DeclarationError for a name, function or option that could never work.
    """

    __slots__ = ("declared_at", "function", "is_async", "options", "sources", "task_definition_name")

    def __init__(
        self,
        task_definition_name: str,
        execute_function: Callable[..., Any],
        poll_interval: float | None = None,
        **options: Any,
    ) -> None:
        self.task_definition_name = _checked_name(task_definition_name)
        if poll_interval is not None:
            options = {"poll_interval": poll_interval} | options
        owner = f"worker {task_definition_name!r}"
        self.options: WorkerOptions = make_options(owner, options)
        #: Where each option's value comes from: "default", "code", or the name of an environment variable.
        self.sources: Mapping[str, str] = dict.fromkeys(OPTION_NAMES, DEFAULT) | dict.fromkeys(
            (ALIASES.get(name, name) for name in options), CODE
        )
        self.function = original_function(_checked_function(owner, execute_function))
        #: Decided here, once: nothing else asks whether the function is async.
        self.is_async = is_async_callable(self.function)
        self.declared_at = _place_of(self.function)

    @property
    def domain(self) -> str | None:
        """The task domain, or None."""
        return self.options.domain

    @property
    def execute_function(self) -> Callable[..., Any]:
        """The function that runs the tasks."""
        return self.function

    def with_values(self, values: Mapping[str, Any], sources: Mapping[str, str]) -> Worker:
        """Return a copy with other values for some options, and where these come from."""
        twin = copy.copy(self)
        twin.options = dataclasses.replace(self.options, **values)
        twin.sources = {**self.sources, **sources}
        return twin

    def __repr__(self) -> str:
        domain = f", domain={self.domain!r}" if self.domain else ""
        return f"Worker({self.task_definition_name!r}{domain}, {self.declared_at})"


def _checked_name(name: Any) -> str:
    if not isinstance(name, str) or not name.strip():
        raise DeclarationError(f"a worker needs the name of its task definition, not {name!r}")
    if "/" in name or ":" in name:
        raise DeclarationError(
            f"task definition name {name!r}: '/' and ':' are not possible, the server cannot route them "
            "(a task with '/' is never handed out, ':' separates the domain); use '_', '-' or '.'"
        )
    if name in {".", ".."} or name != name.strip() or not name.isprintable():
        raise DeclarationError(f"task definition name {name!r}: only printable characters, no surrounding spaces")
    return name


def _checked_function(owner: str, function: Any) -> Callable[..., Any]:
    if isinstance(function, staticmethod):
        raise DeclarationError(f"{owner}: put @staticmethod above @worker_task, not below it")
    if isinstance(function, type):
        raise DeclarationError(f"{owner}: expected a function, got the class {function.__name__}; decorate a function")
    plain = original_function(function)
    if isinstance(function, classmethod) or _is_method_without_object(plain):
        raise DeclarationError(
            f"{owner}: a method has no object when its class is being defined; declare it when there is one: "
            'Worker(name, the_object.method, isolation="thread"), as child processes cannot import it; '
            "or decorate a function at the top of a module that calls it, or a @staticmethod"
        )
    if not callable(function):
        raise DeclarationError(f"{owner}: expected a function, got {type(function).__name__}")
    if inspect.isasyncgenfunction(plain) or inspect.isgeneratorfunction(plain):
        raise DeclarationError(f"{owner}: a generator function cannot be a task; return a value instead of yielding")
    return cast("Callable[..., Any]", function)


def _is_method_without_object(function: Any) -> bool:
    """Whether a function stands in a class and wants its object or class, which no task's input can give."""
    if not inspect.isfunction(function):
        return False
    scope = function.__qualname__.rpartition(".")[0]
    first = next(iter(inspect.signature(function).parameters), None)
    return bool(scope) and not scope.endswith("<locals>") and first in {"self", "cls"}


def _place_of(function: Callable[..., Any]) -> str:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else repr(function)


_registry: dict[tuple[str, str | None], Worker] = {}


def register_worker(worker: Worker) -> None:
    """Add a worker to the registry that ``TaskHandler`` scans.

    A second declaration of the same name and domain replaces the first, with a warning that names both places.
    """
    key = (worker.task_definition_name, worker.domain)
    known = _registry.get(key)
    if known is not None and known.declared_at != worker.declared_at:
        where = f" in domain {worker.domain!r}" if worker.domain else ""
        logger.warning(
            "worker %r%s is declared twice: at %s and at %s; the later one is used",
            worker.task_definition_name, where, known.declared_at, worker.declared_at,
        )  # fmt: skip
    _registry[key] = worker


def get_registered_workers() -> list[Worker]:
    """Return every worker declared by decorator so far, in the order of declaration."""
    return list(_registry.values())


def clear_registered_workers() -> None:
    """Forget every declared worker (for tests)."""
    _registry.clear()


@with_options
def worker_task(
    task_definition_name: str,
    poll_interval: float = 100,
    domain: str | None = None,
    worker_id: str | None = None,
    thread_count: int = 1,
    register_task_def: bool = False,
    poll_timeout: int = 100,
    lease_extend_enabled: bool = False,
    max_lease_seconds: float | None = None,
    timeout_seconds: float | None = None,
    on_cancel: OnCancel = "tell",
    task_def: TaskDef | None = None,
    overwrite_task_def: bool = True,
    strict_schema: bool = False,
    register_schema: bool | None = None,
    paused: bool = False,
    isolation: Isolation | None = None,
    group: str | None = None,
    processes: int | None = None,
    max_crashes: int = 3,
    max_tasks: int | None = None,
    max_rss_mb: int | None = None,
    max_age_seconds: float | None = None,
    **others: Any,
) -> Callable[[Callable[P, R]], TaskFunction[P, R]]:
    """Declare a function as the worker of a task definition.

    A plain call still runs the function. A call with ``task_ref_name="ref"`` returns a SimpleTask whose inputs are
    the other keywords. ``others`` takes the options' other names (see ``Worker``) and refuses all else with a hint.

    Raises DeclarationError at declaration for a name, function or option that could never work.
    """
    options = {
        "poll_interval": poll_interval, "domain": domain, "worker_id": worker_id, "thread_count": thread_count,
        "register_task_def": register_task_def, "poll_timeout": poll_timeout,
        "lease_extend_enabled": lease_extend_enabled, "max_lease_seconds": max_lease_seconds,
        "timeout_seconds": timeout_seconds, "on_cancel": on_cancel, "task_def": task_def,
        "overwrite_task_def": overwrite_task_def, "strict_schema": strict_schema, "register_schema": register_schema,
        "paused": paused, "isolation": isolation, "group": group, "processes": processes, "max_crashes": max_crashes,
        "max_tasks": max_tasks, "max_rss_mb": max_rss_mb, "max_age_seconds": max_age_seconds,
    }  # fmt: skip
    return _declare(task_definition_name, _with_aliases(options, others))


def WorkerTask(  # noqa: N802 - conductor-python's name
    task_definition_name: str,
    poll_interval: float = 100,
    domain: str | None = None,
    worker_id: str | None = None,
    poll_interval_seconds: float = 0,
    thread_count: int = 1,
    register_task_def: bool = False,
    poll_timeout: int = 100,
    lease_extend_enabled: bool = False,
    **others: Any,
) -> Callable[[Callable[P, R]], TaskFunction[P, R]]:
    """Declare a worker in the older spelling: ``poll_interval`` is in ms; ``poll_interval_seconds`` wins, if not 0."""
    if poll_interval_seconds:
        poll_interval = poll_interval_seconds * 1000
    options = {
        "poll_interval": poll_interval,
        "domain": domain, "worker_id": worker_id, "thread_count": thread_count,
        "register_task_def": register_task_def, "poll_timeout": poll_timeout,
        "lease_extend_enabled": lease_extend_enabled,
    }  # fmt: skip
    return _declare(task_definition_name, _with_aliases(options, others))


def _with_aliases(options: dict[str, Any], others: dict[str, Any]) -> dict[str, Any]:
    """Let an alias take the place of an option that was left at its default."""
    defaults = WorkerOptions()
    stated = {name: value for name, value in options.items() if value != getattr(defaults, name)}
    return stated | others


def _declare(name: str, options: dict[str, Any]) -> Callable[[Callable[P, R]], TaskFunction[P, R]]:
    if callable(name):
        raise DeclarationError('a worker needs the name of its task definition: write @worker_task("task_name")')

    def decorate(function: Callable[P, R]) -> TaskFunction[P, R]:
        worker = Worker(name, function, **options)
        known_inputs = _input_names(name, worker.function)
        register_worker(worker)

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if _REF_NAME not in kwargs:
                return function(*args, **kwargs)
            reference = kwargs.pop(_REF_NAME)
            if not isinstance(reference, str) or not reference.strip():
                raise TypeError(f"{name}({_REF_NAME}={reference!r}): expected the step's name in the workflow, a text")
            if args:
                raise TypeError(f"{name}({_REF_NAME}=...): give the inputs as keywords, they are named in the workflow")
            if known_inputs is not None and not known_inputs.issuperset(kwargs):
                wrong = ", ".join(sorted(set(kwargs) - known_inputs))
                known = ", ".join(sorted(known_inputs)) or "none"
                raise TypeError(f"{name}({_REF_NAME}=...): unknown input {wrong}; the function's inputs: {known}")
            return SimpleTask(name, reference, kwargs)

        call.__podium_worker__ = call  # type: ignore[attr-defined]
        return cast("TaskFunction[P, R]", call)

    return decorate


def _input_names(name: str, function: Callable[..., Any]) -> frozenset[str] | None:
    """Return the inputs that a function reads; None if it may read any, from ``**kwargs`` or from the whole task."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError) as error:
        raise DeclarationError(f"worker {name!r}: the function's signature cannot be read: {error}") from error
    if _REF_NAME in parameters:
        raise DeclarationError(f"worker {name!r}: the parameter name {_REF_NAME!r} is reserved; choose another")
    if any(parameter.kind is parameter.VAR_KEYWORD or _may_be_task(parameter) for parameter in parameters.values()):
        return None
    return frozenset(parameters)


def _may_be_task(parameter: inspect.Parameter) -> bool:
    """Whether a parameter looks like the whole task. Annotations may be text that cannot be resolved yet."""
    if parameter.annotation is parameter.empty:
        return parameter.name == "task"
    return parameter.annotation in (object, "object") or "Task" in str(parameter.annotation)


def listed_workers(workers: Any) -> list[Worker]:
    """Return the workers that were passed: one, several, or None."""
    if isinstance(workers, Worker):
        return [workers]
    if workers is not None and not isinstance(workers, Iterable):
        raise DeclarationError(f"workers: expected Worker objects, got {type(workers).__name__}")
    listed = list(workers or ())
    for worker in listed:
        if not isinstance(worker, Worker):
            raise DeclarationError(f"workers: expected Worker objects, got {type(worker).__name__}")
    return listed


def without_doubles(found: Iterable[Worker]) -> list[Worker]:
    """Return the workers to run: each name and domain once, the first of those that were found."""
    workers: dict[tuple[str, str | None], Worker] = {}
    for worker in found:
        first = workers.setdefault((worker.task_definition_name, worker.domain), worker)
        if first.function is not worker.function:
            logger.warning(
                "worker %r is declared twice: %s is used, %s is not",
                worker.task_definition_name, first.declared_at, worker.declared_at,
            )  # fmt: skip
    return list(workers.values())
