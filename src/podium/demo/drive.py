"""Starting workflows and waiting for their end, gently enough for a server that others use too."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from podium.demo.orders import WORKFLOW, order_input
from podium.errors import ApiError, PodiumError, TransportError

if TYPE_CHECKING:
    from podium.client import AsyncClient
    from podium.models import Workflow, WorkflowStatus

#: Requests that start workflows, or read their records, at the same time.
_CONCURRENCY: Final = 4
#: Workflows whose state is asked for at a time, and the pause before the next ones, in seconds.
_LOOK_AT: Final = 16
_PAUSE: Final = 0.1


class Drive:
    """Runs one workflow per order, all with the same correlation id."""

    def __init__(self, client: AsyncClient, orders: int, correlation_id: str) -> None:
        self.orders = orders
        #: Id -> final status, of workflows that have ended.
        self.ended: dict[str, str] = {}
        #: Order number -> why its workflow did not start.
        self.not_started: dict[int, str] = {}
        self.elapsed = 0.0
        self._client = client
        self._correlation_id = correlation_id
        #: Workflows that may still run; the one that was looked at last stands last.
        self._open: deque[str] = deque()

    @property
    def open_ids(self) -> list[str]:
        """The workflows that have been started and not seen to end."""
        return list(self._open)

    @property
    def completed(self) -> int:
        """How many workflows ended as they should."""
        return sum(status == "COMPLETED" for status in self.ended.values())

    async def run(self, patience: float, activity: Callable[[], int], progress: Callable[[Drive], None]) -> None:
        """Start all workflows and return when they have ended, or when nothing has happened for ``patience`` seconds.

        ``activity`` returns a number that grows with each task; ``progress`` is called whenever workflows have ended.
        """
        begun = time.monotonic()
        numbers = deque(range(1, self.orders + 1))
        starters = [asyncio.create_task(self._start(numbers)) for _ in range(_CONCURRENCY)]
        try:
            await self._watch(starters, patience, activity, progress)
        finally:
            self.elapsed = time.monotonic() - begun
            numbers.clear()
            # Not cancelled: a workflow that is being started would run on, and nobody would know its id.
            await asyncio.gather(*starters)

    async def _watch(
        self,
        starters: list[asyncio.Task[None]],
        patience: float,
        activity: Callable[[], int],
        progress: Callable[[Drive], None],
    ) -> None:
        last_change = time.monotonic()
        seen: tuple[int, int] | None = None
        while self._open or not all(starter.done() for starter in starters):
            looked_at, ended = await self._look()
            if ended:
                progress(self)
            now = time.monotonic()
            if seen != (seen := (len(self.ended), activity())):
                last_change = now
            elif now - last_change > patience:
                return
            if ended * 2 <= looked_at:  # else it is worth to look on at once
                await asyncio.sleep(_PAUSE)

    async def _start(self, numbers: deque[int]) -> None:
        while numbers:
            number = numbers.popleft()
            try:
                workflow_id = await self._client.start_workflow(
                    WORKFLOW, order_input(number), correlation_id=self._correlation_id
                )
            except PodiumError as error:
                self.not_started[number] = str(error)
            else:
                self._open.append(workflow_id)

    async def _look(self) -> tuple[int, int]:
        """Ask for the state of some workflows; return how many, and how many of them have ended."""
        batch = [self._open[place] for place in range(min(_LOOK_AT, len(self._open)))]
        states = await asyncio.gather(*map(self._state, batch))
        ended = 0
        for workflow_id, state in zip(batch, states, strict=True):
            self._open.popleft()
            if state is not None and state.is_terminal:
                self.ended[workflow_id] = state.status
                ended += 1
            else:
                self._open.append(workflow_id)
        return len(batch), ended

    async def _state(self, workflow_id: str) -> WorkflowStatus | None:
        try:
            return await self._client.get_workflow_status(workflow_id)
        except (ApiError, TransportError) as error:
            if not error.retryable:
                raise
            return None  # it is asked for again; if that never works, patience runs out


async def read_records(client: AsyncClient, workflow_ids: Iterable[str]) -> list[Workflow]:
    """Return these workflows with their tasks, as the server has recorded them."""
    limit = asyncio.Semaphore(_CONCURRENCY)

    async def read(workflow_id: str) -> Workflow:
        async with limit:
            return await client.get_workflow(workflow_id)

    return await asyncio.gather(*map(read, workflow_ids))


async def terminate(client: AsyncClient, workflow_ids: Iterable[str]) -> None:
    """End workflows that nobody will work on any more; one that has ended meanwhile, or cannot be reached, is left."""
    limit = asyncio.Semaphore(_CONCURRENCY)

    async def end(workflow_id: str) -> None:
        async with limit:
            await client.terminate_workflow(workflow_id, "podium demo was interrupted")

    await asyncio.gather(*map(end, workflow_ids), return_exceptions=True)
