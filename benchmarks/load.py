"""One driver through one scenario, against a stub of its own."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, Final

from benchmarks.processes import OtherLoad, PeakMemory, RunningDriver, StubServer

if TYPE_CHECKING:
    from benchmarks.scenarios import Driver, Scenario

START_SECONDS: Final = 120.0
LOAD_SECONDS: Final = 240.0
#: Between the first poll and the first task, so that the start is in no other figure; after many have started, longer.
SETTLE_SECONDS: Final = 0.7
IDLE_SETTLE_SECONDS: Final = 2.0


def measure(driver: Driver, scenario: Scenario) -> dict[str, Any]:
    """Run a driver through a scenario; return the figures."""
    scenario = scenario.with_tasks_for(driver)
    types = scenario.type_names
    tasks = scenario.tasks // scenario.types
    figures: dict[str, Any] = {"driver": driver.name, "scenario": scenario.name}
    with (
        StubServer(types, tasks=tasks, rate=scenario.rate, payload=scenario.payload) as stub,
        RunningDriver(driver, stub, types, scenario.concurrency) as running,
    ):
        if not stub.wait_for("polled", START_SECONDS):
            return figures | {"error": "not all types were polled for", "log": running.log()[-2000:]}
        figures["startup_s"] = stub.figures()["all_polled_at"] - running.started_at
        figures["startup_cpu_s"] = running.tree.cpu_s()
        if scenario.seconds:
            figures |= _idle(stub, running, scenario.seconds)
        if scenario.tasks:
            figures |= _load(stub, running)
        stub.tell("release")
        return figures | running.wait()


def _load(stub: StubServer, running: RunningDriver) -> dict[str, Any]:
    """Let the tasks come, and wait for their end."""
    time.sleep(SETTLE_SECONDS)
    other = OtherLoad()
    cpu, stub_cpu = running.tree.cpu_s(), stub.tree.cpu_s()
    with PeakMemory(running.tree) as memory:
        stub.tell("start")
        finished = stub.wait_for("finished", LOAD_SECONDS)
        cpu, stub_cpu = running.tree.cpu_s() - cpu, stub.tree.cpu_s() - stub_cpu
    counted = stub.figures()
    wall = counted["wall_s"] or 1.0
    figures = {
        "cpu_s_per_1000": cpu / (counted["completed"] or math.nan) * 1000,
        "driver_cores": cpu / wall,
        "stub_cores": stub_cpu / wall,
        "other_cores": other.since(cpu + stub_cpu),
        "processes": len(running.tree.processes()),
        **memory.figures,
        **counted,
    }
    complete = finished and counted["completed"] == counted["handed_out"]
    return figures if complete else figures | {"error": "not all tasks were completed", "log": running.log()[-2000:]}


def _idle(stub: StubServer, running: RunningDriver, seconds: float) -> dict[str, Any]:
    """See what a driver does without tasks."""
    time.sleep(IDLE_SETTLE_SECONDS)
    other, begun = OtherLoad(), time.monotonic()
    cpu, requests = running.tree.cpu_s(), stub.figures()["requests"]["total"]
    time.sleep(seconds)
    cpu, elapsed = running.tree.cpu_s() - cpu, time.monotonic() - begun
    counted = stub.figures()
    return {
        "idle_cpu_percent": cpu / elapsed * 100,
        "requests_per_s": (counted["requests"]["total"] - requests) / elapsed,
        "connections": counted["connections"],
        "processes": len(running.tree.processes()),
        "other_cores": other.since(cpu),
        **running.tree.memory_mb(),
    }
