"""``podium config``: which settings hold, and where each of them comes from."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from podium.cli.modules import load_workers
from podium.config import Configuration, masked_url
from podium.registry import Worker
from podium.settings import resolve_workers, rows_of
from podium.spool import folder_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: Without a terminal, lines are not broken at any width that a name might have.
_WIDE = 200


def show_config(modules: Sequence[str], paths: Sequence[str]) -> None:
    """Print a table for the connection, and one for each worker that the modules and folders declare.

    Without any, the second table is that of a worker which says nothing itself. Raises what loading or a setting
    that is wrong raises.
    """
    console = Console(width=None if sys.stdout.isatty() else _WIDE, highlight=False, emoji=False)
    configuration = Configuration()
    _print(console, "connection", _connection_rows(configuration))
    declared = load_workers(modules, paths) if modules or paths else [Worker("any", lambda: None)]
    for worker in resolve_workers(declared, configuration):
        where = f" in domain {worker.domain!r}" if worker.domain else ""
        title = f"worker {worker.task_definition_name}{where}" if modules or paths else "every worker"
        _print(console, title, rows_of(worker))


def _connection_rows(configuration: Configuration) -> list[tuple[str, str, str]]:
    shown = {name: getattr(configuration, name) for name in configuration.sources if name != "authentication"}
    shown["spool_dir"] = folder_of(configuration)
    shown["host"] = masked_url(configuration.host)
    shown["authentication"] = "set" if configuration.authentication_settings else "none"
    if configuration.proxy:
        shown["proxy"] = masked_url(configuration.proxy)
    return [(name, str(value), configuration.sources[name]) for name, value in shown.items()]


def _print(console: Console, title: str, rows: Iterable[tuple[str, str, str]]) -> None:
    console.print(title, markup=False, soft_wrap=True)  # a table would break it at its own width
    table = Table(box=None, pad_edge=False, header_style="")
    for heading in ("property", "value", "source"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table, markup=False)
    console.print()
