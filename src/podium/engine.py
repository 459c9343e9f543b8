"""The engine: the one event loop, in a thread of its own, that talks to the server and hosts the runners."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

from podium.client import AsyncClient
from podium.crew import orphans
from podium.crew.logs import ChildLogs
from podium.drain import Drain, StopRequests
from podium.errors import NoWorkerLeftError, PodiumError, StartError
from podium.events import EventDispatcher
from podium.loops import loop_factory, start_all
from podium.monitor import Monitor
from podium.parts import Parts
from podium.registration import keep_registering
from podium.selfcheck import SelfCheck
from podium.status import describe_runner
from podium.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Callable

    from podium.drain import DrainReport
    from podium.plan import Plan
    from podium.runner import Runner
    from podium.status import AnyCrew
    from podium.transport import RequestHook

logger = logging.getLogger(__name__)

R = TypeVar("R")

#: How late, in the worst case, a thread that waits for the engine's end notices a signal.
_SIGNAL_LATENCY: Final = 0.5
#: How long a call from another thread waits for the engine's loop.
_PATIENCE: Final = 10.0
#: How long the start waits for the task definitions to be registered; a server that is down is told later.
_REGISTRATION_PATIENCE: Final = 10.0
#: How long results may still take to reach the server when no worker is left.
_WITHOUT_WORKERS: Final = 10.0
#: How long slow listeners, and handlers of log records, may take at the end, if the grace period leaves so much.
_LAST_WORDS: Final = 5.0


class Engine:
    """Runs a plan once: ``start`` it, ``request_stop``, ``wait`` for its end. The methods may be called anywhere."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._events = EventDispatcher(plan.listeners)
        self._child_logs = ChildLogs()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._parts: Parts | None = None
        self._thread = threading.Thread(target=self._run, name="podium-engine", daemon=True)
        self._monitor = Monitor(self, plan.monitoring) if plan.monitoring.enabled else None
        #: Monotonic time of the loop's last sign of life; 0 before the first and after its end.
        self._last_tick = 0.0
        self._started: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._ended = threading.Event()
        self._after_end: Callable[[], None] | None = None
        #: What ended the engine without having been asked for; None if nothing did.
        self.failure: BaseException | None = None
        #: What became of the tasks in hand; None before the end, and if podium failed too badly to tell.
        self.drain_report: DrainReport | None = None
        self._stop = StopRequests()
        self._stop_asked: asyncio.Event | None = None
        #: Set when no crew will have a child any more.
        self._deserted = asyncio.Event()

    @property
    def ended(self) -> bool:
        """Whether the engine has ended. Takes no lock, so that a signal handler may ask."""
        return self._ended.is_set()

    @property
    def runners(self) -> list[tuple[Runner, AnyCrew]]:
        """Each runner with its crew; to be read from any thread."""
        return self._parts.runners if self._parts is not None else []

    @property
    def silent_for(self) -> float:
        """Seconds since the loop's last sign of life; one is due at every interval of the monitor."""
        tick = self._last_tick  # once: the loop sets it to 0 meanwhile
        return time.monotonic() - tick if tick else 0.0

    @property
    def stopping(self) -> bool:
        """Whether a stop was asked for."""
        return bool(self._stop)

    @property
    def thread_id(self) -> int:
        """The id of the engine's thread."""
        return self._thread.ident or 0

    def needs_this_thread(self) -> bool:
        """Whether the caller must not wait for the end: it is a listener, or what the loop itself calls."""
        return threading.current_thread() is self._thread or self._events.delivers_in_this_thread()

    def start(self, after_end: Callable[[], None] | None = None) -> None:
        """Start the thread, the crews and the runners; return when every worker can run tasks.

        ``after_end`` is called in the engine's thread when everything else has ended.
        Raises StartError if a crew cannot start; nothing is left running then.
        """
        self._after_end = after_end
        self._thread.start()
        try:
            self._started.result()
        except PodiumError as error:
            self.wait()
            raise error.with_traceback(None) from None  # what happened is in the message, not in the engine's stack
        except BaseException:  # Ctrl-C while the crews start
            self.request_stop(0.0, "an interruption of the start")
            self.wait()
            raise

    def request_stop(self, grace: float, by: str) -> None:
        """Ask for the end, ``grace`` seconds from now at the latest. May be called again to shorten the time.

        ``by`` is who asks, for the log and the report.
        """
        self._stop.add(grace, by)
        if self._loop is not None and self._stop_asked is not None and not self._ended.is_set():
            self.post(self._stop_asked.set)

    def wait(self) -> None:
        """Wait until the engine has ended."""
        # Not in one go: the kernel may give a signal to another thread while one is pending for the main thread, and
        # Python runs its handler only when the main thread wakes up.
        while not self._ended.wait(_SIGNAL_LATENCY):
            pass

    def call(self, function: Callable[[Parts], R]) -> R:
        """Run a function on the engine's loop, with its parts, and return its result; StartError if it has ended."""
        result: concurrent.futures.Future[R] = concurrent.futures.Future()

        def run() -> None:
            try:
                assert self._parts is not None
                result.set_result(function(self._parts))
            except Exception as error:
                result.set_exception(error)

        if self._parts is None:
            raise StartError("no worker is running")
        if threading.current_thread() is self._thread:  # an inline listener, or a handler of podium's own log records
            return function(self._parts)
        if not self.post(run):
            raise StartError("no worker is running")
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                return result.result(timeout=0.2)
            except TimeoutError:
                if self.ended and not result.done():  # it ended before it came to this call
                    raise StartError("no worker is running") from None
                if time.monotonic() > deadline:
                    raise PodiumError(f"podium's engine did not answer within {_PATIENCE:.0f} s: it is stuck") from None

    def post(self, callback: Callable[[], object]) -> bool:
        """Run a function on the loop soon; False if that has ended."""
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:  # closed
            return False
        return True

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                runner.run(self._main())
        except BaseException as error:
            if not self._started.done():
                self._started.set_exception(error)
            else:
                self.failure = error
                if not isinstance(error, NoWorkerLeftError):
                    logger.critical("the engine failed", exc_info=error)
        finally:
            self._events.close(self._stop.time_left(_LAST_WORDS))
            self._child_logs.close(self._stop.time_left(_LAST_WORDS))
            self._ended.set()
            if self._after_end is not None:
                self._after_end()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop_asked = asyncio.Event()
        transport = Transport(self._plan.configuration, on_request=self._plan.on_request)
        async with contextlib.aclosing(transport):
            client = AsyncClient(transport=transport)
            self._parts = parts = Parts.of(client, self._plan, self._events)
            transport.on_request = _both(self._plan.on_request, parts.delivery.note_answer)
            try:
                started = await self._start_unless_stopped(parts)
                self._started.set_result(None)
                if started:
                    await self._serve(parts, SelfCheck(client, transport, parts.only_runners))
                else:
                    self.drain_report = self._stop.report()
            finally:
                await self._stop_crews(parts)

    async def _start_unless_stopped(self, parts: Parts) -> bool:
        """Start the crews and register definitions; return False if a stop was asked for before that was done."""
        assert self._stop_asked is not None
        if self._stop:  # asked before there was a loop
            return False
        stop = asyncio.create_task(self._stop_asked.wait())
        starting = asyncio.create_task(self._start_crews(parts))
        try:
            await asyncio.wait([starting, stop], return_when=asyncio.FIRST_COMPLETED)
            if stop.done():
                await self._stop_crews(parts)
                await asyncio.wait([starting])
                starting.exception()  # it was made to fail
                return False
            starting.result()
            tried = asyncio.create_task(parts.registered_once.wait())
            await asyncio.wait([tried, stop], timeout=_REGISTRATION_PATIENCE, return_when=asyncio.FIRST_COMPLETED)
            tried.cancel()
            return not stop.done()
        finally:
            stop.cancel()

    async def _serve(self, parts: Parts, selfcheck: SelfCheck) -> None:
        """Run until a stop is asked for, or something of podium fails; then drain."""
        assert self._stop_asked is not None
        ticks: asyncio.Task[Any] = asyncio.create_task(self._tick())
        oversight = asyncio.create_task(parts.oversight.keep())
        delivering = asyncio.create_task(parts.delivery.run())
        parts.polls = {runner: asyncio.create_task(runner.run()) for runner, _ in parts.runners}
        stop = asyncio.create_task(self._stop_asked.wait())
        deserted = asyncio.create_task(self._deserted.wait())
        beside = [stop, deserted, ticks]
        if self._monitor is not None:
            self._monitor.start()
            beside.append(asyncio.create_task(selfcheck.run()))
        guarded = [oversight, delivering]
        while not (stop.done() or deserted.done() or any(map(_failed, [*guarded, *parts.polls.values()]))):
            running = [task for task in [stop, deserted, *guarded, *parts.polls.values()] if not task.done()]
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        if self._monitor is not None:
            self._monitor.stop()
        nobody_left = deserted.done() and not stop.done()
        if nobody_left:
            logger.error("no worker is left that could run a task: the engine stops")
            self._stop.add(_WITHOUT_WORKERS, "no worker is left")
        await self._drain(parts)
        for task in (*guarded, *beside):
            task.cancel()
        self._last_tick = 0.0
        if nobody_left:
            raise NoWorkerLeftError("every worker process has died for good; the log says how each ended")
        for task in [*parts.polls.values(), *guarded]:
            if _failed(task):
                task.result()

    async def _tick(self) -> None:
        while True:
            self._last_tick = time.monotonic()
            orphans.reap()
            await asyncio.sleep(self._plan.monitoring.interval_seconds)

    def restart_runner(self, runner: Runner, limit: float) -> None:
        """Begin a worker's loop anew if it is overdue by more than ``limit`` seconds. Called on the loop."""
        assert self._parts is not None
        if self._stop or runner.overdue <= limit:  # it may have gone on meanwhile, and have an open poll
            return
        self._parts.polls[runner].cancel()
        self._parts.polls[runner] = asyncio.create_task(runner.run())

    async def _start_crews(self, parts: Parts) -> None:
        plan = self._plan
        if plan.launcher is not None:
            await plan.launcher.open()
        for crew_plan in plan.crews:
            parts.add_crew(crew_plan, plan, self._child_logs, lambda: self._on_crew_change(parts))
        await start_all(crew.start() for crew in parts.crews)
        for runner, crew in parts.runners:
            logger.info("%s", describe_runner(runner, crew))
        workers = [runner.worker for runner in parts.only_runners()]
        parts.registering = asyncio.create_task(keep_registering(parts.client, workers, parts.registered_once))

    async def _drain(self, parts: Parts) -> None:
        for crew in parts.crews:
            crew.wind_down()
        runners = parts.only_runners()
        drain = Drain(self._stop, runners, parts.polls.values, parts.delivery, lambda: self._stop_crews(parts))
        self.drain_report = await drain.run()

    def _on_crew_change(self, parts: Parts) -> None:
        """Let the runners look again, unless there is nothing left for them to look at."""
        parts.wake_runners()
        if parts.crews and all(crew.deserted for crew in parts.crews):
            self._deserted.set()

    async def _stop_crews(self, parts: Parts) -> None:
        if parts.registering is not None:
            parts.registering.cancel()
        crews, parts.crews = parts.crews, []
        await asyncio.gather(*(crew.stop() for crew in crews))
        if self._plan.launcher is not None:
            await self._plan.launcher.close()


def _both(first: RequestHook | None, note_answer: Callable[[int], None]) -> RequestHook:
    """Return a hook of the transport that calls another one too, if there is one."""

    def on_request(method: str, template: str, status: int, seconds: float) -> None:
        note_answer(status)
        if first is not None:
            first(method, template, status, seconds)

    return on_request


def _failed(task: asyncio.Task[None]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is not None
