"""What an engine is to run: which workers share a process, what runs where, and whether it can."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec

from podium.bundle import Bundle
from podium.config import default_worker_id
from podium.crew.launch import START_METHODS, import_depth, make_launcher
from podium.crew.recycling import NEVER, RSS_INTERVAL, Recycling
from podium.errors import ConfigError, DeclarationError
from podium.frames import Boot, WorkerRef
from podium.member import compile_worker
from podium.preparation import MAIN_NAMES, main_preparation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from podium.config import Configuration
    from podium.crew.launch import Launcher, StartMethod
    from podium.crew.place import RestartPolicy
    from podium.execution import Runnable
    from podium.monitor import Monitoring
    from podium.options import Isolation
    from podium.registry import Worker
    from podium.transport import RequestHook
    from podium.waiting import Watch


class CrewPlan(Bundle, frozen=True, kw_only=True):
    """One crew: its workers, in the order of their places, and how to make it."""

    workers: list[Worker]
    worker_ids: list[str]
    processes: int
    #: For a process crew; None for the thread crew.
    boot: Boot | None = None
    #: When a child of a process crew has served long enough.
    recycling: Recycling = NEVER
    #: For the thread crew; None for a process crew.
    runnables: list[Runnable] | None = None


class Plan(Bundle, frozen=True, kw_only=True):
    """Everything that an engine needs to know; made by TaskHandler, checked already."""

    configuration: Configuration
    crews: list[CrewPlan]
    #: None if no crew needs processes.
    launcher: Launcher | None
    restart: RestartPolicy
    monitoring: Monitoring
    listeners: Sequence[object]
    update_retry_delays: Sequence[float]
    #: Called after every request: method, path template, status (0 = no answer), seconds.
    on_request: RequestHook | None
    #: Called when a dead child is to be replaced, with the names of its workers.
    on_restart: Callable[[Sequence[str]], None]
    #: The same for a child that was replaced because it had served long enough.
    on_recycle: Callable[[Sequence[str]], None]
    #: Is told of results that wait; None if nobody wants to know.
    watch: Watch | None = None


class Defaults(Bundle, frozen=True, kw_only=True):
    """What a TaskHandler says for workers that do not say it themselves. Raises ConfigError for what cannot work."""

    isolation: Isolation
    group: str | None
    processes: int
    start_method: StartMethod

    def __post_init__(self) -> None:
        allowed = {
            "isolation": (self.isolation in {"process", "thread"}, "'process' or 'thread'"),
            "processes": (type(self.processes) is int and self.processes >= 1, "a whole number of 1 or more"),
            "start_method": (self.start_method in START_METHODS, " or ".join(map(repr, START_METHODS))),
        }
        for name, (good, expected) in allowed.items():
            if not good:
                raise ConfigError(f"TaskHandler: {name}={getattr(self, name)!r}: expected {expected}")


class Surroundings(Bundle, frozen=True, kw_only=True):
    """What every child is told about the program besides its workers."""

    imports: Sequence[str]
    log_levels: dict[str, int]
    #: Seconds between two signs of life; 0 for none.
    beat_interval: float


def log_levels() -> dict[str, int]:
    """Return every logger's level that was set: children filter as this process does, and send no more."""
    root = logging.getLogger()
    loggers = dict(root.manager.loggerDict)  # other threads may make new ones
    known = {name: logger for name, logger in loggers.items() if isinstance(logger, logging.Logger)}
    return {"": root.level} | {name: logger.level for name, logger in known.items() if logger.level}


def plan_crews(
    workers: Sequence[Worker], defaults: Defaults, surroundings: Surroundings
) -> tuple[list[CrewPlan], Launcher | None]:
    """Return the crews for these workers, and the launcher for their processes, if any of them needs one.

    Raises DeclarationError for workers of one group that disagree, and for options that do not go with threads;
    StartError for a function that a child process could not find.
    """
    isolated = [worker for worker in workers if _isolation(worker, defaults) == "process"]
    in_process = [worker for worker in workers if _isolation(worker, defaults) == "thread"]
    crews = []
    for worker in in_process:
        _refuse_what_needs_processes(worker)
    # Plain functions and coroutines have a loop each: a coroutine that blocks its own holds up no plain function.
    for is_async in (False, True):
        members = [worker for worker in in_process if worker.is_async is is_async]
        if members:
            ids = [_worker_id(worker) for worker in members]
            runnables = [compile_worker(_ref(worker), worker.function) for worker in members]
            crews.append(CrewPlan(workers=members, worker_ids=ids, processes=1, runnables=runnables))
    if not isolated:
        return crews, None

    refs = {id(worker): _ref(worker) for worker in isolated}
    modules = [ref.module for ref in refs.values()]
    imports = [name for name in dict.fromkeys([*surroundings.imports, *modules]) if name not in MAIN_NAMES]
    with_main = defaults.start_method != "fork" and not MAIN_NAMES.isdisjoint(modules)
    preparation = main_preparation(with_main=with_main)
    launcher = make_launcher(defaults.start_method, imports, preparation)
    for worker in isolated:
        compile_worker(refs[id(worker)], worker.function)  # a signature that cannot work is refused here and now
        if launcher.by_name:
            depth = import_depth(refs[id(worker)], worker.function, defaults.start_method)
            refs[id(worker)] = msgspec.structs.replace(refs[id(worker)], depth=depth)
    for title, members in _groups(isolated, defaults).items():
        recycling = Recycling.strictest(worker.options for worker in members)
        boot = Boot(
            title=title,
            workers=[refs[id(worker)] for worker in members],
            imports=imports,
            preparation=preparation,
            log_levels=surroundings.log_levels,
            # Each sign of life tells the memory of the child, too.
            beat_interval=surroundings.beat_interval or (RSS_INTERVAL if recycling.max_rss_mb is not None else 0.0),
        )
        ids = [_worker_id(worker) for worker in members]
        processes = _processes(title, members, defaults)
        crews.append(CrewPlan(workers=members, worker_ids=ids, processes=processes, boot=boot, recycling=recycling))
    return crews, launcher


def _refuse_what_needs_processes(worker: Worker) -> None:
    if worker.options.on_cancel == "kill":
        raise DeclarationError(
            f"worker {worker.task_definition_name!r}: on_cancel='kill' needs isolation='process': its isolation is "
            "'thread', and nothing can be killed in a thread of the program; use on_cancel='tell', and "
            "get_task_context().is_cancelled() in the function"
        )
    limits = ("max_tasks", "max_rss_mb", "max_age_seconds")
    stated = [f"{name}={limit!r}" for name in limits if (limit := getattr(worker.options, name)) is not None]
    if stated:
        raise DeclarationError(
            f"worker {worker.task_definition_name!r}: {', '.join(stated)} is about child processes, and "
            'isolation="thread" has none: leave it out, or use isolation="process"'
        )


def _isolation(worker: Worker, defaults: Defaults) -> Isolation:
    return worker.options.isolation or defaults.isolation


def _groups(workers: Sequence[Worker], defaults: Defaults) -> dict[str, list[Worker]]:
    """Return the workers of each crew, by the crew's title: a group's name, or the worker's own."""
    groups: dict[str, list[Worker]] = {}
    for worker in workers:
        group = worker.options.group or defaults.group
        own = f"{worker.task_definition_name}@{worker.domain}" if worker.domain else worker.task_definition_name
        groups.setdefault(f"group {group}" if group else own, []).append(worker)
    return groups


def _processes(title: str, workers: Sequence[Worker], defaults: Defaults) -> int:
    stated = {worker.options.processes for worker in workers if worker.options.processes is not None}
    if len(stated) > 1:
        raise DeclarationError(f"{title}: its workers ask for different numbers of processes: {sorted(stated)}")
    return stated.pop() if stated else defaults.processes


def _worker_id(worker: Worker) -> str:
    return worker.options.worker_id or default_worker_id()


def _ref(worker: Worker) -> WorkerRef:
    function = worker.function
    return WorkerRef(
        name=worker.task_definition_name,
        module=getattr(function, "__module__", None) or "",
        qualname=getattr(function, "__qualname__", None) or "",
        is_async=worker.is_async,
        thread_count=worker.options.thread_count,
        strict_schema=worker.options.strict_schema,
        worker_id=_worker_id(worker),
    )
