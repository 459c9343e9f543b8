"""The commands and their options. What a command needs is imported when it runs, so that ``--help`` is quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from podium.cli.spool_app import spool_app
from podium.cli.worker_options import environment_help, with_worker_options

# Plain help texts: typer would otherwise load rich for each ``--help`` and each wrong option.
app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Python functions as durable tasks of the Conductor workflow engine."""


@app.command()
def server(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 picks a free one.")] = 8080,
    db: Annotated[str, typer.Option(metavar="FILE", help="SQLite file to keep everything in.")] = ":memory:",
    until_eof: Annotated[
        bool, typer.Option("--until-eof", help="Stop when standard input closes: for programs that start a server.")
    ] = False,
) -> None:
    """Run the embedded Conductor server, for a laptop and for tests."""
    from podium.cli.server import run_server

    run_server(host, port, db, until_eof=until_eof)


@app.command()
def demo(
    server: Annotated[
        str | None, typer.Option(metavar="URL", help="A Conductor server to use, instead of an embedded one.")
    ] = None,
    workflows: Annotated[int, typer.Option(min=1, help="Workflows to run.")] = 200,
    isolation: Annotated[
        Literal["process", "thread"], typer.Option(help="Where workers run: child processes, or this process.")
    ] = "process",
    processes: Annotated[int, typer.Option(min=1, help="Child processes per worker, or for the group.")] = 1,
    group: Annotated[
        str | None, typer.Option(metavar="NAME", help="Let all workers share the processes of one group.")
    ] = None,
    start_method: Annotated[
        Literal["forkserver", "spawn", "fork"], typer.Option(help="How child processes are started.")
    ] = "forkserver",
    patience: Annotated[
        float, typer.Option(min=1, metavar="SECONDS", help="Give up when nothing happens for so long.")
    ] = 60,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show podium's log.")] = False,
) -> None:
    """Run an order workflow many times and check the numbers."""
    from podium.demo.run import Settings, run_demo

    settings = Settings(
        server=server,
        workflows=workflows,
        isolation=isolation,
        processes=processes,
        group=group,
        start_method=start_method,
        patience=patience,
        verbose=verbose,
    )
    raise typer.Exit(run_demo(settings))


_Modules = Annotated[
    list[str] | None, typer.Argument(metavar="MODULE", help="Packages or modules with @worker_task declarations.")
]
_Paths = Annotated[
    list[str] | None, typer.Option("--path", metavar="FOLDER", help="Folder of files with declarations; may repeat.")
]


@app.command(epilog=environment_help())
def config(modules: _Modules = None, paths: _Paths = None) -> None:
    """Show every setting that holds, and where its value comes from."""
    from podium.cli.config import show_config

    show_config(modules or [], paths or [])


@app.command(context_settings={"allow_extra_args": False})
@with_worker_options
def run(
    modules: _Modules = None,
    paths: _Paths = None,
    compat: Annotated[
        bool, typer.Option("--compat", help="Let imports of conductor-python lead to podium; see docs/migrating.md.")
    ] = False,
    start_method: Annotated[
        Literal["forkserver", "spawn", "fork"], typer.Option(help="How child processes are started.")
    ] = "forkserver",
    grace_seconds: Annotated[float, typer.Option(min=0, help="How long tasks may go on after a signal.")] = 25.0,
    metrics_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Serve /metrics, /health/live and /health/ready at this port.")
    ] = None,
    metrics_host: Annotated[
        str, typer.Option(help="Address to serve them at; 0.0.0.0 is every network: probes of Kubernetes need it.")
    ] = "127.0.0.1",
    drain_report: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write what became of the tasks in hand at the end, as JSON; - is stdout."),
    ] = None,
    **worker_options: str | None,
) -> None:
    """Run the workers that modules declare, until a signal stops them.

    The exit code is 0 if every task in hand was finished or given back, 2 for a mistake in the command or the
    configuration, 3 if the workers could not start, 4 if tasks were lost or left behind, 5 if every worker process
    has died for good, 1 for everything else.
    """
    from podium.cli.run import Program, run_program

    if not modules and not paths:
        raise typer.BadParameter("name at least one module or --path")
    program = Program(
        modules=modules or [],
        paths=paths or [],
        compat=compat,
        start_method=start_method,
        grace_seconds=grace_seconds,
        metrics_port=metrics_port,
        metrics_host=metrics_host,
        drain_report=drain_report,
        options={name: text for name, text in worker_options.items() if text is not None},
    )
    raise typer.Exit(run_program(program))


app.add_typer(spool_app, name="spool")


@app.command()
def migrate(
    path: Annotated[Path, typer.Argument(metavar="PATH", exists=True, help="A Python file, or a folder of them.")],
    write: Annotated[
        bool, typer.Option("--write", help="Change the files, instead of showing the changes only.")
    ] = False,
) -> None:
    """Turn imports of conductor-python into podium's.

    A diff goes to standard output; what has to be changed by hand, with file and line, to standard error. The exit
    code is 1 if there is any of that, 0 if not.
    """
    from podium.cli.migrate import run_migrate

    raise typer.Exit(run_migrate(path, write=write))


@app.command()
def version() -> None:
    """Show the version."""
    import podium

    print(f"podium {podium.__version__}")
