"""Snippets from conductor-python's documentation, word for word, under podium.compat."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

DECORATOR = """
@worker_task(
    task_definition_name='process_order',
    poll_interval_millis=1000,
    thread_count=5,
    domain='production',
    worker_id='worker-1',
    register_task_def=True,
    poll_timeout=100,
    task_def=TaskDef(retry_count=3, timeout_seconds=300),
    overwrite_task_def=True,
    strict_schema=True,
    lease_extend_enabled=False
)
def process_order(order_id: str, amount: float) -> dict:
    return {'processed': True}
"""

IMPORT_MODULES = """
handler = TaskHandler(
    configuration=config,
    scan_for_annotated_workers=True,
    import_modules=['my_app.workers', 'my_app.tasks']
)
"""

SYNC_AND_ASYNC = """
# Auto-detected as sync → TaskRunner (ThreadPoolExecutor)
@worker_task(task_definition_name='cpu_task', thread_count=4)
def cpu_task(data: dict) -> dict:
    return expensive_computation(data)

# Auto-detected as async → AsyncTaskRunner (event loop)
@worker_task(task_definition_name='io_task', thread_count=50)
async def io_task(url: str) -> dict:
    async with httpx.AsyncClient() as client:
        return (await client.get(url)).json()
"""

LISTENER = """
from conductor.client.event.task_runner_events import (
    TaskRunnerEventsListener, TaskExecutionCompleted, TaskUpdateFailure
)

class SLAMonitor(TaskRunnerEventsListener):
    def on_task_execution_completed(self, event: TaskExecutionCompleted):
        if event.duration_ms > 5000:
            alert(f"SLA breach: {event.task_type} took {event.duration_ms}ms")

    def on_task_update_failure(self, event: TaskUpdateFailure):
        backup_db.save(event.task_result)  # Recovery for lost results

handler = TaskHandler(
    configuration=config,
    event_listeners=[SLAMonitor(), MetricsCollector(settings)]
)
"""

METRICS = """
from conductor.client.configuration.settings.metrics_settings import MetricsSettings

metrics_settings = MetricsSettings(
    directory="/tmp/conductor-metrics",
    update_interval=0.1,
    http_port=8000 # Built-in HTTP server
)

handler = TaskHandler(
    configuration=config,
    metrics_settings=metrics_settings,
    event_listeners=[custom_monitor] # Can combine with custom listeners
)
"""

CONTEXT = """
from conductor.client.context.task_context import get_task_context, TaskInProgress

@worker_task(task_definition_name='batch_processor')
def process_batch(batch_id: str) -> Union[dict, TaskInProgress]:
    ctx = get_task_context()
    ctx.add_log("Starting batch processing")
    poll_count = ctx.get_poll_count()

    processed = process_chunk(batch_id, offset=poll_count * 100)

    if processed < 100:
        ctx.add_log(f"Completed. Total: {poll_count * 100 + processed}")
        return {'total': poll_count * 100 + processed}
    else:
        return TaskInProgress(callback_after_seconds=30, output={'progress': poll_count * 100 + processed})
"""

#: What the snippets leave out.
BEFORE = """
import podium.compat
from typing import Union
from conductor.client.automator.task_handler import TaskHandler
from conductor.client.configuration.configuration import Configuration
from conductor.client.configuration.settings.metrics_settings import MetricsSettings
from conductor.client.context.task_context import _set_task_context
from conductor.client.http.models import Task, TaskDef
from conductor.client.telemetry.metrics_collector import MetricsCollector
from conductor.client.worker.worker import Worker
from conductor.client.worker.worker_task import worker_task

config = Configuration()
settings = MetricsSettings()

class custom_monitor:
    @staticmethod
    def on_poll_started(event): ...
custom_monitor = custom_monitor()
"""

SEES_DECORATOR = """
assert process_order('o', 1.0) == {'processed': True}
step = process_order(task_ref_name='ref', order_id='o', amount=1)
assert (step.task_def_name, step.task_reference_name) == ('process_order', 'ref')
(worker,) = TaskHandler(configuration=config).workers
assert (worker.options.poll_interval, worker.options.thread_count, worker.domain) == (1000, 5, 'production')
assert (worker.options.task_def.retry_count, worker.options.worker_id) == (3, 'worker-1')
"""

SEES_MODULES = """
assert [worker.task_definition_name for worker in handler.workers] == ['in_workers', 'in_tasks']
"""

SEES_KINDS = """
by_name = {worker.task_definition_name: worker for worker in TaskHandler(configuration=config).workers}
assert (by_name['cpu_task'].is_async, by_name['io_task'].is_async) == (False, True)
"""

SEES_LISTENER = """
import podium
monitor, collector = handler.event_listeners
assert isinstance(collector, podium.MetricsCollector)
alerts = []
alert = alerts.append
monitor.on_task_execution_completed(TaskExecutionCompleted(
    task_type='t', task_id='i', worker_id='w', workflow_instance_id='f', duration_ms=6000, output_size_bytes=2
))
assert alerts == ['SLA breach: t took 6000ms']
"""

SEES_METRICS = """
native = metrics_settings.native()
assert (native.http_port, native.update_interval, native.file_path) == (8000, 0.1, None)
"""

SEES_CONTEXT = """
process_chunk = lambda batch_id, offset: 100 - offset
for polls, expected in ((0, TaskInProgress), (1, dict)):
    _set_task_context(Task(task_id='t', poll_count=polls), None)
    assert isinstance(process_batch('b'), expected)
"""

WORKERS = "from conductor.client.worker.worker_task import worker_task\n@worker_task('{}')\ndef f(): ...\n"


@pytest.mark.parametrize(
    ("snippet", "check"),
    [
        pytest.param(DECORATOR, SEES_DECORATOR, id="decorator"),
        pytest.param(IMPORT_MODULES, SEES_MODULES, id="import_modules"),
        pytest.param(SYNC_AND_ASYNC, SEES_KINDS, id="sync and async"),
        pytest.param(LISTENER, SEES_LISTENER, id="listener"),
        pytest.param(METRICS, SEES_METRICS, id="metrics"),
        pytest.param(CONTEXT, SEES_CONTEXT, id="context"),
    ],
)
def test_snippet_runs_word_for_word(tmp_path: Path, snippet: str, check: str) -> None:
    package = tmp_path / "my_app"
    package.mkdir()
    for name in ("workers", "tasks"):
        (package / f"{name}.py").write_text(WORKERS.format(f"in_{name}"))
    (tmp_path / "program.py").write_text(BEFORE + snippet + textwrap.dedent(check) + "print('done')\n")
    result = subprocess.run(
        [sys.executable, "-W", "error", str(tmp_path / "program.py")],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert (result.stdout, result.stderr) == ("done\n", "")
