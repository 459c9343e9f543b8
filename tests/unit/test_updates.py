"""How long the answer to a first update is awaited, in virtual time: one alarm sees to all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

import virtual_time
from engine_fakes import FakeClient
from podium.errors import CutError
from podium.updates import FIRST_ANSWER, Updates

T = TypeVar("T")
START = 1000.0


class Slow(FakeClient):
    """Answers an update after as many seconds as the body says, or at a cancellation with an error of its own."""

    on_cancel: Exception | None = None

    async def post_result(self, body: bytes) -> None:
        try:
            await asyncio.sleep(float(body.split()[0]))
        except asyncio.CancelledError:
            if self.on_cancel is not None:
                raise self.on_cancel from None
            raise


def play(act: Callable[[], Coroutine[Any, Any, T]]) -> T:
    clock = virtual_time.Clock()
    clock.now = START
    return virtual_time.run(act(), clock)


async def told(updates: Updates, body: bytes) -> tuple[float, str]:
    """Send an update; return when that was over, and what is wrong."""
    loop = asyncio.get_running_loop()
    try:
        await updates.send_first(body, want_next=False)
    except CutError as error:
        return loop.time() - START, str(error)
    return loop.time() - START, ""


def test_each_update_has_its_own_time_whatever_the_others_have() -> None:
    slow_line = b"100 " + b"x" * 500_000
    late = f"no answer within {FIRST_ANSWER:.0f} s"

    async def act() -> list[tuple[float, str]]:
        updates = Updates(Slow())

        async def later(seconds: float, body: bytes) -> tuple[float, str]:
            await asyncio.sleep(seconds)
            return await told(updates, body)

        sent = [(0, slow_line), (0, b"100"), (1, b"3"), (2, b"100"), (4, b"100"), (30, b"100")]
        return await asyncio.gather(*(later(seconds, body) for seconds, body in sent))

    ends = play(act)
    assert [at for at, _ in ends] == pytest.approx([15, 10, 4, 12, 14, 40], abs=1e-3)
    assert [problem for _, problem in ends] == ["no answer within 15 s", late, "", late, late, late]


def test_no_timer_is_left_when_nothing_is_under_way() -> None:
    async def act() -> float:
        updates = Updates(Slow())
        for _ in range(50):
            assert (await told(updates, b"1"))[1] == ""
        timers = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
        assert len(timers) <= 1  # not one for each update
        await asyncio.sleep(2 * FIRST_ANSWER)
        return len(timers)

    assert play(act) == 0


@pytest.mark.parametrize("on_cancel", [None, CutError("cancelled")], ids=["cancelled", "translated"])
def test_task_whose_update_was_late_goes_on_as_if_it_had_never_been_cancelled(on_cancel: Exception | None) -> None:
    async def act() -> None:
        client = Slow()
        client.on_cancel = on_cancel
        updates = Updates(client)
        for number in (1, 2):
            at, problem = await told(updates, b"100")
            assert at == pytest.approx(FIRST_ANSWER * number, abs=1e-3)
            assert problem
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    play(act)


def test_cancellation_by_somebody_else_is_no_late_answer() -> None:
    async def act() -> None:
        updates = Updates(Slow())
        by_others = asyncio.create_task(told(updates, b"100"))
        by_both = asyncio.create_task(told(updates, b"100"))
        await asyncio.sleep(1)
        by_others.cancel()
        await updates.break_off(0)
        by_both.cancel()
        await asyncio.wait([by_others, by_both])
        assert by_others.cancelled()
        assert by_both.cancelled()

    play(act)


def test_after_the_end_no_update_begins_and_those_under_way_are_cut() -> None:
    async def act() -> None:
        updates = Updates(Slow())
        under_way = asyncio.create_task(told(updates, b"100"))
        await asyncio.sleep(1)
        await updates.break_off(1)
        at, problem = await under_way
        assert (round(at, 2), problem) == (1, "no answer within 1 s")
        assert (await told(updates, b"0"))[1] == "the worker stops"

    play(act)
