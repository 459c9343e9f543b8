"""What is cancelled is told; what must end is ended, and costs its neighbours nothing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import cancel_samples
import samples
from lone_crew import crew_of, task, until
from podium.crew.place import RestartPolicy
from podium.crew.process import ProcessCrew
from podium.polled import Abandoned, Interrupted, was_cancelled
from podium.stacks import place_in

BOTH = pytest.mark.parametrize("isolation", ["process", "thread"])


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


def line_of(words: str) -> int:
    lines = Path(cancel_samples.__file__).read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if words in line)


async def running(mark: Path) -> None:
    await until(mark.exists, "the function")


@BOTH
@pytest.mark.parametrize(
    ("function", "words"),
    [
        (cancel_samples.looks_whether_cancelled, "told"),
        (cancel_samples.waits_whether_cancelled, "told: True"),
        (cancel_samples.awaits_cancelled, "told: True"),
    ],
)
def test_cancelled_function_is_told_and_what_it_returns_is_no_result(
    isolation: str, function: Callable[..., Any], words: str, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"

    async def test() -> None:
        async with crew_of(function, isolation) as crew:
            future = crew.run(0, task(mark=str(mark)))
            await running(mark)
            crew.cancel(future)
            async with asyncio.timeout(5):
                assert was_cancelled(await future)
            assert mark.read_text() == words
            assert crew.free(0) == 2

    run(test())


@BOTH
def test_cancel_leaves_neighbours_alone(isolation: str, tmp_path: Path) -> None:
    async def test() -> None:
        async with crew_of(cancel_samples.looks_whether_cancelled, isolation) as crew:
            marks = [tmp_path / "one", tmp_path / "two"]
            first, second = (crew.run(0, task(mark.name, mark=str(mark))) for mark in marks)
            for mark in marks:
                await running(mark)
            crew.cancel(first)
            assert was_cancelled(await first)
            assert not second.done()
            assert marks[1].read_text() == "running"

    run(test())


@BOTH
def test_function_that_takes_notice_of_a_stop_is_given_back(isolation: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    async def test() -> None:
        async with crew_of(cancel_samples.waits_whether_cancelled, isolation) as crew:
            future = crew.run(0, task(mark=str(mark)))
            await running(mark)
            await crew.stop()
            with pytest.raises(Interrupted):
                await future
            assert mark.read_text() == "told: True"

    run(test())


@pytest.mark.parametrize(
    ("function", "words", "name"),
    [
        (cancel_samples.hangs, "it hangs here", "hangs"),
        (cancel_samples.hangs_async, "it waits here", "_sleeps_for_ever"),
    ],
)
def test_evicted_execution_is_killed_and_its_neighbours_are_interrupted_not_failed(
    function: Callable[..., Any], words: str, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with crew_of(function, "process", policy=RestartPolicy(restart=False)) as crew:
            assert isinstance(crew, ProcessCrew)
            marks = [tmp_path / "one", tmp_path / "two"]
            first, second = (crew.run(0, task(mark.name, mark=str(mark))) for mark in marks)
            for mark in marks:
                await running(mark)
            link = crew.members[0].link
            assert link is not None
            async with asyncio.timeout(2):
                stack = await crew.evict(first, "task one took too long")
            with pytest.raises(ProcessLookupError):  # it is not only killed, it is gone
                os.kill(link.pid, 0)
            for future in (first, second):
                assert isinstance(future.exception(), Interrupted)
            assert place_in(stack) == f"{name} ({cancel_samples.__file__}:{line_of(words)})"
            # It is replaced whatever the policy says of deaths: this one was podium's wish.
            await until(lambda: crew.free(0) == 2, "the successor")
        assert any(
            text == f"w: worker process {link.pid} was killed and is replaced: task one took too long"
            for text in caplog.messages
        )

    run(test())


def test_evicting_what_is_done_kills_nobody(tmp_path: Path) -> None:
    async def test() -> None:
        async with crew_of(samples.tells_process, "process") as crew:
            future = crew.run(0, task())
            outcome = await future
            assert await crew.evict(future, "too late") == ""
            again = await crew.run(0, task())
            assert again.status == outcome.status == "COMPLETED"
            assert isinstance(crew, ProcessCrew)
            assert crew.members[0].restarts == 0

    run(test())


def test_evicted_function_in_a_thread_is_abandoned_and_keeps_its_place(tmp_path: Path) -> None:
    mark, go = tmp_path / "mark", tmp_path / "go"

    async def test() -> None:
        async with crew_of(cancel_samples.hangs, "thread") as crew:
            future = crew.run(0, task(mark=str(mark), go=str(go)))
            await running(mark)
            stack = await crew.evict(future, "task t took too long")
            assert isinstance(future.exception(), Abandoned)
            assert place_in(stack) == f"hangs ({cancel_samples.__file__}:{line_of('it hangs here')})"
            assert (crew.stuck(0), crew.free(0)) == (1, 1)
            go.touch()
            await until(lambda: (crew.stuck(0), crew.free(0)) == (0, 2), "the end of the code")

    run(test())
