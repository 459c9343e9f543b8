"""TaskHandler: starts workers, watches them, stops them."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Self, cast

from podium.backoff import is_duration
from podium.config import Configuration
from podium.crew.place import RestartPolicy
from podium.delivery import UPDATE_RETRY_DELAYS
from podium.discovery import counted, summary_of
from podium.discovery import import_modules as import_modules_by_name
from podium.engine import Engine
from podium.errors import ConfigError, DeclarationError, NoWorkerLeftError, PodiumError, StartError
from podium.health import Health
from podium.instruments import Instruments, checked_listeners
from podium.lifecycle import Lifecycle
from podium.logs import configure_logging
from podium.member import refuse_while_importing
from podium.monitor import Monitoring
from podium.plan import Defaults, Plan, Surroundings, log_levels, plan_crews
from podium.registry import get_registered_workers, listed_workers, without_doubles
from podium.settings import resolve_workers, rows_of
from podium.status import processes_of, status_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from podium.crew.launch import StartMethod
    from podium.drain import DrainReport
    from podium.health import Verdict
    from podium.metrics import MetricsSettings
    from podium.options import Isolation
    from podium.registry import Worker

logger = logging.getLogger(__name__)


class TaskHandler:
    """Runs workers: polls a Conductor server and executes their functions, until stopped.

        with TaskHandler(configuration=Configuration(), import_modules=["my_app.workers"]) as handler:
            handler.start_processes()
            handler.join_processes()

    workers
        Worker objects to run; more are found by ``scan_for_annotated_workers``. A worker found both ways runs once.
    configuration
        The server and the credentials; default ``Configuration()``, which reads the environment.
    scan_for_annotated_workers
        Run every function declared with ``@worker_task`` in a module that is imported by now (True).
    import_modules
        Names of modules to import first, so that their declarations are found.
    metrics_settings
        Count and time what happens, and show it over HTTP or in a file. With HTTP come ``/health/live``,
        ``/health/ready`` and ``/health``.
    event_listeners
        Objects that implement any part of ``TaskRunnerEventsListener``. A ``MetricsCollector`` is one, too.
    isolation
        "process" (default): functions run in child processes. "thread": in this process; a function that holds the
        GIL then holds up polls and heartbeats too.
    group
        A name: all workers that have no group of their own share one set of child processes.
    processes
        Child processes per worker or group (1).
    start_method
        How children are started: "forkserver" (default), "spawn", or "fork".
    restart_on_failure, restart_backoff_seconds, restart_backoff_max_seconds, restart_max_attempts
        A dead child is replaced at once; after its next deaths in a row 1, 2, 4 ... up to 60 s later; no limit (0).
        A child that ran for 5 minutes starts at the beginning again.
    monitor_processes, monitor_interval_seconds
        Look at every worker at intervals (True, 5 s), besides noticing a death at once. Without it, dead children are
        not replaced either.
    stuck_after_seconds, restart_stuck
        A poll loop that is overdue, or a child process without a sign of life, for that long (30 s) is an error in
        the log and in the health. A plain function may run for hours: its process still gives signs of life, unless
        the function holds the GIL. With ``restart_stuck`` (False) the loop begins anew, and the process is replaced;
        its tasks then fail, and are retried.
    kill_stopped
        Kill and replace a child process that a signal such as SIGSTOP has stopped, if it is so at two looks of the
        monitor in a row (True): it does nothing, and its tasks' leases would be kept for ever. Its tasks fail, and are
        retried. A process that a debugger holds is left alone. Known on Linux only.
    grace_seconds
        How long tasks may go on after the request to stop (25, which fits the 30 s that Kubernetes gives).
    handle_signals
        Let SIGTERM and SIGINT stop the handler (True); a second one ends the grace period. Only possible where
        ``start_processes`` is called in the main thread. A program that does not wait in ``join_processes`` gets the
        signal again, a second after the drain, with the handlers that were there before. SIGHUP stops nothing.
    update_retry_delays
        Seconds between the first attempts to deliver a result: (10, 20, 30). ``TaskUpdateFailure`` follows the last of
        them; the result goes on waiting, on disk if it can, and is sent until the server has it.

    Raises DeclarationError, ConfigError, or StartError naming the module for an import that fails.
    """

    def __init__(
        self,
        workers: Iterable[Worker] | Worker | None = None,
        configuration: Configuration | None = None,
        metrics_settings: MetricsSettings | None = None,
        scan_for_annotated_workers: bool = True,
        import_modules: Iterable[str] | None = None,
        event_listeners: Iterable[object] | None = None,
        *,
        isolation: Isolation = "process",
        group: str | None = None,
        processes: int = 1,
        start_method: StartMethod = "forkserver",
        restart_on_failure: bool = True,
        restart_backoff_seconds: float = 1.0,
        restart_backoff_max_seconds: float = 60.0,
        restart_max_attempts: int = 0,
        monitor_processes: bool = True,
        monitor_interval_seconds: float = 5.0,
        stuck_after_seconds: float = 30.0,
        restart_stuck: bool = False,
        kill_stopped: bool = True,
        grace_seconds: float = 25.0,
        handle_signals: bool = True,
        update_retry_delays: Sequence[float] = UPDATE_RETRY_DELAYS,
    ) -> None:
        self._defaults = Defaults(isolation=isolation, group=group, processes=processes, start_method=start_method)
        _check("grace_seconds", grace_seconds, is_duration(grace_seconds), "seconds, 0 or more")
        configured = configuration is None or isinstance(configuration, Configuration)
        _check("configuration", configuration, configured, "a Configuration, such as Configuration(server_api_url=...)")
        _check_flags(
            scan_for_annotated_workers=scan_for_annotated_workers, restart_on_failure=restart_on_failure,
            monitor_processes=monitor_processes, restart_stuck=restart_stuck, kill_stopped=kill_stopped,
            handle_signals=handle_signals,
        )  # fmt: skip
        self.configuration = configuration or Configuration()
        _check("import_modules", import_modules, isinstance(import_modules, Iterable | None), "names of modules")
        self._imports = [import_modules] if isinstance(import_modules, str) else list(import_modules or ())
        #: The workers to run, with the values that hold for them after a look at the environment.
        self.workers = self._find_workers(workers, scan=scan_for_annotated_workers)
        self._instruments = Instruments(metrics_settings, checked_listeners(event_listeners or ()))
        self._monitoring = Monitoring(
            enabled=monitor_processes, interval_seconds=monitor_interval_seconds,
            stuck_after_seconds=stuck_after_seconds, restart_stuck=restart_stuck, kill_stopped=kill_stopped,
        )  # fmt: skip
        self._restart = RestartPolicy(
            restart=restart_on_failure and monitor_processes,
            backoff_seconds=restart_backoff_seconds,
            backoff_max_seconds=restart_backoff_max_seconds,
            max_attempts=restart_max_attempts,
        )
        self._grace = grace_seconds
        self._handle_signals = handle_signals
        self._update_retry_delays = _checked_delays(update_retry_delays)
        self._life = Lifecycle()

    def _find_workers(self, workers: Any, *, scan: bool) -> list[Worker]:
        with contextlib.ExitStack() as undo:
            undo.callback(configure_logging())  # what is said of declarations and variables goes where the rest will go
            import_modules_by_name(self._imports)
            found = [*listed_workers(workers), *(get_registered_workers() if scan else ())]
            return without_doubles(resolve_workers(found, self.configuration))

    def start_processes(self) -> None:
        """Start all workers; return when each can run tasks.

        Raises StartError if one cannot start (nothing is left running then), DeclarationError if there is none.
        Does nothing if they run already. May be called again when they have been stopped.
        """
        refuse_while_importing("TaskHandler.start_processes()")
        self._life.start(self._make_engine, self._grace if self._handle_signals else None)

    def _make_engine(self, undo: contextlib.ExitStack) -> Engine:
        """Make an engine and show its metrics; ``undo`` gets what takes that back."""
        if not self.workers:
            raise DeclarationError(
                "there are no workers to run: pass workers=[...], or declare functions with @worker_task and name "
                "their modules in import_modules=[...]"
            )
        undo.callback(configure_logging())  # first: it decides what is said, and what children are told to say
        for worker in self.workers:
            rows = "".join(f"\n  {name}: {value} (from {source})" for name, value, source in rows_of(worker))
            logger.debug("Worker %r configuration:%s", worker.task_definition_name, rows)
        engine = Engine(self._plan())
        self._instruments.start(Health(engine, self._monitoring.silence).probes, lambda: _processes_of(engine))
        undo.callback(self._instruments.stop, self._task_types())
        return engine

    def stop_processes(self, grace: float | None = None) -> DrainReport | None:
        """Stop polling, let running tasks finish for up to ``grace`` seconds (default ``grace_seconds``), and end.

        What has not finished by then is stopped and given back to the server. Returns when everything has ended, with
        the report; None if nothing runs, and to a listener, for which the stop cannot wait.
        """
        return self._life.stop(self._grace if grace is None else grace, "stop_processes()")

    @property
    def drain_report(self) -> DrainReport | None:
        """What became of the tasks in hand at the last stop; None before the first, and while workers run."""
        return self._life.drain_report

    @property
    def _engine(self) -> Engine | None:
        return self._life.engine

    def join_processes(self) -> None:
        """Wait until the workers have been stopped: by a signal, or by ``stop_processes`` in another thread.

        The death and restart of a child does not end it. Raises NoWorkerLeftError if all children have died and none
        is to be restarted any more, PodiumError if podium itself failed, StartError if nothing runs or a listener asks.
        """
        engine = self._engine
        if engine is None:
            raise StartError("join_processes() without start_processes(): no worker is running")
        if engine.needs_this_thread():
            raise StartError("join_processes() in a listener: the end waits for the listener to return")
        self._life.awaited()
        engine.wait()
        if isinstance(engine.failure, NoWorkerLeftError):
            raise engine.failure
        if engine.failure is not None:
            raise PodiumError("podium's engine failed, and the workers were stopped") from engine.failure

    def is_healthy(self) -> bool:
        """Return whether every worker does its work: its processes give signs of life, and its loop polls.

        A worker that is paused, or whose slots are all busy, is healthy; so is one whose polls fail because the
        server is down, as restarting it would not help. False if nothing runs.
        """
        return self._asked(Health.well)

    def is_alive(self) -> bool:
        """Return whether podium itself turns, as ``/health/live`` says: its loops go on; False if nothing runs.

        A restart of the program would help if not. Neither a child that died nor a server that is down is such a case.
        """
        return self._asked(Health.alive)

    def is_ready(self) -> bool:
        """Return whether every worker can take work, as ``/health/ready`` says; False if nothing runs.

        A worker can if the server has answered a poll of it lately, and the credentials are accepted; also if it is
        paused or its slots are all busy. None can while the handler drains. ``get_worker_status`` tells why not.
        """
        return self._asked(Health.ready)

    def _asked(self, question: Callable[[Health], Verdict]) -> bool:
        engine = self._engine
        return engine is not None and not engine.ended and question(Health(engine, self._monitoring.silence))[0]

    def get_worker_status(self) -> list[dict[str, Any]]:
        """Return a dict per worker; an empty list if nothing runs.

        Keys: worker, domain, worker_id; pid, pids, alive, exitcode (of the last child that died, negative for a
        signal), restart_count (after deaths), recycle_count (after long service); paused, polling, running (tasks in
        hand), slots, last_poll_seconds_ago (None before the first), poll_failure (why the last poll failed, else
        None); problem (what keeps the worker from its work, else None), unready (why it can take no work now, else
        None).
        """
        engine = self._engine
        if engine is None or engine.ended:
            return []
        return [status_of(runner, crew, self._monitoring.silence) for runner, crew in engine.runners]

    def print_summary(self) -> None:
        """Print a line per worker: its name, module, domain, threads, poll interval, and what it does just now."""
        states = {(entry["worker"], entry["domain"]): _state(entry) for entry in self.get_worker_status()}
        print(counted(len(self.workers), "worker"), *summary_of(self.workers, states), sep="\n")  # noqa: T201 - what the method is for

    @property
    def metrics_port(self) -> int | None:
        """The port that ``/metrics`` and ``/health...`` are served at; None if they are not."""
        return self._instruments.port

    def _task_types(self) -> list[str]:
        return list(dict.fromkeys(worker.task_definition_name for worker in self.workers))

    def set_paused(self, name: str, paused: bool) -> None:
        """Stop or resume polling for the workers of a task definition, in all domains; running tasks go on.

        Raises DeclarationError for an unknown name, StartError if nothing runs.
        """
        engine = self._engine
        if engine is None:
            raise StartError("set_paused() without start_processes(): no worker is running")
        if not engine.call(lambda parts: parts.set_paused(name, paused)):
            names = ", ".join(sorted(self._task_types()))
            raise DeclarationError(f"set_paused: no worker for {name!r}; there are: {names}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_processes()

    def _plan(self) -> Plan:
        surroundings = Surroundings(
            imports=self._imports, log_levels=log_levels(), beat_interval=self._monitoring.beat_interval
        )
        crews, launcher = plan_crews(self.workers, self._defaults, surroundings)
        return Plan(
            configuration=self.configuration,
            crews=crews,
            launcher=launcher,
            restart=self._restart,
            monitoring=self._monitoring,
            listeners=self._instruments.listeners,
            update_retry_delays=self._update_retry_delays,
            on_request=self._instruments.on_request,
            on_restart=self._instruments.on_restart,
            watch=self._instruments,
            on_recycle=self._instruments.on_recycle,
        )


def _state(status: dict[str, Any]) -> str:
    if status["paused"]:
        return "paused"
    return status["problem"] or ("polling" if status["polling"] else "stopping")


def _processes_of(engine: Engine) -> list[tuple[str, int]]:
    """Return title and process id of every child; workers of one group share theirs."""
    crews = dict.fromkeys(crew for _, crew in engine.runners)
    return [child for crew in crews for child in processes_of(crew)]


def _check(name: str, value: object, ok: bool, allowed: str) -> None:
    if not ok:
        raise ConfigError(f"TaskHandler: {name}={value!r}: expected {allowed}")


def _checked_delays(delays: object) -> tuple[float, ...]:
    good = isinstance(delays, (list, tuple)) and all(map(is_duration, delays))
    _check("update_retry_delays", delays, good, "a sequence of seconds, 0 or more")
    return tuple(cast("Sequence[float]", delays))


def _check_flags(**flags: object) -> None:
    for name, flag in flags.items():
        _check(name, flag, isinstance(flag, bool), "True or False")
