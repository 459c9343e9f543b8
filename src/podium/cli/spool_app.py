"""The commands of ``podium spool`` and their options."""

from __future__ import annotations

from typing import Annotated

import typer

spool_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Look after results that wait on disk, or came too late.",
    epilog="The folder is that of CONDUCTOR_SPOOL_DIR, or the default; the server that of CONDUCTOR_SERVER_URL.",
)

_Keys = Annotated[list[str] | None, typer.Argument(metavar="ID", help="What list shows, or the id of a task.")]
_All = Annotated[bool, typer.Option("--all", help="All of them.")]


@spool_app.command("list")
def list_results() -> None:
    """List what waits, what came too late and what cannot be read, the oldest first."""
    from podium.cli.spool import show_list

    show_list()


@spool_app.command()
def show(key: Annotated[str, typer.Argument(metavar="ID", help="What list shows, or the id of a task.")]) -> None:
    """Print a record as JSON, with the output of its task."""
    from podium.cli.spool import show_record

    show_record(key)


@spool_app.command()
def resend(keys: _Keys = None, everything: _All = False) -> None:
    """Send results to the server now; each that it takes is removed.

    With --all: what waits and is of this host. The exit code is 1 if any is left.
    """
    from podium.cli.spool import resend_results

    if bool(keys) == everything:
        raise typer.BadParameter("name results, or --all")
    raise typer.Exit(resend_results(keys or [], everything=everything))


@spool_app.command()
def drop(
    keys: _Keys = None,
    everything: _All = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete results for good; those that a running worker holds are left alone.

    The exit code is 1 if any is left.
    """
    from podium.cli.spool import drop_results

    if bool(keys) == everything:
        raise typer.BadParameter("name results, or --all")
    raise typer.Exit(drop_results(keys or [], everything=everything, ask=not yes))
