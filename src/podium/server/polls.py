"""Who polled which queue last. In memory only: it is news, not a record."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import UNSET, UnsetType

from podium.server.definitions import Document

#: Milliseconds for which a poll counts as "somebody works in this domain".
LATELY = 10_000


class PollRecord(Document, kw_only=True):
    """The last poll of one queue."""

    queue_name: str
    domain: str | UnsetType = UNSET
    worker_id: str | UnsetType = UNSET
    last_poll_time: int


class Polls:
    """The last poll of every queue. ``now`` gives epoch ms."""

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._records: dict[tuple[str, str | None], PollRecord] = {}

    def note(self, task_type: str, domain: str | None, worker_id: str | None) -> None:
        """Record a poll of this moment."""
        self._records[task_type, domain] = PollRecord(
            queue_name=task_type,
            domain=UNSET if domain is None else domain,
            worker_id=UNSET if worker_id is None else worker_id,
            last_poll_time=self._now(),
        )

    def lately(self, task_type: str, domain: str) -> bool:
        """Return whether somebody polled this type in this domain within the last 10 s."""
        record = self._records.get((task_type, domain))
        return record is not None and self._now() - record.last_poll_time <= LATELY

    def records(self, task_type: str | None = None) -> list[PollRecord]:
        """Return the records of one task type, or all."""
        return [record for key, record in self._records.items() if task_type in {None, key[0]}]
