"""Updates whose answer was lost: some, sent again, would take the task away from whoever has it by now."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

import virtual_time
from engine_fakes import FakeClient, Heard, outcome_for, task_json, unavailable
from podium import TaskResultStatus
from podium.delivery import Delivery
from podium.errors import AnswerError, CutError, PodiumError, ServerError, TimeoutExceededError
from podium.models.tasks import TaskState
from podium.polled import read_task
from podium.updates import FIRST_ANSWER, Updates


def arrived(client: FakeClient) -> bool:
    """Give a task back over a connection that is cut; return whether that was taken for done."""
    client.update_errors.append(CutError("cut"))

    async def act() -> bool:
        with contextlib.suppress(CutError):
            await Updates(client).give_back(read_task(task_json("t", pollCount=3)), "worker")
            return True
        return False

    return virtual_time.run(act(), virtual_time.Clock())


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (TaskState(status="IN_PROGRESS", worker_id="worker"), False),
        (TaskState(status="IN_PROGRESS"), False),
        (TaskState(status="IN_PROGRESS", worker_id="worker", poll_count=3), False),
        (TaskState(status="IN_PROGRESS", worker_id="worker", poll_count=4), True),  # it came, and went to us again
        (TaskState(status="SCHEDULED", worker_id="worker"), True),
        (TaskState(status="IN_PROGRESS", worker_id="somebody else"), True),
        (TaskState(status="COMPLETED", worker_id="somebody else"), True),
    ],
)
def test_I5_look_at_the_task_tells_whether_it_has_arrived(state: TaskState, expected: bool) -> None:
    client = FakeClient()
    client.states["t"] = state
    assert arrived(client) is expected
    assert len(client.updates) == len(client.looks) == 1


def test_look_that_fails_tells_nothing() -> None:
    client = FakeClient()
    client.away = unavailable()
    assert not arrived(client)


def test_look_that_is_not_answered_is_given_up() -> None:
    class Silent(FakeClient):
        async def get_task_state(self, task_id: str) -> TaskState:
            await asyncio.sleep(FIRST_ANSWER * 10)
            raise AssertionError("nobody waited")

    assert not arrived(Silent())


@pytest.mark.parametrize(
    "error",
    [CutError("cut"), TimeoutExceededError("late"), AnswerError("a web page"), ServerError(504, "Gateway Timeout")],
    ids=lambda error: type(error).__name__,
)
def test_I5_give_back_that_may_have_arrived_is_looked_after_before_it_is_sent_again(error: PodiumError) -> None:
    """Also when the first look is not answered either."""
    client = FakeClient()
    client.update_errors.append(error)
    client.look_errors.append(unavailable())
    client.states["t"] = TaskState(status="IN_PROGRESS", worker_id="somebody else")

    async def act() -> Delivery:
        delivery = Delivery(client, Heard())
        await delivery.give_back(read_task(task_json("t")), "worker")
        return delivery

    delivery = virtual_time.run(act(), virtual_time.Clock())
    assert len(client.updates) == 1
    assert delivery.endings.handed_back == 1


def test_give_back_that_is_answered_needs_no_look() -> None:
    client = FakeClient()

    async def give_back() -> None:
        await Updates(client).give_back(read_task(task_json("t")), "worker")

    virtual_time.run(give_back(), virtual_time.Clock())
    assert client.looks == []
    (update,) = client.updates
    assert (update.way, update.body["status"]) == ("v1", "IN_PROGRESS")


@pytest.mark.parametrize(
    ("state", "times"),
    [
        (TaskState(status="IN_PROGRESS", worker_id="worker"), 2),
        (TaskState(status="SCHEDULED", worker_id="worker"), 1),
        (TaskState(status="IN_PROGRESS", worker_id="somebody else"), 1),
    ],
)
def test_interim_result_that_has_arrived_is_not_sent_again(state: TaskState, times: int) -> None:
    client = FakeClient()
    client.states["t"] = state
    client.update_errors.append(CutError("cut"))

    async def act() -> Delivery:
        delivery = Delivery(client, Heard())
        running = asyncio.create_task(delivery.run())
        task = read_task(task_json("t"))
        outcome = outcome_for(task, TaskResultStatus.IN_PROGRESS, callbackAfterSeconds=5)
        await delivery.report("type", "worker", task, outcome, want_next=False)
        await asyncio.sleep(30)
        running.cancel()
        await asyncio.wait([running])
        return delivery

    delivery = virtual_time.run(act(), virtual_time.Clock())
    assert len(client.updates) == times
    assert delivery.waiting == 0
