"""The process crew: child processes that run functions, watched and restarted."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any

from podium.crew.alone import Solitary
from podium.crew.link import ChildLink, Source
from podium.crew.place import Member, RestartPolicy, Shared
from podium.crew.recycling import NEVER, Recycling
from podium.crew.suspects import DEFAULT_MAX_CRASHES, Suspects
from podium.execution import MAX_REASON
from podium.frames import Cause
from podium.loops import start_all
from podium.polled import Interrupted, PolledTask, failure, ids_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from podium.crew.death import Death
    from podium.crew.held import InHand
    from podium.crew.launch import Launcher
    from podium.crew.logs import ChildLogs
    from podium.frames import Boot, Outcome

logger = logging.getLogger(__name__)


class ProcessCrew:
    """Children that all run the same workers. Implements ``podium.oversight.Crew``.

    ``on_change`` is called whenever slots appear or vanish for another reason than a finished task; with the workers'
    names, ``on_restart`` whenever a dead child is to be replaced, and ``on_recycle`` when one was that had served long
    enough. ``max_crashes`` are the deaths of children after which a task is not retried any more, for each worker
    (0 = no limit).
    """

    def __init__(
        self,
        boot: Boot,
        functions: list[Callable[..., Any]],
        processes: int,
        launcher: Launcher,
        policy: RestartPolicy,
        on_change: Callable[[], None],
        on_restart: Callable[[list[str]], None],
        logs: ChildLogs,
        *,
        recycling: Recycling = NEVER,
        on_recycle: Callable[[list[str]], None] = lambda _names: None,
        max_crashes: Sequence[int] = (),
    ) -> None:
        names = [worker.name for worker in boot.workers]
        source = Source(boot, functions, launcher, logs)
        shared = Shared(
            source=source,
            restart=policy,
            recycling=recycling,
            alone=processes == 1,
            on_change=self._changed,
            on_restart=lambda: on_restart(names),
            on_recycle=lambda: on_recycle(names),
            on_death=self._settle_lost,
        )
        self._boot = boot
        self._on_change = on_change
        self._max_crashes = max_crashes or [DEFAULT_MAX_CRASHES] * len(names)
        titles = [boot.title] if processes == 1 else [f"{boot.title}#{number + 1}" for number in range(processes)]
        self.members = [Member(title, shared) for title in titles]
        self._waiting: deque[tuple[int, PolledTask, asyncio.Future[Outcome]]] = deque()
        self._keepers: list[asyncio.Task[None]] = []
        self._suspects = Suspects()
        self._solitary = Solitary(source, boot.title, self._settle_lost, self._suspects.acquit)

    async def start(self) -> None:
        """Start all children at once and wait until they can run tasks; raises StartError if one cannot."""
        await start_all(member.start() for member in self.members)
        loop = asyncio.get_running_loop()
        self._keepers = [loop.create_task(member.keep()) for member in self.members]
        for keeper in self._keepers:
            keeper.add_done_callback(self._on_keeper_done)

    @property
    def alive(self) -> bool:
        """Whether every place is taken by a child that can run tasks."""
        return len(self._links()) == len(self.members)

    @property
    def silent_for(self) -> float | None:
        """How long the most silent of the children was not heard, in seconds; None if no child runs that beats."""
        silences = (link.silent_for for link in self.links)
        return max((silence for silence in silences if silence is not None), default=None)

    def kill_silent(self, limit: float) -> None:
        """Kill the children that were not heard for more than ``limit`` seconds; they are replaced as after any death.

        What they held is failed, and retried.
        """
        for link in self.links:
            silence = link.silent_for or 0.0
            if silence > limit:
                link.kill(f"it was silent for {silence:.0f} s")

    @property
    def links(self) -> list[ChildLink]:
        """All children that live, also those that only finish what they have, and those that run a task alone.

        To be read from any thread.
        """
        found = [self._solitary.links, *(member.retiring for member in self.members)]
        return [*self._links(), *(link for links in found for link in links if link.alive)]

    def free(self, worker: int) -> int:
        """Return how many more tasks of that worker could start now."""
        limit, room = self._boot.workers[worker].thread_count, 0
        for member in self.members:
            link = member.link
            if link is not None and link.alive:
                room += limit - link.busy[worker]
        return room

    def run(self, worker: int, task: PolledTask) -> asyncio.Future[Outcome]:
        """Execute a task in the child that has most room."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        if self._suspects and task in self._suspects:
            self._solitary.run(worker, task, future)
        elif not self._dispatch(worker, task, future):
            # Its child died between the poll and now: it waits for the successor.
            self._waiting.append((worker, task, future))
        return future

    @property
    def deserted(self) -> bool:
        """Whether no child runs, and none will come any more."""
        return bool(self._keepers) and all(keeper.done() for keeper in self._keepers)

    def wind_down(self) -> None:
        """Start nothing any more: a child that dies has no successor, and what waits for one is Interrupted."""
        for member in self.members:
            member.winding_down = True
        self._solitary.wind_down()
        self._interrupt_waiting()

    def stuck(self, worker: int) -> int:  # noqa: ARG002 - of the protocol
        """Return 0: no code goes on here that nobody waits for."""
        return 0

    def cancel(self, future: asyncio.Future[Outcome]) -> None:
        """Ask an execution to end; one that waits for a child is Interrupted."""
        for link in self.links:
            link.cancel(future)
        self._solitary.cancel(future)
        for entry in [entry for entry in self._waiting if entry[2] is future]:
            self._waiting.remove(entry)
            future.set_exception(Interrupted())

    async def evict(self, future: asyncio.Future[Outcome], why: str) -> str:
        """Kill the child that an execution runs in; return where its code was."""
        link = next((link for link in self.links if link.holds(future)), None)
        if link is not None:
            return await link.evict(future, why)
        self.cancel(future)
        await asyncio.wait([future])  # if its child is dead already, it is about to be told so
        return ""

    async def stop(self) -> None:
        """Kill the children and wait until they are gone; what they were running is Interrupted."""
        for keeper in self._keepers:
            keeper.cancel()
        self._interrupt_waiting()
        await asyncio.gather(self._solitary.stop(), *(member.stop() for member in self.members))

    def _on_keeper_done(self, _keeper: asyncio.Task[None]) -> None:
        if self.deserted:
            self._interrupt_waiting()
            self._on_change()

    def _interrupt_waiting(self) -> None:
        for _, _, future in self._waiting:
            if not future.done():
                future.set_exception(Interrupted())
        self._waiting.clear()

    def _links(self) -> list[ChildLink]:
        links = [member.link for member in self.members]  # first: another thread may ask while the loop changes them
        return [link for link in links if link is not None and link.alive]

    def _dispatch(self, worker: int, task: PolledTask, future: asyncio.Future[Outcome]) -> bool:
        roomiest, least = None, self._boot.workers[worker].thread_count
        for member in self.members:
            link = member.link
            if link is not None and link.busy[worker] < least and link.alive:
                roomiest, least = link, link.busy[worker]
        if roomiest is None:
            return False
        roomiest.run(worker, task, future)
        return True

    def _settle_lost(self, death: Death, lost: list[InHand]) -> None:
        """Fail the tasks that a dead child held: the server retries them, unless they have ended too many children."""
        for entry in lost:
            deaths = self._suspects.accuse(entry.task) if entry.is_culprit else 0
            limit = self._max_crashes[entry.worker]
            terminal = 0 < limit <= deaths
            reason = death.reason
            if terminal:
                self._suspects.pardon(entry.task)
                verdict = f"; {deaths} worker processes died with this task, so it is not retried (max_crashes={limit})"
                reason = reason[: MAX_REASON - len(verdict)] + verdict
            if not entry.future.done():
                cause = Cause("WorkerProcessDied", reason)
                worker_id = self._boot.workers[entry.worker].worker_id
                entry.future.set_result(
                    failure(
                        ids_of(entry.task), entry.key, worker_id, cause,
                        terminal=terminal, started=entry.started, details=death.details,
                    )
                )  # fmt: skip

    def _changed(self) -> None:
        for _ in range(len(self._waiting)):
            entry = self._waiting.popleft()
            if not self._dispatch(*entry):
                self._waiting.append(entry)
        self._on_change()
