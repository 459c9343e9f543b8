"""Terminate, pause, resume, retry, restart, remove; search; queues."""

import pytest

from conformance.stage import Stage, expect, simple, unique


def test_terminate_cancels_the_open_task(stage: Stage) -> None:
    name, workflow_id = stage.run_simple()
    task = stage.take(name)
    answer = stage.delete(f"/workflow/{workflow_id}", reason="no longer wanted")
    assert (answer.status, answer.body) == (200, b"")
    workflow = stage.workflow(workflow_id)
    assert (workflow["status"], workflow["reasonForIncompletion"]) == ("TERMINATED", "no longer wanted")
    stored = stage.task(task["taskId"])
    assert stored["status"] == "CANCELED"
    assert stored["endTime"] > 0
    assert "reasonForIncompletion" not in stored


def test_terminate_takes_a_waiting_task_out_of_its_queue(stage: Stage) -> None:
    name, workflow_id = stage.run_simple()
    expect(stage.delete(f"/workflow/{workflow_id}"))
    assert stage.poll(name) == []


def test_late_result_after_terminate_is_ignored(stage: Stage) -> None:
    name, workflow_id = stage.run_simple()
    task = stage.take(name)
    expect(stage.delete(f"/workflow/{workflow_id}"))
    answer = stage.report(task, "COMPLETED", outputData={"x": 1})
    assert (answer.status, answer.text) == (200, task["taskId"])
    assert stage.task(task["taskId"])["status"] == "CANCELED"
    assert stage.workflow(workflow_id)["status"] == "TERMINATED"


def test_extend_lease_after_terminate_is_200(stage: Stage) -> None:
    name, workflow_id = stage.run_simple()
    task = stage.take(name)
    expect(stage.delete(f"/workflow/{workflow_id}"))
    assert stage.report(task, None, extendLease=True).status == 200


def test_terminate_again_is_200(stage: Stage) -> None:
    _, workflow_id = stage.run_simple()
    for _ in range(2):
        assert stage.delete(f"/workflow/{workflow_id}").status == 200


def test_terminate_of_a_completed_workflow_is_409(stage: Stage) -> None:
    name, workflow_id = stage.run_simple()
    stage.complete(stage.take(name))
    assert stage.delete(f"/workflow/{workflow_id}").status == 409


def test_terminate_of_an_unknown_workflow_is_404(stage: Stage) -> None:
    assert stage.delete(f"/workflow/{unique('id')}").status == 404


def test_terminate_does_not_start_the_failure_workflow(stage: Stage) -> None:
    name, repair = stage.define_task(), stage.define_task()
    failure_workflow = stage.define_workflow(simple(repair))
    workflow_id = stage.run(simple(name), failureWorkflow=failure_workflow)
    expect(stage.delete(f"/workflow/{workflow_id}"))
    assert stage.poll(repair, timeout=300) == []


def test_pause_stops_scheduling_but_not_hand_out(stage: Stage) -> None:
    name, after = stage.define_task(), stage.define_task()
    workflow_id = stage.run(simple(name, "a"), simple(after, "b"))
    expect(stage.put(f"/workflow/{workflow_id}/pause"))
    assert stage.workflow(workflow_id)["status"] == "PAUSED"
    stage.complete(stage.take(name), x=1)
    assert stage.poll(after, timeout=300) == []
    expect(stage.put(f"/workflow/{workflow_id}/resume"))
    assert stage.workflow(workflow_id)["status"] == "RUNNING"
    stage.complete(stage.take(after))
    assert stage.workflow(workflow_id)["status"] == "COMPLETED"


def test_pause_of_an_ended_workflow_is_409(stage: Stage) -> None:
    name, workflow_id = stage.run_simple()
    stage.complete(stage.take(name))
    assert stage.put(f"/workflow/{workflow_id}/pause").status == 409


def test_resume_of_a_workflow_that_is_not_paused_is_500(stage: Stage) -> None:
    _, workflow_id = stage.run_simple()
    assert stage.put(f"/workflow/{workflow_id}/resume").status == 500


@pytest.mark.parametrize("path", ["pause", "resume"])
def test_pause_and_resume_of_an_unknown_workflow_are_404(stage: Stage, path: str) -> None:
    assert stage.put(f"/workflow/{unique('id')}/{path}").status == 404


def test_retry_of_a_failed_workflow_adds_an_attempt(stage: Stage) -> None:
    name, workflow_id = stage.run_simple()
    failed = stage.take(name)
    stage.fail(failed)
    answer = stage.post(f"/workflow/{workflow_id}/retry")
    assert (answer.status, answer.body) == (204, b"")
    assert stage.workflow(workflow_id)["status"] == "RUNNING"
    again = stage.take(name)
    assert (again["retryCount"], again["retriedTaskId"]) == (1, failed["taskId"])
    stage.complete(again)
    assert stage.workflow(workflow_id)["status"] == "COMPLETED"


def test_retry_of_a_terminated_workflow_replaces_the_canceled_task(stage: Stage) -> None:
    name, workflow_id = stage.run_simple()
    old = stage.take(name)
    expect(stage.delete(f"/workflow/{workflow_id}"))
    expect(stage.post(f"/workflow/{workflow_id}/retry"), 204)
    again = stage.take(name)
    assert again["retryCount"] == 1
    stage.complete(old, late=True)
    assert stage.task(old["taskId"])["status"] == "CANCELED"
    assert stage.workflow(workflow_id)["status"] == "RUNNING"
    stage.complete(again, x=1)
    assert stage.workflow(workflow_id)["output"] == {"x": 1}


def test_retry_of_a_running_workflow_is_404(stage: Stage) -> None:
    _, workflow_id = stage.run_simple()
    answer = stage.post(f"/workflow/{workflow_id}/retry")
    assert answer.status == 404
    assert answer.message.startswith("Workflow is still running")


def test_retry_of_a_completed_workflow_is_409(stage: Stage) -> None:
    name, workflow_id = stage.run_simple()
    stage.complete(stage.take(name))
    assert stage.post(f"/workflow/{workflow_id}/retry").status == 409


def test_restart_begins_anew_under_the_same_id(stage: Stage) -> None:
    name, workflow_id = stage.run_simple(data={"n": 1})
    old = stage.take(name)
    stage.complete(old, x=1)
    answer = stage.post(f"/workflow/{workflow_id}/restart")
    assert (answer.status, answer.body) == (204, b"")
    workflow = stage.workflow(workflow_id)
    assert (workflow["status"], workflow["input"]) == ("RUNNING", {"n": 1})
    (task,) = workflow["tasks"]
    assert (task["status"], task["retryCount"]) == ("SCHEDULED", 0)
    assert stage.get(f"/tasks/{old['taskId']}").status == 404
    assert stage.report(old, "COMPLETED").status == 404
    stage.complete(stage.take(name))
    assert stage.workflow(workflow_id)["status"] == "COMPLETED"


def test_restart_of_a_running_workflow_is_409(stage: Stage) -> None:
    _, workflow_id = stage.run_simple()
    assert stage.post(f"/workflow/{workflow_id}/restart").status == 409


@pytest.mark.parametrize("path", ["retry", "restart"])
def test_retry_and_restart_of_an_unknown_workflow_are_404(stage: Stage, path: str) -> None:
    assert stage.post(f"/workflow/{unique('id')}/{path}").status == 404


@pytest.mark.parametrize("archive", ["true", "false"])
def test_removed_workflow_is_gone(stage: Stage, archive: str) -> None:
    name, workflow_id = stage.run_simple()
    task = stage.take(name)
    stage.complete(task)
    answer = stage.delete(f"/workflow/{workflow_id}/remove", archiveWorkflow=archive)
    assert (answer.status, answer.body) == (200, b"")
    assert stage.get(f"/workflow/{workflow_id}").status == 404
    assert stage.get(f"/tasks/{task['taskId']}").status == 404
    assert stage.report(task, "COMPLETED").status == 404
    assert stage.report(task, None, extendLease=True).status == 404


def test_running_workflow_is_not_archived(stage: Stage) -> None:
    _, workflow_id = stage.run_simple()
    answer = stage.delete(f"/workflow/{workflow_id}/remove")
    assert (answer.status, answer.message) == (400, f"Cannot archive workflow: {workflow_id} with status: RUNNING")
    assert stage.workflow(workflow_id)["status"] == "RUNNING"


def test_running_workflow_is_removed_without_archive(stage: Stage) -> None:
    name, workflow_id = stage.run_simple()
    assert stage.delete(f"/workflow/{workflow_id}/remove", archiveWorkflow="false").status == 200
    assert stage.get(f"/workflow/{workflow_id}").status == 404
    assert stage.poll(name) == []


def test_remove_of_an_unknown_workflow_is_404(stage: Stage) -> None:
    assert stage.delete(f"/workflow/{unique('id')}/remove").status == 404


def test_decide_of_an_unknown_workflow_is_404(stage: Stage) -> None:
    assert stage.put(f"/workflow/decide/{unique('id')}").status == 404


def test_search_by_type_and_status(stage: Stage) -> None:
    name = stage.define_task()
    workflow = stage.define_workflow(simple(name))
    done, open_ = stage.start(workflow, {"i": 2}, correlationId="c1"), stage.start(workflow)
    stage.complete(stage.take(name))
    both = stage.get("/workflow/search", query=f"workflowType={workflow}", size=10).json
    assert both["totalHits"] == 2
    assert {row["workflowId"] for row in both["results"]} == {done, open_}
    found = stage.get("/workflow/search", query=f"workflowType={workflow} AND status IN (COMPLETED)").json
    (row,) = found["results"]
    expected = {
        "workflowId": done,
        "workflowType": workflow,
        "status": "COMPLETED",
        "correlationId": "c1",
        "version": 1,
    }
    assert {key: row[key] for key in expected} == expected
    assert row["startTime"].endswith("Z")


def test_search_accepts_quoted_values(stage: Stage) -> None:
    workflow = stage.define_workflow(simple("some_task"))
    workflow_id = stage.start(workflow)
    found = stage.get("/workflow/search", query=f"workflowType='{workflow}' AND status='RUNNING'").json
    assert [row["workflowId"] for row in found["results"]] == [workflow_id]


def test_search_pages(stage: Stage) -> None:
    workflow = stage.define_workflow(simple("some_task"))
    started = {stage.start(workflow) for _ in range(3)}
    pages = [
        stage.get("/workflow/search", query=f"workflowType={workflow}", start=start, size=2).json for start in (0, 2)
    ]
    assert [page["totalHits"] for page in pages] == [3, 3]
    assert [len(page["results"]) for page in pages] == [2, 1]
    assert {row["workflowId"] for page in pages for row in page["results"]} == started


def test_search_by_correlation_id(stage: Stage) -> None:
    correlation = unique("corr")
    workflow_id = stage.start(stage.define_workflow(simple("some_task")), correlationId=correlation)
    found = stage.get("/workflow/search", query=f"correlationId={correlation}").json
    assert [row["workflowId"] for row in found["results"]] == [workflow_id]


def test_running_workflows_of_a_name(stage: Stage) -> None:
    name = stage.define_task()
    workflow = stage.define_workflow(simple(name))
    stage.start(workflow)
    open_ = stage.start(workflow)
    stage.complete(stage.take(name))
    assert stage.get(f"/workflow/running/{workflow}").json == [open_]


def test_queue_size_counts_waiting_tasks(stage: Stage) -> None:
    name = stage.define_task()
    workflow = stage.define_workflow(simple(name))
    for _ in range(3):
        stage.start(workflow)
    assert stage.get("/tasks/queue/size", taskType=name).json == 3
    task = stage.take(name)
    assert stage.get("/tasks/queue/size", taskType=name).json == 2
    stage.update(task, "IN_PROGRESS", callbackAfterSeconds=30)
    assert stage.get("/tasks/queue/size", taskType=name).json == 3


def test_queue_size_of_a_domain(stage: Stage) -> None:
    name = stage.define_task()
    stage.start(stage.define_workflow(simple(name)), taskToDomain={name: "d"})
    assert stage.get("/tasks/queue/size", taskType=name, domain="d").json == 1
    assert stage.get("/tasks/queue/size", taskType=name).json == 0


def test_queue_sizes_of_several_types(stage: Stage) -> None:
    one, _ = stage.run_simple()
    other = stage.define_task()
    sizes = stage.get("/tasks/queue/sizes", taskType=[one, other])
    assert (sizes.status, sizes.json) == (200, {one: 1, other: 0})


def test_all_queues_hold_the_type(stage: Stage) -> None:
    name, _ = stage.run_simple()
    assert stage.get("/tasks/queue/all").json[name] == 1


def test_poll_data_names_the_last_poller_of_each_domain(stage: Stage) -> None:
    name = stage.define_task()
    stage.poll(name, workerid="w1")
    stage.poll(name, workerid="w2")
    stage.poll(name, workerid="w3", domain="d")
    data = stage.get("/tasks/queue/polldata", taskType=name).json
    rows = sorted((row["queueName"], row.get("domain") or "", row["workerId"]) for row in data)
    assert [row[2] for row in rows] == ["w2", "w3"]
    assert all(row["lastPollTime"] > 0 for row in data)
