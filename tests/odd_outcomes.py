"""What functions may do that no protocol foresees: everything raised, everything returned. One function each kind."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import decimal
import enum
import pathlib
import threading
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Item:
    sku: str
    colour: Colour


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Odd(NamedTuple):
    """One outcome: what the function does, and the status and the words, or the output, that must come of it."""

    act: Callable[[], Any]
    status: str
    #: A part of the reason of a failure, or the whole output.
    expected: Any


def _raising(error: Callable[[], BaseException]) -> Callable[[], Any]:
    def act() -> Any:
        raise error()

    return act


def _cycle() -> Any:
    loop: dict[str, Any] = {}
    loop["again"] = loop
    return loop


def _deep() -> Any:
    value: Any = 1
    for _ in range(3000):
        value = [value]
    return {"deep": value}


def _recursion() -> Any:
    return _recursion()


def _failed(act: Callable[[], Any], words: str) -> Odd:
    return Odd(act, "FAILED", words)


def _done(value: Callable[[], Any], output: dict[str, Any]) -> Odd:
    return Odd(value, "COMPLETED", output)


RAISED = {
    "exception": _failed(_raising(lambda: ValueError("no luck")), "ValueError: no luck"),
    "no message": _failed(_raising(KeyError), "KeyError"),
    "dict argument": _failed(_raising(lambda: RuntimeError({"a": 1})), "RuntimeError: {'a': 1}"),
    "bytes argument": _failed(_raising(lambda: RuntimeError(b"\xff")), "RuntimeError: b'\\xff'"),
    "1 MB of text": _failed(_raising(lambda: ValueError("x" * 1_000_000)), "ValueError: xxx"),
    "surrogate": _failed(_raising(lambda: ValueError("bad \ud800")), "ValueError: bad \\ud800"),
    "NUL": _failed(_raising(lambda: ValueError("bad \0 text")), "ValueError: bad "),
    "mute": _failed(_raising(MuteError), "MuteError"),
    "group": _failed(_raising(lambda: ExceptionGroup("several", [ValueError("a")])), "ExceptionGroup: several"),
    "BaseException": _failed(_raising(lambda: BaseException("base")), "BaseException: base"),
    "SystemExit(0)": _failed(_raising(lambda: SystemExit(0)), "SystemExit: 0"),
    "SystemExit(3)": _failed(_raising(lambda: SystemExit(3)), "SystemExit: 3"),
    "KeyboardInterrupt": _failed(_raising(KeyboardInterrupt), "KeyboardInterrupt"),
    "GeneratorExit": _failed(_raising(GeneratorExit), "GeneratorExit"),
    "CancelledError": _failed(_raising(asyncio.CancelledError), "CancelledError"),
    "StopIteration": _failed(_raising(StopIteration), ""),  # a coroutine cannot raise it: Python makes it another
    "StopAsyncIteration": _failed(_raising(StopAsyncIteration), ""),
    "MemoryError": _failed(_raising(MemoryError), "MemoryError"),
    "recursion": _failed(_recursion, "RecursionError"),
}

RETURNED = {
    "NaN": _failed(lambda: {"n": float("nan")}, "result.n"),
    "Infinity": _failed(lambda: {"items": [{"n": float("inf")}]}, "result.items[0].n"),
    "-Infinity": _failed(lambda: {"n": float("-inf")}, "result.n"),
    "cycle": _failed(_cycle, "result"),
    "3000 deep": _failed(_deep, "result"),
    "tuple key": _failed(lambda: {"a": {(1, 2): 3}}, "result.a"),
    "object": _failed(lambda: {"o": object()}, "result.o: a value of type object"),
    "lock": _failed(lambda: {"l": threading.Lock()}, "result.l: a value of type"),
    "generator": _failed(lambda: {"g": (number for number in (1, 2))}, "result.g: a value of type generator"),
    "half a character": _failed(lambda: {"t": "a\ud800"}, "result.t"),
    "int key": _done(lambda: {1: "a"}, {"1": "a"}),
    "set": _done(lambda: {"s": {1}}, {"s": [1]}),
    "bytes": _done(lambda: {"b": b"\xff\x00"}, {"b": "/wA="}),
    "NUL in text": _done(lambda: {"t": "a\0b"}, {"t": "a\0b"}),
    "line separators": _done(lambda: {"t": "\u2028\ufeff\U0001f600"}, {"t": "\u2028\ufeff\U0001f600"}),
    "Decimal": _done(lambda: {"d": decimal.Decimal("1.10")}, {"d": "1.10"}),
    "date": _done(lambda: {"d": dt.date(2024, 2, 29)}, {"d": "2024-02-29"}),
    "datetime": _done(lambda: {"d": dt.datetime(2024, 2, 29, 1, 2, tzinfo=dt.UTC)}, {"d": "2024-02-29T01:02:00+00:00"}),
    "enum": _done(lambda: {"e": Colour.RED}, {"e": "red"}),
    "dataclass": _done(lambda: Item("x", Colour.RED), {"sku": "x", "colour": "red"}),
    "path": _done(lambda: {"p": pathlib.PurePosixPath("a/b")}, {"p": "a/b"}),
    "UUID": _done(lambda: {"u": uuid.UUID(int=1)}, {"u": "00000000-0000-0000-0000-000000000001"}),
    "tuple": _done(lambda: (1, "a"), {"result": [1, "a"]}),
    "nothing": _done(lambda: None, {"result": None}),
}

ALL = RAISED | RETURNED


def odd(name: str) -> Any:
    """Do what the name says."""
    return ALL[name].act()


async def odd_async(name: str) -> Any:
    """The same in a coroutine."""
    await asyncio.sleep(0)
    return ALL[name].act()
