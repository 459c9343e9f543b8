"""Worker options from the environment: who wins, how names are found, and what is said about mistakes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podium import ConfigError, Configuration, Worker
from podium.options import ALIASES, ENVIRONMENT_NAMES, OPTION_NAMES, OPTIONS, WorkerOptions
from podium.settings import resolve_workers, set_for_all


def add(a: int, b: int = 0) -> int:
    return a + b


def resolved(environment: dict[str, str], name: str = "w", **options: Any) -> Worker:
    (worker,) = resolve_workers([Worker(name, add, **options)], Configuration(), environment)
    return worker


def value(environment: dict[str, str], option: str, name: str = "w", **options: Any) -> Any:
    return getattr(resolved(environment, name, **options).options, option)


# --- who wins ------------------------------------------------------------------------------------------------------

#: A value for each source of each option, in the order of precedence: the worker's variable, that of all, the code.
SAMPLES: dict[str, tuple[tuple[str, Any], tuple[str, Any], Any]] = {
    "poll_interval": (("5", 5), ("2.5", 2.5), 30),
    "domain": (("own", "own"), ("all", "all"), "code"),
    "worker_id": (("own", "own"), ("all", "all"), "code"),
    "thread_count": (("2", 2), ("3", 3), 4),
    "register_task_def": (("true", True), ("no", False), True),
    "poll_timeout": (("0", 0), ("5000", 5000), 200),
    "lease_extend_enabled": (("on", True), ("off", False), True),
    "max_lease_seconds": (("60", 60), ("90.5", 90.5), 30),
    "timeout_seconds": (("0", 0), ("2.5", 2.5), 30),
    "on_cancel": (("kill", "kill"), (" Tell ", "tell"), "kill"),
    "overwrite_task_def": (("0", False), ("1", True), False),
    "strict_schema": (("YES", True), ("No", False), True),
    "register_schema": (("True", True), ("False", False), True),
    "paused": (("true", True), ("false", False), True),
    "isolation": (("thread", "thread"), (" Process ", "process"), "thread"),
    "group": (("own", "own"), ("all", "all"), "code"),
    "processes": (("2", 2), ("3", 3), 4),
    "max_crashes": (("0", 0), ("1", 1), 2),
    "max_tasks": (("2", 2), ("3", 3), 4),
    "max_rss_mb": (("200", 200), ("300", 300), 400),
    "max_age_seconds": (("2", 2), ("2.5", 2.5), 3),
}


def test_every_option_but_the_template_can_be_set_by_the_environment() -> None:
    assert SAMPLES.keys() == set(ENVIRONMENT_NAMES.values()) == set(OPTION_NAMES) - {"task_def"}


@given(
    option=st.sampled_from(sorted(SAMPLES)),
    present=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    name=st.sampled_from(["w", "my-task.v2", "myTask", "a_poll"]),
    own_spelling=st.integers(0, 3),
    all_spelling=st.integers(0, 4),
)
def test_precedence_holds_for_every_option_and_spelling(
    option: str, present: tuple[bool, bool, bool], name: str, own_spelling: int, all_spelling: int
) -> None:
    own, of_all, code = SAMPLES[option]
    capitals = {"w": "W", "my-task.v2": "MY_TASK_V2", "myTask": "MY_TASK", "a_poll": "A_POLL"}[name]
    own_name = [
        f"conductor.worker.{name}.{option}",
        f"conductor_worker_{name}_{option}",
        f"CONDUCTOR_WORKER_{capitals}_{option.upper()}",
        f"CONDUCTOR_WORKER_{name}_{option.upper()}",
    ][own_spelling]
    all_name = [
        f"conductor.worker.all.{option}",
        f"CONDUCTOR_WORKER_ALL_{option.upper()}",
        f"conductor_worker_all_{option}",
        f"conductor_worker_{option}",
        f"CONDUCTOR_WORKER_{option.upper()}",
    ][all_spelling]
    environment = {own_name: own[0]} if present[0] else {}
    if present[1]:
        environment[all_name] = of_all[0]
    default = False if option == "register_schema" else getattr(WorkerOptions(), option)
    expected, source = next(
        (value, source)
        for there, value, source in [
            (present[0], own[1], own_name),
            (present[1], of_all[1], all_name),
            (present[2], code, "code"),
            (True, default, "default"),
        ]
        if there
    )
    worker = resolved(environment, name, **({option: code} if present[2] else {}))
    assert getattr(worker.options, option) == expected
    assert worker.sources[option] == source


@given(data=st.data(), chosen=st.sets(st.sampled_from(sorted(SAMPLES))))
def test_each_property_is_resolved_by_itself(data: st.DataObject, chosen: set[str]) -> None:
    environment, expected = {}, {}
    for option in sorted(chosen):
        level = data.draw(st.integers(0, 1))
        text, expected[option] = SAMPLES[option][level]
        environment[f"CONDUCTOR_WORKER_{['W', 'ALL'][level]}_{option.upper()}"] = text
    worker = resolved(environment)
    untouched = WorkerOptions(register_schema=False)
    for option in SAMPLES:
        assert getattr(worker.options, option) == expected.get(option, getattr(untouched, option))


@pytest.mark.parametrize(("alias", "option"), [item for item in ALIASES.items() if item[1] != "task_def"])
def test_other_names_of_an_option_are_found_too(alias: str, option: str) -> None:
    assert value({f"CONDUCTOR_WORKER_W_{alias.upper()}": "7"}, option) == 7
    assert value({f"conductor.worker.w.{alias}": "7"}, option) == 7
    # an own variable by another name wins over one of all by the proper name
    assert (
        value({f"CONDUCTOR_WORKER_W_{alias.upper()}": "7", f"CONDUCTOR_WORKER_ALL_{option.upper()}": "9"}, option) == 7
    )


def test_register_schema_comes_from_the_configuration_if_nobody_says_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def of(configuration: Configuration, **options: Any) -> tuple[Any, str]:
        (worker,) = resolve_workers([Worker("w", add, **options)], configuration, {})
        return worker.options.register_schema, worker.sources["register_schema"]

    assert of(Configuration(register_schema=True)) == (True, "Configuration")
    assert of(Configuration(register_schema=True), register_schema=False) == (False, "code")
    monkeypatch.setenv("CONDUCTOR_REGISTER_SCHEMAS", "1")
    assert of(Configuration()) == (True, "CONDUCTOR_REGISTER_SCHEMAS")
    monkeypatch.delenv("CONDUCTOR_REGISTER_SCHEMAS")
    assert of(Configuration()) == (False, "default")


def test_declared_worker_is_left_as_it_was() -> None:
    declared = Worker("w", add, thread_count=2)
    (worker,) = resolve_workers([declared], Configuration(), {"CONDUCTOR_WORKER_W_THREAD_COUNT": "5"})
    assert (declared.options.thread_count, worker.options.thread_count) == (2, 5)
    assert (worker.function, worker.task_definition_name) == (declared.function, "w")


# --- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("my-task.v2", "MY_TASK_V2"),
        ("my-task.v2", "MY-TASK.V2"),
        ("my-task.v2", "my-task.v2"),
        ("myTask", "MY_TASK"),
        ("myTask", "MYTASK"),
        ("myTask", "myTask"),
        ("HTTPCall2x", "HTTP_CALL2X"),
        ("grüße", "GR__E"),
        ("order worker", "ORDER_WORKER"),
    ],
)
def test_name_is_found_in_every_form(name: str, written: str) -> None:
    assert value({f"CONDUCTOR_WORKER_{written}_THREAD_COUNT": "3"}, "thread_count", name) == 3


def test_name_that_ends_like_a_property() -> None:
    environment = {"CONDUCTOR_WORKER_A_POLL_TIMEOUT": "7", "CONDUCTOR_WORKER_A_POLL_POLL_TIMEOUT": "8"}
    assert value(environment, "poll_timeout", "a") == 7
    assert value(environment, "poll_timeout", "a_poll") == 8


def test_name_as_it_is_belongs_to_that_worker_alone() -> None:
    workers = [Worker("task", add), Worker("Task", add), Worker("TASK", add)]
    environment = {"conductor.worker.Task.thread_count": "3", "CONDUCTOR_WORKER_TASK_POLL_TIMEOUT": "9"}
    found = resolve_workers(workers, Configuration(), environment)
    assert [worker.options.thread_count for worker in found] == [1, 3, 1]
    assert [worker.options.poll_timeout for worker in found] == [100, 100, 9]


def test_empty_text_takes_back_what_the_code_says() -> None:
    assert value({"CONDUCTOR_WORKER_W_DOMAIN": ""}, "domain", domain="code") is None


# --- mistakes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "text", "expected"),
    [
        ("thread_count", "0", "a whole number from 1 to 2147483647"),
        ("thread_count", "many", "a whole number from 1 to 2147483647"),
        ("thread_count", "", "a whole number from 1 to 2147483647"),
        ("poll_interval", "nan", "a number from 0 to 2147483647"),
        ("poll_interval", "-1", "a number from 0 to 2147483647"),
        ("poll_timeout", "5001", "a whole number from 0 to 5000"),
        ("paused", "ture", "one of true, 1, yes, on, false, 0, no, off"),
        ("paused", "", "one of true, 1, yes, on, false, 0, no, off"),
        ("isolation", "prison", "'process' or 'thread'"),
        ("domain", "a\nb", "a non-empty text without control characters"),
    ],
)
@pytest.mark.parametrize("level", ["W", "ALL"])
def test_value_that_is_not_allowed_stops_the_start(option: str, text: str, expected: str, level: str) -> None:
    variable = f"CONDUCTOR_WORKER_{level}_{option.upper()}"
    with pytest.raises(ConfigError) as caught:
        resolved({variable: text})
    assert str(caught.value) == f"environment variable {variable}={text!r}: expected {expected}"


def test_defect_34_thread_count_of_zero_by_the_environment_is_refused() -> None:
    with pytest.raises(ConfigError, match="CONDUCTOR_WORKER_ALL_THREAD_COUNT='0': expected a whole number from 1"):
        resolved({"CONDUCTOR_WORKER_ALL_THREAD_COUNT": "0", "CONDUCTOR_WORKER_W_THREAD_COUNT": "2"})


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("CONDUCTOR_WORKER_W_THREAD_COUNTS", "CONDUCTOR_WORKER_W_THREAD_COUNT"),
        ("CONDUCTOR_WORKER_ALL_POLL_INTERVALL", "CONDUCTOR_WORKER_ALL_POLL_INTERVAL"),
        ("conductor.worker.w.thread-count", "conductor.worker.w.thread_count"),
        ("CONDUCTOR_WORKER_THREADCOUNT", "CONDUCTOR_WORKER_THREAD_COUNT"),
    ],
)
def test_unknown_property_is_a_warning_with_the_nearest(
    variable: str, meant: str, caplog: pytest.LogCaptureFixture
) -> None:
    resolved({variable: "3"})
    assert caplog.messages == [f"environment variable {variable} sets no option of a worker; did you mean {meant}?"]


def test_unknown_property_near_to_none_lists_them(caplog: pytest.LogCaptureFixture) -> None:
    resolved({"CONDUCTOR_WORKER_W_COLOUR": "red"})
    assert "properties: poll_interval, domain, " in caplog.text


def test_name_of_no_worker_is_a_warning_only_if_one_is_near(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        resolved({"CONDUCTOR_WORKER_PRICE_ODER_PAUSED": "true", "CONDUCTOR_WORKER_SHIP_PAUSED": "true"}, "price-order")
    (message,) = caplog.messages
    assert message.startswith("environment variable CONDUCTOR_WORKER_PRICE_ODER_PAUSED: no worker is named so; ")
    assert message.endswith("did you mean 'price-order', as PRICE_ORDER?")


def test_value_for_another_worker_is_not_looked_at() -> None:
    assert value({"CONDUCTOR_WORKER_OTHER_THREAD_COUNT": "many"}, "thread_count") == 1


def test_two_spellings_that_disagree_are_told(caplog: pytest.LogCaptureFixture) -> None:
    environment = {"conductor.worker.w.thread_count": "2", "CONDUCTOR_WORKER_W_CONCURRENCY": "3"}
    assert value(environment, "thread_count") == 2
    assert caplog.messages == [
        "CONDUCTOR_WORKER_W_CONCURRENCY='3' is overridden by conductor.worker.w.thread_count='2'"
    ]
    caplog.clear()
    value(dict.fromkeys(environment, "2"), "thread_count")
    assert caplog.messages == []


def test_two_spellings_that_disagree_are_told_once_for_all_workers(caplog: pytest.LogCaptureFixture) -> None:
    environment = {"CONDUCTOR_WORKER_ALL_THREAD_COUNT": "2", "CONDUCTOR_WORKER_ALL_CONCURRENCY": "3"}
    resolve_workers([Worker(name, add) for name in "abc"], Configuration(), environment)
    assert len(caplog.messages) == 1


@pytest.mark.parametrize(
    "variable", ["CONDUCTOR_WORKER__DOMAIN", "conductor.worker..domain", "conductor_worker__domain"]
)
def test_empty_name_does_not_mean_all_workers(variable: str, caplog: pytest.LogCaptureFixture) -> None:
    """Such as of CONDUCTOR_WORKER_${NAME}_DOMAIN when NAME is not set."""
    assert value({variable: "prod"}, "domain") is None
    assert caplog.messages[0].startswith(f"environment variable {variable} sets no option of a worker; did you mean ")


def test_value_that_is_set_for_all_has_no_rival_but_those_for_one_worker() -> None:
    environment = {
        "conductor.worker.all.thread_count": "2", "CONDUCTOR_WORKER_ALL_CONCURRENCY": "3",
        "CONDUCTOR_WORKER_thread_count": "4", "CONDUCTOR_WORKER_ALL_DOMAIN": "d", "CONDUCTOR_WORKER_B_CONCURRENCY": "6",
    }  # fmt: skip
    set_for_all("thread_count", "5", environment)
    assert environment == {
        "CONDUCTOR_WORKER_ALL_THREAD_COUNT": "5", "CONDUCTOR_WORKER_ALL_DOMAIN": "d",
        "CONDUCTOR_WORKER_B_CONCURRENCY": "6",
    }  # fmt: skip


def test_worker_named_like_the_global_name_is_told(caplog: pytest.LogCaptureFixture) -> None:
    assert value({"CONDUCTOR_WORKER_ALL_THREAD_COUNT": "3"}, "thread_count", "all") == 3
    assert "a worker is named 'all'" in caplog.text


def test_other_variables_are_nobody_s_business(caplog: pytest.LogCaptureFixture) -> None:
    resolved({"CONDUCTOR_SERVER_URL": "x", "WORKER": "1", "PATH": "/bin", "CONDUCTOR_WORKERS": "3"})
    assert caplog.messages == []


def test_variables_that_kubernetes_sets_for_services_are_nobody_s_business(caplog: pytest.LogCaptureFixture) -> None:
    resolved(
        {
            "CONDUCTOR_WORKER_PORT": "tcp://10.0.0.7:8080", "CONDUCTOR_WORKER_PORT_8080_TCP": "tcp://10.0.0.7:8080",
            "CONDUCTOR_WORKER_PORT_8080_TCP_PROTO": "tcp", "CONDUCTOR_WORKER_PORT_8080_TCP_ADDR": "10.0.0.7",
            "CONDUCTOR_WORKER_SERVICE_HOST": "10.0.0.7", "CONDUCTOR_WORKER_SERVICE_PORT": "8080",
            "CONDUCTOR_WORKER_MAIL_SERVICE_PORT_HTTP": "8080",
        }
    )  # fmt: skip
    assert caplog.messages == []
    resolved({"CONDUCTOR_WORKER_PORT": "8080"})
    assert "CONDUCTOR_WORKER_PORT sets no option of a worker" in caplog.text


def test_every_kind_reads_what_it_shows() -> None:
    """What an operator copies from ``podium config`` into the environment is taken."""
    for option in OPTIONS:
        parse: Callable[[str], Any] | None = option.metadata["kind"].parse
        if parse is not None and option.default is not None:
            assert parse(str(option.default)) == option.default
