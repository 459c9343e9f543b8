"""The access token of an application: fetched once, shared by the whole process, renewed in time, never thrown away."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Final, NamedTuple
from weakref import WeakValueDictionary

from podium.backoff import Backoff
from podium.errors import PodiumError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from podium.config import AuthenticationSettings, Configuration

    #: Exchanges the credentials for a token; None if the server knows no authentication.
    Login = Callable[[], Awaitable[str | None]]

logger = logging.getLogger(__name__)

#: Pauses between attempts to renew a token that has come of age but still serves.
_EARLY_PAUSE: Final = Backoff(first=1, cap=60)
#: Pauses between attempts to get a token without which nothing works. Short, because callers have pauses of their own.
_URGENT_PAUSE: Final = Backoff(first=0.5, cap=2)
#: A token that replaced a refused one and is refused within so many seconds too is not replaced: another one would
#: not help, and each refused request would cost a login.
_FUTILE: Final = 2.0

_shared: WeakValueDictionary[tuple[str, AuthenticationSettings, float], Tokens] = WeakValueDictionary()
_shared_lock = threading.Lock()


class _Held(NamedTuple):
    value: str | None  # None: the server is open, requests carry no token
    born: float
    is_replacement: bool


class Tokens:
    """The token of one application at one server.

    Usable from any thread and event loop. Whoever needs a new token first fetches it; all others wait for that one
    attempt and share its outcome. A token stays in use until a newer one has arrived: a failing renewal never leaves
    a request without a token.
    """

    def __init__(self, host: str, max_age: float) -> None:
        self._host = host
        self._max_age = max_age
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._held: _Held | None = None
        self._attempt: Future[None] | None = None
        self._failures = 0
        self._failed_at = 0.0
        self._failure: PodiumError | None = None

    @classmethod
    def of(cls, configuration: Configuration) -> Tokens | None:
        """Return the process's tokens for that server and these credentials, None without credentials."""
        settings = configuration.authentication_settings
        if settings is None:
            return None
        max_age = configuration.auth_token_ttl_min * 60
        key = (configuration.host, settings, max_age)
        with _shared_lock:
            tokens = _shared.get(key)
            if tokens is None:
                tokens = _shared[key] = cls(configuration.host, max_age)
            return tokens

    async def current(self, login: Login) -> str | None:
        """Return the token to send, fetched or renewed if it must be; None if the server is open."""
        self._leave_parent()
        held = self._held
        if held is None:
            return (await self._newer_than(None, login, _URGENT_PAUSE, refused=False)).value
        if time.monotonic() - held.born < self._max_age or self._attempt is not None:
            return held.value
        try:
            return (await self._newer_than(held, login, _EARLY_PAUSE, refused=False)).value
        except PodiumError:
            return held.value  # still good until the server says otherwise; the failure was logged

    async def replacement(self, refused: str | None, login: Login) -> str | None:
        """Return a token newer than the one that the server refused; fetch it unless somebody else already has.

        Returns the refused one if that has just replaced another.
        """
        held = self._held
        if held is not None:
            hopeless = held.is_replacement and time.monotonic() - held.born < _FUTILE
            if held.value != refused or hopeless:
                return held.value
        return (await self._newer_than(held, login, _URGENT_PAUSE, refused=True)).value

    def _leave_parent(self) -> None:
        """In a forked child, give up what only a thread of the parent would finish."""
        if self._pid != os.getpid():
            self._pid, self._lock, self._attempt = os.getpid(), threading.Lock(), None

    async def _newer_than(self, known: _Held | None, login: Login, pause: Backoff, *, refused: bool) -> _Held:
        while True:
            with self._lock:
                if self._held is not None and self._held is not known:
                    return self._held
                if self._failure is not None and time.monotonic() - self._failed_at < pause.delay(self._failures):
                    raise self._failure.with_traceback(None)
                attempt = self._attempt
                if attempt is None:
                    mine = self._attempt = Future()
            if attempt is None:
                await self._fetch(mine, login, is_replacement=refused)
            else:
                # Shielded: a waiter that is cancelled must not end the attempt of everyone else.
                await asyncio.shield(asyncio.wrap_future(attempt))

    async def _fetch(self, attempt: Future[None], login: Login, *, is_replacement: bool) -> None:
        begun = time.monotonic()
        try:
            self._keep(_Held(await login(), begun, is_replacement))
        except PodiumError as error:
            self._note(error)
        finally:
            # Also on cancellation: then nothing was noted, and the next in line makes a new attempt.
            with self._lock:
                self._attempt = None
            attempt.set_result(None)

    def _keep(self, fetched: _Held) -> None:
        with self._lock:
            before, self._held = self._held, fetched
            self._failures, self._failure = 0, None
        if fetched.value is None and (before is None or before.value is not None):
            logger.info("%s has no POST /token: requests go out without authentication", self._host)

    def _note(self, error: PodiumError) -> None:
        with self._lock:
            self._failures += 1
            self._failed_at, self._failure = time.monotonic(), error
            first = self._failures == 1
        if first and self._held is not None:
            logger.warning("No new token from %s, the old one stays in use: %s", self._host, error)
