"""Every metric of podium, in its two styles.

The names are those of Conductor's Python SDK: dashboards go on working. "legacy" gives quantiles and the last value of
each time, "canonical" gives histograms, which can be added up over many processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, Final, TypeAlias

from podium.metrics.families import Buckets, Family, Number, Spec, Window

SECONDS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
BYTES: Final = (100.0, 1e3, 1e4, 1e5, 1e6, 1e7)

Distribution: TypeAlias = Family[Window] | Family[Buckets]

_TYPE: Final = ("taskType",)
_STATUS: Final = ("taskType", "status")
_EXCEPTION: Final = ("taskType", "exception")
_REQUEST: Final = ("method", "uri", "status")

RESIDENT_MEMORY: Final = Spec(
    "worker_process_resident_memory_bytes", "gauge", ("process",), "Memory of a process that is not swapped out."
)
CPU_SECONDS: Final = Spec(
    "worker_process_cpu_seconds", "gauge", ("process",), "User and system CPU time of a process since its start."
)


class Catalogue:
    """The families of one collector."""

    def __init__(self, *, canonical: bool, window: int) -> None:
        self._canonical = canonical
        self._window = window
        self.polls = _counter("task_poll_total", _TYPE, "Polls sent.")
        self.poll_errors = _counter("task_poll_error_total", _EXCEPTION, "Polls that failed.")
        self.paused = _counter("task_paused_total", _TYPE, "Times that a worker was paused.")
        self.started = _counter("task_execution_started_total", _TYPE, "Tasks handed to a worker's function.")
        self.execute_errors = _counter("task_execute_error_total", _EXCEPTION, "Executions that failed.")
        self.cancelled = _counter("task_cancelled_total", _STATUS, "Results dropped, because nobody waited for them.")
        self.given_back = _counter("task_given_back_total", _TYPE, "Executions stopped, and their tasks given back.")
        self.update_errors = _counter(
            "task_update_error_total", _EXCEPTION, "Results not taken in four attempts, or too late, or refused."
        )
        self.waiting = _gauge("task_results_waiting", (), "Results that the server has not taken yet.")
        self.waiting_bytes = _gauge("task_results_waiting_bytes", (), "Size of the results that wait.")
        self.superseded = _counter(
            "task_result_superseded_total", _TYPE, "Results that came too late: the server had given the task up."
        )
        self.spool_errors = _counter(
            "result_spool_error_total", (), "Times that waiting results could not be written to disk."
        )
        self.restarts = _counter("worker_restart_total", _TYPE, "Worker processes replaced after their death.")
        self.recycles = _counter(
            "worker_recycle_total", _TYPE, "Worker processes replaced because they had served long enough."
        )
        self.active = _gauge("active_workers", _TYPE, "Tasks in a worker's function right now.")
        self.poll_seconds = self._times("task_poll_time_seconds", _STATUS, "Time until a poll was answered.")
        self.execute_seconds = self._times("task_execute_time_seconds", _STATUS, "Time that executions took.")
        self.update_seconds = self._times("task_update_time_seconds", _STATUS, "Time until a result was delivered.")
        self.result_bytes = self._distribution("task_result_size_bytes", _TYPE, "Size of the output's JSON.", BYTES)
        self.request_seconds = self._times(
            "http_api_client_request_seconds" if canonical else "http_api_client_request",
            _REQUEST, "Time of requests to the Conductor server; status 0 is no answer.", bounded=1,
        )  # fmt: skip
        self.last_poll, self.last_execute, self.last_size = (
            None if canonical else _gauge(name, _TYPE, text)
            for name, text in (
                ("task_poll_time", "Seconds until the last poll was answered."),
                ("task_execute_time", "Seconds that the last execution took."),
                ("task_result_size", "Bytes of the last output's JSON."),
            )
        )

    def __iter__(self) -> Iterator[Family[Any]]:
        return (family for family in vars(self).values() if isinstance(family, Family))

    def _times(self, name: str, labels: tuple[str, ...], text: str, bounded: int | None = None) -> Distribution:
        return self._distribution(name, labels, text, SECONDS, bounded)

    def _distribution(
        self, name: str, labels: tuple[str, ...], text: str, bounds: tuple[float, ...], bounded: int | None = None
    ) -> Distribution:
        if self._canonical:
            return Family(Spec(name, "histogram", labels, text, bounded), partial(Buckets, bounds=bounds))
        return Family(Spec(name, "summary", labels, text, bounded), partial(Window, size=self._window))


def _counter(name: str, labels: tuple[str, ...], text: str) -> Family[Number]:
    return Family(Spec(name, "counter", labels, text, bounded=1 if labels == _EXCEPTION else None), Number)


def _gauge(name: str, labels: tuple[str, ...], text: str) -> Family[Number]:
    return Family(Spec(name, "gauge", labels, text), Number)
