"""The client for code without an event loop: the same methods, blocking.

There is one implementation, AsyncClient. ``blocking`` turns each of its methods into a method that runs on an event
loop in a background thread and waits, with the same signature for readers and type checkers.
"""

from __future__ import annotations

import asyncio
import os
import threading
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

from podium.client import AsyncClient
from podium.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from podium.config import Configuration
    from podium.transport import Transport

P = ParamSpec("P")
T = TypeVar("T")


class Portal:
    """An event loop in a daemon thread, started with the first call and again in a forked child."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pid = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and return its result, from any thread but the loop's own."""
        loop = self._running_loop()
        if threading.current_thread() is self._thread:
            work.close()
            raise ConfigError("a blocking Client call cannot run on the client's own event loop: use AsyncClient")
        future = asyncio.run_coroutine_threadsafe(work, loop)
        try:
            return future.result()
        except BaseException:
            # An interrupt ends the wait, and so must it end the work; after the work's own failure this does nothing.
            future.cancel()
            raise

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._pid != os.getpid():
            # Threads do not survive a fork, and the lock may have been held by one of them.
            self._lock, self._loop, self._pid = threading.Lock(), None, os.getpid()
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="podium-client", daemon=True)
                self._thread.start()
            return self._loop


_portal = Portal()


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
    get_task_defs = blocking(AsyncClient.get_task_defs)
    unregister_task_def = blocking(AsyncClient.unregister_task_def)
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
