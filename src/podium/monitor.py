"""The monitor: a thread that notices what no exception tells, and says so once."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import traceback
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from podium.answers import printable
from podium.backoff import is_duration
from podium.bundle import Bundle
from podium.crew.inquiry import state_of
from podium.crew.process import ProcessCrew
from podium.crew.thread import ThreadCrew
from podium.errors import ConfigError
from podium.status import links_of, stuck_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from podium.crew.link import ChildLink
    from podium.runner import Runner
    from podium.status import AnyCrew

logger = logging.getLogger(__name__)

#: Frames of a stuck thread's stack that are shown.
_FRAMES: Final = 12
#: Characters of the ids of tasks in hand that are shown.
_MOST_HELD: Final = 4000


class Monitoring(Bundle, frozen=True, kw_only=True):
    """How a TaskHandler watches what it runs; the meaning of the fields is in its docstring."""

    enabled: bool = True
    interval_seconds: float = 5.0
    stuck_after_seconds: float = 30.0
    restart_stuck: bool = False
    kill_stopped: bool = True

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
        #: Children whose stack was shown, until they go on.
        self._shown: set[ChildLink] = set()
        #: Children that were found stopped at the last look.
        self._stopped: set[ChildLink] = set()
        #: Crews that are being asked where they are, on the engine's loop: none is restarted before it has told.
        self._asked: dict[AnyCrew, asyncio.Task[None] | None] = {}

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
                    self._look_for_stopped()
            except Exception:
                logger.exception("the monitor failed, and goes on")

    def _look_at_engine(self) -> None:
        silence = self._engine.silent_for
        if silence > self._monitoring.silence:
            if not self._engine_is_stuck:
                self._engine_is_stuck = True
                logger.error(
                    "podium's engine does nothing for %.0f s: nothing is polled and no result is sent; it is here:\n%s",
                    silence, _stack_of(self._engine.thread_id),
                )  # fmt: skip
        elif self._engine_is_stuck:
            self._engine_is_stuck = False
            logger.error("podium's engine goes on")

    def _look_at(self, runner: Runner, crew: AnyCrew) -> None:
        name = runner.worker.task_definition_name
        limit = self._monitoring.silence
        problem = stuck_of(runner, crew, limit)  # deaths are told by whoever takes care of them
        if problem is None:
            if crew.alive and self._said.pop(runner, None) is not None:
                self._shown.difference_update(links_of(crew))
                logger.warning("worker %r: works again", name)
            return
        restart = self._restart_of(runner, crew, limit)
        kind = problem.partition(" for ")[0]
        if self._said.get(runner) != kind:
            self._said[runner] = kind
            remedy = "; it is restarted" if restart is not None else ""
            held = ", ".join(runner.task_ids) or "no task"
            text = f"worker {name!r}: {problem}{remedy}; in hand: {printable(held, _MOST_HELD)}"
            silent = [link for link in links_of(crew) if (link.silent_for or 0.0) > limit and link not in self._shown]
            if silent and runner.overdue <= limit:
                self._shown.update(silent)
                self._begin(crew, partial(self._tell_of, silent, text, restart))
                return
            crew_thread = f"; it is here:\n{_stack_of(crew.thread_id)}" if isinstance(crew, ThreadCrew) else ""
            logger.error("%s%s", text, crew_thread)
        if restart is not None and crew not in self._asked:
            self._engine.post(restart)

    def _begin(self, crew: AnyCrew, asking: Callable[[], Coroutine[None, None, None]]) -> None:
        """Run a coroutine on the engine's loop that asks a crew where it is."""

        def begin() -> None:
            self._asked[crew] = task = asyncio.create_task(asking())
            task.add_done_callback(lambda _: self._asked.pop(crew, None))

        self._asked[crew] = None
        self._engine.post(begin)

    async def _tell_of(self, silent: Sequence[ChildLink], text: str, restart: Callable[[], None] | None) -> None:
        """Log what is wrong with children, and where they are, which they can tell while they do nothing else."""
        stacks = [f"{link.title}, pid {link.pid}, is here:\n{await link.stack()}" for link in silent]
        logger.error("%s; %s", text, "\n".join(stacks))
        if restart is not None:
            restart()

    def _look_for_stopped(self) -> None:
        """Kill the children that a signal has stopped, if that is so at two looks in a row.

        Nothing else ends them, and the leases of their tasks would be kept for ever. One that a debugger holds is in
        another state.
        """
        crews = {crew for _, crew in self._engine.runners}
        stopped = {link for crew in crews for link in links_of(crew) if link.alive and state_of(link.pid) == "T"}
        if self._monitoring.kill_stopped:
            for link in stopped & self._stopped:
                self._engine.post(partial(_kill_if_stopped, link))
        self._stopped = stopped

    def _restart_of(self, runner: Runner, crew: AnyCrew, limit: float) -> Callable[[], None] | None:
        """Return what restarts a worker that is stuck; None if nothing is to do that, or can."""
        if not self._monitoring.restart_stuck:
            return None
        if runner.overdue > limit:
            return partial(self._engine.restart_runner, runner, limit)
        # Nothing but the end of this process ends what runs in its own threads.
        return partial(crew.kill_silent, limit) if isinstance(crew, ProcessCrew) else None


def _kill_if_stopped(link: ChildLink) -> None:
    if link.alive and state_of(link.pid) == "T":  # it may have gone on meanwhile
        link.kill("it was stopped by a signal, such as SIGSTOP")


def _stack_of(thread_id: int) -> str:
    frame = sys._current_frames().get(thread_id)  # noqa: SLF001 - the documented way to see a thread
    return "".join(traceback.format_stack(frame)[-_FRAMES:]) if frame is not None else "(the thread has ended)"
