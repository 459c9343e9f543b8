"""Child processes: how they are started, what they may do to themselves, and what becomes of their tasks."""

from __future__ import annotations

import importlib
import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

import import_samples
import samples
from podium import DeclarationError, StartError, TaskHandler, Worker, get_registered_workers
from podium.crew import place
from rig import Rig, until

START_METHODS = ["forkserver", "spawn", "fork"]

MODES: list[dict[str, Any]] = [
    {"isolation": "thread"},
    {"processes": 2},
    {"group": "all"},
    {"group": "all", "processes": 2},
    *({"start_method": method} for method in START_METHODS),
]


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_same_outcome_in_every_isolation_and_start_method(rig: Rig, mode: dict[str, Any]) -> None:
    functions: list[Callable[..., Any]] = [samples.returns_dict, samples.sees_context_async, samples.fails_first]
    rig.define(*functions, retry_count=2)
    with rig.running(*map(rig.worker, functions), **mode) as handler:
        assert handler.is_healthy()
        ids = [rig.start(samples.returns_dict, a=number) for number in range(20)]
        assert [rig.last_task(workflow_id).output_data["a"] for workflow_id in ids] == list(range(20))
        assert rig.run(samples.sees_context_async, a=1).output_data["input"] == {"a": 1}
        assert rig.run(samples.fails_first, times=1).output_data == {"attempts": 2}
    assert handler.get_worker_status() == []


@pytest.mark.parametrize("method", START_METHODS)
def test_functions_run_in_a_process_of_their_own(rig: Rig, method: Any) -> None:
    rig.define(samples.tells_process)
    with rig.running(rig.worker(samples.tells_process), start_method=method) as handler:
        (status,) = handler.get_worker_status()
        assert rig.run(samples.tells_process).output_data["pid"] == status["pid"] != os.getpid()


def test_child_shares_all_modules_with_its_fork_server(rig: Rig) -> None:
    functions = [import_samples.tells_imports, import_samples.tells_imports_async, import_samples.imports_and_fails]
    rig.define(*functions)
    with rig.running(*(rig.worker(function, group="g") for function in functions)):
        assert rig.run(import_samples.tells_imports_async).output_data == {"seen": []}
        assert rig.run(import_samples.imports_and_fails).status == "FAILED"
        assert rig.run(import_samples.tells_imports).output_data == {"seen": ["wave"]}


def test_thread_isolation_runs_in_this_process(rig: Rig) -> None:
    rig.define(samples.tells_process)
    with rig.running(rig.worker(samples.tells_process), isolation="thread"):
        assert rig.run(samples.tells_process).output_data["pid"] == os.getpid()


def test_group_shares_a_process_and_processes_multiply(rig: Rig) -> None:
    workers = [rig.worker(samples.tells_process, group="g", processes=2), rig.worker(samples.returns_none, group="g")]
    with rig.running(*workers) as handler:
        first, second = handler.get_worker_status()
        assert first["pids"] == second["pids"]
        assert len(set(first["pids"])) == 2
        assert first["slots"] == 8


def test_processes_run_tasks_at_the_same_time(rig: Rig, tmp_path: Path) -> None:
    rig.define(samples.waits_for_file)
    with rig.running(rig.worker(samples.waits_for_file, thread_count=1, processes=2)):
        go = tmp_path / "go"
        marks = [tmp_path / "one", tmp_path / "two"]
        ids = [rig.start(samples.waits_for_file, path=str(go), mark=str(mark)) for mark in marks]
        until(lambda: all(mark.exists() for mark in marks), "both tasks running")
        go.touch()
        assert len({rig.last_task(workflow_id).output_data["pid"] for workflow_id in ids}) == 2


def test_start_up_line_names_the_process_that_runs_the_function(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), rig.running(rig.worker(samples.returns_none, domain="d")) as handler:
        (status,) = handler.get_worker_status()
        line = next(text for text in caplog.messages if text.startswith("Conductor Worker["))
        name = rig.name_of(samples.returns_none)
        assert line.startswith(f"Conductor Worker[name={name}, pid={status['pid']}, status=active, poll_interval=20ms")
        assert "domain=d" in line


def test_start_up_line_of_a_paused_worker_says_so(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), rig.running(rig.worker(samples.returns_none, paused=True)):
        line = next(text for text in caplog.messages if text.startswith("Conductor Worker["))
    assert ", status=paused, poll_interval=20ms, thread_count=4, poll_timeout=100ms" in line


@pytest.mark.parametrize("by", ["SIGKILL", "SIGSEGV", "SIGABRT"])
def test_killed_child_is_reported_by_signal_within_two_seconds_and_the_retry_completes(rig: Rig, by: str) -> None:
    rig.define(samples.dies_once, retry_count=1)
    with rig.running(rig.worker(samples.dies_once)) as handler:
        (before,) = handler.get_worker_status()
        workflow_id = rig.start(samples.dies_once, by=by)
        until(lambda: rig.task(workflow_id, 0).status == "FAILED", "the failure", deadline=5)
        workflow = rig.finish(workflow_id)
        assert [task.status for task in workflow.tasks] == ["FAILED", "COMPLETED"]
        assert f"worker process killed by {by}" in str(workflow.tasks[0].reason_for_incompletion)
        assert workflow.tasks[0].end_time - workflow.tasks[0].start_time < 2000
        (after,) = handler.get_worker_status()
        assert after["pid"] != before["pid"]
        assert after["restart_count"] == 1
        assert after["exitcode"] == -getattr(signal, by)
        assert handler.is_healthy()


def test_defect_09_hard_exit_is_reported_with_its_code(rig: Rig) -> None:
    rig.define(samples.exits_hard_once, retry_count=1)
    with rig.running(rig.worker(samples.exits_hard_once)):
        first, second = rig.finish(rig.start(samples.exits_hard_once)).tasks
        assert first.reason_for_incompletion == "worker process exited with code 7"
        assert second.output_data == {"survived": True}


@pytest.mark.parametrize("method", START_METHODS)
def test_every_task_of_a_killed_child_is_failed_and_the_next_child_goes_on(
    rig: Rig, tmp_path: Path, method: Any
) -> None:
    rig.define(samples.waits_for_file, retry_count=1)
    go = tmp_path / "go"
    with rig.running(rig.worker(samples.waits_for_file), start_method=method) as handler:
        marks = [tmp_path / str(number) for number in range(3)]
        ids = [rig.start(samples.waits_for_file, path=str(go), mark=str(mark)) for mark in marks]
        until(lambda: all(mark.exists() for mark in marks), "all tasks running")
        os.kill(int(marks[0].read_text()), signal.SIGKILL)
        until(lambda: all(rig.task(i, 0).status == "FAILED" for i in ids), "all failed", deadline=5)
        go.touch()
        assert [rig.last_task(workflow_id).status for workflow_id in ids] == ["COMPLETED"] * 3
        assert handler.get_worker_status()[0]["restart_count"] == 1


@pytest.mark.parametrize("mode", [{"isolation": "process"}, {"isolation": "thread"}], ids=str)
def test_coroutine_that_outlasts_the_grace_is_cancelled_and_given_back(
    rig: Rig, tmp_path: Path, mode: dict[str, Any]
) -> None:
    rig.define(samples.cleans_up)
    mark = tmp_path / "mark"
    with rig.running(rig.worker(samples.cleans_up), grace_seconds=0.0, **mode):
        workflow_id = rig.start(samples.cleans_up, mark=str(mark))
        until(lambda: mark.exists() and mark.read_text(), "the task running")
    assert mark.read_text() == "cleaned up"
    task = rig.task(workflow_id)
    assert (task.status, task.retry_count) == ("SCHEDULED", 0)


def test_plain_function_that_cannot_be_stopped_is_left_behind_and_said_so(
    rig: Rig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rig.define(samples.waits_for_file)
    go, mark = tmp_path / "go", tmp_path / "mark"
    with rig.running(rig.worker(samples.waits_for_file), grace_seconds=0.0, isolation="thread"):
        workflow_id = rig.start(samples.waits_for_file, path=str(go), mark=str(mark))
        until(mark.exists, "the task running")
    go.touch()
    task = rig.task(workflow_id)
    assert task.status == "IN_PROGRESS"  # given back it would run twice
    assert f"task {task.task_id}" in caplog.text
    assert "left behind" in caplog.text


def test_defect_28_backoff_grows_and_is_limited() -> None:
    from podium.crew.place import RestartPolicy

    policy = RestartPolicy(max_attempts=5)
    assert [policy.delay(deaths) for deaths in range(1, 7)] == [0, 1, 2, 4, 8, None]
    assert RestartPolicy().delay(1000) == 60
    assert RestartPolicy(restart=False).delay(1) is None


def _kill_and_await_the_next(handler: TaskHandler) -> None:
    (before,) = handler.get_worker_status()
    os.kill(before["pid"], signal.SIGKILL)
    until(lambda: handler.get_worker_status()[0]["pid"] not in {before["pid"], None}, "the next child")


def test_defect_28_deaths_before_a_stable_while_are_forgotten(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("podium.crew.place.STABLE_SECONDS", 0.0)  # each child was stable
    with rig.running(rig.worker(samples.returns_none), restart_max_attempts=1) as handler:
        for _ in range(3):
            _kill_and_await_the_next(handler)
        assert handler.is_healthy()
        assert handler.get_worker_status()[0]["restart_count"] == 3


def test_defect_28_restart_that_fails_is_tried_again(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.define(samples.returns_none)
    with rig.running(rig.worker(samples.returns_none), restart_backoff_seconds=0.01) as handler:
        (_, crew), *_ = handler._engine.runners  # type: ignore[union-attr]
        member, failures = crew.members[0], [0]  # type: ignore[union-attr]
        shared = member._shared
        launcher = shared.source.launcher

        class FailsTwice:
            async def launch(self, functions: Any) -> Any:
                if failures[0] < 2:
                    failures[0] += 1
                    raise OSError(11, "no process to be had")
                return await launcher.launch(functions)

        source = msgspec.structs.replace(shared.source, launcher=FailsTwice())
        member._shared = msgspec.structs.replace(shared, source=source)
        _kill_and_await_the_next(handler)
        assert failures == [2]
        assert "could not be restarted: worker process " in caplog.text
        assert "cannot be started: no process to be had" in caplog.text
        assert rig.run(samples.returns_none).status == "COMPLETED"


def test_child_that_takes_long_to_be_ready_is_told(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(place, "SLOW_START", 0.01)  # a fresh interpreter cannot be as fast
    with rig.running(rig.worker(samples.returns_none), start_method="spawn") as handler:
        (pid,) = handler.get_worker_status()[0]["pids"]
    (told,) = [message for message in caplog.messages if "is not ready after" in message]
    assert f"worker process {pid} is not ready after 0 s" in told


def test_defect_47_block_and_death_of_one_worker_s_child_leave_the_others_alone(rig: Rig, tmp_path: Path) -> None:
    rig.define(samples.blocks_until_file_async, samples.tells_process)
    mark = tmp_path / "mark"
    workers = [rig.worker(samples.blocks_until_file_async), rig.worker(samples.tells_process)]
    with rig.running(*workers) as handler:
        blocked, other = handler.get_worker_status()
        rig.start(samples.blocks_until_file_async, path=str(tmp_path / "never"), mark=str(mark))
        until(mark.exists, "the block")
        assert rig.run(samples.tells_process).output_data["pid"] == other["pid"]
        os.kill(blocked["pid"], signal.SIGKILL)
        until(lambda: handler.get_worker_status()[0]["restart_count"] == 1, "the restart")
        assert rig.run(samples.tells_process).output_data["pid"] == other["pid"]
        assert handler.get_worker_status()[1]["restart_count"] == 0


@pytest.mark.parametrize("count", [1, 3])
def test_fork_server_imports_a_module_once_for_all_children(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    module, imports = f"counted_{rig.name_of(samples.returns_none)}", tmp_path / "imports"
    text = f"import os\nwith open({str(imports)!r}, 'a') as file: file.write(f'{{os.getpid()}}\\n')\ndef work(): ...\n"
    (tmp_path / f"{module}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    work = importlib.import_module(module).work
    with rig.running(*(Worker(f"{module}_{number}", work, processes=2) for number in range(count))) as handler:
        children = {pid for entry in handler.get_worker_status() for pid in entry["pids"]}
        assert len(children) == 2 * count
        (server,) = {_parent_of(pid) for pid in children}
        assert imports.read_text().split() == [str(os.getpid()), str(server)]


def test_no_restart_when_it_is_not_wanted(rig: Rig) -> None:
    with rig.running(rig.worker(samples.returns_none), restart_on_failure=False) as handler:
        os.kill(handler.get_worker_status()[0]["pid"], signal.SIGKILL)
        until(lambda: not handler.is_healthy(), "the death")
        assert handler.get_worker_status()[0]["restart_count"] == 0


def test_lease_is_kept_while_a_function_holds_the_gil(rig: Rig) -> None:
    rig.define(samples.holds_the_gil, response_timeout_seconds=5)
    with rig.running(rig.worker(samples.holds_the_gil, lease_extend_enabled=True)):
        workflow = rig.finish(rig.start(samples.holds_the_gil, seconds=10))
        assert [task.status for task in workflow.tasks] == ["COMPLETED"]


def test_child_log_records_arrive_in_the_parent(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.define(samples.writes_log)
    with caplog.at_level(logging.INFO), rig.running(rig.worker(samples.writes_log)) as handler:
        rig.run(samples.writes_log, text="from the child")
        pid = handler.get_worker_status()[0]["pid"]
        (record,) = until(lambda: [r for r in caplog.records if r.name == "samples.log"], "the record")
        assert record.getMessage() == "from the child 100%"
        assert record.process == pid
        assert record.exc_text is not None
        assert "ZeroDivisionError" in record.exc_text
        assert (record.module, record.funcName) == ("samples", "writes_log")
        assert record.processName == rig.name_of(samples.writes_log)
        attached = vars(record)
        assert (attached["order_id"], attached["pair"]) == (77, [1, "red"])
        assert "lock" in attached["lock"]


@pytest.mark.parametrize("method", START_METHODS)
def test_what_runs_is_the_function_that_was_given_with_its_decorators(rig: Rig, method: Any) -> None:
    declared = next(w for w in get_registered_workers() if w.task_definition_name == "declared_below_a_wrapper")
    rig.define(samples.wrapped, samples.wrapped_above, samples.returns_scalar)
    workers = [
        rig.worker(samples.wrapped),  # decorated before it was given
        rig.worker(samples.wrapped_above),  # a wrapper around a declared function
        Worker(rig.name_of(samples.returns_scalar), declared.function),  # declared, and wrapped after that
    ]
    with rig.running(*workers, start_method=method):
        assert rig.run(samples.wrapped, a=1).output_data == {"result": 4}
        assert rig.run(samples.wrapped_above, a=1).output_data == {"result": 4}
        assert rig.run(samples.returns_scalar, a=1).output_data == {"result": 2}


def test_killed_fork_server_costs_each_child_one_restart(rig: Rig) -> None:
    functions: list[Callable[..., Any]] = [samples.returns_none, samples.returns_list, samples.tells_process]
    rig.define(*functions)
    with rig.running(*(rig.worker(function, processes=2) for function in functions)) as handler:
        before = handler.get_worker_status()
        children = [pid for status in before for pid in status["pids"]]
        (server,) = {_parent_of(pid) for pid in children}
        os.kill(server, signal.SIGKILL)

        def all_new() -> bool:
            pids = [pid for status in handler.get_worker_status() for pid in status["pids"]]
            return len(pids) == len(children) and not set(pids) & set(children)

        until(all_new, "six new children")
        assert [status["restart_count"] for status in handler.get_worker_status()] == [2, 2, 2]
        assert rig.run(samples.returns_list).status == "COMPLETED"


def _parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


# what user code does to its surroundings


@pytest.mark.parametrize("mode", [{"isolation": "process"}, {"isolation": "thread"}], ids=str)
def test_exit_in_a_subtask_is_that_task_s_failure_alone(rig: Rig, mode: dict[str, Any]) -> None:
    rig.define(samples.exits_in_a_subtask, samples.sees_context_async)
    workers = [rig.worker(samples.exits_in_a_subtask), rig.worker(samples.sees_context_async)]
    with rig.running(*workers, group="g", **mode) as handler:
        task = rig.run(samples.exits_in_a_subtask)
        assert (task.status, task.reason_for_incompletion) == ("FAILED", "SystemExit: 3")
        assert rig.run(samples.sees_context_async, a=1).status == "COMPLETED"
        assert all(status["restart_count"] == 0 for status in handler.get_worker_status())


def test_program_that_a_task_started_ends_with_its_child(rig: Rig, tmp_path: Path) -> None:
    rig.define(samples.starts_a_program)
    mark = tmp_path / "mark"
    with rig.running(rig.worker(samples.starts_a_program), grace_seconds=0.0):
        rig.start(samples.starts_a_program, mark=str(mark))
        until(lambda: mark.exists() and mark.read_text(), "the program")
    status = Path(f"/proc/{mark.read_text()}/status")
    until(lambda: not status.exists() or "\nState:\tZ" in status.read_text(), "its end", deadline=5)


def test_process_that_a_task_forks_can_be_terminated(rig: Rig) -> None:
    rig.define(samples.terminates_its_fork)
    with rig.running(rig.worker(samples.terminates_its_fork)):
        assert rig.run(samples.terminates_its_fork).output_data == {"exitcode": -signal.SIGTERM}


def test_process_that_the_program_forks_can_be_terminated(rig: Rig) -> None:
    with rig.running(rig.worker(samples.returns_none)):
        assert samples.terminates_its_fork() == {"exitcode": -signal.SIGTERM}


def test_log_filter_that_fails_costs_no_child(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    def failing(record: logging.LogRecord) -> bool:
        raise TypeError(record.name)

    rig.define(samples.writes_log)
    target = logging.getLogger("samples.log")
    target.addFilter(failing)
    try:
        with rig.running(rig.worker(samples.writes_log)) as handler:
            assert rig.run(samples.writes_log, text="x").status == "COMPLETED"
            until(lambda: "could not be written" in caplog.text, "the complaint")
            assert handler.get_worker_status()[0]["restart_count"] == 0
    finally:
        target.removeFilter(failing)


# what cannot run in a child is refused with the fix


def _closure() -> Any:
    def inner() -> None: ...

    return inner


class _Holder:
    def method(self) -> None: ...


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
@pytest.mark.parametrize(
    ("function", "why"),
    [(lambda: None, "is a lambda"), (_closure(), "inside another function"), (_Holder().method, "method of an object")],
    ids=["lambda", "closure", "method"],
)
def test_function_that_a_child_cannot_import_is_refused(rig: Rig, function: Any, why: str, method: Any) -> None:
    with pytest.raises(StartError, match=why) as caught, rig.running(Worker("w", function), start_method=method):
        pass
    assert 'isolation="thread"' in str(caught.value)


def test_defect_30_bound_method_runs_on_its_own_object(rig: Rig) -> None:
    counter = samples.Counter()
    worker = Worker(rig.name_of(samples.returns_none), counter.count)
    rig.define(samples.returns_none)
    with rig.running(worker, isolation="thread"):
        rig.run(samples.returns_none)
    assert counter.calls == 1


@pytest.mark.parametrize("mode", [{"start_method": "fork"}, {"isolation": "thread"}], ids=str)
def test_closure_runs_where_children_need_no_name(rig: Rig, mode: dict[str, Any]) -> None:
    offset = 5

    def adds(a: int) -> int:
        return a + offset

    rig.define(samples.returns_scalar)
    with rig.running(Worker(rig.name_of(samples.returns_scalar), adds), **mode):
        assert rig.run(samples.returns_scalar, a=1).output_data == {"result": 6}


def test_group_that_disagrees_about_processes_is_refused(rig: Rig) -> None:
    workers = [
        rig.worker(samples.returns_none, group="g", processes=2),
        rig.worker(samples.returns_list, group="g", processes=3),
    ]
    with pytest.raises(DeclarationError, match="different numbers of processes"), rig.running(*workers):
        pass
