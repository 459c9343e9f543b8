"""What the engine does for each task of a backlog, counted rather than timed: it has to stay little."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import podium
import virtual_time
from engine_fakes import FakeClient, FakeCrew, task_json
from podium import MetricsCollector, Worker
from podium.delivery import Delivery
from podium.events import HANDLERS, EventDispatcher
from podium.instruments import Instruments
from podium.oversight import Oversight
from podium.runner import Runner

SOURCE = str(Path(podium.__file__).parent)
WARM_UP, TASKS, SLOTS = 100, 1000, 10


class Backlog(FakeClient):
    """Has so many tasks, takes no notes, and answers an update in the next turn of the loop."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.left = iter([task_json(f"t{number}", responseTimeoutSeconds=60) for number in range(count)])
        self.taken = 0
        self.wanted = 0
        self.reached = asyncio.Event()

    async def poll_tasks(self, *_: Any, count: int = 1, **__: Any) -> list[bytes]:
        await asyncio.sleep(0)
        return [raw for _, raw in zip(range(count), self.left, strict=False)]

    async def post_result_v2(self, body: bytes) -> bytes | None:
        await asyncio.sleep(0)
        self.taken += 1
        if self.taken == self.wanted:
            self.reached.set()
        return next(self.left, None)

    async def until(self, taken: int) -> None:
        self.reached.clear()
        self.wanted = taken
        await self.reached.wait()


class Counted:
    """Counts calls of podium's functions, timers and asyncio tasks; a coroutine that goes on counts as a call."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.counts: Counter[str] = Counter()
        self.on = False
        for name in ("call_at", "create_task"):
            self._count(monkeypatch, asyncio.BaseEventLoop, name)
        for kind in HANDLERS.values():
            self._count(monkeypatch, kind, "__init__")

    def _count(self, monkeypatch: pytest.MonkeyPatch, owner: type[Any], name: str) -> None:
        original = getattr(owner, name)

        def counting(*arguments: Any, **more: Any) -> Any:
            self.counts[name] += self.on
            return original(*arguments, **more)

        monkeypatch.setattr(owner, name, counting)

    def per_task(self, name: str) -> float:
        return self.counts[name] / TASKS

    def _on_event(self, frame: Any, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(SOURCE):
            self.counts["calls"] += 1

    def start(self) -> None:
        self.on = True
        sys.setprofile(self._on_event)

    def stop(self) -> None:
        sys.setprofile(None)
        self.on = False


async def work_off(counted: Counted, listeners: list[object], **options: Any) -> None:
    client = Backlog(WARM_UP + TASKS + 10 * SLOTS)
    instruments = Instruments(None, listeners)
    events = EventDispatcher(instruments.listeners)
    oversight = Oversight(client)
    delivery = Delivery(client, events, leases=oversight.leases, watch=instruments)
    runner = Runner(
        Worker("type", lambda: None, **options), "me", SLOTS, FakeCrew(SLOTS, instantly=True), 0,
        client=client, delivery=delivery, oversight=oversight, events=events, watch=instruments,
    )  # fmt: skip
    running = [asyncio.create_task(work) for work in (oversight.keep(), delivery.run(), runner.run())]
    await client.until(WARM_UP)
    counted.start()
    await client.until(WARM_UP + TASKS)
    counted.stop()
    for task in running:
        task.cancel()
    await asyncio.wait(running)
    for work in runner.works:
        work.cancel()
    await asyncio.wait(runner.works)


@pytest.mark.parametrize(
    ("options", "with_metrics", "calls"),
    [({}, False, 55), ({"lease_extend_enabled": True}, False, 65), ({}, True, 65)],
    ids=["plain", "with leases", "with metrics"],
)
def test_task_of_a_backlog_costs_few_calls_no_timer_no_asyncio_task_and_no_event(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], with_metrics: bool, calls: int
) -> None:
    counted = Counted(monkeypatch)
    listeners: list[object] = [MetricsCollector()] if with_metrics else []
    virtual_time.run(work_off(counted, listeners, **options), virtual_time.Clock())
    assert counted.per_task("call_at") < 0.05
    assert counted.per_task("create_task") < 0.05
    assert counted.per_task("__init__") < 0.05  # of events
    assert 20 < counted.per_task("calls") <= calls
