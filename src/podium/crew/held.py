"""The tasks that a child has in hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podium.bundle import Bundle
from podium.polled import Interrupted

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    from podium.frames import Outcome
    from podium.polled import PolledTask


class InHand(Bundle):
    """A task that a child is executing, or was when it died."""

    key: int
    worker: int
    task: PolledTask
    future: asyncio.Future[Outcome]
    #: Epoch seconds.
    started: float
    #: Whether it may be what ended the child.
    is_culprit: bool = True


def interrupt(held: Iterable[InHand]) -> None:
    """Let executions be stopped ones: the process that they were in is dead."""
    for entry in held:
        if not entry.future.done():
            entry.future.set_exception(Interrupted())
