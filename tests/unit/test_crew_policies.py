"""Who is suspected of having ended a child, and what a child may use up."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from engine_fakes import task_json
from podium.crew import suspects as module
from podium.crew.recycling import JITTER, NEVER, Recycling
from podium.crew.suspects import Suspects
from podium.options import WorkerOptions
from podium.polled import PolledTask, read_task

if TYPE_CHECKING:
    import pytest


def attempt(task_id: str, flow: str = "w", reference: str = "r") -> PolledTask:
    return read_task(task_json(task_id, workflowInstanceId=flow, referenceTaskName=reference))


def test_all_attempts_of_a_task_are_one_suspect_and_other_tasks_are_none() -> None:
    suspects = Suspects()
    assert not suspects
    assert suspects.accuse(attempt("a")) == 1
    assert attempt("b") in suspects
    assert suspects.accuse(attempt("b")) == 2
    assert attempt("b", flow="other") not in suspects
    assert attempt("b", reference="other__2") not in suspects
    assert len(suspects) == 1


def test_attempt_without_a_reference_is_known_by_its_id() -> None:
    suspects = Suspects()
    suspects.accuse(attempt("a", reference=""))
    assert attempt("a", reference="") in suspects
    assert attempt("b", reference="") not in suspects


def test_acquitted_is_forgotten_and_pardoned_starts_anew() -> None:
    suspects = Suspects()
    for _ in range(3):
        suspects.accuse(attempt("a"))
    suspects.pardon(attempt("a"))
    assert attempt("a") in suspects
    assert suspects.accuse(attempt("a")) == 1
    suspects.acquit(attempt("a"))
    suspects.acquit(attempt("a"))
    assert not suspects


def test_memory_is_bounded_and_the_oldest_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SUSPECTS", 3)
    suspects = Suspects()
    for flow in "abca":
        suspects.accuse(attempt("t", flow=flow))
    suspects.accuse(attempt("t", flow="d"))
    assert [flow for flow in "abcd" if attempt("t", flow=flow) in suspects] == ["a", "c", "d"]


def test_suspicion_grows_old() -> None:
    now = 0.0
    suspects = Suspects(lambda: now)
    suspects.accuse(attempt("t", flow="a"))
    now = module.MOST_SECONDS - 1
    suspects.accuse(attempt("t", flow="b"))
    now += 2
    suspects.accuse(attempt("t", flow="c"))
    assert [flow for flow in "abc" if attempt("t", flow=flow) in suspects] == ["b", "c"]


def test_strictest_limit_of_a_group_counts_each_by_itself() -> None:
    options = [
        WorkerOptions(max_tasks=5, max_age_seconds=1.5),
        WorkerOptions(max_tasks=3, max_rss_mb=100, max_age_seconds=9),
        WorkerOptions(),
    ]
    assert Recycling.strictest(options) == Recycling(max_tasks=3, max_rss_mb=100, max_age_seconds=1.5)
    assert Recycling.strictest([WorkerOptions()]) == NEVER


def test_child_without_limits_may_use_up_anything() -> None:
    allowance = NEVER.allowance(alone=False)
    assert (allowance.tasks, allowance.memory, allowance.age) == (sys.maxsize, sys.maxsize, None)


def test_limits_are_exact_or_spread_a_little_below() -> None:
    recycling = Recycling(max_tasks=1000, max_rss_mb=2, max_age_seconds=100)
    alone = [recycling.allowance(alone=True) for _ in range(50)]
    assert {each.tasks for each in alone} == {1000}
    among = [recycling.allowance(alone=False) for _ in range(50)]
    for values, limit in (
        ([each.tasks for each in among], 1000),
        ([each.age or 0 for each in alone], 100),
        ([each.age or 0 for each in among], 100),
    ):
        assert len(set(values)) > 5
        assert limit * (1 - JITTER) <= min(values) <= max(values) <= limit
    assert {each.memory for each in [*alone, *among]} == {2 * 1024 * 1024}
    assert Recycling(max_tasks=1).allowance(alone=False).tasks == 1


def test_reasons_name_the_limit() -> None:
    allowance = Recycling(max_tasks=7, max_rss_mb=2, max_age_seconds=60).allowance(alone=True)
    assert allowance.tasks_used() == "it has run 7 tasks (max_tasks=7)"
    assert allowance.memory_used(3_500_000) == "it has 3 MB of memory resident (max_rss_mb=2)"
    assert allowance.age_used().endswith(" s old (max_age_seconds=60)")
