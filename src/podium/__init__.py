"""podium: Python functions as durable tasks of the Conductor workflow engine.

The path of a task, one file a step: ``handler`` starts the ``engine``; its ``runner`` polls; the ``crew`` carries the
task to a child; ``execution`` calls the function; ``delivery`` reports.

Names are loaded when they are first used, so that a crew child that imports the user's module loads no more of
podium than it needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from podium.client import AsyncClient
    from podium.config import AuthenticationSettings, Configuration
    from podium.context import TaskContext, TaskInProgress, get_task_context
    from podium.discovery import WorkerLoader, auto_discover_workers, scan_for_workers
    from podium.drain import DrainReport
    from podium.errors import (
        ApiError,
        ConfigError,
        ConversionError,
        DeclarationError,
        NonRetryableException,
        NoTaskContextError,
        NoWorkerLeftError,
        PodiumError,
        StartError,
        TaskFailedError,
        TransportError,
    )
    from podium.events import (
        PollCompleted,
        PollFailure,
        PollStarted,
        TaskCancelled,
        TaskExecutionCompleted,
        TaskExecutionFailure,
        TaskExecutionStarted,
        TaskGivenBack,
        TaskPaused,
        TaskRunnerEvent,
        TaskRunnerEventsListener,
        TaskUpdateCompleted,
        TaskUpdateFailure,
    )
    from podium.handler import TaskHandler
    from podium.metrics import MetricsCollector, MetricsSettings
    from podium.models import (
        StartWorkflowRequest,
        Task,
        TaskDef,
        TaskExecLog,
        TaskResult,
        TaskResultStatus,
        Workflow,
        WorkflowDef,
        WorkflowTask,
    )
    from podium.registry import Worker, WorkerTask, get_registered_workers, worker_task
    from podium.sync import Client
    from podium.workflow import SimpleTask

__version__ = "0.1.0"

_HOMES = {
    "client": ("AsyncClient",),
    "config": ("AuthenticationSettings", "Configuration"),
    "context": ("TaskContext", "TaskInProgress", "get_task_context"),
    "discovery": ("WorkerLoader", "auto_discover_workers", "scan_for_workers"),
    "drain": ("DrainReport",),
    "errors": (
        "ApiError", "ConfigError", "ConversionError", "DeclarationError", "NoTaskContextError", "NoWorkerLeftError",
        "NonRetryableException", "PodiumError", "StartError", "TaskFailedError", "TransportError",
    ),
    "events": (
        "PollCompleted", "PollFailure", "PollStarted", "TaskCancelled", "TaskExecutionCompleted",
        "TaskExecutionFailure", "TaskExecutionStarted", "TaskGivenBack", "TaskPaused", "TaskRunnerEvent",
        "TaskRunnerEventsListener", "TaskUpdateCompleted", "TaskUpdateFailure",
    ),
    "handler": ("TaskHandler",),
    "metrics": ("MetricsCollector", "MetricsSettings"),
    "models": (
        "StartWorkflowRequest", "Task", "TaskDef", "TaskExecLog", "TaskResult", "TaskResultStatus", "Workflow",
        "WorkflowDef", "WorkflowTask",
    ),
    "registry": ("Worker", "WorkerTask", "get_registered_workers", "worker_task"),
    "sync": ("Client",),
    "workflow": ("SimpleTask",),
}  # fmt: skip
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "ApiError", "AsyncClient", "AuthenticationSettings", "Client", "ConfigError", "Configuration", "ConversionError",
    "DeclarationError", "DrainReport", "MetricsCollector", "MetricsSettings", "NoTaskContextError", "NoWorkerLeftError",
    "NonRetryableException", "PodiumError", "PollCompleted", "PollFailure", "PollStarted", "SimpleTask", "StartError",
    "StartWorkflowRequest", "Task", "TaskCancelled", "TaskContext", "TaskDef", "TaskExecLog", "TaskExecutionCompleted",
    "TaskExecutionFailure", "TaskExecutionStarted", "TaskFailedError", "TaskGivenBack", "TaskHandler", "TaskInProgress",
    "TaskPaused", "TaskResult", "TaskResultStatus", "TaskRunnerEvent", "TaskRunnerEventsListener",
    "TaskUpdateCompleted", "TaskUpdateFailure", "TransportError", "Worker", "WorkerLoader", "WorkerTask", "Workflow",
    "WorkflowDef", "WorkflowTask", "__version__", "auto_discover_workers", "get_registered_workers", "get_task_context",
    "scan_for_workers", "worker_task",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    module = _HOME_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'podium' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"podium.{module}"), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
