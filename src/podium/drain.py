"""The drain: from the request to stop to the last report, phase by phase, and what became of each task."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from podium.discovery import counted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from podium.delivery import Delivery
    from podium.endings import Endings
    from podium.runner import Runner

logger = logging.getLogger(__name__)

#: Who has asked for the end if nobody has: podium itself failed.
FAILURE: Final = "a failure of podium"
#: Seconds beyond its long-poll time after which an open poll is given up: a server that hangs must not cost the grace.
_POLL_ANSWER: Final = 5.0
#: After the grace period: when the last result or give-back must have reached the server, if it does not answer; and
#: if it does answer, slowly. Kubernetes kills 30 s after the signal, which is 5 s after the default grace.
_LAST_REPORTS: Final = 1.8
_LAST_REPORTS_AT_MOST: Final = 5.0
#: A server that has answered within so many seconds is one that answers.
_ANSWERS: Final = 0.7
#: How late, in the worst case, a shortened grace period is noticed.
_LATENCY: Final = 0.1


@dataclass(frozen=True, kw_only=True)
class DrainReport:
    """What became of the tasks in hand when the workers were stopped; each is in exactly one of the counts.

    reason
        Who asked for the stop: "SIGTERM", "SIGINT", "stop_processes()", "the end of the program", "no worker is left",
        or "a failure of podium".
    finished
        Tasks whose result was delivered, or whom the server had cancelled or given up, so that it wants none.
    handed_back
        Tasks that were given back to the server: those of polls that were open, and those that the grace period was
        too short for. It costs them no retry.
    spooled
        Tasks whose result waits on disk for the next start.
    lost
        Tasks that the server was told nothing about, because it did not answer: it takes them back after their response
        timeout.
    abandoned
        Tasks whose plain function goes on in a thread of this process, which nobody can stop.
    seconds
        From the request to stop until all of that was settled.
    """

    reason: str
    finished: int = 0
    handed_back: int = 0
    spooled: int = 0
    lost: int = 0
    abandoned: int = 0
    seconds: float = 0.0

    @property
    def clean(self) -> bool:
        """Whether every task has an end that does not wait for a timeout."""
        return not (self.lost or self.abandoned)


class StopRequests:
    """Who has asked for the end, and for when. Takes no lock: a signal handler may interrupt another one."""

    def __init__(self) -> None:
        #: (when it was asked, when the grace period is to end, by whom); appending is atomic.
        self._requests: list[tuple[float, float, str]] = []

    def __bool__(self) -> bool:
        return bool(self._requests)

    def add(self, grace: float, by: str) -> None:
        """Ask for the end, ``grace`` seconds from now at the latest."""
        now = time.monotonic()
        self._requests.append((now, now + grace, by))

    @property
    def begun(self) -> float:
        """When the end was first asked for; now if nobody has asked."""
        return self._requests[0][0] if self._requests else time.monotonic()

    @property
    def deadline(self) -> float:
        """When the grace period ends: the nearest of all that were asked for; at once if podium itself failed."""
        return min((deadline for _, deadline, _ in self._requests), default=self.begun)

    @property
    def by(self) -> str:
        """Who was the first to ask."""
        return self._requests[0][2] if self._requests else FAILURE

    @property
    def shortened_by(self) -> str | None:
        """Who was the first to bring the end nearer; None if nobody did."""
        return next((by for _, deadline, by in self._requests[1:] if deadline < self._requests[0][1]), None)

    def time_left(self, most: float) -> float:
        """Return how many seconds something at the very end may take, so that all has ended soon after the grace."""
        return min(most, max(0.2, self.deadline + _LAST_REPORTS - time.monotonic()))

    def report(self) -> DrainReport:
        """Return the report of an engine that was stopped before any task was in hand."""
        return DrainReport(reason=self.by, seconds=round(time.monotonic() - self.begun, 3))


class Drain:
    """Ends runners: lets tasks finish until the deadline, stops the crews, and gives back the rest."""

    def __init__(
        self,
        requests: StopRequests,
        runners: Collection[Runner],
        polls: Callable[[], Collection[asyncio.Task[None]]],
        delivery: Delivery,
        stop_crews: Callable[[], Awaitable[None]],
    ) -> None:
        self._requests = requests
        self._runners = runners
        self._polls = polls
        self._delivery = delivery
        self._stop_crews = stop_crews
        self._begun = requests.begun
        self._said_shortened = False

    async def run(self) -> DrainReport:
        """Go through all phases, with a log line for each, and say what became of the tasks."""
        before = self._delivery.endings.copy()
        for runner in self._runners:
            runner.stop()
        logger.info("stop asked by %s: nothing is polled any more, %d tasks are in hand", self._requests.by, self._held)
        await self._await_polls()
        if self._held and (remaining := self._requests.deadline - time.monotonic()) > 0:
            logger.info("waiting for %d tasks, up to %.1f s", self._held, remaining)
        await self._settled(lambda: self._requests.deadline)
        if self._held:
            logger.info("the grace period is over: %s in hand: stopped, to be handed back", counted(self._held, "task"))
        self._delivery.hurry()
        await self._stop_crews()
        last = self._last_moment()
        await self._settled(last, with_polls=True)
        await self._delivery.finish(max(0.0, last() - time.monotonic()))
        return await self._give_up(before)

    async def _give_up(self, before: Endings) -> DrainReport:
        """End what has not come to its end by itself, and say what became of every task."""
        if unanswered := self._open_polls():
            polls = counted(len(unanswered), "poll")
            logger.warning("never answered: %s; tasks that the server has given there wait for their timeout", polls)
        if works := self._works():  # those whose result is safe now need no more than a turn of the loop
            await asyncio.wait(works, timeout=_LATENCY)
        left = [
            task_id
            for runner in self._runners
            for task_id in runner.task_ids
            if not self._delivery.holds(task_id)  # it is counted where it is held
        ]
        held = sum(self._delivery.holds(task_id) for runner in self._runners for task_id in runner.task_ids)
        self._delivery.endings.lost += self._held - held
        for task in {*self._works(), *unanswered}:
            task.cancel()
        return self._report(left, before)

    def _report(self, left: list[str], before: Endings) -> DrainReport:
        endings = self._delivery.endings.since(before)
        report = DrainReport(
            reason=self._requests.by,
            seconds=round(time.monotonic() - self._begun, 3),
            **msgspec.structs.asdict(endings),
        )
        logger.log(
            logging.INFO if report.clean else logging.ERROR,
            "results: %d delivered, %d spooled; %d tasks handed back, %d lost, %d abandoned",
            report.finished, report.spooled, report.handed_back, report.lost, report.abandoned,
        )  # fmt: skip
        if left:
            logger.error("neither finished nor given back: %s", ", ".join(left))
        logger.info("stopped in %.1f s", report.seconds)
        return report

    @property
    def _held(self) -> int:
        return sum(runner.held for runner in self._runners)

    def _works(self) -> set[asyncio.Task[None]]:
        return {work for runner in self._runners for work in runner.works}

    def _open_polls(self) -> list[asyncio.Task[None]]:
        return [poll for poll in self._polls() if not poll.done()]

    async def _await_polls(self) -> None:
        """Wait for the open polls: what they answer is ours already, and goes back as it comes."""
        longest = max((runner.worker.options.poll_timeout for runner in self._runners), default=0) / 1000
        given_up = self._begun + longest + _POLL_ANSWER
        while polls := self._open_polls():
            if not await self._wait(polls, min(given_up, self._requests.deadline)):
                return
        logger.info("polling has ended")

    async def _settled(self, deadline: Callable[[], float], *, with_polls: bool = False) -> None:
        """Wait until no task is in hand, at most until a deadline that may move meanwhile."""
        while pending := {*self._works(), *(self._open_polls() if with_polls else ())}:
            if not await self._wait(pending, deadline()):
                return

    async def _wait(self, pending: Collection[asyncio.Task[None]], deadline: float) -> bool:
        """Wait a little for something to end; False if the deadline has passed."""
        shortened = self._requests.shortened_by
        if shortened is not None and not self._said_shortened:
            self._said_shortened = True
            logger.info("stop asked again by %s: the grace period ends now", shortened)
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            return False
        await asyncio.wait(pending, timeout=min(remaining, _LATENCY), return_when=asyncio.FIRST_COMPLETED)
        return True

    def _last_moment(self) -> Callable[[], float]:
        """Return what tells when the last reports are over: later while the server answers than when it does not."""
        now = time.monotonic()
        over = max(self._begun, min(self._requests.deadline, now))
        seen, moved = self._delivery.endings.total, now

        def moment() -> float:
            nonlocal seen, moved
            if self._delivery.endings.total != seen:
                seen, moved = self._delivery.endings.total, time.monotonic()
            return min(over + _LAST_REPORTS_AT_MOST, max(over + _LAST_REPORTS, moved + _ANSWERS))

        return moment
