"""JSON lines, the level by environment, and failures that repeat."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podium import ConfigError, logs
from podium.logs import JsonFormatter, Repeats, configure_logging, hand_over

PODIUM = logging.getLogger("podium")
FORMATTER = JsonFormatter()


def record(message: object = "text", *args: object, **attached: Any) -> logging.LogRecord:
    made = logging.LogRecord("some.logger", logging.INFO, "file.py", 7, message, args, None)
    vars(made).update(attached)
    return made


def line_of(made: logging.LogRecord) -> dict[str, Any]:
    line = FORMATTER.format(made)
    assert line.isascii()
    assert line.isprintable()  # so it is one line, for every reader

    def no_constant(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    read: dict[str, Any] = json.loads(line, parse_constant=no_constant)
    json.dumps(read, ensure_ascii=False).encode()  # no half characters
    return read


# the line


def test_keys_of_a_line_and_their_order() -> None:
    made = record("%s!", "hello", attempt=0, task_id="t", order={"id": 1}, workflow_id="w", task_type="ship")
    made.created = datetime(2026, 1, 2, 3, 4, 5, 678_900, tzinfo=UTC).timestamp()
    assert list(line_of(made).items()) == [
        ("time", "2026-01-02T03:04:05.678Z"),
        ("level", "INFO"),
        ("logger", "some.logger"),
        ("message", "hello!"),
        ("task_id", "t"),
        ("workflow_id", "w"),
        ("task_type", "ship"),
        ("attempt", 0),
        ("process", os.getpid()),
        ("order", {"id": 1}),
    ]


def test_line_outside_a_task_has_no_task_fields() -> None:
    assert list(line_of(record())) == ["time", "level", "logger", "message", "process"]


def test_exception_and_stack_are_text() -> None:
    made = record("m")
    try:
        int("why")
    except ValueError as error:
        made.exc_info = (type(error), error, error.__traceback__)
    made.stack_info = "Stack:\n  here"
    line = line_of(made)
    assert line["exception"].startswith("Traceback (most recent call last):\n")
    assert line["exception"].endswith("'why'")
    assert line["stack"] == "Stack:\n  here"


def test_other_formatters_before_it_leave_no_trace() -> None:
    made = record("m")
    logging.Formatter("%(asctime)s %(message)s").format(made)
    assert list(line_of(made)) == ["time", "level", "logger", "message", "process"]


def test_attached_name_that_a_line_has_already_gets_a_prefix() -> None:
    line = line_of(record("m", level="high", time=5))
    assert (line["level"], line["extra_level"], line["extra_time"]) == ("INFO", "high", 5)


class _Mute:
    def __str__(self) -> str:
        raise RuntimeError("no words")


class _Changing(dict[str, int]):
    """As a dict that another thread changes meanwhile."""

    def items(self) -> Any:
        raise RuntimeError("dictionary changed size during iteration")


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        (Decimal("1.50"), "1.50"),
        (float("nan"), "nan"),
        ([1, float("inf")], "[1, inf]"),
        ({1: "a"}, {"1": "a"}),
        ({(1, 2): "a"}, "{(1, 2): 'a'}"),
        ([b"a"], ["b'a'"]),
        ({"inner": _Changing(a=1)}, "{'inner': {'a': 1}}"),
        (_Mute(), "<_Mute whose __str__ raised RuntimeError>"),
        ("bad \ud800", "bad \ufffd"),
        ("\ud83d\ude00 \U0001f600", "\U0001f600 \U0001f600"),
        (r"no escape: \ud800 \\ud800", r"no escape: \ud800 \\ud800"),
        ("two\nlines\r\x1b[31m\x85\u2028", "two\nlines\r\x1b[31m\x85\u2028"),
    ],
    ids=repr,
)
def test_any_value_is_json_or_text(value: object, seen: object) -> None:
    assert line_of(record("m", value=value))["value"] == seen


def test_arguments_that_do_not_fit_are_shown() -> None:
    assert line_of(record("%d", "x"))["message"].startswith("%d (its arguments ('x',) do not fit: TypeError")


@given(
    st.text(st.characters()),
    st.dictionaries(
        st.text(st.characters(), max_size=20).map("x_{}".format),
        st.recursive(
            st.none() | st.integers() | st.floats() | st.text(st.characters()) | st.binary(),
            lambda inner: st.lists(inner) | st.dictionaries(st.integers() | st.text(st.characters()), inner),
            max_leaves=10,
        ),
        max_size=5,
    ),
)
def test_any_record_is_one_line_of_json(message: str, attached: dict[str, Any]) -> None:
    line = line_of(record("%s", message, **attached))
    assert line["logger"] == "some.logger"
    if message.isascii():
        assert line["message"] == message


# the environment


@contextmanager
def bare() -> Iterator[None]:
    """A program that has not configured logging: pytest has, for its own purposes, anew for each phase of a test."""
    root = logging.getLogger()
    handlers, root.handlers = root.handlers, []
    try:
        yield
        assert (PODIUM.level, PODIUM.propagate, PODIUM.handlers) == (logging.NOTSET, True, [])
    finally:
        root.handlers = handlers


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


@pytest.mark.parametrize("environment", [{}, {"CONDUCTOR_LOG_FORMAT": "text"}, {"CONDUCTOR_LOG_LEVEL": " "}])
@bare()
def test_nothing_set_is_nothing_done(environment: dict[str, str]) -> None:
    undo = configure_logging(environment)
    assert (PODIUM.level, PODIUM.propagate, PODIUM.handlers) == (logging.NOTSET, True, [])
    undo()


@pytest.mark.parametrize(
    ("value", "level"), [("DEBUG", 10), ("info", 20), (" Warning ", 30), ("ERROR", 40), ("critical", 50), ("15", 15)]
)
@bare()
def test_level_is_that_of_podium_s_logger(value: str, level: int) -> None:
    undo = configure_logging({"CONDUCTOR_LOG_LEVEL": value})
    assert PODIUM.level == level
    assert logging.getLogger().level == logging.WARNING
    undo()


@pytest.mark.parametrize("value", ["LOUD", "0", "-1", "1.5", "99999", "getLogger", "10\n20"])
def test_unknown_level_is_refused_with_what_is_allowed(value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configure_logging({"CONDUCTOR_LOG_LEVEL": value})
    assert f"CONDUCTOR_LOG_LEVEL={value!r}: expected DEBUG, INFO, WARNING, ERROR, CRITICAL" in str(caught.value)


def test_unknown_format_is_refused_with_what_is_allowed() -> None:
    with pytest.raises(ConfigError, match="CONDUCTOR_LOG_FORMAT='xml': expected json or text"):
        configure_logging({"CONDUCTOR_LOG_FORMAT": "xml"})


@bare()
def test_level_without_any_handler_writes_text_until_the_application_has_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    undo = configure_logging({"CONDUCTOR_LOG_LEVEL": "INFO"})
    logging.getLogger("podium.x").info("once")
    (line,) = lines(capsys)
    assert line.endswith(" INFO podium.x: once")
    assert PODIUM.propagate
    late = logging.NullHandler()
    logging.getLogger().addHandler(late)
    logging.getLogger("podium.x").info("the application writes it now")
    assert lines(capsys) == []
    undo()


def test_defect_35_level_leaves_the_handlers_of_the_application_alone(caplog: pytest.LogCaptureFixture) -> None:
    handlers = logging.getLogger().handlers[:]
    undo = configure_logging({"CONDUCTOR_LOG_LEVEL": "DEBUG"})
    logging.getLogger("podium.x").debug("hello")
    logging.getLogger("elsewhere").debug("not of podium")
    assert caplog.messages == ["hello"]
    assert PODIUM.handlers == []
    undo()
    logging.getLogger("podium.x").debug("after the undo")
    assert caplog.messages == ["hello"]
    assert logging.getLogger().handlers == handlers


@bare()
def test_json_goes_to_standard_error_and_nowhere_else(capsys: pytest.CaptureFixture[str]) -> None:
    class Heard(logging.Handler):
        def emit(self, made: logging.LogRecord) -> None:
            raise AssertionError(made)

    logging.getLogger().addHandler(Heard())
    undo = configure_logging({"CONDUCTOR_LOG_FORMAT": "JSON", "CONDUCTOR_LOG_LEVEL": "info"})
    logging.getLogger("podium.x").info("hello\nworld")
    (line,) = lines(capsys)
    assert json.loads(line)["message"] == "hello\nworld"
    undo()


@bare()
def test_second_call_changes_nothing_and_the_last_undo_counts(capsys: pytest.CaptureFixture[str]) -> None:
    environment = {"CONDUCTOR_LOG_FORMAT": "json"}
    first, second = configure_logging(environment), configure_logging(environment)
    assert len(PODIUM.handlers) == 1
    first()
    first()
    logging.getLogger("podium.x").warning("still JSON")
    assert json.loads(lines(capsys)[0])["message"] == "still JSON"
    second()
    assert PODIUM.handlers == []


@bare()
def test_level_that_the_application_sets_later_is_kept() -> None:
    undo = configure_logging({"CONDUCTOR_LOG_LEVEL": "DEBUG"})
    PODIUM.setLevel(logging.ERROR)
    undo()
    assert PODIUM.level == logging.ERROR
    PODIUM.setLevel(logging.NOTSET)


# records of children


@bare()
def test_child_s_record_that_nobody_takes_is_podium_s_to_write(capsys: pytest.CaptureFixture[str]) -> None:
    target = logging.getLogger("some.logger")
    undo = configure_logging({"CONDUCTOR_LOG_FORMAT": "json"})
    hand_over(target, record("from a task", task_id="t"))
    (line,) = map(json.loads, lines(capsys))
    assert (line["message"], line["task_id"]) == ("from a task", "t")

    def refuse(_record: logging.LogRecord) -> bool:
        return False

    target.addFilter(refuse)
    hand_over(target, record("filtered"))
    target.removeFilter(refuse)
    assert lines(capsys) == []
    undo()


def test_child_s_record_that_the_application_takes_is_the_application_s(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    undo = configure_logging({"CONDUCTOR_LOG_FORMAT": "json"})
    hand_over(logging.getLogger("some.logger"), record("from a task"))
    assert caplog.messages == ["from a task"]
    assert lines(capsys) == []
    undo()


@bare()
def test_child_s_record_without_any_configuration_is_what_logging_makes_of_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = record("from a task")
    made.levelno = logging.WARNING
    hand_over(logging.getLogger("some.logger"), made)
    assert lines(capsys) == ["from a task"]


def test_defect_35_import_and_configuration_touch_no_logger_but_podium_s() -> None:
    code = """
import logging
def state():
    loggers = [l for n, l in logging.root.manager.loggerDict.items() if isinstance(l, logging.Logger) and n != "podium"]
    return [(l.name, l.level, l.propagate, l.handlers, l.filters) for l in [logging.root, *loggers] if l.level or
            l.handlers or l.filters or not l.propagate], logging.getLogRecordFactory(), logging.getLoggerClass()
before = state()
import podium.handler, podium.logs, podium.crew.thread
podium.logs.configure_logging({"CONDUCTOR_LOG_FORMAT": "json", "CONDUCTOR_LOG_LEVEL": "DEBUG"})
print(before == state(), all(name.partition(".")[0] == "podium" for name in logging.root.manager.loggerDict
      if name.startswith(("podium", "[", "conductor"))))
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["True", "True"]


# failures that repeat


def test_failure_is_told_once_and_then_with_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    repeats = Repeats()
    assert repeats.due("a") == ""
    assert [repeats.due("a") for _ in range(5)] == [None] * 5
    assert repeats.due("b") == ""
    now += logs.REPEAT_SECONDS
    assert repeats.due("a") == " (7 times in 60 s)"
    assert repeats.due("a") is None


def test_failures_without_end_fill_no_memory() -> None:
    repeats = Repeats()
    assert {repeats.due(str(number)) for number in range(10_000)} == {""}
    assert len(repeats._seen) <= 100
