"""Terminate, pause, resume, retry, restart, rerun, skip, remove: one by one and in bulk."""

import pytest

from conformance.known_differences import differs
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


def test_terminate_again_is_200_and_keeps_the_first_reason(stage: Stage) -> None:
    _, workflow_id = stage.run_simple()
    for reason in ("first", "second"):
        assert stage.delete(f"/workflow/{workflow_id}", reason=reason).status == 200
    assert stage.workflow(workflow_id)["reasonForIncompletion"] == "first"


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


@pytest.mark.parametrize("status", ["FAILED", "FAILED_WITH_TERMINAL_ERROR", "CANCELED"])
def test_retry_keeps_the_output_and_drops_the_reason(stage: Stage, status: str) -> None:
    name, workflow_id = stage.run_simple()
    stage.update(stage.take(name), status, reasonForIncompletion="why", outputData={"half": 1})
    expect(stage.post(f"/workflow/{workflow_id}/retry"), 204)
    workflow = stage.workflow(workflow_id)
    assert (workflow["status"], workflow["output"]) == ("RUNNING", {"half": 1})
    again = stage.take(name)
    for carrier in (workflow, again):
        assert "reasonForIncompletion" not in carrier
    stage.complete(again)
    assert stage.workflow(workflow_id)["output"] == {}


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


@differs("restart-keeps-failed-names")
def test_restart_forgets_what_failed(stage: Stage) -> None:
    name, workflow_id = stage.run_simple()
    stage.fail(stage.take(name))
    expect(stage.post(f"/workflow/{workflow_id}/restart"), 204)
    workflow = stage.workflow(workflow_id)
    assert (workflow["failedReferenceTaskNames"], workflow["failedTaskNames"]) == ([], [])


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


def test_rerun_from_a_task_keeps_what_was_before_it(stage: Stage) -> None:
    name = stage.define_task()
    workflow_id = stage.run(simple(name, "a"), simple(name, "b"))
    stage.complete(stage.take(name), x=1)
    failed = stage.take(name)
    stage.fail(failed)
    body = {"reRunFromTaskId": failed["taskId"], "taskInput": {"again": True}}
    answer = stage.post(f"/workflow/{workflow_id}/rerun", body)
    assert (answer.status, answer.text) == (200, workflow_id)
    again = stage.take(name)
    assert (again["taskId"], again["inputData"]) == (failed["taskId"], {"again": True})
    stage.complete(again, y=2)
    workflow = stage.workflow(workflow_id)
    assert (workflow["status"], workflow["output"]) == ("COMPLETED", {"y": 2})
    assert [task["referenceTaskName"] for task in workflow["tasks"]] == ["a", "b"]


def test_rerun_without_a_task_begins_anew(stage: Stage) -> None:
    name, workflow_id = stage.run_simple()
    stage.fail(stage.take(name))
    expect(stage.post(f"/workflow/{workflow_id}/rerun", {}))
    (task,) = stage.attempts(workflow_id)
    assert (task["status"], task["retryCount"]) == ("SCHEDULED", 0)


def test_rerun_of_a_running_workflow_is_409(stage: Stage) -> None:
    _, workflow_id = stage.run_simple()
    assert stage.post(f"/workflow/{workflow_id}/rerun", {}).status == 409


def test_rerun_from_an_unknown_task_is_400(stage: Stage) -> None:
    name, workflow_id = stage.run_simple()
    stage.fail(stage.take(name))
    assert stage.post(f"/workflow/{workflow_id}/rerun", {"reRunFromTaskId": unique("id")}).status == 400


def test_skipped_task_does_not_run(stage: Stage) -> None:
    name = stage.define_task()
    workflow_id = stage.run(simple(name, "a"), simple(name, "b"))
    answer = stage.put(f"/workflow/{workflow_id}/skiptask/b")
    assert (answer.status, answer.body) == (200, b"")
    stage.complete(stage.take(name))
    workflow = stage.workflow(workflow_id)
    assert workflow["status"] == "COMPLETED"
    statuses = {task["referenceTaskName"]: task["status"] for task in workflow["tasks"]}
    assert statuses == {"a": "COMPLETED", "b": "SKIPPED"}


BULK = [
    ("PUT", "pause", "PAUSED"),
    ("POST", "terminate", "TERMINATED"),
]


@pytest.mark.parametrize(("method", "action", "status"), BULK, ids=[action for _, action, _ in BULK])
def test_bulk_answers_per_workflow(stage: Stage, method: str, action: str, status: str) -> None:
    workflow = stage.define_workflow(simple("some_task"))
    ids, unknown = [stage.start(workflow) for _ in range(2)], unique("id")
    answer = stage.call(method, f"/workflow/bulk/{action}", [*ids, unknown])
    assert answer.status == 200
    assert answer.json["bulkErrorResults"] == {unknown: f"No such workflow found by id: {unknown}"}
    assert sorted(answer.json["bulkSuccessfulResults"]) == sorted(ids)
    assert [stage.workflow(workflow_id)["status"] for workflow_id in ids] == [status, status]


def test_bulk_resume_retry_and_restart(stage: Stage) -> None:
    name, workflow_id = stage.run_simple()
    expect(stage.put(f"/workflow/{workflow_id}/pause"))
    assert expect(stage.put("/workflow/bulk/resume", [workflow_id])).json["bulkSuccessfulResults"] == [workflow_id]
    stage.fail(stage.take(name))
    assert expect(stage.post("/workflow/bulk/retry", [workflow_id])).json["bulkSuccessfulResults"] == [workflow_id]
    stage.complete(stage.take(name))
    assert expect(stage.post("/workflow/bulk/restart", [workflow_id])).json["bulkSuccessfulResults"] == [workflow_id]
    assert stage.workflow(workflow_id)["status"] == "RUNNING"


def test_bulk_remove(stage: Stage) -> None:
    name, workflow_id = stage.run_simple()
    stage.complete(stage.take(name))
    answer = expect(stage.call("DELETE", "/workflow/bulk/remove", [workflow_id]))
    assert answer.json["bulkSuccessfulResults"] == [workflow_id]
    assert stage.get(f"/workflow/{workflow_id}").status == 404


def test_bulk_without_ids_is_400(stage: Stage) -> None:
    assert stage.put("/workflow/bulk/pause", []).status == 400


def test_terminate_and_remove_in_one_call(stage: Stage) -> None:
    name, workflow_id = stage.run_simple()
    assert stage.delete(f"/workflow/{workflow_id}/terminate-remove").status == 200
    assert stage.get(f"/workflow/{workflow_id}").status == 404
    assert stage.poll(name) == []
