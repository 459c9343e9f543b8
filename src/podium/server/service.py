"""The running server without HTTP: executions in memory, queues, timers, and the store behind them."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec
from msgspec import UNSET

from podium.server import actions, control
from podium.server.blueprint import Blueprint, freeze
from podium.server.committer import Committer
from podium.server.engine import Surroundings, Turn
from podium.server.live import Live
from podium.server.polls import Polls
from podium.server.problems import Problem, no_such_workflow
from podium.server.queues import Queues
from podium.server.repository import Repository
from podium.server.shown import plain, show_run
from podium.server.state import Run, TaskState, WorkflowState

if TYPE_CHECKING:
    from podium.server.actions import TaskReport
    from podium.server.definitions import WorkflowDefinition
    from podium.server.store import Store

logger = logging.getLogger(__name__)

#: Bytes of output beyond which a task fails for good.
OUTPUT_LIMIT = 10 * 1024 * 1024
#: Log lines of one update that are kept.
LOG_LINES_PER_UPDATE = 10


def now_ms() -> int:
    """Return the time of day in epoch ms."""
    return time.time_ns() // 1_000_000


class Service:
    """Everything the API does. All methods run on one event loop; changes are durable after ``committed()``."""

    def __init__(self, store: Store, clock: Callable[[], int] = now_ms) -> None:
        self.now = clock
        self.repository = Repository(store)
        self.committer = Committer(store, self.reload)
        self.polls = Polls(clock)
        self.queues = Queues(clock)
        self.live = Live(self.queues, clock, lambda run: self.control(run, Turn.evaluate))
        self._watchers: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        #: Blueprints of registered definitions; any change of a definition empties it.
        self._prepared: dict[tuple[str, int | None], Blueprint] = {}

    def reload(self) -> None:
        """Build the memory anew from the store: at the start, and when a commit failed."""
        self._prepared.clear()
        self.repository.prune_blueprints()
        self.live.load(self.repository.open_runs())
        self.committer.schedule()

    def close(self) -> None:
        """Stop timers and end all waiting."""
        self.live.clear()
        self.queues.close()

    def new_id(self) -> str:
        """Return a fresh id."""
        return str(uuid4())

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """Let a change happen whole or not at all: after a fault, memory and store are what was committed last."""
        try:
            yield
        except Problem:
            raise  # refused before anything changed
        except Exception as error:
            self.committer.fail(error)
            raise

    async def committed(self) -> None:
        """Wait until all changes so far are durable."""
        await self.committer.committed()

    # -- finding ---------------------------------------------------------------------------------------------------

    def run(self, workflow_id: str) -> Run:
        """Return an execution. Raises Problem 404."""
        run = self.live.runs.get(workflow_id) or self.repository.load_run(workflow_id)
        if run is None:
            raise no_such_workflow(workflow_id)
        return run

    def task(self, task_id: str) -> tuple[Run, TaskState] | None:
        """Return a task with its execution, or None."""
        run = self.live.owners.get(task_id)
        if run is None:
            workflow_id = self.repository.workflow_of_task(task_id)
            if workflow_id is None:
                return None
            run = self.run(workflow_id)
        attempt = run.find(task_id)
        return None if attempt is None else (run, attempt)

    # -- starting --------------------------------------------------------------------------------------------------

    def forget_definitions(self) -> None:
        """Note that a definition changed."""
        self._prepared.clear()

    def blueprint(self, name: str, version: int | None) -> Blueprint | None:
        """Return the blueprint for executions that start now, or None if there is no such definition."""
        known = self._prepared.get((name, version))
        if known is None:
            definition = self.repository.workflow_definition(name, version)
            if definition is None:
                return None
            known = self._prepared[name, version] = self.freeze(definition)
        return known

    def freeze(self, definition: WorkflowDefinition) -> Blueprint:
        """Return the blueprint of a definition with the task definitions of this moment."""
        return self.repository.blueprint(freeze(definition, self.repository.task_definition))

    def start(
        self,
        blueprint: Blueprint,
        input_data: dict[str, Any],
        *,
        correlation_id: str | None = None,
        priority: int = 0,
        task_to_domain: dict[str, str] | None = None,
    ) -> Run:
        """Start an execution; its first tasks are scheduled. Raises Problem 400 if their input makes no sense."""
        definition, now = blueprint.definition, self.now()
        workflow = WorkflowState(
            workflow_id=self.new_id(),
            workflow_name=definition.name,
            workflow_version=definition.version,
            create_time=now,
            start_time=now,
            # The template counts only for a start that has some input: the real server's rule.
            input=definition.input_template | input_data if input_data else input_data,
            correlation_id=UNSET if correlation_id is None else correlation_id,
            priority=priority,
            task_to_domain=task_to_domain or {},
            variables=definition.variables,
        )
        run = Run(workflow, blueprint)
        with self._whole():
            turn = self.turn(run)
            turn.evaluate()
            if turn.refusal is not None:
                raise Problem(400, turn.refusal)
            self.settle(turn)
        return run

    def _start_failure_workflow(self, run: Run, task_id: str) -> None:
        definition, workflow = run.blueprint.definition, run.workflow
        name = definition.failure_workflow
        if not isinstance(name, str) or not name:
            return
        version = definition.failure_workflow_version
        blueprint = self.blueprint(name, version if isinstance(version, int) else None)
        if blueprint is None:
            outcome = (
                f"Error workflow {name} failed to start.  reason: No such workflow defined. name={name}, version=null"
            )
        else:
            reason = "" if workflow.reason_for_incompletion is UNSET else workflow.reason_for_incompletion
            facts = {
                "workflowId": workflow.workflow_id,
                "reason": reason,
                "failureStatus": workflow.status,
                "failureTaskId": task_id,
                "failedWorkflow": plain(show_run(run)),
            }
            started = self.start(
                blueprint,
                workflow.input | facts,
                correlation_id=workflow.correlation_id if isinstance(workflow.correlation_id, str) else None,
                task_to_domain=workflow.task_to_domain,
            )
            outcome = started.id
        workflow.output = workflow.output | {"conductor.failure_workflow": outcome}
        self.repository.save_workflow(run)

    # -- turns -----------------------------------------------------------------------------------------------------

    def turn(self, run: Run) -> Turn:
        """Return a turn of this moment."""
        return Turn(
            run,
            Surroundings(
                now=self.now(),
                new_id=self.new_id,
                polled_lately=self.polls.lately,
                random=random.random,
            ),
        )

    def settle(self, turn: Turn, *, workflow_changed: bool = True) -> None:
        """Take over what a turn changed: store, queues, timers, watchers, failure workflow."""
        run = turn.run
        if workflow_changed:
            run.workflow.update_time = turn.world.now
            self.repository.save_workflow(run)
        self.repository.delete_attempts(turn.removed)
        self.repository.save_attempts(turn.changed.values())
        self.live.follow(run, changed=turn.changed.values(), removed=turn.removed)
        if turn.failure_of is not None:
            self._start_failure_workflow(run, turn.failure_of)
        for watcher in self._watchers.get(run.id, ()):
            watcher.set()
        self.committer.schedule()

    def control(self, run: Run, action: Callable[[Turn], object], *, workflow_changed: bool = True) -> None:
        """Do something to an execution, whole or not at all."""
        with self._whole():
            turn = self.turn(run)
            action(turn)
            self.settle(turn, workflow_changed=workflow_changed)

    def restart(self, run: Run, *, use_latest: bool) -> None:
        """Start an ended execution over, with the definition it had or the latest one."""
        blueprint = run.blueprint
        if use_latest:
            workflow = run.workflow
            blueprint = self.blueprint(workflow.workflow_name, workflow.workflow_version) or blueprint
        self.control(run, lambda turn: control.restart(turn, blueprint))

    def requeue(self, task_type: str) -> int:
        """Queue every open task of a type, also those that are being worked on; return how many."""
        found = [(run, attempt) for run, attempt in self.live.open_tasks() if attempt.task_type == task_type]
        for run, attempt in found:
            self.control(run, partial(actions.give_back, attempt=attempt), workflow_changed=False)
        return len(found)

    def remove(self, run: Run, *, only_ended: bool = False) -> None:
        """Delete an execution. Raises Problem 400 if it must have ended and has not."""
        if only_ended and not run.has_ended():
            raise Problem(400, f"Cannot archive workflow: {run.id} with status: {run.workflow.status}")
        with self._whole():
            self.live.drop(run)
            self.repository.delete_run(run)
            self.committer.schedule()

    # -- workers ---------------------------------------------------------------------------------------------------

    async def poll(
        self,
        task_type: str,
        domain: str | None,
        worker_id: str | None,
        *,
        count: int = 1,
        seconds: float = 0,
        is_gone: Callable[[], Awaitable[bool]] | None = None,
    ) -> list[tuple[Run, TaskState]]:
        """Hand out up to ``count`` tasks; wait up to ``seconds`` for the first.

        ``is_gone`` says whether who asked has left meanwhile: then nothing is handed out.
        """
        self.polls.note(task_type, domain, worker_id)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while True:
            taken = self._take(task_type, domain, worker_id, count)
            left = deadline - loop.time()
            if taken or left <= 0:
                return taken
            if not await self.queues.wait((task_type, domain), left):
                return []
            if is_gone is not None and await is_gone():
                self.queues.wake(task_type, domain)
                return []

    def _take(
        self, task_type: str, domain: str | None, worker_id: str | None, count: int
    ) -> list[tuple[Run, TaskState]]:
        taken: list[tuple[Run, TaskState]] = []
        while len(taken) < count:
            task_id = self.queues.peek((task_type, domain))
            if task_id is None:
                break
            run = self.live.owners[task_id]
            attempt = run.find(task_id)
            assert attempt is not None, "queues hold tasks of open executions only"
            limit = run.blueprint.nodes[attempt.reference_task_name].definition.concurrent_exec_limit
            if isinstance(limit, int) and 0 < limit <= self.live.busy_count(task_type):
                break
            hand_out = partial(actions.hand_out, attempt=attempt, worker_id=worker_id)
            self.control(run, hand_out, workflow_changed=False)
            taken.append((run, attempt))
        return taken

    def update(self, said: TaskReport) -> TaskState:
        """Apply a worker's report; return the task. Raises Problem 404."""
        assert said.task_id, "the caller checks the ids"
        run = self.live.owners.get(said.task_id)
        if (run is None or run.id != said.workflow_instance_id) and not said.extend_lease:
            self.require_workflow(said.workflow_instance_id or "")
        found = self.task(said.task_id)
        if found is None:
            raise Problem(404, f"No such task found by id: {said.task_id}")
        run, attempt = found
        if said.extend_lease:
            self.control(run, partial(actions.keep_alive, attempt=attempt), workflow_changed=False)
        else:
            self.report(run, attempt, said)
        return attempt

    def report(self, run: Run, attempt: TaskState, said: TaskReport) -> bool:
        """Apply a report to a known task; return False if it came too late."""
        if attempt.ended or run.has_ended():
            return False
        if said.status is None:
            raise Problem(500, "The status of the task result is missing")
        if said.output_data and len(msgspec.json.encode(said.output_data)) > OUTPUT_LIMIT:
            said.output_data, said.status = {}, "FAILED_WITH_TERMINAL_ERROR"
            said.reason_for_incompletion = (
                f"The output payload of task {attempt.task_id} is greater than the permitted limit: "
                f"{OUTPUT_LIMIT // 1024} kilobytes"
            )

        def apply(turn: Turn) -> None:
            actions.report(turn, attempt, said)
            for line in (said.logs or [])[:LOG_LINES_PER_UPDATE]:
                self.repository.add_log(attempt.task_id, line.created_time or 0, line.log or "")

        self.control(run, apply)
        return True

    def require_workflow(self, workflow_id: str) -> None:
        """Raise Problem 404 if there is no such execution."""
        if workflow_id not in self.live.runs and not self.repository.workflow_exists(workflow_id):
            raise no_such_workflow(workflow_id)

    # -- watching --------------------------------------------------------------------------------------------------

    async def watch(self, run: Run, seconds: float, is_met: Callable[[Run], bool]) -> bool:
        """Wait until an execution meets a condition; False when the time is over."""
        changed = asyncio.Event()
        watchers = self._watchers[run.id]
        watchers.add(changed)
        try:
            async with asyncio.timeout(seconds):
                while not is_met(run):
                    changed.clear()
                    await changed.wait()
        except TimeoutError:
            return False
        finally:
            watchers.discard(changed)
            if not watchers:
                self._watchers.pop(run.id, None)
        return True
