"""What can be said about running workers, from any thread, also while the engine is stuck.

Everything here only reads attributes that the engine's loop writes, so nobody has to wait for that loop to answer.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, TypeAlias

from podium.crew.process import ProcessCrew
from podium.crew.thread import ThreadCrew

if TYPE_CHECKING:
    from collections.abc import Iterator

    from podium.crew.link import ChildLink
    from podium.runner import Runner

AnyCrew: TypeAlias = ProcessCrew | ThreadCrew


def pids_of(crew: AnyCrew) -> list[int]:
    """Return the ids of the processes that run a crew's functions."""
    return [os.getpid()] if isinstance(crew, ThreadCrew) else [pid for _, pid in processes_of(crew)]


def processes_of(crew: AnyCrew) -> Iterator[tuple[str, int]]:
    """Return title and process id of a crew's children; a thread crew has none."""
    for link in links_of(crew):
        yield link.title, link.pid


def links_of(crew: AnyCrew) -> list[ChildLink]:
    """Return a crew's children; a thread crew has none."""
    return crew.links if isinstance(crew, ProcessCrew) else []


def describe_runner(runner: Runner, crew: AnyCrew) -> str:
    """Return the start-up line of a worker, in the form that users of the other SDKs search their logs for."""
    options = runner.worker.options
    parts = {
        "name": runner.worker.task_definition_name,
        "pid": "+".join(map(str, pids_of(crew))),
        "status": "paused" if runner.paused else "active",
        "poll_interval": f"{options.poll_interval:g}ms",
        "domain": options.domain,
        "thread_count": options.thread_count,
        "poll_timeout": f"{options.poll_timeout}ms",
        "lease_extend": str(options.lease_extend_enabled).lower(),
        "register_task_def": str(options.register_task_def).lower(),
    }
    return f"Conductor Worker[{', '.join(f'{key}={value}' for key, value in parts.items() if value is not None)}]"


def stuck_of(runner: Runner, crew: AnyCrew, stuck_after: float) -> str | None:
    """Return what of a worker is there and does nothing, in a few words; None if that is not so.

    ``stuck_after`` is how many seconds a loop may be overdue, or a child silent.
    """
    overdue = runner.overdue
    if overdue > stuck_after:
        return f"its poll loop is stuck for {overdue:.0f} s"
    silence = crew.silent_for or 0.0  # None: nothing there that beats
    if silence > stuck_after:
        who = "a worker process" if isinstance(crew, ProcessCrew) else "the thread crew"
        return f"{who} is silent for {silence:.0f} s: its event loop is blocked, or something holds the GIL"
    return None


def problem_of(runner: Runner, crew: AnyCrew, stuck_after: float) -> str | None:
    """Return what keeps a worker from doing its work, in a few words; None if nothing does."""
    if not crew.alive:
        return "a worker process is down" if isinstance(crew, ProcessCrew) else "the loop of the thread crew has ended"
    return stuck_of(runner, crew, stuck_after)


def readiness_of(runner: Runner, crew: AnyCrew, stuck_after: float) -> tuple[bool, str]:
    """Return whether a worker can take work, and what it does, or why it cannot.

    It can if a poll was answered within ``runner.poll_window`` seconds and none was refused since; one that rightly
    does not poll, because it is paused or all its slots are busy, can too.
    """
    if (obstacle := _obstacle_of(runner, crew, stuck_after)) is not None:
        return False, obstacle
    if runner.paused:
        return True, "paused"
    return True, f"all {runner.slots} slots are busy" if runner.running >= runner.slots else "polling"


def _obstacle_of(runner: Runner, crew: AnyCrew, stuck_after: float) -> str | None:
    if (problem := stuck_of(runner, crew, stuck_after)) is not None:
        return problem
    if runner.stopping:
        return "it is being stopped"
    if runner.refused:
        return f"authentication fails: {runner.poll_failure}"
    if runner.paused or runner.running >= runner.slots or runner.deaf_for <= runner.poll_window:
        return None
    why = problem_of(runner, crew, stuck_after) or runner.poll_failure
    since = f"no poll was answered for {runner.deaf_for:.0f} s" if runner.last_poll else "no poll was answered yet"
    return f"{since}: {why}" if why else since


def status_of(runner: Runner, crew: AnyCrew, stuck_after: float) -> dict[str, Any]:
    """Return what ``TaskHandler.get_worker_status`` reports about one worker."""
    pids = pids_of(crew)
    members = crew.members if isinstance(crew, ProcessCrew) else []
    problem = problem_of(runner, crew, stuck_after)
    ready, state = readiness_of(runner, crew, stuck_after)
    return {
        "worker": runner.worker.task_definition_name,
        "domain": runner.worker.domain,
        "worker_id": runner.worker_id,
        "pid": pids[0] if pids else None,
        "pids": pids,
        "alive": crew.alive,
        "exitcode": next((member.exit_code for member in members if member.exit_code is not None), None),
        "restart_count": sum(member.restarts for member in members),
        "recycle_count": sum(member.recycles for member in members),
        "paused": runner.paused,
        "polling": not (runner.paused or runner.stopping) and problem is None,
        "running": runner.running,
        "slots": runner.slots,
        "last_poll_seconds_ago": time.monotonic() - runner.last_poll if runner.last_poll else None,
        "poll_failure": runner.poll_failure,
        "problem": problem,
        "unready": None if ready else state,
    }
