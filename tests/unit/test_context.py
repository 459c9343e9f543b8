from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from typing import Any

import pytest

from podium import NoTaskContextError, Task, TaskContext, TaskInProgress, get_task_context
from podium.context import MAX_LOG_LINES, Cancellation, enter_task_context

TASK = Task(
    task_id="t1",
    workflow_instance_id="w1",
    task_type="type",
    task_def_name="name",
    retry_count=2,
    poll_count=3,
    input_data={"a": 1},
    workflow_task={"type": "SIMPLE", "name": "name"},
)


@pytest.fixture
def context() -> TaskContext:
    return TaskContext(TASK)


def test_tells_about_the_task(context: TaskContext) -> None:
    assert context.get_task() is TASK
    assert context.get_task_id() == "t1"
    assert context.get_workflow_instance_id() == "w1"
    assert context.get_retry_count() == 2
    assert context.get_poll_count() == 3
    assert context.get_input() == {"a": 1}
    assert repr(context) == "TaskContext(task_id='t1', task_def_name='name', retry_count=2, poll_count=3)"


@pytest.mark.parametrize(("task", "name"), [(TASK, "name"), (Task(task_type="type"), "type")])
def test_definition_name_falls_back_to_the_type(task: Task, name: str) -> None:
    assert TaskContext(task).get_task_def_name() == name


@pytest.mark.parametrize(
    ("node", "kind"), [({"type": "SIMPLE"}, "SIMPLE"), ({}, "mine"), (None, "mine")], ids=["node", "empty", "none"]
)
def test_defect_19_workflow_task_type_is_the_node_s_type(node: dict[str, Any] | None, kind: str) -> None:
    assert TaskContext(Task(task_type="mine", workflow_task=node)).get_workflow_task_type() == kind


# logs


def test_defect_21_log_lines_are_stamped_in_milliseconds(context: TaskContext) -> None:
    before = time.time() * 1000
    context.add_log("one")
    context.add_log(2)
    assert [line.log for line in context.logs] == ["one", "2"]
    assert all(before - 1 <= line.created_time <= time.time() * 1000 for line in context.logs)


def test_logs_are_a_copy(context: TaskContext) -> None:
    context.logs.append(context.logs)  # type: ignore[arg-type]
    assert context.logs == []


def test_C13_a_million_log_lines_are_capped_with_a_note(context: TaskContext) -> None:
    for number in range(MAX_LOG_LINES + 5):
        context.add_log(number)
    lines = [line.log for line in context.logs]
    assert lines[:-1] == [str(number) for number in range(MAX_LOG_LINES)]
    assert lines[-1] == f"... 5 more lines were dropped (limit {MAX_LOG_LINES})"


def test_no_note_at_the_limit_itself(context: TaskContext) -> None:
    for _ in range(MAX_LOG_LINES):
        context.add_log("x")
    assert len(context.logs) == MAX_LOG_LINES


# output and callback


def test_set_output_replaces(context: TaskContext) -> None:
    assert context.output == {}
    context.set_output({"a": 1})
    context.set_output({"b": 2})
    assert context.output == {"b": 2}


@pytest.mark.parametrize("output", [None, [1], "text", 3])
def test_set_output_takes_a_dict_only(context: TaskContext, output: Any) -> None:
    with pytest.raises(ValueError, match="set_output: expected a dict"):
        context.set_output(output)


def test_callback(context: TaskContext) -> None:
    assert context.get_callback_after_seconds() == 0
    context.set_callback_after(30)
    assert context.get_callback_after_seconds() == 30


@pytest.mark.parametrize("seconds", [-1, 1.5, "3", None, True])
def test_callback_is_whole_seconds(context: TaskContext, seconds: Any) -> None:
    with pytest.raises(ValueError, match="whole seconds, 0 or more"):
        context.set_callback_after(seconds)


def test_task_in_progress() -> None:
    assert repr(TaskInProgress()) == "TaskInProgress(callback_after_seconds=60, output={})"
    progress = TaskInProgress(5, {"a": 1})
    assert (progress.callback_after_seconds, progress.output) == (5, {"a": 1})


# where it is


def test_outside_a_task_is_an_error_that_says_where_it_works() -> None:
    with pytest.raises(NoTaskContextError, match="inside a task's function"):
        get_task_context()


def test_no_task_context_error_is_a_runtime_error_as_elsewhere() -> None:
    assert issubclass(NoTaskContextError, RuntimeError)


def test_is_current_only_in_the_context_that_was_entered(context: TaskContext) -> None:
    inside = contextvars.copy_context()
    inside.run(enter_task_context, context)
    assert inside.run(get_task_context) is context
    with pytest.raises(NoTaskContextError):
        get_task_context()


def test_bare_thread_has_no_context_and_one_with_a_copy_has(context: TaskContext) -> None:
    seen: list[object] = []

    def look() -> None:
        try:
            seen.append(get_task_context())
        except NoTaskContextError as error:
            seen.append(error)

    def start_both() -> None:
        enter_task_context(context)
        for target in (look, lambda: contextvars.copy_context().run(look)):
            thread = threading.Thread(target=target)
            thread.start()
            thread.join()
        copied = contextvars.copy_context()
        thread = threading.Thread(target=copied.run, args=(look,))
        thread.start()
        thread.join()

    contextvars.copy_context().run(start_both)
    assert isinstance(seen[0], NoTaskContextError)
    assert isinstance(seen[1], NoTaskContextError)  # copied too late, inside the thread
    assert seen[2] is context


# cancellation


def test_context_of_nobody_s_task_is_never_cancelled(context: TaskContext) -> None:
    assert not context.is_cancelled()
    assert not context.wait(0)


def test_cancelled_context_says_so_for_good_and_waits_no_more() -> None:
    cancellation = Cancellation()
    context = TaskContext(TASK, cancellation)
    assert not context.wait(0.001)
    cancellation.ask()
    cancellation.ask()
    assert cancellation.asked
    before = cancellation.noticed
    assert context.is_cancelled()
    assert (before, cancellation.noticed) == (False, True)
    assert context.wait()
    assert context.wait(60)
    asyncio.run(asyncio.wait_for(context.wait_cancelled(), 5))


def test_looking_before_the_cancellation_is_no_notice_of_it() -> None:
    cancellation = Cancellation()
    context = TaskContext(TASK, cancellation)
    assert not context.is_cancelled()
    cancellation.ask()
    assert not cancellation.noticed


def test_cancellation_wakes_threads_and_coroutines_of_any_loop() -> None:
    cancellation = Cancellation()
    context = TaskContext(TASK, cancellation)
    woken: list[object] = []
    waiting = threading.Barrier(5)

    def in_thread() -> None:
        waiting.wait(10)
        woken.append(context.wait(10))

    def in_loop() -> None:
        async def wait() -> None:
            waiter = asyncio.create_task(context.wait_cancelled())
            await asyncio.sleep(0)
            waiting.wait(10)
            await waiter
            woken.append("loop")

        asyncio.run(wait())

    threads = [threading.Thread(target=target) for target in (in_thread, in_thread, in_loop, in_loop)]
    for thread in threads:
        thread.start()
    waiting.wait(10)
    cancellation.ask()
    for thread in threads:
        thread.join(10)
    assert sorted(map(str, woken)) == ["True", "True", "loop", "loop"]


def test_loop_that_is_closed_meanwhile_is_no_trouble() -> None:
    cancellation = Cancellation()

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(TaskContext(TASK, cancellation).wait_cancelled(), 0.001)

    asyncio.run(give_up())
    cancellation.ask()
    assert cancellation.asked


def test_who_gives_up_waiting_for_the_cancellation_is_forgotten() -> None:
    cancellation = Cancellation()

    async def main() -> None:
        for _ in range(3):
            waiter = asyncio.create_task(cancellation.wait_on_loop())
            await asyncio.sleep(0)
            waiter.cancel()
            await asyncio.wait([waiter])

    asyncio.run(main())
    assert cancellation._waiters == []
