"""What a running engine consists of: its client, what watches over tasks and results, its crews and their runners."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from podium.bundle import Bundle
from podium.crew.process import ProcessCrew
from podium.crew.thread import ThreadCrew
from podium.delivery import Delivery
from podium.oversight import Oversight
from podium.runner import Runner
from podium.spool import spool_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from podium.client import AsyncClient
    from podium.crew.logs import ChildLogs
    from podium.events import EventDispatcher
    from podium.plan import CrewPlan, Plan
    from podium.status import AnyCrew


class Parts(Bundle):
    """What a running engine consists of; made and used on its loop only."""

    client: AsyncClient
    events: EventDispatcher
    delivery: Delivery
    oversight: Oversight
    crews: list[AnyCrew] = msgspec.field(default_factory=list)
    #: Each runner with its crew.
    runners: list[tuple[Runner, AnyCrew]] = msgspec.field(default_factory=list)
    #: The asyncio task of each runner's loop.
    polls: dict[Runner, asyncio.Task[None]] = msgspec.field(default_factory=dict)
    #: Set when the registration of every task definition has been tried.
    registered_once: asyncio.Event = msgspec.field(default_factory=asyncio.Event)
    registering: asyncio.Task[None] | None = None

    @classmethod
    def of(cls, client: AsyncClient, plan: Plan, events: EventDispatcher) -> Parts:
        """Return the parts of an engine that has no crew yet."""
        oversight = Oversight(client)
        delivery = Delivery(
            client, events, plan.update_retry_delays,
            leases=oversight.leases, spool=spool_of(plan.configuration), watch=plan.watch,
        )  # fmt: skip
        return cls(client, events, delivery, oversight)

    def add_crew(self, crew_plan: CrewPlan, plan: Plan, logs: ChildLogs, on_change: Callable[[], None]) -> None:
        """Make a crew, which is not started, and a runner for each of its workers.

        ``on_change`` is called whenever the children of the crew come or go.
        """
        crew = self._crew_of(crew_plan, plan, logs, on_change)
        self.crews.append(crew)
        for place, (worker, worker_id) in enumerate(zip(crew_plan.workers, crew_plan.worker_ids, strict=True)):
            slots = worker.options.thread_count * crew_plan.processes
            runner = Runner(
                worker, worker_id, slots, crew, place,
                client=self.client, delivery=self.delivery, oversight=self.oversight, events=self.events,
                watch=plan.watch,
            )  # fmt: skip
            self.runners.append((runner, crew))

    def _crew_of(self, crew_plan: CrewPlan, plan: Plan, logs: ChildLogs, on_change: Callable[[], None]) -> AnyCrew:
        if crew_plan.runnables is not None:
            return ThreadCrew(crew_plan.runnables, plan.monitoring.beat_interval, self.wake_runners)
        assert crew_plan.boot is not None
        assert plan.launcher is not None
        return ProcessCrew(
            crew_plan.boot,
            [worker.function for worker in crew_plan.workers],
            crew_plan.processes,
            plan.launcher,
            plan.restart,
            on_change,
            plan.on_restart,
            logs,
            recycling=crew_plan.recycling,
            on_recycle=plan.on_recycle,
            max_crashes=[worker.options.max_crashes for worker in crew_plan.workers],
        )

    def only_runners(self) -> list[Runner]:
        """Return the runners without their crews."""
        return [runner for runner, _ in self.runners]

    def wake_runners(self) -> None:
        """Let every runner look again at what it can do."""
        for runner, _ in self.runners:
            runner.wake()

    def set_paused(self, name: str, paused: bool) -> bool:
        """Stop or resume polling for the workers of a task definition; return whether there are any."""
        found = [runner for runner, _ in self.runners if runner.worker.task_definition_name == name]
        for runner in found:
            runner.set_paused(paused)
        return bool(found)
