"""A look at the server while a worker has nothing to do: whether work waits that nobody hands to it.

That a queue is not empty proves nothing: the server counts tasks whose time has not come, such as retries. So an error
needs a worker that does not poll although the server answers, or a task that was found waiting at two looks, unchanged,
for longer than any delay that it has, while polls brought nothing. No clock of the server is compared with one of ours.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import Counter
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
_MOST_SIGHTINGS: Final = 1000
#: Seconds by which a task may be later than its delay says.
SLACK: Final = 10.0
#: Queues that are asked for in one request, and waiting tasks of a type that are looked at.
_QUEUES: Final = 50
_TASKS: Final = 10
#: A queue that was last polled so many milliseconds before ours has no worker.
_ABSENT: Final = 60_000
#: Looks at the begin of an idle worker's life at all queues, though its own is empty: its tasks may be in another one.
_LOOKS_ELSEWHERE: Final = 2
#: Looks at which tasks waited, until that is worth a line.
_WAITS: Final = 10
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
        #: Tasks that were found waiting, by id.
        self._sightings: dict[str, _Sighting] = {}
        #: At how many looks in a row a worker was idle and its queue was not empty.
        self._waits: Counter[Runner] = Counter()
        #: How often a worker's tasks were looked for in other queues, and where some were the first time.
        self._looks: Counter[Runner] = Counter()
        self._elsewhere: set[tuple[Runner, str]] = set()
        #: Workers of which something was said, until that has changed.
        self._told: set[Runner] = set()

    async def run(self) -> None:
        """Look until cancelled, or until the server refuses."""
        while True:
            await asyncio.sleep(INTERVAL)
            try:
                await self.look()
            except PodiumError as error:
                logger.debug("the look at the queues failed: %s", error)
                if isinstance(error, ApiError) and not error.retryable:
                    return

    async def look(self) -> None:
        """Look once; raises what the requests raise."""
        now = time.monotonic()
        runners = [runner for runner in self._runners() if _has_room(runner)]
        idle = {runner for runner in runners if _is_idle(runner, now)}
        deaf = {runner for runner in runners if runner.deaf_for > runner.poll_window + INTERVAL}
        self._forget_all_but(idle | deaf)
        sizes = await self._sizes(sorted({_queue_of(runner) for runner in idle | deaf}))
        waiting = {
            runner: sizes.get(_queue_of(runner), 0) for runner in runners if runner in (idle | deaf) - self._told
        }
        for runner, size in waiting.items():
            if runner in deaf and size:
                self._tell_of_deafness(runner, size)
        for runner, size in waiting.items():
            if runner in idle and size:
                await self._look_into_queue(runner, size, now)
        lonely = [runner for runner, size in waiting.items() if runner in idle and not size]
        if lonely := [runner for runner in lonely if self._looks[runner] < _LOOKS_ELSEWHERE]:
            await self._look_elsewhere(lonely)

    def _forget_all_but(self, kept: set[Runner]) -> None:
        for runner in self._told - kept:
            logger.info("worker %r: the trouble with its queue is over", runner.worker.task_definition_name)
        self._told &= kept
        self._waits = Counter({runner: count for runner, count in self._waits.items() if runner in kept})
        if not kept or len(self._sightings) > _MOST_SIGHTINGS:
            self._sightings.clear()

    async def _sizes(self, queues: list[str]) -> dict[str, int]:
        sizes: dict[str, int] = {}
        for start in range(0, len(queues), _QUEUES):
            sizes |= await self._client.get_queue_sizes(queues[start : start + _QUEUES])
        return sizes

    # tasks in the worker's own queue

    async def _look_into_queue(self, runner: Runner, size: int, now: float) -> None:
        """Complain if a task in the queue is due for long; else say, some time, that there may be a reason."""
        self._waits[runner] += 1
        tasks = [task for task in await self._waiting(runner.worker.task_definition_name) if _is_of(task, runner)]
        due = [task for task in tasks if self._is_left(task, runner, now)]
        if due:
            self._told.add(runner)
            logger.error(
                "worker %r is handed nothing, and work waits: %s; task %s of workflow %s is due for more than %.0f s. "
                "The server's queue may be out of order, or its addresses lead to servers that do not share it",
                runner.worker.task_definition_name, _facts(runner, size), printable(due[0].task_id),
                printable(due[0].workflow_instance_id), now - self._sightings[due[0].task_id].since,
            )  # fmt: skip
        elif self._waits[runner] == _WAITS:
            logger.info(
                "worker %r is handed nothing: %s; that is as it should be if they are to wait, for a retry, a callback "
                "or a limit",
                runner.worker.task_definition_name, _facts(runner, size),
            )  # fmt: skip

    async def _waiting(self, task_type: str) -> list[Task]:
        """Return tasks of a type that wait to be polled, the oldest first, as far as the server has them indexed."""
        if not _PLAIN.fullmatch(task_type):
            return []
        query = f"taskType={task_type} AND status=SCHEDULED"
        response = await self._transport.request(
            "GET", "/tasks/search-v2", query={"query": query, "size": _TASKS, "sort": "scheduledTime:ASC"}
        )
        return decoded(response, Found).results

    def _is_left(self, task: Task, runner: Runner, now: float) -> bool:
        """Note a waiting task; return whether it could have been handed out since long."""
        marks = (task.poll_count, task.update_time)
        known = self._sightings.get(task.task_id)
        if known is None or known.marks != marks:
            self._sightings[task.task_id] = _Sighting(now, marks)
            return False
        return not _is_limited(task) and now - max(known.since, runner.idle_since) >= _delay_of(task) + SLACK

    # tasks in another queue

    async def _look_elsewhere(self, lonely: list[Runner]) -> None:
        """Complain of tasks of a worker's type in a queue where nobody polls, if they are there at two looks."""
        sizes = decoded(await self._transport.request("GET", "/tasks/queue/all"), dict[str, int])
        polled = {_queue_of(runner) for runner in self._runners()}
        filled = [name for name, size in sizes.items() if size and name not in polled]
        for runner in lonely:
            self._looks[runner] += 1
            for name in filled:
                if name.rpartition(":")[2] == runner.worker.task_definition_name:
                    if (runner, name) in self._elsewhere and await self._is_unpolled(name, runner):
                        self._told.add(runner)
                        self._tell_of_domain(runner, name, sizes[name])
                    self._elsewhere.add((runner, name))

    async def _is_unpolled(self, queue: str, runner: Runner) -> bool:
        """Whether nobody polls a queue, by the server's own clock."""
        polls = await self._client.get_poll_data(runner.worker.task_definition_name)
        last = {entry.domain or None: entry.last_poll_time for entry in polls}
        ours = last.get(runner.worker.domain, 0)
        return bool(ours) and last.get(queue.rpartition(":")[0] or None, 0) < ours - _ABSENT

    def _tell_of_domain(self, runner: Runner, queue: str, size: int) -> None:
        domain = queue.rpartition(":")[0]
        logger.warning(
            "worker %r is handed nothing, and work waits where nobody polls: %d tasks %s; this worker polls %s. Its "
            "option domain and the task_to_domain that workflows are started with do not fit",
            runner.worker.task_definition_name, size, printable(_domain_in_words(domain)),
            _domain_in_words(runner.worker.domain),
        )  # fmt: skip

    # a worker that does not poll

    def _tell_of_deafness(self, runner: Runner, size: int) -> None:
        self._told.add(runner)
        why = f"polls fail: {runner.poll_failure}" if runner.poll_failure else "no poll is answered, and none fails"
        logger.error(
            "worker %r takes nothing, and work waits: %s; the server answers, but %s",
            runner.worker.task_definition_name, _facts(runner, size), why,
        )  # fmt: skip


def _facts(runner: Runner, size: int) -> str:
    last = f"{time.monotonic() - runner.last_poll:.1f} s ago" if runner.last_poll else "never"
    free = f"{runner.slots - runner.running} of {runner.slots} slots are free"
    idle = f"{time.monotonic() - runner.idle_since:.0f} s without a task, " if runner.idle_since else ""
    return f"{size} tasks are in its queue {_queue_of(runner)!r}, {free}, {idle}the last poll was answered {last}"


def _domain_in_words(domain: str | None) -> str:
    return f"in domain {domain!r}" if domain else "without a domain"


def _queue_of(runner: Runner) -> str:
    worker = runner.worker
    return f"{worker.domain}:{worker.task_definition_name}" if worker.domain else worker.task_definition_name


def _has_room(runner: Runner) -> bool:
    """Whether a worker has every reason to poll."""
    return not (runner.paused or runner.stopping) and runner.free > 0


def _is_idle(runner: Runner, now: float) -> bool:
    """Whether a worker has polled for long without a break, and was handed nothing."""
    return bool(runner.idle_since) and now - runner.idle_since >= INTERVAL - SLACK


def _is_of(task: Task, runner: Runner) -> bool:
    """Whether a task waits in a worker's queue: a server that does not know the search's fields returns everything."""
    worker = runner.worker
    fits = task.task_type == worker.task_definition_name and (task.domain or None) == worker.domain
    return fits and task.status == "SCHEDULED"


def _delay_of(task: Task) -> float:
    """Return for how many seconds a task may be hidden, at most."""
    jitter = (task.task_definition or {}).get("backoffJitterMs")
    if not isinstance(jitter, int):  # the server may keep anything there
        jitter = 0
    return float(task.callback_after_seconds + task.start_delay_in_seconds + jitter / 1000)


def _is_limited(task: Task) -> bool:
    """Whether the server itself may hold a task back, or keeps it in a queue that is not known here."""
    limit = (task.task_definition or {}).get("concurrentExecLimit") or 0
    return bool(task.rate_limit_per_frequency or limit or task.isolation_group_id or task.execution_name_space)
