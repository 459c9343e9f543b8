"""The queues: order, delay, waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from hypothesis import given
from hypothesis import strategies as st

from podium.server.queues import Queues
from podium.server.state import TaskState

KEY = ("t", None)


class Clock:
    now = 1000

    def __call__(self) -> int:
        return self.now


def task(name: str, due: int = 0, priority: int = 0) -> TaskState:
    return TaskState(
        task_type="t",
        status="SCHEDULED",
        input_data={},
        reference_task_name="r",
        task_def_name="t",
        scheduled_time=0,
        workflow_instance_id="w",
        workflow_type="f",
        task_id=name,
        due=due,
        workflow_priority=priority,
    )


def drain(queues: Queues) -> list[str]:
    taken = []
    while (name := queues.peek(KEY)) is not None:
        queues.drop(name)
        taken.append(name)
    return taken


def test_priority_then_due_time_then_arrival() -> None:
    queues = Queues(Clock())
    for name, due, priority in (("a", 5, 0), ("b", 3, 0), ("c", 3, 0), ("d", 9, 7)):
        queues.put(KEY, task(name, due, priority))
    assert drain(queues) == ["d", "b", "c", "a"]


def test_delayed_task_shows_only_in_the_size() -> None:
    clock = Clock()

    async def body() -> None:
        queues = Queues(clock)
        queues.put(KEY, task("a", due=2000))
        assert queues.peek(KEY) is None
        assert queues.sizes() == {KEY: 1}
        clock.now = 2000
        assert queues.peek(KEY) == "a"

    asyncio.run(body())


def test_put_again_replaces_and_domains_are_separate() -> None:
    queues = Queues(Clock())
    queues.put(KEY, task("a"))
    queues.put(KEY, task("b"))
    queues.put(KEY, task("a"))
    queues.put(("t", ""), task("c"))
    assert drain(queues) == ["b", "a"]
    assert queues.peek(("t", "")) == "c"
    assert queues.size(("t", "x")) == 0


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 900), st.integers(0, 3), st.booleans()), max_size=40))
def test_any_history_gives_each_task_once_in_order(history: list[tuple[int, int, int, bool]]) -> None:
    queues = Queues(Clock())
    held: dict[str, tuple[int, int, int]] = {}
    for number, (name, due, priority, drop) in enumerate(history):
        if drop:
            queues.drop(str(name))
            held.pop(str(name), None)
        else:
            queues.put(KEY, task(str(name), due, priority))
            held[str(name)] = (-priority, due, number)
    assert queues.size(KEY) == len(held)
    assert drain(queues) == sorted(held, key=lambda name: held[name])


def run_with_waiter(body: Callable[[Queues, asyncio.Task[bool]], Awaitable[None]], seconds: float = 5) -> bool:
    async def main() -> bool:
        queues = Queues(Clock())
        waiter = asyncio.ensure_future(queues.wait(KEY, seconds))
        await asyncio.sleep(0)
        await body(queues, waiter)
        return await waiter

    return asyncio.run(main())


def test_waiter_is_woken_by_a_task() -> None:
    async def body(queues: Queues, _waiter: asyncio.Task[bool]) -> None:
        queues.put(KEY, task("a"))

    assert run_with_waiter(body)


def test_waiter_is_woken_when_a_delayed_task_is_due() -> None:
    async def body(queues: Queues, _waiter: asyncio.Task[bool]) -> None:
        queues.put(KEY, task("a", due=1010))
        Clock.now = 1010

    try:
        assert run_with_waiter(body)
    finally:
        Clock.now = 1000


def test_waiter_gives_up_and_leaves_nothing_behind() -> None:
    async def body(queues: Queues, waiter: asyncio.Task[bool]) -> None:
        assert not await waiter
        assert queues._queues == {}

    assert not run_with_waiter(body, seconds=0.001)


def test_wake_up_of_a_cancelled_waiter_goes_to_the_next() -> None:
    async def body(queues: Queues, waiter: asyncio.Task[bool]) -> None:
        second = asyncio.ensure_future(queues.wait(KEY, 5))
        await asyncio.sleep(0)
        queues.put(KEY, task("a"))
        waiter.cancel()
        assert await second
        await asyncio.wait([waiter])

    try:
        run_with_waiter(body)
    except asyncio.CancelledError:
        return
    raise AssertionError("the first waiter was cancelled")


def test_close_ends_all_waiting_for_good() -> None:
    async def body(queues: Queues, _waiter: asyncio.Task[bool]) -> None:
        queues.close()
        assert not await queues.wait(KEY, 60)

    assert not run_with_waiter(body)
