"""Polling: what is handed out, to whom, in which order; domains."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from conformance.known_differences import differs
from conformance.stage import Stage, expect, simple, unique


def test_single_poll_hands_out_one_task(stage: Stage) -> None:
    name, workflow_id = stage.run_simple()
    task = expect(stage.get(f"/tasks/poll/{name}", workerid="w1")).json
    assert task["workflowInstanceId"] == workflow_id
    assert (task["taskDefName"], task["taskType"]) == (name, name)


def test_single_poll_of_an_empty_queue_is_204(stage: Stage) -> None:
    answer = stage.get(f"/tasks/poll/{stage.define_task()}")
    assert (answer.status, answer.body) == (204, b"")


def test_batch_poll_of_an_empty_queue_is_an_empty_list(stage: Stage) -> None:
    answer = stage.get(f"/tasks/poll/batch/{stage.define_task()}", count=5, timeout=0)
    assert (answer.status, answer.json) == (200, [])


def test_unknown_type_is_no_error(stage: Stage) -> None:
    name = unique("task")
    assert stage.get(f"/tasks/poll/{name}").status == 204
    assert stage.poll(name) == []


def test_batch_hands_out_at_most_count_tasks(stage: Stage) -> None:
    name = stage.define_task()
    workflow = stage.define_workflow(simple(name))
    started = {stage.start(workflow) for _ in range(3)}
    first = stage.poll(name, count=2, timeout=100)
    rest = stage.poll(name, count=10, timeout=100)
    assert (len(first), len(rest)) == (2, 1)
    assert {task["workflowInstanceId"] for task in first + rest} == started


def test_equal_priorities_are_first_in_first_out(stage: Stage) -> None:
    name = stage.define_task()
    workflow = stage.define_workflow(simple(name))
    started = [stage.start(workflow) for _ in range(4)]
    assert [stage.take(name)["workflowInstanceId"] for _ in started] == started


def test_higher_priority_goes_first(stage: Stage) -> None:
    name = stage.define_task()
    workflow = stage.define_workflow(simple(name))
    for priority in (0, 50, 5, 99):
        stage.start(workflow, priority=priority)
    assert [stage.take(name)["workflowPriority"] for _ in range(4)] == [99, 50, 5, 0]


def test_count_zero_is_an_empty_list(stage: Stage) -> None:
    name, _ = stage.run_simple()
    assert stage.poll(name, count=0) == []
    assert len(stage.poll(name)) == 1


@differs("negative-count")
def test_negative_count_is_an_empty_list(stage: Stage) -> None:
    name, _ = stage.run_simple()
    assert stage.poll(name, count=-1) == []


def test_timeout_above_five_seconds_is_400(stage: Stage) -> None:
    answer = stage.get(f"/tasks/poll/batch/{unique('task')}", timeout=5001)
    assert (answer.status, answer.message) == (400, "Long Poll Timeout value cannot be more than 5 seconds")


@pytest.mark.parametrize("parameter", ["count", "timeout"])
def test_parameter_that_is_no_number_is_500(stage: Stage, parameter: str) -> None:
    assert stage.get(f"/tasks/poll/batch/{unique('task')}", **{parameter: "many"}).status == 500


def test_long_poll_of_one_returns_as_soon_as_a_task_is_due(stage: Stage) -> None:
    name = stage.define_task()
    stage.run(simple(name, startDelay=1))
    began = time.monotonic()
    assert len(stage.poll(name, timeout=5000)) == 1
    assert time.monotonic() - began < 4


@differs("long-poll-of-many")
def test_long_poll_of_many_returns_with_the_first_tasks(stage: Stage) -> None:
    name = stage.define_task()
    stage.run(simple(name, startDelay=1))
    began = time.monotonic()
    assert len(stage.poll(name, count=5, timeout=3000)) == 1
    assert time.monotonic() - began < 2.5


def test_negative_timeout_looks_once(stage: Stage) -> None:
    name, _ = stage.run_simple()
    assert len(stage.poll(name, timeout=-1)) == 1
    assert stage.poll(name, timeout=-1) == []


def test_concurrency_limit_holds_back_the_surplus(stage: Stage) -> None:
    name = stage.define_task(concurrentExecLimit=1)
    workflow = stage.define_workflow(simple(name))
    for _ in range(3):
        stage.start(workflow)
    assert len(stage.poll(name, count=3)) == 1
    assert stage.poll(name, count=3, timeout=300) == []


def test_hand_out_marks_the_task_as_taken(stage: Stage) -> None:
    name, workflow_id = stage.run_simple()
    (waiting,) = stage.attempts(workflow_id)
    assert (waiting["status"], waiting["startTime"], waiting["pollCount"]) == ("SCHEDULED", 0, 0)
    task = stage.take(name, workerid="w1")
    assert (task["status"], task["workerId"], task["pollCount"]) == ("IN_PROGRESS", "w1", 1)
    assert task["startTime"] >= task["scheduledTime"] > 0
    assert task["callbackAfterSeconds"] == 0
    stored = stage.task(task["taskId"])
    for field in ("status", "workerId", "pollCount", "startTime"):
        assert stored[field] == task[field]


def test_taken_task_is_not_handed_out_again(stage: Stage) -> None:
    name, _ = stage.run_simple()
    stage.take(name)
    assert stage.poll(name, timeout=200) == []


def test_worker_id_is_optional(stage: Stage) -> None:
    name, _ = stage.run_simple()
    assert stage.take(name)["status"] == "IN_PROGRESS"


def test_parallel_pollers_share_the_queue_without_duplicates(stage: Stage) -> None:
    name = stage.define_task()
    workflow = stage.define_workflow(simple(name))
    started = {stage.start(workflow) for _ in range(12)}
    with ThreadPoolExecutor(4) as pool:
        batches = list(pool.map(lambda _: stage.poll(name, count=5, timeout=300), range(4)))
    taken = [task["workflowInstanceId"] for batch in batches for task in batch]
    assert len(taken) == len(set(taken)) == 12
    assert set(taken) == started


def test_polled_task_carries_what_a_worker_needs(stage: Stage) -> None:
    name = stage.define_task(responseTimeoutSeconds=77, retryCount=2)
    workflow = stage.define_workflow(simple(name, "ref", inputParameters={"n": "${workflow.input.n}", "none": None}))
    workflow_id = stage.start(workflow, {"n": 5}, correlationId="c1", priority=7)
    task = stage.take(name)
    expected = {
        "taskType": name,
        "taskDefName": name,
        "referenceTaskName": "ref",
        "workflowInstanceId": workflow_id,
        "workflowType": workflow,
        "correlationId": "c1",
        "workflowPriority": 7,
        "inputData": {"n": 5, "none": None},
        "outputData": {},
        "retryCount": 0,
        "seq": 1,
        "iteration": 0,
        "endTime": 0,
        "responseTimeoutSeconds": 77,
        "startDelayInSeconds": 0,
        "retried": False,
        "executed": False,
    }
    assert {field: task[field] for field in expected} == expected
    assert task["taskDefinition"]["retryCount"] == 2
    assert task["workflowTask"]["taskReferenceName"] == "ref"
    assert task["workflowTask"]["inputParameters"]["n"] == "${workflow.input.n}"


def test_start_delay_hides_the_task(stage: Stage) -> None:
    name = stage.define_task()
    stage.run(simple(name, startDelay=1))
    assert stage.poll(name) == []
    assert stage.take(name)["startDelayInSeconds"] == 1


@pytest.mark.parametrize("name", ["a:b", "a.b", "a%20b", "%C3%A4"], ids=["colon", "dot", "space", "unicode"])
def test_type_names_are_percent_encoded_in_the_path(stage: Stage, name: str) -> None:
    assert stage.poll(unique(name)) == []


def test_task_of_a_domain_is_only_seen_in_that_domain(stage: Stage) -> None:
    name = stage.define_task()
    stage.start(stage.define_workflow(simple(name)), taskToDomain={name: "d1"})
    assert stage.poll(name) == []
    assert stage.poll(name, domain="d2") == []
    assert stage.take(name, domain="d1")["domain"] == "d1"


def test_task_without_domain_is_not_seen_in_a_domain(stage: Stage) -> None:
    name, _ = stage.run_simple()
    assert stage.poll(name, domain="d1") == []
    assert "domain" not in stage.take(name)


def test_empty_domain_is_a_queue_of_its_own(stage: Stage) -> None:
    name, _ = stage.run_simple()
    assert stage.poll(name, domain="") == []
    assert len(stage.poll(name)) == 1


@pytest.mark.parametrize(
    ("mapping", "domain"), [("A,B", "B"), ("A,NO_DOMAIN", None), (" A , B ", "B")], ids=["last", "no_domain", "spaces"]
)
def test_domain_list_without_pollers_ends_at_its_last_entry(stage: Stage, mapping: str, domain: str | None) -> None:
    name = stage.define_task()
    workflow_id = stage.start(stage.define_workflow(simple(name)), taskToDomain={name: mapping})
    (task,) = stage.attempts(workflow_id)
    assert task.get("domain") == domain


@pytest.mark.parametrize("mapping", ["A,B", "B,A", "A,NO_DOMAIN"])
def test_domain_list_prefers_where_somebody_polls(stage: Stage, mapping: str) -> None:
    name = stage.define_task()
    stage.poll(name, domain="A")
    workflow_id = stage.start(stage.define_workflow(simple(name)), taskToDomain={name: mapping})
    (task,) = stage.attempts(workflow_id)
    assert task["domain"] == "A"


def test_domain_of_a_type_beats_the_wildcard(stage: Stage) -> None:
    one, other = stage.define_task(), stage.define_task()
    workflow = stage.define_workflow(simple(one, "a"), simple(other, "b"))
    stage.start(workflow, taskToDomain={"*": "all", one: "mine"})
    stage.complete(stage.take(one, domain="mine"))
    assert stage.take(other, domain="all")["domain"] == "all"
