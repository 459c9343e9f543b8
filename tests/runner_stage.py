"""A runner with everything around it, in virtual time, and a crew that does what the test says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest

import virtual_time
from engine_fakes import FakeClient, FakeCrew, Heard, task_json
from podium import Worker
from podium import runner as runner_module
from podium import trouble as trouble_module
from podium.delivery import Delivery
from podium.oversight import Oversight
from podium.runner import Runner

START = 1000.0


def function() -> None: ...


class Stage:
    """A runner and everything around it."""

    def __init__(self, client: FakeClient, slots: int, crew: FakeCrew, options: dict[str, Any]) -> None:
        self.client = client
        self.crew = crew
        self.heard = Heard()
        self.oversight = Oversight(client)
        self.leases = self.oversight.leases
        self.delivery = Delivery(client, self.heard, leases=self.leases)
        self.worker = Worker("type", function, **options)
        self.runner = Runner(
            self.worker, "me", slots, crew, 0,
            client=client, delivery=self.delivery, oversight=self.oversight, events=self.heard,
        )  # fmt: skip
        self.running = asyncio.create_task(self.runner.run())
        self._beating = asyncio.create_task(self.oversight.keep())
        self._delivering = asyncio.create_task(self.delivery.run())

    async def stop(self) -> None:
        """Stop as the engine does: no more polls, then wait for what is in hand."""
        self.runner.stop()
        await self.running
        while self.runner.works:
            await asyncio.wait(self.runner.works)
        self.delivery.hurry()
        await self.delivery.finish(5.0)
        await self._delivering
        self._beating.cancel()
        with suppress(asyncio.CancelledError):
            await self._beating

    @property
    def waits(self) -> list[float]:
        """Seconds between the polls, which take no time here."""
        return [later.at - earlier.at for earlier, later in pairwise(self.client.polls)]


Play = Callable[[Stage], Coroutine[Any, Any, None]]


class Theatre:
    """Where plays are shown, one after another."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = virtual_time.Clock()
        self.clock.now = START
        for module in (runner_module, trouble_module):
            monkeypatch.setattr(module, "time", self.clock)

    def show(
        self,
        play: Play,
        client: FakeClient | None = None,
        *,
        slots: int = 4,
        crew: FakeCrew | None = None,
        **options: Any,
    ) -> Stage:
        """Run a play while the runner runs, stop the runner, and return the stage with all its notes."""

        async def main() -> Stage:
            stage = Stage(client or FakeClient(), slots, crew or FakeCrew(slots), options)
            await play(stage)
            for task_id in stage.crew.running:
                stage.crew.finish(task_id)
            await stage.stop()
            return stage

        return virtual_time.run(main(), self.clock)


async def passing(seconds: float = 0.0) -> None:
    """Let virtual seconds pass; with 0, let everything happen that happens now."""
    await asyncio.sleep(seconds)
    for _ in range(50):
        await asyncio.sleep(0)


def seconds(count: float) -> Play:
    async def play(stage: Stage) -> None:
        await passing(count)

    return play


def tasks(*names: str, **fields: Any) -> list[bytes]:
    return [task_json(name, **fields) for name in names]


def jittered(*delays: float, jitter: float) -> list[Any]:
    return [pytest.approx(delay * (1 - jitter / 2), abs=delay * jitter / 2 + 1e-6) for delay in delays]


def given_back(stage: Stage) -> list[str]:
    return [update.body["taskId"] for update in stage.client.updates if update.body["status"] == "IN_PROGRESS"]


def ways(stage: Stage) -> list[tuple[str, str]]:
    return [(update.body["taskId"], update.way) for update in stage.client.updates]
