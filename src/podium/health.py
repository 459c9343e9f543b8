"""What probes ask: does podium turn, can it take work, is every worker well.

Everything is read from attributes, in the thread that asks, so an engine that is stuck keeps nobody waiting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from podium.crew.thread import ThreadCrew
from podium.status import readiness_of, status_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from podium.runner import Runner
    from podium.status import AnyCrew

#: Whether the answer is yes, and the facts.
Verdict: TypeAlias = tuple[bool, dict[str, Any]]


class Patient(Protocol):
    """Whose health it is: an engine. Every member may be used in any thread."""

    @property
    def ended(self) -> bool:
        """Whether the engine has ended."""

    @property
    def stopping(self) -> bool:
        """Whether a stop was asked for."""

    @property
    def silent_for(self) -> float:
        """Seconds since the loop's last sign of life; 0 while none is due."""

    @property
    def runners(self) -> list[tuple[Runner, AnyCrew]]:
        """Each runner with its crew; empty while the crews start."""


class Health:
    """Answers the questions of probes about one engine; ``limit`` is how many seconds a loop may be late."""

    def __init__(self, engine: Patient, limit: float) -> None:
        self._engine = engine
        self._limit = limit

    def alive(self) -> Verdict:
        """Whether every loop of podium turns; if not, what is ``stuck``, and for how many seconds.

        Neither a child that died nor a server that is down makes it False: a restart of the program would help neither.
        """
        stuck = [{"what": what, "seconds": round(seconds, 1)} for what, seconds in self._stuck()]
        if self._engine.ended:
            stuck.append({"what": "the engine has ended", "seconds": None})
        return not stuck, {"stuck": stuck}

    def ready(self) -> Verdict:
        """Whether every worker can take work; if not, ``why``, for the program and for each worker."""
        workers = [_readiness_entry(runner, crew, self._limit) for runner, crew in self._engine.runners]
        why = self._obstacle(workers)
        return why is None, {"why": why, "workers": workers}

    def well(self) -> Verdict:
        """Whether every worker does its work: its processes give signs of life, and its loop polls."""
        status = [status_of(runner, crew, self._limit) for runner, crew in self._engine.runners]
        turns = not self._engine.ended and self._engine.silent_for <= self._limit
        return turns and bool(status) and all(entry["problem"] is None for entry in status), {"workers": status}

    @property
    def probes(self) -> dict[str, Callable[[], Verdict]]:
        """What answers each path over HTTP."""
        return {"/health/live": self.alive, "/health/ready": self.ready, "/health": self.well}

    def _stuck(self) -> Iterator[tuple[str, float]]:
        silence = self._engine.silent_for
        if silence > self._limit:
            yield "the engine's event loop", silence
        crews: set[AnyCrew] = set()
        for runner, crew in self._engine.runners:
            if runner.overdue > self._limit:
                yield f"the poll loop of worker {runner.worker.task_definition_name!r}", runner.overdue
            if isinstance(crew, ThreadCrew) and crew not in crews:
                crews.add(crew)
                silence = crew.silent_for or 0.0
                if silence > self._limit:
                    yield "the event loop of the thread crew", silence

    def _obstacle(self, workers: list[dict[str, Any]]) -> str | None:
        engine = self._engine
        if engine.ended:
            return "the engine has ended"
        if engine.stopping:
            return "the workers are being stopped"
        if engine.silent_for > self._limit:
            return f"the engine's event loop is stuck for {engine.silent_for:.0f} s"
        if not workers:
            return "the workers are being started"
        missing = [entry["worker"] for entry in workers if not entry["ready"]]
        return f"not ready: {', '.join(missing)}" if missing else None


def _readiness_entry(runner: Runner, crew: AnyCrew, limit: float) -> dict[str, Any]:
    ready, state = readiness_of(runner, crew, limit)
    return {
        "worker": runner.worker.task_definition_name,
        "domain": runner.worker.domain,
        "ready": ready,
        "state": state,
    }
