"""Group commit: all requests of one turn of the event loop share one transaction, and are answered after it."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from typing import TYPE_CHECKING

from podium.server.problems import Problem

if TYPE_CHECKING:
    from podium.server.store import Store

logger = logging.getLogger(__name__)


class Committer:
    """Commits the store's open transaction soon after something was written.

    ``on_failure`` is called when a commit failed and was rolled back: what memory holds is then ahead of the store.
    """

    def __init__(self, store: Store, on_failure: Callable[[], None]) -> None:
        self._store = store
        self._on_failure = on_failure
        self._pending: asyncio.Future[None] | None = None

    def schedule(self) -> asyncio.Future[None]:
        """Commit once the requests at hand have been handled; the future ends with the commit."""
        loop = asyncio.get_running_loop()
        if self._pending is None:
            self._pending = loop.create_future()
            loop.call_soon(self._commit)
        return self._pending

    async def committed(self) -> None:
        """Wait until everything written so far is durable. Raises Problem if that failed."""
        if self._store.dirty:
            await asyncio.shield(self.schedule())  # shared with other requests: not to be cancelled by one of them

    def fail(self, error: Exception) -> None:
        """Roll the open transaction back and fail all who wait for it: a change broke off halfway."""
        logger.error("a change failed; the transaction is rolled back", exc_info=error)
        self._store.roll_back()
        self._on_failure()
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.set_exception(Problem(500, f"The change was rolled back: {error}"))
            pending.exception()  # without a request that waits for it, nobody else looks

    def _commit(self) -> None:
        pending = self._pending
        if pending is None:
            return  # it failed in the meantime
        try:
            self._store.commit()
        except sqlite3.Error as error:
            self.fail(error)
        else:
            self._pending = None
            pending.set_result(None)
