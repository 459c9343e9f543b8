"""Arguments from the signature and the task's input."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import operator
from typing import TYPE_CHECKING, Annotated, Any, TypedDict, Unpack

import msgspec
import pytest

from podium.binding import Binder
from podium.errors import ConversionError, DeclarationError
from podium.models import Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from nowhere import Missing  # type: ignore[import-not-found]


@dataclasses.dataclass
class Line:
    sku: str
    count: int = 1


@dataclasses.dataclass
class Order:
    id: int
    lines: list[Line] = dataclasses.field(default_factory=list)


class Options(TypedDict, total=False):
    depth: int
    colour: str


def bind(function: Callable[..., Any], data: dict[str, Any] | None = None, *, strict: bool = False) -> Any:
    task = Task(task_id="t1", input_data={} if data is None else data)
    return Binder.compile(function, strict=strict).arguments(task)


def refusal(function: Callable[..., Any], data: dict[str, Any], *, strict: bool = False) -> str:
    with pytest.raises(ConversionError) as caught:
        bind(function, data, strict=strict)
    return str(caught.value)


def call(function: Callable[..., Any], data: dict[str, Any]) -> Any:
    positional, keywords = bind(function, data)
    return function(*positional, **keywords)


# --- which parameter receives what


def test_parameters_are_filled_by_name_and_converted() -> None:
    def work(order: Order, dry_run: bool) -> None: ...

    assert bind(work, {"dry_run": True, "order": {"id": 7, "lines": [{"sku": "a"}]}, "other": 1}) == (
        (Order(7, [Line("a")]), True),
        {},
    )


def test_a_function_without_parameters_runs_without_arguments() -> None:
    def work() -> None: ...

    assert bind(work, {"a": 1}) == ((), {})


def test_a_task_parameter_receives_the_whole_task() -> None:
    def alone(task: Task) -> None: ...
    def optional(task: Task | None) -> None: ...
    def marked(task: Annotated[Task, "the attempt"]) -> None: ...
    def among(x: int, whole: Task, *, y: str = "d") -> None: ...

    task = Task(task_id="t1", input_data={"x": 1, "task": "a trap", "whole": "another"})
    for function in (alone, optional, marked):
        assert Binder.compile(function).arguments(task) == ((task,), {})
    assert Binder.compile(among).arguments(task) == ((1, task), {"y": "d"})


def test_defect_16_async_function_with_a_task_parameter_receives_the_task() -> None:
    async def annotated(task: Task) -> None: ...
    async def bare(task) -> None: ...  # type: ignore[no-untyped-def]  # noqa: ANN001 - the case under test
    async def anything(payload: object) -> None: ...

    task = Task(task_id="t1")
    for function in (annotated, bare, anything):
        positional, keywords = Binder.compile(function).arguments(task)
        assert positional[0] is task
        assert keywords == {}


def test_a_lone_parameter_without_annotation_is_the_task_only_if_it_is_called_task() -> None:
    def whole(task): ...  # type: ignore[no-untyped-def]  # noqa: ANN001
    def order(order): ...  # type: ignore[no-untyped-def]  # noqa: ANN001
    def two(task, order): ...  # type: ignore[no-untyped-def]  # noqa: ANN001
    def anything(payload: Any) -> None: ...
    def objects(a: object, b: object) -> None: ...

    assert isinstance(bind(whole, {"task": 1})[0][0], Task)
    assert bind(order, {"order": {"x": 1}}) == (({"x": 1},), {})
    assert bind(two, {"task": 1, "order": [2]}) == ((1, [2]), {})
    assert bind(anything, {"payload": 5}) == ((5,), {})
    assert bind(objects, {"a": 1, "b": [2]}) == ((1, [2]), {})


def test_defaults_hold_and_positions_are_kept() -> None:
    def work(a: int, /, b: int = 2, c: int = 3, *, d: int = 4, e: int) -> tuple[int, ...]:
        return a, b, c, d, e

    assert bind(work, {"a": 1, "c": 30, "e": 5}) == ((1, 2, 30), {"d": 4, "e": 5})
    assert call(work, {"a": 1, "c": 30, "e": 5}) == (1, 2, 30, 4, 5)


def test_var_keywords_receive_what_is_left_converted() -> None:
    def work(a: int, **rest: Line) -> None: ...
    def raw(a: int, **rest): ...  # type: ignore[no-untyped-def]  # noqa: ANN003

    assert bind(work, {"a": 1, "x": {"sku": "s"}}) == ((1,), {"x": Line("s")})
    assert bind(raw, {"a": 1, "x": {"sku": "s"}, "kwargs": 2}) == ((1,), {"x": {"sku": "s"}, "kwargs": 2})
    assert refusal(work, {"a": 1, "x": {"sku": 5}}) == "x.sku: expected str, got int"


def test_var_keywords_never_collide_with_other_parameters() -> None:
    class Holder:
        def method(self, whole: Task, **rest: Any) -> dict[str, Any]:
            return rest

    def work(a: int, client: str, **rest: Any) -> dict[str, Any]:
        return {"a": a, "client": client, **rest}

    data = {"self": 1, "whole": 2, "rest": 3, "a": 4, "client": "from outside"}
    assert call(Holder().method, data) == {"rest": 3, "a": 4, "client": "from outside"}
    fixed = functools.partial(work, 40, client="inside")
    assert call(fixed, data) == {"self": 1, "whole": 2, "rest": 3, "a": 40, "client": "inside"}


def test_var_keywords_may_be_a_typed_dict() -> None:
    def work(a: int, **options: Unpack[Options]) -> None: ...

    assert bind(work, {"a": 1, "depth": 3, "other": 0}) == ((1,), {"depth": 3})
    assert refusal(work, {"a": 1, "depth": "x"}) == "depth: expected int, got str"


def test_var_positional_is_refused_with_the_fix() -> None:
    def work(*items: int) -> None: ...

    with pytest.raises(DeclarationError, match=r"'\*items'.*work.*'items: list\[\.\.\.\]'"):
        Binder.compile(work)


# --- kinds of callables


class Service:
    factor = 3

    def method(self, x: int) -> int:
        return x * self.factor

    @classmethod
    def of_class(cls, x: int) -> int:
        return x * cls.factor

    @staticmethod
    def static(x: int) -> int:
        return x

    def __call__(self, order: Order) -> int:
        return order.id


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def three(a: int, b: int, c: int = 3) -> tuple[int, int, int]:
    return a, b, c


@pytest.mark.parametrize(
    ("function", "data", "result"),
    [
        (Service().method, {"x": 2}, 6),
        (Service.of_class, {"x": 2}, 6),
        (Service.static, {"x": 2}, 2),
        (Service(), {"order": {"id": 9}}, 9),
        (functools.partial(three, 1), {"b": 2}, (1, 2, 3)),
        (functools.partial(three, c=30), {"a": 1, "b": 2}, (1, 2, 30)),
        (functools.partial(functools.partial(three, 1), 2), {}, (1, 2, 3)),
        (functools.partial(Service().method), {"x": 2}, 6),
        (decorated(three), {"a": 1, "b": 2}, (1, 2, 3)),
        (Line, {"sku": "a"}, Line("a")),
        (lambda x: x, {"x": 1}, 1),
    ],
)
def test_every_kind_of_callable(function: Callable[..., Any], data: dict[str, Any], result: Any) -> None:
    assert call(function, data) == result


def test_what_partial_fixes_the_input_cannot_change() -> None:
    def work(a: int, client: object) -> object:
        return client

    client = object()
    assert call(functools.partial(work, client=client), {"a": 1, "client": "from outside"}) is client


def test_a_partial_that_leaves_only_the_task() -> None:
    def work(task, client): ...  # type: ignore[no-untyped-def]  # noqa: ANN001

    positional, _ = bind(functools.partial(work, client=1))
    assert isinstance(positional[0], Task)


def test_a_builtin_without_signature_is_refused() -> None:
    with pytest.raises(DeclarationError, match="signature cannot be read"):
        Binder.compile(min)
    with contextlib.suppress(DeclarationError):  # newer Pythons know its signature: it must only come to an end
        Binder.compile(operator.itemgetter(1))


# --- what does not fit


def test_defect_15_missing_required_argument_is_an_error_never_none() -> None:
    def work(order: Order, note: str | None) -> None: ...

    assert refusal(work, {"note": "n", "x": 1}) == (
        "order: required, but the task's input has no such key (it has: note, x)"
    )
    assert refusal(work, {"order": {"id": 1}}) == (
        "note: required, but the task's input has no such key (it has: order)"
    )
    assert bind(work, {"order": {"id": 1}, "note": None}) == ((Order(1), None), {})
    assert refusal(work, {"order": None, "note": None}) == "order: expected Order, got null"
    assert refusal(work, {}).endswith("(it has: none)")


def test_parameter_whose_default_is_none_takes_null() -> None:
    def work(
        count: int = None,  # type: ignore[assignment]  # noqa: RUF013 - as in many a ported worker
        order: Order = None,  # type: ignore[assignment]
        *,
        limit: Annotated[int, msgspec.Meta(ge=1)] = None,  # type: ignore[assignment]  # noqa: RUF013
        size: int = 3,
    ) -> None: ...

    nulls = {"count": None, "order": None, "limit": None}
    assert bind(work, nulls) == ((None, None), {"limit": None, "size": 3})
    assert bind(work, nulls, strict=True) == ((None, None), {"limit": None, "size": 3})
    assert bind(work, {"count": 5, "order": {"id": 1}, "limit": 1}) == ((5, Order(1)), {"limit": 1, "size": 3})
    assert refusal(work, {"count": "x"}) == "count: expected int, got str"
    assert refusal(work, {"limit": 0}) == "limit: expected int >= 1"
    assert refusal(work, {"size": None}) == "size: expected int, got null"


def test_defect_15_missing_field_is_an_error_and_defaults_hold() -> None:
    def work(order: Order) -> None: ...

    assert bind(work, {"order": {"id": 1}})[0][0].lines == []
    assert refusal(work, {"order": {"lines": []}}) == (
        "order.id: required, but the object has no such key (it has: lines)"
    )


def test_errors_name_the_path_and_both_types() -> None:
    def work(order: Order, prices: dict[str, list[float]] | None = None) -> None: ...

    with pytest.raises(ConversionError) as caught:
        bind(work, {"order": {"id": 1, "lines": [{"sku": "a"}, {"sku": "b"}, {"sku": 3}]}})
    assert caught.value.path == "order.lines[2].sku"
    assert caught.value.problem == "expected str, got int"
    message = refusal(work, {"order": {"id": 1}, "prices": {"a b": [1, "x"]}})
    assert message == 'prices["a b"][1]: expected float, got str'


def test_limits_of_annotated_parameters_hold() -> None:
    def work(count: Annotated[int, msgspec.Meta(ge=1, le=9)] = 1) -> None: ...

    assert bind(work, {"count": 9}) == ((9,), {})
    assert refusal(work, {"count": 0}) == "count: expected int >= 1"


def test_strict_refuses_unknown_keys_at_every_depth() -> None:
    def work(order: Order) -> None: ...
    def reads_all(order: Order, task: Task) -> None: ...
    def takes_all(**rest: Any) -> None: ...

    data = {"order": {"id": 1}, "extra": 1}
    assert refusal(work, data, strict=True) == "extra: unknown key (the function has: order)"
    nested = {"order": {"id": 1, "lines": [{"sku": "a", "size": 3}]}}
    assert refusal(work, nested, strict=True) == "order.lines[0].size: unknown key (Line has: count, sku)"
    assert bind(work, data)[0] == (Order(1),)
    assert bind(reads_all, data, strict=True)[0][0] == Order(1)
    assert bind(takes_all, data, strict=True)[1] == data


def test_a_name_missing_at_run_time_is_named() -> None:
    def work(order: Missing) -> None: ...

    message = r"parameter 'order' of .*work: .*'Missing' is not defined.*TYPE_CHECKING"
    with pytest.raises(DeclarationError, match=message):
        Binder.compile(work)


def test_a_return_type_missing_at_run_time_does_no_harm() -> None:
    def work(order: Order) -> Missing: ...

    assert bind(work, {"order": {"id": 1}}) == ((Order(1),), {})


def test_a_type_that_no_json_becomes_is_refused_at_declaration() -> None:
    def callback(kind: type[int]) -> None: ...
    def threads(lock: functools.partial[int]) -> None: ...

    with pytest.raises(DeclarationError, match=r"parameter 'kind' .* no JSON value can become type"):
        Binder.compile(callback)
    with pytest.raises(DeclarationError, match=r"parameter 'lock' .* no JSON value can become functools.partial"):
        Binder.compile(threads)


def test_endless_nesting_is_a_conversion_error() -> None:
    def work(tree: Tree) -> None: ...

    data: dict[str, Any] = {}
    for _ in range(5000):
        data = {"child": data}
    assert refusal(work, {"tree": data}) == "tree: nested too deeply"


@dataclasses.dataclass
class Tree:
    child: Tree | None = None
