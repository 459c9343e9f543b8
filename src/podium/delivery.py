"""Reporting results: which call, how often, and what to do when the server does not take one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Final

from podium.announcer import Announcer
from podium.backoff import Backoff
from podium.discovery import counted
from podium.endings import Endings
from podium.errors import CutError, NotFoundError, PodiumError, SupersededError
from podium.frames import Cause
from podium.logs import Repeats
from podium.models import TaskResultStatus
from podium.outbox import LOOK_AGAIN, InThread, Outbox
from podium.polled import failure, ids_of
from podium.redelivery import LONGEST_WISH, Redelivery
from podium.trouble import SharedTrouble
from podium.updates import Updates, may_have_arrived, may_heal
from podium.waiting import Waiting, Watch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from podium.client import AsyncClient
    from podium.events import EventDispatcher
    from podium.frames import Outcome
    from podium.lease import LeaseKeeper
    from podium.polled import PolledTask
    from podium.spool import Spool

logger = logging.getLogger(__name__)

#: Seconds before the second, third and fourth attempt to send a result.
UPDATE_RETRY_DELAYS: Final = (10.0, 20.0, 30.0)
#: At the end: how often to look whether all is done, and the seconds that each last step has in any case.
_LOOK: Final = 0.01
_LAST_WRITES: Final = 1.0


class Delivery:
    """Sends results until the server has them. One for all runners of an engine.

    What is not taken at once waits on disk, or in memory if there is no ``spool``, and its worker's slot is free.
    ``run`` sees to what waits; ``hurry`` and ``finish`` end it.
    """

    def __init__(
        self,
        client: AsyncClient,
        events: EventDispatcher,
        retry_delays: Sequence[float] = UPDATE_RETRY_DELAYS,
        *,
        leases: LeaseKeeper | None = None,
        spool: Spool | None = None,
        watch: Watch | None = None,
        in_thread: InThread | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._retry_delays = tuple(retry_delays)
        self._leases = leases
        self._watch = watch or Watch()
        self._updates = Updates(client)
        #: What became of every task that was reported or given back.
        self.endings = Endings()
        #: Results that came too late, and those that the server refused.
        self.superseded = self.refused = 0
        self._outbox = Outbox(spool, self._watch, in_thread)
        self._redelivery = Redelivery(client, self._outbox, self._retry_delays, self._attempt, self._missed)
        self._hurry = asyncio.Event()
        self._announcer = Announcer(events, self._watch, self._outbox)
        self._repeats = Repeats()
        self._trouble = SharedTrouble(
            logger, "task %s: the server did not take the update, %s", "updates that had failed are taken again"
        )

    @property
    def waiting(self) -> int:
        """How many results wait for the server."""
        return len(self._outbox)

    def holds(self, task_id: str) -> bool:
        """Whether a result of that task waits for the server; its lease is kept here."""
        return self._outbox.holds(task_id)

    def lets_pass(self, task_id: str) -> bool:
        """Whether a task that the server has handed out may run: not if its result waits, unless that was interim.

        What is handed out again after an interim result means that the server has that; its answer was lost, or is on
        its way. To send it again would take the task out of the hands that hold it now.
        """
        entry = self._outbox.of_task(task_id)
        if entry is None:
            return True
        if entry.status != TaskResultStatus.IN_PROGRESS:
            return False
        self._let_go(entry)
        self.endings.finished += 1
        self._trouble.worked(task_id)
        return True

    def note_answer(self, status: int) -> None:
        """Note that the server has answered a request of anybody, with that HTTP status (0 for no answer)."""
        if 200 <= status < 300:
            self._redelivery.answered()

    async def run(self) -> None:
        """Open the spool, take over what earlier processes have left, and deliver what waits, until cancelled."""
        await self._outbox.open()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._redelivery.run())
            group.create_task(self._keep_taking_over())

    def hurry(self) -> None:
        """Let each result that waits have its last attempt: the engine is about to stop."""
        self._hurry.set()
        self._redelivery.hurry()

    async def finish(self, patience: float) -> None:
        """See the last attempts through, for at most so many seconds; what is left waits on disk, or is lost.

        Call ``hurry`` first. It ends ``run``.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience
        while self._redelivery.busy and loop.time() < deadline:  # noqa: ASYNC110 - once in an engine's life
            await asyncio.sleep(_LOOK)
        # What the server has not answered by now is kept: a result must not end with the request that carries it.
        await self._updates.break_off(_LAST_WRITES)
        await self._redelivery.stop()
        try:
            async with asyncio.timeout(max(deadline - loop.time(), _LAST_WRITES)):
                await self._outbox.flush()
                await self._announcer.flush()
        except TimeoutError:
            logger.error("the disk does not answer: results may not be written")  # noqa: TRY400
        self._count_left()
        with contextlib.suppress(TimeoutError):  # a disk that hangs must not hold up the end; its lock ends with us
            async with asyncio.timeout(_LAST_WRITES):
                await self._outbox.close()

    def _count_left(self) -> None:
        left = list(self._outbox)
        lost = [entry for entry in left if entry.name is None]
        for entry in lost:
            if entry.body is not None:
                self._announcer.not_delivered(entry, entry.body, entry.problem)
        spooled = len(left) - len(lost)
        self.endings.spooled += spooled
        self.endings.lost += len(lost)
        if lost:
            tasks = ", ".join(f"{entry.task.task_id} ({entry.task_type})" for entry in lost)
            logger.critical("lost, neither delivered nor kept: the results of %s: %s", tasks, lost[0].problem)
        if spooled:
            text = "left on disk for the next start, or podium spool resend: %s"
            logger.warning(text, counted(spooled, "result"))

    async def report(
        self, task_type: str, worker_id: str, task: PolledTask, outcome: Outcome, *, want_next: bool
    ) -> bytes | None:
        """Send a result; return the next task's JSON if ``want_next`` and the server handed one out.

        Returns when the server has the result or refuses it for good, or when it is held safely; what is held is
        sent again until either is so. Does not raise.
        """
        begun = self._loop.time()
        body = outcome.body
        if outcome.surplus_logs:
            body = await self._updates.send_surplus_logs(task.task_id, outcome)
        problem = self._redelivery.forbidden
        if problem is None:
            try:
                next_task = await self._updates.send_first(body, want_next=want_next)
            except PodiumError as error:
                problem = error
            else:
                self._acknowledged(task_type, worker_id, task, begun)
                return next_task
        entry = Waiting(
            task=task, task_type=task_type, worker_id=worker_id, status=outcome.status, body=body, size=len(body),
            problem=problem, attempts=0, created=time.time(), begun=begun, since=begun - outcome.duration,
        )  # fmt: skip
        if self._redelivery.forbidden is problem:
            await self._hold(entry, at_once=False)
        else:
            await self._after_failure(entry, problem)
        return None

    async def _after_failure(self, entry: Waiting, error: PodiumError) -> None:
        """Do what a failed attempt asks for: hold the result for the next one, or end it."""
        entry.problem = _bare(error)
        entry.attempts += 1
        if not may_heal(error):
            await self._end_refused(entry, entry.problem)
            return
        # Most often an idle connection that the server had closed: the next is fresh.
        at_once = isinstance(error, CutError) and entry.attempts == 1
        if not at_once:
            self._trouble.failed(entry.task.task_id, f"it is sent again: {error}")
            self._redelivery.failed(entry.problem)
        await self._hold(entry, at_once=at_once)

    async def _hold(self, entry: Waiting, *, at_once: bool) -> None:
        """Hold a result, and return when its worker's slot may go."""
        entry.task.forget_input()
        if self._leases is not None:
            self._leases.keep(entry.task)
        self._outbox.hold(entry)
        self._schedule(entry, at_once=at_once)
        await entry.released.wait()

    def _schedule(self, entry: Waiting, *, at_once: bool = False) -> None:
        self._redelivery.add(entry, at_once=at_once)
        if entry.missed > len(self._retry_delays) and not entry.told:
            entry.told = True
            often = self._repeats.due("undelivered")
            if often is not None:
                logger.error(
                    "the result of task %s (%s) was not delivered in %d attempts, and is kept; so is every other, "
                    "until the server takes them: %s%s",
                    entry.task.task_id, entry.task_type, entry.attempts, entry.problem, often,
                )  # fmt: skip
            self._announcer.not_delivered_yet(entry)

    def _missed(self, entry: Waiting, error: PodiumError) -> None:
        """Count an attempt that nobody has to make, because another one has just shown that it is in vain."""
        entry.problem = error
        entry.attempts += 1
        self._schedule(entry)

    async def _attempt(self, entry: Waiting) -> None:
        """Send a result that waits."""
        try:
            verdict = await self._updates.look(entry) if self._may_be_late(entry) else None
            if verdict is None:
                body = await self._outbox.body_of(entry)
                if entry.settled:
                    return
                if body is None:
                    self._let_go(entry)
                    self._trouble.forget(entry.task.task_id)
                    self.endings.lost += 1
                    return
                await self._updates.send(body, want_next=False)
        except PodiumError as error:
            if not entry.settled:
                await self._after_failed_again(entry, error)
            return
        if entry.settled:  # its task was handed out again meanwhile: ``lets_pass``
            return
        if isinstance(verdict, SupersededError):
            await self._end_superseded(entry, verdict)
            return
        self._redelivery.worked(waited=True)
        self._let_go(entry)
        self._acknowledged(entry.task_type, entry.worker_id, entry.task, entry.begun)

    @staticmethod
    def _may_be_late(entry: Waiting) -> bool:
        """Whether the server may have given the task up by now, or, after an interim result, to somebody else."""
        timeout = entry.task.head.response_timeout_seconds
        if entry.adopted or entry.status is TaskResultStatus.IN_PROGRESS:
            return True
        return 0 < timeout <= asyncio.get_running_loop().time() - entry.since

    async def _after_failed_again(self, entry: Waiting, error: PodiumError) -> None:
        entry.problem = _bare(error)
        entry.attempts += 1
        if not may_heal(error):
            await self._end_refused(entry, entry.problem)
            return
        self._trouble.failed(entry.task.task_id, f"it is sent again: {error}")
        self._redelivery.failed(entry.problem)
        self._schedule(entry)
        await self._outbox.save_again(entry)

    async def _end_superseded(self, entry: Waiting, reason: SupersededError) -> None:
        """Put a result away that nobody waits for any more."""
        self._redelivery.worked(waited=True)
        body = await self._outbox.body_of(entry)
        kept = await self._outbox.settle_superseded(entry, body, str(reason))
        self._release_lease(entry)
        self._trouble.forget(entry.task.task_id)
        self.superseded += 1
        self.endings.finished += 1
        self._watch.on_superseded(entry.task_type)
        where = "; podium spool list shows it" if kept else ""
        often = self._repeats.due("superseded")
        if often is not None:
            text = "nobody waits for the result of task %s any more: %s%s%s"
            logger.warning(text, entry.task.task_id, reason, where, often)
        if body is not None and not entry.told:
            self._announcer.not_delivered(entry, body, reason)

    async def _end_refused(self, entry: Waiting, error: PodiumError) -> None:
        """End a result that the server will never take."""
        if isinstance(error, NotFoundError):
            # The workflow was removed or restarted while the task ran.
            await self._end_superseded(entry, SupersededError(str(error)))
            return
        self.refused += 1
        body = await self._outbox.body_of(entry)
        self._let_go(entry)
        self._trouble.forget(entry.task.task_id)
        if entry.is_last_word:
            self.endings.lost += 1
            logger.error("task %s could not even be failed: %s", entry.task.task_id, error)
            return
        logger.error("the server refused the result of task %s: %s", entry.task.task_id, error)
        if body is not None and not entry.told:
            self._announcer.not_delivered(entry, body, error)
        cause = Cause("ResultRefused", f"the server refused the result: {error}")
        small = failure(ids_of(entry.task), 0, entry.worker_id, cause, terminal=True)
        last = Waiting(
            task=entry.task, task_type=entry.task_type, worker_id=entry.worker_id, status=small.status,
            body=small.body, size=len(small.body), problem=error, attempts=0, created=entry.created,
            begun=entry.begun, since=entry.since, told=True, is_last_word=True,
        )  # fmt: skip
        try:
            await self._updates.send_first(small.body, want_next=False)
        except PodiumError as again:
            await self._after_failure(last, again)
        else:
            self.endings.finished += 1

    def _let_go(self, entry: Waiting) -> None:
        self._outbox.settle(entry)
        self._release_lease(entry)

    def _release_lease(self, entry: Waiting) -> None:
        if self._leases is not None:
            self._leases.release(entry.task)

    def _acknowledged(self, task_type: str, worker_id: str, task: PolledTask, begun: float) -> None:
        self.endings.finished += 1
        self._trouble.worked(task.task_id)
        self._redelivery.worked(waited=False)
        self._announcer.delivered(task_type, worker_id, task, self._loop.time() - begun)

    async def _keep_taking_over(self) -> None:
        """Deliver what processes of this host have left that have ended: at once, and then at intervals."""
        while not self._hurry.is_set():
            for entry in await self._outbox.take_over():
                if self._leases is not None:
                    self._leases.keep(entry.task)
                self._redelivery.add(entry, at_once=True)
            await self._pause(LOOK_AGAIN)

    async def give_back(self, task: PolledTask, worker_id: str) -> None:
        """Put a task back into its queue. Its code must not be running any more: the server will hand it out."""
        attempts = pauses = 0
        unsure = False
        while True:
            attempts += 1
            try:
                if not (unsure and await self._updates.gave_back(task, worker_id)):
                    await self._updates.give_back(task, worker_id)
            except PodiumError as error:
                problem = error
                unsure = unsure or may_have_arrived(error)
                if isinstance(error, CutError) and attempts == 1:
                    continue
                if not may_heal(error) or pauses >= len(self._retry_delays) or self._hurry.is_set():
                    break
                wish = getattr(error, "retry_after", None) or 0.0
                delay = max(self._retry_delays[pauses], min(wish, LONGEST_WISH))
                self._trouble.failed(task.task_id, f"next try in {delay:.0f} s: {error}")
                await self._pause(Backoff(delay, delay, jitter=0.2).delay(1))
                pauses += 1
            else:
                self._trouble.worked(task.task_id)
                self.endings.handed_back += 1
                return
        self._trouble.forget(task.task_id)
        if isinstance(problem, NotFoundError) and problem.means_task:
            self.endings.finished += 1
            logger.info("task %s is not given back, as the server knows it no more: %s", task.task_id, problem)
            return
        self.endings.lost += 1
        logger.warning(
            "task %s could not be given back (%s); the server takes it back after its response timeout",
            task.task_id, problem,
        )  # fmt: skip

    async def _pause(self, delay: float) -> None:
        try:
            async with asyncio.timeout(delay):
                await self._hurry.wait()
        except TimeoutError:
            return


def _bare(error: PodiumError) -> PodiumError:
    """Return an error without its traceback: that would hold on to the result, for as long as it waits."""
    error.__context__ = error.__cause__ = None
    return error.with_traceback(None)
