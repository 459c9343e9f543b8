"""Building blocks of workflow definitions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from podium.models import WorkflowTask


@dataclass(frozen=True)
class SimpleTask:
    """A step of a workflow that a worker runs.

    ``fn(task_ref_name="ref", order_id=...)`` on a function declared with ``@worker_task`` returns one.
    Inputs may be expressions such as ``"${workflow.input.order_id}"`` or ``other.output("total")``.
    """

    task_def_name: str
    task_reference_name: str
    input_parameters: dict[str, Any] = field(default_factory=dict)

    def output(self, path: str = "") -> str:
        """Return the expression for this step's output, or for one field of it: ``step.output("total")``."""
        return f"${{{self.task_reference_name}.output{'.' + path if path else ''}}}"

    def to_workflow_task(self) -> WorkflowTask:
        """Return the node of the workflow definition."""
        return WorkflowTask(
            name=self.task_def_name,
            task_reference_name=self.task_reference_name,
            input_parameters=dict(self.input_parameters),
        )
