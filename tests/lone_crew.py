"""A crew of one worker with nothing around it: no runner, no server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from engine_fakes import task_json
from podium import Worker
from podium.crew.logs import ChildLogs
from podium.crew.place import RestartPolicy
from podium.crew.process import ProcessCrew
from podium.crew.thread import ThreadCrew
from podium.plan import Defaults, Surroundings, plan_crews
from podium.polled import PolledTask, read_task
from rig import DEADLINE

INTERVAL = 0.05

Crew = ProcessCrew | ThreadCrew


async def until(look: Callable[[], Any], what: str) -> None:
    """Look again and again until something true is seen."""
    try:
        async with asyncio.timeout(DEADLINE):
            while not look():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"not seen within {DEADLINE} s: {what}") from None


def task(task_id: str = "t", **inputs: Any) -> PolledTask:
    return read_task(task_json(task_id, inputData=inputs))


@asynccontextmanager
async def crew_of(
    function: Callable[..., Any],
    isolation: Any,
    interval: float = INTERVAL,
    *,
    thread_count: int = 2,
    policy: RestartPolicy | None = None,
) -> AsyncIterator[Crew]:
    """Run a crew; ``interval`` is that of its beats."""
    worker = Worker("w", function, thread_count=thread_count)
    defaults = Defaults(isolation=isolation, group=None, processes=1, start_method="forkserver")
    surroundings = Surroundings(imports=[], log_levels={}, beat_interval=interval)
    (plan,), launcher = plan_crews([worker], defaults, surroundings)
    logs = ChildLogs()
    crew: Crew
    if plan.runnables is not None:
        crew = ThreadCrew(plan.runnables, interval)
    else:
        assert plan.boot is not None
        assert launcher is not None
        await launcher.open()
        policy = policy or RestartPolicy()
        crew = ProcessCrew(plan.boot, [function], 1, launcher, policy, lambda: None, lambda _names: None, logs)
    try:
        await crew.start()
        yield crew
    finally:
        await crew.stop()
        if launcher is not None:
            await launcher.close()
        logs.close()
