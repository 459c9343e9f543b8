"""Declaring workers: what is accepted, what is refused at once, and what a decorated function still is."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import inspect
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from podium import (
    DeclarationError,
    SimpleTask,
    Task,
    TaskDef,
    Worker,
    WorkerTask,
    get_registered_workers,
    worker_task,
)
from podium.options import WorkerOptions
from podium.registry import clear_registered_workers, is_async_callable, original_function, register_worker


@pytest.fixture(autouse=True)
def empty_registry() -> Iterator[None]:
    others = get_registered_workers()
    clear_registered_workers()
    yield
    clear_registered_workers()
    for worker in others:
        register_worker(worker)


def add(a: int, b: int = 1) -> int:
    """Add."""
    return a + b


async def add_later(a: int, b: int = 1) -> int:
    return a + b


def only() -> Worker:
    (worker,) = get_registered_workers()
    return worker


# the list of options is one


def test_signature_of_the_decorator_is_the_list_of_options() -> None:
    parameters = list(inspect.signature(worker_task).parameters.values())
    assert parameters[0].name == "task_definition_name"
    assert parameters[-1].kind is inspect.Parameter.VAR_KEYWORD
    declared = {parameter.name: parameter.default for parameter in parameters[1:-1]}
    assert declared == {option.name: option.default for option in dataclasses.fields(WorkerOptions)}


def test_every_option_reaches_the_worker() -> None:
    given: dict[str, Any] = {
        "poll_interval": 50, "domain": "d", "worker_id": "id", "thread_count": 3, "register_task_def": True,
        "poll_timeout": 200, "lease_extend_enabled": True, "max_lease_seconds": 60, "timeout_seconds": 0.5,
        "on_cancel": "kill", "task_def": TaskDef(retry_count=1),
        "overwrite_task_def": False, "strict_schema": True, "register_schema": True, "paused": True,
        "isolation": "thread", "group": "g", "processes": 2, "max_crashes": 5, "max_tasks": 100, "max_rss_mb": 500,
        "max_age_seconds": 3600.0,
    }  # fmt: skip
    assert given.keys() == {option.name for option in dataclasses.fields(WorkerOptions)}
    worker_task("by_decorator", **given)(add)
    assert only().options == Worker("by_hand", add, **given).options == WorkerOptions(**given)
    assert only().domain == "d"


def test_poll_interval_may_be_the_third_argument() -> None:
    assert Worker("w", add, 500).options.poll_interval == 500
    assert Worker("w", add, poll_interval=500, domain="d").options.poll_interval == 500
    with pytest.raises(DeclarationError, match="poll_interval is given twice"):
        Worker("w", add, 500, poll_interval_millis=100)
    with pytest.raises(DeclarationError, match="poll_interval='d': expected a number"):
        Worker("w", add, "d")  # type: ignore[arg-type]


@pytest.mark.parametrize("documented", [WorkerOptions, Worker, worker_task])
def test_docstring_names_every_option_with_its_default_and_meaning(documented: Any) -> None:
    text = inspect.getdoc(documented) or ""
    for option in dataclasses.fields(WorkerOptions):
        assert f"\n- ``{option.name}`` (default {option.default!r}): {option.metadata['doc']}\n" in f"{text}\n"
    assert text == documented.__doc__.strip()  # no stray indentation


def test_decorator_takes_aliases_and_refuses_unknown_names() -> None:
    worker_task("w", concurrency=4)(add)
    assert only().options.thread_count == 4
    with pytest.raises(DeclarationError, match="did you mean 'thread_count'"):
        worker_task("w", thread_counts=4)(add)


def test_legacy_decorator() -> None:
    WorkerTask("w", 250, "d", "id", thread_count=3, register_task_def=True, poll_timeout=50, lease_extend_enabled=True)(
        add
    )
    assert only().options == WorkerOptions(
        poll_interval=250, domain="d", worker_id="id", thread_count=3, register_task_def=True, poll_timeout=50,
        lease_extend_enabled=True,
    )  # fmt: skip


@pytest.mark.parametrize(("seconds", "millis"), [(0, 250), (2, 2000), (0.5, 500)])
def test_legacy_seconds_win_if_given(seconds: float, millis: float) -> None:
    WorkerTask("w", poll_interval=250, poll_interval_seconds=seconds)(add)
    assert only().options.poll_interval == millis


@pytest.mark.parametrize("seconds", [-1, "x"])
def test_legacy_seconds_are_checked(seconds: Any) -> None:
    with pytest.raises(DeclarationError, match="poll_interval"):
        WorkerTask("w", poll_interval_seconds=seconds)(add)


# names


@pytest.mark.parametrize("name", ["a", "my-task.v2", "Größe", "with space", "a_b"])
def test_good_names(name: str) -> None:
    assert Worker(name, add).task_definition_name == name


@pytest.mark.parametrize("name", ["", " ", " a", "a ", ".", "..", "a\nb", "a\0", None, 3, ["a", "b"]])
def test_bad_names(name: Any) -> None:
    with pytest.raises(DeclarationError):
        Worker(name, add)


@pytest.mark.parametrize("name", ["a/b", "d:x"])
def test_names_that_the_server_cannot_route(name: str) -> None:
    with pytest.raises(DeclarationError, match="the server cannot route them"):
        worker_task(name)(add)


@pytest.mark.parametrize("decorator", [worker_task, WorkerTask])
def test_decorator_without_a_name_says_how_to_write_it(decorator: Any) -> None:
    with pytest.raises(DeclarationError, match=r'@worker_task\("task_name"\)'):
        decorator(add)


# functions


class Things:
    def method(self, a: int) -> int:
        return a

    @classmethod
    def of_class(cls, a: int) -> int:
        return a

    @staticmethod
    def static(a: int) -> int:
        return a

    async def __call__(self, a: int) -> int:
        return a


def generates() -> Iterator[int]:
    yield 1


async def generates_async() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (None, "expected a function, got NoneType"),
        ("name", "expected a function, got str"),
        (Things, "got the class Things; decorate a function"),
        (generates, "a generator function cannot be a task"),
        (generates_async, "a generator function cannot be a task"),
        (functools.partial(generates), "a generator function cannot be a task"),
        (staticmethod(add), "put @staticmethod above @worker_task"),
        (Things.__dict__["of_class"], "a method has no object"),
        (Things.method, r'Worker\(name, the_object.method, isolation="thread"\), as child processes cannot import it'),
    ],
)
def test_what_can_never_run_is_refused(function: Any, why: str) -> None:
    with pytest.raises(DeclarationError, match=f"worker 'w': .*{why}"):
        Worker("w", function)
    with pytest.raises(DeclarationError):
        worker_task("w")(function)
    assert get_registered_workers() == []


def test_defect_50_method_decorated_in_its_class_is_refused() -> None:
    with pytest.raises(DeclarationError, match="a method has no object"):

        class Holder:
            @worker_task("w")
            def method(self, a: int) -> int:
                return a


def test_classmethod_above_is_refused_too() -> None:
    with pytest.raises(DeclarationError, match="a method has no object"):

        class Holder:
            @classmethod
            @worker_task("w")
            def method(cls, a: int) -> int:
                return a


def test_staticmethod_above_works() -> None:
    class Holder:
        @staticmethod
        @worker_task("w")
        def method(a: int) -> int:
            return a + 1

    assert Holder.method(1) == 2
    assert only().function(1) == 2


@pytest.mark.parametrize(
    ("function", "is_async"),
    [
        (add, False),
        (add_later, True),
        (lambda a: a, False),
        (Things().method, False),
        (Things.of_class, False),
        (Things.static, False),
        (Things(), True),
        (functools.partial(add, b=2), False),
        (functools.partial(functools.partial(add_later, b=2), a=1), True),
        (len, False),
    ],
)
def test_whether_it_is_async_is_decided_at_declaration(function: Any, is_async: bool) -> None:
    worker = Worker("w", function)
    assert worker.is_async is is_async is is_async_callable(function)
    assert worker.execute_function is worker.function


def test_function_without_a_signature_is_refused_by_the_decorator() -> None:
    with pytest.raises(DeclarationError, match="signature cannot be read"):
        worker_task("w")(max)


def test_worker_of_a_decorated_function_runs_the_function_itself() -> None:
    decorated = worker_task("w")(add)
    assert original_function(decorated) is add
    assert Worker("other", decorated).function is add
    twice = worker_task("second")(decorated)
    assert original_function(twice) is add


def test_decorators_below_stay() -> None:
    @functools.wraps(add)
    def doubled(*args: Any, **kwargs: Any) -> int:
        return 2 * add(*args, **kwargs)

    worker_task("w")(doubled)
    assert only().function is doubled


# the registry


def test_workers_are_listed_in_the_order_of_declaration() -> None:
    worker_task("b")(add)
    worker_task("a")(add_later)
    assert [worker.task_definition_name for worker in get_registered_workers()] == ["b", "a"]


def test_second_declaration_replaces_and_warns_with_both_places(caplog: pytest.LogCaptureFixture) -> None:
    worker_task("w", domain="d")(add)
    worker_task("w", domain="d")(add_later)
    assert only().function is add_later
    (message,) = caplog.messages
    assert message.startswith("worker 'w' in domain 'd' is declared twice: at ")
    places = [f"{__file__}:{function.__code__.co_firstlineno}" for function in (add, add_later)]
    assert all(place in message for place in places)
    assert message.index(places[0]) < message.index(places[1])


def test_other_domain_is_another_worker(caplog: pytest.LogCaptureFixture) -> None:
    for domain in (None, "d1", "d2"):
        worker_task("w", domain=domain)(add)
    assert [worker.domain for worker in get_registered_workers()] == [None, "d1", "d2"]
    assert caplog.messages == []


def test_module_that_is_imported_again_does_not_warn(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        worker_task("w")(add)
    assert only().function is add
    assert caplog.messages == []


def test_worker_by_hand_is_not_registered() -> None:
    worker = Worker("w", add, domain="d")
    assert get_registered_workers() == []
    assert repr(worker) == f"Worker('w', domain='d', {__file__}:{add.__code__.co_firstlineno})"


# a decorated function


def test_plain_call_runs_the_function() -> None:
    assert worker_task("w")(add)(1, b=2) == 3
    assert asyncio.run(worker_task("w2")(add_later)(1, 2)) == 3


def test_name_doc_and_original_are_kept() -> None:
    decorated = worker_task("w")(add)
    assert decorated.__name__ == "add"
    assert decorated.__qualname__ == "add"
    assert decorated.__module__ == __name__
    assert decorated.__doc__ == "Add."
    assert decorated.__wrapped__ is add
    assert inspect.signature(decorated) == inspect.signature(add)


def test_task_ref_name_makes_a_step() -> None:
    step = worker_task("w")(add)(task_ref_name="ref", a="${workflow.input.a}", b=2)
    assert step == SimpleTask("w", "ref", {"a": "${workflow.input.a}", "b": 2})
    assert worker_task("w2")(add_later)(task_ref_name="ref") == SimpleTask("w2", "ref", {})


def test_step_refuses_positional_arguments() -> None:
    call: Callable[..., Any] = worker_task("w")(add)
    with pytest.raises(TypeError, match="give the inputs as keywords"):
        call(1, task_ref_name="ref")


@pytest.mark.parametrize("reference", ["", " ", None, 3])
def test_step_without_a_name_is_refused(reference: Any) -> None:
    with pytest.raises(TypeError, match=re.escape(f"w(task_ref_name={reference!r}): expected the step's name")):
        worker_task("w")(add)(task_ref_name=reference, a=1)


def test_step_refuses_inputs_that_the_function_does_not_have() -> None:
    with pytest.raises(TypeError, match="unknown input c, d; the function's inputs: a, b"):
        worker_task("w")(add)(task_ref_name="ref", a=1, c=2, d=3)


def whole_task(task: Task, a: int = 0) -> None: ...
def whole_task_or_none(it: Task | None) -> None: ...
def whole_task_unannotated(task) -> None: ...  # type: ignore[no-untyped-def]  # noqa: ANN001 - the case
def whole_task_as_object(anything: object) -> None: ...
def any_keywords(a: int, **rest: Any) -> None: ...
def positional_only(a: int, /) -> None: ...


@pytest.mark.parametrize(
    ("function", "inputs"),
    [
        (whole_task, {"x": 1, "a": 2}),
        (whole_task_or_none, {"x": 1}),
        (whole_task_unannotated, {"x": 1}),
        (whole_task_as_object, {"x": 1}),
        (any_keywords, {"x": 1}),
        (positional_only, {"a": 1}),
    ],
)
def test_step_takes_every_input_that_the_function_could_read(function: Any, inputs: dict[str, Any]) -> None:
    assert worker_task("w")(function)(task_ref_name="ref", **inputs).input_parameters == inputs


def test_parameter_with_the_reserved_name_is_refused() -> None:
    def function(task_ref_name: str) -> None: ...

    with pytest.raises(DeclarationError, match="'task_ref_name' is reserved"):
        worker_task("w")(function)
    assert get_registered_workers() == []


# steps of workflows


def test_step_as_a_node_of_a_workflow() -> None:
    inputs = {"a": 1}
    node = SimpleTask("w", "ref", inputs).to_workflow_task()
    assert node.to_dict() == {"name": "w", "taskReferenceName": "ref", "inputParameters": {"a": 1}}
    assert node.type == "SIMPLE"
    assert node.input_parameters is not inputs


def test_expression_for_a_step_s_output() -> None:
    step = SimpleTask("w", "ref")
    assert step.output() == "${ref.output}"
    assert step.output("order.total") == "${ref.output.order.total}"


def test_log_messages_name_podium(caplog: pytest.LogCaptureFixture) -> None:
    worker_task("w")(add)
    worker_task("w")(add_later)
    assert caplog.records[0].name == "podium.registry"
    assert caplog.records[0].levelno == logging.WARNING
