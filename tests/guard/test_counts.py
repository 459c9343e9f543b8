"""A guard without a clock: what podium does for a task is counted, and must not become more.

Counts do not depend on how fast or how busy the machine is, so a regression shows where times would drown it.
"""

from __future__ import annotations

import functools

import pytest

from guard import counts
from guard.counts import COUNTERS, KINDS, PYTHON, SYSTEM_CALLS, Budgets, budget_for

can_trace = functools.cache(counts.can_trace)


@pytest.mark.parametrize("counter", COUNTERS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_task_costs_no_more_than_its_budget(kind: str, counter: str) -> None:
    if counter == SYSTEM_CALLS and not can_trace():
        pytest.skip("system calls are not counted: there is no strace, or it may not trace")
    problems = compared(kind, counter)
    if problems:  # who is held up for long sees several tasks at once, or looks once more for nothing
        problems = compared(kind, counter)
    assert not problems, f"{kind}: {'; '.join(problems)}. If it is meant to be so: make guard-budgets"


def compared(kind: str, counter: str) -> list[str]:
    budgets, counted = Budgets(), counts.measure(kind, counter)
    problems = [budgets.problem(kind, what, number) for what, number in counted.items()]
    return [problem for problem in problems if problem is not None]


def test_budgets_leave_some_room_and_no_more() -> None:
    assert budget_for("Python calls", 100.0) == 118.0
    assert budget_for("asyncio tasks", 0.02) == 0.07
    assert budget_for("waits of threads", 2.0) == 3.0
    assert budget_for("requests", 1.0) == 1.02
    assert all(table["requests"] == 1.02 for table in Budgets().kinds.values())


def test_counts_are_held_against_their_budgets() -> None:
    budgets = Budgets()
    budgets.python = PYTHON
    budgets.kinds["odd"] = {"Python calls": 100.0, "waits of threads": 3.0}

    def fits(what: str, number: float) -> bool:
        return budgets.problem("odd", what, number) is None

    assert [fits("Python calls", number) for number in (49, 50, 100, 101)] == [False, True, True, False]
    assert [fits("waits of threads", number) for number in (0, 3, 4)] == [True, True, False]
    assert [fits("never seen before", number) for number in (0.01, 1)] == [True, False]
    budgets.python = "2.7"
    assert [fits(what, 101) for what in ("waits of threads", "Python calls")] == [True, False]
