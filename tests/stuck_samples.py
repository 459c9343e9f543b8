"""Functions that do not let others go on, as workers."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any


async def sleeps(seconds: float = 0.0) -> dict[str, Any]:
    """Sleep as a coroutine must not, if there is anything to sleep."""
    if seconds:
        time.sleep(seconds)  # noqa: ASYNC251 - the mistake that is to be named
    await asyncio.sleep(0.01)
    return {}


def waits(path: str) -> dict[str, Any]:
    """Tell that it runs, and run for ever."""
    Path(path).touch()
    while True:
        time.sleep(0.05)
