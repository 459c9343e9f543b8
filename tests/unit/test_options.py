from __future__ import annotations

import dataclasses
import inspect
import math
from typing import Any

import pytest
from msgspec import UNSET, UnsetType

from podium import DeclarationError, TaskDef, TaskHandler
from podium.options import ALIASES, MAX_POLL_TIMEOUT_MS, OPTION_NAMES, WorkerOptions, make_options

Seconds = int | UnsetType

ENDLESS: dict[str, Any] = {}
ENDLESS["again"] = ENDLESS


def refusal(**given: Any) -> str:
    with pytest.raises(DeclarationError) as caught:
        make_options("worker 'w'", given)
    text = str(caught.value)
    assert text.startswith("worker 'w': ")
    return text


def test_defaults() -> None:
    assert dataclasses.asdict(make_options("w", {})) == {
        "poll_interval": 100, "domain": None, "worker_id": None, "thread_count": 1,
        "register_task_def": False, "poll_timeout": 100, "lease_extend_enabled": False, "max_lease_seconds": None,
        "timeout_seconds": None, "on_cancel": "tell", "task_def": None,
        "overwrite_task_def": True, "strict_schema": False, "register_schema": None, "paused": False,
        "isolation": None, "group": None, "processes": None, "max_crashes": 3, "max_tasks": None,
        "max_rss_mb": None, "max_age_seconds": None,
    }  # fmt: skip


def test_options_are_frozen_and_described() -> None:
    options = WorkerOptions()
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.domain = "d"  # type: ignore[misc]
    assert all(option.metadata["doc"] for option in dataclasses.fields(WorkerOptions))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("poll_interval", [0, 0.5, 100, 3_600_000]),
        ("domain", ["d", "a b", None]),
        ("worker_id", ["host-1", None]),
        ("thread_count", [1, 10_000]),
        ("poll_timeout", [0, MAX_POLL_TIMEOUT_MS]),
        ("task_def", [TaskDef(), TaskDef(retry_count=3, input_template={"a": [1]}), None]),
        ("isolation", ["process", "thread", None]),
        ("max_lease_seconds", [1, 1.5, 3_600_000, None]),
        ("timeout_seconds", [0, 0.5, 3_600_000, None]),
        ("on_cancel", ["tell", "kill"]),
        ("group", ["g", None]),
        ("processes", [1, 8, None]),
        ("register_schema", [True, False, None]),
        *((name, [True, False]) for name in OPTION_NAMES if isinstance(getattr(WorkerOptions(), name), bool)),
    ],
)
def test_allowed_values(name: str, values: list[Any]) -> None:
    for value in values:
        assert getattr(make_options("w", {name: value}), name) == value


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("poll_interval", [-1, "100", None, True, math.nan, math.inf, 10**400], "a number from 0 to 2147483647"),
        ("domain", ["", 3, "a\nb", b"d"], "a non-empty text without control characters"),
        ("worker_id", ["", 3, "a\0b"], "a non-empty text without control characters"),
        ("thread_count", [0, -1, 1.5, "4", None, True], "a whole number from 1 to 2147483647"),
        ("poll_timeout", [-1, MAX_POLL_TIMEOUT_MS + 1, 0.5, "100", None], "a whole number from 0 to 5000"),
        ("task_def", ["name", {"name": "x"}], "a TaskDef"),
        ("task_def", [TaskDef(retry_count="3")], "`$.retryCount`"),  # type: ignore[arg-type]
        ("task_def", [TaskDef(input_template={"a": object()})], "values of its fields' types"),
        ("task_def", [TaskDef(input_template=ENDLESS)], "values of its fields' types"),
        ("isolation", ["Thread", "", 1, ["thread"]], "'process' or 'thread'"),
        ("group", ["", 0], "a non-empty text without control characters"),
        ("processes", [0, 2.0, "2", True], "a whole number from 1 to 2147483647"),
        *(
            (name, [0, 1, "true", None], "True or False")
            for name in OPTION_NAMES
            if isinstance(getattr(WorkerOptions(), name), bool)
        ),
    ],
)
def test_refused_values_are_named_with_what_is_expected(name: str, values: list[Any], expected: str) -> None:
    for value in values:
        text = refusal(**{name: value})
        assert f"{name}={value!r}: expected" in text
        assert expected in text


def test_defect_34_thread_count_of_zero_is_refused() -> None:
    assert "thread_count=0" in refusal(thread_count=0)
    assert "thread_count=0" in refusal(concurrency=0)


@pytest.mark.parametrize(("alias", "name"), ALIASES.items())
def test_alias_sets_the_option(alias: str, name: str) -> None:
    value = TaskDef(retry_count=1) if name == "task_def" else 7
    assert getattr(make_options("w", {alias: value}), name) == value


def test_option_and_its_alias_together_are_refused() -> None:
    assert "thread_count is given twice, once as 'concurrency'" in refusal(thread_count=2, concurrency=3)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("thread_counts", "thread_count"), ("concurency", "concurrency"), ("poll_time", "poll_timeout")],
)
def test_unknown_option_names_the_nearest(wrong: str, right: str) -> None:
    assert f"unknown option {wrong!r}; did you mean {right!r}?" in refusal(**{wrong: 1})


def test_unknown_option_of_the_handler_says_where_it_belongs() -> None:
    for name in inspect.signature(TaskHandler).parameters.keys() - set(OPTION_NAMES) - NOT_LIKE_AN_OPTION:
        assert f"unknown option {name!r}; it is an option of TaskHandler" in refusal(**{name: 1})


#: Nobody would look for these at a worker.
NOT_LIKE_AN_OPTION = {"workers", "configuration", "metrics_settings", "scan_for_annotated_workers"}


@pytest.mark.parametrize("timeouts", [(10, 10), (10, 5), (0, 20), (10, UNSET), (UNSET, 20), (UNSET, UNSET)])
def test_timeouts_of_a_definition_that_the_server_takes(timeouts: tuple[Seconds, Seconds]) -> None:
    assert make_options("w", {"task_def": definition(*timeouts)}).task_def == definition(*timeouts)


def test_response_timeout_above_the_timeout_is_refused() -> None:
    text = refusal(task_def=definition(10, 20))
    assert "expected response_timeout_seconds (20) of at most timeout_seconds (10)" in text


def definition(whole: Seconds, silence: Seconds) -> TaskDef:
    return TaskDef(timeout_seconds=whole, response_timeout_seconds=silence)


def test_unknown_option_far_from_all_lists_them() -> None:
    text = refusal(zzz=1)
    assert all(name in text for name in OPTION_NAMES)
