"""THE loop: when it polls, how it waits, pauses and stops. Seconds named here are exact."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from engine_fakes import FakeClient, FakeCrew, task_json, unavailable
from podium import (
    PollCompleted,
    PollFailure,
    PollStarted,
)
from podium.backoff import STEP
from podium.errors import AnswerError, AuthError, ServerError
from runner_stage import START, Stage, Theatre, given_back, jittered, passing, seconds, tasks, ways


@pytest.fixture
def theatre(monkeypatch: pytest.MonkeyPatch) -> Theatre:
    return Theatre(monkeypatch)


# what a poll asks for


def test_defect_22_everything_that_was_set_is_sent(theatre: Theatre) -> None:
    stage = theatre.show(seconds(0), slots=3, domain="d", poll_timeout=1500)
    (poll,) = stage.client.polls
    assert poll == (START, "type", "me", "d", 3, 1500)


def test_without_a_domain_none_is_sent(theatre: Theatre) -> None:
    assert theatre.show(seconds(0)).client.polls[0].domain is None


def test_count_is_the_number_of_free_slots(theatre: Theatre) -> None:
    async def play(stage: Stage) -> None:
        await passing()
        assert stage.crew.started == ["a", "b", "c"]
        assert [poll.wanted for poll in stage.client.polls][:3] == [4, 2, 1]
        stage.crew.finish("a")
        stage.crew.finish("b")
        before = len(stage.client.polls)
        await passing(1)
        assert {poll.wanted for poll in stage.client.polls[before + 1 :]} == {3}

    theatre.show(play, FakeClient(tasks("a", "b"), tasks("c")))


def test_crew_may_have_less_room_than_the_runner(theatre: Theatre) -> None:
    stage = theatre.show(seconds(0), slots=4, crew=FakeCrew(2))
    assert stage.client.polls[0].wanted == 2


def test_nothing_is_sent_while_all_slots_are_busy(theatre: Theatre) -> None:
    async def play(stage: Stage) -> None:
        await passing(1000)
        assert len(stage.client.polls) == 1
        assert stage.runner.running == 2
        stage.crew.finish("a")
        await passing()
        assert [poll.wanted for poll in stage.client.polls[:2]] == [2, 1]
        assert stage.client.polls[1].at == START + 1000

    theatre.show(play, FakeClient(tasks("a", "b")), slots=2)


def test_slot_is_held_until_the_server_has_the_result(theatre: Theatre) -> None:
    async def play(stage: Stage) -> None:
        stage.client.gate = asyncio.Event()
        await passing()
        stage.crew.finish("a")
        await passing(5)
        assert stage.runner.running == 1
        assert stage.runner.task_ids == ["a"]
        assert len(stage.client.polls) == 1
        stage.client.gate.set()
        await passing()
        assert stage.runner.running == 0
        assert len(stage.client.polls) == 2

    theatre.show(play, FakeClient(tasks("a")), slots=1)


# how often


@pytest.mark.parametrize("interval", [100, 5000])
def test_defect_45_empty_polls_back_off_to_the_real_poll_interval(theatre: Theatre, interval: float) -> None:
    stage = theatre.show(seconds(60), poll_interval=interval)
    expected = [min(0.001 * 2**number, interval / 1000) for number in range(len(stage.waits))]
    assert all(
        wait == pytest.approx(pause) or (pause >= 0.1 and pause <= wait <= pause + STEP)
        for wait, pause in zip(stage.waits, expected, strict=True)
    )
    assert max(stage.waits) >= interval / 1000  # also beyond the 1.024 s at which others stop growing


def test_idle_workers_poll_together(theatre: Theatre) -> None:
    """They need the process awake at a few moments then, instead of each at one of its own."""
    at = {poll.at for poll in theatre.show(seconds(60), poll_interval=100).client.polls[10:]}
    assert len(at) > 100
    assert all(moment % STEP == 0 for moment in at)


def test_full_and_partly_full_polls_are_followed_at_once(theatre: Theatre) -> None:
    client = FakeClient(tasks("a", "b", "c", "d"), tasks("e"), [], tasks("f"), [])
    stage = theatre.show(seconds(0.0005), client, crew=FakeCrew(4, instantly=True))
    assert [poll.at for poll in stage.client.polls[:3]] == [START] * 3


def test_task_resets_the_backoff(theatre: Theatre) -> None:
    client = FakeClient([], [], [], tasks("a"), [], [])
    stage = theatre.show(seconds(0.0125), client, crew=FakeCrew(4, instantly=True))
    assert stage.waits[:6] == jittered(0.001, 0.002, 0.004, 0, 0.001, 0.002, jitter=0)


def test_poll_interval_of_zero_polls_without_pause(theatre: Theatre) -> None:
    class Slow(FakeClient):
        async def poll_tasks(self, *args: Any, **fields: Any) -> list[bytes]:
            await asyncio.sleep(0.1)  # virtual: the server's long poll
            return await super().poll_tasks(*args, **fields)

    stage = theatre.show(seconds(1.05), Slow(), poll_interval=0)
    assert stage.waits == pytest.approx([0.1] * 10)


def test_slot_that_comes_free_does_not_shorten_the_backoff(theatre: Theatre) -> None:
    async def play(stage: Stage) -> None:
        await passing(60)
        before = stage.client.polls[-1].at
        stage.crew.finish("a")
        await passing(0.1)
        assert stage.client.polls[-1].at == before

    theatre.show(play, FakeClient(tasks("a")), slots=2, poll_interval=30_000)


# failed polls


def test_defect_02_authentication_failures_stay_away_for_2_4_8_up_to_60_seconds(theatre: Theatre) -> None:
    client = FakeClient()
    client.last_answer = AuthError(401, "no")
    stage = theatre.show(seconds(300), client)
    assert stage.waits == [2, 4, 8, 16, 32, 60, 60, 60]


def test_B09_defect_02_other_failures_back_off_and_come_back_soon(theatre: Theatre) -> None:
    client = FakeClient()
    client.last_answer = unavailable()

    async def play(stage: Stage) -> None:
        await passing(15)
        assert len(client.polls) <= 15
        client.last_answer = []
        count = len(client.polls)
        await passing(2)
        assert len(client.polls) > count

    stage = theatre.show(play, client)
    assert stage.waits[:7] == jittered(0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, jitter=0.2)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_B09_fifteen_seconds_of_server_errors_are_few_polls_and_fewer_lines(
    theatre: Theatre, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    client = FakeClient()
    client.last_answer = ServerError(status, "bad")
    back: list[float] = []

    async def play(stage: Stage) -> None:
        await passing(15)
        assert len(client.polls) <= 15
        client.last_answer = []
        while stage.runner.poll_failure is not None:
            await passing(0.1)
            back.append(0.1)

    with caplog.at_level(logging.DEBUG, "podium"):
        theatre.show(play, client)
    assert sum(back) <= 2.1
    assert len(caplog.records) <= 5


def test_long_outage_is_polled_every_ten_seconds(theatre: Theatre) -> None:
    client = FakeClient()
    client.last_answer = unavailable()
    stage = theatre.show(seconds(600), client)
    assert stage.waits[-20:] == jittered(*[10] * 20, jitter=0.2)


@pytest.mark.parametrize(("wish", "pause"), [(5.0, 5.0), (600.0, 60.0)])
def test_B10_retry_after_is_obeyed_up_to_a_minute(theatre: Theatre, wish: float, pause: float) -> None:
    stage = theatre.show(seconds(61), FakeClient(unavailable(retry_after=wish)))
    assert stage.waits[0] == pause


def test_success_forgets_the_failures(theatre: Theatre) -> None:
    client = FakeClient(*[unavailable()] * 5, [], unavailable(), [])
    waits = theatre.show(seconds(10), client, poll_interval=1).waits
    assert waits[:5] == jittered(0.1, 0.2, 0.4, 0.8, 1.6, jitter=0.2)
    assert waits[6:7] == jittered(0.1, jitter=0.2)


def test_outage_is_told_once_then_seldom_and_its_end(theatre: Theatre, caplog: pytest.LogCaptureFixture) -> None:
    client = FakeClient()
    client.last_answer = unavailable()

    async def play(stage: Stage) -> None:
        await passing(150)
        client.last_answer = []
        await passing(20)

    with caplog.at_level(logging.INFO):
        theatre.show(play, client)
    first, *repeated, last = caplog.messages
    assert first == "polling for 'type' failed: 503 unavailable"
    assert len(repeated) == 2
    assert all("is still failing, " in line and line.endswith("s: 503 unavailable") for line in repeated)
    assert last.startswith("polling for 'type' works again after ")


def test_answer_that_is_none_is_a_failed_poll(theatre: Theatre) -> None:
    stage = theatre.show(seconds(0.05), FakeClient(AnswerError("HTML")))
    (failure,) = stage.heard.of(PollFailure)
    assert isinstance(failure.cause, AnswerError)
    assert stage.runner.last_poll == 0


# events of polls


def test_poll_events_belong_to_real_polls(theatre: Theatre) -> None:
    async def play(stage: Stage) -> None:
        await passing(1)
        assert [name for name in stage.heard.names if name.startswith("Poll")][:6] == [
            "PollStarted", "PollCompleted", "PollStarted", "PollFailure", "PollStarted", "PollCompleted",
        ]  # fmt: skip
        assert len(stage.heard.of(PollStarted)) == len(stage.client.polls)
        assert stage.heard.of(PollStarted)[0].poll_count == 4
        assert stage.heard.of(PollCompleted)[0].tasks_received == 1
        stage.runner.set_paused(True)
        await passing()
        before = len(stage.heard.of(PollStarted))
        await passing(10)
        assert len(stage.heard.of(PollStarted)) == before

    theatre.show(play, FakeClient(tasks("a"), unavailable()), crew=FakeCrew(4, instantly=True))


def test_duration_of_a_poll_is_measured(theatre: Theatre) -> None:
    class Slow(FakeClient):
        async def poll_tasks(self, *args: Any, **fields: Any) -> list[bytes]:
            await asyncio.sleep(0.25)
            return await super().poll_tasks(*args, **fields)

    stage = theatre.show(seconds(0.3), Slow(tasks("a"), unavailable()))
    assert stage.heard.of(PollCompleted)[0].duration_ms == pytest.approx(250)


# pause


def test_defect_36_paused_worker_neither_polls_nor_chains(theatre: Theatre) -> None:
    async def play(stage: Stage) -> None:
        await passing()
        stage.runner.set_paused(True)
        stage.crew.finish("a")
        await passing(1000)
        assert len(stage.client.polls) == 1
        assert ways(stage) == [("a", "v1")]
        stage.runner.set_paused(False)
        await passing()
        assert len(stage.client.polls) == 2

    client = FakeClient(tasks("a"))
    client.next_tasks.extend(tasks("b"))
    theatre.show(play, client, slots=1)


def test_pause_and_its_end_are_told_once(theatre: Theatre, caplog: pytest.LogCaptureFixture) -> None:
    async def play(stage: Stage) -> None:
        for paused in (True, True, False, False):
            stage.runner.set_paused(paused)
        await passing()

    with caplog.at_level(logging.INFO):
        theatre.show(play, FakeClient())
    assert caplog.messages == ["worker 'type' is paused", "worker 'type' goes on"]


def test_defect_36_task_that_was_asked_for_before_the_pause_still_runs(theatre: Theatre) -> None:
    async def play(stage: Stage) -> None:
        stage.client.gate = asyncio.Event()
        await passing()
        stage.crew.finish("a")
        await passing()
        stage.runner.set_paused(True)
        stage.client.gate.set()
        await passing()
        assert stage.crew.running == ["b"]

    client = FakeClient(tasks("a"))
    client.next_tasks.extend(tasks("b", "c"))
    stage = theatre.show(play, client, slots=1)
    assert stage.crew.started == ["a", "b"]


def test_worker_may_start_paused(theatre: Theatre) -> None:
    async def play(stage: Stage) -> None:
        await passing(1000)
        assert stage.client.polls == []
        stage.runner.set_paused(False)
        await passing()
        assert len(stage.client.polls) == 1

    stage = theatre.show(play, paused=True)
    assert stage.heard.names[0] == "TaskPaused"


def test_pause_is_announced_once(theatre: Theatre) -> None:
    async def play(stage: Stage) -> None:
        await passing()
        stage.runner.set_paused(True)
        stage.runner.set_paused(True)
        for name in "abc":
            stage.crew.finish(name)
            await passing(1)
        stage.runner.set_paused(False)
        await passing()
        stage.runner.set_paused(True)
        await passing()

    stage = theatre.show(play, FakeClient(tasks("a", "b", "c")))
    assert stage.heard.names.count("TaskPaused") == 2


def test_polled_tasks_that_wait_are_run_during_a_pause(theatre: Theatre) -> None:
    async def play(stage: Stage) -> None:
        await passing()
        stage.runner.set_paused(True)
        stage.crew.finish("a")
        await passing()
        assert stage.crew.running == ["b"]

    theatre.show(play, FakeClient(tasks("a", "b")), slots=1)


# stopping


def test_no_poll_after_stop_and_running_tasks_are_seen_through(theatre: Theatre) -> None:
    async def play(stage: Stage) -> None:
        await passing()
        stage.runner.stop()
        await passing()
        assert stage.running.done()
        assert stage.runner.running == 1

    client = FakeClient(tasks("a"))
    client.next_tasks.append(task_json("never"))
    stage = theatre.show(play, client, slots=1)
    assert ways(stage) == [("a", "v1")]
    assert len(client.polls) == 1


def test_stop_ends_every_kind_of_wait(theatre: Theatre) -> None:
    async def play(stage: Stage) -> None:
        await passing()
        stage.runner.stop()
        before = asyncio.get_running_loop().time()
        await stage.running
        assert asyncio.get_running_loop().time() == before

    theatre.show(play, poll_interval=30_000)
    theatre.show(play, FakeClient(unavailable(retry_after=60)))
    theatre.show(play, paused=True)
    theatre.show(play, FakeClient(tasks("a")), slots=1)


def test_A07_tasks_of_a_poll_that_is_answered_after_stop_are_given_back(theatre: Theatre) -> None:
    async def play(stage: Stage) -> None:
        answer: asyncio.Future[list[bytes]] = asyncio.get_running_loop().create_future()
        stage.client.poll_answers.append(answer)
        await passing()
        stage.runner.stop()
        await passing(1)
        assert not stage.running.done()  # an open poll is awaited: its tasks are ours
        answer.set_result(tasks("a", "b", outputData={"kept": 1}))
        await passing()
        assert sorted(given_back(stage)) == ["a", "b"]
        assert all(update.body["outputData"] == {"kept": 1} for update in stage.client.updates)
        assert {update.way for update in stage.client.updates} == {"v1"}
        assert stage.crew.started == []
        assert stage.leases.kept == 0

    theatre.show(play, lease_extend_enabled=True)


def test_defect_05_chained_task_that_arrives_while_stopping_is_given_back(theatre: Theatre) -> None:
    async def play(stage: Stage) -> None:
        stage.client.gate = asyncio.Event()
        await passing()
        stage.crew.finish("a")
        await passing()
        stage.runner.stop()
        stage.client.gate.set()
        await passing()

    client = FakeClient(tasks("a"))
    client.next_tasks.append(task_json("b", outputData={"kept": 1}))
    stage = theatre.show(play, client, slots=1)
    assert stage.crew.started == ["a"]
    assert client.reported == [("a", "COMPLETED"), ("b", "IN_PROGRESS")]
    assert client.updates[1].body["outputData"] == {"kept": 1}
    assert stage.runner.task_ids == []


def test_tasks_that_wait_for_a_slot_are_given_back_at_stop(theatre: Theatre) -> None:
    async def play(stage: Stage) -> None:
        await passing()
        stage.runner.stop()
        await passing()
        assert given_back(stage) == ["b", "c"]
        assert stage.runner.task_ids == ["a"]

    theatre.show(play, FakeClient(tasks("a", "b", "c")), slots=1)


def test_interrupted_task_is_given_back(theatre: Theatre) -> None:
    async def play(stage: Stage) -> None:
        await passing()
        stage.runner.stop()
        stage.crew.interrupt("a")
        await passing()
        assert stage.runner.task_ids == []

    client = FakeClient(tasks("a", outputData={"kept": 1}, responseTimeoutSeconds=60))
    stage = theatre.show(play, client, lease_extend_enabled=True)
    assert given_back(stage) == ["a"]
    assert stage.leases.kept == 0
    assert stage.heard.names.count("TaskExecutionFailure") == 0


# capacity


def test_at_capacity_is_said_once_after_a_hundred_skipped_polls(
    theatre: Theatre, caplog: pytest.LogCaptureFixture
) -> None:
    async def play(stage: Stage) -> None:
        await passing(9.9)
        assert caplog.messages == []
        await passing(1000)

    theatre.show(play, FakeClient(tasks("a", "b")), slots=2)
    assert caplog.messages == ["worker 'type' is at capacity: 2 of 2 slots are busy, 100 polls were skipped in 10.0 s"]


def test_busy_worker_that_polls_now_and_then_is_not_at_capacity(
    theatre: Theatre, caplog: pytest.LogCaptureFixture
) -> None:
    async def play(stage: Stage) -> None:
        for number in range(10):
            await passing(9)
            stage.crew.finish(str(number))

    client = FakeClient(*(tasks(str(number)) for number in range(10)))
    theatre.show(play, client, slots=1)
    assert caplog.messages == []


def test_worker_that_is_at_capacity_most_of_the_time_says_so_once_a_minute(
    theatre: Theatre, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("podium.logs.time", theatre.clock)

    async def play(stage: Stage) -> None:
        for number in range(10):
            await passing(11)
            stage.crew.finish(str(number))

    client = FakeClient(*(tasks(str(number)) for number in range(10)))
    theatre.show(play, client, slots=1)
    first, second = caplog.messages
    assert first.endswith("100 polls were skipped in 10.0 s")
    assert second.endswith("(7 times in 66 s)")


def test_crew_that_is_down_is_not_a_worker_at_capacity(theatre: Theatre, caplog: pytest.LogCaptureFixture) -> None:
    crew = FakeCrew(0)

    async def play(stage: Stage) -> None:
        await passing(1000)
        assert stage.client.polls == []
        crew.slots = 4
        stage.runner.wake()
        await passing()
        assert len(stage.client.polls) == 1

    theatre.show(play, slots=4, crew=crew)
    assert caplog.messages == []


def test_worker_whose_slots_were_all_busy_is_not_deaf_when_one_comes_free(theatre: Theatre) -> None:
    async def play(stage: Stage) -> None:
        await passing(100)
        stage.crew.finish("a")
        for _ in range(12):  # step by step: a probe, in another thread, may ask at any of them
            assert stage.runner.running == 1 or stage.runner.deaf_for < 1
            await asyncio.sleep(0)
        assert stage.runner.running == 0

    theatre.show(play, FakeClient(tasks("a")), slots=1)
