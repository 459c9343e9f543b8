"""Odd outcomes and odd tasks, through a whole worker: each ends in exactly one report, and takes no neighbour along."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import odd_outcomes
from checker import check
from event_log import Kind
from fake_server import Answer
from odd_outcomes import ALL, RAISED
from podium import Configuration, TaskHandler, Worker, runner, trouble
from podium.backoff import Backoff
from rig import until
from task_server import POLL_PATH, TaskServer

MODES: list[dict[str, Any]] = [{"isolation": "process"}, {"isolation": "thread"}]


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("function", [odd_outcomes.odd, odd_outcomes.odd_async])
def test_C07_C08_C09_C10_C11_every_odd_outcome_is_one_report_and_hurts_no_neighbour(
    function: Callable[..., Any], mode: dict[str, Any]
) -> None:
    with TaskServer(response_timeout=5) as server:
        names = {server.add("t", name=name)[0]: name for name in ALL}
        neighbours = [server.add("t", name="nothing")[0] for _ in range(10)]
        worker = Worker("t", function, thread_count=4, poll_interval=20)
        configuration = Configuration(server_api_url=server.url)
        with TaskHandler([worker], configuration, scan_for_annotated_workers=False, **mode) as handler:
            handler.start_processes()
            before = handler.get_worker_status()[0]["pids"]
            server.wait_for_end(20)
            assert handler.get_worker_status()[0]["pids"] == before
            assert handler.is_healthy()
        for task_id, name in names.items():
            attempt, wanted = server.attempts[task_id], ALL[name]
            assert (name, attempt.status) == (name, wanted.status)
            if wanted.status == "COMPLETED":
                assert (name, attempt.output) == (name, wanted.expected)
            else:
                assert wanted.expected in attempt.reason, (name, attempt.reason)
                assert len(attempt.reason) <= 10_000
                assert " at 0x" not in attempt.reason
        assert [server.attempts[task_id].status for task_id in neighbours] == ["COMPLETED"] * 10
        events = server.log.by_task()
        for task_id, name in names.items():
            (taken,) = [event for event in events[task_id] if event.kind is Kind.GIVEN]
            (report,) = [event for event in events[task_id] if event.kind is Kind.RESULT]
            # One second, but for those that stood behind others on a machine that tests share.
            assert report.at - taken.at < 3, name
        assert server.duplicates == 0
        assert len(RAISED) + 17 <= len(ALL)
        check(server.log)


# C14

_numbers = itertools.count(1)
_scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.just(10**400), st.sampled_from(["", "a", "\0"])
)
_json = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
)
_FIELDS = [
    "inputData", "outputData", "retryCount", "pollCount", "status", "taskType", "taskDefName", "workflowTask",
    "responseTimeoutSeconds", "workflowPriority", "startTime", "domain", "taskDefinition", "executed", "unknown",
]  # fmt: skip
#: A task with readable ids and anything in its fields; the id is filled in when it is handed out.
_tasks = st.dictionaries(st.sampled_from(_FIELDS), _json, max_size=6)
_answers = st.one_of(
    st.lists(_tasks, max_size=4).map(lambda tasks: [("task", task) for task in tasks]),
    st.lists(st.one_of(_tasks.map(lambda task: ("task", task)), _json.map(lambda value: ("junk", value))), max_size=4),
    _json,
)


def takes_all(**inputs: Any) -> dict[str, Any]:
    return inputs


class Fuzzed:
    """A worker that lives through all examples, and a server that hands out one odd answer after another."""

    def __init__(self, server: TaskServer) -> None:
        self.server = server
        self.answers: list[bytes] = []
        server.on("GET", f"{POLL_PATH}t", self._poll)
        self.handler = TaskHandler(
            [Worker("t", takes_all, thread_count=8, poll_interval=1)], Configuration(server_api_url=server.url),
            scan_for_annotated_workers=False, isolation="thread",
        )  # fmt: skip

    def _poll(self, _request: object) -> Answer:
        body = self.answers.pop() if self.answers else b"[]"
        return Answer(body=body, headers={"Content-Type": "application/json"})

    def reports_of(self, task_id: str) -> list[dict[str, Any]]:
        bodies = [
            json.loads(r.body) for r in list(self.server.requests) if r.method == "POST" and task_id.encode() in r.body
        ]
        return [body for body in bodies if body["taskId"] == task_id and not body.get("extendLease")]

    def show(self, answer: Any) -> None:
        """Hand out an answer, and then a good task; see that every task with ids has its one report soon."""
        elements, ids = answer, []
        if isinstance(answer, list):
            elements = []
            for entry in answer:
                match entry:
                    case ("task", dict() as task):
                        ids.append(f"odd-{next(_numbers)}")
                        elements.append({"taskId": ids[-1], "workflowInstanceId": "w"} | task)
                    case ("junk", value):
                        elements.append(value)
                    case value:
                        elements.append(value)
        ids.append(f"good-{next(_numbers)}")
        good = json.dumps([{"taskId": ids[-1], "workflowInstanceId": "w", "inputData": {"a": 1}}]).encode()
        self.server.requests.clear()
        self.answers = [good, json.dumps(elements).encode()]
        begun = time.monotonic()
        until(lambda: all(self.reports_of(task_id) for task_id in ids), f"reports of {ids}", deadline=20)
        assert time.monotonic() - begun < 20
        assert all(len(self.reports_of(task_id)) == 1 for task_id in ids)
        assert self.reports_of(ids[-1])[0]["status"] == "COMPLETED"


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the pauses after failed polls short: they have tests of their own, and most answers here are failures."""
    for module in (runner, trouble):
        monkeypatch.setattr(module, "FAILURE_BACKOFF", Backoff(0.002, 0.01))


def fuzz(examples: int) -> None:
    with TaskServer() as server:
        server.otherwise(Answer(status=200, body=b"id"))
        server.on("POST", "/api/tasks/update-v2", Answer(status=204))
        fuzzed = Fuzzed(server)

        @settings(
            max_examples=examples, deadline=None, derandomize=examples < 1000, database=None, print_blob=True,
            suppress_health_check=list(HealthCheck), phases=[Phase.generate, Phase.shrink],
        )  # fmt: skip
        @given(_answers)
        def show(answer: Any) -> None:
            fuzzed.show(answer)

        with fuzzed.handler:
            fuzzed.handler.start_processes()
            show()
            assert fuzzed.handler.is_healthy()


# The engine's threads draw numbers while Hypothesis draws examples, which it takes for the examples' doing.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module")
def test_C14_poll_answers_and_inputs_of_any_shape(short_pauses: None) -> None:
    fuzz(300)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.filterwarnings("ignore:Do not use the `random` module")
def test_C14_twenty_thousand_poll_answers_of_any_shape(short_pauses: None) -> None:
    fuzz(20_000)
