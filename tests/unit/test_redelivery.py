"""Results that wait, in virtual time: where they are held, when they are sent again, and what the end leaves."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable, Coroutine
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import pytest

import virtual_time
from engine_fakes import FakeClient, Heard, outcome_for, task_json, unavailable
from podium import TaskResultStatus, TaskUpdateCompleted, TaskUpdateFailure
from podium import outbox as outbox_module
from podium.delivery import Delivery
from podium.endings import Endings
from podium.errors import ApiError, AuthError, ConnectError, CutError, NotFoundError, PodiumError, SupersededError
from podium.lease import LeaseKeeper
from podium.models import TaskState
from podium.polled import read_task
from podium.redelivery import MOST_AT_ONCE
from podium.schedule import Schedule
from podium.spool import BAD, SUPERSEDED, Spool
from podium.spoolfile import Record, decode_record
from podium.waiting import Watch

T = TypeVar("T")
START = 1000.0
SERVER = "http://conductor/api"


class Server(FakeClient):
    """A server that can be taken down, and that takes its time if told so."""

    def __init__(self) -> None:
        super().__init__()
        self.down: PodiumError | None = None
        self.takes = 0.0
        self.under_way = self.most_at_once = 0

    def take_down(self, error: PodiumError | None = None) -> None:
        self.down = self.away = error or ConnectError("connection refused")

    def bring_up(self) -> None:
        self.down = self.away = None

    async def post_result(self, body: bytes) -> None:
        await super().post_result(body)
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        try:
            await asyncio.sleep(self.takes)
        finally:
            self.under_way -= 1
        if self.down is not None:
            raise self.down

    async def extend_lease(self, task_id: str, workflow_id: str) -> None:
        await super().extend_lease(task_id, workflow_id)
        if self.down is not None:
            raise self.down

    def accepted_after(self, when: float) -> list[str]:
        return [update.body["taskId"] for update in self.updates if update.at >= when]


class Notes(Watch):
    def __init__(self) -> None:
        self.waiting = (0, 0)
        self.superseded: list[str] = []
        self.failures = 0

    def on_waiting(self, count: int, size: int) -> None:
        self.waiting = (count, size)

    def on_superseded(self, task_type: str) -> None:
        self.superseded.append(task_type)

    def on_spool_failure(self) -> None:
        self.failures += 1


async def at_once(work: Callable[..., T], *arguments: Any) -> T:
    """Do the disk's work here: virtual time does not wait for a thread."""
    return work(*arguments)


class Stage:
    def __init__(self, path: Path | None, server: Server | None = None) -> None:
        self.server = server or Server()
        self.heard = Heard()
        self.notes = Notes()
        schedule = Schedule()
        self.leases = LeaseKeeper(self.server, schedule)
        spool = None if path is None else Spool(path, SERVER, "here")
        self.spool = spool
        self.delivery = Delivery(
            self.server, self.heard, leases=self.leases, spool=spool, watch=self.notes, in_thread=at_once
        )
        self.running = asyncio.create_task(self.delivery.run())
        self.beating = asyncio.create_task(schedule.run())

    async def report(self, *names: str, **fields: Any) -> None:
        """Report results at the same time; return when no slot is held for them."""
        outcome_fields = {name: fields.pop(name) for name in ("outputData",) if name in fields}
        tasks = [read_task(task_json(name, **fields)) for name in names]
        await asyncio.gather(
            *(
                self.delivery.report("type", "me", task, outcome_for(task, **outcome_fields), want_next=False)
                for task in tasks
            )
        )

    async def end(self, patience: float = 5.0) -> Endings:
        self.delivery.hurry()
        await self.delivery.finish(patience)
        await self.running
        self.beating.cancel()
        return self.delivery.endings

    def kill(self) -> None:
        """End as a process does that is killed: without a word, and without its lock."""
        self.running.cancel()
        self.beating.cancel()
        assert self.spool is not None
        os.close(self.spool._lock)


def play(act: Callable[[], Coroutine[Any, Any, T]]) -> T:
    clock = virtual_time.Clock()
    clock.now = START
    return virtual_time.run(act(), clock)


def now() -> float:
    return asyncio.get_running_loop().time()


def names(count: int) -> list[str]:
    return [f"t{number}" for number in range(count)]


def files(path: Path) -> list[Path]:
    return list(path.glob("results-*/*.json"))


# holding


def test_result_is_on_disk_from_the_first_failed_attempt_and_its_slot_is_free(tmp_path: Path) -> None:
    async def act() -> None:
        stage = Stage(tmp_path)
        stage.server.take_down()
        await stage.report("a", outputData={"a": [1, "ü"]})
        assert now() == START
        (file,) = files(tmp_path)
        record = decode_record(file.read_bytes())
        assert json.loads(bytes(record.body)) == stage.server.updates[0].body
        assert (record.task_id, record.workflow_id, record.task_type) == ("a", "flow-a", "type")
        assert stage.notes.waiting == (1, len(bytes(record.body)))
        assert next(iter(stage.delivery._outbox)).body is None  # it takes no memory any more
        stage.server.bring_up()
        await asyncio.sleep(3)
        assert files(tmp_path) == []
        assert stage.notes.waiting == (0, 0)
        assert stage.server.updates[-1].body["outputData"] == {"a": [1, "ü"]}
        assert await stage.end() == Endings(finished=1)

    play(act)


def test_B01_results_of_an_outage_of_ten_minutes_are_delivered_within_three_seconds(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def act() -> None:
        stage = Stage(tmp_path)
        stage.server.take_down()
        await stage.report(*names(10), responseTimeoutSeconds=3600)
        assert now() == START
        await asyncio.sleep(600)
        assert len(stage.server.updates) < 10 + 300
        assert len(stage.server.looks) < 600 / 2 + 10
        stage.server.bring_up()
        up = now()
        await asyncio.sleep(3)
        assert sorted(stage.server.accepted_after(up)) == sorted(names(10))
        assert stage.delivery.waiting == stage.leases.kept == 0
        assert stage.heard.names.count("TaskUpdateFailure") == 10
        assert stage.heard.names.count("TaskUpdateCompleted") == 10

    with caplog.at_level(logging.INFO):
        play(act)
    assert len(caplog.messages) <= 20


def test_thousand_results_are_delivered_within_ten_seconds_at_a_pace_that_a_server_can_bear(tmp_path: Path) -> None:
    async def act() -> None:
        stage = Stage(tmp_path)
        stage.server.take_down()
        await stage.report(*names(1000))
        await asyncio.sleep(100)
        before = len(stage.server.updates)
        stage.server.bring_up()
        stage.server.takes, stage.server.most_at_once = 0.05, 0
        up = now()
        await asyncio.sleep(10)
        assert len(stage.server.updates) == before + 1000
        assert stage.server.updates[before].at - up < 3
        assert stage.server.updates[before + 1].at > stage.server.updates[before].at  # the first one goes alone
        assert stage.server.most_at_once == MOST_AT_ONCE
        assert stage.delivery.waiting == 0

    play(act)


def test_server_that_is_down_is_asked_by_one_request_at_a_time(tmp_path: Path) -> None:
    async def act() -> None:
        stage = Stage(tmp_path)
        stage.server.take_down()
        stage.server.takes = 0.5
        await stage.report(*names(200))
        stage.server.most_at_once = 0
        before = len(stage.server.updates)
        await asyncio.sleep(60)
        assert stage.server.most_at_once == 1
        assert len(stage.server.updates) - before <= 60
        events = stage.heard.of(TaskUpdateFailure)
        await asyncio.sleep(60)
        assert len(stage.heard.of(TaskUpdateFailure)) == 200
        assert all(event.retry_count == 4 for event in events)

    play(act)


def test_any_answer_of_the_server_brings_the_waiting_results_forward(tmp_path: Path) -> None:
    async def act() -> None:
        stage = Stage(tmp_path)
        stage.server.take_down()
        await stage.report(*names(3))
        await asyncio.sleep(1)
        stage.server.bring_up()
        stage.server.away = ConnectError("so that it is not by looking")
        stage.delivery.note_answer(503)
        stage.delivery.note_answer(0)
        await asyncio.sleep(0.1)
        assert stage.delivery.waiting == 3
        stage.delivery.note_answer(204)  # a poll, or a heartbeat
        await asyncio.sleep(0.1)
        assert stage.delivery.waiting == 0

    play(act)


def test_server_that_answers_but_takes_no_update_is_not_hammered(tmp_path: Path) -> None:
    async def act() -> None:
        stage = Stage(tmp_path)
        stage.server.down = unavailable()
        await stage.report(*names(50))
        before = len(stage.server.updates)
        for _ in range(600):
            await asyncio.sleep(0.1)
            stage.delivery.note_answer(200)
        assert len(stage.server.updates) - before < 30
        stage.server.down = None
        await asyncio.sleep(40)
        assert stage.delivery.waiting == 0

    play(act)


def test_result_that_alone_fails_is_sent_again_soon_while_others_are_taken() -> None:
    async def act() -> None:
        stage = Stage(None)
        stage.server.update_errors.append(ApiError.of(500)(500, "could not acquire the lock"))
        await stage.report("a")
        for number in range(30):
            await asyncio.sleep(0.1)
            await stage.report(f"b{number}")
        times = [update.at for update in stage.server.updates_of("a")]
        assert len(times) == 2
        assert 1 <= times[1] - times[0] < 1.2
        assert stage.delivery.waiting == 0

    play(act)


def test_B14_result_that_is_cut_again_and_again_is_sent_every_two_seconds_while_others_are_taken() -> None:
    """Neither as seldom as if the server took nothing, nor as often as it takes others."""

    class Cutting(Server):
        async def post_result(self, body: bytes) -> None:
            await super().post_result(body)
            if b'"unlucky"' in body and len(self.updates_of("unlucky")) < 9:
                raise CutError("cut")

    async def act() -> None:
        stage = Stage(None, Cutting())
        await stage.report("unlucky")
        for number in range(200):
            await stage.report(f"t{number}")
            await asyncio.sleep(0.1)
        times = [update.at for update in stage.server.updates_of("unlucky")]
        assert len(times) == 9
        pauses = [later - earlier for earlier, later in pairwise(times[2:])]
        assert max(pauses) < 2.3
        assert times[-1] - times[0] > 8
        assert stage.delivery.waiting == 0

    play(act)


@pytest.mark.parametrize("wish", [5.0, 500.0])
def test_B10_retry_after_holds_for_every_update(wish: float) -> None:
    async def act() -> None:
        stage = Stage(None)
        stage.server.update_errors.append(unavailable(retry_after=wish))
        await stage.report("a")
        await asyncio.sleep(1)
        stage.delivery.note_answer(200)
        await stage.report("b")
        await asyncio.sleep(100)
        first, *later = [update.at for update in stage.server.updates]
        limit = min(wish, 60.0)
        assert limit * 0.8 <= later[0] - first <= limit + 10
        assert len(later) == 2

    play(act)


def test_refused_credentials_are_not_tried_more_often_than_the_schedule_says() -> None:
    async def act() -> None:
        stage = Stage(None)
        stage.server.take_down(AuthError(401, "no"))
        await stage.report(*names(10))
        before = len(stage.server.updates)
        await asyncio.sleep(60)
        assert len(stage.server.updates) - before <= 6
        assert stage.server.looks == []
        stage.server.bring_up()
        stage.delivery.note_answer(200)
        await asyncio.sleep(1)
        assert stage.delivery.waiting == 0

    play(act)


# leases


def test_D04_leases_of_waiting_results_are_kept_until_the_server_has_them(tmp_path: Path) -> None:
    async def act() -> None:
        stage = Stage(tmp_path)
        stage.server.down = unavailable()
        await stage.report("a", responseTimeoutSeconds=5)
        await asyncio.sleep(25)
        beats = [at - START for at, _ in stage.server.beats]
        assert len(beats) >= 12
        assert max(later - earlier for earlier, later in zip([0.0, *beats], beats, strict=False)) <= 3
        stage.server.bring_up()
        await asyncio.sleep(31)
        last = stage.server.updates[-1].at
        assert stage.leases.kept == 0
        assert all(at <= last for at, _ in stage.server.beats)

    play(act)


# what is bounded


def test_D11_without_room_results_keep_their_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "IN_MEMORY", (3, 10_000))

    async def act() -> None:
        stage = Stage(None)
        stage.server.take_down()
        held = [asyncio.create_task(stage.report(name)) for name in names(5)]
        await asyncio.sleep(5)
        assert [task.done() for task in held] == [True] * 3 + [False] * 2
        stage.server.bring_up()
        await asyncio.sleep(5)
        assert all(task.done() for task in held)
        assert stage.delivery.waiting == 0

    play(act)


def test_D11_large_results_fill_the_room_by_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "IN_MEMORY", (100, 10_000))

    async def act() -> None:
        stage = Stage(None)
        stage.server.take_down()
        held = [asyncio.create_task(stage.report(name, outputData={"a": "x" * 4000})) for name in names(4)]
        await asyncio.sleep(5)
        assert [task.done() for task in held] == [True] * 2 + [False] * 2

    play(act)


# the disk


class Disk:
    """Does the disk's work, or fails."""

    def __init__(self) -> None:
        self.error: OSError | None = None

    async def __call__(self, work: Callable[..., T], *arguments: Any) -> T:
        if self.error is not None and work.__name__ == "_write":
            raise self.error
        return work(*arguments)


@pytest.mark.parametrize("hanging", ["the update", "its log lines"])
def test_A08_result_on_its_way_to_a_server_that_hangs_is_on_disk_at_the_end(tmp_path: Path, hanging: str) -> None:
    async def act() -> None:
        stage = Stage(tmp_path)
        stage.server.gate = asyncio.Event()  # never set
        task = read_task(task_json("a"))
        outcome = outcome_for(task, logs=[{"log": "last", "createdTime": 1}])
        if hanging == "its log lines":
            outcome.surplus_logs.append("more")
        reporting = asyncio.create_task(stage.delivery.report("type", "me", task, outcome, want_next=False))
        await asyncio.sleep(2)
        assert files(tmp_path) == []
        assert await stage.end(0.0) == Endings(spooled=1)
        assert await reporting is None
        assert now() < START + 2.1
        (file,) = files(tmp_path)
        body = bytes(decode_record(file.read_bytes()).body)
        assert json.loads(body)["taskId"] == "a"
        assert (b"more" in body) == (hanging == "its log lines")

    play(act)


def test_E01_full_disk_is_warned_of_once_and_results_wait_in_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def act() -> None:
        stage = Stage(tmp_path)
        disk = Disk()
        stage.delivery._outbox._in_thread = disk
        disk.error = OSError(28, "No space left on device")
        stage.server.take_down()
        await stage.report(*names(3))
        assert now() == START  # the slots are free
        assert stage.notes.failures >= 3
        assert files(tmp_path) == []
        disk.error = None
        await asyncio.sleep(15)  # the next attempts write them down
        assert len(files(tmp_path)) >= 1
        assert await stage.end() == Endings(spooled=3)
        assert len(files(tmp_path)) == 3

    with caplog.at_level(logging.INFO):
        play(act)
    about_disk = [line for line in caplog.messages if "written to" in line]
    assert len(about_disk) == 2
    assert "wait in memory" in about_disk[0]
    assert about_disk[1].endswith("again")


@pytest.mark.parametrize("obstacle", ["a file", "others may write"])
def test_E01_spool_that_cannot_be_opened_is_warned_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, obstacle: str
) -> None:
    path = tmp_path / "spool"
    if obstacle == "a file":
        path.touch()
    else:
        path.mkdir()
        path.chmod(0o777)

    async def act() -> None:
        stage = Stage(path)
        stage.server.take_down()
        await stage.report(*names(3))
        assert stage.notes.failures == 1
        stage.server.bring_up()
        await asyncio.sleep(5)
        assert stage.delivery.waiting == 0
        assert await stage.end() == Endings(finished=3)

    play(act)
    assert len([line for line in caplog.messages if "will wait in memory" in line]) == 1


def test_file_that_somebody_has_removed_is_said_and_that_is_all(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def act() -> None:
        stage = Stage(tmp_path)
        stage.server.take_down()
        await stage.report("a", "b")
        files(tmp_path)[0].unlink()
        stage.server.bring_up()
        await asyncio.sleep(5)
        assert stage.delivery.waiting == stage.leases.kept == 0
        assert stage.delivery.endings == Endings(finished=1, lost=1)

    play(act)
    assert any("is gone: its file was removed" in line for line in caplog.messages)


def test_B25_disk_that_does_not_give_a_result_back_just_now_is_asked_again(tmp_path: Path) -> None:
    async def act() -> None:
        stage = Stage(tmp_path)
        stage.server.take_down()
        await stage.report("a")
        assert stage.spool is not None
        real, errors = stage.spool.load, [OSError(24, "Too many open files")] * 2

        def load(name: str) -> Record:
            if errors:
                raise errors.pop()
            return real(name)

        stage.spool.load = load  # type: ignore[method-assign]
        stage.server.bring_up()
        await asyncio.sleep(40)
        assert not errors
        assert stage.server.reported == [("a", "COMPLETED")] * 2
        assert stage.notes.failures == 2
        assert await stage.end() == Endings(finished=1)

    play(act)


def test_E02_damaged_file_is_set_aside_and_never_sent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def act() -> None:
        stage = Stage(tmp_path)
        stage.server.take_down()
        await stage.report("a")
        (file,) = files(tmp_path)
        file.write_bytes(file.read_bytes()[:-20])
        stage.server.bring_up()
        await asyncio.sleep(5)
        assert len(stage.server.updates) == 1
        assert len(list((tmp_path / BAD).iterdir())) == 1
        assert stage.delivery.endings == Endings(lost=1)

    play(act)
    assert caplog.records[-1].levelno == logging.CRITICAL


# the end, and the next start


def test_A08_what_is_left_at_the_end_is_on_disk_and_the_next_start_delivers_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def act() -> None:
        stage = Stage(tmp_path)
        stage.server.take_down()
        await stage.report(*names(10))
        await asyncio.sleep(1)
        assert await stage.end() == Endings(spooled=10)
        assert stage.heard.of(TaskUpdateFailure) == []
        successor = Stage(tmp_path)
        await asyncio.sleep(1)
        assert sorted(task_id for task_id, _ in successor.server.reported) == sorted(names(10))
        assert await successor.end() == Endings(finished=10)
        assert len(successor.heard.of(TaskUpdateCompleted)) == 10
        assert files(tmp_path) == []

    play(act)
    assert "left on disk for the next start, or podium spool resend: 10 results" in caplog.messages


def test_A08_last_attempts_deliver_what_the_server_takes_by_then(tmp_path: Path) -> None:
    async def act() -> None:
        stage = Stage(tmp_path)
        stage.server.take_down()
        await stage.report(*names(10))
        await asyncio.sleep(0.5)
        stage.server.bring_up()
        assert await stage.end() == Endings(finished=10)

    play(act)


def test_A08_result_whose_first_answer_does_not_come_before_the_end_is_on_disk(tmp_path: Path) -> None:
    async def act() -> None:
        stage = Stage(tmp_path)
        await asyncio.sleep(0)
        stage.server.takes = 3600
        reporting = asyncio.create_task(stage.report("a", "b"))
        await asyncio.sleep(5)
        assert await stage.end(patience=1) == Endings(spooled=2)
        await asyncio.wait_for(reporting, 1)
        assert len(files(tmp_path)) == 2
        assert now() < START + 7

    play(act)


def test_last_word_of_a_result_that_is_refused_at_the_end_is_seen_through() -> None:
    async def act() -> None:
        stage = Stage(None)
        stage.server.take_down()
        await stage.report("a")
        stage.server.bring_up()
        stage.server.update_errors.append(ApiError.of(400)(400, "no"))
        stage.server.takes = 0.5
        assert await stage.end() == Endings(finished=1)
        assert stage.server.reported[-1] == ("a", "FAILED_WITH_TERMINAL_ERROR")

    play(act)


def test_E01_disk_that_hangs_does_not_hold_up_the_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def act() -> None:
        stage = Stage(tmp_path)
        await asyncio.sleep(0.1)

        async def hanging(work: Callable[..., T], *arguments: Any) -> T:
            await asyncio.sleep(3600)
            return work(*arguments)

        stage.delivery._outbox._in_thread = hanging
        stage.server.take_down()
        reporting = asyncio.create_task(stage.report("a"))
        await asyncio.sleep(1)
        begun = now()
        assert await stage.end(patience=1) == Endings(lost=1)
        assert now() - begun < 4
        await reporting
        os.close(stage.spool._lock)  # type: ignore[union-attr]

    play(act)
    assert "the disk does not answer" in caplog.text


def test_I5_interim_result_of_a_killed_process_is_not_sent_again_if_it_has_arrived(tmp_path: Path) -> None:
    async def act() -> None:
        stage = Stage(tmp_path)
        stage.server.take_down()
        task = read_task(task_json("a"))
        outcome = outcome_for(task, TaskResultStatus.IN_PROGRESS)
        await stage.delivery.report("type", "me", task, outcome, want_next=False)
        stage.kill()
        successor = Stage(tmp_path)
        successor.server.states["a"] = TaskState(status="SCHEDULED", worker_id="me")
        await asyncio.sleep(20)
        assert successor.server.updates == []
        assert await successor.end() == Endings(finished=1)

    play(act)


def test_B03_what_a_killed_process_has_left_is_delivered_and_its_leases_are_kept(tmp_path: Path) -> None:
    async def act() -> None:
        stage = Stage(tmp_path)
        stage.server.take_down()
        await stage.report(*names(10), responseTimeoutSeconds=10)
        stage.kill()
        successor = Stage(tmp_path)
        successor.server.take_down()
        await asyncio.sleep(20)
        assert successor.leases.kept == successor.delivery.waiting == 10
        assert len({task_id for _, task_id in successor.server.beats}) == 10
        up = now()
        successor.server.bring_up()
        await asyncio.sleep(3)
        assert sorted(successor.server.accepted_after(up)) == sorted(names(10))
        assert successor.leases.kept == 0

    play(act)


def test_what_a_process_leaves_later_is_found_by_its_neighbour(tmp_path: Path) -> None:
    async def act() -> None:
        neighbour = Stage(tmp_path)
        await asyncio.sleep(1)
        stage = Stage(tmp_path)
        stage.server.take_down()
        await stage.report("a")
        await asyncio.sleep(100)
        assert neighbour.server.updates == []
        stage.kill()
        await asyncio.sleep(70)
        assert neighbour.server.reported == [("a", "COMPLETED")]

    play(act)


def test_result_that_is_in_memory_only_is_lost_aloud_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    async def act() -> None:
        stage = Stage(None)
        stage.server.take_down()
        await stage.report("a", outputData={"a": 1})
        assert await stage.end() == Endings(lost=1)
        (event,) = stage.heard.of(TaskUpdateFailure)
        assert event.task_result.output_data == {"a": 1}

    play(act)
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.CRITICAL]
    assert line.startswith("lost, neither delivered nor kept: the results of a (type): connection refused")


def test_interim_result_whose_task_is_handed_out_again_is_not_sent_again(tmp_path: Path) -> None:
    async def act() -> None:
        stage = Stage(tmp_path)
        stage.server.take_down()
        for name, status in (("a", TaskResultStatus.IN_PROGRESS), ("b", TaskResultStatus.COMPLETED)):
            task = read_task(task_json(name, responseTimeoutSeconds=60))
            await stage.delivery.report("type", "me", task, outcome_for(task, status), want_next=False)
        assert stage.delivery.lets_pass("a")
        assert not stage.delivery.lets_pass("b")
        assert stage.delivery.lets_pass("c")
        await asyncio.sleep(0.5)
        stage.server.bring_up()
        up = now()
        await asyncio.sleep(5)
        assert stage.server.accepted_after(up) == ["b"]
        assert stage.leases.kept == 0
        assert await stage.end() == Endings(finished=2)
        assert files(tmp_path) == []

    play(act)


def test_interim_result_whose_task_is_handed_out_while_it_is_sent_has_arrived(tmp_path: Path) -> None:
    async def act() -> None:
        stage = Stage(tmp_path)
        stage.server.take_down()
        task = read_task(task_json("a", responseTimeoutSeconds=60))
        await stage.delivery.report(
            "type", "me", task, outcome_for(task, TaskResultStatus.IN_PROGRESS), want_next=False
        )  # fmt: skip
        stage.server.bring_up()
        stage.server.takes = 5.0
        stage.delivery.note_answer(200)
        await asyncio.sleep(1)
        assert stage.server.under_way == 1
        assert stage.delivery.lets_pass("a")
        stage.leases.keep(read_task(task_json("a", responseTimeoutSeconds=60)))
        await asyncio.sleep(10)
        assert stage.leases.kept == 1
        assert await stage.end() == Endings(finished=1)

    play(act)


# what came too late


@pytest.mark.parametrize("status", ["TIMED_OUT", "CANCELED", "COMPLETED", "SKIPPED"])
def test_superseded_result_is_recognised_counted_told_and_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, status: str
) -> None:
    async def act() -> None:
        stage = Stage(tmp_path)
        stage.server.take_down()
        await stage.report("a", responseTimeoutSeconds=5)
        await asyncio.sleep(10)
        stage.server.states["a"] = TaskState(status=status, worker_id="another")
        stage.server.bring_up()
        up = now()
        await asyncio.sleep(3)
        assert stage.server.accepted_after(up) == []
        assert stage.notes.superseded == ["type"]
        assert stage.delivery.superseded == 1
        assert stage.delivery.waiting == stage.leases.kept == 0
        (event,) = stage.heard.of(TaskUpdateFailure)
        assert isinstance(event.cause, SupersededError)
        assert event.task_result.task_id == "a"
        (kept,) = (tmp_path / SUPERSEDED).iterdir()
        assert decode_record(kept.read_bytes()).problem == f"the task is {status}"
        assert files(tmp_path) == []
        assert await stage.end() == Endings(finished=1)

    play(act)
    told = [line for line in caplog.messages if "nobody waits" in line]
    assert told == [f"nobody waits for the result of task a any more: the task is {status}; podium spool list shows it"]


def test_result_that_the_server_has_already_is_not_superseded(tmp_path: Path) -> None:
    async def act() -> None:
        stage = Stage(tmp_path)
        stage.server.take_down()
        await stage.report("a")
        stage.kill()
        server = Server()
        server.states["a"] = TaskState(status="COMPLETED", worker_id="me")  # only the acknowledgement was lost
        successor = Stage(tmp_path, server)
        await asyncio.sleep(1)
        assert server.updates == []
        assert await successor.end() == Endings(finished=1)
        assert successor.delivery.superseded == 0

    play(act)


@pytest.mark.parametrize("status", [TaskResultStatus.FAILED, TaskResultStatus.FAILED_WITH_TERMINAL_ERROR])
def test_failure_of_an_optional_task_that_the_server_has_already_is_not_superseded(
    tmp_path: Path, status: TaskResultStatus
) -> None:
    async def act() -> None:
        stage = Stage(tmp_path)
        stage.server.take_down()
        task = read_task(task_json("a", responseTimeoutSeconds=5))
        await stage.delivery.report("type", "me", task, outcome_for(task, status), want_next=False)
        await asyncio.sleep(10)
        stage.server.states["a"] = TaskState(status="COMPLETED_WITH_ERRORS", worker_id="me")
        stage.server.bring_up()
        await asyncio.sleep(3)
        assert (stage.delivery.superseded, stage.delivery.waiting) == (0, 0)
        assert await stage.end() == Endings(finished=1)

    play(act)


def test_B12_page_of_a_gateway_that_has_lost_its_server_ends_no_result(tmp_path: Path) -> None:
    async def act() -> None:
        stage = Stage(tmp_path)
        stage.server.take_down(NotFoundError(404, "404 page not found"))
        await stage.report("a", responseTimeoutSeconds=5)
        await asyncio.sleep(60)
        assert stage.delivery.waiting == len(files(tmp_path)) == 1
        stage.server.bring_up()
        up = now()
        await asyncio.sleep(3)
        assert stage.server.accepted_after(up) == ["a"]
        assert await stage.end() == Endings(finished=1)

    play(act)


def test_task_that_is_gone_has_its_result_kept(tmp_path: Path) -> None:
    async def act() -> None:
        stage = Stage(tmp_path)
        stage.server.take_down()
        await stage.report("a")
        stage.server.bring_up()
        stage.server.down = NotFoundError(404, "No such task found by id: a")
        await asyncio.sleep(3)
        assert stage.delivery.superseded == 1
        assert len(list((tmp_path / SUPERSEDED).iterdir())) == 1

    play(act)


def test_whoever_may_not_look_may_still_report(tmp_path: Path) -> None:
    async def act() -> None:
        stage = Stage(tmp_path)
        stage.server.take_down()
        await stage.report("a")
        stage.kill()
        server = Server()
        server.away = AuthError(403, "no")
        successor = Stage(tmp_path, server)
        await asyncio.sleep(1)
        assert server.reported == [("a", "COMPLETED")]
        assert await successor.end() == Endings(finished=1)

    play(act)


def test_refused_after_it_waited_is_failed_with_the_reason(tmp_path: Path) -> None:
    async def act() -> None:
        stage = Stage(tmp_path)
        stage.server.take_down()
        await stage.report("a", outputData={"a": 1})
        stage.server.bring_up()
        stage.server.update_errors.append(ApiError.of(413)(413, "too large"))
        await asyncio.sleep(5)
        assert stage.server.reported[-1] == ("a", "FAILED_WITH_TERMINAL_ERROR")
        assert stage.delivery.refused == 1
        assert stage.delivery.waiting == 0
        (event,) = stage.heard.of(TaskUpdateFailure)
        assert event.task_result.output_data == {"a": 1}

    play(act)
