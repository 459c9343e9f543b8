"""What a TaskHandler shows of its work: metrics collectors, wired to the engine, and where they are shown."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from podium.errors import ConfigError
from podium.events import HANDLERS, METERED
from podium.waiting import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from podium.events import Meter
    from podium.metrics import MetricsCollector, MetricsSettings
    from podium.metrics.exporter import HealthSource, MetricsExporter
    from podium.transport import RequestHook


class Instruments(Watch):
    """The metrics of one TaskHandler: of its ``metrics_settings``, and of collectors among its listeners.

    Without either it does nothing, and loads nothing.
    """

    def __init__(self, settings: MetricsSettings | None, listeners: Sequence[object]) -> None:
        self._collectors = _collectors_among(listeners)
        heard: list[object] = list(listeners)
        if settings is not None and not any(collector.settings is settings for collector in self._collectors):
            collector = _collector_for(settings)
            self._collectors.append(collector)
            heard.append(collector)
        #: The collector whose meters are told of tasks, instead of hearing events.
        self._metered = metered = next((one for one in self._collectors if one.may_be_metered), None)
        #: The listeners, and the collector that the settings ask for; that which is metered hears only the rest.
        self.listeners = [_Unmetered(metered) if metered and one is metered else one for one in heard]
        self._exporters: list[MetricsExporter] = []
        self._watches: list[Callable[[], None]] = []

    @property
    def port(self) -> int | None:
        """The first port that metrics are served at; None if there is none."""
        return next((exporter.port for exporter in self._exporters if exporter.port is not None), None)

    @property
    def on_request(self) -> RequestHook | None:
        """What is to be called after every request to the server; None if nobody counts them."""
        return self._note_request if self._collectors else None

    def meter(self, task_type: str) -> Meter:
        """Return what counts the tasks of that type."""
        return super().meter(task_type) if self._metered is None else self._metered.meter(task_type)

    def on_restart(self, task_types: Sequence[str]) -> None:
        """Count the restart of a child that runs these workers."""
        for collector in self._collectors:
            for task_type in task_types:
                collector.increment_worker_restart(task_type)

    def on_waiting(self, count: int, size: int) -> None:
        """Show how many results wait."""
        for collector in self._collectors:
            collector.set_waiting_results(count, size)

    def on_superseded(self, task_type: str) -> None:
        """Count a result that came too late."""
        for collector in self._collectors:
            collector.increment_superseded_result(task_type)

    def on_spool_failure(self) -> None:
        """Count a failure of the spool's disk."""
        for collector in self._collectors:
            collector.increment_spool_error()

    def on_recycle(self, task_types: Sequence[str]) -> None:
        """Count the replacement of a child that runs these workers and has served long enough."""
        for collector in self._collectors:
            for task_type in task_types:
                collector.increment_worker_recycle(task_type)

    def start(self, probes: Mapping[str, HealthSource], processes: Callable[[], Iterable[tuple[str, int]]]) -> None:
        """Show the metrics, ``probes``, and what ``processes`` need; raises StartError if a port or file is refused."""
        if not self._collectors:
            return
        from podium.metrics.exporter import MetricsExporter

        with contextlib.ExitStack() as undo:
            undo.callback(self.stop)
            for collector in self._collectors:
                self._watches.append(collector.watch_processes(processes))
                if collector.settings is not None:
                    exporter = MetricsExporter(collector.settings, collector, probes)
                    exporter.start()
                    self._exporters.append(exporter)
            undo.pop_all()

    def stop(self, task_types: Iterable[str] = ()) -> None:
        """Show the last values and stop; no task of ``task_types`` is active any more."""
        for collector in self._collectors:
            for task_type in task_types:
                collector.set_active_workers(task_type, 0)
        for exporter in self._exporters:
            exporter.stop()
        for end in self._watches:
            end()
        self._exporters, self._watches = [], []

    def _note_request(self, method: str, template: str, status: int, seconds: float) -> None:
        for collector in self._collectors:
            collector.record_api_request_time(method, template, status, seconds)


class _Unmetered:
    """Hears for a collector what its meters are not told."""

    handles_events_inline = True

    def __init__(self, collector: MetricsCollector) -> None:
        for name in HANDLERS.keys() - METERED:
            setattr(self, name, getattr(collector, name))


def checked_listeners(listeners: object) -> list[object]:
    """Return the listeners as a list; raises ConfigError for what is none, or would never be called."""
    if not isinstance(listeners, Iterable) or isinstance(listeners, str):
        raise ConfigError(f"TaskHandler: event_listeners={listeners!r}: expected a list of listener objects")
    checked = list(listeners)
    for listener in checked:
        if isinstance(listener, type):
            raise ConfigError(f"TaskHandler: event_listeners: {listener.__name__} is a class; pass an object of it")
        if not any(callable(getattr(listener, name, None)) for name in HANDLERS):
            known = ", ".join(HANDLERS)
            raise ConfigError(f"TaskHandler: event_listeners: {listener!r} has no method to call; known are {known}")
    return checked


def _collectors_among(listeners: Iterable[object]) -> list[MetricsCollector]:
    # Whoever made one has loaded the module; nobody else is to pay for it.
    module = sys.modules.get("podium.metrics.collector")
    kind: Any = () if module is None else module.MetricsCollector
    return [listener for listener in listeners if isinstance(listener, kind)]


def _collector_for(settings: MetricsSettings) -> MetricsCollector:
    from podium.metrics import MetricsCollector, MetricsSettings

    if not isinstance(settings, MetricsSettings):
        raise ConfigError(
            f"TaskHandler: metrics_settings={settings!r}: expected MetricsSettings(...), "
            "such as MetricsSettings(http_port=9090)"
        )
    return MetricsCollector(settings)
