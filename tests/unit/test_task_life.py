"""The life of tasks, by histories that Hypothesis makes up: the real runner, delivery and leases in virtual time.

Whatever a server, a network, functions and children do, each task that was given ends in one accepted report or a
give-back (I1), no more functions run than there are slots (I3), nothing is sent for a task after its give-back (I5).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

import virtual_time
from checker import every_task_ends, nothing_after_a_give_back, running_within_slots
from engine_fakes import FakeCrew, outcome_for
from event_log import EventLog, Kind
from model_server import FAULTS, ModelServer
from podium import TaskResultStatus
from podium.frames import Cause, Outcome
from podium.polled import PolledTask, failure, ids_of
from runner_stage import Stage, Theatre, passing

SLOTS = 3
POLL_INTERVAL = 2.0
#: Long enough for every pause between attempts, and every Retry-After, to be over.
LONG = 200.0

pick = st.integers(0, 10)


class NotingCrew(FakeCrew):
    """Notes when functions start and end."""

    def __init__(self, log: EventLog, clock: virtual_time.Clock) -> None:
        super().__init__(SLOTS)
        self._log, self._clock = log, clock

    def run(self, worker: int, task: PolledTask) -> Any:
        future = super().run(worker, task)
        self._log.add(Kind.STARTED, task.task_id, at=self._clock.now)
        future.add_done_callback(lambda _: self._log.add(Kind.ENDED, task.task_id, at=self._clock.now))
        return future


def killed(task: PolledTask) -> Outcome:
    return failure(ids_of(task), 0, "me", Cause("ProcessDied", "worker process killed by SIGKILL"))


def ended(status: TaskResultStatus, cause: Cause | None = None, **fields: Any) -> Callable[[PolledTask], Outcome]:
    return lambda task: outcome_for(task, status, cause, workerId="me", **fields)


ENDS = {
    "completed": ended(TaskResultStatus.COMPLETED),
    "failed": ended(TaskResultStatus.FAILED, Cause("ValueError", "no luck")),
    "terminal": ended(TaskResultStatus.FAILED_WITH_TERMINAL_ERROR, Cause("Never", "no")),
    "postponed": ended(TaskResultStatus.IN_PROGRESS, callbackAfterSeconds=5),
}


class Complaints(logging.Handler):
    """Keeps what podium says of errors of its own."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.records.append(record)


class TaskLife(RuleBasedStateMachine):
    """Each rule is something that may happen; ``teardown`` heals the server, stops the worker, and judges."""

    clock: ClassVar[virtual_time.Clock]

    def __init__(self) -> None:
        super().__init__()
        self.loop = virtual_time.runner(self.clock)
        self.server = ModelServer(response_timeout=20)
        self.complaints = Complaints()
        logging.getLogger("podium").addHandler(self.complaints)
        self.stage = self.play(self._open())

    def play(self, scene: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run(scene)

    async def _open(self) -> Stage:
        crew = NotingCrew(self.server.log, self.clock)
        return Stage(self.server, SLOTS, crew, {"poll_interval": 1000 * POLL_INTERVAL, "lease_extend_enabled": True})

    async def _close(self) -> None:
        """Stop as the engine does: what still runs after the grace period is killed, and given back."""
        self.stage.runner.stop()
        await passing(1.0)
        for task_id in self.stage.crew.running:
            self.stage.crew.interrupt(task_id)
        await self.stage.stop()

    # what the server does

    @rule(count=st.integers(1, 5), seconds=st.sampled_from([0.0, POLL_INTERVAL]))
    def server_has_tasks(self, count: int, seconds: float) -> None:
        self.server.add(count)
        self.play(passing(seconds))

    @rule(faults=st.lists(st.sampled_from(FAULTS), min_size=1, max_size=4))
    def updates_meet(self, faults: list[str]) -> None:
        self.server.update_faults.extend(faults)

    @rule(faults=st.lists(st.sampled_from(FAULTS), min_size=1, max_size=3))
    def polls_meet(self, faults: list[str]) -> None:
        self.server.poll_faults.extend(faults)

    @rule(faults=st.lists(st.sampled_from(FAULTS), min_size=1, max_size=3))
    def heartbeats_meet(self, faults: list[str]) -> None:
        self.server.heartbeat_faults.extend(faults)

    @precondition(lambda self: not self.server.is_down)
    @rule()
    def server_goes_down(self) -> None:
        self.server.is_down = True

    @precondition(lambda self: self.server.is_down)
    @rule()
    def server_comes_up(self) -> None:
        self.server.is_down = False

    @precondition(lambda self: self.server.in_state("IN_PROGRESS"))
    @rule(number=pick)
    def server_cancels(self, number: int) -> None:
        self.play(self._touch(self.server.cancel, number))

    @precondition(lambda self: self.server.in_state("IN_PROGRESS"))
    @rule(number=pick)
    def workflow_is_removed(self, number: int) -> None:
        self.play(self._touch(self.server.remove, number))

    @precondition(lambda self: self.server.in_state("IN_PROGRESS"))
    @rule(number=pick)
    def server_will_refuse(self, number: int) -> None:
        self.play(self._touch(self.server.refused.add, number))

    async def _touch(self, act: Callable[[str], None], number: int) -> None:
        tasks = self.server.in_state("IN_PROGRESS")
        act(tasks[number % len(tasks)])

    @rule(count=st.integers(1, 3))
    def stranger_takes(self, count: int) -> None:
        self.play(self.server.give_to_a_stranger(count))

    @rule()
    def stranger_is_done(self) -> None:
        self.play(self.server.hear_from_the_stranger())

    # what functions and children do

    @rule(
        hows=st.lists(st.sampled_from(sorted(ENDS)), min_size=1, max_size=SLOTS),
        faults=st.lists(st.sampled_from(FAULTS), max_size=SLOTS),
        seconds=st.sampled_from([0.0, 0.5, POLL_INTERVAL]),
    )
    def functions_end(self, hows: list[str], faults: list[str], seconds: float) -> None:
        if not self.stage.crew.running:  # then there is work, so that most histories are about something
            self.server.add(len(hows))
            self.play(passing(2 * POLL_INTERVAL))
        self.server.update_faults.extend(faults)
        for task_id, how in zip(self.stage.crew.running, hows, strict=False):
            self.play(self._end(task_id, ENDS[how]))
        self.play(passing(seconds))

    @precondition(lambda self: self.stage.crew.running)
    @rule()
    def child_dies(self) -> None:
        for task_id in self.stage.crew.running:
            self.play(self._end(task_id, killed))

    async def _end(self, task_id: str, make: Callable[[PolledTask], Outcome]) -> None:
        self.stage.crew.finish(task_id, make)

    # time, and the worker's own end

    @rule(seconds=st.sampled_from([0.002, 0.1, 1.0, 5.0, 15.0]))
    def time_passes(self, seconds: float) -> None:
        self.play(passing(seconds))

    @precondition(lambda self: not self.server.is_down)
    @rule(
        faults=st.sampled_from([[], ["cut before"], ["cut after"], ["slow"], ["cut after", "slow"]]),
        stranger_waits=st.booleans(),
    )
    def worker_restarts(self, faults: list[str], stranger_waits: bool) -> None:
        self.server.heal()
        self.play(passing(5.0))  # there is no disk here on which results could wait for the next start
        while self.stage.delivery.waiting:
            self.play(passing(5.0))
        self.server.update_faults.extend(faults)
        self.server.stranger_waits = stranger_waits
        self.play(self._close())
        self.server.stranger_waits = False
        self.stage = self.play(self._open())

    @invariant()
    def slots_are_enough(self) -> None:
        assert len(self.stage.crew.running) <= SLOTS
        assert self.stage.runner.running <= SLOTS

    def teardown(self) -> None:
        try:
            self.server.heal()
            while tasks := self.stage.crew.running[1:]:  # one is left for the stop to give back
                for task_id in tasks:
                    self.play(self._end(task_id, ENDS["completed"]))
                self.play(passing(POLL_INTERVAL))
            self.play(passing(LONG))
            self.play(self._close())
            self.play(self.server.hear_from_the_stranger())
            events = self.server.log.events
            # Not I4: a server that is down, or fails heartbeats, cannot hear the signs of life.
            assert list(every_task_ends(events)) == []
            assert list(running_within_slots(events, SLOTS)) == []
            assert list(nothing_after_a_give_back(events)) == []
            assert self.complaints.records == []
        finally:
            logging.getLogger("podium").removeHandler(self.complaints)
            self.loop.close()


def live(monkeypatch: pytest.MonkeyPatch, histories: int) -> None:
    TaskLife.clock = Theatre(monkeypatch).clock
    logging.getLogger("podium.tasks").setLevel(logging.CRITICAL)
    try:
        run_state_machine_as_test(
            TaskLife,
            settings=settings(
                max_examples=histories, stateful_step_count=40, deadline=None, database=None, print_blob=True,
                derandomize=histories < 1000, suppress_health_check=list(HealthCheck),
            ),
        )  # fmt: skip
    finally:
        logging.getLogger("podium.tasks").setLevel(logging.NOTSET)


def test_I1_I3_I5_hold_in_hundreds_of_histories(monkeypatch: pytest.MonkeyPatch) -> None:
    live(monkeypatch, 300)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_I1_I3_I5_hold_in_ten_thousand_histories(monkeypatch: pytest.MonkeyPatch) -> None:
    live(monkeypatch, 10_000)
