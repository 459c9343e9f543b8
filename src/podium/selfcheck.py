"""A look at the server while there is nothing to do: whether work waits that nobody hands to an idle worker.

That a queue is not empty proves nothing: the server counts tasks whose time has not come, such as retries. So an alarm
needs a task that was found waiting at two looks, unchanged, for longer than any delay that it has, while the worker
polled without a break and was handed nothing. No clock of the server is compared with one of ours.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec import field

from podium.answers import decoded, printable
from podium.errors import ApiError, PodiumError
from podium.models import Task
from podium.models.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from podium.client import AsyncClient
    from podium.runner import Runner
    from podium.transport import Transport

logger = logging.getLogger(__name__)

#: Seconds between two looks.
INTERVAL: Final = 60.0
#: Seconds by which a task may be later than its delay says.
SLACK: Final = 10.0
#: Queues that are asked for in one request, and waiting tasks of a type that are looked at.
_QUEUES: Final = 50
_TASKS: Final = 10
#: A queue that was last polled so many milliseconds before ours has no worker.
_ABSENT: Final = 60_000
#: Searches at the begin of an idle worker's life, though its own queue is empty: its tasks may be in another one.
_SEARCHES: Final = 2
#: Names that need no quotes in a query.
_PLAIN: Final = re.compile(r"[\w.\-]+")


class Found(Wire):
    """A page of tasks."""

    results: list[Task] = field(default_factory=list)


class _Sighting(NamedTuple):
    """Since when a task was seen waiting, in monotonic seconds, and what shows that it has not been touched since."""

    since: float
    marks: tuple[int, int]


class SelfCheck:
    """Looks once a minute, for all workers of a handler; an idle server gets one request for that.

    ``runners`` gives those that run. A server that refuses to tell is not asked again.
    """

    def __init__(self, client: AsyncClient, transport: Transport, runners: Callable[[], Iterable[Runner]]) -> None:
        self._client = client
        self._transport = transport
        self._runners = runners
        self._sightings: dict[str, _Sighting] = {}
        #: How often each runner's tasks were searched for.
        self._searched: dict[Runner, int] = {}
        #: Runners of which something was said, until they are handed tasks.
        self._told: set[Runner] = set()

    async def run(self) -> None:
        """Look until cancelled, or until the server refuses."""
        while True:
            await asyncio.sleep(INTERVAL)
            try:
                await self.look()
            except ApiError as error:
                logger.debug("the look at the queues failed: %s", error)
                if not error.retryable:
                    return
            except PodiumError as error:
                logger.debug("the look at the queues failed: %s", error)

    async def look(self) -> None:
        """Look once; raises what the requests raise."""
        runners = list(self._runners())
        now = time.monotonic()
        idle = [runner for runner in runners if _is_idle(runner, now)]
        self._note_the_busy(set(runners) - set(idle))
        sizes = await self._sizes(sorted({_queue_of(runner) for runner in idle}))
        seen: set[str] = set()
        for runner in idle:
            waiting = sizes.get(_queue_of(runner), 0)
            searched = self._searched.get(runner, 0)
            if runner in self._told or not (waiting or searched < _SEARCHES):
                continue
            self._searched[runner] = searched + 1
            tasks = await self._waiting(runner.worker.task_definition_name)
            seen.update(task.task_id for task in tasks)
            proven = [task for task in tasks if self._is_left(task, runner, now)]
            await self._tell(runner, waiting, proven, runners)
        self._sightings = {task_id: known for task_id, known in self._sightings.items() if task_id in seen}

    def _note_the_busy(self, busy: set[Runner]) -> None:
        for runner in self._told & busy:
            self._told.remove(runner)
            if runner.running:
                logger.info("worker %r is handed tasks again", runner.worker.task_definition_name)

    async def _sizes(self, queues: list[str]) -> dict[str, int]:
        sizes: dict[str, int] = {}
        for start in range(0, len(queues), _QUEUES):
            sizes |= await self._client.get_queue_sizes(queues[start : start + _QUEUES])
        return sizes

    async def _waiting(self, task_type: str) -> list[Task]:
        """Return tasks of a type that wait to be polled, in whatever queue, the oldest first."""
        if not _PLAIN.fullmatch(task_type):
            return []
        query = f"taskType={task_type} AND status=SCHEDULED"
        response = await self._transport.request(
            "GET", "/tasks/search-v2", query={"query": query, "size": _TASKS, "sort": "scheduledTime:ASC"}
        )
        found = decoded(response, Found).results
        return [task for task in found if task.status == "SCHEDULED" and task.task_type == task_type]

    def _is_left(self, task: Task, runner: Runner, now: float) -> bool:
        """Note a waiting task; return whether it could have been handed out since long."""
        marks = (task.poll_count, task.update_time)
        known = self._sightings.get(task.task_id)
        if known is None or known.marks != marks:
            self._sightings[task.task_id] = _Sighting(now, marks)
            return False
        return not _is_limited(task) and now - max(known.since, runner.idle_since) >= _delay_of(task) + SLACK

    async def _tell(self, runner: Runner, waiting: int, proven: list[Task], runners: list[Runner]) -> None:
        ours = [task for task in proven if (task.domain or None) == runner.worker.domain]
        if ours:
            self._told.add(runner)
            self._tell_of_queue(runner, waiting, ours[0])
            return
        polled = {(other.worker.task_definition_name, other.worker.domain) for other in runners}
        elsewhere = [task for task in proven if (task.task_type, task.domain or None) not in polled]
        if elsewhere and await self._is_unpolled(elsewhere[0], runner):
            self._told.add(runner)
            self._tell_of_domain(runner, elsewhere[0])

    def _tell_of_queue(self, runner: Runner, waiting: int, task: Task) -> None:
        now = time.monotonic()
        logger.error(
            "worker %r is handed nothing, and work waits: its queue %r holds %d tasks, %d of %d slots are free, polls "
            "have been answered without a task for %.0f s, the last %.1f s ago; task %s of workflow %s is due for more "
            "than %.0f s. The server's queue may be out of order, or what is polled and what is searched are not the "
            "same server",
            runner.worker.task_definition_name, _queue_of(runner), waiting, runner.slots - runner.running, runner.slots,
            now - runner.idle_since, now - runner.last_poll, printable(task.task_id),
            printable(task.workflow_instance_id), now - self._sightings[task.task_id].since,
        )  # fmt: skip

    def _tell_of_domain(self, runner: Runner, task: Task) -> None:
        where = f"in domain {task.domain!r}" if task.domain else "without a domain"
        polls = f"in domain {runner.worker.domain!r}" if runner.worker.domain else "without a domain"
        logger.warning(
            "worker %r is handed nothing, and work waits: task %s of workflow %s waits %s, where nobody polls; this "
            "worker polls %s. Its option domain and the task_to_domain of the workflow's start do not fit",
            runner.worker.task_definition_name, printable(task.task_id), printable(task.workflow_instance_id),
            printable(where), polls,
        )  # fmt: skip

    async def _is_unpolled(self, task: Task, runner: Runner) -> bool:
        """Whether nobody polls the queue that a task is in, by the server's own clock."""
        last = {
            entry.domain or None: entry.last_poll_time for entry in await self._client.get_poll_data(task.task_type)
        }
        ours = last.get(runner.worker.domain, 0)
        return bool(ours) and last.get(task.domain or None, 0) < ours - _ABSENT


def _queue_of(runner: Runner) -> str:
    worker = runner.worker
    return f"{worker.domain}:{worker.task_definition_name}" if worker.domain else worker.task_definition_name


def _is_idle(runner: Runner, now: float) -> bool:
    """Whether a worker has polled for long without a break, with slots free, and was handed nothing."""
    may_poll = not (runner.paused or runner.stopping) and runner.running < runner.slots
    return may_poll and bool(runner.idle_since) and now - runner.idle_since >= INTERVAL - SLACK


def _delay_of(task: Task) -> float:
    """Return for how many seconds a task may be hidden, at most."""
    jitter = (task.task_definition or {}).get("backoffJitterMs") or 0
    return float(task.callback_after_seconds + task.start_delay_in_seconds + jitter / 1000)


def _is_limited(task: Task) -> bool:
    """Whether the server itself may hold a task back, or keeps it in a queue that is not known here."""
    limit = (task.task_definition or {}).get("concurrentExecLimit") or 0
    return bool(task.rate_limit_per_frequency or limit or task.isolation_group_id or task.execution_name_space)
