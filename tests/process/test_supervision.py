"""Health, status and the monitor: what is stuck is told apart from what is busy, and said once."""

from __future__ import annotations

import inspect
import json
import logging
import os
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

import samples
from podium import (
    Configuration,
    DeclarationError,
    MetricsCollector,
    MetricsSettings,
    TaskHandler,
    TaskUpdateCompleted,
)
from podium.crew.launch import SpawnLauncher
from podium.errors import ConfigError
from rig import Rig, until

#: Quick enough for a test, and slow enough for a busy machine.
QUICK: dict[str, Any] = {"monitor_interval_seconds": 0.05, "stuck_after_seconds": 1.0}
MODES: list[dict[str, Any]] = [{"isolation": "process"}, {"isolation": "thread"}]


def about(handler: TaskHandler, number: int = 0) -> dict[str, Any]:
    return handler.get_worker_status()[number]


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_status_of_a_worker(rig: Rig, mode: dict[str, Any]) -> None:
    with rig.running(rig.worker(samples.returns_none, domain="d", worker_id="me"), **mode) as handler:
        until(lambda: about(handler)["last_poll_seconds_ago"] is not None, "the first poll")
        status = about(handler)
        assert status.pop("last_poll_seconds_ago") < 30
        pid = status.pop("pid")
        assert (pid == os.getpid()) == (mode["isolation"] == "thread")
        assert status == {
            "worker": rig.name_of(samples.returns_none), "domain": "d", "worker_id": "me", "pids": [pid],
            "alive": True, "exitcode": None, "restart_count": 0, "recycle_count": 0, "paused": False,
            "polling": True, "running": 0, "slots": 4, "poll_failure": None, "problem": None, "unready": None,
        }  # fmt: skip
        assert handler.is_healthy()
    assert not handler.is_healthy()


def test_plain_function_that_runs_for_long_is_healthy(rig: Rig, tmp_path: Path) -> None:
    rig.define(samples.waits_for_file)
    go, mark = tmp_path / "go", tmp_path / "mark"
    with rig.running(rig.worker(samples.waits_for_file, thread_count=1), **QUICK) as handler:
        workflow_id = rig.start(samples.waits_for_file, path=str(go), mark=str(mark))
        until(mark.exists, "the task running")
        (_, crew), *_ = handler._engine.runners  # type: ignore[union-attr]
        begun = crew.members[0].link.last_heard  # type: ignore[union-attr]
        until(lambda: crew.members[0].link.last_heard > begun + 1.5, "signs of life")  # type: ignore[union-attr]
        assert handler.is_healthy()
        assert about(handler)["running"] == 1
        go.touch()
        assert rig.last_task(workflow_id).status == "COMPLETED"


def test_coroutine_that_blocks_its_loop_is_told_and_unhealthy_until_it_goes_on(
    rig: Rig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rig.define(samples.blocks_until_file_async)
    go, mark = tmp_path / "go", tmp_path / "mark"
    with rig.running(rig.worker(samples.blocks_until_file_async), **QUICK) as handler:
        workflow_id = rig.start(samples.blocks_until_file_async, path=str(go), mark=str(mark))
        until(lambda: not handler.is_healthy(), "the silence")
        assert "silent for" in about(handler)["problem"]
        assert not about(handler)["polling"]
        task_id = rig.task(workflow_id).task_id
        until(lambda: f"in hand: {task_id}" in caplog.text, "the complaint")
        go.touch()
        until(handler.is_healthy, "life again")
        until(lambda: "works again" in caplog.text, "the all-clear")
        assert rig.last_task(workflow_id).status == "COMPLETED"
    assert sum("is silent for" in message for message in caplog.messages) == 1


def test_stopped_process_is_replaced_if_that_is_wanted_and_its_task_retried(
    rig: Rig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rig.define(samples.waits_for_file, retry_count=1)
    go, mark = tmp_path / "go", tmp_path / "mark"
    with rig.running(rig.worker(samples.waits_for_file), restart_stuck=True, kill_stopped=False, **QUICK) as handler:
        workflow_id = rig.start(samples.waits_for_file, path=str(go), mark=str(mark))
        until(mark.exists, "the task running")
        os.kill(about(handler)["pid"], signal.SIGSTOP)
        until(lambda: rig.task(workflow_id, 0).status == "FAILED", "the failure")
        go.touch()
        first, second = rig.finish(workflow_id).tasks
        assert first.reason_for_incompletion is not None
        assert first.reason_for_incompletion.startswith("worker process killed by SIGKILL by podium: it was silent for")
        assert second.status == "COMPLETED"
        assert about(handler)["restart_count"] == 1
        assert handler.is_healthy()
    assert "it is restarted" in caplog.text


def test_engine_that_is_stuck_is_told_with_its_stack_and_unhealthy(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    stuck, go = threading.Event(), threading.Event()

    class Blocks:
        handles_events_inline = True

        def on_task_execution_started(self, _event: object) -> None:
            stuck.set()
            go.wait(20)

    rig.define(samples.returns_none)
    with rig.running(rig.worker(samples.returns_none), event_listeners=[Blocks()], **QUICK) as handler:
        workflow_id = rig.start(samples.returns_none)
        assert stuck.wait(20)
        until(lambda: not handler.is_healthy(), "the silence")
        assert len(handler.get_worker_status()) == 1  # answered all the same
        until(lambda: "podium's engine does nothing" in caplog.text, "the complaint")
        assert "on_task_execution_started" in caplog.text
        go.set()
        assert rig.last_task(workflow_id).status == "COMPLETED"
        until(handler.is_healthy, "life again")
        until(lambda: "podium's engine goes on" in caplog.text, "the all-clear")


def test_poll_loop_that_is_stuck_is_told_and_begun_anew_if_that_is_wanted(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("podium.runner.LONGEST_ANSWER", 0.0)
    hung: list[object] = []

    async def hangs_once(client: Any, *args: Any, **kwargs: Any) -> list[bytes]:
        import asyncio

        if not hung:
            hung.append(client)
            await asyncio.Event().wait()
        return await polls(client, *args, **kwargs)

    from podium.client import AsyncClient

    polls = AsyncClient.poll_tasks
    monkeypatch.setattr(AsyncClient, "poll_tasks", hangs_once)
    rig.define(samples.returns_none)
    with rig.running(rig.worker(samples.returns_none), restart_stuck=True, **QUICK) as handler:
        assert rig.run(samples.returns_none).status == "COMPLETED"
        until(handler.is_healthy, "health")
    assert "its poll loop is stuck for" in caplog.text


def test_server_that_is_down_makes_no_worker_unhealthy(rig: Rig) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        down = Configuration(server_api_url=f"http://127.0.0.1:{closed.getsockname()[1]}/api")
        with TaskHandler(
            [rig.worker(samples.returns_none)], down, scan_for_annotated_workers=False, **QUICK
        ) as handler:
            handler.start_processes()
            until(lambda: about(handler)["poll_failure"] is not None, "the failure")
            assert "connection refused" in about(handler)["poll_failure"]
            assert about(handler)["last_poll_seconds_ago"] is None
            assert handler.is_healthy()


def test_worker_paused_by_the_environment_is_resumed_at_run_time(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    name = rig.name_of(samples.returns_none)
    monkeypatch.setenv(f"CONDUCTOR_WORKER_{name.upper()}_PAUSED", "true")
    rig.define(samples.returns_none)
    with rig.running(rig.worker(samples.returns_none)) as handler:
        assert about(handler)["paused"]
        assert not about(handler)["polling"]
        assert handler.is_healthy()
        workflow_id = rig.start(samples.returns_none)
        assert rig.task(workflow_id).status == "SCHEDULED"
        with pytest.raises(DeclarationError, match="no worker for 'other'"):
            handler.set_paused("other", False)
        handler.set_paused(name, False)
        assert rig.last_task(workflow_id).status == "COMPLETED"
        assert about(handler)["polling"]


def test_worker_id_is_the_host_s_name_unless_somebody_says_it(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.define(samples.returns_none)
    for chosen in (socket.gethostname(), "by-the-environment"):
        with rig.running(rig.worker(samples.returns_none), isolation="thread") as handler:
            assert about(handler)["worker_id"] == chosen
            assert rig.run(samples.returns_none).worker_id == chosen
        monkeypatch.setenv("CONDUCTOR_WORKER_ALL_WORKER_ID", "by-the-environment")


def test_defaults_of_the_supervision() -> None:
    parameters = inspect.signature(TaskHandler).parameters
    expected: dict[str, Any] = {
        "monitor_processes": True, "monitor_interval_seconds": 5.0, "restart_on_failure": True,
        "restart_backoff_seconds": 1.0, "restart_backoff_max_seconds": 60.0, "restart_max_attempts": 0,
    }  # fmt: skip
    assert {name: parameters[name].default for name in expected} == expected


@pytest.mark.parametrize("options", [{"restart_max_attempts": 1}, {"monitor_processes": False}], ids=str)
def test_child_that_is_not_replaced_any_more_is_unhealthy(
    rig: Rig, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    workers = [rig.worker(samples.returns_none), rig.worker(samples.returns_list)]  # without the second it would stop
    with rig.running(*workers, restart_backoff_seconds=0.0, **options) as handler:
        pids: set[int] = set()
        for _ in range(options.get("restart_max_attempts", 0) + 1):
            pid = until(lambda: (set(about(handler)["pids"]) - pids or {0}).pop(), "a new child")
            pids.add(pid)
            os.kill(pid, signal.SIGKILL)
        until(lambda: "is not restarted" in caplog.text, "the end")
        assert not handler.is_healthy()
        assert about(handler)["problem"] == "a worker process is down"
        assert about(handler)["exitcode"] == -signal.SIGKILL


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("monitor_interval_seconds", 0, "seconds, above 0"),
        ("stuck_after_seconds", -1, "seconds, above 0"),
        ("stuck_after_seconds", "30", "seconds, above 0"),
        ("restart_backoff_seconds", -1, "seconds, 0 or more"),
        ("restart_backoff_max_seconds", None, "seconds, 0 or more"),
        ("restart_max_attempts", 1.5, "a whole number, 0 or more"),
        ("processes", 0, "a whole number of 1 or more"),
        ("isolation", "prison", "'process' or 'thread'"),
        ("start_method", "magic", "'forkserver' or 'spawn' or 'fork'"),
        ("grace_seconds", -1, "seconds, 0 or more"),
        ("update_retry_delays", [1, -1], "a sequence of seconds, 0 or more"),
        ("restart_stuck", "false", "True or False"),
        ("kill_stopped", 1, "True or False"),
        ("import_modules", 5, "names of modules"),
    ],
)
def test_option_out_of_range_is_named(rig: Rig, option: str, value: Any, expected: str) -> None:
    options: dict[str, Any] = {option: value}
    with pytest.raises(ConfigError) as caught:
        TaskHandler([rig.worker(samples.returns_none)], rig.configuration, **options)
    assert str(caught.value) == f"TaskHandler: {option}={value!r}: expected {expected}"


def test_start_says_where_each_value_comes_from(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CONDUCTOR_WORKER_ALL_THREAD_COUNT", "7")
    with caplog.at_level(logging.DEBUG, "podium"), rig.running(rig.worker(samples.returns_none)) as handler:
        assert about(handler)["slots"] == 7
    name = rig.name_of(samples.returns_none)
    (lines,) = [text for text in caplog.messages if text.startswith(f"Worker {name!r} configuration:")]
    assert "\n  thread_count: 7 (from CONDUCTOR_WORKER_ALL_THREAD_COUNT)\n" in lines
    assert "\n  poll_interval: 20 (from code)\n" in lines
    assert "\n  poll_timeout: 100 (from default)\n" in lines


def test_summary_tells_what_each_worker_is_and_does(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    workers = [rig.worker(samples.returns_none, domain="d"), rig.worker(samples.returns_list, paused=True)]
    first, second = (worker.task_definition_name for worker in workers)
    with rig.running(*workers) as handler:
        handler.print_summary()
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "2 workers",
        f"{first} module=samples domain=d threads=4 poll_interval=20ms polling",
        f"{second} module=samples domain=- threads=4 poll_interval=20ms paused",
    ]
    handler.print_summary()
    assert capsys.readouterr().out.count(" stopped\n") == 2


def test_handler_that_a_signal_has_ended_can_be_started_again(rig: Rig) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    before = signal.getsignal(signal.SIGTERM)
    with rig.running(rig.worker(samples.returns_none), metrics_settings=MetricsSettings(http_port=port)) as handler:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
            handler.join_processes()
            handler.start_processes()
            assert handler.is_healthy()
            assert handler.metrics_port == port
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("action", ["pause", "stop"])
def test_inline_listener_may_steer_the_handler(rig: Rig, action: str) -> None:
    """As a collector of the user's own may: it is called by the engine's loop, which cannot wait for itself."""
    rig.define(samples.returns_none)
    worker = rig.worker(samples.returns_none)
    done: list[str] = []

    class Steers(MetricsCollector):
        def on_task_update_completed(self, event: TaskUpdateCompleted) -> None:
            super().on_task_update_completed(event)
            if action == "pause":
                handler.set_paused(worker.task_definition_name, True)
            else:
                handler.stop_processes()
            done.append(action)

    with rig.running(worker, event_listeners=[Steers()]) as handler:
        rig.start(samples.returns_none)
        until(lambda: done, "the action")
        if action == "pause":
            assert about(handler)["paused"]
        else:
            handler.join_processes()


def test_loop_that_goes_on_meanwhile_is_not_begun_anew(rig: Rig) -> None:
    """Its open poll may have brought tasks by then."""
    with rig.running(rig.worker(samples.returns_none)) as handler:
        engine = handler._engine
        assert engine is not None

        def same(parts: Any) -> bool:
            ((runner, before),) = parts.polls.items()
            engine.restart_runner(runner, 0.5)
            return parts.polls[runner] is before

        until(lambda: engine.call(lambda parts: len(parts.polls)), "the loop")
        assert engine.call(same)


def test_child_is_replaced_when_the_system_has_threads_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Python tells the lack of threads by a RuntimeError, unlike that of processes."""
    launch = SpawnLauncher.launch
    options: dict[str, Any] = {"start_method": "spawn", "restart_backoff_seconds": 0.0}
    with rig.running(rig.worker(samples.returns_none), **options) as handler:

        async def fails_once(*args: Any) -> Any:
            monkeypatch.setattr(SpawnLauncher, "launch", launch)
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(SpawnLauncher, "launch", fails_once)
        os.kill(about(handler)["pid"], signal.SIGKILL)
        until(lambda: about(handler)["restart_count"] >= 2 and about(handler)["alive"], "a successor")
    assert "could not be restarted: can't start new thread" in caplog.text


def test_what_is_said_of_the_environment_is_json_too(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CONDUCTOR_LOG_FORMAT", "json")
    monkeypatch.setenv("CONDUCTOR_WORKER_ALL_COLOUR", "red")
    TaskHandler([rig.worker(samples.returns_none)], rig.configuration, scan_for_annotated_workers=False)
    (line,) = capsys.readouterr().err.splitlines()
    assert "CONDUCTOR_WORKER_ALL_COLOUR" in json.loads(line)["message"]
    assert not logging.getLogger("podium").handlers
