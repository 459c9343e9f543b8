"""The pool: threads, coroutines, batches. Functions wait for gates that the test opens."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools
import json
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from podium import get_task_context
from podium.execution import Runnable
from podium.frames import Outcome
from podium.pool import TaskPool
from podium.registry import is_async_callable

DEADLINE = 10.0
RAW = b'{"taskId":"t","workflowInstanceId":"w"}'

#: Threads of an earlier test's pool may still be ending.
numbers = itertools.count(1)
flavour: contextvars.ContextVar[str] = contextvars.ContextVar("flavour", default="none")


class Stage:
    """A pool and the batches that it has delivered."""

    def __init__(self, *functions: Callable[..., Any], thread_count: int = 4) -> None:
        self.name = f"stage{next(numbers)}"
        workers = [
            Runnable.compile(
                f"{self.name}.{number}", function, is_async=is_async_callable(function), thread_count=thread_count,
                strict_schema=False, worker_id="id",
            )
            for number, function in enumerate(functions)
        ]  # fmt: skip
        self.pool = TaskPool(workers, self._deliver)
        self.batches: list[list[Outcome]] = []
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()

    def _deliver(self, outcomes: list[Outcome]) -> None:
        """Take outcomes, in any thread."""
        self.batches.append(outcomes)
        with contextlib.suppress(RuntimeError):  # the test has ended
            self._loop.call_soon_threadsafe(self._changed.set)

    @property
    def outcomes(self) -> list[Outcome]:
        return [outcome for batch in self.batches for outcome in batch]

    @property
    def threads(self) -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name.startswith(f"{self.name}.")]

    async def finished(self, count: int) -> dict[int, Outcome]:
        """Wait for that many outcomes; return them by key."""
        async with asyncio.timeout(DEADLINE):
            while len(self.outcomes) < count:
                self._changed.clear()
                await self._changed.wait()
        assert len(self.outcomes) == count
        return {outcome.key: outcome for outcome in self.outcomes}


def on_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


def output_of(outcome: Outcome) -> Any:
    return json.loads(outcome.body)["outputData"]["result"]


async def reached(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, DEADLINE)


def thread_name() -> str:
    """The part of the thread's name that does not depend on the stage: number of the worker, number of the thread."""
    return threading.current_thread().name.partition(".")[2]


@pytest.mark.parametrize("is_async", [False, True])
def test_large_counts(is_async: bool) -> None:
    def plain(task: object) -> None: ...
    async def coroutine(task: object) -> None:
        await asyncio.sleep(0)

    async def test() -> None:
        stage = Stage(coroutine if is_async else plain, thread_count=16)
        for key in range(5000):
            stage.pool.run(0, key, RAW)
        outcomes = await stage.finished(5000)
        assert outcomes.keys() == set(range(5000))
        assert {outcome.status for outcome in outcomes.values()} == {"COMPLETED"}
        stage.pool.close()

    on_loop(test)


def test_threads_start_when_needed_and_are_used_again() -> None:
    async def test() -> None:
        stage = Stage(thread_name, thread_count=4)
        assert stage.threads == []
        for key in range(20):
            stage.pool.run(0, key, RAW)
            await stage.finished(key + 1)
        assert {output_of(outcome) for outcome in stage.outcomes} == {"0-1"}
        assert len(stage.threads) == 1
        stage.pool.close()

    on_loop(test)


def test_thread_count_is_the_most_that_run_at_once() -> None:
    gate, three = threading.Event(), threading.Barrier(4)
    running: set[str] = set()

    def function() -> None:
        running.add(thread_name())
        if not gate.is_set():
            three.wait(DEADLINE)
        assert gate.wait(DEADLINE)

    async def test() -> None:
        stage = Stage(function, thread_count=3)
        for key in range(10):
            stage.pool.run(0, key, RAW)
        await asyncio.to_thread(three.wait, DEADLINE)
        assert running == {"0-1", "0-2", "0-3"}
        assert stage.outcomes == []
        gate.set()
        await stage.finished(10)
        assert len(stage.threads) == 3
        stage.pool.close()

    on_loop(test)


def test_threads_are_daemons_and_end_after_close() -> None:
    async def test() -> None:
        stage = Stage(thread_name)
        stage.pool.run(0, 1, RAW)
        await stage.finished(1)
        (thread,) = stage.threads
        assert thread.daemon
        stage.pool.close()
        await asyncio.to_thread(thread.join, DEADLINE)
        assert not thread.is_alive()

    on_loop(test)


def test_workers_have_their_own_threads() -> None:
    async def test() -> None:
        stage = Stage(thread_name, thread_name, thread_count=1)
        for key in range(4):
            stage.pool.run(key % 2, key, RAW)
        outcomes = await stage.finished(4)
        assert [output_of(outcomes[key]) for key in range(4)] == ["0-1", "1-1", "0-1", "1-1"]
        stage.pool.close()

    on_loop(test)


def test_coroutines_run_on_the_pool_s_loop_and_at_the_same_time() -> None:
    async def test() -> None:
        loop, gate, running = asyncio.get_running_loop(), asyncio.Event(), 0

        async def function() -> bool:
            nonlocal running
            running += 1
            await gate.wait()
            return asyncio.get_running_loop() is loop

        stage = Stage(function, thread_count=1)  # the engine, not the pool, limits coroutines
        for key in range(50):
            stage.pool.run(0, key, RAW)
        async with asyncio.timeout(DEADLINE):
            while running < 50:
                await asyncio.sleep(0)
        gate.set()
        assert all(output_of(outcome) for outcome in (await stage.finished(50)).values())

    on_loop(test)


def test_awaitable_of_a_plain_function_holds_no_thread() -> None:
    async def test() -> None:
        gate = asyncio.Event()

        def function(wait: bool = True) -> Awaitable[str]:
            async def later() -> str:
                await gate.wait()
                return get_task_context().get_task_id()

            return later()

        stage = Stage(function, thread_name, thread_count=1)
        for key in range(5):
            stage.pool.run(0, key, RAW)
        while len(stage.pool._coroutines) < 5:  # all five wait, though there is one thread
            await asyncio.sleep(0)
        gate.set()
        assert [output_of(outcome) for outcome in (await stage.finished(5)).values()] == ["t"] * 5
        stage.pool.close()

    on_loop(test)


def test_outcomes_that_come_together_are_delivered_together() -> None:
    async def test() -> None:
        gate = asyncio.Event()

        async def function() -> None:
            await gate.wait()

        stage = Stage(function)
        for key in range(100):
            stage.pool.run(0, key, RAW)
        await asyncio.sleep(0)
        gate.set()
        await stage.finished(100)
        assert len(stage.batches) == 1

    on_loop(test)


def test_outcomes_of_plain_functions_do_not_wait_for_the_loop() -> None:
    def function() -> None: ...

    async def test() -> None:
        stage = Stage(function, thread_count=1)
        for key in range(50):
            stage.pool.run(0, key, RAW)
        stage.pool.close()
        for thread in stage.threads:  # blocks the loop on purpose
            thread.join(DEADLINE)
        assert [outcome.key for outcome in stage.outcomes] == list(range(50))

    on_loop(test)


def test_all_idle_threads_run_when_there_is_work_for_all() -> None:
    together = threading.Barrier(8)

    def function(meet: bool = False) -> None:
        if meet:
            together.wait(DEADLINE)

    async def test() -> None:
        stage = Stage(function, thread_count=8)
        meeting = RAW[:-1] + b',"inputData":{"meet":true}}'
        for turn in range(20):  # the first turn starts the threads, the others find them idle
            for key in range(8):
                stage.pool.run(0, 8 * turn + key, meeting)
            outcomes = await stage.finished(8 * turn + 8)
        assert {outcome.status for outcome in outcomes.values()} == {"COMPLETED"}
        stage.pool.close()

    on_loop(test)


def test_thread_of_a_plain_function_is_idle_when_its_outcome_is_heard_of() -> None:
    names: set[str] = set()

    def function() -> None:
        names.add(thread_name())

    async def test() -> None:
        stage = Stage(function, thread_count=4)
        done = threading.Semaphore(0)
        count = 0

        def deliver_and_go_on(outcomes: list[Outcome]) -> None:
            nonlocal count
            count += 1
            if count < 200:
                stage.pool.run(0, count, RAW)  # from the thread itself: nothing is quicker
            else:
                done.release()

        stage.pool._deliver = deliver_and_go_on
        stage.pool.run(0, 0, RAW)
        assert await asyncio.to_thread(done.acquire, timeout=DEADLINE)
        assert names == {"0-1"}
        stage.pool.close()

    on_loop(test)


def test_attempt_that_comes_before_the_close_runs() -> None:
    async def test() -> None:
        stage = Stage(lambda: None, thread_count=1)
        keep = stage.pool._deliver

        def deliver(outcomes: list[Outcome]) -> None:
            if outcomes[0].key == 1:  # the thread counts as idle, and is still here
                stage.pool.run(0, 2, RAW)
                stage.pool.close()
            keep(outcomes)

        stage.pool._deliver = deliver
        stage.pool.run(0, 1, RAW)
        assert (await stage.finished(2)).keys() == {1, 2}
        for thread in stage.threads:
            await asyncio.to_thread(thread.join, DEADLINE)
        assert stage.threads == []

    on_loop(test)


def test_system_that_has_no_room_for_a_thread_fails_a_task_only_if_there_is_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate = threading.Event()

    def function() -> str:
        assert gate.wait(DEADLINE)
        return thread_name()

    def no_room(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def test() -> None:
        stage = Stage(function)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", no_room)
            stage.pool.run(0, 1, RAW)
        outcome = (await stage.finished(1))[1]
        assert outcome.status == "FAILED"
        assert outcome.cause is not None
        assert outcome.cause.message == "can't start new thread"
        stage.pool.run(0, 2, RAW)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", no_room)
            stage.pool.run(0, 3, RAW)
        gate.set()
        outcomes = await stage.finished(3)
        assert output_of(outcomes[2]) == output_of(outcomes[3]) == "0-1"
        stage.pool.close()

    on_loop(test)


# cancelling


def test_cancelled_coroutine_is_a_failure() -> None:
    async def test() -> None:
        running = asyncio.Event()
        cleaned: list[bool] = []

        async def function() -> None:
            running.set()
            try:
                await asyncio.Event().wait()
            finally:
                cleaned.append(True)

        stage = Stage(function)
        stage.pool.run(0, 1, RAW)
        await running.wait()
        stage.pool.cancel(1)
        outcome = (await stage.finished(1))[1]
        assert outcome.status == "FAILED"
        assert outcome.cause is not None
        assert outcome.cause.type_name == "CancelledError"
        assert json.loads(outcome.body)["taskId"] == "t"
        assert cleaned == [True]

    on_loop(test)


def test_coroutine_cancelled_before_its_first_step_is_a_failure_too() -> None:
    async def test() -> None:
        async def function() -> None:
            raise AssertionError("must not run")

        stage = Stage(function)
        stage.pool.run(0, 1, RAW)
        stage.pool.cancel(1)
        outcome = (await stage.finished(1))[1]
        assert outcome.cause is not None
        assert outcome.cause.type_name == "CancelledError"
        assert outcome.body == b""  # the task was never read; the engine words it

    on_loop(test)


def test_coroutine_that_resists_cancelling_has_its_own_outcome() -> None:
    async def test() -> None:
        running = asyncio.Event()

        async def function() -> str:
            running.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return "saved"
            return "never"

        stage = Stage(function)
        stage.pool.run(0, 1, RAW)
        await running.wait()
        stage.pool.cancel(1)
        assert output_of((await stage.finished(1))[1]) == "saved"

    on_loop(test)


def test_plain_function_is_not_interrupted() -> None:
    running, gate = threading.Event(), threading.Event()

    def function() -> str:
        running.set()
        assert gate.wait(DEADLINE)
        return "done"

    async def test() -> None:
        stage = Stage(function)
        stage.pool.run(0, 1, RAW)
        await reached(running)
        stage.pool.cancel(1)
        stage.pool.cancel(99)  # an unknown attempt has ended already
        gate.set()
        assert output_of((await stage.finished(1))[1]) == "done"
        stage.pool.close()

    on_loop(test)


def test_close_cancels_coroutines_and_lets_functions_end() -> None:
    running, gate = threading.Event(), threading.Event()

    def plain() -> str:
        running.set()
        assert gate.wait(DEADLINE)
        return "done"

    async def coroutine() -> None:
        await asyncio.Event().wait()

    async def test() -> None:
        stage = Stage(plain, coroutine)
        stage.pool.run(0, 1, RAW)
        stage.pool.run(1, 2, RAW)
        await reached(running)
        stage.pool.close()
        gate.set()
        outcomes = await stage.finished(2)
        assert output_of(outcomes[1]) == "done"
        assert outcomes[2].status == "FAILED"

    on_loop(test)


# nothing is lost, nothing leaks


def raises(error: BaseException) -> Callable[[], None]:
    def function() -> None:
        raise error

    return function


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), StopIteration()])
def test_defect_09_thread_survives_whatever_a_function_raises(error: BaseException) -> None:
    async def test() -> None:
        stage = Stage(raises(error), thread_count=1)
        for key in range(3):
            stage.pool.run(0, key, RAW)
        outcomes = await stage.finished(3)
        assert {outcome.status for outcome in outcomes.values()} == {"FAILED"}
        assert len(stage.threads) == 1
        stage.pool.close()

    on_loop(test)


@pytest.mark.parametrize("raw", [b"junk", b'{"taskId":"t","workflowInstanceId":"w","inputData":{"a":"\xff"}}'])
def test_task_that_cannot_be_read_does_not_cost_a_thread(raw: bytes) -> None:
    async def test() -> None:
        stage = Stage(thread_name, thread_count=1)
        stage.pool.run(0, 1, raw)
        stage.pool.run(0, 2, RAW)
        outcomes = await stage.finished(2)
        assert outcomes[1].status == "FAILED_WITH_TERMINAL_ERROR"
        assert output_of(outcomes[2]) == "0-1"
        stage.pool.close()

    on_loop(test)


def test_context_variables_do_not_pass_from_task_to_task() -> None:
    def see() -> str:
        before = flavour.get()
        flavour.set("spoilt")
        return before

    async def see_async() -> str:
        return see()

    async def test() -> None:
        stage = Stage(see, see_async, thread_count=1)
        for key in range(6):
            stage.pool.run(key % 2, key, RAW)
        assert {output_of(outcome) for outcome in (await stage.finished(6)).values()} == {"none"}
        stage.pool.close()

    on_loop(test)


def test_loop_that_is_closed_is_no_error_for_a_thread_that_ends_late(recwarn: pytest.WarningsRecorder) -> None:
    running, gate = threading.Event(), threading.Event()

    def function() -> None:
        running.set()
        assert gate.wait(DEADLINE)

    threads: list[threading.Thread] = []

    async def test() -> None:
        stage = Stage(function)
        stage.pool.run(0, 1, RAW)
        await reached(running)
        stage.pool.close()
        threads.extend(stage.threads)

    on_loop(test)
    (thread,) = threads
    gate.set()
    thread.join(DEADLINE)
    assert not thread.is_alive()
    assert not recwarn.list
