"""Functions for loads: each notes when it starts and ends, so that a checker can judge (see event_log.py)."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

from event_log import Kind, note
from podium import NonRetryableException, TaskInProgress, get_task_context


def noted(notes: str, seconds: float = 0.0) -> dict[str, Any]:
    """Take so many seconds; note the start and the end."""
    task = get_task_context().get_task_id()
    note(notes, Kind.STARTED, task)
    try:
        time.sleep(seconds)
        return {"pid": os.getpid()}
    finally:
        note(notes, Kind.ENDED, task)


async def noted_async(notes: str, seconds: float = 0.0) -> dict[str, Any]:
    """The same as a coroutine."""
    task = get_task_context().get_task_id()
    note(notes, Kind.STARTED, task)
    try:
        await asyncio.sleep(seconds)
        return {"pid": os.getpid()}
    finally:
        note(notes, Kind.ENDED, task)


def ordered(notes: str, order: str, seconds: float = 0.0) -> Any:
    """End as it was ordered: complete, fail the first time, fail for good, or come back later."""
    context = get_task_context()
    noted(notes, seconds)
    match order:
        case "fail once" if context.get_retry_count() == 0:
            raise ValueError("ordered to fail once")
        case "fail":
            raise NonRetryableException("ordered to fail")
        case "postpone" if context.get_poll_count() == 1 and context.get_retry_count() == 0:
            return TaskInProgress(callback_after_seconds=1)
    return {"order": order}
