"""docs/parity.md is complete, and each of its rows has tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs/parity.md").read_text()

#: What the two SDKs do for workers: the rows that the page must have, by section, in its order.
ROWS: dict[str, list[str]] = {
    "Declaring workers": [
        "`@worker_task(...)` with its options",
        "`@worker({...})` with its options",
        "Decorated functions are kept by name and domain",
        "Dual mode of a decorated function",
        "Legacy `WorkerTask` is available",
        "Signature is introspected, parameters come from `input_data`",
        "Dataclass parameters are made from dicts",
        "Function receives the raw `Task`",
        "Registry storage",
        "Duplicate detection",
        "Dual-mode (task generation)",
        "Parameter extraction",
        "Dataclass/interface support",
        "Legacy decorator",
    ],
    "Discovery": [
        "`WorkerLoader.scan_packages(packages, recursive=True)`",
        "`WorkerLoader.scan_module(module_name)`",
        "`WorkerLoader.scan_path(path, package_prefix)`",
        "`scan_for_workers()`, `auto_discover_workers()`",
        "`print_summary()`",
        "`scan_for_annotated_workers`, `scanForDecorated`",
        "Module imports trigger the decorators",
        "`TaskHandler.create()`",
        "Auto-scan decorated",
        "Module imports",
        "Recursive package scan",
        "Filesystem scan",
        "Discovery summary",
        "Async module import",
    ],
    "Processes": [
        "A process per worker",
        "A process for the metrics",
        "A process for the log",
        "A thread that watches the processes",
        "`multiprocessing.Process` for each worker",
        "macOS: `no_proxy` is set",
        'Windows: start method "spawn"',
        'Linux: start method "fork"',
        "Health check every 5 seconds",
        "Restart with exponential backoff up to 60 s",
        "Most restarts are configurable, 0 is no limit",
        "Logging through a queue",
        "Metrics are aggregated through files",
        "All workers in one process",
        "A runner with a poller for each worker",
        "A polling loop with timers",
        "A counter of the tasks in process",
        "Isolation model",
        "True parallelism",
        "Fault isolation",
        "Process monitoring",
        "Auto-restart",
        "Centralized logging",
        "Memory overhead",
        "Startup time",
    ],
    "Sync and async": [
        "Detection by `inspect.iscoroutinefunction`",
        "Sync: `ThreadPoolExecutor(max_workers=thread_count)`",
        "Sync: blocking HTTP",
        "Sync: tasks are submitted to the pool",
        "Sync: capacity by threads and a set of running tasks",
        "Async: one event loop in one thread",
        "Async: non-blocking HTTP",
        "Async: tasks are coroutines",
        "Async: a semaphore of `thread_count`",
        "Async: clients are made after the fork",
        "Async: token on the first call",
        "No detection, all functions are async-capable",
        "One poller for all kinds of workers",
        "The poll loop is async",
        "Tasks are dispatched without waiting",
        "Capacity is a counter",
        "Auto-detection",
        "Sync execution model",
        "Async execution model",
        "Concurrency control",
        "HTTP client (sync)",
        "HTTP client (async)",
        "Client creation timing",
    ],
    "Poll loop": [
        "Dynamic batch size",
        "Adaptive backoff (empty polls)",
        "Auth failure backoff",
        "At-capacity behavior",
        "Immediate cleanup",
        "Poll timeout",
        "Paused worker",
        "Capacity tracking",
        "Errors of a poll are logged, the loop goes on",
    ],
    "Execution": [
        "Task context is set and cleared",
        "Coroutine of a plain function",
        "Return type decides the result",
        "Events of the execution",
        "Update after the execution",
        "Exception: FAILED",
        "Output size is calculated",
        "Task context (thread-local)",
        "Parameter extraction",
        "Type conversion",
        "TaskInProgress support",
        "Output serialization",
        "Context merge (logs, callback)",
        "Update retries",
        "Update backoff",
        "TaskUpdateFailure event",
        "NonRetryableException",
    ],
    "Event fields": [
        "`PollStarted`",
        "`PollCompleted`",
        "`PollFailure`",
        "`TaskExecutionStarted`",
        "`TaskExecutionCompleted`",
        "`TaskExecutionFailure`",
        "`TaskUpdateFailure`",
        "`TaskUpdateCompleted` (JavaScript)",
        "`TaskPaused` (JavaScript)",
    ],
    "Events": [
        "Frozen dataclasses",
        "Events are published inline",
        "`typing.Protocol`, checkable at run time",
        "All methods are optional",
        "Listener failures are caught and logged",
        "UTC timestamps",
        "A dispatcher for each process",
        "Published with `Promise.allSettled()`",
        "A dispatcher for each runner",
        "Event count",
        "Event immutability",
        "Publishing model",
        "Listener protocol",
        "Error isolation",
        "Cross-process events",
        "Registration API",
    ],
    "Metrics": [
        "`MetricsSettings(directory, update_interval, http_port)`",
        "Settings combine with custom listeners",
        "`task_poll_time_seconds`",
        "`task_execute_time_seconds`",
        "`task_execute_error_total`",
        "`task_poll_total`",
        "`task_result_size_bytes`",
        "`http_api_client_request`",
        "HTTP mode: `/metrics` and `/health`",
        "File mode: `.prom` files",
        "Multiprocess-safe",
        "Aggregated without labels of processes",
        "`MetricsCollector` is a listener",
        "`getMetrics()` snapshot",
        "Built-in metrics collector",
        "HTTP metrics endpoint",
        "File-based metrics",
        "Multiprocess aggregation",
        "API request metrics",
        "Event-based architecture",
        "Custom metrics via events",
    ],
    "Configuration": [
        "Hierarchical configuration",
        "Old env format (`conductor_worker_<prop>`)",
        "Mixed case (`CONDUCTOR_WORKER_<name>_<PROP>`)",
        "`poll_interval` vs `polling_interval` aliases",
        "Startup logging format",
        "Config source tracking",
    ],
    "Task context": [
        "`get_task_context()`",
        "`get_task_id()`, `get_workflow_instance_id()`, `get_retry_count()`, `get_poll_count()`",
        "`add_log(message)`",
        "`set_callback_after(seconds)`",
        "`set_output(data)`",
        "`TaskInProgress(callback_after_seconds, output)`",
        "`getTaskDefName()`, `getWorkflowTaskType()`",
        "`getInput()`, `getTask()`",
        "`TaskInProgressResult`",
        "Context mechanism",
        "Long-running tasks",
        "Execution logs",
        "Callback scheduling",
        "Poll count access",
        "Workflow task type",
        "Context merging",
        "Error stack traces",
    ],
    "Closed gaps": [
        "1 Adaptive backoff for empty polls",
        "2 Auth failure backoff",
        "3 TaskContext",
        "4 TaskInProgress",
        "5 Paused worker support",
        "6 Parameter extraction",
        "7 Update retry count",
        "8 Built-in MetricsCollector",
        "9 Process monitoring",
        "10 JSON schema generation",
        "11 WorkerLoader / recursive scanning",
        "12 Discovery summary",
        "13 Dual-mode decorator",
        "14 `resolveWorkerConfig` wired into `TaskHandler`",
        "15 Worker ID defaults to hostname",
        "16 Task definition auto-registration",
        "17 Startup config logging",
        "18 Paused from env vars",
        "19 Error stack traces in task logs",
        "20 `isHealthy()` / `getWorkerStatus()`",
        "21 `getWorkflowTaskType()` on TaskContext",
    ],
    "Different by design": [
        "Parameter extraction from signature",
        "JSON schema generation from types",
        "Recursive package scanning",
        "Output serialization fallback",
        "Multiprocess model",
        "Old-format env vars (`conductor_worker_*`)",
        "`polling_interval` alias",
        "Legacy `WorkerTask` decorator",
        "Schema registration via SchemaResource",
        "Signal handling (SIGINT/SIGTERM)",
        "`extendLease`",
    ],
}


def rows_of(page: str) -> dict[str, list[list[str]]]:
    """Return the cells of each row, by section."""
    sections: dict[str, list[list[str]]] = {}
    for part in page.split("\n## ")[1:]:
        title, *lines = part.splitlines()
        table = [line for line in lines if line.startswith("|")]
        assert table[:2] == ["| row | what podium does | tests | better |", "|---|---|---|---|"], title
        sections[title] = [line.removeprefix("| ").removesuffix(" |").split(" | ") for line in table[2:]]
    return sections


@pytest.mark.parametrize("section", ROWS)
def test_every_row_is_in_the_page_on_parity(section: str) -> None:
    assert [row[0] for row in rows_of(PAGE)[section]] == ROWS[section]


def test_page_on_parity_has_no_section_that_nobody_knows() -> None:
    assert list(rows_of(PAGE)) == list(ROWS)


def test_every_row_on_parity_has_tests_that_exist() -> None:
    tests = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^ *(?:async )?def (test_\w+)\(", path.read_text(), re.MULTILINE)
    }
    for section, rows in rows_of(PAGE).items():
        for row in rows:
            where = f"{section}: {row[0]}"
            assert len(row) == 4, where
            assert all(cell.strip() for cell in row), where
            named = row[2].split("<br>")
            assert all(re.fullmatch(r"`test_\w+`", name) for name in named), f"{where}: {row[2]}"
            missing = {name.strip("`") for name in named} - tests
            assert not missing, f"{where}: no such test: {missing}"
            assert len(set(named)) == len(named), where
