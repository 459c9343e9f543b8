"""MetricsCollector: hears events, keeps numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from podium.errors import ConfigError, TaskFailedError
from podium.metrics.catalogue import CPU_SECONDS, RESIDENT_MEMORY, Catalogue
from podium.metrics.metering import SUCCESS, TypeMeter
from podium.metrics.processes import ProcessSource, ProcessWatch
from podium.metrics.settings import MetricsSettings

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from podium.events import (
        Meter,
        PollCompleted,
        PollFailure,
        PollStarted,
        TaskCancelled,
        TaskExecutionCompleted,
        TaskExecutionFailure,
        TaskExecutionStarted,
        TaskGivenBack,
        TaskPaused,
        TaskUpdateCompleted,
        TaskUpdateFailure,
    )
    from podium.metrics.families import Labels, Spec

_FAILURE = "FAILURE"


class MetricsCollector:
    """Counts and times polls, executions, updates and requests of any number of workers.

        handler = TaskHandler(metrics_settings=MetricsSettings(http_port=9090))
        handler = TaskHandler(event_listeners=[collector := MetricsCollector()])

    It is an ordinary event listener; ``settings`` (default ``MetricsSettings()``) say which style of names it has and
    how large the window of its quantiles is. It writes nothing itself: a TaskHandler shows its numbers where the
    settings say, ``get_metrics`` returns them as plain values, ``render`` as Prometheus' text.

    One object serves all workers, and may serve several TaskHandlers. Every method may be called from any thread.
    """

    #: The engine may call the handlers on its own loop: each takes about a microsecond, and none blocks or raises.
    handles_events_inline: ClassVar[bool] = True

    def __init__(self, settings: MetricsSettings | None = None) -> None:
        # Here, so that programs without metrics do not pay for it, and those with metrics do at their start.
        from podium.metrics.exposition import Exposition

        if settings is not None and not isinstance(settings, MetricsSettings):
            raise ConfigError(f"MetricsCollector: expected MetricsSettings(...), not {type(settings).__name__}")
        #: None if none were given.
        self.settings = settings
        effective = settings or MetricsSettings()
        self._catalogue = Catalogue(canonical=effective.is_canonical, window=effective.window)
        self._meters: dict[str, TypeMeter] = {}
        self._processes = ProcessWatch()
        specs = [*(family.spec for family in self._catalogue), RESIDENT_MEMORY, CPU_SECONDS]
        self._exposition = Exposition(self._read, specs)

    @property
    def may_be_metered(self) -> bool:
        """Whether ``meter`` does what its handlers do: those of a subclass may do more."""
        return type(self) is MetricsCollector

    def meter(self, task_type: str) -> Meter:
        """Return what counts the tasks of that type as ``METERED`` handlers do, at a fraction of their cost."""
        return self._meters.get(task_type) or self._meters.setdefault(task_type, TypeMeter(self._catalogue, task_type))

    # what it shows

    def get_metrics(self) -> dict[str, dict[tuple[str, ...], Any]]:
        """Return a copy of all numbers: name -> label values, in the order of the labels -> value.

        The value of a counter or gauge is a number; that of a summary (legacy) is a dict of ``count``, ``sum`` and
        ``quantiles`` (0.5 ... 0.99 -> value); that of a histogram (canonical) is a dict of ``count``, ``sum`` and
        ``buckets`` (upper bound -> observations not above it). Families without a value yet are left out:

            {"task_poll_total": {("greet",): 3},
             "task_execute_time_seconds": {("greet", "SUCCESS"): {"count": 2, "sum": 0.5, "quantiles": {0.5: 0.2}}}}
        """
        return {spec.name: readings for spec, readings in self._read() if readings}

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Return the numbers as text, and its content type.

        ``accept`` is the Accept header of whoever asks: they get OpenMetrics if they want it, else Prometheus' plain
        format 0.0.4.
        """
        return self._exposition.render(accept)

    @property
    def registry(self) -> CollectorRegistry:
        """The collector's own registry of prometheus_client: metrics that are registered there are shown too."""
        return self._exposition.registry

    def watch_processes(self, source: ProcessSource) -> Callable[[], None]:
        """Show memory and CPU time of processes, and of this one as "podium".

        ``source`` is called at each rendering, in the thread that renders, and returns (title, pid) of the processes
        that there are then. Returns a function that ends it. Shows nothing where the system has no ``/proc``.
        """
        return self._processes.add(source)

    def _read(self) -> Iterator[tuple[Spec, dict[Labels, Any]]]:
        for family in self._catalogue:
            yield family.spec, family.read()
        usages = self._processes.usages()
        yield RESIDENT_MEMORY, {(title,): usage.memory for title, usage in usages.items()}
        yield CPU_SECONDS, {(title,): usage.cpu for title, usage in usages.items()}

    # what it hears

    def on_poll_started(self, event: PollStarted) -> None:
        """Count a poll."""
        self.increment_task_poll(event.task_type)

    def on_poll_completed(self, event: PollCompleted) -> None:
        """Take the time of a poll."""
        self.record_task_poll_time(event.task_type, event.duration_ms / 1000)

    def on_poll_failure(self, event: PollFailure) -> None:
        """Count a failed poll, by its exception."""
        self.increment_task_poll_error(event.task_type, event.cause)
        self.record_task_poll_time(event.task_type, event.duration_ms / 1000, _FAILURE)

    def on_task_execution_started(self, event: TaskExecutionStarted) -> None:
        """Count a task that is now in its function."""
        self.increment_task_execution_started(event.task_type)
        self._catalogue.active.of(event.task_type).add()

    def on_task_execution_completed(self, event: TaskExecutionCompleted) -> None:
        """Take time and output size of an execution."""
        self._catalogue.active.of(event.task_type).take()
        self.record_task_execute_time(event.task_type, event.duration_ms / 1000)
        self.record_task_result_payload_size(event.task_type, event.output_size_bytes)

    def on_task_execution_failure(self, event: TaskExecutionFailure) -> None:
        """Count a failed execution by its exception, and take its time."""
        self._catalogue.active.of(event.task_type).take()
        self.increment_task_execution_error(event.task_type, event.cause)
        self.record_task_execute_time(event.task_type, event.duration_ms / 1000, _FAILURE)

    def on_task_cancelled(self, event: TaskCancelled) -> None:
        """Count a result that was dropped, by what the server had made of the task."""
        self._catalogue.active.of(event.task_type).take()
        self._catalogue.cancelled.of(event.task_type, event.status).add()

    def on_task_given_back(self, event: TaskGivenBack) -> None:
        """Count an execution that was stopped before its end."""
        self._catalogue.active.of(event.task_type).take()
        self._catalogue.given_back.of(event.task_type).add()

    def on_task_update_completed(self, event: TaskUpdateCompleted) -> None:
        """Take the time of a delivery."""
        self.record_task_update_time(event.task_type, event.duration_ms / 1000)

    def on_task_update_failure(self, event: TaskUpdateFailure) -> None:
        """Count a result that the server did not take, by its exception."""
        self.increment_task_update_error(event.task_type, event.cause)

    def on_task_paused(self, event: TaskPaused) -> None:
        """Count a pause."""
        self.increment_task_paused(event.task_type)

    # the same by hand, and what is no event

    def increment_task_poll(self, task_type: str) -> None:
        """Count a poll."""
        self._catalogue.polls.of(task_type).add()

    def increment_task_poll_error(self, task_type: str, exception: BaseException) -> None:
        """Count a failed poll."""
        self._catalogue.poll_errors.of(task_type, _class_name(exception)).add()

    def increment_task_paused(self, task_type: str) -> None:
        """Count a pause."""
        self._catalogue.paused.of(task_type).add()

    def increment_task_execution_started(self, task_type: str) -> None:
        """Count an execution."""
        self._catalogue.started.of(task_type).add()

    def increment_task_execution_error(self, task_type: str, exception: BaseException) -> None:
        """Count a failed execution."""
        self._catalogue.execute_errors.of(task_type, _class_name(exception)).add()

    def increment_task_update_error(self, task_type: str, exception: BaseException) -> None:
        """Count a result that could not be delivered."""
        self._catalogue.update_errors.of(task_type, _class_name(exception)).add()

    def set_waiting_results(self, count: int, size: int) -> None:
        """Say how many results, of how many bytes, wait for the server."""
        self._catalogue.waiting.of().set(count)
        self._catalogue.waiting_bytes.of().set(size)

    def increment_superseded_result(self, task_type: str) -> None:
        """Count a result that came too late."""
        self._catalogue.superseded.of(task_type).add()

    def increment_spool_error(self) -> None:
        """Count a failure of the disk that waiting results are written to."""
        self._catalogue.spool_errors.of().add()

    def increment_worker_restart(self, task_type: str) -> None:
        """Count a child process of that worker that was replaced after its death."""
        self._catalogue.restarts.of(task_type).add()

    def increment_worker_recycle(self, task_type: str) -> None:
        """Count a child process of that worker that was replaced because it had served long enough."""
        self._catalogue.recycles.of(task_type).add()

    def set_active_workers(self, task_type: str, count: int) -> None:
        """Say how many tasks are in the worker's function: 0 after a stop, which may end tasks without an event."""
        self._catalogue.active.of(task_type).set(count)

    def record_task_poll_time(self, task_type: str, seconds: float, status: str = SUCCESS) -> None:
        """Take the time of a poll."""
        self._catalogue.poll_seconds.of(task_type, status).observe(seconds)
        if self._catalogue.last_poll is not None:
            self._catalogue.last_poll.of(task_type).set(seconds)

    def record_task_execute_time(self, task_type: str, seconds: float, status: str = SUCCESS) -> None:
        """Take the time of an execution."""
        self._catalogue.execute_seconds.of(task_type, status).observe(seconds)
        if self._catalogue.last_execute is not None:
            self._catalogue.last_execute.of(task_type).set(seconds)

    def record_task_update_time(self, task_type: str, seconds: float, status: str = SUCCESS) -> None:
        """Take the time of a delivery."""
        self._catalogue.update_seconds.of(task_type, status).observe(seconds)

    def record_task_result_payload_size(self, task_type: str, payload_size: int) -> None:
        """Take the size of an output, in bytes."""
        self._catalogue.result_bytes.of(task_type).observe(payload_size)
        if self._catalogue.last_size is not None:
            self._catalogue.last_size.of(task_type).set(payload_size)

    def record_api_request_time(
        self, method: str, uri: str, status: int | str, seconds: float, metric_uri: str | None = None
    ) -> None:
        """Take the time of a request to the server.

        ``uri`` is the endpoint's template, such as ``/tasks/{taskId}``; ``metric_uri`` is shown in its place if given.
        ``status`` is 0 if no answer came. Beyond 50 templates per method the rest is shown as "other".
        """
        self._catalogue.request_seconds.of(method, metric_uri or uri, str(status)).observe(seconds)


def _class_name(exception: BaseException) -> str:
    """Return the name of an exception's class, also of one that was raised in another process."""
    return exception.type_name if isinstance(exception, TaskFailedError) else type(exception).__name__
