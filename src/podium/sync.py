"""The client for code without an event loop: the same methods, blocking.

There is one implementation, AsyncClient. ``blocking`` turns each of its methods into a method that runs on an event
loop in a background thread and waits, with the same signature for readers and type checkers.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from concurrent.futures import CancelledError
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, Self, TypeVar

from podium.client import AsyncClient
from podium.errors import ConfigError, ConnectError, CutError, PodiumError
from podium.loops import close_loop

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from podium.config import Configuration
    from podium.transport import Transport

P = ParamSpec("P")
T = TypeVar("T")

#: Seconds that the end of a program waits for the background thread.
_PATIENCE: Final = 2.0


class Portal:
    """An event loop in a daemon thread, started with the first call and again in a forked child."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._ended = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and return its result, from any thread but the loop's own."""
        try:
            future = asyncio.run_coroutine_threadsafe(work, self._running_loop())
        except PodiumError:
            work.close()
            raise
        try:
            return future.result()
        except CancelledError:
            raise CutError("the program ended during the request") from None
        except KeyboardInterrupt:
            future.cancel()
            raise

    def end(self) -> None:
        """Cancel what is under way, refuse what comes, end the thread: the interpreter is going down."""
        self._ended = True
        if self._loop is None or self._thread is None or self._pid != os.getpid():
            return
        asyncio.run_coroutine_threadsafe(_cancel_others(), self._loop)
        self._thread.join(_PATIENCE)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._pid != os.getpid():
            # Threads do not survive a fork, and the lock may have been held by one of them.
            self._lock, self._loop, self._pid = threading.Lock(), None, os.getpid()
        if self._ended:
            raise ConnectError("the program is ending")
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=_serve, args=(self._loop,), name="podium-client", daemon=True)
                self._thread.start()
        if threading.current_thread() is self._thread:
            raise ConfigError("a blocking Client call cannot run on the client's own event loop: use AsyncClient")
        return self._loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        close_loop(loop)


async def _cancel_others() -> None:
    """Cancel all tasks of the running loop but this one, then stop the loop."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    asyncio.get_running_loop().stop()


_portal = Portal()
# A daemon thread that talks HTTP while the interpreter goes down could take the process along.
atexit.register(_portal.end)


def blocking(
    method: Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Client, P], T]:
    """Return a method of Client that runs this method of AsyncClient to its end."""

    def call(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return _portal.run(method(self._client, *args, **kwargs))

    update_wrapper(call, method)
    return call


class Client:
    """A blocking client of one Conductor server; see AsyncClient for every method.

    Usable from any thread and at any time, also while a TaskHandler runs in the same program. Use it as a context
    manager, or call ``close``.
    """

    def __init__(self, configuration: Configuration | None = None, *, transport: Transport | None = None) -> None:
        self._client = AsyncClient(configuration, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    close = blocking(AsyncClient.aclose)

    poll_tasks = blocking(AsyncClient.poll_tasks)
    post_result = blocking(AsyncClient.post_result)
    post_result_v2 = blocking(AsyncClient.post_result_v2)
    extend_lease = blocking(AsyncClient.extend_lease)
    append_task_log = blocking(AsyncClient.append_task_log)
    get_task = blocking(AsyncClient.get_task)
    get_task_state = blocking(AsyncClient.get_task_state)
    update_task = blocking(AsyncClient.update_task)
    update_task_by_ref = blocking(AsyncClient.update_task_by_ref)
    get_task_logs = blocking(AsyncClient.get_task_logs)
    add_task_log = blocking(AsyncClient.add_task_log)
    get_queue_sizes = blocking(AsyncClient.get_queue_sizes)
    get_poll_data = blocking(AsyncClient.get_poll_data)
    register_task_defs = blocking(AsyncClient.register_task_defs)
    register_task_def = blocking(AsyncClient.register_task_def)
    update_task_def = blocking(AsyncClient.update_task_def)
    get_task_def = blocking(AsyncClient.get_task_def)
    get_task_def_json = blocking(AsyncClient.get_task_def_json)
    get_task_defs = blocking(AsyncClient.get_task_defs)
    unregister_task_def = blocking(AsyncClient.unregister_task_def)
    register_schemas = blocking(AsyncClient.register_schemas)
    get_schema = blocking(AsyncClient.get_schema)
    register_workflow_def = blocking(AsyncClient.register_workflow_def)
    update_workflow_defs = blocking(AsyncClient.update_workflow_defs)
    get_workflow_def = blocking(AsyncClient.get_workflow_def)
    unregister_workflow_def = blocking(AsyncClient.unregister_workflow_def)
    start_workflow = blocking(AsyncClient.start_workflow)
    execute_workflow = blocking(AsyncClient.execute_workflow)
    wait_for_workflow = blocking(AsyncClient.wait_for_workflow)
    get_workflow = blocking(AsyncClient.get_workflow)
    get_workflow_status = blocking(AsyncClient.get_workflow_status)
    search_workflows = blocking(AsyncClient.search_workflows)
    terminate_workflow = blocking(AsyncClient.terminate_workflow)
    pause_workflow = blocking(AsyncClient.pause_workflow)
    resume_workflow = blocking(AsyncClient.resume_workflow)
    retry_workflow = blocking(AsyncClient.retry_workflow)
    restart_workflow = blocking(AsyncClient.restart_workflow)
    rerun_workflow = blocking(AsyncClient.rerun_workflow)
    remove_workflow = blocking(AsyncClient.remove_workflow)
    decide_workflow = blocking(AsyncClient.decide_workflow)
