"""An hour without work, in virtual time."""

from __future__ import annotations

import gc
import sys
from typing import Any

import pytest

from engine_fakes import FakeClient
from podium.backoff import STEP
from runner_stage import Stage, Theatre, passing

HOUR = 3600.0


class Forgetful(FakeClient):
    """Has no work, and takes no notes: its own lists must not be what grows."""

    count = 0

    async def poll_tasks(self, *_: Any, **__: Any) -> list[bytes]:
        self.count += 1
        return []


@pytest.fixture
def theatre(monkeypatch: pytest.MonkeyPatch) -> Theatre:
    return Theatre(monkeypatch)


@pytest.mark.parametrize("interval", [100, 1000])
def test_B26_hour_of_empty_polls_keeps_to_its_pace_and_grows_nothing(theatre: Theatre, interval: int) -> None:
    blocks: list[int] = []

    async def play(stage: Stage) -> None:
        stage.heard.events = _Nothing()
        for _ in range(7):
            await passing(HOUR / 6)
            gc.collect()
            blocks.append(sys.getallocatedblocks())

    client = Forgetful()
    theatre.show(play, client, poll_interval=interval)
    expected = 7 / 6 * HOUR / (interval / 1000)
    # A pause ends at a moment that idle workers share: up to a sixty-fourth of a second late.
    assert expected / (1 + STEP * 1000 / interval) <= client.count <= expected + 20
    # A block is 512 bytes at most, on average far less: 1,000 of them stay well below the megabyte.
    assert blocks[-1] - blocks[0] < 1000


class _Nothing(list[Any]):
    def append(self, _: Any) -> None:
        return
