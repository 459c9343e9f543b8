"""A result that waits for the server, the room for such, and who is told of them."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Final

import msgspec

from podium.bundle import Bundle
from podium.events import Meter

if TYPE_CHECKING:
    from podium.errors import PodiumError
    from podium.polled import PolledTask


_METER: Final = Meter()


class Watch:
    """Is told how many results wait, and what goes wrong with them; this one does not care."""

    def meter(self, task_type: str) -> Meter:  # noqa: ARG002 - for those that count
        """Return what is told of the tasks of that type, always the same."""
        return _METER

    def on_waiting(self, count: int, size: int) -> None:
        """So many results, of so many bytes, wait now."""

    def on_superseded(self, task_type: str) -> None:
        """A result came too late."""

    def on_spool_failure(self) -> None:
        """A result could not be written to disk, or the spool not be opened."""


class Waiting(Bundle, eq=False, kw_only=True):
    """A result that waits."""

    #: Without its input and the output that it had: its function has ended.
    task: PolledTask
    task_type: str
    worker_id: str
    #: What the update says of the task.
    status: str
    #: The update; None while it is on disk only.
    body: bytes | None
    size: int
    #: How the last attempt failed, and how many there were.
    problem: PodiumError
    attempts: int
    #: Epoch seconds of the first failure.
    created: float
    #: Times of the loop. When its delivery began; since when the server may count the response timeout; when the next
    #: attempt is due by the schedule; when by what is known of the server (infinity: one is under way), and the
    #: earliest that this may be.
    begun: float
    since: float
    scheduled: float = 0.0
    due: float = math.inf
    earliest: float = 0.0
    #: Attempts of the schedule that have failed.
    missed: int = 0
    #: Left by an earlier process: what became of its task meanwhile is not known.
    adopted: bool = False
    #: Its file in the spool.
    name: str | None = None
    #: Whether it is the small failure that stands for a result which the server refused.
    is_last_word: bool = False
    #: Whether listeners were told that it was not delivered.
    told: bool = False
    #: Whether it is not attempted any more: the end is near.
    given_up: bool = False
    settled: bool = False
    room: Room | None = None
    #: Set when nobody has to wait for it: it is held safely, or settled.
    released: asyncio.Event = msgspec.field(default_factory=asyncio.Event)


class Room(Bundle):
    """How much may be held in one place without holding a worker's slot too."""

    most: int
    most_bytes: int
    count: int = 0
    bytes: int = 0

    def fits(self, size: int) -> bool:
        """Whether there is room for one more; the first one always fits."""
        return self.count == 0 or (self.count < self.most and self.bytes + size <= self.most_bytes)
