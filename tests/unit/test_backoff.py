from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podium.backoff import STEP, Backoff, in_step


def test_doubles_up_to_the_cap() -> None:
    backoff = Backoff(2.0, 60.0)
    assert [backoff.delay(failures) for failures in range(8)] == [0, 2, 4, 8, 16, 32, 60, 60]


@pytest.mark.parametrize("failures", [0, -1, -1000])
def test_no_failure_no_delay(failures: int) -> None:
    assert Backoff(1.0, 10.0, jitter=0.5).delay(failures) == 0.0


def test_any_count_of_failures_is_the_cap() -> None:
    assert Backoff(0.001, 3600.0).delay(10**9) == 3600.0


def test_first_above_the_cap_is_the_cap() -> None:
    assert Backoff(5.0, 1.0).delay(1) == 1.0


@given(st.integers(1, 200), st.floats(0.0, 1.0))
def test_jitter_only_shortens_and_never_by_more_than_its_share(failures: int, jitter: float) -> None:
    full = Backoff(0.1, 10.0).delay(failures)
    delay = Backoff(0.1, 10.0, jitter=jitter).delay(failures)
    assert full * (1 - jitter) - 1e-9 <= delay <= full


def test_jitter_spreads() -> None:
    backoff = Backoff(1.0, 1.0, jitter=0.2)
    assert len({backoff.delay(1) for _ in range(20)}) > 1


@given(st.floats(0.0, 1e7), st.floats(0.0, 3600.0))
def test_a_pause_is_never_shorter_for_being_in_step_and_hardly_longer(now: float, pause: float) -> None:
    end = in_step(now, pause)
    assert now + pause <= end < now + pause + STEP
    assert pause < 0.1 or end % STEP == 0
