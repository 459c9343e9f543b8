"""How a worker process finds an object: by a name that its class answers to.

podium's processes import functions by module and name, and an object has none. Its pickle, in hexadecimal, is put
into one: ``my_app.workers:Greeter.carried_80049...``. A process imports the class as it imports any function, asks it
for that attribute, and the class's metaclass makes the object of it, once.
"""

from __future__ import annotations

import inspect
import pickle
from abc import ABCMeta
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from podium.errors import StartError
from podium.models import Task  # noqa: TC001 - podium reads the annotations of the functions below

if TYPE_CHECKING:
    from podium.compat.workers import WorkerInterface

_MARK = "carried_"
#: Name -> the function that runs the object's tasks. Here it is filled by ``carry``, in a process by its metaclass.
_functions: dict[str, Callable[..., Any]] = {}


class Carrier(ABCMeta):
    """Metaclass of classes whose objects can be found by name."""

    def __getattr__(cls, name: str) -> Any:
        if not name.startswith(_MARK):
            raise AttributeError(f"type object {cls.__name__!r} has no attribute {name!r}")
        if name not in _functions:
            # The name comes from this program itself, as what it imports does.
            _functions[name] = _function_of(pickle.loads(bytes.fromhex(name.removeprefix(_MARK))))  # noqa: S301
        return _functions[name]


def carry(worker: WorkerInterface, *, by_name: bool) -> Callable[..., Any]:
    """Return the function that runs a worker's tasks; if ``by_name``, one that a worker process finds.

    Raises StartError for an object that cannot be pickled, with what to do.
    """
    cls = type(worker)
    function = _function_of(worker)
    if not by_name:
        return function
    try:
        name = _MARK + pickle.dumps(worker).hex()
    except Exception as error:
        raise StartError(
            f"worker {worker.get_task_definition_name()!r}: its object of class {cls.__qualname__} cannot be sent to a "
            f"worker process ({type(error).__name__}: {error}): open connections, locks and files when they are "
            'first used instead of in __init__, or use TaskHandler(isolation="thread") or start_method="fork"'
        ) from error
    function.__module__, function.__qualname__ = cls.__module__, f"{cls.__qualname__}.{name}"
    return _functions.setdefault(name, function)


def _function_of(worker: WorkerInterface) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(worker.execute):

        async def execute_later(task: Task) -> Any:
            return await worker.execute(task)

        return execute_later

    def execute(task: Task) -> Any:
        return worker.execute(task)

    return execute
