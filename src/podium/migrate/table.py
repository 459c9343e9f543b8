"""The one table of conductor-python's worker-side names: where each lives, or why it has no place.

``podium.compat`` resolves imports with it, ``podium migrate`` rewrites them with it. It stands here because importing
``podium.compat`` has an effect. Nothing of podium is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

#: The package that the names belong to.
PACKAGE: Final = "conductor"

#: The key of a note that holds wherever the name is imported.
ALWAYS: Final = ""


@dataclass(frozen=True)
class Here:
    """A name that has a place in podium: ``module:attribute``.

    ``native`` is what a migrated program imports: the target itself unless stated, "" if podium has nothing to import
    for it. ``notes`` say what has to be changed by hand in code that uses it: ``.attribute`` or ``keyword=`` -> how.
    """

    target: str
    native: str | None = None
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def migrated(self) -> str:
        """What a migrated program imports instead, or ""."""
        return self.target if self.native is None else self.native


@dataclass(frozen=True)
class Absent:
    """A name that has no place in podium; ``reason`` says why, and what to use instead."""

    reason: str


Entry = Here | Absent


def _same(*names: str, home: str = "podium") -> dict[str, Entry]:
    return {name: Here(f"{home}:{name}") for name in names}


def _adapted(home: str, note: str, *names: str) -> dict[str, Entry]:
    """Return entries for what only podium.compat has; ``note`` says what migrated code uses instead."""
    return {name: Here(f"podium.compat.{home}:{name}", "", {ALWAYS: note}) for name in names}


def _absent(reason: str, *names: str) -> dict[str, Entry]:
    return dict.fromkeys(names, Absent(reason))


_RUNNER = "podium's runners are part of its engine; TaskHandler runs workers, in tests on podium.testing.local_server()"
_DISPATCH = "events go to the listeners that TaskHandler(event_listeners=[...]) is given, in the program's own process"
_UNPUBLISHED = "workers publish no such event; those about polls, executions and updates are in podium.events"
_LEASE = "leases are kept by the engine; declare the worker with lease_extend_enabled=True"
_TYPES = "types are converted by podium.convert, for which there are no lists of simple or collection types"
_SETTINGS = "options are resolved when a TaskHandler starts; `podium config` prints each value with its source"
_NAMES = "the names and labels of the metrics are listed in podium's documentation, and are no enum"

_CONTEXT_NOTES = {
    ".task": "the context's task is get_task()",
    ".task_result": "the result is made of what the function returns, set_output() and add_log()",
}
_LOG_LEVEL = "podium sets no log level: use logging.basicConfig(level=...), or CONDUCTOR_LOG_LEVEL"
_UNCHANGING = "podium's Configuration does not change: give it as an argument of Configuration(...)"
_CONFIGURATION_NOTES = {
    **dict.fromkeys(("debug=", ".debug", "log_level=", ".log_level"), _LOG_LEVEL),
    **dict.fromkeys((".verify_ssl", ".ssl_ca_cert", ".cert_file", ".key_file", ".proxy"), _UNCHANGING),
    ".apply_logging_config": "podium leaves the application's logging alone: use logging.basicConfig()",
    ".get_logging_formatted_name": "use the name alone; a record has its process's id in %(process)d",
    ".http_connection": "podium has its own HTTP client; TLS and proxy are arguments of Configuration",
}
_HANDLER_NOTES = {
    ".get_worker_process_status": "it is get_worker_status(), with more keys",
    **dict.fromkeys(
        (".task_runner_processes", ".metrics_provider_process", ".logger_process"),
        "there are no such processes; get_worker_status() has pids and exit codes",
    ),
}
_NOTHING_TO_CLEAN = "leave it out: one process writes the metrics, and leaves nothing to clean"
_METRICS_NOTES = {
    **dict.fromkeys(("clean_directory=", "clean_dead_pids=", ".clean_metrics_directory"), _NOTHING_TO_CLEAN),
    "http_port=": 'podium listens at 127.0.0.1; add http_host="0.0.0.0" to be reached from other machines',
}
_WORKER_NOTES = {
    **dict.fromkeys(
        (".thread_count", ".poll_interval", ".poll_timeout", ".lease_extend_enabled", ".register_task_def"),
        "podium's Worker does not change: give it as an argument of Worker(...), and read it from worker.options",
    ),
    ".paused": "pause and resume with TaskHandler.set_paused(name, True)",
    ".check_completed_async_tasks": "tasks are reported as they end",
}

_DECORATORS = _same("worker_task", "WorkerTask")
_HANDLER: dict[str, Entry] = {
    "TaskHandler": Here("podium.compat.supervision:TaskHandler", "podium:TaskHandler", _HANDLER_NOTES),
    "register_decorated_fn": Here(
        "podium.compat.workers:register_decorated_fn", "", {ALWAYS: "use podium.registry.register_worker(Worker(...))"}
    ),
    "_decorated_functions": Here(
        "podium.compat.workers:decorated_functions", "",
        {ALWAYS: "use podium.get_registered_workers() and podium.registry.clear_registered_workers()"},
    ),
    "get_registered_workers": Here(
        "podium.compat.workers:get_registered_workers", "podium:get_registered_workers", _WORKER_NOTES
    ),
    "get_registered_worker_names": Here(
        "podium.compat.workers:get_registered_worker_names", "",
        {ALWAYS: "use [worker.task_definition_name for worker in podium.get_registered_workers()]"},
    ),
    **_absent(_RUNNER, "_run_sync_worker_process", "_run_async_worker_process"),
}  # fmt: skip
_WORKER: dict[str, Entry] = {
    "Worker": Here("podium.compat.workers:Worker", "podium:Worker", _WORKER_NOTES),
    "ExecuteTaskFunction": Here("podium.compat.workers:ExecuteTaskFunction", "", {ALWAYS: "use Callable[..., Any]"}),
    **_absent(
        "a coroutine function, or a function that returns an awaitable, runs on its process's event loop by itself",
        "ASYNC_TASK_RUNNING", "BackgroundEventLoop",
    ),
    **_absent(
        "whether a function takes the whole task is decided at its declaration, by the annotation Task",
        "is_callable_input_parameter_a_task", "is_callable_return_value_of_type",
    ),
}  # fmt: skip
_CLASS_WORKER = (
    "podium's workers are functions: declare one that calls the object, with @worker_task or Worker(name, function)"
)
_INTERFACE: dict[str, Entry] = {
    "WorkerInterface": Here("podium.compat.workers:WorkerInterface", "", {ALWAYS: _CLASS_WORKER}),
    "DEFAULT_POLLING_INTERVAL": Here(
        "podium.compat.workers:DEFAULT_POLLING_INTERVAL", "", {ALWAYS: "it is 100 (ms), the default of poll_interval"}
    ),
}
_DISCOVERY: dict[str, Entry] = {
    "WorkerLoader": Here("podium.compat.loading:WorkerLoader", "podium:WorkerLoader"),
    "scan_for_workers": Here("podium.compat.loading:scan_for_workers", "podium:scan_for_workers"),
    "auto_discover_workers": Here("podium.compat.loading:auto_discover_workers", "podium:auto_discover_workers"),
}
_CONTEXT: dict[str, Entry] = {
    "TaskInProgress": Here("podium:TaskInProgress"),
    "TaskContext": Here("podium.compat.context:TaskContext", "podium:TaskContext", _CONTEXT_NOTES),
    "get_task_context": Here("podium.compat.context:get_task_context", "podium:get_task_context", _CONTEXT_NOTES),
}

_EVENTS = _same(
    "PollStarted", "PollCompleted", "PollFailure", "TaskExecutionStarted", "TaskExecutionCompleted",
    "TaskExecutionFailure", "TaskRunnerEvent",
)  # fmt: skip
_LISTENER = _same("TaskRunnerEventsListener")
_BASE_EVENT: dict[str, Entry] = {"ConductorEvent": Here("podium:TaskRunnerEvent")}
_WORKFLOW_EVENTS = _absent(
    _UNPUBLISHED, "WorkflowEvent", "WorkflowStarted", "WorkflowInputPayloadSize", "WorkflowPayloadUsed"
)
_TASK_EVENTS = _absent(_UNPUBLISHED, "TaskEvent", "TaskResultPayloadSize", "TaskPayloadUsed")
_OTHER_LISTENERS = _absent(_UNPUBLISHED, "WorkflowEventsListener", "TaskEventsListener")
_REGISTER = _absent(_DISPATCH, "register_task_runner_listener", "register_workflow_listener", "register_task_listener")
_ONE_PROTOCOL = "it stands for events that workers do not publish; the protocol is TaskRunnerEventsListener"

_COLLECTOR: dict[str, Entry] = {
    "MetricsCollector": Here("podium.compat.measuring:MetricsCollector", "podium:MetricsCollector"),
    **_same("CollectorRegistry", "Counter", "Gauge", "Histogram", "Summary", "write_to_textfile",
            home="prometheus_client"),
    **_same("MultiProcessCollector", home="prometheus_client.multiprocess"),
    **_absent("prometheus_client is imported by podium when it is needed", "_ensure_prometheus_imported"),
}  # fmt: skip
_ONE_COLLECTOR = {ALWAYS: "use MetricsCollector(settings), with style in its MetricsSettings"}

_RESULT_NOTES = {
    "extend_lease=": "declare the worker with lease_extend_enabled=True",
    ".extend_lease": "declare the worker with lease_extend_enabled=True",
    ".new_task_result": "use TaskResult(status=...)",
    ".to_str": "use repr()",
}
_RESULT: dict[str, Entry] = {"TaskResult": Here("podium.compat.results:TaskResult", "podium:TaskResult", _RESULT_NOTES)}
_STATUS = _same("TaskResultStatus")
_LOG = _same("TaskExecLog")
_SCHEMA: dict[str, Entry] = {
    "SchemaDef": Here("podium.models:SchemaDef"),
    "SchemaType": Here("podium.compat.results:SchemaType", "", {ALWAYS: "SchemaDef(type=...) takes the text 'JSON'"}),
}
_ERROR_NOTES = {
    ".is_not_found": "catch podium.errors.NotFoundError",
    **dict.fromkeys((".reason", ".body"), "an ApiError has the server's text in .message"),
}
_ERRORS: dict[str, Entry] = {
    "ApiException": Here("podium:ApiError", notes=_ERROR_NOTES),
    "AuthorizationException": Here("podium.errors:AuthError", notes=_ERROR_NOTES),
    "RestException": Here("podium:ApiError", notes=_ERROR_NOTES),
}

_CLIENT_MODULES: dict[str, dict[str, Entry]] = {
    "worker": {},
    "worker.worker_task": _DECORATORS,
    "worker.worker_interface": _INTERFACE,
    "worker.worker": _WORKER,
    "worker.exception": _same("NonRetryableException"),
    "worker.worker_loader": _DISCOVERY,
    "worker.worker_config": _absent(
        _SETTINGS, "ENV_PROPERTY_NAMES", "resolve_worker_config", "get_worker_config_summary",
        "get_worker_config_oneline",
    ),
    "automator": {},
    "automator.task_handler": _HANDLER,
    "automator.task_runner": _absent(_RUNNER, "TaskRunner"),
    "automator.async_task_runner": _absent(_RUNNER, "AsyncTaskRunner"),
    "automator.lease_tracker": _absent(
        _LEASE, "LEASE_EXTEND_RETRY_COUNT", "LEASE_EXTEND_DURATION_FACTOR", "LeaseInfo", "LeaseManager"
    ),
    "automator.worker_isolation": _adapted(
        "isolation", "use TaskHandler(isolation=...)",
        "WORKER_ISOLATION_ENV", "ISOLATION_PROCESS", "ISOLATION_THREAD", "isolation_mode",
    ) | _absent('nothing has to be patched; use TaskHandler(isolation="thread")', "apply_thread_isolation"),
    "automator.utils": _adapted(
        "conversion", "use podium.convert.converter_for(annotation)(value)",
        "convert_from_dict", "convert_from_dict_or_list", "get_value",
    ) | _absent(_TYPES, "simple_types", "dict_types", "collection_types"),
    "automator.json_schema_generator": _adapted(
        "conversion", "use podium.schema.schemas_of(function)", "generate_json_schema_from_function"
    ),
    "context": _CONTEXT,
    "context.task_context": _CONTEXT | {
        name: Here(
            f"podium.compat.context:{name.lstrip('_')}", "",
            {ALWAYS: "test the function with get_task_context replaced, or on podium.testing.local_server()"},
        )
        for name in ("_set_task_context", "_clear_task_context")
    },
    "configuration": {},
    "configuration.configuration": {
        "Configuration": Here("podium.compat.configuration:Configuration", "podium:Configuration",
                              _CONFIGURATION_NOTES),
        "TRACE_LEVEL": Here("podium.compat.configuration:TRACE_LEVEL", "", {ALWAYS: "it is 5"}),
        "trace": Here("podium.compat.configuration:trace", "", {ALWAYS: "use logger.log(5, ...)"}),
    },
    "configuration.settings": {},
    "configuration.settings.authentication_settings": _same("AuthenticationSettings"),
    "configuration.settings.metrics_settings": {
        "MetricsSettings": Here("podium.compat.measuring:MetricsSettings", "podium:MetricsSettings", _METRICS_NOTES),
        "CANONICAL_SUBDIR": Absent("both styles of metrics are written to the directory itself"),
        "get_default_temporary_folder": Here(
            "podium.compat.measuring:get_default_temporary_folder", "", {ALWAYS: "use tempfile.gettempdir()"}
        ),
    },
    "event": (
        _EVENTS | _LISTENER | _BASE_EVENT | _WORKFLOW_EVENTS | _TASK_EVENTS | _OTHER_LISTENERS | _REGISTER
        | _absent(_DISPATCH, "EventDispatcher") | _absent(_ONE_PROTOCOL, "MetricsCollectorProtocol")
    ),
    "event.conductor_event": _BASE_EVENT,
    "event.task_runner_events": _EVENTS | _LISTENER | _same("TaskUpdateFailure"),
    "event.workflow_events": _WORKFLOW_EVENTS,
    "event.task_events": _TASK_EVENTS,
    "event.listeners": _LISTENER | _OTHER_LISTENERS | _absent(_ONE_PROTOCOL, "MetricsCollector"),
    "event.event_dispatcher": _absent(_DISPATCH, "EventDispatcher"),
    "event.sync_event_dispatcher": _absent(_DISPATCH, "SyncEventDispatcher"),
    "event.listener_register": _REGISTER,
    "event.sync_listener_register": _REGISTER,
    "telemetry": {},
    "telemetry.metrics_collector": _COLLECTOR,
    "telemetry.legacy_metrics_collector": {
        "LegacyMetricsCollector": Here("podium.compat.measuring:LegacyMetricsCollector", "", _ONE_COLLECTOR),
        "QUANTILE_WINDOW_SIZE": Absent("the window of the quantiles is MetricsSettings(window=1000)"),
    },
    "telemetry.canonical_metrics_collector": {
        "CanonicalMetricsCollector": Here("podium.compat.measuring:CanonicalMetricsCollector", "", _ONE_COLLECTOR),
        **_absent("the buckets are those of conductor-python, and cannot be changed", "TIME_BUCKETS", "SIZE_BUCKETS"),
    },
    "telemetry.metrics_collector_base": _absent(
        "there is one MetricsCollector, for both styles; it is no base class", "MetricsCollectorBase"
    ),
    "telemetry.metrics_factory": {
        "create_metrics_collector": Here("podium.compat.measuring:MetricsCollector", "", _ONE_COLLECTOR),
        "create_metrics_collector_for_parent": Absent(
            "all metrics are collected in the program's own process; use MetricsCollector(settings)"
        ),
    },
    "telemetry.model": {},
    "telemetry.model.metric_name": _absent(_NAMES, "MetricName"),
    "telemetry.model.metric_label": _absent(_NAMES, "MetricLabel"),
    "telemetry.model.metric_documentation": _absent(_NAMES, "MetricDocumentation"),
    "http": {},
    "http.models": _same("Task", "TaskDef") | _RESULT | _STATUS | _LOG | _SCHEMA,
    "http.models.task": _same("Task"),
    "http.models.task_def": _same("TaskDef"),
    "http.models.task_result": _RESULT,
    "http.models.task_result_status": _STATUS | _RESULT | _LOG,
    "http.models.task_exec_log": _LOG,
    "http.models.schema_def": _SCHEMA,
    "http.rest": _ERRORS,
    "http.async_rest": _ERRORS,
    "workflow": {},
    "workflow.task": {},
    "workflow.task.simple_task": _same("SimpleTask"),
}  # fmt: skip

#: Module -> name -> where it lives. Packages are modules too; those without names of their own are empty.
TABLE: Final[Mapping[str, Mapping[str, Entry]]] = {
    PACKAGE: {},
    f"{PACKAGE}.client": {},
    **{f"{PACKAGE}.client.{module}": names for module, names in _CLIENT_MODULES.items()},
}


def outside(module: str) -> str:
    """Return the message for a module of conductor-python that is not in the table."""
    return (
        f"{module} has no place in podium: podium.compat has what workers use; the server's API is podium.Client and "
        "podium.AsyncClient"
    )
