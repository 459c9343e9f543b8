"""Tasks that may be the end of any process, each in a child of its own: they take nobody along."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from podium.answers import printable
from podium.backoff import Backoff
from podium.logs import Repeats
from podium.polled import Interrupted, PolledTask

if TYPE_CHECKING:
    from collections.abc import Callable

    from podium.crew.death import Death
    from podium.crew.held import InHand
    from podium.crew.link import ChildLink, Source
    from podium.frames import Outcome

logger = logging.getLogger(__name__)

#: How many of them run at the same time; the others wait, and keep their leases.
MOST_AT_ONCE: Final = 8


class Solitary:
    """Runs tasks alone: each in a fresh child, which then ends.

    ``on_death`` is called with what is known of a child that died with its task; ``on_survival`` with a task that its
    child has survived.
    """

    def __init__(
        self,
        source: Source,
        title: str,
        on_death: Callable[[Death, list[InHand]], None],
        on_survival: Callable[[PolledTask], None],
    ) -> None:
        self._source = source
        self._title = f"{title} (alone)"
        self._on_death = on_death
        self._on_survival = on_survival
        self._room = asyncio.Semaphore(MOST_AT_ONCE)
        self._backoff = Backoff(1.0, 60.0)
        self._repeats = Repeats()
        self._runs: dict[asyncio.Future[Outcome], asyncio.Task[None]] = {}
        #: The children; replaced, not changed, because other threads read it.
        self.links: tuple[ChildLink, ...] = ()

    def run(self, worker: int, task: PolledTask, future: asyncio.Future[Outcome]) -> None:
        """Execute a task; ``future`` will have its outcome."""
        run = asyncio.get_running_loop().create_task(self._run(worker, task, future))
        self._runs[future] = run
        run.add_done_callback(lambda _: self._runs.pop(future))

    def cancel(self, future: asyncio.Future[Outcome]) -> None:
        """Interrupt an execution that waits for its child; one that has it is not touched."""
        if not any(link.holds(future) for link in self.links):
            self._interrupt(future)

    def wind_down(self) -> None:
        """Interrupt all executions that wait for their child."""
        for future in list(self._runs):
            self.cancel(future)

    async def stop(self) -> None:
        """End all children; what they were running is Interrupted, and so is what waits for one."""
        runs = list(self._runs.values())
        for future in list(self._runs):
            self._interrupt(future)
        await asyncio.gather(*runs, return_exceptions=True)

    def _interrupt(self, future: asyncio.Future[Outcome]) -> None:
        """End an execution before its time, once: when it has an outcome, or is asked to end, its child is ending."""
        run = self._runs.get(future)
        if run is not None and not future.done() and not run.cancelling():
            run.cancel()

    async def _run(self, worker: int, task: PolledTask, future: asyncio.Future[Outcome]) -> None:
        link: ChildLink | None = None
        try:
            async with self._room:
                link = await self._start()
                logger.info(
                    "task %s runs alone in process %d, because worker processes have died that had it",
                    task.task_id, link.pid,
                )  # fmt: skip
                link.run(worker, task, future)
                ends: list[asyncio.Future[Any]] = [future, link.exited]
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                if not future.done():
                    death, lost = await link.death()
                    self._on_death(death, lost)
                    if lost:
                        self._tell_of(link, death, task)
                elif not future.cancelled() and future.exception() is None:
                    self._on_survival(task)
        finally:
            if link is not None:
                await self._end(link)
            if not future.done():
                future.set_exception(Interrupted())

    async def _start(self) -> ChildLink:
        """Return a child that can run tasks, as soon as one can be had."""
        failures = 0
        while True:
            link: ChildLink | None = None
            try:
                link = await self._source.child(self._title)
                self.links = (*self.links, link)
                await link.open()
            except BaseException as error:
                if link is not None:
                    await self._end(link)
                if not isinstance(error, Exception):
                    raise
                failures += 1
                log = logger.error if failures == 1 else logger.debug
                log("%s: no process could be started: %s", printable(self._title), printable(str(error)))
                await asyncio.sleep(self._backoff.delay(failures))
            else:
                return link

    def _tell_of(self, link: ChildLink, death: Death, task: PolledTask) -> None:
        repeated = self._repeats.due(death.end)
        if repeated is not None:
            details = death.circumstances(link.pid, [task.task_id])
            logger.error("%s: worker process %s%s%s", printable(self._title), death.end, repeated, details)

    async def _end(self, link: ChildLink) -> None:
        await link.stop()
        self.links = tuple(other for other in self.links if other is not link)
