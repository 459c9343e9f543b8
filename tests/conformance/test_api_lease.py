"""Execution logs, lease extension, response timeouts."""

import time

from conformance.stage import Stage, expect, unique


def test_logs_of_an_update_are_stored_sorted_by_time(stage: Stage) -> None:
    name, _ = stage.run_simple()
    task = stage.take(name)
    lines = [{"log": "second", "createdTime": 2000}, {"log": "first", "createdTime": 1000}]
    stage.update(task, "COMPLETED", logs=lines)
    logs = expect(stage.get(f"/tasks/{task['taskId']}/log")).json
    assert [(line["log"], line["createdTime"], line["taskId"]) for line in logs] == [
        ("first", 1000, task["taskId"]),
        ("second", 2000, task["taskId"]),
    ]


def test_ten_log_lines_of_an_update_are_kept(stage: Stage) -> None:
    name, _ = stage.run_simple()
    task = stage.take(name)
    stage.update(task, "COMPLETED", logs=[{"log": f"{n:02}", "createdTime": 1000 + n} for n in range(25)])
    logs = stage.get(f"/tasks/{task['taskId']}/log").json
    assert [line["log"] for line in logs] == [f"{n:02}" for n in range(10)]


def test_logs_of_an_ignored_update_are_dropped(stage: Stage) -> None:
    name, _ = stage.run_simple()
    task = stage.take(name)
    stage.complete(task)
    stage.update(task, "COMPLETED", logs=[{"log": "late", "createdTime": 1}])
    assert stage.get(f"/tasks/{task['taskId']}/log").status == 204


def test_no_logs_is_204(stage: Stage) -> None:
    assert stage.get(f"/tasks/{unique('id')}/log").status == 204


def test_log_line_is_raw_text_with_the_servers_time(stage: Stage) -> None:
    name, _ = stage.run_simple()
    task_id = stage.take(name)["taskId"]
    answer = stage.call("POST", f"/tasks/{task_id}/log", b"a line", content_type="text/plain")
    assert (answer.status, answer.body) == (200, b"")
    expect(stage.post(f"/tasks/{task_id}/log", b'"quoted"'))
    lines = stage.get(f"/tasks/{task_id}/log").json
    assert sorted(line["log"] for line in lines) == ['"quoted"', "a line"]
    assert all(abs(line["createdTime"] - time.time() * 1000) < 10_000 for line in lines)


def test_log_line_of_an_unknown_task_is_accepted(stage: Stage) -> None:
    task_id = unique("id")
    assert stage.call("POST", f"/tasks/{task_id}/log", b"hello", content_type="text/plain").status == 200
    assert [line["log"] for line in stage.get(f"/tasks/{task_id}/log").json] == ["hello"]


def test_log_line_without_text_is_500(stage: Stage) -> None:
    assert stage.post(f"/tasks/{unique('id')}/log").status == 500


def test_extend_lease_only_moves_the_update_time(stage: Stage) -> None:
    name, _ = stage.run_simple()
    task = stage.take(name, workerid="w1")
    stage.until_after(task["updateTime"], 0.002)
    answer = stage.report(
        task,
        "COMPLETED",
        extendLease=True,
        outputData={"x": 1},
        reasonForIncompletion="why",
        workerId="w2",
        logs=[{"log": "line", "createdTime": 1}],
    )
    assert (answer.status, answer.text) == (200, task["taskId"])
    stored = stage.task(task["taskId"])
    assert (stored["status"], stored["outputData"], stored["workerId"]) == ("IN_PROGRESS", {}, "w1")
    assert "reasonForIncompletion" not in stored
    assert stored["updateTime"] > task["updateTime"]
    assert stage.get(f"/tasks/{task['taskId']}/log").status == 204


def test_extend_lease_needs_no_status(stage: Stage) -> None:
    name, _ = stage.run_simple()
    task = stage.take(name)
    stage.until_after(task["updateTime"], 0.002)
    assert stage.report(task, None, extendLease=True).status == 200
    assert stage.task(task["taskId"])["updateTime"] > task["updateTime"]


def test_extend_lease_of_a_finished_task_is_200(stage: Stage) -> None:
    name, _ = stage.run_simple()
    task = stage.take(name)
    stage.complete(task)
    assert stage.report(task, None, extendLease=True).status == 200


def test_extend_lease_of_an_unknown_task_is_404(stage: Stage) -> None:
    body = {"workflowInstanceId": unique("id"), "taskId": unique("id"), "extendLease": True}
    assert stage.post("/tasks", body).status == 404


def test_extend_lease_without_workflow_id_is_400(stage: Stage) -> None:
    assert stage.post("/tasks", {"taskId": unique("id"), "extendLease": True}).status == 400


def test_silent_task_times_out_and_is_retried(stage: Stage) -> None:
    name, workflow_id = stage.run_simple(responseTimeoutSeconds=1, retryCount=1)
    lost = stage.take(name)
    stage.until_after(lost["updateTime"], 1.1)
    stage.decide(workflow_id)
    first, second = stage.attempts(workflow_id)
    assert (first["status"], second["status"]) == ("TIMED_OUT", "SCHEDULED")
    assert first["reasonForIncompletion"].startswith(f"responseTimeout: 1 exceeded for the taskId: {lost['taskId']}")
    assert second["retriedTaskId"] == lost["taskId"]
    assert stage.report(lost, "COMPLETED").status == 200
    stage.complete(stage.take(name))
    assert stage.workflow(workflow_id)["status"] == "COMPLETED"


def test_timeout_without_retries_ends_the_workflow_as_timed_out(stage: Stage) -> None:
    name, workflow_id = stage.run_simple(responseTimeoutSeconds=1)
    lost = stage.take(name)
    stage.until_after(lost["updateTime"], 1.1)
    stage.decide(workflow_id)
    assert stage.workflow(workflow_id)["status"] == "TIMED_OUT"


def test_extended_lease_keeps_a_task_alive(stage: Stage) -> None:
    name, workflow_id = stage.run_simple(responseTimeoutSeconds=2)
    task = stage.take(name)
    for age in (1, 2, 3):
        stage.until_after(task["startTime"], age)
        expect(stage.report(task, None, extendLease=True))
        stage.decide(workflow_id)
    stage.complete(task)
    assert stage.workflow(workflow_id)["status"] == "COMPLETED"


def test_waiting_task_has_no_response_timeout(stage: Stage) -> None:
    name, workflow_id = stage.run_simple(responseTimeoutSeconds=1)
    task = stage.take(name)
    stage.update(task, "IN_PROGRESS", callbackAfterSeconds=30)
    stage.until_after(task["updateTime"], 1.5)
    stage.decide(workflow_id)
    assert stage.task(task["taskId"])["status"] == "SCHEDULED"


def test_poll_timeout_ends_a_task_nobody_polls(stage: Stage) -> None:
    name, workflow_id = stage.run_simple(pollTimeoutSeconds=1)
    (task,) = stage.attempts(workflow_id)
    stage.until_after(task["scheduledTime"], 1.5)
    stage.decide(workflow_id)
    assert stage.workflow(workflow_id)["status"] == "TIMED_OUT"
    assert stage.poll(name) == []
