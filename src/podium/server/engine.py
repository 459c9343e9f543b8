"""The decider: what follows from the state of an execution. No I/O and no clock of its own.

A Turn takes one execution and the present moment; its methods change the execution and collect what they changed.
The flow is found by walking the blueprint from the top each time: whatever is not there yet and may start is
scheduled, so an evaluation can be repeated at any time and never schedules twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from podium.server import operators
from podium.server.domains import resolve_domain
from podium.server.expressions import resolve
from podium.server.reasons import failure_text, timeout_text, total_spent_text, workflow_timeout_text
from podium.server.scopes import scope_of
from podium.server.state import SUCCESSFUL, Run, TaskState
from podium.server.timeouts import limits, retry_delay, workflow_limit

if TYPE_CHECKING:
    from podium.server.blueprint import Node

#: Workflow status that follows from the status of the attempt that ended it.
_ENDS_AS = {"CANCELED": "TERMINATED", "TIMED_OUT": "TIMED_OUT"}


@dataclass(frozen=True)
class Surroundings:
    """What an evaluation may ask of the world. ``now`` is in epoch ms."""

    now: int
    new_id: Callable[[], str]
    #: Whether someone polled this task type in this domain within the last 10 s.
    polled_lately: Callable[[str, str], bool]
    #: A random number of 0 <= x < 1, for the jitter of retries.
    random: Callable[[], float]


class Turn:
    """One evaluation of one execution.

    ``changed`` holds the attempts to store, by task id; ``removed`` those that no longer exist;
    ``failure_of`` is the id of the task that ended the workflow if its failure workflow must be started ("" = none
    in particular), else None; ``refusal`` says why an operator could not use its input, else None.
    """

    def __init__(self, run: Run, world: Surroundings) -> None:
        self.run = run
        self.world = world
        self.changed: dict[str, TaskState] = {}
        self.removed: list[TaskState] = []
        self.failure_of: str | None = None
        self.refusal: str | None = None
        self._passed: list[TaskState] = []

    # -- evaluation ------------------------------------------------------------------------------------------------

    def evaluate(self) -> None:
        """Apply timeouts, retries and failures, schedule what may start, end the workflow if nothing is left."""
        run = self.run
        if run.has_ended():
            return
        self._time_out_workflow()
        if run.has_ended() or run.workflow.status == "PAUSED":
            return
        for attempt in run.open_attempts():
            self._time_out(attempt)
            if run.has_ended():
                return
        self._passed = []
        over = self._advance(run.blueprint.roots)
        if over and not run.has_ended() and not run.open_attempts():
            self._complete()
            return
        for attempt in self._passed:
            if not attempt.executed:
                attempt.executed = True
                self.touch(attempt)

    def touch(self, attempt: TaskState) -> None:
        """Note that an attempt changed."""
        self.changed[attempt.task_id] = attempt

    def _advance(self, nodes: list[Node]) -> bool:
        """Walk one sequence as far as it goes; return whether the flow leaves it at the end."""
        for index, node in enumerate(nodes):
            attempt = self.run.latest.get(node.ref)
            if attempt is None:
                following = nodes[index + 1] if index + 1 < len(nodes) else None
                attempt = self._start(node, following)
            if self.run.has_ended() or not self._is_through(node, attempt):
                return False
        return True

    def _is_through(self, node: Node, attempt: TaskState) -> bool:
        """Return whether the flow goes on behind this node, after doing what its state asks for."""
        if attempt.task_type == "JOIN" and attempt.status == "IN_PROGRESS":
            self._join(node, attempt)
        if not attempt.ended:
            return False
        if attempt.status not in SUCCESSFUL and not self._survives(node, attempt):
            return False
        self._passed.append(attempt)
        if attempt.task_type == "SWITCH" and attempt.status == "COMPLETED":
            return self._advance(_selected(node, attempt))
        if attempt.task_type == "FORK":
            for branch in node.forks:
                self._advance(branch)
            return not self.run.has_ended()  # the JOIN behind it is the gate
        return True

    # -- starting tasks --------------------------------------------------------------------------------------------

    def _start(self, node: Node, following: Node | None) -> TaskState:
        attempt = self._new_attempt(node)
        if node.is_system:
            self._run_operator(node, attempt, following)
        else:
            self._enqueue(attempt, node.spec.start_delay)
            attempt.callback_after_seconds = node.spec.start_delay
        return attempt

    def _new_attempt(self, node: Node, *, previous: TaskState | None = None) -> TaskState:
        run, workflow, definition = self.run, self.run.workflow, node.definition
        task_id = self.world.new_id()
        input_data = self.input_of(node, task_id)
        if previous is not None:
            input_data = previous.input_data | input_data
        attempt = TaskState(
            task_type=node.task_type,
            status="SCHEDULED",
            input_data=input_data,
            reference_task_name=node.ref,
            seq=max((other.seq for other in run.attempts), default=0) + 1,
            correlation_id=workflow.correlation_id,
            task_def_name=node.task_type if node.task_type in {"FORK", "JOIN", "SWITCH"} else node.spec.name,
            scheduled_time=self.world.now,
            response_timeout_seconds=0 if node.is_system else definition.response_timeout_seconds,
            workflow_instance_id=workflow.workflow_id,
            workflow_type=workflow.workflow_name,
            task_id=task_id,
            rate_limit_per_frequency=definition.rate_limit_per_frequency,
            rate_limit_frequency_in_seconds=definition.rate_limit_frequency_in_seconds,
            workflow_priority=workflow.priority,
            execution_name_space=definition.execution_name_space,
            isolation_group_id=definition.isolation_group_id,
        )
        if previous is not None:
            attempt.retry_count = previous.retry_count + 1
            attempt.retried_task_id = previous.task_id
            attempt.reason_for_incompletion = previous.reason_for_incompletion
            previous.retried = True
            self.touch(previous)
        run.add(attempt)
        self.touch(attempt)
        return attempt

    def _enqueue(self, attempt: TaskState, delay: float) -> None:
        attempt.start_delay_in_seconds = int(delay)
        attempt.due = self.world.now + round(delay * 1000)
        attempt.domain = (
            resolve_domain(self.run.workflow.task_to_domain, attempt.task_type, self.world.polled_lately) or UNSET
        )

    def input_of(self, node: Node, task_id: str) -> dict[str, Any]:
        """Return a task's input: its parameters, resolved, over the template of its definition."""
        scope = scope_of(self.run, task_id)
        parameters: dict[str, Any] = resolve(node.spec.input_parameters, scope)
        template = node.definition.input_template
        if template:
            defaults: dict[str, Any] = resolve(template, scope)
            given = {key: value for key, value in parameters.items() if value is not None or key not in defaults}
            return defaults | given
        return parameters

    # -- operators -------------------------------------------------------------------------------------------------

    def _run_operator(self, node: Node, attempt: TaskState, following: Node | None) -> None:
        now = self.world.now
        attempt.status, attempt.start_time, attempt.update_time = "IN_PROGRESS", now, now
        match node.spec.type:
            case "SWITCH":
                self._switch(node, attempt)
            case "FORK_JOIN" if following is None or following.spec.type != "JOIN":
                self.run.keep([other for other in self.run.attempts if other is not attempt])
                self.changed.pop(attempt.task_id, None)
                self._end("FAILED", "Fork task definition is not followed by a join task.  Check the blueprint")
            case "JOIN":
                attempt.input_data["joinOn"] = node.spec.join_on
            case "WAIT":
                self._wait(attempt)
            case "HUMAN":
                pass  # ends by an update only
            case "TERMINATE":
                self._terminate(attempt)
            case "SET_VARIABLE":
                self.run.workflow.variables = self.run.workflow.variables | attempt.input_data
                self.finish(attempt, "COMPLETED")
            case _:
                self.finish(attempt, "COMPLETED")

    def finish(self, attempt: TaskState, status: str, reason: str | None = None) -> None:
        """End an attempt."""
        attempt.status, attempt.end_time = status, self.world.now
        if reason is not None:
            attempt.reason_for_incompletion = reason
        self.touch(attempt)

    def _switch(self, node: Node, attempt: TaskState) -> None:
        case = operators.switch_case(attempt.input_data, node.spec.expression or "")
        attempt.input_data["case"] = case
        attempt.output_data = {"evaluationResult": [case], "selectedCase": case}
        if _selected(node, attempt):
            attempt.input_data["hasChildren"] = "true"
        self.finish(attempt, "COMPLETED")

    def _wait(self, attempt: TaskState) -> None:
        try:
            end = operators.wait_end(attempt.input_data, self.world.now)
        except ValueError as error:
            self.refusal = str(error)
            self.finish(attempt, "FAILED", self.refusal)
            return
        attempt.due = end or 0
        attempt.callback_after_seconds = operators.FOREVER if end is None else max(0, end - self.world.now) // 1000

    def _terminate(self, attempt: TaskState) -> None:
        attempt.output_data = operators.termination_output(attempt.input_data)
        attempt.executed = True
        self.finish(attempt, "COMPLETED")
        status = str(attempt.input_data["terminationStatus"]).upper()
        reason = attempt.input_data.get("terminationReason")
        if reason is None:
            reason = f"Workflow is {status} by TERMINATE task: {attempt.task_id}"
        self._end(status, str(reason), attempt, output=attempt.output_data or None)

    def _join(self, node: Node, attempt: TaskState) -> None:
        """End a JOIN if all the tasks it waits for have ended. Failed ones were handled before it is asked."""
        branches = [self.run.latest.get(ref) for ref in node.spec.join_on]
        ended = [branch for branch in branches if branch is not None and branch.ended]
        if len(ended) < len(branches):
            return
        attempt.output_data = {task.reference_task_name: task.output_data for task in ended if task.output_data}
        faulty = [task for task in ended if task.status not in {"COMPLETED", "SKIPPED"}]
        if faulty:
            reason = " ".join(f"{task.task_def_name}/{task.task_id} completed with errors" for task in faulty)
            self.finish(attempt, "COMPLETED_WITH_ERRORS", reason)
        else:
            self.finish(attempt, "COMPLETED")

    # -- failures and retries --------------------------------------------------------------------------------------

    def _survives(self, node: Node, attempt: TaskState) -> bool:
        """Apply the failure rule to an unsuccessful attempt; return whether the flow goes on behind it."""
        retriable = attempt.status in {"FAILED", "TIMED_OUT"} and not node.is_system
        if retriable and attempt.retry_count < node.retries:
            spent = total_spent_text(self.run, attempt, self.world.now)
            if spent is None:
                self.retry(node, attempt, retry_delay(node, attempt, self.world.random))
                return False
        else:
            spent = None
        if node.spec.optional:
            attempt.status = "COMPLETED_WITH_ERRORS"
            self.touch(attempt)
            return True
        if node.spec.permissive:
            return True
        status = _ENDS_AS.get(attempt.status, "FAILED")
        self._end(status, spent or failure_text(attempt, status), attempt)
        return False

    def retry(self, node: Node, attempt: TaskState, delay: float) -> TaskState:
        """Schedule the next attempt of a task, pollable after ``delay`` seconds."""
        successor = self._new_attempt(node, previous=attempt)
        self._enqueue(successor, delay)
        successor.domain = attempt.domain
        successor.callback_after_seconds = int(delay)
        return successor

    def restart_operator(self, node: Node, attempt: TaskState) -> None:
        """Run a task of the server itself once more."""
        successor = self._new_attempt(node, previous=attempt)
        self._run_operator(node, successor, None)

    # -- timeouts --------------------------------------------------------------------------------------------------

    def _time_out_workflow(self) -> None:
        due = workflow_limit(self.run)
        if due is not None and self.world.now >= due:
            self._end("TIMED_OUT", workflow_timeout_text(self.run, self.world.now))

    def _time_out(self, attempt: TaskState) -> None:
        limit = min(limits(self.run, attempt), default=None)
        if limit is None or limit.due > self.world.now:
            return
        kind = limit.kind
        if kind == "wait":
            self.finish(attempt, "COMPLETED")
            return
        reason = timeout_text(self.run, attempt, kind, self.world.now)
        attempt.update_time = self.world.now
        self.finish(attempt, "TIMED_OUT", reason)
        definition = self.run.blueprint.nodes[attempt.reference_task_name].definition
        if kind in {"attempt", "poll"} and definition.timeout_policy == "TIME_OUT_WF":
            self._end("TIMED_OUT", reason, attempt)

    # -- the end ---------------------------------------------------------------------------------------------------

    def _complete(self) -> None:
        for attempt in self.run.latest.values():  # permissive failures come to light at the end
            if attempt.status not in SUCCESSFUL:
                self._end("FAILED", failure_text(attempt, attempt.status), attempt, output=self._output(None))
                return
        self._close("COMPLETED", None, None)

    def _end(
        self, status: str, reason: str, attempt: TaskState | None = None, *, output: dict[str, Any] | None = None
    ) -> None:
        """End the workflow by the engine's own decision."""
        if status != "COMPLETED":
            self.failure_of = attempt.task_id if attempt else ""
        self._close(status, reason, attempt)
        if output is not None:
            self.run.workflow.output = output

    def terminate(self, reason: str | None) -> None:
        """End the workflow because a client asked for it; that starts no failure workflow."""
        self._close("TERMINATED", reason, None)

    def _close(self, status: str, reason: str | None, attempt: TaskState | None) -> None:
        run, workflow, now = self.run, self.run.workflow, self.world.now
        for other in run.open_attempts():
            other.update_time = now
            self.finish(other, "CANCELED")
        workflow.reason_for_incompletion = UNSET if reason is None else reason
        if status == "COMPLETED":  # the real server's order: its output parameters see it RUNNING
            workflow.output = self._output(attempt)
            workflow.status = status
        else:
            workflow.status = status
            workflow.output = self._output(attempt)
        workflow.end_time = now
        failed = [other for other in run.attempts if other.status in {"FAILED", "FAILED_WITH_TERMINAL_ERROR"}]
        refs = [*workflow.failed_reference_task_names, *(other.reference_task_name for other in failed)]
        names = [*workflow.failed_task_names, *(other.task_def_name for other in failed)]
        workflow.failed_reference_task_names = list(dict.fromkeys(refs))
        workflow.failed_task_names = list(dict.fromkeys(names))

    def _output(self, attempt: TaskState | None) -> dict[str, Any]:
        parameters = self.run.blueprint.definition.output_parameters
        if parameters:
            result: dict[str, Any] = resolve(parameters, scope_of(self.run))
            return result
        if attempt is None and self.run.attempts:
            attempt = self.run.attempts[-1]
        return attempt.output_data if attempt else {}


def _selected(node: Node, attempt: TaskState) -> list[Node]:
    return node.cases.get(attempt.output_data.get("selectedCase", ""), node.default)
