"""The monitor: a thread that notices what no exception tells, and says so once."""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from podium.backoff import is_duration
from podium.crew.process import ProcessCrew
from podium.errors import ConfigError
from podium.status import stuck_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from podium.runner import Runner
    from podium.status import AnyCrew

logger = logging.getLogger(__name__)

#: Frames of a stuck engine's stack that are shown.
_FRAMES: Final = 12


@dataclass(frozen=True, kw_only=True)
class Monitoring:
    """How a TaskHandler watches what it runs; the meaning of the fields is in its docstring."""

    enabled: bool = True
    interval_seconds: float = 5.0
    stuck_after_seconds: float = 30.0
    restart_stuck: bool = False

    def __post_init__(self) -> None:
        for name in ("interval_seconds", "stuck_after_seconds"):
            value = getattr(self, name)
            if not is_duration(value) or value == 0:
                argument = "monitor_interval_seconds" if name == "interval_seconds" else name
                raise ConfigError(f"TaskHandler: {argument}={value!r}: expected seconds, above 0")

    @property
    def beat_interval(self) -> float:
        """Seconds between two signs of life; 0 if nobody watches for them."""
        return self.interval_seconds if self.enabled else 0.0

    @property
    def silence(self) -> float:
        """Seconds without a sign of life that are too many: a beat may be due only now."""
        return self.stuck_after_seconds + self.interval_seconds


class Subject(Protocol):
    """What a monitor looks at: an engine. Every member may be used in any thread."""

    @property
    def silent_for(self) -> float:
        """Seconds since the loop's last sign of life."""

    @property
    def runners(self) -> list[tuple[Runner, AnyCrew]]:
        """Each runner with its crew."""

    @property
    def thread_id(self) -> int:
        """The id of the loop's thread."""

    def post(self, callback: Callable[[], object]) -> bool:
        """Run a function on the loop soon."""

    def restart_runner(self, runner: Runner, limit: float) -> None:
        """Begin a worker's loop anew if it is overdue by more than ``limit`` seconds; to be called on the loop."""


class Monitor:
    """Looks at an engine at regular intervals, from a thread of its own."""

    def __init__(self, engine: Subject, monitoring: Monitoring) -> None:
        self._engine = engine
        self._monitoring = monitoring
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="podium-monitor", daemon=True)
        self._engine_is_stuck = False
        #: What was said about a worker; it is said again when it has changed.
        self._said: dict[Runner, str] = {}

    def start(self) -> None:
        """Start watching."""
        self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._stop.set()

    def _run(self) -> None:
        interval = min(self._monitoring.interval_seconds, threading.TIMEOUT_MAX)
        while not self._stop.wait(interval):
            try:
                self._look_at_engine()
                if not self._engine_is_stuck:
                    for runner, crew in self._engine.runners:
                        self._look_at(runner, crew)
            except Exception:
                logger.exception("the monitor failed, and goes on")

    def _look_at_engine(self) -> None:
        silence = self._engine.silent_for
        if silence > self._monitoring.silence:
            if not self._engine_is_stuck:
                self._engine_is_stuck = True
                logger.error(
                    "podium's engine does nothing for %.0f s: nothing is polled and no result is sent; it is here:\n%s",
                    silence, self._engine_stack(),
                )  # fmt: skip
        elif self._engine_is_stuck:
            self._engine_is_stuck = False
            logger.error("podium's engine goes on")

    def _engine_stack(self) -> str:
        frame = sys._current_frames().get(self._engine.thread_id)  # noqa: SLF001 - the documented way to see a thread
        return "".join(traceback.format_stack(frame)[-_FRAMES:]) if frame is not None else "(the thread has ended)"

    def _look_at(self, runner: Runner, crew: AnyCrew) -> None:
        name = runner.worker.task_definition_name
        limit = self._monitoring.silence
        problem = stuck_of(runner, crew, limit)  # deaths are told by whoever takes care of them
        if problem is None:
            if crew.alive and self._said.pop(runner, None) is not None:
                logger.warning("worker %r: works again", name)
            return
        restart = self._restart_of(runner, crew, limit)
        kind = problem.partition(" for ")[0]
        if self._said.get(runner) != kind:
            self._said[runner] = kind
            remedy = "; it is restarted" if restart is not None else ""
            held = ", ".join(runner.task_ids) or "no task"
            logger.error("worker %r: %s%s; in hand: %s", name, problem, remedy, held)
        if restart is not None:
            self._engine.post(restart)

    def _restart_of(self, runner: Runner, crew: AnyCrew, limit: float) -> Callable[[], None] | None:
        """Return what restarts a worker that is stuck; None if nothing is to do that, or can."""
        if not self._monitoring.restart_stuck:
            return None
        if runner.overdue > limit:
            return partial(self._engine.restart_runner, runner, limit)
        # Nothing but the end of this process ends what runs in its own threads.
        return partial(crew.kill_silent, limit) if isinstance(crew, ProcessCrew) else None
