"""Finding workflows and tasks; queues and who polls them."""

from conformance.stage import Stage, simple, unique


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


def test_workflows_of_a_correlation_id(stage: Stage) -> None:
    name, correlation = stage.define_task(), unique("corr")
    workflow = stage.define_workflow(simple(name))
    done, open_ = (stage.start(workflow, correlationId=correlation) for _ in range(2))
    stage.complete(stage.take(name))
    path = f"/workflow/{workflow}/correlated/{correlation}"
    assert [found["workflowId"] for found in stage.get(path).json] == [open_]
    assert {found["workflowId"] for found in stage.get(path, includeClosed="true").json} == {done, open_}


def test_tasks_of_a_workflow_in_pages(stage: Stage) -> None:
    name = stage.define_task()
    workflow_id = stage.run(simple(name, "a"), simple(name, "b"))
    stage.complete(stage.take(name))
    path = f"/workflow/{workflow_id}/tasks"
    everything = stage.get(path).json
    assert everything["totalHits"] == 2
    assert [task["referenceTaskName"] for task in everything["results"]] == ["a", "b"]
    page = stage.get(path, start=1, count=1).json
    assert [task["referenceTaskName"] for task in page["results"]] == ["b"]
    done = stage.get(path, status="COMPLETED").json
    assert [task["referenceTaskName"] for task in done["results"]] == ["a"]


def test_search_v2_has_whole_workflows(stage: Stage) -> None:
    workflow = stage.define_workflow(simple("some_task"))
    workflow_id = stage.start(workflow, {"n": 1})
    (found,) = stage.get("/workflow/search-v2", query=f"workflowType={workflow}").json["results"]
    assert (found["workflowId"], found["input"]) == (workflow_id, {"n": 1})


def test_search_sorts(stage: Stage) -> None:
    workflow = stage.define_workflow(simple("some_task"))
    started = []
    for _ in range(3):
        started.append(stage.start(workflow))
        stage.until_after(stage.workflow(started[-1])["startTime"], 0.002)
    for direction, expected in (("ASC", started), ("DESC", started[::-1])):
        answer = stage.get("/workflow/search", query=f"workflowType={workflow}", sort=f"startTime:{direction}")
        assert [row["workflowId"] for row in answer.json["results"]] == expected


def test_task_search(stage: Stage) -> None:
    stage.run_simple()
    name = stage.define_task()
    workflow = stage.define_workflow(simple(name))
    workflow_id = stage.start(workflow)
    task = stage.take(name)
    expected = {"taskId": task["taskId"], "workflowId": workflow_id, "taskType": name, "status": "IN_PROGRESS"}
    for query in (f"taskType={name}", f"workflowType={workflow}", f"status=IN_PROGRESS AND taskDefName={name}"):
        found = stage.get("/tasks/search", query=query).json
        assert found["totalHits"] == 1
        (row,) = found["results"]
        assert {key: row[key] for key in expected} == expected
    assert stage.get("/tasks/search", query=f"taskType={name} AND status=COMPLETED").json["totalHits"] == 0


def test_requeue_hands_every_open_task_out_again(stage: Stage) -> None:
    name, _ = stage.run_simple()
    taken = stage.take(name)
    answer = stage.post(f"/tasks/queue/requeue/{name}")
    assert (answer.status, answer.text) == (200, "1")
    assert stage.take(name)["taskId"] == taken["taskId"]


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


def test_queue_sizes_need_a_type(stage: Stage) -> None:
    assert stage.get("/tasks/queue/sizes").status == 500


def test_poll_data_names_the_last_poller_of_each_domain(stage: Stage) -> None:
    name = stage.define_task()
    stage.poll(name, workerid="w1")
    stage.poll(name, workerid="w2")
    stage.poll(name, workerid="w3", domain="d")
    data = stage.get("/tasks/queue/polldata", taskType=name).json
    rows = sorted((row["queueName"], row.get("domain") or "", row["workerId"]) for row in data)
    assert [row[2] for row in rows] == ["w2", "w3"]
    assert all(row["lastPollTime"] > 0 for row in data)
