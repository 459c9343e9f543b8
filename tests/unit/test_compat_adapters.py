"""What stands between conductor-python's signatures and podium's."""

from __future__ import annotations

import asyncio
import logging
import pickle
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import podium
from podium import (
    AuthenticationSettings,
    ConfigError,
    StartError,
    Task,
    TaskDef,
    TaskResultStatus,
    get_registered_workers,
    worker_task,
)
from podium.compat import carrying, isolation, workers
from podium.compat import context as compat_context
from podium.compat.configuration import TRACE_LEVEL, Configuration, trace
from podium.compat.conversion import (
    convert_from_dict,
    convert_from_dict_or_list,
    generate_json_schema_from_function,
    get_value,
)
from podium.compat.loading import WorkerLoader, auto_discover_workers, scan_for_workers
from podium.compat.measuring import (
    CanonicalMetricsCollector,
    LegacyMetricsCollector,
    MetricsCollector,
    MetricsSettings,
)
from podium.compat.results import SchemaType, TaskResult
from podium.compat.supervision import TaskHandler
from podium.registry import clear_registered_workers, register_worker


@pytest.fixture(autouse=True)
def empty_registry() -> Iterator[None]:
    others = get_registered_workers()
    clear_registered_workers()
    yield
    clear_registered_workers()
    for worker in others:
        register_worker(worker)


# configuration


def test_configuration_takes_the_positions_and_names_of_conductor_python() -> None:
    settings = AuthenticationSettings("key", "secret")
    configuration = Configuration("http://host:8080", True, settings, None, 30, True, logging.ERROR)
    assert configuration.host == "http://host:8080/api"
    assert configuration.ui_host == "http://host:8080"
    assert configuration.log_level == logging.ERROR
    native = configuration.native()
    assert (native.host, native.authentication_settings) == ("http://host:8080/api", settings)
    assert (native.auth_token_ttl_min, native.register_schema) == (30, True)
    assert Configuration(server_api_url="http://host/x/api").native().host == "http://host/x/api"


def test_configuration_reads_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDUCTOR_SERVER_URL", "http://from.env/api")
    monkeypatch.setenv("CONDUCTOR_AUTH_KEY", "key")
    monkeypatch.setenv("CONDUCTOR_AUTH_SECRET", "secret")
    monkeypatch.setenv("CONDUCTOR_LOG_LEVEL", "warning")
    monkeypatch.setenv("CONDUCTOR_UI_SERVER_URL", "http://ui.env")
    configuration = Configuration()
    assert configuration.native().host == "http://from.env/api"
    assert configuration.native().authentication_settings == AuthenticationSettings("key", "secret")
    assert (configuration.log_level, configuration.ui_host) == (logging.WARNING, "http://ui.env")
    monkeypatch.setenv("CONDUCTOR_LOG_LEVEL", "loud")
    with pytest.raises(ConfigError, match="CONDUCTOR_LOG_LEVEL: 'LOUD' is no log level"):
        Configuration()


def test_defect_32_settings_of_tls_and_proxy_apply_when_they_are_set_later(tmp_path: Path) -> None:
    configuration = Configuration("https://host")
    assert (configuration.verify_ssl, configuration.proxy) == (True, None)
    configuration.verify_ssl = False
    configuration.proxy = "http://proxy:3128"
    native = configuration.native()
    assert (native.verify_ssl, native.proxy) == (False, "http://proxy:3128")
    for name in ("ssl_ca_cert", "cert_file", "key_file"):
        configuration = Configuration("https://host")
        setattr(configuration, name, str(tmp_path / "missing.pem"))
        with pytest.raises(ConfigError, match=f"Configuration.{name}: no such file"):
            configuration.native()


def test_setting_that_would_do_nothing_is_refused() -> None:
    configuration = Configuration()
    with pytest.raises(ConfigError, match="http_connection has no place in podium: podium has its own HTTP client"):
        configuration.http_connection = object()
    with pytest.raises(ConfigError, match="did you mean 'verify_ssl'"):
        configuration.verify_sll = False
    with pytest.raises(AttributeError, match=r"token_update_time.*podium fetches and renews tokens by itself"):
        _ = configuration.token_update_time

    class Own(Configuration):
        pass

    own = Own()
    own.purpose = "mine"  # a class of the user's may have attributes of its own
    assert own.purpose == "mine"


def test_debug_is_a_log_level() -> None:
    assert Configuration(debug=True).log_level == logging.DEBUG
    configuration = Configuration()
    assert (configuration.log_level, configuration.debug) == (logging.INFO, False)
    configuration.debug = True
    assert configuration.log_level == logging.DEBUG


def test_logging_is_configured_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    root, chatty = logging.getLogger(), logging.getLogger("httpx")
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    monkeypatch.setattr(chatty, "level", chatty.level)
    configuration = Configuration(log_level=TRACE_LEVEL)
    assert root.handlers == []
    configuration.apply_logging_config(log_format="%(message)s!")
    (handler,) = root.handlers
    assert handler.format(logging.makeLogRecord({"msg": "x"})) == "x!"
    assert (root.level, chatty.level) == (TRACE_LEVEL, logging.WARNING)
    assert Configuration.get_logging_formatted_name("a.b").endswith("] a.b")


def test_trace_is_a_function(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(TRACE_LEVEL, "some.logger"):
        trace(logging.getLogger("some.logger"), "n=%d", 5)
    assert caplog.messages == ["n=5"]
    assert not hasattr(logging.Logger, "trace")


# metrics


def test_metrics_settings_keep_the_behaviour_of_conductor_python(tmp_path: Path) -> None:
    native = MetricsSettings(str(tmp_path), "m.prom", 0.5).native()
    assert (native.directory, native.file_name, native.update_interval) == (str(tmp_path), "m.prom", 0.5)
    served = MetricsSettings(directory=str(tmp_path), http_port=8000, clean_directory=True).native()
    assert (served.directory, served.http_port, served.http_host) == (None, 8000, "0.0.0.0")
    assert served.file_path is None
    assert MetricsSettings().native().file_path == Path.home() / "tmp" / "metrics.log"


def test_collectors_are_podium_s(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = MetricsSettings(str(tmp_path))
    for make, names in (
        (LegacyMetricsCollector, "task_poll_time_seconds"),
        (CanonicalMetricsCollector, "task_poll_time_seconds_bucket"),
        (MetricsCollector, "task_poll_time_seconds"),
    ):
        collector = make(settings)
        assert type(collector) is podium.MetricsCollector
        collector.record_task_poll_time("t", 0.1)
        assert f"{names}{{" in collector.render()[0].decode()
    assert isinstance(MetricsCollector(), podium.MetricsCollector)
    with pytest.raises(TypeError, match=r"podium\.MetricsCollector is the class to inherit from"):
        type("Mine", (MetricsCollector,), {})


# workers


class Greeter(workers.WorkerInterface):
    """A worker that is a class."""

    def __init__(self, name: Any, greeting: str = "Hello") -> None:
        super().__init__(name)
        self.greeting = greeting

    def execute(self, task: Task) -> Any:
        result = self.get_task_result_from_task(task)
        result.add_output_data("text", f"{self.greeting}, {task.input_data['name']}")
        return result

    def get_polling_interval_in_seconds(self) -> float:
        return 0.5


class AsyncGreeter(Greeter):
    async def execute(self, task: Task) -> Any:
        await asyncio.sleep(0)
        return super().execute(task)


TASK = Task(task_id="t", workflow_instance_id="w", input_data={"name": "Ann"})


def test_worker_class_becomes_a_function_with_its_options() -> None:
    greeter = Greeter("greet")
    greeter.thread_count, greeter.domain, greeter.worker_id = 7, "blue", "me"
    (native,) = greeter.native_workers(by_name=False)
    options = native.options
    assert (native.task_definition_name, options.poll_interval, options.thread_count) == ("greet", 500, 7)
    assert (options.domain, options.worker_id) == ("blue", "me")
    result = native.function(TASK)
    assert (result.task_id, result.workflow_instance_id, result.worker_id) == ("t", "w", "me")
    assert result.output_data == {"text": "Hello, Ann"}
    assert native.sources["poll_timeout"] == "default"


def test_worker_class_may_be_async() -> None:
    (native,) = AsyncGreeter("greet").native_workers(by_name=False)
    assert native.is_async
    assert asyncio.run(native.function(TASK)).output_data == {"text": "Hello, Ann"}


def test_worker_object_is_found_by_its_name() -> None:
    (native,) = Greeter("greet", "Moin").native_workers(by_name=True)
    owner, _, name = native.function.__qualname__.rpartition(".")
    assert (native.function.__module__, owner) == (__name__, "Greeter")
    assert getattr(Greeter, name) is native.function
    # A process has not made the object yet.
    carrying._functions.clear()
    found = getattr(Greeter, name)
    assert found is not native.function
    assert found is getattr(Greeter, name)
    assert found(TASK).output_data == {"text": "Moin, Ann"}
    with pytest.raises(AttributeError, match="has no attribute 'something'"):
        _ = Greeter.something


def test_worker_object_that_cannot_travel_is_refused_with_the_fix() -> None:
    greeter = Greeter("greet")
    greeter.lock = threading.Lock()  # type: ignore[attr-defined]
    with pytest.raises(StartError, match=r"worker 'greet': its object of class Greeter cannot be sent.*isolation="):
        TaskHandler(workers=[greeter])
    assert len(TaskHandler(workers=[greeter], isolation="thread").workers) == 1


def test_defect_24_each_name_of_a_list_is_a_worker_of_its_own() -> None:
    natives = Greeter(["greet", "welcome"]).native_workers(by_name=True)
    assert [native.task_definition_name for native in natives] == ["greet", "welcome"]
    assert len({native.options.group for native in natives}) == 1
    assert natives[0].function is natives[1].function


def test_methods_of_a_worker_class() -> None:
    greeter = Greeter(["greet", "welcome"])
    assert greeter.task_definition_names == ["greet", "welcome"]
    assert greeter.get_task_definition_name() == "greet"
    assert greeter.get_identity() == socket.gethostname()
    assert greeter.get_domain() is None
    with pytest.raises(AttributeError, match="each name is polled by itself"):
        greeter.compute_task_definition_name()


def add(a: int, b: int = 1) -> int:
    return a + b


async def add_later(a: int) -> dict[str, int]:
    return {"sum": a + 1}


def test_worker_takes_the_positions_of_conductor_python() -> None:
    template = TaskDef(retry_count=3)
    worker = workers.Worker("add", add, 250, "blue", "me", 3, True, 50, True, True, template, False, True, True)
    (native,) = worker.native_workers(by_name=True)
    options = native.options
    assert native.function is add
    assert (options.poll_interval, options.domain, options.worker_id, options.thread_count) == (250, "blue", "me", 3)
    assert (options.register_task_def, options.poll_timeout, options.lease_extend_enabled) == (True, 50, True)
    assert (options.paused, options.task_def, options.overwrite_task_def) == (True, template, False)
    assert (options.strict_schema, options.register_schema) == (True, True)


def test_worker_executes_a_task_as_podium_would() -> None:
    task = Task(task_id="t", workflow_instance_id="w", input_data={"a": 2})
    result = workers.Worker("add", add).execute(task)
    assert (result.status, result.output_data, result.task_id) == ("COMPLETED", {"result": 3}, "t")
    assert workers.Worker("add", add_later).execute(task).output_data == {"sum": 3}
    failed = workers.Worker("add", add).execute(Task(task_id="t", workflow_instance_id="w"))
    assert failed.status == "FAILED_WITH_TERMINAL_ERROR"
    assert "a: required" in (failed.reason_for_incompletion or "")


def test_subclass_of_worker_may_execute_by_itself() -> None:
    class Doubling(workers.Worker):
        def execute(self, task: Task) -> Any:
            return {"doubled": True}

    (native,) = Doubling("d", add).native_workers(by_name=False)
    assert native.function(TASK) == {"doubled": True}


def test_registry_is_seen_as_conductor_python_shows_it() -> None:
    workers.register_decorated_fn("add", 200, "blue", None, add, thread_count=2)
    view = workers.decorated_functions
    assert list(view) == [("add", "blue")]
    assert view["add", "blue"]["func"] is add
    assert sorted(view["add", "blue"]) == [
        "domain", "func", "lease_extend_enabled", "overwrite_task_def", "poll_interval", "poll_timeout",
        "register_schema", "register_task_def", "strict_schema", "task_def", "thread_count", "worker_id",
    ]  # fmt: skip
    (worker,) = workers.get_registered_workers()
    assert (worker.task_definition_name, worker.poll_interval, worker.thread_count) == ("add", 200, 2)
    assert workers.get_registered_worker_names() == ["add"]
    kept = dict(view)
    view.clear()
    assert get_registered_workers() == []
    view.update(kept)
    assert (len(view), view["add", "blue"]["thread_count"]) == (1, 2)
    view["other", None] = {"func": add}
    del view["add", "blue"]
    assert [worker.task_definition_name for worker in get_registered_workers()] == ["other"]
    with pytest.raises(KeyError):
        del view["add", "blue"]


def test_loader_gives_workers_of_conductor_python(capsys: pytest.CaptureFixture[str]) -> None:
    worker_task("add", thread_count=3)(add)
    for loader in (WorkerLoader(), scan_for_workers(__name__), auto_discover_workers(__name__)):
        (worker,) = loader.get_workers()
        assert (worker.thread_count, worker.get_task_definition_name()) == (3, "add")
        assert loader.get_worker_count() == 1
        # Found by the handler as well, and run once.
        assert len(TaskHandler(workers=loader.get_workers()).workers) == 1
    loader.print_summary()
    assert "add" in capsys.readouterr().out
    assert isinstance(pickle.loads(pickle.dumps(loader)), WorkerLoader)


# handler


def test_handler_takes_the_positions_of_conductor_python() -> None:
    configuration = Configuration("http://host")
    configuration.proxy = "http://proxy:1"
    handler = TaskHandler(
        [workers.Worker("add", add), podium.Worker("other", add)], configuration, None, False, ["json"], [],
        False, False, 2.5, 3.0, 30.0, 4,
    )  # fmt: skip
    assert [worker.task_definition_name for worker in handler.workers] == ["add", "other"]
    assert handler.configuration.proxy == "http://proxy:1"
    assert (handler.monitor_interval_seconds, handler.restart_max_attempts) == (2.5, 4)
    assert not handler._native._restart.restart
    assert handler._native._restart.max_attempts == 4
    assert not handler.is_healthy()
    assert handler.get_worker_process_status() == []
    assert handler.get_worker_status() == []
    with pytest.raises(AttributeError, match=r"task_runner_processes.*get_worker_status\(\)"):
        _ = handler.task_runner_processes
    with pytest.raises(AttributeError, match="nonsense"):
        _ = handler.nonsense


def test_isolation_of_the_environment_holds(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    assert isolation.isolation_mode() == "process"
    monkeypatch.setenv(isolation.WORKER_ISOLATION_ENV, " Thread ")
    assert isolation.isolation_mode() == isolation.ISOLATION_THREAD
    greeter = Greeter("greet")
    greeter.lock = threading.Lock()  # type: ignore[attr-defined]
    assert len(TaskHandler(workers=greeter).workers) == 1
    with pytest.raises(StartError, match="cannot be sent"):
        TaskHandler(workers=greeter, isolation="process")
    monkeypatch.setenv(isolation.WORKER_ISOLATION_ENV, "fiber")
    assert isolation.isolation_mode() == "process"
    assert "expected 'process' or 'thread'" in caplog.text


# the rest


def test_context_of_a_test() -> None:
    with pytest.raises(RuntimeError, match="no task is running"):
        compat_context.get_task_context()
    context = compat_context.set_task_context(TASK, TaskResult())
    try:
        again = compat_context.TaskContext.get()
        assert again.task == TASK
        assert (again.get_task_id(), again.get_input()) == ("t", {"name": "Ann"})
        context.add_log("line")
        assert [line.log for line in podium.get_task_context().logs] == ["line"]
        with pytest.raises(AttributeError, match="the result is made of what the function returns"):
            _ = again.task_result
        assert "task_id='t'" in repr(again)
    finally:
        compat_context.clear_task_context()
    compat_context.clear_task_context()  # nothing to take back
    with pytest.raises(RuntimeError):
        podium.get_task_context()


def test_results_take_positions() -> None:
    result = TaskResult("w", "t", reason_for_incompletion="why")
    assert (result.workflow_instance_id, result.task_id, result.reason_for_incompletion) == ("w", "t", "why")
    assert isinstance(result, podium.TaskResult)
    positions: Any = ("w", "t", "why")
    with pytest.raises(TypeError):
        TaskResult(*positions)
    assert (
        result.to_dict()
        == podium.TaskResult(workflow_instance_id="w", task_id="t", reason_for_incompletion="why").to_dict()
    )
    assert TaskResult.new_task_result(TaskResultStatus.FAILED).status == "FAILED"
    assert podium.TaskExecLog("line", "t", 5) == podium.TaskExecLog(log="line", task_id="t", created_time=5)
    assert SchemaType.JSON == "JSON"


def test_conversion_functions() -> None:
    assert get_value(list[int], [1]) == [1]
    assert convert_from_dict(dict[str, int], None) is None
    assert convert_from_dict_or_list(Task, [{"taskId": "a"}])[0].task_id == "a"
    assert convert_from_dict_or_list(list[int], [1, 2]) == [1, 2]


def test_schemas_of_a_function() -> None:
    schemas = generate_json_schema_from_function(add, "add_schema", strict_schema=True)
    assert schemas["input"]["required"] == ["a"]
    assert schemas["input"]["additionalProperties"] is False
    assert sorted(schemas) == ["input", "output"]
