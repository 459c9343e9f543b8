"""A worker, a scripted server for loads, and the bad network between them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from checker import check
from event_log import EventLog, Kind
from podium import (
    Configuration,
    PollFailure,
    TaskHandler,
    TaskUpdateCompleted,
    TaskUpdateFailure,
    Worker,
    get_task_context,
)
from task_server import TaskServer
from toxic_proxy import ToxicProxy


class Heard:
    """Notes the events that tell of the network."""

    def __init__(self) -> None:
        self.poll_failures: list[PollFailure] = []
        self.updates: list[TaskUpdateCompleted] = []
        self.update_failures: list[TaskUpdateFailure] = []
        self.on_poll_failure = self.poll_failures.append
        self.on_task_update_completed = self.updates.append
        self.on_task_update_failure = self.update_failures.append


class BadNetwork:
    """The scene: ``server`` behind ``proxy``. Functions run in this process and note what they do in the log."""

    def __init__(self, server: TaskServer, proxy: ToxicProxy) -> None:
        self.server = server
        self.proxy = proxy
        self.heard = Heard()

    @property
    def log(self) -> EventLog:
        return self.server.log

    def working(self, seconds: float = 0.0, go: threading.Event | None = None) -> Callable[[], None]:
        """Return a function that takes some time, or waits for an event, and notes its start and end."""

        def function() -> None:
            task = get_task_context().get_task_id()
            self.log.add(Kind.STARTED, task)
            if go is not None:
                assert go.wait(30)
            time.sleep(seconds)
            self.log.add(Kind.ENDED, task)

        return function

    @contextmanager
    def running(self, function: Callable[..., Any], slots: int = 4, **options: Any) -> Iterator[TaskHandler]:
        """Run a worker for tasks of the type "t"; assert I1 to I5 when it has stopped."""
        of_worker: dict[str, Any] = {"poll_interval": 20, "lease_extend_enabled": True}
        of_worker |= {name: options.pop(name) for name in ("poll_interval", "poll_timeout") if name in options}
        defaults = {"grace_seconds": 10.0, "isolation": "thread", "event_listeners": [self.heard]}
        of_handler: dict[str, Any] = defaults | options
        handler = TaskHandler(
            Worker("t", function, thread_count=slots, **of_worker),
            Configuration(server_api_url=self.proxy.url),
            scan_for_annotated_workers=False, **of_handler,
        )  # fmt: skip
        with handler:
            handler.start_processes()
            yield handler
        check(self.log, slots=slots, patience=0.5)


@contextmanager
def bad_network(**server_options: Any) -> Iterator[BadNetwork]:
    with ExitStack() as stack:
        server = stack.enter_context(TaskServer(**server_options))
        yield BadNetwork(server, stack.enter_context(ToxicProxy(server.port)))
