"""Task updates through POST /tasks and by reference name."""

import pytest

from conformance.stage import Stage, expect, simple, unique


def test_update_echoes_the_task_id_as_plain_text(stage: Stage) -> None:
    name, _ = stage.run_simple()
    task = stage.take(name)
    answer = stage.report(task, "COMPLETED")
    assert (answer.status, answer.text) == (200, task["taskId"])
    assert answer.content_type is not None
    assert answer.content_type.startswith("text/plain")


def test_completed_task_has_its_output_and_end_time(stage: Stage) -> None:
    name, _ = stage.run_simple()
    task = stage.take(name, workerid="w1")
    stage.update(task, "COMPLETED", outputData={"x": [1, None, {"y": "z"}]}, workerId="w1")
    stored = stage.task(task["taskId"])
    assert (stored["status"], stored["outputData"]) == ("COMPLETED", {"x": [1, None, {"y": "z"}]})
    assert stored["workerId"] == "w1"
    assert stored["endTime"] >= stored["startTime"]


def test_missing_status_is_500_and_changes_nothing(stage: Stage) -> None:
    name, _ = stage.run_simple()
    task = stage.take(name)
    assert stage.report(task, None, outputData={"x": 1}).status == 500
    stored = stage.task(task["taskId"])
    assert (stored["status"], stored["outputData"]) == ("IN_PROGRESS", {})


@pytest.mark.parametrize("missing", ["taskId", "workflowInstanceId"])
def test_missing_id_is_400_with_its_path(stage: Stage, missing: str) -> None:
    ids = {"taskId": "x", "workflowInstanceId": "y"}
    del ids[missing]
    answer = stage.post("/tasks", ids | {"status": "COMPLETED"})
    assert answer.status == 400
    assert [error["path"] for error in answer.json["validationErrors"]] == [f"updateTask.arg0.{missing}"]


@pytest.mark.parametrize("status", ["DONE", "TIMED_OUT", "SCHEDULED"])
def test_status_that_no_worker_may_report_is_500(stage: Stage, status: str) -> None:
    name, _ = stage.run_simple()
    task = stage.take(name)
    assert stage.report(task, status).status == 500
    assert stage.task(task["taskId"])["status"] == "IN_PROGRESS"


def test_output_that_is_no_object_is_500(stage: Stage) -> None:
    name, _ = stage.run_simple()
    task = stage.take(name)
    answer = stage.report(task, "COMPLETED", outputData=[1])
    assert answer.status == 500
    assert answer.message.startswith("JSON parse error")


def test_scalars_are_converted_to_the_type_of_their_field(stage: Stage) -> None:
    name, _ = stage.run_simple()
    task = stage.take(name)
    stage.update(task, "IN_PROGRESS", callbackAfterSeconds=30.9, workerId=7, reasonForIncompletion=8)
    stored = stage.task(task["taskId"])
    assert (stored["callbackAfterSeconds"], stored["workerId"], stored["reasonForIncompletion"]) == (30, "7", "8")


def test_unknown_workflow_is_404(stage: Stage) -> None:
    workflow_id = unique("id")
    answer = stage.post("/tasks", {"taskId": unique("id"), "workflowInstanceId": workflow_id, "status": "COMPLETED"})
    assert (answer.status, answer.message) == (404, f"No such workflow found by id: {workflow_id}")


def test_unknown_task_is_404(stage: Stage) -> None:
    _, workflow_id = stage.run_simple()
    task_id = unique("id")
    answer = stage.post("/tasks", {"taskId": task_id, "workflowInstanceId": workflow_id, "status": "COMPLETED"})
    assert (answer.status, answer.message) == (404, f"No such task found by id: {task_id}")


def test_read_of_an_unknown_task_is_404(stage: Stage) -> None:
    assert stage.get(f"/tasks/{unique('id')}").status == 404


def test_update_of_a_finished_task_is_ignored_with_200(stage: Stage) -> None:
    name, workflow_id = stage.run_simple()
    task = stage.take(name)
    stage.complete(task, first=True)
    answer = stage.report(task, "FAILED", outputData={"late": True}, reasonForIncompletion="late")
    assert (answer.status, answer.text) == (200, task["taskId"])
    stored = stage.task(task["taskId"])
    assert (stored["status"], stored["outputData"]) == ("COMPLETED", {"first": True})
    assert stage.workflow(workflow_id)["status"] == "COMPLETED"


def test_late_result_of_a_superseded_attempt_is_ignored(stage: Stage) -> None:
    name, workflow_id = stage.run_simple(retryCount=1)
    task = stage.take(name)
    stage.fail(task)
    assert stage.report(task, "COMPLETED").status == 200
    assert stage.workflow(workflow_id)["status"] == "RUNNING"


def test_task_can_be_completed_without_having_been_polled(stage: Stage) -> None:
    name, workflow_id = stage.run_simple()
    (task,) = stage.attempts(workflow_id)
    stage.complete(task)
    assert stage.workflow(workflow_id)["status"] == "COMPLETED"
    assert stage.poll(name) == []


def test_output_is_replaced_not_merged(stage: Stage) -> None:
    name, _ = stage.run_simple()
    task = stage.take(name)
    stage.update(task, "IN_PROGRESS", outputData={"a": 1, "b": 1}, callbackAfterSeconds=30)
    stage.update(task, "IN_PROGRESS", outputData={"b": 2}, callbackAfterSeconds=30)
    assert stage.task(task["taskId"])["outputData"] == {"b": 2}


@pytest.mark.parametrize("fields", [{}, {"outputData": None}], ids=["missing", "null"])
def test_update_without_output_empties_it(stage: Stage, fields: dict[str, object]) -> None:
    name, _ = stage.run_simple()
    task = stage.take(name)
    stage.update(task, "IN_PROGRESS", outputData={"a": 1}, callbackAfterSeconds=30)
    stage.update(task, "COMPLETED", **fields)
    assert stage.task(task["taskId"])["outputData"] == {}


def test_reason_is_stored_and_cut_to_500_characters(stage: Stage) -> None:
    name, workflow_id = stage.run_simple()
    task = stage.take(name)
    stage.fail(task, "x" * 800)
    assert stage.task(task["taskId"])["reasonForIncompletion"] == "x" * 500
    assert stage.workflow(workflow_id)["status"] == "FAILED"


def test_update_without_worker_id_drops_the_stored_one(stage: Stage) -> None:
    name, _ = stage.run_simple()
    task = stage.take(name, workerid="w1")
    stage.complete(task)
    assert "workerId" not in stage.task(task["taskId"])


def test_in_progress_without_callback_is_pollable_at_once(stage: Stage) -> None:
    name, _ = stage.run_simple()
    task = stage.take(name)
    stage.update(task, "IN_PROGRESS", callbackAfterSeconds=0)
    assert stage.task(task["taskId"])["status"] == "SCHEDULED"
    (again,) = stage.poll(name)
    assert (again["taskId"], again["pollCount"], again["retryCount"]) == (task["taskId"], 2, 0)
    assert again["startTime"] == task["startTime"]


def test_in_progress_hands_its_output_to_the_next_poller(stage: Stage) -> None:
    name, _ = stage.run_simple()
    stage.update(stage.take(name), "IN_PROGRESS", outputData={"page": 3}, reasonForIncompletion="so far")
    again = stage.take(name)
    assert (again["outputData"], again["reasonForIncompletion"]) == ({"page": 3}, "so far")


def test_in_progress_with_callback_hides_the_task_that_long(stage: Stage) -> None:
    name, _ = stage.run_simple()
    task = stage.take(name)
    stage.update(task, "IN_PROGRESS", callbackAfterSeconds=2)
    stored = stage.task(task["taskId"])
    assert (stored["status"], stored["callbackAfterSeconds"]) == ("SCHEDULED", 2)
    assert stage.poll(name, timeout=1000) == []
    again = stage.take(name)
    assert (again["taskId"], again["callbackAfterSeconds"]) == (task["taskId"], 0)


def test_handed_back_task_may_still_be_completed_by_its_holder(stage: Stage) -> None:
    name, workflow_id = stage.run_simple()
    task = stage.take(name)
    stage.update(task, "IN_PROGRESS", callbackAfterSeconds=30)
    stage.complete(task)
    assert stage.workflow(workflow_id)["status"] == "COMPLETED"


def test_canceled_ends_the_workflow_as_terminated(stage: Stage) -> None:
    name, workflow_id = stage.run_simple(retryCount=3)
    stage.update(stage.take(name), "CANCELED", reasonForIncompletion="no need")
    assert stage.workflow(workflow_id)["status"] == "TERMINATED"
    assert len(stage.attempts(workflow_id)) == 1


def test_update_by_reference_merges_the_output(stage: Stage) -> None:
    name, workflow_id = stage.run_simple()
    task = stage.take(name)
    stage.update(task, "IN_PROGRESS", outputData={"a": 1, "b": 1}, callbackAfterSeconds=30)
    answer = stage.post(f"/tasks/{workflow_id}/a/COMPLETED", {"b": 2}, workerid="w9")
    assert (answer.status, answer.text) == (200, task["taskId"])
    stored = stage.task(task["taskId"])
    assert (stored["status"], stored["outputData"], stored["workerId"]) == ("COMPLETED", {"a": 1, "b": 2}, "w9")
    assert stage.workflow(workflow_id)["status"] == "COMPLETED"


def test_update_by_reference_reaches_a_task_nobody_polled(stage: Stage) -> None:
    _, workflow_id = stage.run_simple()
    expect(stage.post(f"/tasks/{workflow_id}/a/COMPLETED", {}))
    assert stage.workflow(workflow_id)["status"] == "COMPLETED"


def test_update_by_reference_without_match_is_200_and_empty(stage: Stage) -> None:
    name, workflow_id = stage.run_simple()
    for path in (f"{unique('id')}/a", f"{workflow_id}/other"):
        answer = stage.post(f"/tasks/{path}/COMPLETED", {})
        assert (answer.status, answer.body) == (200, b"")
    stage.complete(stage.take(name))
    answer = stage.post(f"/tasks/{workflow_id}/a/COMPLETED", {})
    assert (answer.status, answer.body) == (200, b"")


def test_update_by_reference_with_unknown_status_is_500(stage: Stage) -> None:
    _, workflow_id = stage.run_simple()
    assert stage.post(f"/tasks/{workflow_id}/a/DONE", {}).status == 500


def test_update_by_reference_needs_a_body(stage: Stage) -> None:
    _, workflow_id = stage.run_simple()
    assert stage.post(f"/tasks/{workflow_id}/a/COMPLETED").status == 500


def test_update_by_reference_with_sync_answers_the_workflow(stage: Stage) -> None:
    _, workflow_id = stage.run_simple()
    answer = expect(stage.post(f"/tasks/{workflow_id}/a/COMPLETED/sync", {"x": 1}))
    assert (answer.json["workflowId"], answer.json["output"]) == (workflow_id, {"x": 1})
    assert stage.post(f"/tasks/{workflow_id}/a/COMPLETED/sync", {}).status == 404


def test_signal_ends_the_first_open_wait(stage: Stage) -> None:
    workflow_id = stage.run({"name": "gate", "taskReferenceName": "gate", "type": "WAIT"})
    answer = stage.post(f"/tasks/{workflow_id}/COMPLETED/signal", {"x": 1})
    assert (answer.status, answer.body) == (200, b"")
    assert stage.ended(workflow_id)["output"] == {"x": 1}
    assert stage.post(f"/tasks/{workflow_id}/COMPLETED/signal", {}).status == 200


def test_repeated_completions_all_get_200_and_the_first_wins(stage: Stage) -> None:
    first, second = stage.define_task(), stage.define_task()
    workflow_id = stage.run(simple(first, "a"), simple(second, "b"))
    task = stage.take(first)
    for number in range(3):
        stage.complete(task, winner=number)
    assert stage.task(task["taskId"])["outputData"] == {"winner": 0}
    assert len(stage.attempts(workflow_id, "b")) == 1
