"""The log records of tasks arrive: all, in order, with the task's fields, whatever happens to the child."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import log_samples
from podium import TaskHandler
from rig import Rig, until

START_METHODS = ["forkserver", "spawn", "fork"]


def records_of(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in list(caplog.records) if record.name == "samples.log"]


def stall_engine(handler: TaskHandler) -> Callable[[], None]:
    """Stop the engine's loop, as nothing of podium ever should; return what lets it go on."""
    engine, stalled, go = handler._engine, threading.Event(), threading.Event()
    assert engine is not None

    def stall(_parts: Any) -> None:
        stalled.set()
        go.wait(60)

    threading.Thread(target=engine.call, args=(stall,)).start()
    assert stalled.wait(10)
    return go.set


@pytest.mark.parametrize("method", START_METHODS)
@pytest.mark.parametrize("how", list(log_samples.ENDS))
def test_last_records_of_a_dying_child_arrive(
    rig: Rig, caplog: pytest.LogCaptureFixture, method: Any, how: str
) -> None:
    rig.define(log_samples.logs_and_dies)
    with rig.running(rig.worker(log_samples.logs_and_dies), start_method=method):
        task = rig.run(log_samples.logs_and_dies, how=how, lines=200)
        assert task.status == "FAILED"
        until(lambda: "last words" in caplog.messages, "the last record")
        records = records_of(caplog)
        assert [record.getMessage() for record in records] == [*(f"line {n}" for n in range(200)), "last words"]
        assert {vars(record)["task_id"] for record in records} == {task.task_id}


def test_many_records_of_many_threads_arrive_in_order(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.define(log_samples.logs_from_threads)
    caplog.set_level(logging.INFO, logger="samples.log")
    with rig.running(rig.worker(log_samples.logs_from_threads)):
        assert rig.run(log_samples.logs_from_threads, threads=8, each=625).status == "COMPLETED"
        until(lambda: len(records_of(caplog)) >= 5000, "5,000 records")
        places = [vars(record)["place"] for record in records_of(caplog)]
        for thread in range(8):
            assert [number for who, number in places if who == thread] == list(range(625))


def test_record_arrives_while_a_coroutine_blocks_the_loop(
    rig: Rig, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    rig.define(log_samples.logs_and_blocks_the_loop)
    go = tmp_path / "go"
    with rig.running(rig.worker(log_samples.logs_and_blocks_the_loop)):
        workflow_id = rig.start(log_samples.logs_and_blocks_the_loop, path=str(go))
        until(lambda: records_of(caplog), "the record")
        assert rig.task(workflow_id).status == "IN_PROGRESS"
        go.touch()
        assert rig.last_task(workflow_id).status == "COMPLETED"


def test_huge_record_arrives_cut(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.define(log_samples.logs_huge)
    with rig.running(rig.worker(log_samples.logs_huge)):
        assert rig.run(log_samples.logs_huge, size=5_000_000).status == "COMPLETED"
        (record,) = until(lambda: records_of(caplog), "the record")
        text = record.getMessage()
        assert re.fullmatch(r"begin x+ \.\.\. (\d+) characters left out \.\.\. x+ end", text)
        assert len(text) < 65_536


def test_task_goes_on_while_nobody_takes_its_records_and_their_number_is_told(
    rig: Rig, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    rig.define(log_samples.logs_much)
    with rig.running(rig.worker(log_samples.logs_much)) as handler:
        workflow_id = rig.start(log_samples.logs_much, folder=str(tmp_path), count=3000)
        until((tmp_path / "running").exists, "the task")
        let_go = stall_engine(handler)
        try:
            (tmp_path / "go").touch()
            until((tmp_path / "done").exists, "the task's last line")
        finally:
            let_go()
        until(lambda: records_of(caplog), "the first records")
        (tmp_path / "finish").touch()
        assert rig.last_task(workflow_id).status == "COMPLETED"
        until(lambda: records_of(caplog)[-1].getMessage() == "afterwards", "the last record")
        arrived = [record.getMessage() for record in records_of(caplog)][:-1]
        assert [int(text.split()[0]) for text in arrived] == list(range(len(arrived)))
        (notice,) = [record for record in caplog.records if record.name == "podium.records"]
        assert notice.getMessage().startswith(f"{3000 - len(arrived)} log records of this process were dropped")
        assert notice.processName == rig.name_of(log_samples.logs_much)


@pytest.mark.parametrize("method", START_METHODS)
def test_process_that_a_task_forks_logs_too(rig: Rig, caplog: pytest.LogCaptureFixture, method: Any) -> None:
    rig.define(log_samples.forks_and_logs)
    with rig.running(rig.worker(log_samples.forks_and_logs), start_method=method):
        output = rig.run(log_samples.forks_and_logs).output_data
        assert output["exitcode"] == 0
        until(lambda: len(records_of(caplog)) == 2, "both records")
        forked, own = records_of(caplog)
        assert forked.getMessage() == f"from the fork of {output['pid']}"
        assert (own.getMessage(), own.process) == ("from the task", output["pid"])
        assert forked.process not in {own.process, None}


@pytest.mark.parametrize("mode", [{"isolation": "thread"}, *({"start_method": m} for m in START_METHODS)], ids=str)
@pytest.mark.parametrize("function", [log_samples.logs_in_a_task, log_samples.logs_in_a_coroutine])
def test_records_carry_their_task_s_fields_in_every_isolation(
    rig: Rig, caplog: pytest.LogCaptureFixture, mode: dict[str, Any], function: Callable[..., Any]
) -> None:
    rig.define(function)
    factory = logging.getLogRecordFactory()
    with rig.running(rig.worker(function), **mode):
        workflow_id = rig.start(function)
        task = rig.last_task(workflow_id)
        until(lambda: len(records_of(caplog)) == 3, "the records")
    plain, own, outside = map(vars, records_of(caplog))
    fields = {
        "task_id": task.task_id,
        "workflow_id": workflow_id,
        "task_type": rig.name_of(function),
        "attempt": 0,
    }
    assert plain.items() >= fields.items()
    assert logging.Formatter("%(task_id)s %(attempt)d").format(records_of(caplog)[0]) == f"{task.task_id} 0"
    assert own.items() >= (fields | {"task_id": "mine", "attempt": None}).items()
    assert not outside.keys() & fields.keys()
    assert logging.getLogRecordFactory() is factory


def test_children_wait_while_records_cannot_be_written_as_fast_and_none_is_lost(
    rig: Rig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("podium.crew.logs._QUEUE_LIMIT", 50)
    rig.define(log_samples.logs_from_threads)
    caplog.set_level(logging.INFO, logger="samples.log")
    with rig.running(rig.worker(log_samples.logs_from_threads)):
        assert rig.run(log_samples.logs_from_threads, threads=2, each=500).status == "COMPLETED"
        until(lambda: len(records_of(caplog)) == 1000, "all records")


def test_crash_loop_is_told_once(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.define(log_samples.logs_and_dies)
    worker = rig.worker(log_samples.logs_and_dies)
    with caplog.at_level(logging.INFO), rig.running(worker, restart_backoff_seconds=0.01) as handler:
        for _ in range(4):
            rig.run(log_samples.logs_and_dies, how="exit", lines=0)
        until(lambda: handler.get_worker_status()[0]["restart_count"] == 4, "four restarts")
        until(handler.is_healthy, "the last child")
    told = [record.getMessage() for record in caplog.records if record.name == "podium.crew.place"]
    assert len(told) == 2, told
    assert "worker process exited with code 3; pid" in told[0]
    assert "runs again, pid" in told[1]
    failures = [record for record in caplog.records if record.name == "podium.tasks"]
    assert len(failures) == 4  # one line for each failed task


PROGRAM = """
    import sys
    sys.path.insert(0, {tests!r})
    import log_samples
    from podium import Configuration, TaskHandler, Worker
    from podium.logs import configure_logging

    if __name__ == "__main__":
        configure_logging()
        workers = [Worker({name!r}, log_samples.logs_and_fails, poll_interval=20)]
        with TaskHandler(workers, Configuration(server_api_url={url!r}), start_method={method!r}) as handler:
            handler.start_processes()
            sys.stdin.read()
"""


@pytest.mark.parametrize("method", START_METHODS)
def test_program_without_any_configuration_writes_json_lines_and_nothing_else(
    rig: Rig, tmp_path: Path, method: str
) -> None:
    rig.define(log_samples.logs_and_fails)
    name = rig.name_of(log_samples.logs_and_fails)
    program = tmp_path / "program.py"
    tests = str(Path(log_samples.__file__).parent)
    program.write_text(textwrap.dedent(PROGRAM).format(tests=tests, name=name, url=rig.url, method=method))
    process = subprocess.Popen(
        [sys.executable, str(program)],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"CONDUCTOR_LOG_FORMAT": "json", "CONDUCTOR_LOG_LEVEL": "info"},
    )
    try:
        task = rig.run(log_samples.logs_and_fails)
        _, err = process.communicate("", timeout=20)
    finally:
        process.kill()
    assert task.status == "FAILED"
    lines = list(map(json.loads, err.splitlines()))
    (started,) = [line for line in lines if line["message"].startswith("Conductor Worker[")]
    assert (started["level"], started["logger"]) == ("INFO", "podium.engine")
    (own,) = [line for line in lines if line["logger"] == "samples.log"]
    assert own["message"] == "caught\nin the act"
    assert own["exception"].endswith("ZeroDivisionError: division by zero")
    assert (own["task_id"], own["task_type"], own["attempt"]) == (task.task_id, name, 0)
    assert own["process"] != process.pid
    assert [line["process"] for line in lines if line["logger"] == "podium.tasks"] == [process.pid]
