"""A small JSONPath: the part of the language that ``${...}`` expressions of workflows use.

    a.b   a['b.c']   a['b','c']   a[1]   a[-1]   a[0,2]   a[1:3]   a[*]   a.*   a..b   a.length()
    a[?(@.x > 1 && @.y in ['p', 'q'])]   a[?(@.name =~ /x.*/i)]

A path of names, single indexes and functions is definite: it gives the value, or None if there is none. All others
give the list of what they found.
"""

from __future__ import annotations

import operator
import re
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec

Step = Callable[[Any], Iterator[Any]]

_NAME = re.compile(r"[^.\[\]()\s'\"?*@,]+")
_QUOTED = re.compile(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"")
_INTEGER = re.compile(r"-?\d+")
_SLICE = re.compile(r"(-?\d*):(-?\d*)")
_COMPARE = re.compile(r"\s*(==|!=|<=|>=|=~|<|>|in\b|nin\b)\s*")
_LITERAL = re.compile(r"[^\s)\]&|=!<>,]+")
_REGEX = re.compile(r"/((?:[^/\\]|\\.)*)/(i?)")


class PathError(ValueError):
    """The text is not a path of this language."""


@dataclass(frozen=True)
class Path:
    """A compiled path: the name it starts from, the steps from there."""

    root: str
    steps: tuple[Step, ...]
    definite: bool

    def find(self, value: Any) -> Any:
        """Return what the path finds in ``value``, the value of its root."""
        found = [value]
        for step in self.steps:
            found = [result for item in found for result in step(item)]
        if not self.definite:
            return found
        return found[0] if found else None


@lru_cache(maxsize=4096)
def compile_path(text: str) -> Path:
    """Return the compiled path. Raises PathError."""
    start = _NAME.match(text)
    if start is None:
        raise PathError(text)
    steps, definite = _steps(text, start.end(), len(text))
    return Path(start.group(), steps, definite)


def _steps(text: str, at: int, end: int) -> tuple[tuple[Step, ...], bool]:
    steps: list[Step] = []
    definite = True
    while at < end:
        if text.startswith("..", at):
            at, definite = at + 2, False
            steps.append(_descend)
            if not text.startswith("[", at):
                at -= 1  # a name follows: read it as ".name"
                continue
        if text.startswith(".*", at):
            at, definite = at + 2, False
            steps.append(_each)
        elif text[at] == ".":
            name = _NAME.match(text, at + 1, end)
            if name is None:
                raise PathError(text)
            at = name.end()
            if text.startswith("()", at):
                at += 2
                steps.append(_function(name.group()))
            else:
                steps.append(_member(name.group()))
        elif text[at] == "[":
            step, single, at = _bracket(text, at + 1)
            definite = definite and single
            steps.append(step)
        else:
            raise PathError(text)
    return tuple(steps), definite


def _bracket(text: str, at: int) -> tuple[Step, bool, int]:
    """Return the step inside brackets, whether it gives at most one value, and the end of the brackets."""
    if text.startswith("?(", at):
        test, at = _Filter(text, at + 2).read()
        return (lambda value: (item for item in _each(value) if test(item))), False, _after(text, at, ")]")
    if text.startswith("*", at):
        return _each, False, _after(text, at + 1, "]")
    piece = _SLICE.match(text, at)
    if piece:
        low, high = (int(bound) if bound else None for bound in piece.groups())
        return (
            (lambda value: iter(value[low:high] if isinstance(value, list) else ())),
            False,
            _after(text, piece.end(), "]"),
        )
    names, end = _names(text, at)
    if len(names) > 1:
        return _members(names), True, end
    choices: list[Step] = []
    while True:
        step, at = _choice(text, at)
        choices.append(step)
        if not text.startswith(",", at):
            break
        at += 1
    at = _after(text, at, "]")
    if len(choices) == 1:
        return choices[0], True, at
    return (lambda value: (found for choice in choices for found in choice(value))), False, at


def _names(text: str, at: int) -> tuple[list[str], int]:
    """Return the quoted names that fill the brackets, and the end of the brackets; no names if it is otherwise."""
    names: list[str] = []
    while quoted := _QUOTED.match(text, _skip_blanks(text, at)):
        names.append(_unquoted(quoted))
        at = _skip_blanks(text, quoted.end())
        if text.startswith("]", at):
            return names, at + 1
        if not text.startswith(",", at):
            break
        at += 1
    return [], at


def _choice(text: str, at: int) -> tuple[Step, int]:
    at = _skip_blanks(text, at)
    quoted = _QUOTED.match(text, at)
    if quoted:
        return _member(_unquoted(quoted)), _skip_blanks(text, quoted.end())
    index = _INTEGER.match(text, at)
    if index:
        return _item(int(index.group())), _skip_blanks(text, index.end())
    raise PathError(text)


def _after(text: str, at: int, expected: str) -> int:
    for char in expected:
        at = _skip_blanks(text, at)
        if not text.startswith(char, at):
            raise PathError(text)
        at += 1
    return at


def _skip_blanks(text: str, at: int) -> int:
    while text.startswith(" ", at):
        at += 1
    return at


def _unquoted(match: re.Match[str]) -> str:
    return re.sub(r"\\(.)", r"\1", match.group(1) if match.group(1) is not None else match.group(2))


def _member(name: str) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, dict) and name in value:
            yield value[name]

    return step


def _members(names: list[str]) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, dict):
            yield {name: value[name] for name in names if name in value}

    return step


_FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "length": len,
    "size": len,
    "keys": lambda value: list(value.keys()),
    "first": lambda value: value[0],
    "last": lambda value: value[-1],
    "min": lambda value: float(min(value)),
    "max": lambda value: float(max(value)),
    "sum": lambda value: float(sum(value)),
    "avg": lambda value: sum(value) / len(value),
    "stddev": statistics.pstdev,
}


def _function(name: str) -> Step:
    function = _FUNCTIONS.get(name)
    if function is None:
        raise PathError(f"{name}()")

    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, (list, dict)):
            try:
                yield function(value)
            except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError):
                return  # not a function of such a value: nothing found

    return step


def _item(index: int) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, list) and -len(value) <= index < len(value):
            yield value[index]

    return step


def _each(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _descend(value: Any) -> Iterator[Any]:
    yield value
    for inner in _each(value):
        yield from _descend(inner)


_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "in": lambda left, right: left in right,
    "nin": lambda left, right: left not in right,
    "=~": lambda left, right: isinstance(left, str) and right.fullmatch(left),
}

_MISSING = object()
Test = Callable[[Any], bool]
Operand = Callable[[Any], Any]


class _Filter:
    """Reads the condition of ``[?(...)]``: comparisons and paths from ``@``, joined by && and ||, with ! and ()."""

    def __init__(self, text: str, at: int) -> None:
        self._text = text
        self._at = at

    def read(self) -> tuple[Test, int]:
        """Return the condition and the position behind it."""
        return self._any(), self._at

    def _any(self) -> Test:
        tests = [self._all()]
        while self._take("||"):
            tests.append(self._all())
        return lambda item: any(test(item) for test in tests)

    def _all(self) -> Test:
        tests = [self._one()]
        while self._take("&&"):
            tests.append(self._one())
        return lambda item: all(test(item) for test in tests)

    def _one(self) -> Test:
        if self._take("!"):
            test = self._one()
            return lambda item: not test(item)
        if self._take("("):
            test = self._any()
            self._at = _after(self._text, self._at, ")")
            return test
        left = self._operand()
        compare = _COMPARE.match(self._text, self._at)
        if compare is None:
            return lambda item: left(item) is not _MISSING
        self._at = compare.end()
        right, relation = self._operand(), _OPERATORS[compare.group(1)]
        return lambda item: _holds(relation, left(item), right(item))

    def _operand(self) -> Operand:
        self._at = _skip_blanks(self._text, self._at)
        if self._take("@"):
            end = self._at
            while end < len(self._text) and self._text[end] not in " =!<>&|),":
                end += 1
            steps, _ = _steps(self._text, self._at, end)
            self._at = end
            return lambda item: _first(steps, item)
        quoted = _QUOTED.match(self._text, self._at)
        if quoted:
            self._at = quoted.end()
            text = _unquoted(quoted)
            return lambda _item: text
        if self._take("["):
            return self._list()
        pattern = _REGEX.match(self._text, self._at)
        if pattern:
            self._at = pattern.end()
            return self._regex(*pattern.groups())
        literal = _LITERAL.match(self._text, self._at)
        try:
            value = msgspec.json.decode(literal.group() if literal else "")
        except msgspec.DecodeError:
            raise PathError(self._text) from None
        assert literal is not None
        self._at = literal.end()
        return lambda _item: value

    def _list(self) -> Operand:
        items: list[Operand] = []
        while not self._take("]"):
            items.append(self._operand())
            if not self._take(","):
                self._at = _after(self._text, self._at, "]")
                break
        return lambda item: [inner(item) for inner in items]

    def _regex(self, source: str, flags: str) -> Operand:
        try:
            pattern = re.compile(source, re.IGNORECASE if flags else 0)
        except re.error:
            raise PathError(self._text) from None
        return lambda _item: pattern

    def _take(self, token: str) -> bool:
        self._at = _skip_blanks(self._text, self._at)
        if not self._text.startswith(token, self._at):
            return False
        self._at += len(token)
        return True


def _first(steps: tuple[Step, ...], item: Any) -> Any:
    found = [item]
    for step in steps:
        found = [result for value in found for result in step(value)]
    return found[0] if found else _MISSING


def _holds(relation: Callable[[Any, Any], Any], left: Any, right: Any) -> bool:
    try:
        return bool(relation(left, right))
    except (TypeError, AttributeError):  # values of different kinds have no order
        return False
