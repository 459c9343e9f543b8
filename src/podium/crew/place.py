"""One place in a process crew: a child, and when it dies or has served long enough, the next."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, Final

import msgspec

from podium.answers import printable
from podium.backoff import Backoff, is_duration
from podium.bundle import Bundle
from podium.crew.death import indented
from podium.crew.recycling import RETRY_SECONDS, Recycling
from podium.errors import ConfigError
from podium.logs import Repeats

if TYPE_CHECKING:
    from collections.abc import Callable

    from podium.crew.death import Death
    from podium.crew.held import InHand
    from podium.crew.link import ChildLink, Source

logger = logging.getLogger(__name__)

#: A child that ran this long without dying is healthy again: its earlier deaths no longer slow down a restart.
STABLE_SECONDS: Final = 300.0
#: Seconds that a child may take to be ready before that is said: it may load a large model, or hang at an import.
SLOW_START: Final = 30.0


class RestartPolicy(Bundle, frozen=True, kw_only=True):
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


class Shared(Bundle, frozen=True, kw_only=True):
    """What the places of a crew share: how children are made and replaced, and who is told."""

    source: Source
    restart: RestartPolicy
    recycling: Recycling
    #: Whether there is one place only.
    alone: bool
    #: Called when slots have appeared or vanished.
    on_change: Callable[[], None]
    #: Called before a dead child is replaced, and when one was recycled.
    on_restart: Callable[[], None]
    on_recycle: Callable[[], None]
    #: Called with the tasks that a dead child held, to settle them.
    on_death: Callable[[Death, list[InHand]], None]
    #: Held by the place whose child is being recycled: they take turns.
    turn: asyncio.Lock = msgspec.field(default_factory=asyncio.Lock)


class Member:
    """The place. ``link`` is the child that gets tasks now; None while there is none."""

    def __init__(self, title: str, shared: Shared) -> None:
        self.title = title
        self.link: ChildLink | None = None
        #: Children that finish what they have, and get no more; replaced, not changed: other threads read it.
        self.retiring: tuple[ChildLink, ...] = ()
        self.restarts = 0
        self.recycles = 0
        self.exit_code: int | None = None
        #: Whether no child comes any more: the engine is stopping.
        self.winding_down = False
        self._shared = shared
        #: A child that does not have the place yet.
        self._coming: ChildLink | None = None
        self._farewells: set[asyncio.Task[None]] = set()
        self._deaths = 0
        self._up_since = 0.0
        self._repeats = Repeats()
        #: Whether the last thing that the log says of this place is that nothing runs there.
        self._said_down = False
        #: Whether the log says that a child is too large before it has done anything.
        self._said_large = False

    async def start(self) -> None:
        """Start a child and wait until it can run tasks; raises StartError if it cannot."""
        self._take_in(await self._begin())

    async def _begin(self) -> ChildLink:
        shared = self._shared
        allowance = shared.recycling.allowance(alone=shared.alone)
        link = self._coming = await shared.source.child(self.title, allowance)
        slow = asyncio.get_running_loop().call_later(SLOW_START, self._tell_of_slow_start, link)
        try:
            await link.open()
        except Exception:
            self.exit_code = await link.stop()
            self._coming = None
            raise
        finally:
            slow.cancel()
        return link

    def _tell_of_slow_start(self, link: ChildLink) -> None:
        logger.warning(
            "%s: worker process %d is not ready after %.0f s: it still imports the modules of its workers, and no task "
            "can run there before it has",
            printable(self.title), link.pid, SLOW_START,
        )  # fmt: skip

    def _take_in(self, link: ChildLink) -> None:
        self.link, self._coming = link, None
        self._up_since = time.monotonic()
        if link.born_large and not self._said_large:
            self._said_large = True
            logger.warning("%s: %s", printable(self.title), link.born_large)
        self._shared.on_change()

    async def keep(self) -> None:
        """Watch the child, and put another one in its place when it dies, until the policy says no, or is used up."""
        while (link := self.link) is not None:
            ends: list[asyncio.Future[Any]] = [link.exited, link.spent]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if self.winding_down:
                await asyncio.wait([link.exited])
            if link.exited.done():
                await self._mourn(link)
            else:
                await self._recycle(link)
            if self.link is None:
                await self._fill(at_once=bool(link.evicted_for))

    async def _mourn(self, link: ChildLink) -> None:
        """Take the death of the child into account; it was none if podium itself has killed it for one of its tasks."""
        death, lost = await link.death()
        self.exit_code = death.exit_code
        stable = time.monotonic() - self._up_since >= STABLE_SECONDS
        if not link.evicted_for:
            self._deaths = 1 if stable else self._deaths + 1
        self._shared.on_death(death, lost)
        self._tell_of(link, death, lost)
        self.link = None
        self._shared.on_change()

    async def _fill(self, *, at_once: bool = False) -> None:
        """Start a child where there is none, as soon as the policy says and it can be had; never, if that says so.

        ``at_once`` if the last one did not die, but was killed to end a task, which says nothing of the next one.
        """
        while self.link is None:
            delay = 0.0 if at_once else self._shared.restart.delay(self._deaths)
            at_once = False
            if delay is None:
                logger.error("%s is not restarted, after %d deaths in a row", printable(self.title), self._deaths)
                return
            if not self.winding_down:
                await asyncio.sleep(delay)
            if self.winding_down:
                return
            self._count_restart()
            try:
                await self.start()
            except Exception as error:  # also: no process, thread or file descriptor to be had just now
                self._deaths += 1
                self._complain(f"could not be restarted: {indented(str(error))}", "")
            else:
                self._say_up()

    async def _recycle(self, old: ChildLink) -> None:
        """Put a fresh child in the place of one that is used up, which goes on until the other one can run tasks."""
        why = old.spent.result()
        starting = asyncio.create_task(self._begin_in_turn())
        try:
            first: list[asyncio.Future[Any]] = [starting, old.exited]
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            if old.exited.done():  # what it held must not wait for the other one
                await self._mourn(old)
            fresh = await starting
        except Exception as error:
            self._complain(f"could not be replaced, although {why}: {indented(str(error))}", "")
            if self.link is old:
                old.spare(RETRY_SECONDS)
            return
        finally:
            starting.cancel()
        if self.link is None:
            self._count_restart()
            self._take_in(fresh)
            self._say_up()
        else:
            self.recycles += 1
            self._shared.on_recycle()
            logger.info(
                "%s: worker process %d is replaced by %d: %s", printable(self.title), old.pid, fresh.pid, why
            )  # fmt: skip
            self._retire(old)
            self._take_in(fresh)

    async def _begin_in_turn(self) -> ChildLink:
        async with self._shared.turn:
            return await self._begin()

    def _retire(self, old: ChildLink) -> None:
        async def see_off() -> None:
            death, lost = await old.death()
            self.retiring = tuple(link for link in self.retiring if link is not old)
            self._shared.on_death(death, lost)
            if lost or death.exit_code != 0:
                self._tell_of(old, death, lost)

        self.retiring = (*self.retiring, old)
        old.retire()
        farewell = asyncio.create_task(see_off())
        self._farewells.add(farewell)
        farewell.add_done_callback(self._farewells.discard)

    def _count_restart(self) -> None:
        self.restarts += 1
        self._shared.on_restart()

    def _tell_of(self, link: ChildLink, death: Death, lost: list[InHand]) -> None:
        if link.evicted_for:
            logger.warning(
                "%s: worker process %d was killed and is replaced: %s",
                printable(self.title), link.pid, printable(link.evicted_for),
            )  # fmt: skip
            return
        details = death.circumstances(link.pid, [entry.task.task_id for entry in lost])
        self._complain(f"worker process {death.end}", details)

    def _complain(self, what: str, details: str) -> None:
        """Log that nothing runs here: once, and while the same goes on happening, now and then with its number."""
        repeated = self._repeats.due(what)
        if repeated is None:
            logger.debug("%s: %s%s", printable(self.title), what, details)
        else:
            self._said_down = True
            logger.error("%s: %s%s%s", printable(self.title), what, repeated, details)

    def _say_up(self) -> None:
        level = logging.INFO if self._said_down else logging.DEBUG
        self._said_down = False
        pid = self.link.pid if self.link is not None else 0
        logger.log(level, "%s runs again, pid %d", printable(self.title), pid)

    async def stop(self) -> None:
        """End the child, and those that come and go."""
        for farewell in self._farewells:
            farewell.cancel()
        link, self.link = self.link, None
        others = [other for other in (*self.retiring, self._coming) if other is not None]
        codes = await asyncio.gather(*(each.stop() for each in (*others, link) if each is not None))
        if link is not None:
            self.exit_code = codes[-1]
