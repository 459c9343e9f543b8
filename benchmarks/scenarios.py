"""What is measured, and with what."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

_DRIVERS: Final = Path(__file__).parent / "drivers"
#: conductor-python has an environment of its own, which `make bench` sets up: podium's has nothing of it.
PEER_PYTHON: Final = Path(__file__).parent.parent / ".cache/bench-peer/bin/python"


@dataclass(frozen=True)
class Driver:
    """A worker program: how it is started, and in which scenarios."""

    name: str
    command: list[str]
    env: dict[str, str] = field(default_factory=dict)
    #: Beginnings of the names of scenarios; empty for all.
    only: tuple[str, ...] = ()
    #: The part of a scenario's tasks that it gets: a slow driver is measured as well by fewer.
    share: float = 1.0

    def runs(self, scenario: Scenario) -> bool:
        """Whether it is measured in a scenario."""
        return not self.only or scenario.name.startswith(self.only)


@dataclass(frozen=True)
class Scenario:
    """What a driver has to do: start, wait for ``seconds`` without a task, complete ``tasks``, and end."""

    name: str
    title: str
    types: int = 1
    concurrency: int = 10
    #: Of all types together.
    tasks: int = 0
    #: Tasks per second; 0: all are there at once.
    rate: float = 0.0
    payload: int = 0
    seconds: float = 0.0
    #: In how many rounds at most; 0: in each.
    rounds: int = 0

    def with_tasks_for(self, driver: Driver) -> Scenario:
        """Return the scenario with as many tasks as a driver gets."""
        return self if self.rate else replace(self, tasks=round(self.tasks * driver.share))

    @property
    def type_names(self) -> list[str]:
        """The task types."""
        return [f"bench_{number}" for number in range(self.types)]


def podium(name: str, style: str, *only: str, **env: str) -> Driver:
    """Return a driver that is podium; ``env`` is what else it is told, by the second half of a variable's name."""
    variables = {"BENCH_STYLE": style} | {f"BENCH_{key.upper()}": value for key, value in env.items()}
    return Driver(name, [sys.executable, str(_DRIVERS / "podium_worker.py")], variables, only)


def _peer(name: str, style: str, *only: str, **env: str) -> Driver:
    command = [str(PEER_PYTHON), str(_DRIVERS / "conductor_worker.py")]
    return Driver(name, command, {"BENCH_STYLE": style} | env, only, share=0.1)


#: The beginnings of the names of podium's drivers, and of those that ratios are made to.
OWN, PEER, BARE = "podium", "conductor-python", "bare loop"
_AT_WORK: Final = ("throughput", "arrival", "start-up")

DRIVERS: Final = [
    podium("podium def", "def"),
    podium("podium async def", "async"),
    podium("podium def, groups of 10", "def", "idle", group="10"),
    podium("podium def, threads", "def", "throughput", "idle", "start-up", isolation="thread"),
    podium("podium async def, threads", "async", "throughput", isolation="thread"),
    _peer(f"{PEER} def", "def"),
    _peer(f"{PEER} async def", "async"),
    _peer(f"{PEER} def, threads", "def", "idle", CONDUCTOR_WORKER_ISOLATION="thread"),
    Driver(BARE, [sys.executable, str(_DRIVERS / "bare.py")], only=_AT_WORK),
]

SCENARIOS: Final = [
    Scenario("throughput-100", "Throughput, 100 tasks at a time", tasks=10_000, concurrency=100),
    Scenario("throughput-10", "Throughput, 10 tasks at a time", tasks=10_000, concurrency=10),
    Scenario("arrival-50", "50 tasks a second, 10 at a time", tasks=300, rate=50.0, concurrency=10),
    Scenario("start-up", "Start, until the first poll"),
    Scenario("idle-50", "50 task types without tasks", types=50, seconds=8.0, rounds=1),
]
