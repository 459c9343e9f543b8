"""Task updates through POST /tasks/update-v2, which answers with the next task."""

from conformance.stage import Stage, expect, simple, unique

V2 = "/tasks/update-v2"


def test_answer_is_the_next_task_of_the_type(stage: Stage) -> None:
    name = stage.define_task()
    workflow = stage.define_workflow(simple(name))
    first, second = stage.start(workflow), stage.start(workflow)
    task = stage.take(name)
    following = expect(stage.report(task, "COMPLETED", V2, workerId="w2")).json
    assert (task["workflowInstanceId"], following["workflowInstanceId"]) == (first, second)
    assert (following["status"], following["workerId"], following["pollCount"]) == ("IN_PROGRESS", "w2", 1)
    assert stage.workflow(first)["status"] == "COMPLETED"


def test_answer_is_the_successor_of_the_same_type_in_the_workflow(stage: Stage) -> None:
    name = stage.define_task()
    stage.run(simple(name, "a"), simple(name, "b", inputParameters={"x": "${a.output.x}"}))
    following = expect(stage.report(stage.take(name), "COMPLETED", V2, outputData={"x": 1})).json
    assert (following["referenceTaskName"], following["inputData"]) == ("b", {"x": 1})


def test_empty_queue_is_204(stage: Stage) -> None:
    name, workflow_id = stage.run_simple()
    answer = stage.report(stage.take(name), "COMPLETED", V2)
    assert (answer.status, answer.body) == (204, b"")
    assert stage.workflow(workflow_id)["status"] == "COMPLETED"


def test_next_task_comes_from_the_same_domain(stage: Stage) -> None:
    name = stage.define_task()
    workflow = stage.define_workflow(simple(name))
    stage.start(workflow)
    for _ in range(2):
        stage.start(workflow, taskToDomain={name: "d"})
    following = expect(stage.report(stage.take(name, domain="d"), "COMPLETED", V2)).json
    assert following["domain"] == "d"
    assert stage.report(following, "COMPLETED", V2).status == 204
    assert len(stage.poll(name)) == 1


def test_failed_without_delay_answers_the_retry(stage: Stage) -> None:
    name, _ = stage.run_simple(retryCount=1, retryDelaySeconds=0)
    task = stage.take(name)
    retry = expect(stage.report(task, "FAILED", V2)).json
    assert (retry["retryCount"], retry["retriedTaskId"]) == (1, task["taskId"])


def test_in_progress_does_not_poll(stage: Stage) -> None:
    name = stage.define_task()
    workflow = stage.define_workflow(simple(name))
    stage.start(workflow)
    stage.start(workflow)
    answer = stage.report(stage.take(name), "IN_PROGRESS", V2, callbackAfterSeconds=30)
    assert (answer.status, answer.body) == (204, b"")
    assert len(stage.poll(name, count=5)) == 1


def test_finished_task_is_ignored_but_polls(stage: Stage) -> None:
    name = stage.define_task()
    workflow = stage.define_workflow(simple(name))
    first, second = stage.start(workflow), stage.start(workflow)
    task = stage.take(name)
    stage.complete(task, first=True)
    following = expect(stage.report(task, "FAILED", V2)).json
    assert following["workflowInstanceId"] == second
    assert stage.workflow(first)["status"] == "COMPLETED"


def test_unknown_task_is_404_with_the_text_of_v1(stage: Stage) -> None:
    _, workflow_id = stage.run_simple()
    task_id = unique("id")
    answer = stage.post(V2, {"taskId": task_id, "workflowInstanceId": workflow_id, "status": "COMPLETED"})
    assert (answer.status, answer.message) == (404, f"No such task found by id: {task_id}")


def test_missing_id_is_500(stage: Stage) -> None:
    assert stage.post(V2, {"taskId": "x", "status": "COMPLETED"}).status == 500


def test_malformed_json_is_500(stage: Stage) -> None:
    answer = stage.post(V2, b"{not json")
    assert answer.status == 500
    assert answer.message.startswith("JSON parse error")


def test_extend_lease_is_204_and_does_not_poll(stage: Stage) -> None:
    name = stage.define_task()
    workflow = stage.define_workflow(simple(name))
    stage.start(workflow)
    stage.start(workflow)
    task = stage.take(name)
    assert stage.report(task, "COMPLETED", V2, extendLease=True).status == 204
    assert stage.task(task["taskId"])["status"] == "IN_PROGRESS"
    assert len(stage.poll(name, count=5)) == 1
