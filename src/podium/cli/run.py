"""``podium run``: workers as a program, without a script of one's own."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from podium.cli.ending import EARLY_STOP, ExitCode, check_report_target, write_report
from podium.cli.modules import load_workers
from podium.handler import TaskHandler
from podium.logs import configure_program_logging
from podium.metrics import MetricsSettings
from podium.settings import set_for_all

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from podium.crew.launch import StartMethod


@dataclass(frozen=True, kw_only=True)
class Program:
    """What ``podium run`` was asked for."""

    modules: Sequence[str]
    paths: Sequence[str] = ()
    compat: bool = False
    start_method: StartMethod = "forkserver"
    grace_seconds: float = 25.0
    metrics_port: int | None = None
    metrics_host: str = "127.0.0.1"
    #: Where the drain report goes: a file, or - for standard output; None for nowhere.
    drain_report: str | None = None
    #: Option -> text, for all workers, as environment variables would say it.
    options: Mapping[str, str] = field(default_factory=dict)


def run_program(program: Program) -> int:
    """Run workers until a signal stops them; return the exit code. Raises what loading and starting raise."""
    EARLY_STOP.interrupt()
    configure_program_logging()
    if program.drain_report is not None:
        check_report_target(program.drain_report)
    for name, text in program.options.items():
        set_for_all(name, text)
    compat = ["podium.compat"] if program.compat else []
    for name in compat:
        importlib.import_module(name)
    workers = load_workers(program.modules, program.paths)
    metrics = None
    if program.metrics_port is not None:
        metrics = MetricsSettings(http_port=program.metrics_port, http_host=program.metrics_host)
    handler = TaskHandler(
        workers=workers,
        metrics_settings=metrics,
        import_modules=compat,
        start_method=program.start_method,
        grace_seconds=program.grace_seconds,
    )
    EARLY_STOP.check()
    try:
        with handler:
            handler.start_processes()
            EARLY_STOP.hand_over()
            handler.join_processes()
    finally:
        report = handler.drain_report
        if report is not None and program.drain_report is not None:
            write_report(report, program.drain_report)
    return ExitCode.DRAINED if report is None or report.clean else ExitCode.LOST
