"""conductor-python's view of the running task."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, ClassVar

from podium import context
from podium.compat.absence import WithAbsent

if TYPE_CHECKING:
    from podium.models import Task

_RESULT = "the result is made of what the function returns; use set_output(), add_log() and set_callback_after()"

#: How to take back what ``set_task_context`` did.
_token: ContextVar[Token[context.TaskContext] | None] = ContextVar("podium_compat_task_context", default=None)


class TaskContext(WithAbsent):
    """The running task: podium's context, and the property ``task``. ``TaskContext(task)`` makes one for a test."""

    absent: ClassVar[Mapping[str, str]] = {"task_result": _RESULT}

    def __init__(self, task: Task, task_result: object = None) -> None:
        del task_result  # what the context collects is merged into the result at the task's end
        self.native = context.TaskContext(task)

    @classmethod
    def of(cls, native: context.TaskContext) -> TaskContext:
        """Return a view of podium's context."""
        view = cls.__new__(cls)
        view.native = native
        return view

    @staticmethod
    def get() -> TaskContext:
        """Return the context of the task that the calling code is running."""
        return get_task_context()

    @property
    def task(self) -> Task:
        """The task as the server handed it out."""
        return self.native.get_task()

    def __getattr__(self, name: str) -> Any:
        if name in self.absent or name == "native":
            return super().__getattr__(name)
        return getattr(self.native, name)

    def __repr__(self) -> str:
        return repr(self.native)


def get_task_context() -> TaskContext:
    """Return the context of the task that the calling code is running.

    Raises NoTaskContextError, a RuntimeError, outside a task.
    """
    return TaskContext.of(context.get_task_context())


def set_task_context(task: Task, task_result: object = None) -> TaskContext:
    """Make a task the running one, for a test that calls a function directly."""
    view = TaskContext(task, task_result)
    _token.set(context._current.set(view.native))  # noqa: SLF001 - nothing but a test has to take it back
    return view


def clear_task_context() -> None:
    """Take back what ``set_task_context`` did."""
    token = _token.get()
    if token is not None:
        context._current.reset(token)  # noqa: SLF001
        _token.set(None)
