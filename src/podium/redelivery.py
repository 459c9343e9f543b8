"""When waiting results are sent again: by a schedule, at once when the server is back, and never in a crowd."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import math
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

from podium.backoff import Backoff
from podium.errors import ApiError, AuthError, NotFoundError, PodiumError, TransportError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from podium.client import AsyncClient
    from podium.outbox import Outbox
    from podium.waiting import Waiting

logger = logging.getLogger(__name__)

#: Seconds of a server's Retry-After that are obeyed.
LONGEST_WISH: Final = 60.0
#: Updates under way at once after an outage; the first of them goes alone.
MOST_AT_ONCE: Final = 8
#: While the server is down: seconds between two looks whether it is back, the time that one may take, and the least
#: time between two updates.
PROBE_PAUSE: Final = 2.0
PROBE_PATIENCE: Final = 5.0
OUTAGE_PAUSE: Final = 2.0
#: The same for credentials that are refused: nothing heals that by itself, and a successful poll tells when it has.
REFUSED_PAUSE: Final = 10.0
#: A server that answers but takes no update is tried at once when it answers, then after 2, 4, 8 ... s.
FUTILE_BACKOFF: Final = Backoff(2.0, 30.0)
#: A result that alone was refused for now: 1, 2, 4 ... s, if the server takes others meanwhile.
OWN_BACKOFF: Final = Backoff(1.0, 30.0)
#: What these statuses say holds for every update: the server, or what stands before it, is not well.
_OUTAGE: Final = frozenset({401, 403, 429, 502, 503, 504})
_GATEWAY: Final = frozenset({502, 503, 504})


def is_outage(error: PodiumError) -> bool:
    """Whether no other update would have fared better."""
    astray = isinstance(error, NotFoundError) and not error.means_task
    return astray or isinstance(error, TransportError) or (isinstance(error, ApiError) and error.status in _OUTAGE)


class Redelivery:
    """Decides which waiting result is attempted when; ``attempt`` does it, and calls ``failed`` if it is in vain.

    Each result has a schedule: ``delays`` apart, and then as far as the last of them. A failure that every update
    would have met stands for all that are due. While the server is down, a small request at intervals asks whether it
    is back, and any answer that it gives to somebody else says so too: then everything goes at once, one first, at
    most eight at a time.
    """

    def __init__(
        self,
        client: AsyncClient,
        outbox: Outbox,
        delays: Sequence[float],
        attempt: Callable[[Waiting], Coroutine[Any, Any, None]],
        missed: Callable[[Waiting, PodiumError], None],
    ) -> None:
        self._client = client
        self._outbox = outbox
        self._delays = tuple(delays) or (LONGEST_WISH / 2,)
        self._attempt = attempt
        #: Called for each result that a failed attempt of another one stands for.
        self._missed = missed
        self._heap: list[tuple[float, int, Waiting]] = []
        self._counter = itertools.count()
        self._changed = asyncio.Event()
        #: What is being sent: an update of a waiting result, or a look whether the server is back.
        self._under_way: dict[asyncio.Task[None], Waiting | None] = {}
        #: Whether some result waits for a later time than this.
        self._some_later = False
        self._window = 1
        #: The failure that shows that the server is down; None while it is up.
        self._down: PodiumError | None = None
        #: No update before this time, by the server's own wish, or because the last one has just failed.
        self._not_before = -math.inf
        self._next_probe = math.inf
        #: Whether the server has answered since, and how often an update then failed all the same.
        self._answers = False
        self._futile = 0
        self._quiet_until = -math.inf
        #: Whether each result has its last attempt.
        self.hurried = False
        self._stopped = False

    @property
    def busy(self) -> bool:
        """Whether some result has its last attempt still before it, or in its last word, after it."""
        sending = any(entry is not None for entry in self._under_way.values())
        return sending or any(not entry.given_up for entry in self._outbox)

    @property
    def forbidden(self) -> PodiumError | None:
        """The answer by which the server has asked for no update at this time; None if it has not."""
        wishes = self._down is not None and getattr(self._down, "retry_after", None) is not None
        return self._down if wishes and self._now() < self._not_before else None

    def add(self, entry: Waiting, *, at_once: bool = False) -> None:
        """Schedule the next attempt of a result, after a failed one or at once."""
        now = self._now()
        if self._stopped or (self.hurried and not at_once):
            self._give_up(entry)
            return
        if at_once:
            entry.scheduled = entry.earliest = now
        else:
            wish = min(getattr(entry.problem, "retry_after", None) or 0.0, LONGEST_WISH)
            if entry.scheduled <= now:
                entry.missed += 1
                delay = self._delays[min(entry.missed, len(self._delays)) - 1]
                entry.scheduled = now + Backoff(max(delay, wish), LONGEST_WISH, jitter=0.2).delay(1)
            own = 0.0 if is_outage(entry.problem) else OWN_BACKOFF.delay(entry.attempts)
            entry.earliest = now + max(wish, own)
            self._some_later = True
        entry.due = entry.scheduled
        heapq.heappush(self._heap, (entry.due, next(self._counter), entry))
        self._changed.set()

    def failed(self, error: PodiumError) -> None:
        """Note a failed update, of a waiting result or a new one."""
        if not is_outage(error):
            return
        now = self._now()
        if self._answers:
            self._futile += 1
            self._quiet_until = now + FUTILE_BACKOFF.delay(self._futile)
        self._down, self._answers, self._window = error, False, 1
        wish = min(getattr(error, "retry_after", None) or 0.0, LONGEST_WISH)
        pause = REFUSED_PAUSE if isinstance(error, AuthError) else min(OUTAGE_PAUSE, *self._delays)
        self._not_before = now + max(pause, Backoff(wish, wish, jitter=0.2).delay(1))
        self._next_probe = max(now + PROBE_PAUSE, self._not_before, self._quiet_until)
        for entry in self._resting():
            if entry.scheduled <= now or self.hurried:
                self._missed(entry, error)
            else:
                entry.due = entry.scheduled
        self._some_later = True
        self._rebuild()

    def worked(self, *, waited: bool) -> None:
        """Note that the server took an update; ``waited`` says that it was one of the waiting."""
        # Whatever failed in spite of the server's answers: it does take updates.
        self._futile = 0
        if waited:
            self._window = min(self._window + 1, MOST_AT_ONCE)
        if self._some_later:
            self._open()

    def answered(self) -> None:
        """Note that the server answered anything at all."""
        if self._down is not None:
            self._open()

    def hurry(self) -> None:
        """Let each waiting result have its last attempt now."""
        self.hurried = True
        self._quiet_until = self._not_before = -math.inf
        self._open()

    async def run(self) -> None:
        """Send what is due, until stopped."""
        try:
            while not self._stopped:
                self._changed.clear()
                while (entry := self._next()) is not None:
                    self._start(self._attempt(entry), entry)
                if self._probes() and self._next_probe <= self._now():
                    self._start(self._probe(), None)
                wake = self._wake_at()
                try:
                    async with asyncio.timeout_at(None if wake == math.inf else wake):
                        await self._changed.wait()
                except TimeoutError:
                    continue
        finally:
            await self.stop()

    async def stop(self) -> None:
        """Send nothing any more; what is under way is broken off."""
        self._stopped = True
        self._changed.set()
        under_way = list(self._under_way)
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        for entry in self._outbox:
            self._give_up(entry)

    def _open(self) -> None:
        """Let everything go that waits for the server to come back."""
        now = self._now()
        if now < self._quiet_until or self.forbidden is not None:
            return
        if self._down is not None:
            self._down, self._answers, self._not_before = None, True, -math.inf
        self._some_later = False
        for entry in self._resting():
            entry.due = now if self.hurried else min(entry.due, max(now, entry.earliest))
        self._rebuild()

    def _resting(self) -> list[Waiting]:
        """Return the results that wait and of which no update is under way."""
        return [entry for entry in self._outbox if entry.due < math.inf and not entry.given_up]

    def _next(self) -> Waiting | None:
        """Return a result to be sent now."""
        now = self._now()
        if now < self._not_before or len(self._under_way) >= self._window:
            return None
        while self._heap and self._heap[0][0] <= now:
            due, _, entry = heapq.heappop(self._heap)
            if not (entry.settled or entry.given_up) and entry.due == due:
                entry.due = math.inf
                return entry
        return None

    def _start(self, work: Coroutine[Any, Any, None], entry: Waiting | None) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._under_way[task] = entry
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        entry = self._under_way.pop(task)
        self._changed.set()
        if task.cancelled() or (error := task.exception()) is None:
            return
        logger.error("a result is not sent for now because of an error of podium", exc_info=error)
        if entry is not None and not entry.settled and entry.due == math.inf:
            self.add(entry)

    def _probes(self) -> bool:
        """Whether looking if the server is back makes sense: it is away, and nothing is asked of it just now."""
        down = self._down
        away = isinstance(down, TransportError | NotFoundError)
        away = away or (isinstance(down, ApiError) and down.status in _GATEWAY)
        return away and not self.hurried and not self._under_way and len(self._outbox) > 0

    async def _probe(self) -> None:
        entry = next(iter(self._outbox))
        try:
            async with asyncio.timeout(PROBE_PATIENCE):
                await self._client.get_task_state(entry.task.task_id)
        except (PodiumError, TimeoutError) as error:
            if isinstance(error, NotFoundError) and error.means_task:
                self.answered()
                return
            self._next_probe = self._now() + PROBE_PAUSE
        else:
            self.answered()

    def _wake_at(self) -> float:
        times = [math.inf]
        if self._heap and len(self._under_way) < self._window:
            times.append(max(self._heap[0][0], self._not_before))
        if self._probes():
            times.append(self._next_probe)
        return min(times)

    def _give_up(self, entry: Waiting) -> None:
        entry.given_up = True
        entry.released.set()
        self._changed.set()

    def _rebuild(self) -> None:
        self._heap = [(entry.due, next(self._counter), entry) for entry in self._resting()]
        heapq.heapify(self._heap)
        self._changed.set()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
