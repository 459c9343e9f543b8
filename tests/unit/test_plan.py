"""What a plan refuses before anything is started."""

from __future__ import annotations

from typing import Any

import pytest

import samples
from podium import DeclarationError, Worker
from podium.plan import Defaults, Surroundings, plan_crews

SURROUNDINGS = Surroundings(imports=[], log_levels={}, beat_interval=0)


def plan(default: Any, **options: Any) -> None:
    defaults = Defaults(isolation=default, group=None, processes=1, start_method="forkserver")
    plan_crews([Worker("w", samples.returns_none, **options)], defaults, SURROUNDINGS)


@pytest.mark.parametrize(("default", "own"), [("thread", None), ("thread", "thread"), ("process", "thread")])
def test_on_cancel_kill_is_refused_where_nothing_can_be_killed(default: str, own: str | None) -> None:
    with pytest.raises(DeclarationError) as caught:
        plan(default, isolation=own, on_cancel="kill")
    assert str(caught.value) == (
        "worker 'w': on_cancel='kill' needs isolation='process': its isolation is 'thread', and nothing can be killed "
        "in a thread of the program; use on_cancel='tell', and get_task_context().is_cancelled() in the function"
    )


@pytest.mark.parametrize(("default", "own"), [("process", None), ("process", "process"), ("thread", "process")])
def test_on_cancel_kill_goes_with_processes(default: str, own: str | None) -> None:
    plan(default, isolation=own, on_cancel="kill")
