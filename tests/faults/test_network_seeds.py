"""B14: a network that loses six of a hundred updates, by seeds. Three here, twenty in the soak."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import pytest

from bad_network import bad_network
from event_log import Kind
from task_server import Faults

TASKS = 1000
SLOTS = 20


class Run(NamedTuple):
    """What a run of a thousand tasks has cost."""

    seconds: float
    duplicates: int
    acks_lost: int
    faults: dict[str, int]
    #: Tasks in answers that were cut: nobody but the server can bring them back, after their response timeout.
    given_in_vain: int


def run(faults: Faults, seconds: float, **options: Any) -> Run:
    with bad_network(faults=faults, response_timeout=2, retries=5) as network:
        network.server.add("t", TASKS)
        with network.running(network.working(seconds), SLOTS, **options):
            begun = time.monotonic()
            network.server.wait_for_end(90)
            taken = time.monotonic() - begun
        statuses = network.server.statuses()
        in_vain = network.log.count(Kind.GIVEN_IN_VAIN)
        assert statuses == {"COMPLETED": TASKS} | ({"TIMED_OUT": in_vain} if in_vain else {})
        assert network.heard.update_failures == []
        assert network.log.count(Kind.STARTED) == TASKS  # none ran twice
        return Run(taken, network.server.duplicates, faults.counts["cut_after"], dict(faults.counts), in_vain)


def six_percent(seed: int) -> Faults:
    return Faults(errors=0.02, cut_before=0.02, cut_after=0.02, seed=seed)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_B14_thousand_tasks_on_a_network_that_loses_six_percent_of_the_updates(seed: int) -> None:
    bad = run(six_percent(seed), 0.0)
    assert all(count > 5 for count in bad.faults.values())
    assert bad.duplicates <= bad.acks_lost


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_B14_twenty_seeds_take_at_most_twice_the_time_of_a_good_network() -> None:
    good = run(Faults(), 0.1)
    print(f"\nB14: {TASKS} tasks of 0.1 s, {SLOTS} slots: {good.seconds:.1f} s without faults")
    ratios = []
    for seed in range(1, 21):
        bad = run(six_percent(seed), 0.1)
        ratios.append(bad.seconds / good.seconds)
        print(
            f"B14 seed {seed:2}: {bad.seconds:4.1f} s ({ratios[-1]:.2f} x), {bad.faults}, "
            f"{bad.duplicates} duplicates, {bad.given_in_vain} tasks in lost answers"
        )
        assert bad.duplicates <= bad.acks_lost
    assert max(ratios) <= 2
