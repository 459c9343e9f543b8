"""SIGTERM, SIGINT and worse, at every moment: what fits the grace period is finished, the rest is handed back."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from fake_server import Gate, json_answer
from rig import until
from stop_stage import Lag, Running, Stage, every

GRACE_EXCEEDED = 2.0


def ended_without_trace(program: Running) -> None:
    until(lambda: not program.pids(), "the end of all processes", deadline=2)


def finishes_what_fits(stage: Stage, group: bool, number: signal.Signals) -> None:
    program = stage.program(grace_seconds=20)
    stage.give_running(5)
    lag = Lag()
    begun = time.monotonic()
    if group:
        os.killpg(program.process.pid, number)
    else:
        program.signal(number)
    program.until_said("waiting for 5 tasks")
    allowed = 0.05 + lag.end()
    late = stage.give(1)[0].with_name("late")
    stage.queues.give("work", path=str(stage.go), mark=str(late))
    stage.go.touch()
    report = program.report()
    assert time.monotonic() - begun < stage.allowed(5.5)
    assert max(stage.queues.polls) <= begun + allowed
    assert stage.queues.statuses() == ["COMPLETED"] * 5
    assert not late.exists()
    seconds = report.pop("seconds")
    assert report == {
        "reason": number.name, "finished": 5, "handed_back": 0, "spooled": 0, "lost": 0, "abandoned": 0,
    }  # fmt: skip
    assert 0 < seconds < 5.5
    ended_without_trace(program)
    phases = [
        f"stop asked by {number.name}: nothing is polled any more, 5 tasks are in hand",
        "polling has ended",
        "waiting for 5 tasks, up to ",
        "results: 5 delivered, 0 spooled; 0 tasks handed back, 0 lost, 0 abandoned",
        "stopped in ",
    ]
    said = [line for line in program.said().splitlines() if "podium.drain" in line]
    assert len(said) == len(phases)
    assert all(phase in line for phase, line in zip(phases, said, strict=True))
    assert "Traceback" not in program.said()


def test_A01_tasks_that_end_within_the_grace_period_are_reported(stage: Stage) -> None:
    finishes_what_fits(stage, False, signal.SIGTERM)


def test_A03_ctrl_c_reaches_the_whole_group_and_is_a_drain_all_the_same(stage: Stage) -> None:
    finishes_what_fits(stage, True, signal.SIGINT)


def test_A02_what_the_grace_period_is_too_short_for_runs_elsewhere_within_a_second(stage: Stage) -> None:
    first = stage.program(grace_seconds=1)
    marks = stage.give_running(5)
    second = stage.program()
    second.until_said("Conductor Worker[")
    before = {mark.read_text() for mark in marks}
    assert len(before) == 1
    at = first.signal()
    report = first.report()
    assert time.monotonic() - at < stage.allowed(1 + GRACE_EXCEEDED)
    assert (report["handed_back"], report["finished"], report["lost"]) == (5, 0, 0)
    returned = stage.queues.given_back()
    assert len(returned) == 5
    assert not any(back.alive for back in returned)  # each only when its code is dead
    assert [back.body["outputData"] for back in returned] == [
        {"kept": int(back.body["taskId"].removeprefix("task-"))} for back in returned
    ]
    until(lambda: all(mark.read_text() not in before for mark in marks), "the tasks elsewhere")
    assert time.monotonic() - max(back.at for back in returned) < stage.allowed(1)
    stage.go.touch()
    until(lambda: stage.queues.statuses().count("COMPLETED") == 5, "the results")
    ended_without_trace(first)


def test_A04_second_signal_ends_the_grace_period(stage: Stage) -> None:
    program = stage.program(grace_seconds=60)
    stage.give_running(5)
    program.signal()
    program.until_said("waiting for 5 tasks")
    at = program.signal()
    report = program.report()
    assert time.monotonic() - at < stage.allowed(3)
    assert (report["handed_back"], len(stage.queues.given_back())) == (5, 5)
    assert "stop asked again by SIGTERM: the grace period ends now" in program.said()
    ended_without_trace(program)


@pytest.mark.parametrize("isolation", ["process", "thread"])
def test_A07_tasks_of_a_poll_that_was_open_are_given_back_and_none_is_started(stage: Stage, isolation: str) -> None:
    gate = Gate()
    marks = [stage.folder / "a", stage.folder / "b"]
    tasks = [stage.queues.task("work", inputData={"path": str(stage.go), "mark": str(mark)}) for mark in marks]
    stage.queues.next_polls.append(json_answer(tasks, gate=gate))
    program = stage.program(isolation=isolation)
    until(lambda: stage.queues.polls, "the poll")
    program.signal()
    program.until_said("nothing is polled any more")
    assert every(lambda: program.process.poll() is None, 0.5)  # it waits for the answer
    at = time.monotonic()
    gate.open()
    report = program.report()
    assert time.monotonic() - at < stage.allowed(1 + GRACE_EXCEEDED)
    assert all(back.at - at < stage.allowed(1) for back in stage.queues.given_back())
    assert len(stage.queues.given_back()) == 2
    assert (report["handed_back"], report["lost"], report["finished"]) == (2, 0, 0)
    assert len(stage.queues.polls) == 1
    assert not any(mark.exists() for mark in marks)


def test_A09_sigkill_of_the_parent_leaves_no_process_and_no_poll(stage: Stage) -> None:
    methods = ["forkserver", "spawn", "fork"]
    programs = [stage.program(method, start_method=method, processes=2) for method in methods]
    for method in methods:
        stage.give(3, method)
    until(lambda: len(list(stage.folder.glob("mark-*"))) == 9, "the tasks running")
    assert all(len(program.pids()) >= 3 for program in programs)
    lag = Lag()
    for program in programs:
        program.signal(signal.SIGKILL)
    at = time.monotonic()
    until(lambda: not any(program.pids() for program in programs), "the end of all processes", deadline=2)
    polls = len(stage.queues.polls)
    assert every(lambda: len(stage.queues.polls) == polls, 0.5)
    assert max(stage.queues.polls) < at + 0.05 + lag.end()
    assert stage.queues.reports == []


def test_A14_fifty_busy_workers_that_mind_no_signal_end_in_parallel(stage: Stage) -> None:
    names = [f"work{number}" for number in range(50)]
    program = stage.program(*names, worker={"thread_count": 1}, grace_seconds=1)
    for name in names:
        stage.give(1, name)
    until(lambda: len(list(stage.folder.glob("mark-*"))) == 50, "the tasks running", deadline=60)
    for pid in program.pids():
        if pid != program.process.pid:
            os.kill(pid, signal.SIGTERM)
    at = program.signal()
    report = program.report()
    assert report["seconds"] < stage.allowed(1 + GRACE_EXCEEDED)
    assert time.monotonic() - at < stage.allowed(1 + GRACE_EXCEEDED)
    assert (report["handed_back"], report["lost"]) == (50, 0)
    ended_without_trace(program)


def test_idle_workers_stop_within_a_second(stage: Stage) -> None:
    program = stage.program("one", "two", "three", grace_seconds=25)
    until(lambda: len(stage.queues.polls) > 3, "polls")
    at = program.signal()
    report = program.report()
    assert time.monotonic() - at < stage.allowed(1)
    assert sum(value for value in report.values() if isinstance(value, int)) == 0


def paused_and_resumed(stage: Stage, seconds: float) -> None:
    program = stage.program(worker={"poll_timeout": 50})
    until(lambda: len(stage.queues.polls) > 3, "polls")
    program.signal(signal.SIGSTOP)
    stopped = time.monotonic()
    assert every(lambda: max(stage.queues.polls) < stopped + 0.1, seconds)
    resumed = program.signal(signal.SIGCONT)
    mark = stage.give_running(1)[0]
    assert time.monotonic() - resumed < stage.allowed(1)
    assert mark.exists()
    # The idle worker polls every 20 ms; what it has missed is not made up for.
    until(lambda: max(stage.queues.polls) > resumed + 0.5, "polls")
    assert len([at for at in stage.queues.polls if resumed <= at < resumed + 0.2]) <= 15
    stage.go.touch()
    until(lambda: stage.queues.statuses() == ["COMPLETED"], "the result")
    program.signal()
    assert program.report()["reason"] == "SIGTERM"


def test_A17_stopped_parent_goes_on_within_a_second_and_without_a_burst(stage: Stage) -> None:
    paused_and_resumed(stage, 2)


@pytest.mark.soak
def test_A17_parent_that_was_stopped_for_twenty_seconds(stage: Stage) -> None:
    paused_and_resumed(stage, 20)


def test_every_task_is_in_one_count_of_the_report(stage: Stage) -> None:
    """Two finish, three do not, two come with an open poll; the server refuses one of the results for good."""
    program = stage.program(grace_seconds=1, worker={"thread_count": 8})
    short = stage.folder / "short"
    for number in range(2):
        stage.queues.give("work", path=str(short), mark=str(stage.folder / f"short-{number}"))
    stage.give_running(3)
    until(lambda: len(list(stage.folder.glob("short-*"))) == 2, "all running")
    gate = Gate()
    stage.queues.next_polls.append(json_answer([stage.queues.task("work") for _ in range(2)], gate=gate))
    until(lambda: not stage.queues.next_polls, "the open poll")
    program.signal()
    program.until_said("nothing is polled any more")
    gate.open()
    short.touch()
    report: dict[str, Any] = program.report()
    counts = {name: report[name] for name in ("finished", "handed_back", "spooled", "lost", "abandoned")}
    assert counts == {"finished": 2, "handed_back": 5, "spooled": 0, "lost": 0, "abandoned": 0}
    assert sorted(stage.queues.statuses()) == ["COMPLETED"] * 2 + ["IN_PROGRESS"] * 5


def test_abandoned_threads_are_counted(stage: Stage, tmp_path: Path) -> None:
    program = stage.program(grace_seconds=0.3, isolation="thread")
    stage.give_running(2)
    at = program.signal()
    report = program.report()
    assert time.monotonic() - at < stage.allowed(0.3 + GRACE_EXCEEDED)
    assert (report["abandoned"], report["handed_back"], report["lost"]) == (2, 0, 0)
