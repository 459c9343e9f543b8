"""What crosses between the engine's loop and the threads of its own process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any
from unittest import mock

from engine_fakes import task_json
from podium.crew.thread import ThreadCrew
from podium.execution import Runnable
from podium.polled import read_task
from podium.registry import is_async_callable

DEADLINE = 10.0
COUNT = 50


def runnable(function: Callable[..., Any]) -> Runnable:
    return Runnable.compile(
        "w", function, is_async=is_async_callable(function), thread_count=1, strict_schema=False, worker_id="id"
    )


def test_outcomes_that_come_while_the_engine_is_busy_wake_it_once() -> None:
    done = threading.Semaphore(0)

    def function() -> None:
        done.release()

    async def test() -> None:
        crew = ThreadCrew([runnable(function)])
        await crew.start()
        loop = asyncio.get_running_loop()
        with mock.patch.object(loop, "call_soon_threadsafe", wraps=loop.call_soon_threadsafe) as wake:
            futures = [crew.run(0, read_task(task_json(f"t{number}"))) for number in range(COUNT)]
            for _ in range(COUNT):  # blocks the engine on purpose
                assert done.acquire(timeout=DEADLINE)
            assert {(await future).status for future in futures} == {"COMPLETED"}
            assert wake.call_count <= 2  # the last outcome may come after the engine has gone on
        await crew.stop()

    asyncio.run(test())


def test_plain_function_does_not_wait_for_the_loop_of_the_coroutines() -> None:
    gate = threading.Event()

    async def blocks() -> None:
        assert gate.wait(DEADLINE)

    def opens() -> None:
        gate.set()

    async def test() -> None:
        crew = ThreadCrew([runnable(blocks), runnable(opens)])
        await crew.start()
        futures = [crew.run(place, read_task(task_json("t"))) for place in (0, 1)]
        assert {(await future).status for future in futures} == {"COMPLETED"}
        await crew.stop()

    asyncio.run(test())
