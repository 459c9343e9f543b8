"""``python -m benchmarks``: what the targets ``bench...`` of the Makefile run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from benchmarks import breakdown, compare, embedded, growth, pages, redelivery, soak
from benchmarks.figures import one_line
from benchmarks.processes import ROOT
from benchmarks.recording import record

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)

Folder = Annotated[Path, typer.Option(help="where the figures are written")]
_BUILD: Final = ROOT / "build/bench"
_WORKFLOWS: Final = 3000
_RESULTS: Final = 10_000


@app.command("compare")
def compare_drivers(
    rounds: Annotated[int, typer.Option(min=1, help="how often each driver has its turn")] = 3,
    only: Annotated[str, typer.Option(help="words in names of drivers or scenarios, separated by commas")] = "",
    out: Folder = _BUILD,
) -> None:
    """Measure podium beside conductor-python and a bare client loop."""
    recorded = record(out / f"{compare.NAME}.jsonl", compare.rounds(rounds, only), one_line)
    _write(out, "table", compare.page(recorded), compare.NAME, compare.picture(recorded))


@app.command("growth")
def measure_growth(out: Folder = _BUILD) -> None:
    """Measure what more task types, more tasks at a time and larger payloads cost."""
    recorded = record(out / f"{growth.NAME}.jsonl", growth.runs(), growth.one_line)
    _write(out, growth.NAME, growth.page(recorded), growth.NAME, growth.picture(recorded))


@app.command("soak")
def run_very_many_tasks(
    tasks: Annotated[int, typer.Option(min=1000, help="how many")] = 1_000_000, out: Folder = _BUILD
) -> None:
    """Run very many tasks; exit with 1 if memory grows, or a task is lost."""
    recorded = record(out / f"{soak.NAME}.jsonl", [soak.run(tasks)], lambda _: "")
    _write(out, soak.NAME, soak.page(recorded))
    if problem := soak.verdict(recorded.runs[-1]):
        typer.echo(problem, err=True)
        raise typer.Exit(1)


@app.command("breakdown")
def break_down(out: Folder = _BUILD) -> None:
    """Find out where the time of a task goes."""
    recorded = record(out / f"{breakdown.NAME}.jsonl", breakdown.runs(), breakdown.one_line)
    _write(out, breakdown.NAME, breakdown.page(recorded))


@app.command("embedded")
def measure_embedded_server(
    rounds: Annotated[int, typer.Option(min=1, help="how often")] = 3, out: Folder = _BUILD
) -> None:
    """Measure the embedded server: its start, and workflows of one task."""
    recorded = record(out / f"{embedded.NAME}.jsonl", embedded.runs(rounds, _WORKFLOWS), embedded.one_line)
    _write(out, embedded.NAME, embedded.page(recorded))


@app.command("redelivery")
def measure_redelivery(rounds: Annotated[int, typer.Option(min=1, help="how often")] = 3, out: Folder = _BUILD) -> None:
    """Measure how soon the results are delivered that an earlier process has left on disk."""
    recorded = record(out / f"{redelivery.NAME}.jsonl", redelivery.runs(rounds, _RESULTS), redelivery.one_line)
    _write(out, redelivery.NAME, redelivery.page(recorded))


@app.command("adopt")
def adopt_comparison(runs: Annotated[Path, typer.Argument(help="the JSON lines of a comparison bench")]) -> None:
    """Take over what a comparison bench has just measured on this machine, and show it on the pages."""
    pages.adopt(runs)
    pages.rewrite()


@app.command("pages")
def rewrite_pages() -> None:
    """Put the recorded results into the pages that show them."""
    pages.rewrite()


def _write(folder: Path, page: str, text: str, picture: str = "", svg: str = "") -> None:
    """Write and print a table, and write a plot."""
    (folder / f"{page}.md").write_text(text)
    if svg:
        (folder / f"{picture}.svg").write_text(svg)
    print(f"\n{text}\nall of it is in {folder}")


if __name__ == "__main__":
    app()
