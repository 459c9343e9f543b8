"""Heartbeats, in virtual time: their pace, what a failure does, and that nothing is kept longer than the task."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

import pytest

import virtual_time
from engine_fakes import FakeClient, task_json, unavailable
from podium.lease import HEARTBEAT_SHARE, LeaseKeeper
from podium.polled import PolledTask, read_task
from podium.schedule import Schedule

START = 1000.0


def task(task_id: str, timeout: int = 10) -> PolledTask:
    return read_task(task_json(task_id, responseTimeoutSeconds=timeout))


def on_stage(client: FakeClient, play: Any) -> None:
    """Run a play with a keeper whose loop runs beside it."""

    async def main() -> None:
        schedule = Schedule()
        keeper = LeaseKeeper(client, schedule)
        await virtual_time.beside(schedule.run(), play(keeper))

    clock = virtual_time.Clock()
    clock.now = START
    virtual_time.run(main(), clock)


def passing(seconds: float) -> Coroutine[Any, Any, None]:
    return asyncio.sleep(seconds)  # virtual seconds


@pytest.mark.parametrize("timeout", [2, 3, 4, 5, 10, 60, 3600])
def test_D01_heartbeats_come_at_their_share_of_the_response_timeout(timeout: int) -> None:
    client = FakeClient()

    async def play(keeper: LeaseKeeper) -> None:
        keeper.keep(task("t", timeout))
        await passing(10 * timeout)

    on_stage(client, play)
    pace = timeout * HEARTBEAT_SHARE
    times = [at - START for at, _ in client.beats]
    assert times == pytest.approx([pace * number for number in range(1, len(times) + 1)])
    assert len(times) in {24, 25}


def test_many_tasks_at_their_own_pace() -> None:
    client = FakeClient()

    async def play(keeper: LeaseKeeper) -> None:
        keeper.keep(task("slow", 100))
        await passing(1)
        keeper.keep(task("fast", 5))
        await passing(40)

    on_stage(client, play)
    assert [at - START for at, name in client.beats if name == "slow"] == pytest.approx([40])
    assert [at - START for at, name in client.beats if name == "fast"] == pytest.approx(range(3, 41, 2))


@pytest.mark.parametrize("timeout", [0, -1])
def test_without_a_response_timeout_there_is_nothing_to_keep(timeout: int) -> None:
    client = FakeClient()

    async def play(keeper: LeaseKeeper) -> None:
        keeper.keep(task("t", timeout))
        assert keeper.kept == 0
        await passing(100_000)

    on_stage(client, play)
    assert client.beats == []


def test_none_after_release() -> None:
    client = FakeClient()

    async def play(keeper: LeaseKeeper) -> None:
        mine = task("t")
        keeper.keep(mine)
        await passing(5)
        assert keeper.kept == 1
        keeper.release(mine)
        keeper.release(mine)  # once is enough, twice is harmless
        assert keeper.kept == 0
        await passing(1000)

    on_stage(client, play)
    assert len(client.beats) == 1


def test_task_that_is_handed_out_again_is_kept_anew() -> None:
    client = FakeClient()

    async def play(keeper: LeaseKeeper) -> None:
        first = task("t")
        keeper.keep(first)
        await passing(3)
        keeper.release(first)
        keeper.keep(task("t"))
        await passing(4.5)

    on_stage(client, play)
    assert [at - START for at, _ in client.beats] == pytest.approx([7])


def test_defect_10_D05_failed_heartbeat_is_repeated_sooner() -> None:
    client = FakeClient()
    client.beat_errors.extend([unavailable(), unavailable(), None])

    async def play(keeper: LeaseKeeper) -> None:
        keeper.keep(task("t", 20))
        await passing(21)

    on_stage(client, play)
    assert [at - START for at, _ in client.beats] == pytest.approx([8, 10, 12, 20])


def test_repeats_are_not_faster_than_every_half_second() -> None:
    client = FakeClient()
    client.beat_errors.extend([unavailable()] * 3)

    async def play(keeper: LeaseKeeper) -> None:
        keeper.keep(task("t", 1))
        await passing(1.5)

    on_stage(client, play)
    assert [at - START for at, _ in client.beats] == pytest.approx([0.4, 0.9, 1.4])


@pytest.mark.parametrize("timeout", [2, 5, 60])
def test_heartbeat_without_an_answer_is_repeated_before_the_lease_is_lost(timeout: int) -> None:
    client = FakeClient()

    async def play(keeper: LeaseKeeper) -> None:
        client.gate = asyncio.Event()
        keeper.keep(task("t", timeout))
        await passing(timeout)

    on_stage(client, play)
    assert len(client.beats) >= 2
    assert client.beats[1][0] - START < 0.95 * timeout


def test_one_task_s_silence_holds_up_nobody_else() -> None:
    class Half(FakeClient):
        async def extend_lease(self, task_id: str, workflow_id: str) -> None:
            await super().extend_lease(task_id, workflow_id)
            if task_id == "silent":
                await asyncio.Event().wait()

    client = Half()

    async def play(keeper: LeaseKeeper) -> None:
        keeper.keep(task("silent"))
        keeper.keep(task("good"))
        await passing(41)

    on_stage(client, play)
    assert [at - START for at, name in client.beats if name == "good"] == pytest.approx(range(4, 41, 4))


def test_heartbeat_under_way_at_release_is_the_last() -> None:
    client = FakeClient()

    async def play(keeper: LeaseKeeper) -> None:
        client.gate = asyncio.Event()
        mine = task("t")
        keeper.keep(mine)
        await passing(4.5)
        keeper.release(mine)
        client.gate.set()
        await passing(100)

    on_stage(client, play)
    assert len(client.beats) == 1


def test_outage_is_two_lines_whatever_the_number_of_tasks(caplog: pytest.LogCaptureFixture) -> None:
    client = FakeClient()
    client.beat_errors.extend([unavailable()] * 500)

    async def play(keeper: LeaseKeeper) -> None:
        for number in range(100):
            keeper.keep(task(str(number)))
        await passing(60)

    with caplog.at_level(logging.INFO):
        on_stage(client, play)
    first, last = caplog.messages
    assert first == "heartbeat of task 0 failed, it will be repeated: 503 unavailable"
    assert last == "heartbeats work again"


def test_released_tasks_are_not_kept_in_memory_until_their_beat_would_be_due() -> None:
    async def play(keeper: LeaseKeeper) -> None:
        staying = task("staying", 3600)
        keeper.keep(staying)
        for number in range(5000):
            passing_by = task(str(number), 3600)
            keeper.keep(passing_by)
            keeper.release(passing_by)
            assert len(keeper._schedule) < 2100
        assert keeper.kept == 1
        await passing(1441)

    client = FakeClient()
    on_stage(client, play)
    assert [name for _, name in client.beats] == ["staying"]


def test_after_max_lease_seconds_there_are_no_more_heartbeats_and_that_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = FakeClient()

    async def play(keeper: LeaseKeeper) -> None:
        keeper.keep(task("hung"), 10)
        keeper.keep(task("good"))
        await passing(1000)
        keeper.release(task("hung"))

    on_stage(client, play)
    assert [at - START for at, name in client.beats if name == "hung"] == pytest.approx([4, 8])
    assert len([name for _, name in client.beats if name == "good"]) == 249
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage() == (
        "task hung of workflow flow-hung still runs after max_lease_seconds: its lease is kept no longer, and the "
        "server takes it back after its response timeout"
    )


@pytest.mark.parametrize(("ended_after", "beats"), [(6, [4, 8, 12, 16, 20]), (14, [4, 8, 14, 18])])
def test_limit_is_for_code_that_runs_not_for_a_result_that_waits(ended_after: float, beats: list[float]) -> None:
    client = FakeClient()

    async def play(keeper: LeaseKeeper) -> None:
        mine = task("t")
        keeper.keep(mine, 10)
        await passing(ended_after)
        keeper.lift_limit(mine)
        keeper.lift_limit(mine)
        await passing(21 - ended_after)

    on_stage(client, play)
    assert [at - START for at, _ in client.beats] == pytest.approx(beats)


def test_limit_of_a_task_without_a_lease_is_nothing() -> None:
    client = FakeClient()

    async def play(keeper: LeaseKeeper) -> None:
        keeper.lift_limit(task("unknown"))
        keeper.keep(task("t", 0), 10)
        keeper.lift_limit(task("t", 0))
        await passing(100)

    on_stage(client, play)
    assert client.beats == []
