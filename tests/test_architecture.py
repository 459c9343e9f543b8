"""The layer rule, the public names, and what an import may not do."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import podium

SOURCE = Path(podium.__file__).parent

#: Bottom first. A module may import what stands in a lower line, and its own line where siblings build on each other
#: without a cycle.
LAYERS: list[set[str]] = [
    {
        "errors", "models", "backoff", "frames", "connection", "events", "loops", "signals", "waking", "descriptor",
        "stacks", "kernel", "bundle", "alarm",
    },
    {"options", "settings", "workflow", "context", "config", "convert", "binding", "schema", "registry", "discovery"},
    {
        "transport", "call", "conversation", "direct", "library", "tokens", "answers", "client", "sync", "registration",
    },
    {
        "polled", "execution", "pool", "watch", "preparation", "member", "runner", "hands", "trouble", "delivery",
        "lease", "selfcheck", "metrics", "logs", "records", "ends", "testimony", "memory", "schedule", "oversight",
        "announcer", "endings", "outbox", "redelivery", "spool", "spoolfile", "spoolview", "updates", "waiting",
    },
    {"crew", "status", "monitor", "drain", "parts", "engine", "lifecycle", "health", "plan", "instruments", "handler"},
    {"server", "testing", "cli", "demo", "compat", "migrate", "__main__"},
]  # fmt: skip
#: What a crew child loads: never these.
NOT_IN_CHILDREN = {
    "transport", "call", "conversation", "direct", "library", "client", "runner", "delivery", "lease", "schedule",
    "oversight", "engine", "handler", "server", "cli", "metrics", "schema", "selfcheck", "discovery", "registration",
    "compat", "outbox", "redelivery", "spool", "spoolfile", "updates", "parts",
}  # fmt: skip


def _modules() -> dict[str, Path]:
    return {".".join(path.relative_to(SOURCE).with_suffix("").parts): path for path in sorted(SOURCE.rglob("*.py"))}


def _layer(module: str) -> int:
    top = module.split(".", maxsplit=1)[0]
    for number, names in enumerate(LAYERS):
        if top in names:
            return number
    raise AssertionError(f"podium.{module} has no layer: add it to LAYERS")


def _imports(path: Path, *, type_checking: bool = False) -> set[str]:
    """Modules of podium that a file imports, at any depth of its code."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING" and not type_checking:
                continue
            if isinstance(child, ast.ImportFrom) and child.module and child.module.split(".")[0] == "podium":
                name = child.module.removeprefix("podium").removeprefix(".")
                found.update([name] if name else [alias.name for alias in child.names])
            elif isinstance(child, ast.Import):
                found.update(
                    alias.name.removeprefix("podium.") for alias in child.names if alias.name.startswith("podium.")
                )
            visit(child)

    visit(ast.parse(path.read_text()))
    return found


@pytest.mark.parametrize("module", [name for name in _modules() if name != "__init__"])
def test_imports_go_down_the_layers(module: str) -> None:
    own = _layer(module)
    for imported in _imports(_modules()[module]):
        if imported.split(".")[0] != module.split(".", maxsplit=1)[0]:
            assert _layer(imported) <= own, f"podium.{module} (layer {own}) imports podium.{imported}"


def test_embedded_server_imports_only_the_lowest_layer() -> None:
    for module, path in _modules().items():
        if module.startswith("server"):
            outside = {name for name in _imports(path) if not name.startswith("server")}
            assert all(_layer(name) == 0 for name in outside), f"podium.{module} imports {outside}"


def test_no_import_cycles() -> None:
    graph = {module: _imports(path) & _modules().keys() for module, path in _modules().items() if module != "__init__"}
    done: set[str] = set()

    def walk(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, f"import cycle: {' -> '.join([*path[path.index(module) :], module])}"
        if module not in done:
            for imported in graph.get(module, ()):
                walk(imported, (*path, module))
            done.add(module)

    for module in graph:
        walk(module, ())


def test_all_is_complete_sorted_and_resolves() -> None:
    assert sorted(podium.__all__) == podium.__all__
    assert set(podium.__all__) == {*podium._HOME_OF, "__version__"}
    for name in podium.__all__:
        assert getattr(podium, name) is not None


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = podium.Nonsense


def _in_fresh_interpreter(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return result.stdout.strip()


def test_import_loads_no_optional_part_and_changes_no_global() -> None:
    code = """
import asyncio, logging, multiprocessing, os, signal, sys, threading
before = (
    multiprocessing.get_start_method(allow_none=True), dict(os.environ), signal.getsignal(signal.SIGTERM),
    signal.getsignal(signal.SIGINT), logging.getLogger().handlers[:], logging.getLogger().level,
    threading.active_count(), type(asyncio.get_event_loop_policy()), hasattr(logging.Logger, "trace"),
)
import podium
for name in podium.__all__:
    getattr(podium, name)
after = (
    multiprocessing.get_start_method(allow_none=True), dict(os.environ), signal.getsignal(signal.SIGTERM),
    signal.getsignal(signal.SIGINT), logging.getLogger().handlers[:], logging.getLogger().level,
    threading.active_count(), type(asyncio.get_event_loop_policy()), hasattr(logging.Logger, "trace"),
)
assert before == after, (before, after)
heavy = "typer rich prometheus_client starlette uvicorn pydantic attrs podium.server podium.cli".split()
print([name for name in heavy if name in sys.modules])
"""
    assert _in_fresh_interpreter(code) == "[]"


def test_children_load_only_what_execution_needs() -> None:
    code = f"""
import sys
import podium.member, podium.crew.forkserver
from podium import worker_task, TaskInProgress, get_task_context
loaded = {{name.removeprefix("podium.").split(".")[0] for name in sys.modules if name.startswith("podium.")}}
print(sorted(loaded & {NOT_IN_CHILDREN!r}), "pyreqwest" in sys.modules)
"""
    assert _in_fresh_interpreter(code) == "[] False"


def test_modules_and_functions_stay_small() -> None:
    for module, path in _modules().items():
        text = path.read_text()
        assert text.count("\n") <= 400, f"podium.{module} has {text.count(chr(10))} lines"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                length = (node.end_lineno or 0) - node.lineno + 1
                assert length <= 60, f"podium.{module}.{node.name} has {length} lines"
