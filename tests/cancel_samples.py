"""Functions that are cancelled, or hang; each tells by a mark, a file, how far it has come."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import Any

from podium import get_task_context


def _mark(mark: str, text: str = "running") -> None:
    path = Path(mark)
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").replace(path)


def looks_whether_cancelled(mark: str) -> dict[str, Any]:
    """Go round until told to end; returns what must not pass for a result."""
    context, turns = get_task_context(), 0
    _mark(mark)
    while not context.is_cancelled():
        turns += 1
        time.sleep(0.01)
    _mark(mark, "told")
    return {"turns": turns}


def waits_whether_cancelled(mark: str) -> None:
    _mark(mark)
    told = get_task_context().wait(60)
    _mark(mark, f"told: {told}")


async def awaits_cancelled(mark: str) -> None:
    """Two ways at once: the coroutine itself, and one that watches beside it."""
    context = get_task_context()
    watching = asyncio.create_task(context.wait_cancelled())
    _mark(mark)
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        await watching
        _mark(mark, f"told: {context.is_cancelled()}")
        raise


def hangs(mark: str, go: str = "") -> dict[str, Any]:
    """Look neither left nor right; until a file appears, if one is named."""
    _mark(mark)
    while not (go and Path(go).exists()):
        time.sleep(0.01)  # it hangs here
    return {"went": True}


async def hangs_async(mark: str) -> None:
    _mark(mark)
    await _sleeps_for_ever()


async def _sleeps_for_ever() -> None:
    await asyncio.sleep(3600)  # it waits here


async def ignores_cancellation(mark: str) -> None:
    _mark(mark)
    while True:
        try:
            await asyncio.sleep(3600)  # it stays here
        except asyncio.CancelledError:
            _mark(mark, "ignored")


def holds_the_gil_for_ever(mark: str) -> None:
    _mark(mark)
    re.fullmatch("(a+)+b", "a" * 60)  # never comes back, and lets no other thread run


def hangs_once(mark: str, go: str) -> dict[str, Any]:
    """Hang in the first attempt; wait for a file in the others."""
    return hangs(mark, go if get_task_context().get_retry_count() else "")


async def blocks_the_loop_for_ever(mark: str) -> None:
    hangs(mark)


def sleeps(seconds: float) -> dict[str, Any]:
    time.sleep(seconds)
    return {"slept": seconds}
