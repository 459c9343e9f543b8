"""What podium never does with bytes from elsewhere: no pickle, no import, no evaluation, no other path."""

from __future__ import annotations

import ast
import dataclasses
import enum
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

import podium
from fake_server import FakeServer, json_answer
from podium import Client, Configuration, ConversionError, DeclarationError, Worker
from podium.client import _PLACEHOLDER
from podium.convert import converter_for
from podium.errors import ConfigError
from podium.polled import UnreadableTaskError, read_task
from podium.transport import quoted

SOURCE = Path(podium.__file__).parent
MODULES = {".".join(path.relative_to(SOURCE).with_suffix("").parts): path for path in SOURCE.rglob("*.py")}

#: Modules whose reading of bytes runs code that the bytes choose.
UNSAFE = {"pickle", "cPickle", "_pickle", "shelve", "dill", "cloudpickle", "joblib", "marshal", "yaml", "jsonpickle"}
#: Calls that run text, or import by a name. Who makes them, and where the name comes from: never from a server.
DYNAMIC = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "import_module",
    "run_module",
    "run_path",
    "exec_module",
    "literal_eval",
}
ALLOWED = {
    ("__init__", "import_module"): "public names, from a table",
    ("cli.run", "import_module"): "podium.compat",
    ("discovery", "import_module"): "names that the program gives",
    ("discovery", "exec_module"): "files of folders that the program gives",
    ("member", "import_module"): "names that the parent found its own functions by",
    ("preparation", "run_module"): "the program's own main module",
    ("preparation", "run_path"): "the program's own main module",
    ("compat.loading", "import_module"): "podium.compat's own modules",
    ("compat.finder", "import_module"): "podium.compat's own modules",
}

#: Where the bytes of a server are read, or what was read from them goes through.
FROM_OUTSIDE = (
    "answers",
    "transport",
    "tokens",
    "client",
    "polled",
    "runner",
    "delivery",
    "lease",
    "execution",
    "pool",
)


def calls_in(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            yield name, node


def test_S10_no_module_reads_what_can_run_code_from_outside() -> None:
    found = set()
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found |= {(module, name) for name in names if name.split(".")[0] in UNSAFE}
    # An object of conductor-python's kind goes from the program to its own children, over their socketpair.
    assert found == {("compat.carrying", "pickle")}


def test_S12_nothing_is_imported_or_run_by_a_name_that_comes_from_outside() -> None:
    found = {
        (module, name)
        for module, path in MODULES.items()
        for name, call in calls_in(path)
        # re.compile and the like are no business of this test
        if name in DYNAMIC and not (name == "compile" and isinstance(call.func, ast.Attribute))
    }
    assert found <= ALLOWED.keys(), found - ALLOWED.keys()


@pytest.mark.parametrize("module", FROM_OUTSIDE)
def test_S12_what_reads_a_server_s_bytes_looks_nothing_up_by_a_name_that_is_not_written_there(module: str) -> None:
    for name, call in calls_in(MODULES[module]):
        if name in {"getattr", "setattr", "delattr", "hasattr"}:
            assert isinstance(call.args[1], ast.Constant), ast.unparse(call)
        assert name not in {"attrgetter", "globals", "locals", "vars"}, ast.unparse(call)


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Order:
    sku: str


PAYLOADS = [
    {"__class__": "os.system", "sku": "x"},
    {"py/object": "os.system", "py/reduce": ["os.system", ["true"]]},
    {"$type": "System.Diagnostics.Process", "!!python/object/apply": "os.system"},
    {"__reduce__": ["os.system", ["true"]], "__import__": "antigravity"},
    "module:qualname",
    "__import__('antigravity')",
    "{0.__class__.__mro__}",
]


@pytest.mark.parametrize("payload", PAYLOADS, ids=repr)
def test_S12_payload_stays_data(payload: Any) -> None:
    assert converter_for(Any)(payload) == payload
    assert converter_for(dict[str, Any] | str)(payload) == payload
    for kind in (Colour, type[int], Literal["red"], complex):
        try:
            with pytest.raises(ConversionError):
                converter_for(kind)(payload)
        except DeclarationError:
            continue  # a type that no JSON becomes is refused before there is any
    assert "antigravity" not in sys.modules


def test_S12_fields_of_a_payload_never_reach_attributes_that_are_not_declared() -> None:
    order = converter_for(Order)({"sku": "x", "__class__": "y", "__dict__": {"sku": "z"}, "other": 1})
    assert (type(order), vars(order)) == (Order, {"sku": "x"})


# paths

ODD = ["", ".", "..", "/", "../../x", "a/b", "a/../../b", "\0", "a\0b"]
HARMLESS = ["%2e%2e", "%2e%2e%2fadmin", "..;", "a b", "a?b=c", "a#b", "a;b", "\\..\\", "ü", "\r\nX: y", "...", "~"]


@pytest.mark.parametrize("name", ODD, ids=repr)
def test_S09_names_and_ids_that_could_change_a_path_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a name or id in a URL"):
        quoted(name)


@pytest.mark.parametrize("name", [*ODD, "a\nb", "\x1b[31m", " a"], ids=repr)
def test_S09_S13_a_worker_cannot_be_declared_with_such_a_name(name: str) -> None:
    with pytest.raises(DeclarationError):
        Worker(name, lambda: None)


@pytest.mark.parametrize("name", HARMLESS, ids=repr)
def test_S09_every_id_stays_in_its_place_below_the_api(name: str) -> None:
    """As task type, task id, workflow id, reference, and domain."""
    with FakeServer() as server, Client(Configuration(server_api_url=server.url)) as client:
        server.otherwise(json_answer([]))
        client.poll_tasks(name, worker_id=name, domain=name)
        client.append_task_log(name, "x")
        client.get_task_logs(name)
        client.terminate_workflow(name)
        client.unregister_task_def(name)
        seen = [request.path for request in server.requests]
    safe = r"/api/(tasks/poll/batch/|tasks/|workflow/|metadata/taskdefs/)[\w%.~;-]+(/log)?"
    assert len(seen) == 5
    for path in seen:
        assert re.fullmatch(safe, path), path
        assert "/../" not in path + "/"


def test_S09_every_path_of_the_client_is_filled_by_the_same_quoting() -> None:
    """No path is put together in any other way."""
    text = (SOURCE / "client.py").read_text()
    assert not re.search(r'f"/', text)
    assert _PLACEHOLDER.pattern == r"\{\w+\}"


@pytest.mark.parametrize("task_id", ["", "\0", "a\nb", "\x1b[2J", "\u202e"], ids=repr)
@pytest.mark.parametrize("field", ["taskId", "workflowInstanceId"])
def test_S09_S13_ids_that_no_server_issues_are_refused_before_they_are_used(field: str, task_id: str) -> None:
    raw = json.dumps({"taskId": "t", "workflowInstanceId": "w"} | {field: task_id}).encode()
    with pytest.raises(UnreadableTaskError, match="ids are empty, or have control characters") as caught:
        read_task(raw)
    assert caught.value.ids is None
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("task_id", [".", "..", "../../x", "%2e%2e"])
def test_S09_odd_ids_are_only_text_in_a_report(task_id: str) -> None:
    assert read_task(json.dumps({"taskId": task_id, "workflowInstanceId": "w"}).encode()).task_id == task_id
