"""conductor-python's TaskHandler: the same arguments and methods, around podium's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

from podium.compat.absence import WithAbsent
from podium.compat.configuration import Configuration
from podium.compat.isolation import isolation_mode
from podium.compat.measuring import MetricsSettings
from podium.compat.workers import WorkerInterface

if TYPE_CHECKING:
    import podium

_NO_PROCESS = "there is no such process; get_worker_status() has pids and exit codes"
_DEFAULTS: dict[str, Any] = {
    "monitor_processes": True,
    "restart_on_failure": True,
    "monitor_interval_seconds": 5.0,
    "restart_backoff_seconds": 1.0,
    "restart_backoff_max_seconds": 60.0,
    "restart_max_attempts": 0,
}


class TaskHandler(WithAbsent):
    """Runs workers; see podium's TaskHandler, whose other options may be given too, and whose methods it has.

    Workers may be podium's or objects of classes that inherit from WorkerInterface. CONDUCTOR_WORKER_ISOLATION
    decides where they run, unless ``isolation`` does.
    """

    absent: ClassVar[Mapping[str, str]] = {
        "task_runner_processes": _NO_PROCESS,
        "metrics_provider_process": _NO_PROCESS,
        "logger_process": _NO_PROCESS,
        "queue": "log records of worker processes come over the connection that tasks go over",
    }

    def __init__(
        self,
        workers: Iterable[Any] | None = None,
        configuration: Configuration | podium.Configuration | None = None,
        metrics_settings: MetricsSettings | None = None,
        scan_for_annotated_workers: bool = True,
        import_modules: Iterable[str] | None = None,
        event_listeners: Iterable[object] | None = None,
        monitor_processes: bool = True,
        restart_on_failure: bool = True,
        monitor_interval_seconds: float = 5.0,
        restart_backoff_seconds: float = 1.0,
        restart_backoff_max_seconds: float = 60.0,
        restart_max_attempts: int = 0,
        **options: Any,
    ) -> None:
        import podium

        supervision = {
            "monitor_processes": monitor_processes,
            "restart_on_failure": restart_on_failure,
            "monitor_interval_seconds": monitor_interval_seconds,
            "restart_backoff_seconds": restart_backoff_seconds,
            "restart_backoff_max_seconds": restart_backoff_max_seconds,
            "restart_max_attempts": restart_max_attempts,
        }
        vars(self).update(supervision)
        options = {name: value for name, value in supervision.items() if value != _DEFAULTS[name]} | options
        options.setdefault("isolation", isolation_mode())
        by_name = options["isolation"] == "process" and options.get("start_method") != "fork"
        modules = [import_modules] if isinstance(import_modules, str) else list(import_modules or ())
        # Processes import podium.compat first: the workers' modules may leave that to the program's.
        modules.insert(0, "podium.compat")
        self.event_listeners = list(event_listeners) if isinstance(event_listeners, Iterable) else event_listeners
        self._native = podium.TaskHandler(
            _native_workers(workers, by_name=by_name),
            configuration.native() if isinstance(configuration, Configuration) else configuration,
            metrics_settings.native() if isinstance(metrics_settings, MetricsSettings) else metrics_settings,
            scan_for_annotated_workers,
            modules,
            self.event_listeners,
            **options,
        )

    @property
    def workers(self) -> list[podium.Worker]:
        """The workers that run."""
        return self._native.workers

    def start_processes(self) -> None:
        """Start all workers; return when each can run tasks."""
        self._native.start_processes()

    def stop_processes(self, grace: float | None = None) -> None:
        """Stop polling, let running tasks finish for up to ``grace`` seconds, and end."""
        self._native.stop_processes(grace)

    def join_processes(self) -> None:
        """Wait until the workers have been stopped."""
        self._native.join_processes()

    def is_healthy(self) -> bool:
        """Return whether all workers are well."""
        return self._native.is_healthy()

    def get_worker_process_status(self) -> list[dict[str, Any]]:
        """Return a dict per worker with the keys worker, pid, alive, exitcode and restart_count."""
        keys = ("worker", "pid", "alive", "exitcode", "restart_count")
        return [{key: entry[key] for key in keys} for entry in self._native.get_worker_status()]

    def __getattr__(self, name: str) -> Any:
        if name in self.absent or name == "_native":
            return super().__getattr__(name)
        return getattr(self._native, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_processes()


def _native_workers(workers: Iterable[Any] | Any | None, *, by_name: bool) -> list[Any]:
    """Return podium's workers for any mixture; what is no worker is left for podium to refuse."""
    if workers is None:
        return []
    native: list[Any] = []
    for worker in workers if isinstance(workers, Iterable) else [workers]:
        native += worker.native_workers(by_name=by_name) if isinstance(worker, WorkerInterface) else [worker]
    return native
