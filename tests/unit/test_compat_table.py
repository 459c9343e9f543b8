"""The table of conductor-python's names: complete, and each name leads where it says."""

from __future__ import annotations

import importlib

import pytest

import podium
from podium.migrate.table import ALWAYS, TABLE, Absent, Here

#: What a program for conductor-python 2.0.0 can import on its worker side, module by module below conductor.client.
NAMES = {
    # decorators and registry
    "worker.worker_task": "worker_task WorkerTask",
    "automator.task_handler": (
        "register_decorated_fn _decorated_functions get_registered_workers get_registered_worker_names TaskHandler "
        "_run_sync_worker_process _run_async_worker_process"
    ),
    # worker classes
    "worker.worker_interface": "DEFAULT_POLLING_INTERVAL WorkerInterface",
    "worker.worker": (
        "Worker ExecuteTaskFunction ASYNC_TASK_RUNNING BackgroundEventLoop is_callable_input_parameter_a_task "
        "is_callable_return_value_of_type"
    ),
    "worker.exception": "NonRetryableException",
    # runners, leases, isolation, helpers
    "automator.task_runner": "TaskRunner",
    "automator.async_task_runner": "AsyncTaskRunner",
    "automator.lease_tracker": "LEASE_EXTEND_RETRY_COUNT LEASE_EXTEND_DURATION_FACTOR LeaseInfo LeaseManager",
    "automator.worker_isolation": (
        "WORKER_ISOLATION_ENV ISOLATION_PROCESS ISOLATION_THREAD isolation_mode apply_thread_isolation"
    ),
    "automator.utils": (
        "simple_types dict_types collection_types convert_from_dict_or_list convert_from_dict get_value"
    ),
    "automator.json_schema_generator": "generate_json_schema_from_function",
    # discovery
    "worker.worker_loader": "WorkerLoader scan_for_workers auto_discover_workers",
    # context
    "context": "TaskInProgress TaskContext get_task_context",
    "context.task_context": "TaskInProgress TaskContext get_task_context _set_task_context _clear_task_context",
    # configuration
    "configuration.configuration": "Configuration TRACE_LEVEL trace",
    "configuration.settings.authentication_settings": "AuthenticationSettings",
    "configuration.settings.metrics_settings": "MetricsSettings CANONICAL_SUBDIR get_default_temporary_folder",
    "worker.worker_config": (
        "ENV_PROPERTY_NAMES resolve_worker_config get_worker_config_summary get_worker_config_oneline"
    ),
    # events
    "event": (
        "ConductorEvent EventDispatcher TaskRunnerEvent PollStarted PollCompleted PollFailure TaskExecutionStarted "
        "TaskExecutionCompleted TaskExecutionFailure WorkflowEvent WorkflowStarted WorkflowInputPayloadSize "
        "WorkflowPayloadUsed TaskEvent TaskResultPayloadSize TaskPayloadUsed TaskRunnerEventsListener "
        "WorkflowEventsListener TaskEventsListener MetricsCollectorProtocol register_task_runner_listener "
        "register_workflow_listener register_task_listener"
    ),
    "event.task_runner_events": (
        "TaskRunnerEvent PollStarted PollCompleted PollFailure TaskExecutionStarted TaskExecutionCompleted "
        "TaskExecutionFailure TaskUpdateFailure TaskRunnerEventsListener"
    ),
    "event.listeners": "TaskRunnerEventsListener WorkflowEventsListener TaskEventsListener MetricsCollector",
    "event.sync_event_dispatcher": "SyncEventDispatcher",
    "event.sync_listener_register": ("register_task_runner_listener register_workflow_listener register_task_listener"),
    # telemetry
    "telemetry.metrics_collector": (
        "MetricsCollector CollectorRegistry Counter Gauge Histogram Summary write_to_textfile MultiProcessCollector "
        "_ensure_prometheus_imported"
    ),
    "telemetry.legacy_metrics_collector": "LegacyMetricsCollector QUANTILE_WINDOW_SIZE",
    "telemetry.canonical_metrics_collector": "CanonicalMetricsCollector TIME_BUCKETS SIZE_BUCKETS",
    "telemetry.metrics_collector_base": "MetricsCollectorBase",
    "telemetry.metrics_factory": "create_metrics_collector create_metrics_collector_for_parent",
    "telemetry.model.metric_name": "MetricName",
    "telemetry.model.metric_label": "MetricLabel",
    "telemetry.model.metric_documentation": "MetricDocumentation",
    # models and errors
    "http.models": "Task TaskResult TaskResultStatus TaskExecLog TaskDef SchemaDef SchemaType",
    "http.models.task": "Task",
    "http.models.task_def": "TaskDef",
    "http.models.task_result": "TaskResult",
    "http.models.task_result_status": "TaskResultStatus TaskResult TaskExecLog",
    "http.models.task_exec_log": "TaskExecLog",
    "http.models.schema_def": "SchemaDef SchemaType",
    "http.rest": "ApiException AuthorizationException RestException",
    "http.async_rest": "ApiException AuthorizationException RestException",
    "workflow.task.simple_task": "SimpleTask",
}
ENTRIES = [(module, name, entry) for module, names in TABLE.items() for name, entry in names.items()]


@pytest.mark.parametrize("module", NAMES)
def test_table_has_every_name_of_the_worker_side(module: str) -> None:
    assert set(TABLE[f"conductor.client.{module}"]) == set(NAMES[module].split())


def test_table_has_the_packages_of_its_modules() -> None:
    for module in TABLE:
        assert module == "conductor" or module.rpartition(".")[0] in TABLE


@pytest.mark.parametrize(("module", "name", "entry"), [pytest.param(*row, id=f"{row[0]}.{row[1]}") for row in ENTRIES])
def test_each_name_leads_somewhere_or_says_why_not(module: str, name: str, entry: Here | Absent) -> None:
    if isinstance(entry, Absent):
        assert len(entry.reason) > 20
        return
    for target in {entry.target, entry.migrated} - {""}:
        home, _, attribute = target.partition(":")
        assert getattr(importlib.import_module(home), attribute) is not None
    # Migrated code imports nothing of this package; where there is nothing to import, a note says what to write.
    assert not entry.migrated.startswith("podium.compat")
    if not entry.migrated:
        assert entry.notes[ALWAYS]
    assert all(key == ALWAYS or key.startswith(".") or key.endswith("=") for key in entry.notes)


def test_public_names_are_imported_from_podium_itself() -> None:
    for module, name, entry in ENTRIES:
        if isinstance(entry, Here) and entry.migrated.partition(":")[2] in podium.__all__:
            assert entry.migrated.startswith("podium:"), f"{module}.{name}"
