"""Whole programs written for conductor-python, which run with one line in front of them."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from podium import StartWorkflowRequest, Task, TaskDef, WorkflowDef, WorkflowTask
from rig import Rig, unique

#: What every program does in the end. A program gets its task's name as its argument, and options for the handler.
MAIN = """
    def main():
        configuration = Configuration()
        configuration.apply_logging_config(level=30)
        handler = TaskHandler(
            workers=workers, configuration=configuration, scan_for_annotated_workers=True, event_listeners=listeners,
            **eval(sys.argv[2]),
        )
        with handler:
            handler.start_processes()
            (status,) = handler.get_worker_process_status()
            assert sorted(status) == ["alive", "exitcode", "pid", "restart_count", "worker"], status
            print("ready", status["pid"], handler.is_healthy(), flush=True)
            handler.join_processes()
        print("ended", flush=True)

    if __name__ == "__main__":
        main()
"""

IMPORTS = """
    import podium.compat
    import os, sys
    from conductor.client.automator.task_handler import TaskHandler
    from conductor.client.configuration.configuration import Configuration
    workers, listeners = [], []
"""

PLAIN = """
    from conductor.client.worker.worker_task import worker_task

    @worker_task(task_definition_name=sys.argv[1], poll_interval_millis=20, thread_count=5)
    def process_order(order_id: str, amount: float) -> dict:
        return {'processed': order_id, 'amount': amount, 'pid': os.getpid()}
"""

COROUTINE = """
    import asyncio
    from conductor.client.http.models import Task, TaskResult
    from conductor.client.http.models.task_result_status import TaskResultStatus
    from conductor.client.worker.worker_task import worker_task

    @worker_task(task_definition_name=sys.argv[1], poll_interval_millis=20)
    async def process_order(task: Task) -> TaskResult:
        await asyncio.sleep(0)
        result = task.to_task_result(TaskResultStatus.COMPLETED)
        result.add_output_data('processed', task.input_data['order_id'])
        result.add_output_data('amount', task.input_data['amount'])
        result.add_output_data('pid', os.getpid())
        return result
"""

CLASS = """
    from conductor.client.http.models.task import Task
    from conductor.client.http.models.task_result import TaskResult
    from conductor.client.http.models.task_result_status import TaskResultStatus
    from conductor.client.worker.worker_interface import WorkerInterface

    class Orders(WorkerInterface):
        def __init__(self, task_definition_name, surcharge):
            super().__init__(task_definition_name)
            self.surcharge = surcharge

        def execute(self, task: Task) -> TaskResult:
            task_result = self.get_task_result_from_task(task)
            task_result.add_output_data('processed', task.input_data['order_id'])
            task_result.add_output_data('amount', task.input_data['amount'] + self.surcharge)
            task_result.add_output_data('pid', os.getpid())
            task_result.status = TaskResultStatus.COMPLETED
            return task_result

        def get_polling_interval_in_seconds(self) -> float:
            return 0.02

    workers.append(Orders(sys.argv[1], surcharge=0.5))
"""

CLASS_ASYNC = CLASS.replace("def execute", "async def execute")

IN_PROGRESS = """
    from typing import Union
    from conductor.client.context.task_context import get_task_context, TaskInProgress
    from conductor.client.worker.worker_task import worker_task

    @worker_task(task_definition_name=sys.argv[1], poll_interval_millis=20)
    def process_batch(order_id: str, amount: float) -> Union[dict, TaskInProgress]:
        ctx = get_task_context()
        ctx.add_log(f"look {ctx.get_poll_count()} at {ctx.task.input_data['order_id']}")
        if ctx.get_poll_count() < 2:
            return TaskInProgress(callback_after_seconds=0, output={'progress': 50})
        return {'processed': order_id, 'amount': amount, 'pid': os.getpid()}
"""

LISTENER = (
    PLAIN
    + """
    from conductor.client.event.task_runner_events import TaskExecutionCompleted, TaskRunnerEventsListener

    class Monitor(TaskRunnerEventsListener):
        def on_task_execution_completed(self, event: TaskExecutionCompleted):
            print("completed", event.task_type, event.duration_ms >= 0, flush=True)

    listeners.append(Monitor())
"""
)


class Program:
    """A running program, whose workers are ready."""

    def __init__(self, path: Path, text: str, url: str, task: str, options: str) -> None:
        path.write_text("".join(map(textwrap.dedent, (IMPORTS, text, MAIN))))
        self.process = subprocess.Popen(
            [sys.executable, str(path), task, options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "CONDUCTOR_SERVER_URL": url},
        )
        assert self.process.stdout is not None
        self.ready = self.process.stdout.readline().split()

    def end(self) -> tuple[int, str, str]:
        self.process.terminate()
        out, err = self.process.communicate(timeout=20)
        return self.process.returncode, out, err


@pytest.fixture
def launch(rig: Rig, tmp_path: Path) -> Iterator[Callable[..., tuple[Program, Task]]]:
    """Return a function that runs a program, and a task in it to its end."""
    started: list[Program] = []

    def start(text: str, options: str = "{}") -> tuple[Program, Task]:
        task = unique("compat")
        program = Program(tmp_path / "program.py", text, rig.url, task, options)
        started.append(program)
        assert program.ready, program.end()
        rig.client.register_task_defs([TaskDef(name=task, retry_count=0)])
        inputs: dict[str, Any] = {"order_id": "o-1", "amount": 1.5}
        step = WorkflowTask(name=task, task_reference_name="t", input_parameters=inputs)
        request = StartWorkflowRequest(name=task, workflow_def=WorkflowDef(name=task, tasks=[step]))
        return program, rig.last_task(rig.client.start_workflow(request))

    yield start
    for program in started:
        program.process.kill()
        program.process.communicate()


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        pytest.param(PLAIN, 1.5, id="function"),
        pytest.param(COROUTINE, 1.5, id="coroutine"),
        pytest.param(CLASS, 2.0, id="class"),
        pytest.param(CLASS_ASYNC, 2.0, id="class-async"),
        pytest.param(IN_PROGRESS, 1.5, id="in-progress"),
        pytest.param(LISTENER, 1.5, id="listener"),
    ],
)
@pytest.mark.parametrize("options", ["{}", "{'start_method': 'spawn'}"], ids=["forkserver", "spawn"])
def test_program_runs_unchanged(
    launch: Callable[..., tuple[Program, Task]], text: str, amount: float, options: str
) -> None:
    program, task = launch(text, options)
    assert task.status == "COMPLETED"
    _, pid, healthy = program.ready
    assert task.output_data == {"processed": "o-1", "amount": amount, "pid": int(pid)}
    assert int(pid) != program.process.pid
    assert healthy == "True"
    code, out, err = program.end()
    assert (code, err) == (0, "")
    assert out.splitlines() == [*([f"completed {task.task_def_name} True"] if text == LISTENER else []), "ended"]


@pytest.mark.parametrize("options", ["{'start_method': 'fork'}", "{'isolation': 'thread'}"])
def test_object_that_cannot_be_pickled_runs_where_it_need_not_be(
    launch: Callable[..., tuple[Program, Task]], options: str
) -> None:
    locked = CLASS.replace(
        "self.surcharge = surcharge", "self.surcharge = surcharge; self.lock = __import__('threading').Lock()"
    )
    _, task = launch(locked, options)
    assert task.output_data["amount"] == 2.0


def test_processes_load_neither_http_nor_metrics_because_of_compat(launch: Callable[..., tuple[Program, Task]]) -> None:
    text = """
        from conductor.client.configuration.settings.metrics_settings import MetricsSettings
        from conductor.client.telemetry.metrics_collector import MetricsCollector
        from conductor.client.worker.worker import Worker
        from conductor.client.worker.worker_task import worker_task

        @worker_task(task_definition_name=sys.argv[1], poll_interval_millis=20)
        def loaded(order_id: str, amount: float) -> list:
            return sorted(sys.modules)
    """
    _, task = launch(text)
    loaded = set(task.output_data["result"])
    assert "podium.compat.supervision" in loaded
    heavy = {
        "pyreqwest", "prometheus_client", "podium.transport", "podium.client", "podium.handler", "podium.engine",
        "podium.metrics", "podium.schema", "podium.discovery", "podium.registration", "podium.runner",
    }  # fmt: skip
    assert loaded & heavy == set()


@pytest.mark.parametrize("options", ["{}", "{'start_method': 'spawn'}"], ids=["forkserver", "spawn"])
def test_modules_of_workers_need_no_line_of_their_own(
    launch: Callable[..., tuple[Program, Task]], tmp_path: Path, options: str
) -> None:
    (tmp_path / "bare_workers.py").write_text("import os, sys\n" + textwrap.dedent(PLAIN))
    _, task = launch("import bare_workers\n", options)
    assert task.output_data["processed"] == "o-1"
