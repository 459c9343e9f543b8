"""What follows a failed attempt: the retry and its delay, or the end of the workflow."""

from typing import Any

import pytest

from conformance.known_differences import differs
from conformance.stage import Stage, simple


def test_failed_attempt_is_followed_by_a_new_one(stage: Stage) -> None:
    name, workflow_id = stage.run_simple(retryCount=1, inputTemplate={"x": 1})
    failed = stage.take(name)
    stage.update(failed, "FAILED", reasonForIncompletion="broken", outputData={"half": True})
    first, second = stage.attempts(workflow_id)
    assert (first["status"], first["retried"], first["outputData"]) == ("FAILED", True, {"half": True})
    expected = {
        "status": "SCHEDULED",
        "retriedTaskId": first["taskId"],
        "retryCount": 1,
        "seq": 2,
        "pollCount": 0,
        "startTime": 0,
        "inputData": {"x": 1},
        "outputData": {},
        "reasonForIncompletion": "broken",
        "retried": False,
        "workflowInstanceId": workflow_id,
    }
    assert {field: second[field] for field in expected} == expected
    assert second["taskId"] != first["taskId"]


def test_retry_succeeds(stage: Stage) -> None:
    name, workflow_id = stage.run_simple(retryCount=1)
    stage.fail(stage.take(name))
    stage.complete(stage.take(name), x=1)
    workflow = stage.workflow(workflow_id)
    assert (workflow["status"], workflow["output"]) == ("COMPLETED", {"x": 1})


def test_last_failure_fails_the_workflow_with_its_reason(stage: Stage) -> None:
    name, workflow_id = stage.run_simple(retryCount=1)
    stage.fail(stage.take(name), "first")
    last = stage.take(name)
    stage.fail(last, "second")
    workflow = stage.workflow(workflow_id)
    assert workflow["status"] == "FAILED"
    reason = f"Task {last['taskId']} failed with status: FAILED and reason: 'second'"
    assert workflow["reasonForIncompletion"] == reason
    assert workflow["failedReferenceTaskNames"] == ["a"]
    assert workflow["failedTaskNames"] == [name]


def test_missing_reason_is_null_in_the_workflows_reason(stage: Stage) -> None:
    name, workflow_id = stage.run_simple()
    stage.update(stage.take(name), "FAILED")
    assert stage.workflow(workflow_id)["reasonForIncompletion"].endswith("and reason: 'null'")


def test_terminal_error_is_not_retried(stage: Stage) -> None:
    name, workflow_id = stage.run_simple(retryCount=3)
    task = stage.take(name)
    stage.update(task, "FAILED_WITH_TERMINAL_ERROR", reasonForIncompletion="bad order")
    workflow = stage.workflow(workflow_id)
    assert workflow["status"] == "FAILED"
    # The status in the text is the workflow's.
    reason = f"Task {task['taskId']} failed with status: FAILED and reason: 'bad order'"
    assert workflow["reasonForIncompletion"] == reason
    assert [attempt["status"] for attempt in stage.attempts(workflow_id)] == ["FAILED_WITH_TERMINAL_ERROR"]


@pytest.mark.parametrize(
    ("definition", "delays"),
    [
        ({"retryLogic": "FIXED", "retryDelaySeconds": 2}, [2, 2, 2]),
        ({"retryLogic": "LINEAR_BACKOFF", "retryDelaySeconds": 1, "backoffScaleFactor": 2}, [2, 4, 6]),
        ({"retryLogic": "EXPONENTIAL_BACKOFF", "retryDelaySeconds": 1, "backoffScaleFactor": 5}, [1, 2, 4]),
        ({"retryLogic": "EXPONENTIAL_BACKOFF", "retryDelaySeconds": 2, "maxRetryDelaySeconds": 3}, [2, 3, 3]),
        ({"retryLogic": "LINEAR_BACKOFF", "retryDelaySeconds": 2, "maxRetryDelaySeconds": 3}, [2, 3, 3]),
    ],
    ids=["fixed", "linear", "exponential", "exponential-capped", "linear-capped"],
)
def test_delay_of_each_retry(stage: Stage, definition: dict[str, Any], delays: list[int]) -> None:
    name, workflow_id = stage.run_simple(retryCount=3, **definition)
    # The attempts fail without being polled, so the delays are read instead of waited for.
    for expected in delays:
        stage.fail(stage.attempts(workflow_id)[-1])
        retry = stage.attempts(workflow_id)[-1]
        assert (retry["callbackAfterSeconds"], retry["startDelayInSeconds"]) == (expected, expected)
        assert stage.poll(name) == []


def test_retry_is_hidden_until_its_delay_is_over(stage: Stage) -> None:
    name, workflow_id = stage.run_simple(retryCount=1, retryDelaySeconds=2)
    stage.fail(stage.take(name))
    assert stage.poll(name, timeout=1000) == []
    assert stage.take(name)["retryCount"] == 1
    assert stage.workflow(workflow_id)["status"] == "RUNNING"


def test_retry_without_delay_is_pollable_at_once(stage: Stage) -> None:
    name, _ = stage.run_simple(retryCount=1, retryDelaySeconds=0)
    stage.fail(stage.take(name))
    assert len(stage.poll(name)) == 1


def test_retry_count_in_the_workflow_beats_the_definition(stage: Stage) -> None:
    name = stage.define_task(retryCount=5)
    workflow_id = stage.run(simple(name, retryCount=0))
    stage.fail(stage.take(name))
    assert stage.workflow(workflow_id)["status"] == "FAILED"


def test_input_of_a_retry_is_evaluated_anew(stage: Stage) -> None:
    name = stage.define_task(retryCount=1)
    stage.run(simple(name, inputParameters={"page": "${a.output.page}", "was": "${a.status}"}))
    task = stage.take(name)
    stage.update(task, "FAILED", outputData={"page": 3})
    assert stage.take(name)["inputData"] == {"page": 3, "was": "FAILED"}


def test_retry_stays_in_its_domain(stage: Stage) -> None:
    name = stage.define_task(retryCount=1)
    stage.start(stage.define_workflow(simple(name)), taskToDomain={name: "d"})
    stage.fail(stage.take(name, domain="d"))
    assert stage.take(name, domain="d")["retryCount"] == 1


def test_failure_cancels_the_other_open_tasks(stage: Stage) -> None:
    one, other = stage.define_task(), stage.define_task()
    fork = {"name": "fork", "taskReferenceName": "fork", "type": "FORK_JOIN"}
    join = {"name": "join", "taskReferenceName": "join", "type": "JOIN", "joinOn": ["a", "b"]}
    workflow_id = stage.run(fork | {"forkTasks": [[simple(one, "a")], [simple(other, "b")]]}, join)
    stage.fail(stage.take(one))
    assert stage.workflow(workflow_id)["status"] == "FAILED"
    (canceled,) = stage.attempts(workflow_id, "b")
    assert canceled["status"] == "CANCELED"
    assert stage.poll(other) == []


def test_optional_failure_lets_the_workflow_go_on(stage: Stage) -> None:
    first, second = stage.define_task(), stage.define_task()
    parameters = {"status": "${a.status}", "half": "${a.output.half}"}
    workflow_id = stage.run(simple(first, "a", optional=True), simple(second, "b", inputParameters=parameters))
    stage.update(stage.take(first), "FAILED", outputData={"half": 1}, reasonForIncompletion="broken")
    (task,) = stage.attempts(workflow_id)
    assert (task["status"], task["reasonForIncompletion"]) == ("COMPLETED_WITH_ERRORS", "broken")
    following = stage.take(second)
    assert following["inputData"] == {"status": "COMPLETED_WITH_ERRORS", "half": 1}
    stage.complete(following)
    assert stage.workflow(workflow_id)["status"] == "COMPLETED"


def test_optional_task_is_retried_first(stage: Stage) -> None:
    name, after = stage.define_task(retryCount=1), stage.define_task()
    workflow_id = stage.run(simple(name, "a", optional=True), simple(after, "b"))
    stage.fail(stage.take(name))
    assert stage.poll(after) == []
    stage.fail(stage.take(name))
    assert [task["status"] for task in stage.attempts(workflow_id)] == ["FAILED", "COMPLETED_WITH_ERRORS"]
    assert len(stage.poll(after)) == 1


@pytest.mark.parametrize("status", ["FAILED_WITH_TERMINAL_ERROR", "CANCELED"])
def test_optional_holds_for_what_is_never_retried(stage: Stage, status: str) -> None:
    name, after = stage.define_task(retryCount=1), stage.define_task()
    workflow_id = stage.run(simple(name, "a", optional=True), simple(after, "b"))
    stage.update(stage.take(name), status)
    assert [task["status"] for task in stage.attempts(workflow_id)] == ["COMPLETED_WITH_ERRORS"]
    assert len(stage.poll(after)) == 1


def test_optional_failure_of_the_last_task_completes_the_workflow(stage: Stage) -> None:
    name = stage.define_task()
    workflow_id = stage.run(simple(name, optional=True))
    stage.update(stage.take(name), "FAILED", outputData={"half": 1})
    workflow = stage.workflow(workflow_id)
    assert (workflow["status"], workflow["output"]) == ("COMPLETED", {"half": 1})


@differs("optional-at-the-end")
def test_optional_failure_of_the_last_task_is_completed_with_errors(stage: Stage) -> None:
    name = stage.define_task()
    workflow_id = stage.run(simple(name, optional=True))
    stage.fail(stage.take(name))
    assert [task["status"] for task in stage.attempts(workflow_id)] == ["COMPLETED_WITH_ERRORS"]


def test_permissive_failure_fails_the_workflow_at_its_end(stage: Stage) -> None:
    first, second = stage.define_task(), stage.define_task()
    workflow_id = stage.run(simple(first, "a", permissive=True), simple(second, "b"))
    stage.fail(stage.take(first), "why")
    assert stage.workflow(workflow_id)["status"] == "RUNNING"
    stage.complete(stage.take(second))
    workflow = stage.workflow(workflow_id)
    assert workflow["status"] == "FAILED"
    assert "why" in workflow["reasonForIncompletion"]
    assert [task["status"] for task in workflow["tasks"]] == ["FAILED", "COMPLETED"]


def test_failure_workflow_is_started_with_what_failed(stage: Stage) -> None:
    name, repair = stage.define_task(), stage.define_task()
    inputs = {
        key: f"${{workflow.input.{key}}}" for key in ("n", "workflowId", "reason", "failureStatus", "failureTaskId")
    }
    failure_workflow = stage.define_workflow(simple(repair, inputParameters=inputs))
    workflow_id = stage.run(simple(name), data={"n": 1}, failureWorkflow=failure_workflow)
    failed = stage.take(name)
    stage.fail(failed, "why")
    task = stage.take(repair)
    assert task["inputData"] == {
        "n": 1,
        "workflowId": workflow_id,
        "reason": f"Task {failed['taskId']} failed with status: FAILED and reason: 'why'",
        "failureStatus": "FAILED",
        "failureTaskId": failed["taskId"],
    }
    assert stage.workflow(workflow_id)["output"]["conductor.failure_workflow"] == task["workflowInstanceId"]


@pytest.mark.parametrize(("policy", "status"), [("TIME_OUT_WF", "TIMED_OUT"), ("RETRY", "RUNNING")])
def test_task_timeout_follows_its_policy(stage: Stage, policy: str, status: str) -> None:
    name, workflow_id = stage.run_simple(
        timeoutSeconds=1, responseTimeoutSeconds=1, timeoutPolicy=policy, retryCount=1, retryDelaySeconds=30
    )
    task = stage.take(name)
    stage.until_after(task["startTime"], 1.2)
    stage.decide(workflow_id)
    assert stage.workflow(workflow_id)["status"] == status
    assert stage.attempts(workflow_id)[0]["status"] == "TIMED_OUT"


def test_total_timeout_leaves_no_retries(stage: Stage) -> None:
    name, workflow_id = stage.run_simple(totalTimeoutSeconds=1, retryCount=5)
    task = stage.take(name)
    stage.until_after(task["startTime"], 1.2)
    stage.decide(workflow_id)
    workflow = stage.workflow(workflow_id)
    assert workflow["status"] == "TIMED_OUT"
    assert "exceeded total timeout of 1 seconds" in workflow["reasonForIncompletion"]
    assert [task["status"] for task in workflow["tasks"]] == ["TIMED_OUT"]


def test_workflow_timeout_cancels_the_open_tasks(stage: Stage) -> None:
    workflow_id = stage.run(simple(stage.define_task()), timeoutSeconds=1, timeoutPolicy="TIME_OUT_WF")
    stage.until_after(stage.workflow(workflow_id)["startTime"], 1.2)
    stage.decide(workflow_id)
    workflow = stage.workflow(workflow_id)
    assert workflow["status"] == "TIMED_OUT"
    assert workflow["reasonForIncompletion"].startswith("Workflow timed out after 1 seconds.")
    assert [task["status"] for task in workflow["tasks"]] == ["CANCELED"]


@differs("late-timeouts")
def test_second_timeout_is_noticed_in_time(stage: Stage) -> None:
    name, workflow_id = stage.run_simple(responseTimeoutSeconds=1, retryCount=1)
    stage.take(name)
    stage.take(name)
    ended = stage.until(lambda: stage.workflow(workflow_id), lambda workflow: workflow["status"] != "RUNNING", 5)
    assert ended["status"] == "TIMED_OUT"


@differs("fork-retry-race")
def test_failed_branch_with_retries_does_not_fail_the_join(stage: Stage) -> None:
    name = stage.define_task(retryCount=5)
    fork = {"name": "fork", "taskReferenceName": "fork", "type": "FORK_JOIN"}
    join = {"name": "join", "taskReferenceName": "join", "type": "JOIN", "joinOn": ["a", "b"]}
    workflow_id = stage.run(fork | {"forkTasks": [[simple(name, "a")], [simple(name, "b")]]}, join)
    for _ in range(5):
        for task in [stage.take(name), stage.take(name)]:
            stage.fail(task)
    for _ in "ab":
        stage.complete(stage.take(name))
    assert stage.ended(workflow_id)["status"] == "COMPLETED"
