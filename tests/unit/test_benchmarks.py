"""What the benchmarks count is what happened."""

from __future__ import annotations

import ast
import asyncio
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import msgspec
import pytest

from benchmarks import breakdown, compare, figures, growth, pages, plot, soak
from benchmarks.scenarios import BARE, DRIVERS, PEER, SCENARIOS
from benchmarks.stub.server import Stub
from benchmarks.stub.tasks import Store, numbers_of, quantiles_ms
from podium import AsyncClient, Configuration
from podium.errors import NotFoundError
from podium.polled import read_task

ROOT = Path(__file__).parent.parent.parent


def result(task: bytes, status: str = "COMPLETED") -> bytes:
    read = msgspec.json.decode(task)
    return msgspec.json.encode(
        {"workflowInstanceId": read["workflowInstanceId"], "taskId": read["taskId"], "status": status}
    )


def started(tasks: int = 3, **options: Any) -> Store:
    store = Store(["a", "b"], tasks, **options)
    store.start()
    return store


@pytest.mark.parametrize("payload", [0, 1000])
def test_tasks_are_such_as_a_server_sends(payload: int) -> None:
    store = started(payload=payload)
    (task,) = store.take(store.queues[1], 1)
    read = read_task(task)
    assert (read.task_id, numbers_of(read.task_id)) == ("00000001-0000-4000-8000-000000000000", (1, 0))
    decoded = msgspec.json.decode(task)
    assert decoded["taskDefName"] == "b"
    assert decoded["taskDefinition"] == decoded["workflowTask"]["taskDefinition"]
    assert decoded["inputData"] == {"amount": 12.5, "order_id": "order-0"} | (
        {"payload": "x" * payload} if payload else {}
    )


def test_tasks_are_handed_out_in_order_once_started() -> None:
    store = Store(["a"], 3)
    (queue,) = store.queues
    assert store.take(queue, 5) == []
    store.start()
    taken = [store.take(queue, 2), store.take(queue, 2), store.take(queue, 2)]
    assert [[numbers_of(read_task(raw).task_id)[1] for raw in batch] for batch in taken] == [[0, 1], [2], []]


def test_what_becomes_of_tasks_is_counted() -> None:
    store = started()
    ids = [read_task(raw).task_id for raw in store.take(store.queues[0], 3)]
    ends = ["COMPLETED", "COMPLETED", "FAILED"]
    for task_id, status in [*zip(ids, ends, strict=True), (ids[0], "COMPLETED"), (ids[1], "IN_PROGRESS")]:
        assert store.finish(task_id, status) is store.queues[0]
    assert store.finish("00000001-0000-4000-8000-000000000000", "COMPLETED") is None  # was not handed out
    assert store.finish("nonsense", "COMPLETED") is None
    counted = store.figures()
    names = ["handed_out", "completed", "failed", "duplicates", "in_progress", "unknown", "lost"]
    assert [counted[name] for name in names] == [3, 2, 1, 1, 1, 2, 0]
    assert not store.finished


def test_a_task_without_a_result_is_lost() -> None:
    store = started()
    task, *_ = store.take(store.queues[0], 2)
    store.finish(read_task(task).task_id, "COMPLETED")
    assert store.figures()["lost"] == 1


def test_tasks_arrive_at_the_given_rate() -> None:
    store = started(rate=1e-3)
    queue = store.queues[0]
    assert len(store.take(queue, 10)) == 1
    assert store.due(queue) == store.started_at + 1000
    assert store.figures()["pickup_ms"]["max"] >= 0


def test_quantiles() -> None:
    assert quantiles_ms([]) == {}
    assert quantiles_ms([number / 1000 for number in range(101)]) == {
        "p50": pytest.approx(50), "p95": pytest.approx(95), "p99": pytest.approx(99), "max": pytest.approx(100),
    }  # fmt: skip


@asynccontextmanager
async def serving(store: Store) -> AsyncIterator[tuple[Stub, tuple[str, int], AsyncClient]]:
    stub = Stub(store)
    server = await asyncio.get_running_loop().create_server(stub.connect, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server, AsyncClient(Configuration(server_api_url=f"http://{host}:{port}/api")) as client:
        yield stub, (host, port), client


def test_stub_speaks_the_worker_api() -> None:
    async def talk() -> None:
        async with serving(started()) as (stub, _, client):
            first, second = await client.poll_tasks("a", worker_id="w", count=2, timeout_ms=0)
            first_id = read_task(first).task_id
            assert (await client.get_task(first_id)).status == "IN_PROGRESS"
            third = await client.post_result_v2(result(first))
            assert third is not None
            assert await client.post_result_v2(result(second)) is None  # nothing is left
            await client.post_result(result(third))
            assert await client.poll_tasks("a", worker_id="w", count=2, timeout_ms=10) == []
            assert await client.poll_tasks("unknown", worker_id="w", count=2, timeout_ms=10) == []
            with pytest.raises(NotFoundError):
                await client.post_result(result(third.replace(b"00000000-", b"00000007-")))
            with pytest.raises(NotFoundError):
                await client.get_task(first_id)  # it has ended
            counted = stub.figures()
            assert counted["requests"] == {"poll": 3, "look": 2, "update_v2": 2, "update": 2, "total": 9}
            assert (counted["completed"], counted["lost"], counted["unknown"]) == (3, 0, 1)

    asyncio.run(talk())


def test_a_long_poll_is_answered_when_tasks_come() -> None:
    async def talk() -> None:
        store = Store(["a"], 3)
        async with serving(store) as (_, address, client):
            poll = asyncio.create_task(client.poll_tasks("a", worker_id="w", count=5, timeout_ms=5000))
            while not store.all_polled:
                await asyncio.sleep(0)
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"POST /bench/start HTTP/1.1\r\nConnection: close\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 200 OK")
            writer.close()
            assert len(await poll) == 3

    asyncio.run(talk())


def test_choice_of_drivers_and_scenarios() -> None:
    everything = compare.chosen("")
    assert [scenario for scenario, _ in everything] == SCENARIOS
    assert {driver.name for _, drivers in everything for driver in drivers} == {driver.name for driver in DRIVERS}
    ((scenario, drivers),) = compare.chosen("throughput-10, bare")  # a whole name is that one and no other
    assert (scenario.name, [driver.name for driver in drivers]) == ("throughput-10", [BARE])
    assert [scenario.name for scenario, _ in compare.chosen("throughput")] == ["throughput-100", "throughput-10"]
    with pytest.raises(SystemExit, match="nonsense"):
        compare.chosen("nonsense")


def runs(**tasks_per_s: list[float]) -> list[figures.Run]:
    names = {"own": "podium def", "peer": f"{PEER} def", "bare": BARE}
    return [
        {"round": number, "scenario": "throughput-10", "driver": names[key], "tasks_per_s": each, "lost": number}
        for key, values in tasks_per_s.items()
        for number, each in enumerate(values)
    ]


def test_tables_show_medians_ratios_and_the_worst_loss() -> None:
    text = figures.table(figures.Results(runs(own=[900, 1000, 5000], peer=[100.0], bare=[4000.0])), "throughput-10")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    assert rows[0][:4] == ["", "tasks/s", f"to {PEER}", f"to {BARE}"]
    assert [row[:4] for row in rows[2:]] == [
        ["podium def", "1,000", "10x", "0.25x"],
        [f"{PEER} def", "100", "", ""],
        [BARE, "4,000", "", ""],
    ]
    assert rows[2][-1] == "2"


def test_plots_are_well_formed_and_show_every_series() -> None:
    record = figures.Record({}, runs(own=[900.0]))
    assert ET.fromstring(compare.picture(record)) is not None
    growth = plot.Lines("t <1>", "types", {"a & b": [(1, 0.5), (10, 20)], "c": [(1, 7)]})
    text = plot.lines([growth, growth])
    assert {"t <1>", "a & b", "c"} <= {element.text for element in ET.fromstring(text).iter()}
    assert "prefers-color-scheme: dark" in text


def test_entries_for_a_comparison_start_the_driver() -> None:
    entries = tomllib.loads((ROOT / "benchmarks/comparison/drivers.toml").read_text())
    for entry in entries.values():
        program = entry["command"].removeprefix("$PODIUM_PYTHON $PODIUM_HOME/")
        text = (ROOT / program).read_text()
        assert all(f'"{variable}"' in text for variable in entry["env"])


def test_modules_and_functions_stay_small() -> None:
    for path in (ROOT / "benchmarks").rglob("*.py"):
        text = path.read_text()
        assert text.count("\n") <= 400, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                assert (node.end_lineno or 0) - node.lineno < 60, f"{path}: {node.name}"


def recorded(folder: Path, name: str, *lines: figures.Run) -> None:
    machine = {"machine": dict.fromkeys(("date", "cpu", "memory", "system", "python", "podium", "load"), "?")}
    (folder / f"{name}.jsonl").write_text(
        "".join(f"{msgspec.json.encode(line).decode()}\n" for line in (machine, *lines))
    )


def test_sections_of_pages_are_made_from_what_was_recorded(tmp_path: Path) -> None:
    page = "a\n<!-- bench: compare -->\nold\n<!-- /bench -->\nb\n<!-- bench: soak -->\n<!-- /bench -->\nc\n"
    recorded(tmp_path, "compare", *runs(own=[900.0], peer=[100.0]))
    made = pages.rewritten(page, tmp_path)
    assert "| podium def | 900 | 9x |" in made
    assert "old" not in made
    assert made.endswith("<!-- bench: soak -->\nNot recorded yet.\n<!-- /bench -->\nc\n")
    assert pages.rewritten(made, tmp_path) == made
    with pytest.raises(SystemExit, match="'else'"):
        pages.rewritten("<!-- bench: else -->\n<!-- /bench -->")


def test_figures_in_which_others_are_ahead_are_told() -> None:
    ahead = figures.Record({}, runs(own=[900.0, 1000.0, 1100.0], peer=[2000.0], bare=[4000.0]))
    assert "| throughput-10 | tasks/s | 1,000 | conductor-python def: 2,000 |" in pages.losses(ahead)
    assert BARE not in pages.losses(ahead)
    assert "none" in pages.losses(figures.Record({}, runs(own=[900.0], peer=[100.0], bare=[4000.0])))


@pytest.mark.parametrize("page", pages.PAGES, ids=lambda path: path.name)
def test_pages_show_what_was_recorded(page: Path) -> None:
    text = page.read_text()
    assert pages.rewritten(text) == text, "make bench-pages"


@pytest.mark.parametrize(
    ("course", "lost", "problem"),
    [
        ([(50, 80), (100, 100), (1000, 102)], 0, None),
        ([(50, 80), (100, 100), (1000, 104)], 0, "memory has grown by 4.0%"),
        ([(50, 80), (100, 100), (1000, 90)], 1, "1 lost"),
    ],
)
def test_verdict_on_very_many_tasks(course: list[tuple[int, float]], lost: int, problem: str | None) -> None:
    looks = [{"tasks": float(tasks), "rss_mb": memory} for tasks, memory in course]
    counted = {"total": 1000, "completed": 1000 - lost, "lost": lost, "duplicates": 0, "tasks_per_s": 1.0}
    found = {"driver": "podium def", "scenario": "soak", **counted, "course": looks, "growth": soak.growth(looks, 1000)}
    assert (soak.verdict(found) or "") == "" if problem is None else problem in (soak.verdict(found) or "")
    assert "at 100 tasks" in soak.page(figures.Record({}, [found]))


def test_growth_has_a_row_for_each_driver_and_value() -> None:
    axis = growth.AXES[1]
    run = {"scenario": axis.name, "driver": "podium def", "x": 10, "tasks_per_s": 1234.0}
    record = figures.Record({}, [run, run | {"driver": "podium async def", "tasks_per_s": 99.0}])
    assert "| 10 | podium def | 1,234 |" in growth.page(record)
    assert "|  | podium async def | 99 |" in growth.page(record)
    assert ET.fromstring(growth.picture(record)) is not None
    assert "tasks/s: 1,234" in growth.one_line(run)


STACKS = """Stack (most recent call first):
  File "/x/src/podium/conversation.py", line 7 in ask
  File "/x/lib/python3.11/asyncio/runners.py", line 118 in run
  File "/x/src/podium/engine.py", line 179 in _run
  File "/x/lib/python3.11/threading.py", line 982 in run
Stack (most recent call first):
  File "/x/lib/python3.11/asyncio/runners.py", line 118 in run
  File "/x/src/podium/engine.py", line 179 in _run
Stack (most recent call first):
  File "<frozen importlib._bootstrap>", line 241 in _call_with_frames_removed
  File "/x/src/podium/engine.py", line 179 in _run
Stack (most recent call first):
  File "/x/src/podium/convert/__init__.py", line 3 in to_output
  File "/x/src/podium/pool.py", line 3 in _work
"""


def test_samples_are_counted_by_thread_and_place(tmp_path: Path) -> None:
    (tmp_path / "1.txt").write_text(STACKS)
    counted = breakdown.samples_in(tmp_path)
    assert counted == {
        breakdown.ENGINE: {"podium.conversation.ask": 1, "the event loop.": 1},
        breakdown.POOL: {"podium.convert.to_output": 1},
    }
    nothing = {"user": 0.0, "system": 0.0}
    threads = dict.fromkeys([breakdown.LOOP, breakdown.POOL, breakdown.REST], nothing) | {
        breakdown.ENGINE: {"user": 70.0, "system": 30.0}
    }
    run = {"driver": "podium def", "scenario": "breakdown", "threads": threads, "samples": counted}
    text = breakdown.page(figures.Record({}, [run]))
    assert "| podium def | 70 + 30 | 0 + 0 | 0 + 0 | 0 + 0 | 100 |" in text
    assert "| podium.conversation | 50.0 | ask 50.0 |" in text
