"""Functions that log, block and die, for tests of what becomes of their records."""

from __future__ import annotations

import ctypes
import faulthandler
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from podium import get_task_context

logger = logging.getLogger("samples.log")


def _segfault() -> None:
    faulthandler.disable()  # pytest's would print a page
    ctypes.string_at(0)


ENDS: dict[str, Callable[[], None]] = {
    "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "SIGSEGV": _segfault,
    "exit": lambda: os._exit(3),
}


def logs_and_dies(how: str, lines: int) -> None:
    for number in range(lines):
        logger.warning("line %d", number)
    logger.error("last words")
    ENDS[how]()


async def logs_and_blocks_the_loop(path: str) -> dict[str, Any]:
    logger.warning("before the file appears")
    _wait_for(Path(path))
    return {}


async def blocks_the_loop(path: str, mark: str) -> dict[str, Any]:
    Path(mark).touch()
    _wait_for(Path(path))
    return {}


def logs_from_threads(threads: int, each: int) -> dict[str, Any]:
    def log(thread: int) -> None:
        for number in range(each):
            logger.info("line", extra={"place": (thread, number)})

    workers = [threading.Thread(target=log, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return {}


def logs_much(folder: str, count: int) -> dict[str, Any]:
    """Log when the file ``go`` appears; make ``done``; log once more when ``finish`` appears."""
    place = Path(folder)
    (place / "running").touch()
    _wait_for(place / "go")
    for number in range(count):
        logger.warning("%d %s", number, "x" * 500)
    (place / "done").touch()
    _wait_for(place / "finish")
    logger.warning("afterwards")
    return {}


def _wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.01)


def logs_huge(size: int) -> dict[str, Any]:
    logger.warning("begin %s end", "x" * size)
    return {}


def _logs_once() -> None:
    logger.warning("from the fork of %s", os.getppid())


def forks_and_logs() -> dict[str, Any]:
    process = multiprocessing.get_context("fork").Process(target=_logs_once)
    process.start()
    process.join(20)
    logger.warning("from the task")
    return {"pid": os.getpid(), "exitcode": process.exitcode}


def logs_in_a_task() -> dict[str, Any]:
    """Log with the task's fields, with fields of the same names, and where there is no task."""
    logger.warning("plain")
    logger.warning("own", extra={"task_id": "mine", "attempt": None})
    thread = threading.Thread(target=lambda: logger.warning("outside"))
    thread.start()
    thread.join()
    return {"task_id": get_task_context().get_task_id()}


async def logs_in_a_coroutine() -> dict[str, Any]:
    return logs_in_a_task()


def logs_and_fails() -> None:
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        logger.exception("caught\nin the act")
    raise ValueError("no luck\n2026-01-01 CRITICAL root: forged\x1b[31m")
