"""D09: a long load with kills of children and of the whole program, and outages; nothing may be lost.

Settings of the long one: PODIUM_SOAK_TASKS (100000), PODIUM_SOAK_MINUTES (45), PODIUM_SOAK_SEED (drawn, and printed).
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from soak import Plan, Soak


def run(plan: Plan, folder: Path) -> None:
    soak = Soak(plan, folder)
    print(f"\nsoak: seed {plan.seed}")
    figures = soak.run()
    print(figures.table(plan))
    assert figures.lost == [], "\n".join(figures.lost[:20])
    assert figures.completed_twice == 0
    assert sum(figures.workflows.values()) == plan.tasks
    assert min(figures.child_kills, figures.parent_kills, figures.outages) > 0


def test_D09_short_load_with_kills_and_outages_loses_nothing(tmp_path: Path) -> None:
    plan = Plan(
        tasks=1500, seconds=25, child_kills_every=3, parent_kills_every=9, outages_every=8, outage_seconds=3,
        response_timeout=5, seed=1,
    )  # fmt: skip
    run(plan, tmp_path)


@pytest.mark.soak
@pytest.mark.timeout(3 * 3600)
def test_D09_long_load_with_kills_and_outages_loses_nothing(tmp_path: Path) -> None:
    seed = int(os.environ.get("PODIUM_SOAK_SEED") or random.randrange(1_000_000))
    plan = Plan(
        tasks=int(os.environ.get("PODIUM_SOAK_TASKS", "100000")),
        seconds=60 * float(os.environ.get("PODIUM_SOAK_MINUTES", "45")),
        child_kills_every=20, parent_kills_every=120, outages_every=300, outage_seconds=60, response_timeout=20,
        seed=seed,
    )  # fmt: skip
    run(plan, tmp_path)
