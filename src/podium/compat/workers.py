"""conductor-python's worker classes and registry, on top of podium's.

A worker here is an object that may be changed until a TaskHandler gets it; ``native_workers`` then makes podium's
workers of it.
"""

from __future__ import annotations

import asyncio
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any, ClassVar, Final

import msgspec

from podium import registry
from podium.compat.absence import WithAbsent
from podium.compat.carrying import Carrier, carry
from podium.compat.results import TaskResult
from podium.models import Task, TaskDef
from podium.options import WorkerOptions

DEFAULT_POLLING_INTERVAL: Final = 100
ExecuteTaskFunction = Callable[[Task | object], TaskResult | object]

_POLLING = "each name is polled by itself"

#: Attributes of a worker that are podium's options under the same names.
_OPTIONS = (
    "thread_count", "register_task_def", "poll_timeout", "lease_extend_enabled", "paused", "overwrite_task_def",
    "strict_schema", "register_schema",
)  # fmt: skip


class WorkerInterface(WithAbsent, ABC, metaclass=Carrier):
    """Base of workers that are classes: ``execute`` runs each task, and may be ``def`` or ``async def``.

    A list of names makes one worker of the object per name; they share a process, so that they share the object.
    """

    absent: ClassVar[Mapping[str, str]] = dict.fromkeys(
        (
            "next_task_index", "task_definition_name_cache", "clear_task_definition_name_cache",
            "compute_task_definition_name",
        ),
        _POLLING,
    )  # fmt: skip

    def __init__(self, task_definition_name: str | list[str]) -> None:
        self.task_definition_name = task_definition_name
        self.domain: str | None = None
        self.worker_id: str | None = None
        self.poll_interval: float = DEFAULT_POLLING_INTERVAL
        self.thread_count = 1
        self.register_task_def = False
        self.poll_timeout = 100
        self.lease_extend_enabled = False
        self.paused = False
        self.overwrite_task_def = True
        self.strict_schema = False
        self.register_schema: bool | None = None
        self.task_def_template: TaskDef | None = None

    @abstractmethod
    def execute(self, task: Task) -> Any:
        """Run one task and return its result."""

    @property
    def task_definition_names(self) -> list[str]:
        """All names."""
        names = self.task_definition_name
        return [names] if isinstance(names, str) else list(names)

    def get_task_definition_name(self) -> str:
        """Return the name; the first of several."""
        return self.task_definition_names[0]

    def get_identity(self) -> str:
        """Return the worker id: the host's name unless one was set."""
        return self.worker_id or socket.gethostname()

    def get_domain(self) -> str | None:
        """Return the domain."""
        return self.domain

    def get_polling_interval_in_seconds(self) -> float:
        """Return the poll interval in seconds."""
        return (self.poll_interval or DEFAULT_POLLING_INTERVAL) / 1000

    def get_task_result_from_task(self, task: Task) -> TaskResult:
        """Return a result for a task, ids filled in."""
        return TaskResult(
            task_id=task.task_id, workflow_instance_id=task.workflow_instance_id, worker_id=self.get_identity()
        )

    def native_workers(self, *, by_name: bool) -> list[registry.Worker]:
        """Return podium's workers; ``by_name`` if processes must find the object, which is pickled for them then."""
        return self._native_workers(carry(self, by_name=by_name))

    def _native_workers(self, function: Callable[..., Any]) -> list[registry.Worker]:
        names = self.task_definition_names
        identity = self.get_identity()
        options = {name: getattr(self, name) for name in _OPTIONS} | {
            "poll_interval": self.get_polling_interval_in_seconds() * 1000,
            "domain": self.get_domain() or None,
            "worker_id": None if identity == socket.gethostname() else identity,
            "task_def": self.task_def_template,
            "group": f"{names[0]} and {len(names) - 1} more" if len(names) > 1 else None,
        }
        defaults = WorkerOptions()
        stated = {name: value for name, value in options.items() if value != getattr(defaults, name)}
        return [registry.Worker(name, function, **stated) for name in names]


class Worker(WorkerInterface):
    """A worker that is a function and options."""

    absent: ClassVar[Mapping[str, str]] = {
        **WorkerInterface.absent,
        "check_completed_async_tasks": "tasks are reported as they end",
        "api_client": "workers make no requests; use podium.Client",
    }

    def __init__(
        self,
        task_definition_name: str | list[str],
        execute_function: ExecuteTaskFunction | Callable[..., Any],
        poll_interval: float | None = None,
        domain: str | None = None,
        worker_id: str | None = None,
        thread_count: int = 1,
        register_task_def: bool = False,
        poll_timeout: int = 100,
        lease_extend_enabled: bool = False,
        paused: bool = False,
        task_def_template: TaskDef | None = None,
        overwrite_task_def: bool = True,
        strict_schema: bool = False,
        register_schema: bool | None = None,
    ) -> None:
        super().__init__(task_definition_name)
        self.execute_function = execute_function
        self.poll_interval = DEFAULT_POLLING_INTERVAL if poll_interval is None else poll_interval
        self.domain = domain
        self.worker_id = worker_id
        self.thread_count = thread_count
        self.register_task_def = register_task_def
        self.poll_timeout = poll_timeout
        self.lease_extend_enabled = lease_extend_enabled
        self.paused = paused
        self.task_def_template = task_def_template
        self.overwrite_task_def = overwrite_task_def
        self.strict_schema = strict_schema
        self.register_schema = register_schema

    def execute(self, task: Task) -> TaskResult:
        """Run the function for a task as podium would, and return the result that it would report."""
        from podium.execution import Attempt, Runnable, run_async, run_plain
        from podium.frames import Outcome

        native = self._native_workers(self.execute_function)[0]
        runnable = Runnable.compile(
            native.task_definition_name, native.function, is_async=native.is_async, thread_count=1,
            strict_schema=self.strict_schema, worker_id=self.get_identity(),
        )  # fmt: skip
        attempt = Attempt(runnable, 0, msgspec.json.encode(task))
        outcome = run_async(attempt) if native.is_async else run_plain(attempt)
        if not isinstance(outcome, Outcome):
            outcome = asyncio.run(outcome)
        return msgspec.json.decode(outcome.body, type=TaskResult)

    def native_workers(self, *, by_name: bool) -> list[registry.Worker]:
        """Return podium's workers. A subclass with an ``execute`` of its own is a worker that is a class."""
        if type(self).execute is not Worker.execute:
            return super().native_workers(by_name=by_name)
        return self._native_workers(self.execute_function)

    @classmethod
    def of(cls, native: registry.Worker) -> Worker:
        """Return podium's worker as one of conductor-python's."""
        options = native.options
        stated = {name: getattr(options, name) for name in _OPTIONS}
        return cls(
            native.task_definition_name, native.function, poll_interval=options.poll_interval, domain=options.domain,
            worker_id=options.worker_id, task_def_template=options.task_def, **stated,
        )  # fmt: skip


def register_decorated_fn(
    name: str,
    poll_interval: float,
    domain: str | None,
    worker_id: str | None,
    func: Callable[..., Any],
    thread_count: int = 1,
    register_task_def: bool = False,
    poll_timeout: int = 100,
    lease_extend_enabled: bool = False,
    task_def: TaskDef | None = None,
    overwrite_task_def: bool = True,
    strict_schema: bool = False,
    register_schema: bool | None = None,
) -> None:
    """Declare a function as a worker, as the decorator does."""
    registry.register_worker(
        registry.Worker(
            name, func, poll_interval=poll_interval, domain=domain, worker_id=worker_id, thread_count=thread_count,
            register_task_def=register_task_def, poll_timeout=poll_timeout, lease_extend_enabled=lease_extend_enabled,
            task_def=task_def, overwrite_task_def=overwrite_task_def, strict_schema=strict_schema,
            register_schema=register_schema,
        )
    )  # fmt: skip


def get_registered_workers() -> list[Worker]:
    """Return every worker declared by decorator so far, with the values that the code gives."""
    return [Worker.of(native) for native in registry.get_registered_workers()]


def get_registered_worker_names() -> list[str]:
    """Return their names."""
    return [worker.task_definition_name for worker in registry.get_registered_workers()]


class _DecoratedFunctions(MutableMapping[tuple[str, "str | None"], dict[str, Any]]):
    """The registry as conductor-python shows it: ``(name, domain)`` -> the function and its options."""

    def __getitem__(self, key: tuple[str, str | None]) -> dict[str, Any]:
        options = self._workers()[key].options
        names = [name for name in _OPTIONS if name != "paused"]
        return {
            "func": self._workers()[key].function,
            **{name: getattr(options, name) for name in ("poll_interval", "domain", "worker_id", "task_def", *names)},
        }

    def __setitem__(self, key: tuple[str, str | None], value: dict[str, Any]) -> None:
        name, domain = key
        stated = {"poll_interval": DEFAULT_POLLING_INTERVAL, "worker_id": None, **value, "domain": domain}
        register_decorated_fn(name, **stated)

    def __delitem__(self, key: tuple[str, str | None]) -> None:
        workers = self._workers()
        del workers[key]
        registry.clear_registered_workers()
        for worker in workers.values():
            registry.register_worker(worker)

    def __iter__(self) -> Iterator[tuple[str, str | None]]:
        return iter(self._workers())

    def __len__(self) -> int:
        return len(self._workers())

    def clear(self) -> None:
        """Forget every declared worker."""
        registry.clear_registered_workers()

    def __repr__(self) -> str:
        return repr(dict(self))

    @staticmethod
    def _workers() -> dict[tuple[str, str | None], registry.Worker]:
        return {(worker.task_definition_name, worker.domain): worker for worker in registry.get_registered_workers()}


decorated_functions: MutableMapping[tuple[str, str | None], dict[str, Any]] = _DecoratedFunctions()
