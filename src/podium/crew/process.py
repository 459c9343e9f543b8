"""The process crew: child processes that run functions, watched and restarted."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from podium.answers import printable
from podium.backoff import Backoff, is_duration
from podium.crew.link import ChildLink
from podium.errors import ConfigError
from podium.logs import Repeats
from podium.loops import start_all
from podium.polled import Interrupted, PolledTask

if TYPE_CHECKING:
    from collections.abc import Callable

    from podium.crew.launch import Launcher
    from podium.crew.logs import ChildLogs
    from podium.frames import Boot, Outcome

logger = logging.getLogger(__name__)

#: A child that ran this long without dying is healthy again: its earlier deaths no longer slow down a restart.
STABLE_SECONDS: Final = 300.0
#: Characters of a line of a child's words in a log record.
_LINE_LIMIT: Final = 1_000


@dataclass(frozen=True, kw_only=True)
class RestartPolicy:
    """When a dead child is replaced: the first time at once, then ``backoff * 2^n`` seconds later, up to the maximum.

    ``max_attempts`` deaths in a row end it (0 = no limit). Raises ConfigError for values that cannot work.
    """

    restart: bool = True
    backoff_seconds: float = 1.0
    backoff_max_seconds: float = 60.0
    max_attempts: int = 0

    def __post_init__(self) -> None:
        for name in ("backoff_seconds", "backoff_max_seconds"):
            if not is_duration(getattr(self, name)):
                raise ConfigError(f"TaskHandler: restart_{name}={getattr(self, name)!r}: expected seconds, 0 or more")
        if type(self.max_attempts) is not int or self.max_attempts < 0:
            raise ConfigError(
                f"TaskHandler: restart_max_attempts={self.max_attempts!r}: expected a whole number, 0 or more"
            )

    def delay(self, deaths: int) -> float | None:
        """Return the seconds until the restart after so many deaths in a row; None if there is to be none."""
        if not self.restart or (self.max_attempts and deaths > self.max_attempts):
            return None
        return Backoff(self.backoff_seconds, self.backoff_max_seconds).delay(deaths - 1)


class ProcessCrew:
    """Children that all run the same workers. Implements ``podium.runner.Crew``.

    ``on_change`` is called whenever slots appear or vanish for another reason than a finished task, ``on_restart``
    with the workers' names whenever a dead child is to be replaced.
    """

    def __init__(
        self,
        boot: Boot,
        functions: list[Callable[..., Any]],
        processes: int,
        launcher: Launcher,
        policy: RestartPolicy,
        on_change: Callable[[], None],
        on_restart: Callable[[list[str]], None],
        logs: ChildLogs,
    ) -> None:
        self._boot = boot
        self._on_change = on_change
        self._on_restart = on_restart
        titles = [boot.title] if processes == 1 else [f"{boot.title}#{number + 1}" for number in range(processes)]
        self.members = [
            Member(title, boot, functions, launcher, policy, self._changed, self._restarting, logs) for title in titles
        ]
        self._waiting: deque[tuple[int, PolledTask, asyncio.Future[Outcome]]] = deque()
        self._keepers: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start all children at once and wait until they can run tasks; raises StartError if one cannot."""
        await start_all(member.start() for member in self.members)
        loop = asyncio.get_running_loop()
        self._keepers = [loop.create_task(member.keep()) for member in self.members]
        for keeper in self._keepers:
            keeper.add_done_callback(self._on_keeper_done)

    @property
    def alive(self) -> bool:
        """Whether every place is taken by a child that can run tasks."""
        return len(self._links()) == len(self.members)

    @property
    def silent_for(self) -> float | None:
        """How long the most silent of the children was not heard, in seconds; None if no child runs that beats."""
        return max((silent for member in self.members if (silent := member.silent_for) is not None), default=None)

    def kill_silent(self, limit: float) -> None:
        """Kill the children that were not heard for more than ``limit`` seconds; they are replaced as after any death.

        What they held is failed, and retried.
        """
        for link in self._links():
            silence = link.silent_for or 0.0
            if silence > limit:
                link.kill(f"it was silent for {silence:.0f} s")

    def free(self, worker: int) -> int:
        """Return how many more tasks of that worker could start now."""
        limit = self._boot.workers[worker].thread_count
        return sum(limit - link.busy[worker] for link in self._links())

    def run(self, worker: int, task: PolledTask) -> asyncio.Future[Outcome]:
        """Execute a task in the child that has most room."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        if not self._dispatch(worker, task, future):
            # Its child died between the poll and now: it waits for the successor.
            self._waiting.append((worker, task, future))
        return future

    async def stop(self) -> None:
        """Kill the children and wait until they are gone; what they were running is Interrupted."""
        for keeper in self._keepers:
            keeper.cancel()
        self._interrupt_waiting()
        await asyncio.gather(*(member.stop() for member in self.members))

    def _on_keeper_done(self, _keeper: asyncio.Task[None]) -> None:
        if all(keeper.done() for keeper in self._keepers):  # no child will come any more
            self._interrupt_waiting()

    def _interrupt_waiting(self) -> None:
        for _, _, future in self._waiting:
            if not future.done():
                future.set_exception(Interrupted())
        self._waiting.clear()

    def _links(self) -> list[ChildLink]:
        links = [member.link for member in self.members]  # first: another thread may ask while the loop changes them
        return [link for link in links if link is not None and link.alive]

    def _dispatch(self, worker: int, task: PolledTask, future: asyncio.Future[Outcome]) -> bool:
        limit = self._boot.workers[worker].thread_count
        link = min(self._links(), key=lambda link: link.busy[worker], default=None)
        if link is None or link.busy[worker] >= limit:
            return False
        link.run(worker, task, future)
        return True

    def _restarting(self) -> None:
        self._on_restart([worker.name for worker in self._boot.workers])

    def _changed(self) -> None:
        for _ in range(len(self._waiting)):
            entry = self._waiting.popleft()
            if not self._dispatch(*entry):
                self._waiting.append(entry)
        self._on_change()


class Member:
    """One place in the crew: a child process, and after its death the next."""

    def __init__(
        self,
        title: str,
        boot: Boot,
        functions: list[Callable[..., Any]],
        launcher: Launcher,
        policy: RestartPolicy,
        on_change: Callable[[], None],
        on_restart: Callable[[], None],
        logs: ChildLogs,
    ) -> None:
        self.title = title
        #: The child that can run tasks now, if there is one.
        self.link: ChildLink | None = None
        self.restarts = 0
        self.exit_code: int | None = None
        self._boot = boot
        self._functions = functions
        self._launcher = launcher
        self._policy = policy
        self._on_change = on_change
        self._on_restart = on_restart
        self._logs = logs
        self._newest: ChildLink | None = None
        self._deaths = 0
        self._up_since = 0.0
        self._repeats = Repeats()
        #: Whether the last thing that the log says of this place is that nothing runs there.
        self._said_down = False

    @property
    def silent_for(self) -> float | None:
        """Seconds since the child's event loop was heard; None if no child runs here, or it is not asked to beat.

        More than a few intervals of beats mean that its coroutines cannot go on: one of them blocks the loop, some
        code holds the GIL, or the process is stopped. A plain function may run as long as it likes.
        """
        link = self.link
        return link.silent_for if link is not None else None

    async def start(self) -> None:
        """Start a child and wait until it can run tasks; raises StartError if it cannot."""
        child = await self._launcher.launch(self._functions)
        self._newest = ChildLink(self.title, self._boot, child, self._logs)
        await self._newest.open()
        self.link = self._newest
        self._up_since = time.monotonic()
        self._on_change()

    async def keep(self) -> None:
        """Watch the child, and replace it when it dies, until the policy says no."""
        while True:
            await self._mourn()
            delay = self._policy.delay(self._deaths)
            if delay is None:
                logger.error("%s is not restarted, after %d deaths in a row", printable(self.title), self._deaths)
                return
            await asyncio.sleep(delay)
            self.restarts += 1
            self._on_restart()
            try:
                await self.start()
            except Exception as error:  # also: no process, thread or file descriptor to be had just now
                self._complain(f"could not be restarted: {_indented(str(error))}", "")
            else:
                level = logging.INFO if self._said_down else logging.DEBUG
                self._said_down = False
                pid = self.link.pid if self.link is not None else 0
                logger.log(level, "%s runs again, pid %d", printable(self.title), pid)

    async def _mourn(self) -> None:
        """Wait for the death of the newest child and take it into account."""
        assert self._newest is not None
        link = self.link
        self.exit_code, lost = await self._newest.death()
        stable = link is not None and time.monotonic() - self._up_since >= STABLE_SECONDS
        self._deaths = 1 if stable else self._deaths + 1
        if link is not None:
            held = f"it held {len(lost)} tasks: {printable(', '.join(lost))}" if lost else "it was idle"
            self._complain(f"worker process {link.describe_end(self.exit_code)}", f"; pid {link.pid}, {held}")
            self.link = None
            self._on_change()

    def _complain(self, what: str, details: str) -> None:
        """Log that nothing runs here: once, and while the same goes on happening, now and then with its number."""
        repeated = self._repeats.due(what)
        if repeated is None:
            logger.debug("%s: %s%s", printable(self.title), what, details)
        else:
            self._said_down = True
            logger.error("%s: %s%s%s", printable(self.title), what, repeated, details)

    async def stop(self) -> None:
        """End the child."""
        self.link = None
        if self._newest is not None:
            self.exit_code = await self._newest.stop()


def _indented(words: str) -> str:
    """Return a child's words fit for a log record: they may have lines, but none that looks like a record itself."""
    return "\n    ".join(printable(line, _LINE_LIMIT) for line in words.splitlines())
