"""The annotations that users write, without ``from __future__ import annotations``: one row each.

These are the rows on which other worker SDKs fail every task or hand over a wrong value.
"""

import collections.abc
import dataclasses
import datetime as dt
import decimal
import enum
import subprocess
import sys
from typing import Any, Dict, List, Literal, Optional, Tuple, TypedDict, Union  # noqa: UP035 - spellings under test

import pydantic
import pytest

from podium.binding import Binder
from podium.errors import ConversionError
from podium.models import Task


@dataclasses.dataclass
class Item:
    sku: str
    count: int = 1
    tags: list[str] = dataclasses.field(default_factory=list)
    parent: "Item | None" = None


class Colour(enum.Enum):
    RED = "red"


class Movie(TypedDict):
    title: str


class Model(pydantic.BaseModel):
    x: int


class Plain:
    def __init__(self, name: str, size: int) -> None:
        self.name, self.size = name, size

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plain) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]


ITEM = {"sku": "a"}
ERROR = ConversionError

ROWS: list[tuple[Any, Any, Any]] = [
    # scalars are checked and converted, not passed through
    (int, "5", ERROR),
    (int, 5, 5),
    (str, "x", "x"),
    (float, 1, 1.0),
    (bool, 1, ERROR),
    (dt.date, "2024-01-02", dt.date(2024, 1, 2)),
    (dt.datetime, "2024-01-02T03:04:05", dt.datetime(2024, 1, 2, 3, 4, 5)),  # noqa: DTZ001 - read as it is
    (dict, {"a": 1}, {"a": 1}),
    (list, [1], [1]),
    (List, [1], [1]),  # noqa: UP006
    (set, [1], {1}),
    (List[int], [1], [1]),  # noqa: UP006
    (list[int], None, ERROR),
    (list[int], ["1"], ERROR),
    (List[Item], [ITEM], [Item("a")]),  # noqa: UP006
    (Dict[str, int], {"a": 1}, {"a": 1}),  # noqa: UP006
    (dict[str, Any], {"a": [1]}, {"a": [1]}),
    (Any, [1, "a"], [1, "a"]),
    (Optional[str], "x", "x"),  # noqa: UP045
    (str | None, 5, ERROR),
    (Optional[dict], {"a": 1}, {"a": 1}),  # noqa: UP045
    (Optional[list], [1], [1]),  # noqa: UP045
    (Optional[List[int]], [1], [1]),  # noqa: UP006, UP045
    (Optional[Dict[str, int]], {"a": 1}, {"a": 1}),  # noqa: UP006, UP045
    (Optional[Item], ITEM, Item("a")),  # noqa: UP045
    (Union[Item, str], ITEM, Item("a")),  # noqa: UP007
    (Union[Item, str], "x", "x"),  # noqa: UP007
    (Item, {"sku": "a", "parent": ITEM, "extra": 1}, Item("a", parent=Item("a"))),
    (Item, {"count": 3}, ERROR),
    (Item, {"sku": 5}, ERROR),
    (Item, "text", ERROR),
    (Plain, {"name": "n", "size": 1}, Plain("n", 1)),
    (Plain, {"name": "n"}, ERROR),
    (Colour, "red", Colour.RED),
    (Literal["a", "b"], "a", "a"),
    (Literal["a", "b"], "c", ERROR),
    (Movie, {"title": "t"}, {"title": "t"}),
    (decimal.Decimal, "1.5", decimal.Decimal("1.5")),
    (bytes, "YWJj", b"abc"),
    (bytes, "abc", ERROR),
    (Tuple[int, str], [1, "a"], (1, "a")),  # noqa: UP006
    (Model, {"x": 1}, Model(x=1)),
    (collections.abc.Sequence[Item], [ITEM], [Item("a")]),
]


@pytest.mark.parametrize(("annotation", "value", "expected"), ROWS, ids=[str(row[:2])[:60] for row in ROWS])
@pytest.mark.parametrize("asynchronous", [False, True], ids=["def", "async def"])
def test_defect_14_every_common_annotation_works(
    annotation: Any, value: Any, expected: Any, *, asynchronous: bool
) -> None:
    def work(first: int, argument: annotation) -> None: ...
    async def work_async(first: int, argument: annotation) -> None: ...

    binder = Binder.compile(work_async if asynchronous else work)
    task = Task(input_data={"first": 1, "argument": value})
    if expected is ERROR:
        with pytest.raises(ConversionError) as caught:
            binder.arguments(task)
        assert caught.value.path.startswith("argument")
        assert caught.value.problem
        return
    (_, result), keywords = binder.arguments(task)
    assert result == expected
    assert type(result) is type(expected)
    assert keywords == {}


def test_defect_14_unannotated_parameters_receive_the_value() -> None:
    def work(a, b):  # type: ignore[no-untyped-def]  # noqa: ANN001
        return a, b

    assert Binder.compile(work).arguments(Task(input_data={"a": 5, "b": {"c": 1}})) == ((5, {"c": 1}), {})


def test_pydantic_and_attrs_are_not_loaded_for_those_who_do_not_use_them() -> None:
    program = (
        "import sys, dataclasses, datetime\n"
        "from podium.binding import Binder\n"
        "from podium.convert import to_output\n"
        "from podium.models import Task\n"
        "@dataclasses.dataclass\n"
        "class Item:\n    day: datetime.date | str\n"
        "def work(item: Item, **rest: list[Item]): ...\n"
        "(item,), _ = Binder.compile(work).arguments(Task(input_data={'item': {'day': '2024-01-02'}}))\n"
        "to_output(item)\n"
        "assert not {'pydantic', 'attr', 'attrs', 'numpy'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
