"""What lives and does nothing: it is told with its place, and costs nobody else anything."""

from __future__ import annotations

import logging
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

import samples
import stuck_samples
from checker import check
from event_log import Kind
from podium import watch
from rig import Rig, until
from task_server import TaskServer

LINE = stuck_samples.sleeps.__code__.co_firstlineno + 3
LEASED: dict[str, Any] = {"lease_extend_enabled": True}
QUICK: dict[str, Any] = {"monitor_interval_seconds": 0.25, "stuck_after_seconds": 30.0}


def stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def names(record: logging.LogRecord, owner: str, words: str) -> re.Match[str] | None:
    place = rf"by sleeps \({re.escape(stuck_samples.__file__)}:{LINE}\)"
    return re.match(rf"the event loop of {owner} {words} for ([\d.]+) s {place}", record.getMessage())


def test_D03_coroutine_that_blocks_its_loop_is_named_and_holds_up_no_lease_and_no_other_worker(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seconds = 5.0
    with TaskServer(response_timeout=2) as server:
        rig = Rig(server.url)
        blocking, other = rig.name_of(stuck_samples.sleeps), rig.name_of(samples.returns_none)
        workers = [rig.worker(stuck_samples.sleeps, **LEASED), rig.worker(samples.returns_none)]
        with caplog.at_level(logging.WARNING), rig.running(*workers):
            (blocker,) = server.add(blocking, seconds=seconds)
            until(lambda: server.attempts[blocker].status == "IN_PROGRESS", "the one that blocks")
            end = time.monotonic() + seconds - 1
            neighbours = server.add(blocking, 3)
            served: list[float] = []
            while (asked := time.monotonic()) < end:
                (task_id,) = server.add(other)
                until(lambda task=task_id: server.attempts[task].status == "COMPLETED", "the other worker", 5)  # type: ignore[misc]
                served.append(time.monotonic() - asked)
            assert {server.attempts[task].status for task in [blocker, *neighbours]} == {"IN_PROGRESS"}
            server.wait_for_end(20)
            until(lambda: "goes on" in caplog.text, "the end of it")
        assert set(server.statuses()) == {"COMPLETED"}
        check(server.log, patience=0.5)
    assert max(served) < 1.5
    owner = f"worker process {blocking!r}"
    says, ends = [record for record in caplog.records if record.name == "podium.crew"]
    assert names(says, owner, "is blocked")
    told = names(ends, owner, "goes on: it was blocked")
    assert told
    assert seconds - 1.5 < float(told[1]) < seconds + 1


def test_D03_coroutine_that_blocks_the_loop_of_the_thread_crew_is_named_and_holds_up_no_plain_function(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "TICK", 0.3)
    with TaskServer(response_timeout=2) as server:
        rig = Rig(server.url)
        workers = [rig.worker(stuck_samples.sleeps, **LEASED), rig.worker(samples.returns_none)]
        with caplog.at_level(logging.WARNING), rig.running(*workers, isolation="thread"):
            (blocker,) = server.add(rig.name_of(stuck_samples.sleeps), seconds=2.5)
            until(lambda: server.attempts[blocker].status == "IN_PROGRESS", "the one that blocks")
            server.add(rig.name_of(stuck_samples.sleeps), 3)
            others = server.add(rig.name_of(samples.returns_none), 3)
            until(lambda: all(server.attempts[task].status == "COMPLETED" for task in others), "the other worker", 2)
            assert server.attempts[blocker].status == "IN_PROGRESS"
            server.wait_for_end(20)
            until(lambda: "goes on" in caplog.text, "the end of it")
        assert server.statuses() == {"COMPLETED": 7}
        check(server.log, patience=0.5)
        assert [event for event in server.log.events if event.kind is Kind.HEARTBEAT]
    says, ends = [record for record in caplog.records if record.name == "podium.crew"]
    assert names(says, "the thread crew", "is blocked")
    assert names(ends, "the thread crew", "goes on: it was blocked")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc")
def test_A16_stopped_child_loses_its_leases_and_is_killed_and_reports_nothing_late(tmp_path: Path) -> None:
    interval = 1.0
    with TaskServer(response_timeout=5) as server:
        rig = Rig(server.url)
        mark = tmp_path / "mark"
        worker = rig.worker(stuck_samples.waits, **LEASED)
        with rig.running(worker, monitor_interval_seconds=interval) as handler:
            (task_id,) = server.add(rig.name_of(stuck_samples.waits), path=str(mark))
            until(mark.exists, "the task")
            (pid,) = handler.get_worker_status()[0]["pids"]
            os.kill(pid, signal.SIGSTOP)
            begun = time.monotonic()
            until(lambda: server.attempts[task_id].status == "FAILED", "the failure", 10)
            assert time.monotonic() - begun < 2 * interval + 1
            assert "killed by SIGKILL by podium: it was stopped by a signal" in server.attempts[task_id].reason
            with pytest.raises(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
            ended = server.log.events[-1].at
            until(lambda: handler.get_worker_status()[0]["pids"] not in ([], [pid]), "the successor", 5)
        assert [event for event in server.log.events if event.task == task_id and event.at > ended] == []
        check(server.log, patience=0.5)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc")
def test_A16_stopped_child_is_left_alone_if_that_is_wanted(tmp_path: Path) -> None:
    with TaskServer() as server:
        rig = Rig(server.url)
        worker = rig.worker(samples.waits_for_file)
        with rig.running(worker, kill_stopped=False, **QUICK) as handler:
            go, mark = tmp_path / "go", tmp_path / "mark"
            (task_id,) = server.add(rig.name_of(samples.waits_for_file), path=str(go), mark=str(mark))
            until(mark.exists, "the task")
            (pid,) = handler.get_worker_status()[0]["pids"]
            os.kill(pid, signal.SIGSTOP)
            until(lambda: stopped(pid), "the stop")
            engine = handler._engine
            assert engine is not None
            assert engine._monitor is not None
            monitor = engine._monitor
            until(lambda: [link.pid for link in monitor._stopped] == [pid], "a look at it", 5)
            looks = time.monotonic() + 4 * QUICK["monitor_interval_seconds"]
            until(lambda: time.monotonic() > looks, "more looks at it")
            os.kill(pid, signal.SIGCONT)
            go.touch()
            until(lambda: server.attempts[task_id].status == "COMPLETED", "the end")


def test_A16_child_whose_gil_is_held_is_no_stopped_one_and_keeps_its_lease() -> None:
    with TaskServer(response_timeout=2) as server:
        rig = Rig(server.url)
        with rig.running(rig.worker(samples.holds_the_gil, **LEASED), **QUICK) as handler:
            (pid,) = handler.get_worker_status()[0]["pids"]
            server.add(rig.name_of(samples.holds_the_gil), seconds=3)
            server.wait_for_end(20)
            assert handler.get_worker_status()[0]["pids"] == [pid]
        assert server.statuses() == {"COMPLETED": 1}
        check(server.log, patience=0.5)


@pytest.mark.parametrize("isolation", ["process", "thread"])
def test_what_is_silent_is_told_with_its_stack(
    isolation: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options: dict[str, Any] = {"monitor_interval_seconds": 0.1, "stuck_after_seconds": 1.0}
    go, mark = tmp_path / "go", tmp_path / "mark"
    with TaskServer() as server:
        rig = Rig(server.url)
        with rig.running(rig.worker(samples.blocks_until_file_async), isolation=isolation, **options):
            server.add(rig.name_of(samples.blocks_until_file_async), path=str(go), mark=str(mark))
            until(lambda: "is silent for" in caplog.text, "the complaint", 10)
            (complaint,) = [text for text in caplog.messages if "is silent for" in text]
            go.touch()
            server.wait_for_end(10)
            until(lambda: "works again" in caplog.text, "the all-clear", 10)
    assert "waits_for_file" in complaint
    assert "samples.py" in complaint
    assert "in hand: " in complaint


def test_group_that_is_silent_tells_its_stack_once_before_it_is_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options: dict[str, Any] = {"monitor_interval_seconds": 0.1, "stuck_after_seconds": 1.0, "restart_stuck": True}
    go, mark = tmp_path / "go", tmp_path / "mark"
    with TaskServer() as server:
        rig = Rig(server.url)
        workers = [rig.worker(samples.returns_none), rig.worker(samples.blocks_until_file_async)]
        with rig.running(*workers, group="g", **options):
            (task_id,) = server.add(rig.name_of(samples.blocks_until_file_async), path=str(go), mark=str(mark))
            until(lambda: server.attempts[task_id].status == "FAILED", "the end of the child", 15)
            assert "it was silent for" in server.attempts[task_id].reason
            until(lambda: sum("is silent for" in text for text in caplog.messages) == 2, "both workers are named", 5)
    told = [text for text in caplog.messages if "is silent for" in text]
    assert sum("waits_for_file" in text for text in told) == 1
    assert all("it is restarted" in text for text in told)
