"""Wire structs: what travels between podium and a Conductor server, with Conductor's names in snake_case.

Unknown JSON fields are ignored and absent ones take a default, so newer and older servers can be read.
Times are epoch milliseconds, 0 or None = not yet. Structs are mutable and compare by value.
"""

from podium.models.definitions import (
    SchemaDef,
    TaskDef,
    WorkflowDef,
    WorkflowTask,
)
from podium.models.tasks import (
    LARGE_OUTPUT,
    MAX_OUTPUT,
    TERMINAL_TASK_STATUSES,
    Int64,
    Task,
    TaskBrief,
    TaskExecLog,
    TaskHead,
    TaskIds,
    TaskResult,
    TaskResultStatus,
    TaskState,
)
from podium.models.wire import (
    Wire,
)
from podium.models.workflows import (
    TERMINAL_WORKFLOW_STATUSES,
    BulkResponse,
    PollData,
    RerunWorkflowRequest,
    StartWorkflowRequest,
    Workflow,
    WorkflowRun,
    WorkflowSearchResult,
    WorkflowStatus,
    WorkflowSummary,
)

__all__ = [
    "LARGE_OUTPUT",
    "MAX_OUTPUT",
    "TERMINAL_TASK_STATUSES",
    "TERMINAL_WORKFLOW_STATUSES",
    "BulkResponse",
    "Int64",
    "PollData",
    "RerunWorkflowRequest",
    "SchemaDef",
    "StartWorkflowRequest",
    "Task",
    "TaskBrief",
    "TaskDef",
    "TaskExecLog",
    "TaskHead",
    "TaskIds",
    "TaskResult",
    "TaskResultStatus",
    "TaskState",
    "Wire",
    "Workflow",
    "WorkflowDef",
    "WorkflowRun",
    "WorkflowSearchResult",
    "WorkflowStatus",
    "WorkflowSummary",
    "WorkflowTask",
]
