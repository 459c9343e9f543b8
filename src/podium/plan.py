"""From declared workers to crews: what shares a process, what runs where, and whether it can."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from podium.config import default_worker_id
from podium.crew.launch import import_depth, make_launcher
from podium.engine import CrewPlan
from podium.errors import DeclarationError
from podium.frames import Boot, WorkerRef
from podium.member import compile_worker
from podium.preparation import MAIN_NAMES, main_preparation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from podium.crew.launch import Launcher, StartMethod
    from podium.options import Isolation
    from podium.registry import Worker


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What a TaskHandler says for workers that do not say it themselves."""

    isolation: Isolation
    group: str | None
    processes: int
    start_method: StartMethod
    imports: Sequence[str]
    log_levels: dict[str, int]


def plan_crews(workers: Sequence[Worker], defaults: Defaults) -> tuple[list[CrewPlan], Launcher | None]:
    """Return the crews for these workers, and the launcher for their processes, if any of them needs one.

    Raises DeclarationError for workers of one group that disagree, StartError for a function that a child process
    could not find.
    """
    isolated = [worker for worker in workers if _isolation(worker, defaults) == "process"]
    in_process = [worker for worker in workers if _isolation(worker, defaults) == "thread"]
    crews = []
    if in_process:
        ids = [_worker_id(worker) for worker in in_process]
        runnables = [compile_worker(_ref(worker), worker.function) for worker in in_process]
        crews.append(CrewPlan(workers=in_process, worker_ids=ids, processes=1, runnables=runnables))
    if not isolated:
        return crews, None

    refs = {id(worker): _ref(worker) for worker in isolated}
    modules = [ref.module for ref in refs.values()]
    imports = [name for name in dict.fromkeys([*defaults.imports, *modules]) if name not in MAIN_NAMES]
    with_main = defaults.start_method != "fork" and not MAIN_NAMES.isdisjoint(modules)
    preparation = main_preparation(with_main=with_main)
    launcher = make_launcher(defaults.start_method, imports, preparation)
    for worker in isolated:
        compile_worker(refs[id(worker)], worker.function)  # a signature that cannot work is refused here and now
        if launcher.by_name:
            depth = import_depth(refs[id(worker)], worker.function, defaults.start_method)
            refs[id(worker)] = msgspec.structs.replace(refs[id(worker)], depth=depth)
    for title, members in _groups(isolated, defaults).items():
        boot = Boot(title, [refs[id(worker)] for worker in members], imports, preparation, defaults.log_levels)
        ids = [_worker_id(worker) for worker in members]
        crews.append(
            CrewPlan(workers=members, worker_ids=ids, processes=_processes(title, members, defaults), boot=boot)
        )
    return crews, launcher


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
