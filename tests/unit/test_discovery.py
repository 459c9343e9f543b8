"""Finding workers: what is imported, under which name, and what a failure says."""

from __future__ import annotations

import asyncio
import importlib
import sys
import textwrap
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from podium import (
    ConfigError,
    StartError,
    TaskHandler,
    Worker,
    WorkerLoader,
    auto_discover_workers,
    scan_for_workers,
)
from podium.discovery import import_modules
from podium.registry import clear_registered_workers, get_registered_workers, register_worker

WORKER = """
    from podium import worker_task

    @worker_task({name!r})
    def work() -> None: ...
"""


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Give each test an empty registry, and leave sys.path, sys.modules and the registry as they were."""
    path, modules, workers = sys.path[:], set(sys.modules), get_registered_workers()
    clear_registered_workers()
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]
    clear_registered_workers()
    for worker in workers:
        register_worker(worker)


@pytest.fixture
def name() -> str:
    """Return a package's name that no other test uses."""
    return f"pkg_{uuid.uuid4().hex[:10]}"


@pytest.fixture
def make(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Return a function that makes a package: each file's text, or None for a worker of the file's name."""

    def write(*files: str, on_path: bool = True, **texts: str) -> Path:
        root = tmp_path / name
        contents: dict[str, str | None] = dict.fromkeys(files) | texts
        for file, text in contents.items():
            target = root / file
            target.parent.mkdir(parents=True, exist_ok=True)
            if text is None:
                text = "" if target.name == "__init__.py" else WORKER.format(name=target.stem)
            target.write_text(textwrap.dedent(text))
        if on_path:
            monkeypatch.syspath_prepend(str(tmp_path))
        return root

    return write


def loaded(name: str) -> set[str]:
    """Return the modules of a package that are loaded, without its own name in front."""
    return {module.removeprefix(name).removeprefix(".") for module in sys.modules if module.split(".")[0] == name}


# packages


def test_package_is_scanned_with_all_that_is_in_it(make: Callable[..., Path], name: str) -> None:
    make("__init__.py", "orders.py", "_hidden.py", "deep/__init__.py", "deep/refunds.py", "deep/er/__init__.py")
    loader = WorkerLoader()
    loader.scan_packages(name)
    assert loaded(name) == {"", "orders", "_hidden", "deep", "deep.refunds", "deep.er"}
    assert sorted(loader.get_worker_names()) == ["_hidden", "orders", "refunds"]
    assert loader.get_worker_count() == 3


def test_defect_37_not_recursive_means_no_sub_package(make: Callable[..., Path], name: str) -> None:
    make("__init__.py", "orders.py", "deep/__init__.py", "deep/refunds.py")
    loader = WorkerLoader()
    loader.scan_packages([name], recursive=False)
    assert loaded(name) == {"", "orders"}
    assert loader.get_worker_names() == ["orders"]
    assert scan_for_workers(name, recursive=False).get_worker_names() == ["orders"]
    assert scan_for_workers(name).get_worker_names() == ["orders", "refunds"]


def test_main_module_of_a_package_is_not_run(make: Callable[..., Path], name: str) -> None:
    make("__init__.py", "orders.py", **{"__main__.py": "raise RuntimeError('the program ran')"})
    assert scan_for_workers(name).get_worker_names() == ["orders"]


def test_several_packages_and_plain_modules(make: Callable[..., Path], name: str) -> None:
    make("__init__.py", "a/__init__.py", "a/one.py", "b/__init__.py", "b/two.py", "three.py")
    loader = WorkerLoader()
    loader.scan_packages((f"{name}.a", f"{name}.three"))
    assert loader.get_worker_names() == ["one", "three"]


def test_scan_module_imports_that_module_only(make: Callable[..., Path], name: str) -> None:
    make("__init__.py", "one.py", "two.py")
    loader = WorkerLoader()
    loader.scan_module(f"{name}.two")
    assert loaded(name) == {"", "two"}


def test_folder_without_init_is_named_in_the_log(
    make: Callable[..., Path], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    root = make("__init__.py", "bare/orders.py", "data/notes.txt")
    with caplog.at_level("INFO", "podium.discovery"):
        scan_for_workers(name)
    (message,) = caplog.messages
    assert str(root / "bare") in message
    assert f"{name}.bare" in message
    # As the message says, it can be scanned by its name.
    assert scan_for_workers(f"{name}.bare").get_worker_names() == ["orders"]


def test_scanning_twice_imports_once(make: Callable[..., Path], name: str) -> None:
    root = make("__init__.py", "count.py", **{"once.py": "import sys\nsys.imported = getattr(sys, 'imported', 0) + 1"})
    try:
        scan_for_workers(name, name)
        loader = auto_discover_workers(packages=name, paths=root, print_summary=False)
        assert sys.imported == 1  # type: ignore[attr-defined]
        assert loader.get_worker_names() == ["count"]
    finally:
        del sys.imported  # type: ignore[attr-defined]


def test_defect_29_workers_of_a_loader_run_once(make: Callable[..., Path], name: str) -> None:
    make("__init__.py", "one.py", "two.py")
    loader = scan_for_workers(name)
    handler = TaskHandler(workers=loader.get_workers())  # which finds them by itself as well
    assert [worker.task_definition_name for worker in handler.workers] == ["one", "two"]


def names_of(handler: TaskHandler) -> list[str]:
    return [worker.task_definition_name for worker in handler.workers]


def by_hand() -> None: ...


def test_handler_finds_declared_workers_unless_it_is_told_not_to(make: Callable[..., Path], name: str) -> None:
    make("__init__.py", "one.py", "two.py")
    importlib.import_module(f"{name}.one")
    importlib.import_module(f"{name}.two")
    given = Worker("given", by_hand)
    assert names_of(TaskHandler()) == ["one", "two"]
    assert names_of(TaskHandler(given)) == ["given", "one", "two"]
    assert names_of(TaskHandler(given, scan_for_annotated_workers=False)) == ["given"]


def test_defect_50_constructor_imports_the_modules_that_it_is_given(make: Callable[..., Path], name: str) -> None:
    make("__init__.py", "one.py", "two.py", "three.py")
    assert names_of(TaskHandler(import_modules=[f"{name}.one", f"{name}.two"])) == ["one", "two"]
    assert loaded(name) == {"", "one", "two"}
    assert names_of(TaskHandler(Worker("given", by_hand), import_modules=f"{name}.three"))[0] == "given"
    assert "three" in loaded(name)


def test_handler_made_in_a_thread_imports_its_modules_while_the_event_loop_goes_on(
    make: Callable[..., Path], name: str
) -> None:
    text = """
        import sys
        started, go = sys.gate
        started.set()
        assert go.wait(30)
        from podium import worker_task
        @worker_task("slow")
        async def work() -> None: ...
    """
    make("__init__.py", **{"slow.py": text})
    started, go = threading.Event(), threading.Event()

    async def program() -> TaskHandler:
        making = asyncio.create_task(asyncio.to_thread(TaskHandler, import_modules=[f"{name}.slow"]))
        while not started.is_set():  # the loop is alive, or this would never see it
            await asyncio.sleep(0.001)
        assert not making.done()
        go.set()
        return await making

    sys.gate = started, go  # type: ignore[attr-defined]
    try:
        assert names_of(asyncio.run(program())) == ["slow"]
    finally:
        del sys.gate  # type: ignore[attr-defined]


# failures


def test_defect_25_import_error_inside_a_module_names_it_and_its_place(make: Callable[..., Path], name: str) -> None:
    root = make("__init__.py", **{"broken.py": "\nimport no_such_thing_at_all"})
    with pytest.raises(StartError) as caught:
        scan_for_workers(name)
    assert str(caught.value) == (
        f"module '{name}.broken' could not be imported: ModuleNotFoundError: No module named 'no_such_thing_at_all' "
        f"(at {root / 'broken.py'}, line 2)"
    )
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("raise ValueError('bad setting')", "ValueError: bad setting (at "),
        ("raise KeyError", "KeyError (at "),
        ("def f(:", "SyntaxError: invalid syntax"),
        ("import sys\nsys.exit(3)", "__main__"),
    ],
)
def test_whatever_a_module_raises_is_a_start_error(
    make: Callable[..., Path], name: str, text: str, expected: str
) -> None:
    make("__init__.py", **{"broken.py": text})
    with pytest.raises(StartError) as caught:
        import_modules([f"{name}.broken"])
    assert f"module '{name}.broken' could not be imported" in str(caught.value)
    assert expected in str(caught.value)


def test_module_that_a_module_lacks_is_no_missing_module(make: Callable[..., Path], name: str) -> None:
    """``app.orders`` imports ``app.orders.helpers``: the name begins as its own does."""
    make("__init__.py", **{"orders.py": f"import {name}.orders.helpers"})
    with pytest.raises(StartError, match="could not be imported: ModuleNotFoundError"):
        import_modules(f"{name}.orders")


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("{name}.order", "there is no module '{name}.order'; did you mean '{name}.orders'?"),
        ("{name}.zzz", "there is no module '{name}.zzz'; in '{name}' there are orders"),
        ("{name}.orders.x", "there is no module '{name}.orders.x': '{name}.orders' is a module and not a package"),
        ("{name}.no.such", "there is no module '{name}.no.such': there is no '{name}.no'; in '{name}' there are"),
        ("{name}x", "there is no module '{name}x'; did you mean '{name}'?; is the folder that contains it on sys.path"),
        ("zzzzz_qqqqq.workers", "there is no 'zzzzz_qqqqq'; is the folder that contains it on sys.path"),
    ],
)
def test_missing_module_gets_the_nearest_hint(make: Callable[..., Path], name: str, wanted: str, message: str) -> None:
    make("__init__.py", "orders.py")
    importlib.import_module(f"{name}.orders")
    with pytest.raises(StartError) as caught:
        scan_for_workers(wanted.format(name=name))
    assert message.format(name=name) in str(caught.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "'' is no name of a module"),
        (".orders", "relative names do not work here"),
        ("app..orders", "is no name of a module"),
        ("app/orders.py", "give a module's name, such as 'app.orders'"),
        ([5], "5 is no name of a module"),
        (None, "None is no name of a module"),
    ],
)
def test_what_is_no_name_is_refused(given: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        import_modules(given)


# folders


def test_folder_is_scanned_by_file(make: Callable[..., Path], name: str) -> None:
    root = make(
        "orders.py", "deep/refunds.py", "deep/_private.py", "_skipped/worker.py", ".hidden/worker.py",
        "__pycache__/worker.py", "venv/lib/worker.py", on_path=False, **{"venv/pyvenv.cfg": ""},
    )  # fmt: skip
    before = sys.path[:]
    loader = WorkerLoader()
    loader.scan_path(str(root))
    assert loader.get_worker_names() == ["orders", "refunds"]
    assert loaded(name) == {"", "orders", "deep", "deep.refunds"}
    # Children get this list, and import by these names: nothing that was found before changes its meaning.
    assert sys.path == [*before, str(root.parent)]
    assert all(worker.function.__module__ in sys.modules for worker in loader.get_workers())


def test_init_is_imported_as_its_package(make: Callable[..., Path], name: str) -> None:
    root = make(on_path=False, **{"__init__.py": WORKER.format(name="in_init"), "deep/__init__.py": "VALUE = 1"})
    loader = WorkerLoader()
    loader.scan_path(root)
    assert loader.get_worker_names() == ["in_init"]
    assert loaded(name) == {"", "deep"}


def test_folder_inside_a_package_keeps_the_package_s_names(make: Callable[..., Path], name: str) -> None:
    root = make(
        "__init__.py", "workers/__init__.py", "common.py", on_path=False,
        **{"workers/orders.py": "from ..common import work"},
    )  # fmt: skip
    loader = WorkerLoader()
    loader.scan_path(root / "workers")
    assert loaded(name) == {"", "workers", "workers.orders", "common"}
    assert sys.path[-1] == str(root.parent)


def test_prefix_names_the_package_that_a_folder_is(make: Callable[..., Path], name: str) -> None:
    root = make("workers/orders.py", on_path=False)  # no __init__.py that would tell
    loader = WorkerLoader()
    loader.scan_path(root / "workers", package_prefix=f"{name}.workers")
    assert loaded(name) == {"", "workers", "workers.orders"}
    assert sys.path[-1] == str(root.parent)


def test_file_that_is_loaded_already_is_not_imported_under_a_second_name(make: Callable[..., Path], name: str) -> None:
    root = make("workers/orders.py")
    first = importlib.import_module(f"{name}.workers.orders")
    loader = WorkerLoader()
    loader.scan_path(root / "workers")
    assert not [module for module in sys.modules if module.startswith("workers")]
    assert loader.get_workers()[0].function is first.work.__wrapped__


def test_error_in_a_file_names_the_file(make: Callable[..., Path], name: str) -> None:
    root = make(on_path=False, **{"broken.py": "import json\njson.loads('x')"})
    with pytest.raises(StartError) as caught:
        WorkerLoader().scan_path(root)
    message = str(caught.value)
    assert f"module '{name}.broken' ({root / 'broken.py'}) could not be imported: JSONDecodeError" in message


def test_missing_folder_is_a_value_error(tmp_path: Path) -> None:
    (tmp_path / "file.py").touch()
    with pytest.raises(ValueError, match="nowhere does not exist"):
        WorkerLoader().scan_path(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"file\.py is not a folder"):
        WorkerLoader().scan_path(tmp_path / "file.py")


def test_folder_may_be_told_by_way_of_its_parent(
    make: Callable[..., Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make("orders.py", "below/__init__.py", on_path=False)
    monkeypatch.chdir(root / "below")
    for path in ("..", root / "below" / ".."):
        WorkerLoader().scan_path(path)
    assert f"{name}.orders" in sys.modules


def test_names_that_no_process_could_import_are_refused(make: Callable[..., Path], name: str) -> None:
    root = make("v1.2/orders.py", "ok/a.b.py", on_path=False)
    with pytest.raises(ConfigError, match="a folder with a dot in its name"):
        WorkerLoader().scan_path(root / "v1.2")
    with pytest.raises(ConfigError, match=r"a\.b\.py cannot be imported, because of the dot"):
        WorkerLoader().scan_path(root / "ok")
    with pytest.raises(ConfigError, match="package_prefix='plugins' does not fit"):
        WorkerLoader().scan_path(root / "ok", package_prefix="plugins")


def test_name_that_means_something_else_already_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "json"
    folder.mkdir()
    (folder / "orders.py").write_text("")
    (folder / "decoder.py").write_text("")
    with pytest.raises(
        ConfigError, match=r"decoder\.py cannot be imported as 'json\.decoder', because json\.decoder is"
    ):
        WorkerLoader().scan_path(folder)
    (folder / "decoder.py").unlink()
    with pytest.raises(ConfigError, match=r"orders\.py cannot be imported as 'json\.orders', because json is .*json"):
        WorkerLoader().scan_path(folder)


# summary


def test_defect_37_summary_has_a_line_per_worker(
    make: Callable[..., Path], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = """
        from podium import worker_task
        @worker_task("short", poll_interval=250, thread_count=5)
        def one() -> None: ...
        @worker_task("longer_name", domain="blue")
        async def two() -> None: ...
    """
    root = make(**{"orders.py": text})
    loader = auto_discover_workers(paths=[root])
    assert capsys.readouterr().out == (
        "2 workers, 1 module scanned\n"
        f"  short        module={name}.orders domain=- threads=5 poll_interval=250ms\n"
        f"  longer_name  module={name}.orders domain=blue threads=1 poll_interval=100ms\n"
    )
    auto_discover_workers(name, print_summary=False)
    assert capsys.readouterr().out == ""
    loader.print_summary()
    assert capsys.readouterr().out.startswith("2 workers")


def test_summary_of_nothing_says_what_to_do(
    make: Callable[..., Path], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make("__init__.py")
    auto_discover_workers([name])
    out = capsys.readouterr().out
    assert out.startswith("0 workers, 1 module scanned\n")
    assert "@worker_task" in out
    assert f"scanned: {name}\n" in out
