"""``podium spool``: results that wait on disk, or came too late, for whoever looks after them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from podium.answers import harmless, printable
from podium.config import Configuration, masked_url
from podium.errors import NotFoundError, PodiumError
from podium.models import TERMINAL_TASK_STATUSES, TaskResultStatus
from podium.spool import folder_of
from podium.spoolview import Kept, SpoolView
from podium.sync import Client
from podium.updates import is_held

if TYPE_CHECKING:
    from collections.abc import Sequence

    from podium.spoolfile import Record

#: Without a terminal, lines are not broken at any width that a reason might have.
_WIDE: Final = 300
_REASON: Final = 100


def show_list() -> None:
    """Print a table of everything in the spool."""
    view = _view()
    kept = view.kept()
    console = Console(width=None if sys.stdout.isatty() else _WIDE, highlight=False, emoji=False)
    table = Table(box=None, pad_edge=False, header_style="")
    for heading in ("id", "task type", "task id", "age", "size", "state", "reason"):
        table.add_column(heading, overflow="fold")
    for each in kept:
        table.add_row(*_row(each))
    if kept:
        console.print(table, markup=False)
    counts = ", ".join(f"{sum(each.state == state for each in kept)} {state}" for state in _states(kept))
    print(f"{view.path}: {counts or 'nothing'}")
    if any(each.state == "held" for each in kept):
        print("held: a running worker delivers these itself", file=sys.stderr)


def show_record(key: str) -> None:
    """Print a record with all that is in it. Raises SpoolError if there is no such one."""
    view = _view()
    kept = view.find(key)
    content = view.read(kept)
    if kept.record is not None:
        content = msgspec.json.format(content, indent=2)
    print(harmless(content.decode("utf-8", "backslashreplace")))


def resend_results(keys: Sequence[str], *, everything: bool) -> int:
    """Send results to the configured server; return the exit code."""
    configuration = Configuration()
    view = _view(configuration)
    chosen = [each for each in view.kept() if each.state == "waiting"] if everything else _found(view, keys)
    if everything and any(each.state == "held" for each in view.kept()):
        print("those that a running worker holds are left to it", file=sys.stderr)
    left = 0
    with Client(configuration) as client:
        for each in chosen:
            problem = _resend(client, masked_url(configuration.host), view, each)
            left += problem is not None
            print(f"{each.key}: {problem or 'delivered'}", file=sys.stderr if problem else sys.stdout)
    return 1 if left else 0


def drop_results(keys: Sequence[str], *, everything: bool, ask: bool) -> int:
    """Delete results, once somebody has said yes; return the exit code."""
    view = _view()
    chosen = view.kept() if everything else _found(view, keys)
    if chosen and ask:
        typer.confirm(f"Delete {len(chosen)} of {view.path} for good?", abort=True)
    left = 0
    for each in chosen:
        try:
            view.drop(each)
            print(f"{each.key}: deleted")
        except PodiumError as error:
            left += 1
            print(f"podium: {error}", file=sys.stderr)
    return 1 if left else 0


def _view(configuration: Configuration | None = None) -> SpoolView:
    return SpoolView(folder_of(configuration or Configuration()))


def _found(view: SpoolView, keys: Sequence[str]) -> list[Kept]:
    return [view.find(key) for key in keys]


def _states(kept: Sequence[Kept]) -> list[str]:
    return list(dict.fromkeys(each.state for each in kept))


def _row(kept: Kept) -> tuple[str, ...]:
    record = kept.record
    of_task = (record.task_type, record.task_id) if record is not None else ("?", "?")
    return (
        kept.key, *(printable(text) for text in of_task), _age(kept.age), _size(kept.size), kept.state,
        printable(kept.reason, _REASON),
    )  # fmt: skip


def _age(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _size(count: int) -> str:
    return f"{count} B" if count < 10_000 else f"{count / 1000:.0f} kB" if count < 10**7 else f"{count / 10**6:.0f} MB"


def _resend(client: Client, server: str, view: SpoolView, kept: Kept) -> str | None:
    """Send a result; return why that was not done or in vain, None if the server has it."""
    record = kept.record
    if record is None:
        return f"no result that can be sent: {kept.reason}"
    if record.server != server:
        return f"it is for {record.server}, not for {server}: set CONDUCTOR_SERVER_URL"
    try:
        with view.hands_on(kept) as folder:
            problem = _why_not(client, record)
            if problem is not None:
                return problem
            client.post_result(bytes(record.body))
            folder.remove(kept.name)
    except PodiumError as error:
        return str(error)
    return None


def _why_not(client: Client, record: Record) -> str | None:
    """Return what keeps the server from using a result; it would take it without a word."""
    try:
        state = client.get_task_state(record.task_id)
    except NotFoundError as error:
        return f"nobody waits for it: {error}"
    if state.status in TERMINAL_TASK_STATUSES:
        return f"nobody waits for it: the task is {state.status}; drop deletes it"
    if record.status == TaskResultStatus.IN_PROGRESS and not is_held(state, record.poll_count, record.worker_id):
        return "the server has it already, and the task is in its queue, or in other hands; drop deletes it"
    return None
