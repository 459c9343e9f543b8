"""A workflow definition as one execution follows it: task definitions embedded, encoded once, nodes by name.

Definitions are frozen when a workflow starts: later changes of a definition do not touch running workflows.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

import msgspec

from podium.server.definitions import TaskDefinition, WorkflowDefinition, WorkflowTask, walk
from podium.server.operators import SYSTEM_TYPES


class Node:
    """One node of a blueprint: its spec, its task definition, and both as JSON."""

    __slots__ = ("cases", "default", "definition", "definition_raw", "forks", "is_system", "raw", "ref", "spec")

    def __init__(self, spec: WorkflowTask) -> None:
        assert isinstance(spec.task_definition, TaskDefinition), "blueprints embed every task definition"
        self.spec = spec
        self.ref = spec.task_reference_name
        self.is_system = spec.type in SYSTEM_TYPES
        self.definition = spec.task_definition
        self.raw = msgspec.Raw(msgspec.json.encode(spec))
        self.definition_raw = msgspec.Raw(msgspec.json.encode(spec.task_definition))
        self.cases = {key: [Node(task) for task in tasks] for key, tasks in spec.decision_cases.items()}
        self.default = [Node(task) for task in spec.default_case]
        self.forks = [[Node(task) for task in tasks] for tasks in spec.fork_tasks]

    @property
    def task_type(self) -> str:
        """The task type, which for worker tasks is the name of the queue."""
        if self.spec.type == "FORK_JOIN":
            return "FORK"
        return self.spec.name if self.spec.type in {"SIMPLE", ""} else self.spec.type

    @property
    def retries(self) -> int:
        """How many attempts may follow the first."""
        return self.spec.retry_count if isinstance(self.spec.retry_count, int) else self.definition.retry_count

    def inside(self) -> list[Node]:
        """Return all nodes below this one."""
        branches = [*self.cases.values(), self.default, *self.forks]
        return [found for branch in branches for node in branch for found in (node, *node.inside())]


class Blueprint:
    """A frozen workflow definition. ``key`` names its content, ``raw`` is its JSON."""

    __slots__ = ("__weakref__", "definition", "key", "nodes", "raw", "roots")

    def __init__(self, raw: bytes) -> None:
        self.raw = msgspec.Raw(raw)
        self.key = sha256(raw).hexdigest()
        self.definition = msgspec.json.decode(raw, type=WorkflowDefinition)
        self.roots = [Node(task) for task in self.definition.tasks]
        self.nodes = {node.ref: node for root in self.roots for node in (root, *root.inside())}


def freeze(definition: WorkflowDefinition, task_definition: Callable[[str], TaskDefinition | None]) -> bytes:
    """Return the JSON of a definition with the task definitions of this moment embedded.

    A definition that stands in the node itself wins; a task without any gets the defaults under its name.
    """
    frozen = msgspec.json.decode(msgspec.json.encode(definition), type=WorkflowDefinition)
    for task in walk(frozen.tasks):
        if not isinstance(task.task_definition, TaskDefinition):
            task.task_definition = task_definition(task.name) or TaskDefinition(name=task.name)
    return msgspec.json.encode(frozen)
